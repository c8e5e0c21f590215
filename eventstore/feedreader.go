package eventstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/cenkalti/backoff/v5"
)

// reader is what one call of Subscribe has begun.
type reader struct {
	feed     *Feed
	consumer string
	out      chan *message.Message
	wake     chan int64 // the highest head that was told since the last look
	pauses   *backoff.ExponentialBackOff

	parks bool // something of the consumer is parked
	cut   cut

	// Behind the checkpoint passedFrom nothing is wanted up to passed. That is written
	// down only now and then; since passedSince it has not been.
	passedFrom, passed int64
	passedSince        time.Time
}

// tell leaves word of a head.
func (r *reader) tell(head int64) {
	for {
		select {
		case r.wake <- head:
			return
		case earlier := <-r.wake:
			head = max(head, earlier)
		}
	}
}

// run reads until ctx ends. Where another reader is active, or the database fails, it
// tries again later.
func (r *reader) run(ctx context.Context) {
	defer close(r.out)
	for ctx.Err() == nil {
		pause := r.feed.Poll
		if err := r.follow(ctx); err != nil && ctx.Err() == nil {
			r.feed.Log.Warn("the feed of a consumer was interrupted", "consumer", r.consumer, "error", err)
			pause = r.pauses.NextBackOff()
		}
		_ = sleep(ctx, pause)
	}
}

// follow delivers the history for as long as this reader is the active one and nothing
// fails. It returns nil when another one is.
func (r *reader) follow(ctx context.Context) error {
	conn, err := r.feed.DB.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	held, err := lockConsumer(ctx, conn, r.consumer)
	if err != nil || !held {
		return errors.Join(err, conn.Close())
	}
	defer unlockConsumer(conn, r.consumer)
	// Who takes a consumer's checkpoint away lets it begin anew.
	if err := register(ctx, conn, r.consumer, r.feed.From[r.consumer]); err != nil {
		return err
	}
	defer r.lead(ctx)()
	for {
		s, err := r.look(ctx, conn)
		if err != nil {
			return err
		}
		if s.asked {
			if err := r.deliverParked(ctx, conn); err != nil {
				return err
			}
		}
		if err := r.readUpto(ctx, conn, s); err != nil {
			return err
		}
		r.pauses.Reset() // all is read, nothing fails
		if err := sleep(ctx, min(r.feed.Rest, r.feed.Poll)); err != nil {
			return err
		}
		if err := r.await(ctx, s.head.Position); err != nil {
			return err
		}
	}
}

// lead begins what the active reader of the consumer does besides. The function that it
// returns ends that and waits for it.
func (r *reader) lead(ctx context.Context) (end func()) {
	lead := r.feed.Lead[r.consumer]
	if lead == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var led sync.WaitGroup
	led.Go(func() { lead(ctx) })
	return func() {
		cancel()
		led.Wait()
	}
}

// readUpto delivers the history from where the consumer stands to the head.
func (r *reader) readUpto(ctx context.Context, conn *sql.Conn, s standing) (err error) {
	for at := s.at; at < s.head.Position && ctx.Err() == nil; {
		began := time.Now()
		if at, err = r.advance(ctx, conn, at, s.head); err != nil {
			return err
		}
		if err := sleep(ctx, time.Duration(r.feed.Pace)*min(time.Since(began), r.feed.Poll)); err != nil {
			return err
		}
	}
	return nil
}

// look sees where the consumer stands.
func (r *reader) look(ctx context.Context, tx Tx) (standing, error) {
	s, err := look(ctx, tx, r.consumer)
	if err == nil {
		r.parks = s.parks
	}
	return s, err
}

// await waits until there may be something after a position.
func (r *reader) await(ctx context.Context, at int64) error {
	poll := time.NewTimer(r.feed.Poll*3/4 + rand.N(r.feed.Poll/2+1))
	defer poll.Stop()
	for {
		select {
		case head := <-r.wake:
			if head > at {
				return nil
			}
		case <-poll.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// advance delivers the slice after a position until it is acknowledged, given up or the
// checkpoint has moved, and returns where to go on.
func (r *reader) advance(ctx context.Context, conn *sql.Conn, at int64, head Head) (int64, error) {
	slice, err := r.read(ctx, conn, at, head)
	if err != nil {
		return 0, err
	}
	if len(slice.Events) == 0 {
		return r.pass(ctx, conn, slice)
	}
	if r.parks {
		if slice.Events, err = hold(ctx, conn, r.consumer, slice.Events); err != nil {
			return 0, err
		}
		if len(slice.Events) == 0 {
			return r.settle(ctx, conn, slice)
		}
	}
	return r.handOver(ctx, conn, slice)
}

// handOver delivers a slice until it is acknowledged, has been refused too often or the
// checkpoint has moved, and returns where to go on.
func (r *reader) handOver(ctx context.Context, conn *sql.Conn, slice Slice) (int64, error) {
	for tries := r.cut.tries(len(slice.Events), r.feed.Tries); ; {
		acked, refusal, err := r.deliver(ctx, slice)
		if err != nil {
			return 0, err
		}
		if acked {
			r.pauses.Reset()
			r.cut.passed(len(slice.Events), slice.To)
			return r.settle(ctx, conn, slice)
		}
		if !r.passes(refusal) {
			tries--
		}
		if tries > 0 {
			if err := sleep(ctx, r.pauses.NextBackOff()); err != nil {
				return 0, err
			}
		}
		s, err := r.look(ctx, conn)
		if err != nil || s.at != slice.From {
			return s.at, err
		}
		if tries <= 0 {
			return r.giveUp(ctx, conn, slice, refusal)
		}
	}
}

// passes tells that what a message was refused for will pass.
func (r *reader) passes(refusal error) bool {
	return r.feed.Temporary != nil && r.feed.Temporary(refusal)
}

// giveUp halves a slice that was refused too often, or parks its only event.
func (r *reader) giveUp(ctx context.Context, conn *sql.Conn, slice Slice, refusal error) (int64, error) {
	r.pauses.Reset()
	n := len(slice.Events)
	if n > 1 {
		r.cut.halve(n, slice.To)
		return slice.From, nil
	}
	r.feed.Log.Error("an event is parked, with what follows on its stream", "consumer", r.consumer,
		"position", slice.Events[0].Position, "stream", slice.Events[0].Event.Stream(), "error", refusal)
	err := r.write(ctx, conn, func(ctx context.Context, tx Tx) error {
		return park(ctx, tx, slice, refusal, r.feed.Tries)
	})
	if errors.Is(err, ErrMoved) {
		s, err := r.look(ctx, conn)
		return s.at, err
	}
	r.parks = true
	r.cut.found(slice.To)
	return slice.To, err
}

// read reads the slice after a position. It has no events where none are wanted.
func (r *reader) read(ctx context.Context, conn *sql.Conn, at int64, head Head) (slice Slice, err error) {
	slice = Slice{Consumer: r.consumer, From: at}
	most, types := r.cut.most(r.feed.MaxEvents), r.feed.Types[r.consumer]
	if types != nil {
		if r.passedFrom != at || r.passed > head.Position {
			r.passed = at
		}
		at = r.passed
	}
	var known bool
	if slice.Events, slice.To, known = r.feed.Recent.slice(at, head, most, r.feed.MaxBytes, types); known {
		return slice, nil
	}
	if types != nil {
		slice.Events, slice.To, err = readSliceOf(ctx, conn, at, head.Position, most, r.feed.MaxBytes, types)
	} else {
		slice.Events, slice.To, err = readSlice(ctx, conn, at, head.Position, most, r.feed.MaxBytes)
	}
	return slice, err
}

// How many events that nobody wants are passed, and how long that may be so, before it
// is written down.
const (
	maxUnwritten     = 10_000
	maxUnwrittenTime = 3 * time.Second
)

// pass goes on behind events that the consumer does not want.
func (r *reader) pass(ctx context.Context, conn *sql.Conn, slice Slice) (int64, error) {
	if r.passedFrom != slice.From || r.passedSince.IsZero() {
		r.passedFrom, r.passedSince = slice.From, time.Now()
	}
	if slice.To-slice.From >= maxUnwritten || time.Since(r.passedSince) >= maxUnwrittenTime {
		r.passedSince = time.Time{}
		return r.settle(ctx, conn, slice)
	}
	r.passed = slice.To
	return slice.To, nil
}

// deliverParked delivers what is parked and asked for, in order. What is refused once
// more stays parked, with all behind it on its stream.
func (r *reader) deliverParked(ctx context.Context, conn *sql.Conn) error {
	most := r.feed.MaxEvents
	for ctx.Err() == nil {
		slice, err := readParked(ctx, conn, r.consumer, most, r.feed.MaxBytes)
		n := len(slice.Events)
		if err != nil || n == 0 {
			return err
		}
		acked, refusal, err := r.deliver(ctx, slice)
		switch {
		case err != nil:
			return err
		case acked:
			most = min(2*most, r.feed.MaxEvents)
			err = r.write(ctx, conn, slice.Settle)
		case r.passes(refusal):
			return nil // it is still asked for
		case n > 1:
			most = n / 2
		default:
			err = r.write(ctx, conn, func(ctx context.Context, tx Tx) error { return parkAgain(ctx, tx, slice, refusal) })
		}
		if err != nil && !errors.Is(err, ErrMoved) {
			return err
		}
	}
	return nil
}

// errNoReason is why a message was refused whose handler did not say.
var errNoReason = errors.New("refused without a reason")

// deliver hands a slice over and waits for the answer: acknowledged, or refused and
// why. It fails only when ctx ends before the answer has come, for which it then waits a
// while.
func (r *reader) deliver(ctx context.Context, slice Slice) (acked bool, refusal, err error) {
	payload, err := json.Marshal(slice)
	if err != nil {
		return false, nil, fmt.Errorf("encode a slice: %w", err)
	}
	d := &delivery{slice: slice}
	msgCtx, end := context.WithCancel(context.WithValue(context.WithoutCancel(ctx), deliveryKey{}, d))
	defer end()
	msg := message.NewMessageWithContext(msgCtx, fmt.Sprintf("%s/%d-%d", slice.Consumer, slice.From, slice.To), payload)
	if ctx.Err() != nil { // select would choose by chance
		return false, nil, ctx.Err()
	}
	select {
	case r.out <- msg:
	case <-ctx.Done():
		return false, nil, ctx.Err()
	}
	select {
	case <-msg.Acked():
		return true, nil, nil
	case <-msg.Nacked():
		return false, d.why(), nil
	case <-ctx.Done():
	}
	drain := time.NewTimer(r.feed.Drain)
	defer drain.Stop()
	select {
	case <-msg.Acked():
		return true, nil, nil
	case <-msg.Nacked():
	case <-drain.C:
	}
	return false, nil, ctx.Err()
}

func (d *delivery) why() error {
	if why := d.refusal.Load(); why != nil && *why != nil {
		return *why
	}
	return errNoReason
}

// settle writes down that a slice was handled, and returns where to go on.
func (r *reader) settle(ctx context.Context, conn *sql.Conn, slice Slice) (int64, error) {
	err := r.write(ctx, conn, slice.Settle)
	if !errors.Is(err, ErrMoved) {
		return slice.To, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	s, err := r.look(ctx, conn)
	if err == nil && s.at != slice.To {
		r.feed.Log.Info("somebody else has moved the checkpoint of a consumer",
			"consumer", r.consumer, "from", slice.From, "to", s.at)
	}
	return s.at, err
}

// settleTime bounds each try to write down what became of a slice.
const settleTime = 3 * time.Second

// write writes down what became of a slice. What is done is done: it is written down
// also when the reader is about to end, and through another connection when its own is
// lost.
func (r *reader) write(ctx context.Context, conn *sql.Conn, down func(context.Context, Tx) error) error {
	ctx = context.WithoutCancel(ctx)
	var err error
	for _, tx := range []Tx{conn, r.feed.DB} {
		err = func() error {
			ctx, cancel := context.WithTimeout(ctx, settleTime)
			defer cancel()
			return down(ctx, tx)
		}()
		if err == nil || errors.Is(err, ErrMoved) {
			return err
		}
	}
	return err
}

// sleep waits for a time. It fails when ctx ends first.
func sleep(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
