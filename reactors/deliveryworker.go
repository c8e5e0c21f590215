package reactors

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"nabu/domain"
	"nabu/internal/webhook"
	"nabu/projections"
)

// worker delivers to one subscriber, in the order of its queue.
type worker struct {
	*round
	id   domain.SubscriptionID
	word chan projections.Subscriber // how the subscriber stands now
	due  atomic.Bool                 // something has waited long enough

	s       projections.Subscriber
	options options
	policy  domain.RetryPolicy
	cursor  domain.Place
	version int64 // of the queue's stream, up to which it was read; unknown: find out
	end     int64 // a version up to which the stream is known to go
	skipped int   // messages since the last report that were none of the subscriber's business
}

const unknown = -1

const (
	maxSkipped = 1000
	maxAtOnce  = 20 // attempts to deliver one message; then it is another's turn
	// workerRest is how long a worker waits for word before it ends.
	workerRest = 10 * time.Second
	// lostPause is how long to wait before looking anew at a subscriber of whom nothing
	// could be reported.
	lostPause = time.Second
	// lockedRests is how long a subscriber is left alone whose messages nobody can read
	// without a key that is not at hand.
	lockedRests = 10 * time.Second
)

// errLost: what this worker reports counts no more.
var errLost = errors.New("the reports do not count any more")

// run serves the subscriber whenever there is word of it, until there is none for a while.
func (w *worker) run(ctx context.Context) {
	idle := time.NewTimer(workerRest)
	defer idle.Stop()
	for {
		idle.Reset(workerRest)
		select {
		case s := <-w.word:
			w.learn(s)
			if err := w.serveOnce(ctx); err != nil {
				w.endAfter(ctx, err)
				return
			}
			continue
		case <-ctx.Done():
		case <-idle.C:
		}
		w.tell()
		w.reports.flush(w.id)
		if w.leave(ctx.Err() != nil) {
			return
		}
	}
}

// leave ends the worker, unless there is word.
func (w *worker) leave(always bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.word) > 0 && !always {
		return false
	}
	delete(w.workers, w.id)
	w.reports.end(w.id)
	return true
}

// endAfter ends the worker after a failure. What was overlooked is looked for anew.
func (w *worker) endAfter(ctx context.Context, failure error) {
	w.tell()
	w.reports.flush(w.id)
	w.leave(true)
	if ctx.Err() != nil {
		return
	}
	_, pause := w.reports.failing()
	if errors.Is(failure, ErrOpen) {
		pause = breakerRests
	} else if !errors.Is(failure, errLost) {
		if _, locked := errors.AsType[*domain.Error](failure); locked {
			pause = lockedRests
		}
		w.Log.Warn("deliveries were interrupted", "subscription", w.id, "queue", w.s.Queue.Name, "error", failure)
	}
	w.rest(ctx, pause, w.id)
}

// tellOf leaves word of how the subscriber stands. The last word counts. The caller holds
// the round's lock.
func (w *worker) tellOf(s projections.Subscriber) {
	select {
	case <-w.word:
	default:
	}
	w.word <- s
}

// listen takes in what word there is of the subscriber.
func (w *worker) listen() {
	select {
	case s := <-w.word:
		w.learn(s)
	default:
	}
}

// learn takes in how the subscriber stands.
func (w *worker) learn(s projections.Subscriber) {
	w.s, w.options, w.policy = s, optionsOf(s), domain.EffectiveRetryPolicy(s.Metadata, s.Options)
	if start := w.start(s); w.version == unknown || start > w.cursor {
		w.cursor, w.version = max(w.cursor, start), unknown
	}
}

// serveOnce does all there is to do now: first what is due, then what is new, a page at a
// time.
func (w *worker) serveOnce(ctx context.Context) error {
	for {
		for w.due.Swap(false) {
			more, err := w.serveDue(ctx)
			if err != nil {
				return err
			}
			if more {
				w.due.Store(true)
			}
		}
		n, err := w.serveNew(ctx)
		if err != nil || n == 0 && !w.due.Load() { // word that something is due may be taken in by then
			return err
		}
		w.listen()
	}
}

// serveNew delivers a page of messages behind the cursor, and tells how many there were.
func (w *worker) serveNew(ctx context.Context) (n int, err error) {
	if !w.mayHave(w.s) {
		return 0, nil
	}
	events, err := w.read(ctx)
	if err != nil || len(events) == 0 {
		return 0, err
	}
	for _, recorded := range events {
		messages, end, err := w.messagesOf(ctx, recorded)
		if err != nil {
			return n, err
		}
		for _, m := range messages {
			// The subscriber may be another one, or want nothing any more, since the page
			// was read.
			if w.listen(); !w.mayHave(w.s) {
				return n, nil
			}
			if m.place <= w.cursor {
				continue
			}
			n++
			if err := w.serveMessage(ctx, m); err != nil {
				return n, err
			}
		}
		if end > w.cursor { // those that nobody can read any more are left out
			if err := w.skip(end); err != nil {
				return n, err
			}
		}
		w.version = recorded.Version
	}
	return max(n, 1), nil
}

// skip moves the cursor past messages that are none of the subscriber's business.
func (w *worker) skip(to domain.Place) error {
	w.cursor = to
	if w.skipped++; w.skipped >= maxSkipped {
		return w.tell()
	}
	return nil
}

// serveMessage delivers one message that is new, or sees that it is delivered later, and
// moves the cursor past it.
func (w *worker) serveMessage(ctx context.Context, m notified) error {
	now := w.Now()
	if !w.s.Alive(now) {
		return errLost
	}
	switch {
	case !m.expires.After(now):
		return w.skip(m.place)
	case m.locked != nil:
		return m.locked
	case !w.options.filter.Selects(m.body):
		return w.skip(m.place)
	case m.delay > 0 && m.visible.After(now):
		w.cursor = m.place
		return w.tell(domain.DeliveryAttempt{Place: m.place, Message: m.id, Outcome: domain.DeliveryDelayed, Due: m.visible})
	}
	attempts, err := w.attempt(ctx, m, 0)
	if len(attempts) > 0 {
		w.cursor = m.place
		err = errors.Join(err, w.tell(attempts...))
	}
	return err
}

// tell reports attempts and the cursor.
func (w *worker) tell(attempts ...domain.DeliveryAttempt) error {
	if len(attempts) == 0 && w.skipped == 0 {
		return nil
	}
	w.skipped = 0
	if !w.reports.add(w.id, w.cursor, attempts...) {
		return errLost
	}
	if failing, _ := w.reports.failing(); failing && !w.reports.flush(w.id) {
		return errLost
	}
	return nil
}

// attempt delivers a message of which so many attempts were made, at once again as often
// as the policy says. It fails when not even one could be made, or when it was cut off.
func (w *worker) attempt(ctx context.Context, m notified, made int) ([]domain.DeliveryAttempt, error) {
	return w.attempts(ctx, made, m.expires, func(number int) (domain.DeliveryAttempt, Parcel, time.Time, error) {
		return domain.DeliveryAttempt{Place: m.place, Message: m.id}, messageParcel(w.s, w.options, m, number), m.visible, nil
	})
}

// attempts makes the next attempt, and some of those that follow it at once. Nothing is tried
// after a time. pack makes the parcel of an attempt. What another attempt follows is reported as
// it ends: each may take long, and nobody is to forget it. The last one is the caller's to report.
func (w *worker) attempts(
	ctx context.Context, made int, until time.Time, pack func(number int) (domain.DeliveryAttempt, Parcel, time.Time, error),
) (last []domain.DeliveryAttempt, err error) {
	for number := made + 1; ; number++ {
		a, parcel, since, err := pack(number)
		if err != nil {
			return nil, err
		}
		a.Number, a.Started = number, w.Now().UTC().Truncate(time.Microsecond)
		began := time.Now()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		result, err := w.Deliver.Deliver(w.sending, parcel)
		if err != nil {
			if number > made+1 && errors.Is(err, ErrOpen) { // it waits as a retry, and nothing is wrong
				return nil, nil
			}
			return nil, err
		}
		took := time.Since(began)
		w.judge(&a, result, took, until)
		lag := time.Duration(-1)
		if number == 1 {
			lag = max(0, a.Started.Sub(since))
		}
		w.Observe(Delivery{Outcome: a.Outcome, Took: took, Lag: lag})
		now := w.Now()
		if a.Outcome.Over() || a.Due.After(now) || !until.After(now) || number-made >= maxAtOnce {
			return []domain.DeliveryAttempt{a}, nil
		}
		if a.Owes == "" { // the place of what is owed says nothing of the messages before it
			w.cursor = max(w.cursor, a.Place)
		}
		if err := w.tell(a); err != nil {
			return nil, err
		}
	}
}

// judge writes down what an attempt has led to. What would have to wait for longer than until
// a time waits until then, and goes.
func (w *worker) judge(a *domain.DeliveryAttempt, result webhook.Result, took time.Duration, until time.Time) {
	a.Took, a.Status, a.Error = int(took.Milliseconds()), result.Status, result.Error
	switch result.Outcome {
	case webhook.Delivered:
		a.Outcome = domain.DeliveryDelivered
		return
	case webhook.Dropped:
		a.Outcome = domain.DeliveryDropped
		return
	}
	due, again := w.policy.NextAttempt(a.Number, w.Now().UTC().Truncate(time.Microsecond), result.RetryAfter)
	if !again {
		a.Outcome = domain.DeliveryDropped
		return
	}
	if due.After(until) {
		due = until
	}
	a.Outcome, a.Due = domain.DeliveryRetry, due
}

// serveDue tries again a page of what has waited long enough, and tells whether there may
// be more. What was done before is in the ledger when it looks, so nothing is found twice.
func (w *worker) serveDue(ctx context.Context) (more bool, err error) {
	if !w.reports.flush(w.id) {
		return false, errLost
	}
	most := w.share(leastDue, mostDue, allDue)
	due, err := w.Views.DeliveriesDue(ctx, w.id, most)
	if err != nil || len(due) == 0 {
		return false, err
	}
	messages, err := w.find(ctx, due)
	if err != nil {
		return false, err
	}
	var locked error
	for _, waiting := range due {
		if w.listen(); ctx.Err() != nil {
			return false, ctx.Err()
		}
		m := messages[waiting.Place]
		attempts, err := w.serveWaiting(ctx, waiting, m)
		if len(attempts) > 0 {
			err = errors.Join(err, w.tell(attempts...))
		}
		switch {
		case err != nil && m.locked != nil && errors.Is(err, m.locked):
			locked = err
		case err != nil:
			return false, err
		}
	}
	return len(due) == most, locked
}

// serveWaiting makes the next attempt of something that waits, unless there is no use in it
// any more.
func (w *worker) serveWaiting(ctx context.Context, waiting projections.Waiting, m notified) ([]domain.DeliveryAttempt, error) {
	given := domain.DeliveryAttempt{
		Place: waiting.Place, Message: waiting.Message, Owes: waiting.Owes, Number: waiting.Attempts, Outcome: domain.DeliveryDropped,
	}
	switch {
	case waiting.Owes == "" && !w.mayHave(w.s):
		given.Error = "the subscriber has not confirmed"
	case waiting.Owes != "" && waiting.Place < w.s.ConfirmedAt:
		given.Error = "the subscriber has confirmed since"
	case waiting.Owes != "":
		return w.confirm(ctx, waiting)
	default:
		return w.tryAgain(ctx, waiting, m)
	}
	return []domain.DeliveryAttempt{given}, nil
}

// tryAgain makes the next attempt to deliver a message, unless it has expired.
func (w *worker) tryAgain(ctx context.Context, waiting projections.Waiting, m notified) ([]domain.DeliveryAttempt, error) {
	if !m.expires.After(w.Now()) || !w.s.Alive(w.Now()) {
		return []domain.DeliveryAttempt{{
			Place: waiting.Place, Message: waiting.Message, Number: waiting.Attempts, Outcome: domain.DeliveryExpired,
		}}, nil
	}
	if m.locked != nil {
		return nil, m.locked
	}
	return w.attempt(ctx, m, waiting.Attempts)
}

// confirm sends the subscriber what it is owed.
func (w *worker) confirm(ctx context.Context, waiting projections.Waiting) ([]domain.DeliveryAttempt, error) {
	its := domain.DeliveryAttempt{Place: waiting.Place, Owes: waiting.Owes}
	parcel, err := w.Confirm.Confirmation(ctx, w.s, waiting.Owes)
	if refused, ok := errors.AsType[*domain.Error](err); ok {
		its.Number, its.Outcome, its.Error = waiting.Attempts+1, domain.DeliveryDropped, refused.Message
		its.Started = w.Now().UTC().Truncate(time.Microsecond)
		w.Log.Error("a subscriber cannot be asked to confirm", "subscription", w.id, "error", err)
		return []domain.DeliveryAttempt{its}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("write a confirmation: %w", err)
	}
	return w.attempts(ctx, waiting.Attempts, w.s.Expires, func(int) (domain.DeliveryAttempt, Parcel, time.Time, error) {
		return its, parcel, w.Now(), nil
	})
}
