package http

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/projections"
)

const (
	// maxPushes is how many subscriptions a connection may have.
	maxPushes = 100
	// pushesEach is how many subscriptions there may be on all connections together, for
	// each connection that there may be.
	pushesEach = 5
	// maxDelayed is how many messages of a subscription may wait for their delay to be
	// over. If there are more, what follows them is read when they have been sent.
	maxDelayed = 1000
	// pushBodies is how many of those are sent at once.
	pushBodies = 20
)

// pushes are the subscriptions of a connection.
type pushes struct {
	mu      sync.Mutex
	all     map[domain.QueueID]*push
	ended   bool
	binary  bool // the encoding of the last subscription
	running sync.WaitGroup
	// everybodys is how many subscriptions all connections have.
	everybodys *atomic.Int64
	most       int64 // of those
}

// push sends what is posted to a queue on a connection.
type push struct {
	id      uuid.UUID
	queue   domain.QueueID
	ttl     int    // seconds
	options string // as the client sent them
	begun   time.Time
	cancel  context.CancelFunc
	// version of the queue's stream up to which everything has been read.
	version int64
	// delayed are messages that were read too early, without their bodies.
	delayed []projections.Posting
}

var (
	errSubscribed       = domain.Errorf(domain.Conflict, "the connection is subscribed to the queue already")
	errTooManyPushes    = domain.Errorf(domain.Invalid, "a connection may have at most %d subscriptions", maxPushes)
	errPushesEverywhere = problemf(http.StatusServiceUnavailable, "Service temporarily unavailable",
		"All connections together have too many subscriptions.")
)

// may refuses a subscription that the connection may not have besides those that it has.
func (all *pushes) may(p *push) error {
	all.mu.Lock()
	defer all.mu.Unlock()
	if _, subscribed := all.all[p.queue]; subscribed {
		return errSubscribed
	}
	if len(all.all) >= maxPushes {
		return errTooManyPushes
	}
	if all.everybodys.Load() >= all.most { // or a few more, if some ask at the same time
		return errPushesEverywhere
	}
	return nil
}

// add takes a subscription in. It has to begin then.
func (all *pushes) add(p *push, binary bool) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.all == nil {
		all.all = map[domain.QueueID]*push{}
	}
	p.begun, p.cancel = time.Now(), func() {}
	all.all[p.queue], all.binary = p, binary
	all.everybodys.Add(1)
}

// begin lets a subscription send, if it is still there.
func (all *pushes) begin(w *socket, p *push) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.ended || all.all[p.queue] != p {
		return
	}
	var ctx context.Context
	ctx, p.cancel = context.WithTimeout(w.ctx, min(time.Duration(p.ttl), maxPushSeconds)*time.Second)
	all.running.Add(1)
	go func() {
		defer all.running.Done()
		defer all.remove(p.id)
		w.push(ctx, p)
	}()
}

// maxPushSeconds keeps a ttl within what the clock can count.
const maxPushSeconds = 100 * 365 * 24 * 60 * 60

// of is the connection's subscription to a queue.
func (all *pushes) of(queue domain.QueueID) (p *push, subscribed bool) {
	all.mu.Lock()
	defer all.mu.Unlock()
	p, subscribed = all.all[queue]
	return p, subscribed
}

// remove ends a subscription.
func (all *pushes) remove(id uuid.UUID) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for queue, p := range all.all {
		if p.id == id {
			p.cancel()
			delete(all.all, queue)
			all.everybodys.Add(-1)
		}
	}
}

// leave ends all subscriptions but those to queues of a project; empty: all for good.
func (all *pushes) leave(project string) {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.ended = all.ended || project == ""
	for queue, p := range all.all {
		if queue.Project != project {
			p.cancel()
			delete(all.all, queue)
			all.everybodys.Add(-1)
		}
	}
}

func (all *pushes) none() bool {
	all.mu.Lock()
	defer all.mu.Unlock()
	return len(all.all) == 0
}

func (all *pushes) inMessagePack() bool {
	all.mu.Lock()
	defer all.mu.Unlock()
	return all.binary
}

// wait waits until none of them writes any more.
func (all *pushes) wait() { all.running.Wait() }

// push sends messages until the subscription ends. Whatever goes wrong ends the
// connection: the client has to know that it misses something.
func (w *socket) push(ctx context.Context, p *push) {
	var heard <-chan struct{}
	unheard := often
	if w.News != nil {
		var cancel func()
		heard, cancel = w.News.Follow(p.queue)
		defer cancel()
		unheard = seldom
	}
	for {
		next, err := w.pushAll(ctx, p)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			w.Log.Warn("websocket subscription failed", slog.String("queue", p.queue.Stream()), slog.Any("error", err))
			w.cut()
			return
		}
		due := time.NewTimer(min(next, unheard))
		select {
		case <-ctx.Done():
		case <-heard:
		case <-due.C:
		}
		due.Stop()
	}
}

// pushAll sends what is to be sent now, and tells how long nothing more is, unless
// something is posted.
func (w *socket) pushAll(ctx context.Context, p *push) (next time.Duration, err error) {
	for more := true; more; {
		if err := w.pushDelayed(ctx, p); err != nil {
			return 0, err
		}
		if len(p.delayed) >= maxDelayed {
			break
		}
		var page projections.Postings
		if err := w.inTurn(ctx, func() (err error) {
			page, err = w.Views.Postings(ctx, p.queue, p.version)
			return err
		}); err != nil {
			return 0, err
		}
		if err := w.pushPage(ctx, p, page.Messages); err != nil {
			return 0, err
		}
		more, p.version = page.Version > p.version, page.Version
	}
	if len(p.delayed) == 0 {
		return seldom, nil
	}
	now, err := w.Views.Time(ctx)
	return max(p.delayed[0].Visible.Sub(now), 0) + time.Millisecond, err
}

// After how long a subscription looks for messages that it was not told of: where there is
// news, and where there is none.
const (
	seldom = 30 * time.Second
	often  = time.Second
)

// pushPage sends messages and puts those aside whose delay is not over.
func (w *socket) pushPage(ctx context.Context, p *push, page []projections.Posting) error {
	now, err := w.timeOf(ctx, page)
	if err != nil {
		return err
	}
	for _, m := range page {
		switch {
		case m.Never:
		case m.Delayed && m.Visible.After(now):
			m.Body = nil
			at, _ := slices.BinarySearchFunc(p.delayed, m, bySight)
			p.delayed = slices.Insert(p.delayed, at, m)
		default:
			if err := w.pushDue(ctx, p, m.Visible); err != nil {
				return err
			}
			if err := w.notify(ctx, p, m.Message); err != nil {
				return err
			}
		}
	}
	return nil
}

// timeOf is the time now, if it plays a role for any of the messages.
func (w *socket) timeOf(ctx context.Context, page []projections.Posting) (now time.Time, err error) {
	delayed := slices.ContainsFunc(page, func(m projections.Posting) bool { return m.Delayed })
	if !delayed {
		return now, nil
	}
	return w.Views.Time(ctx)
}

// bySight orders messages as they can be seen.
func bySight(a, b projections.Posting) int {
	if order := a.Visible.Compare(b.Visible); order != 0 {
		return order
	}
	return int(a.Place - b.Place)
}

// pushDelayed sends messages whose delay is over by now.
func (w *socket) pushDelayed(ctx context.Context, p *push) error {
	if len(p.delayed) == 0 {
		return nil
	}
	now, err := w.Views.Time(ctx)
	if err != nil {
		return err
	}
	return w.pushDue(ctx, p, now)
}

// pushDue sends messages whose delay was over by a time, which is not in the future.
func (w *socket) pushDue(ctx context.Context, p *push, by time.Time) error {
	for len(p.delayed) > 0 && !p.delayed[0].Visible.After(by) {
		due := p.delayed[:min(pushBodies, len(p.delayed))]
		if i := slices.IndexFunc(due, func(m projections.Posting) bool { return m.Visible.After(by) }); i >= 0 {
			due = due[:i]
		}
		if err := w.pushBodies(ctx, p, due); err != nil {
			return err
		}
		p.delayed = slices.Delete(p.delayed, 0, len(due))
	}
	return nil
}

// pushBodies sends messages of which the bodies have to be read again.
func (w *socket) pushBodies(ctx context.Context, p *push, due []projections.Posting) error {
	places := make([]domain.Place, len(due))
	for i, m := range due {
		places[i] = m.Place
	}
	bodies, err := w.Views.Bodies(ctx, places)
	if err != nil {
		return err
	}
	for _, m := range due {
		body, found := bodies[m.Place]
		if !found {
			return errors.New("the body of message " + m.ID.String() + " is not in the ledger")
		}
		m.Body = []byte(body)
		if err := w.notify(ctx, p, m.Message); err != nil {
			return err
		}
	}
	return nil
}

// notify sends a message in plain text, unless nobody can read it any more. It has neither
// a request nor headers, which tells it from an answer.
func (w *socket) notify(ctx context.Context, p *push, m projections.Message) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	readable, err := w.Views.Open(ctx, p.queue.Project, []projections.Message{m})
	if err != nil || len(readable) == 0 {
		return err
	}
	m = readable[0]
	buffer := getBuffer()
	defer putBuffer(buffer)
	out := append(append(append(*buffer, `{"body":`...), m.Body...), `,"ttl":`...)
	out = append(append(strconv.AppendInt(out, int64(m.TTL), 10), `,"queue_name":"`...), p.queue.Name...)
	*buffer = append(out, `","Message_Type":"Notification"}`...)
	return w.write(w.pushes.inMessagePack(), *buffer)
}
