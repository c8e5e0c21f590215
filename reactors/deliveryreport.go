package reactors

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"nabu/commands"
	"nabu/domain"
	"nabu/projections"
)

// Reports gather for a while, so that many attempts share one event and many subscribers
// one batch. What has not been reported when nabu is killed is sent once more.
const (
	reportEvery   = 50 * time.Millisecond
	maxUnreported = 5000 // attempts; beyond, who delivers waits
	maxAttempts   = 500  // of one event
	reportTime    = 5 * time.Second
	reportTries   = 3
)

// reports are the attempts that are not in the ledger yet.
type reports struct {
	*round
	kick chan struct{}

	mu      sync.Mutex
	changed *sync.Cond // something was reported
	known   map[domain.SubscriptionID]*reported
	size    int // attempts that wait

	failures atomic.Int32 // reports in a row that could not be made
}

// reported is what the ledger knows of one subscription, and what waits to be.
type reported struct {
	queue    domain.QueueID
	id       domain.SubscriptionID
	version  int64        // of its stream
	base     domain.Place // the cursor in the ledger
	attempts []domain.DeliveryAttempt
	cursor   domain.Place
	dirty    bool
	flying   bool // a report is on its way
	lost     bool // the ledger has gone on without us, or the subscription is gone
}

func newReports(r *round) *reports {
	its := &reports{round: r, kick: make(chan struct{}, 1), known: map[domain.SubscriptionID]*reported{}}
	its.changed = sync.NewCond(&its.mu)
	return its
}

// begin takes note of where a subscriber stands that nobody delivers to yet.
func (r *reports) begin(s projections.Subscriber) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[s.ID] = &reported{queue: s.Queue, id: s.ID, version: s.Version, base: s.Cursor, cursor: s.Cursor}
}

// end forgets a subscriber. All is reported of it.
func (r *reports) end(id domain.SubscriptionID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, id)
}

// add takes in attempts, and that a subscriber's messages are dealt with up to a place. It
// waits while there is too much to report. ok is false when the reports of this subscriber
// count no more.
func (r *reports) add(id domain.SubscriptionID, cursor domain.Place, attempts ...domain.DeliveryAttempt) (ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	its := r.known[id]
	for !its.lost && r.size+len(attempts) > maxUnreported && r.size > 0 {
		r.hurry()
		r.changed.Wait()
	}
	if its.lost {
		return false
	}
	its.attempts = append(its.attempts, attempts...)
	its.cursor = max(its.cursor, cursor)
	its.dirty = its.dirty || len(attempts) > 0 || its.cursor > its.base
	r.size += len(attempts)
	return true
}

// flush waits until all is reported that was added for a subscriber. ok is false when it
// could not be.
func (r *reports) flush(id domain.SubscriptionID) (ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	its := r.known[id]
	for !its.lost && (its.dirty || its.flying) {
		r.hurry()
		r.changed.Wait()
	}
	return !its.lost
}

// maxLostPause bounds how long a subscriber is left alone when nothing can be reported.
const maxLostPause = time.Minute

// failing tells whether what is delivered cannot be reported, so that it may be delivered
// again and again, and for how long a subscriber is then to be left alone.
func (r *reports) failing() (bool, time.Duration) {
	n := r.failures.Load()
	return n > 0, min(maxLostPause, lostPause<<min(n, 10))
}

func (r *reports) hurry() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// run reports until ctx ends, and then once more.
func (r *reports) run(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-r.kick:
		case <-ctx.Done():
		}
		r.report(context.WithoutCancel(ctx))
	}
}

// report brings what waits into the ledger.
func (r *reports) report(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	var sending sync.WaitGroup
	for queue, taken := range r.take() {
		sending.Go(func() { r.send(ctx, queue, taken) })
	}
	sending.Wait()
}

// flight is a report on its way.
type flight struct {
	of *reported
	commands.DeliveryReport
}

// take takes what waits, by queue.
func (r *reports) take() map[domain.QueueID][]flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := map[domain.QueueID][]flight{}
	for _, its := range r.known {
		if !its.dirty || its.lost {
			continue
		}
		n := min(len(its.attempts), maxAttempts)
		f := flight{its, commands.DeliveryReport{
			Subscription: its.id, Version: its.version, Attempts: its.attempts[:n:n], Cursor: its.cursor,
		}}
		if n < len(its.attempts) { // the rest may hold messages that this one does not
			f.Cursor = its.base
		}
		its.attempts = its.attempts[n:]
		its.dirty, its.flying = len(its.attempts) > 0, true
		taken[its.queue] = append(taken[its.queue], f)
	}
	return taken
}

// send reports on the subscribers of one queue. What another change of the subscription
// has come before is tried again.
func (r *reports) send(ctx context.Context, queue domain.QueueID, flights []flight) {
	ctx = commands.WithRequest(ctx, commands.Request{Origin: domain.Origin{Project: queue.Project}})
	for try := 0; len(flights) > 0; try++ {
		cmd := commands.ReportDeliveries{Queue: queue}
		for _, f := range flights {
			cmd.Reports = append(cmd.Reports, f.DeliveryReport)
		}
		versions, err := commands.Run(ctx, r.Executor, cmd)
		if err != nil {
			versions = make([]int64, len(flights))
			r.failures.Add(1)
			r.Log.Warn("deliveries could not be reported", "queue", queue.Name, "project", queue.Project, "error", err)
		}
		if err == nil {
			r.failures.Store(0)
		}
		var refused []flight
		for i, f := range flights {
			if versions[i] == 0 {
				refused = append(refused, f)
			} else {
				r.landed(f, versions[i])
			}
		}
		flights = r.renew(ctx, queue, refused, try)
	}
}

// landed takes note that a report is in the ledger.
func (r *reports) landed(f flight, version int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tellDropped(f)
	f.of.version, f.of.base, f.of.flying = version, max(f.of.base, f.Cursor), false
	r.size -= len(f.Attempts)
	r.changed.Broadcast()
}

// tellDropped logs what a report gives up for good, in one line however much it is.
func (r *reports) tellDropped(f flight) {
	dropped, reason := 0, ""
	for _, a := range f.Attempts {
		if a.Outcome == domain.DeliveryDropped {
			dropped++
			reason = a.Error
			if reason == "" {
				reason = "status " + strconv.Itoa(a.Status)
			}
		}
	}
	if dropped > 0 {
		r.Log.Info("deliveries are given up", "subscription", f.Subscription,
			"queue", f.of.queue.Name, "project", f.of.queue.Project, "reason", reason, "dropped", dropped)
	}
}

// renew looks at subscriptions whose reports were refused. Those that stand where they
// stood are reported on once more; of the others our reports count no more.
func (r *reports) renew(ctx context.Context, queue domain.QueueID, refused []flight, try int) (again []flight) {
	if len(refused) == 0 {
		return nil
	}
	now := map[domain.SubscriptionID]projections.Subscriber{}
	ids := make([]domain.SubscriptionID, len(refused))
	for i, f := range refused {
		ids[i] = f.Subscription
	}
	subscribers, err := r.Views.SubscribersByID(ctx, ids)
	if err != nil {
		r.Log.Warn("deliveries could not be reported", "queue", queue.Name, "project", queue.Project, "error", err)
	}
	for _, s := range subscribers {
		now[s.ID] = s
		r.inform(s) // it was changed
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range refused {
		s, there := now[f.Subscription]
		if there && s.Cursor == f.of.base && try < reportTries {
			f.Version = s.Version
			again = append(again, f)
			continue
		}
		f.of.lost, f.of.flying = true, false
		r.size -= len(f.Attempts) + len(f.of.attempts)
		f.of.attempts = nil
		r.changed.Broadcast()
	}
	return again
}
