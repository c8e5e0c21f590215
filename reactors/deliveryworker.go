package reactors

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"nabu/domain"
	"nabu/eventstore"
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
	skipped int   // messages since the last report that were none of the subscriber's business
}

const unknown = -1

// Bounds of what a worker takes at a time.
const (
	pageEvents = 50
	pageBytes  = 1 << 20
	pageDue    = 50
	maxSkipped = 1000
	// workerRest is how long a worker waits for word before it ends.
	workerRest = 10 * time.Second
	// lostPause is how long to wait before looking anew at a subscriber of whom nothing
	// could be reported.
	lostPause = time.Second
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
	w.reports.flush(w.id)
	w.leave(true)
	if ctx.Err() != nil {
		return
	}
	pause := lostPause
	if errors.Is(failure, ErrOpen) {
		pause = breakerRests
	} else if !errors.Is(failure, errLost) {
		w.Log.Warn("deliveries were interrupted", "subscription", w.id, "queue", w.s.Queue.Name, "error", failure)
	}
	w.rest(ctx, pause, w.s.Queue, w.id)
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
		if err != nil || n == 0 {
			return err
		}
		select {
		case s := <-w.word:
			w.learn(s)
		default:
		}
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
		posted, isPost := recorded.Event.(domain.MessagesPosted)
		if !isPost {
			continue
		}
		if posted, err = w.Open(ctx, posted); err != nil {
			return n, err
		}
		for _, its := range posted.Messages {
			m := notifiedOf(recorded.RecordedAt, its)
			if m.place <= w.cursor {
				continue
			}
			n++
			if err := w.serveMessage(ctx, m); err != nil {
				return n, err
			}
		}
		w.version = recorded.Version
	}
	return max(n, 1), nil
}

// read reads the next posts to the queue.
func (w *worker) read(ctx context.Context) ([]eventstore.RecordedEvent, error) {
	select {
	case w.reads <- struct{}{}:
		defer func() { <-w.reads }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	stream := w.s.Queue.Stream()
	if w.version == unknown {
		// The event at the cursor may hold more messages: it is read once more.
		position, _ := w.cursor.Parts()
		version, err := eventstore.VersionAt(ctx, w.Ledger, stream, position-1)
		if err != nil {
			return nil, err
		}
		w.version = version
	}
	return eventstore.ReadStreamOf(ctx, w.Ledger, stream, w.version, []string{domain.MessagesPosted{}.EventType()}, pageEvents, pageBytes)
}

// serveMessage delivers one message that is new, or sees that it is delivered later, and
// moves the cursor past it.
func (w *worker) serveMessage(ctx context.Context, m notified) error {
	now := w.Now()
	if !w.s.Alive(now) {
		return errLost
	}
	switch {
	case !m.expires.After(now), !w.options.filter.Selects(m.body):
		w.cursor = m.place
		if w.skipped++; w.skipped >= maxSkipped {
			return w.tell()
		}
		return nil
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
	return nil
}

// attempt delivers a message of which so many attempts were made, at once again as often
// as the policy says. It fails when not even one could be made, or when it was cut off.
func (w *worker) attempt(ctx context.Context, m notified, made int) ([]domain.DeliveryAttempt, error) {
	return w.attempts(ctx, made, func(number int) (domain.DeliveryAttempt, Parcel, time.Time, error) {
		return domain.DeliveryAttempt{Place: m.place, Message: m.id}, messageParcel(w.s, w.options, m, number), m.visible, nil
	})
}

// attempts makes the next attempt, and those that follow it at once. pack makes the parcel
// of an attempt.
func (w *worker) attempts(
	ctx context.Context, made int, pack func(number int) (domain.DeliveryAttempt, Parcel, time.Time, error),
) (attempts []domain.DeliveryAttempt, err error) {
	for number := made + 1; ; number++ {
		a, parcel, since, err := pack(number)
		if err != nil {
			return attempts, err
		}
		a.Number, a.Started = number, w.Now().UTC().Truncate(time.Microsecond)
		began := time.Now()
		if ctx.Err() != nil {
			return attempts, ctx.Err()
		}
		result, err := w.Deliver.Deliver(w.sending, parcel)
		if err != nil {
			return attempts, w.postponed(attempts, err)
		}
		took := time.Since(began)
		w.judge(&a, result, took)
		attempts = append(attempts, a)
		lag := time.Duration(-1)
		if number == 1 {
			lag = max(0, a.Started.Sub(since))
		}
		w.Observe(Delivery{Outcome: a.Outcome, Took: took, Lag: lag})
		if a.Outcome.Over() || a.Due.After(w.Now()) {
			return attempts, nil
		}
	}
}

// postponed is what it means that an attempt could not be made: with earlier ones that
// failed, the delivery waits as a retry, and nothing is wrong.
func (w *worker) postponed(attempts []domain.DeliveryAttempt, err error) error {
	if len(attempts) > 0 && errors.Is(err, ErrOpen) {
		return nil
	}
	return err
}

// judge writes down what an attempt has led to.
func (w *worker) judge(a *domain.DeliveryAttempt, result webhook.Result, took time.Duration) {
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
	a.Outcome, a.Due = domain.DeliveryRetry, due
}

// serveDue tries again a page of what has waited long enough, and tells whether there may
// be more. What was done before is in the ledger when it looks, so nothing is found twice.
func (w *worker) serveDue(ctx context.Context) (more bool, err error) {
	if !w.reports.flush(w.id) {
		return false, errLost
	}
	due, err := w.Views.DeliveriesDue(ctx, w.id, pageDue)
	if err != nil || len(due) == 0 {
		return false, err
	}
	messages, err := w.find(ctx, due)
	if err != nil {
		return false, err
	}
	for _, waiting := range due {
		if waiting.Owes == "" && !w.mayHave(w.s) {
			continue
		}
		more = len(due) == pageDue
		var attempts []domain.DeliveryAttempt
		if waiting.Owes != "" {
			attempts, err = w.confirm(ctx, waiting)
		} else {
			attempts, err = w.tryAgain(ctx, waiting, messages[waiting.Place])
		}
		if len(attempts) > 0 {
			err = errors.Join(err, w.tell(attempts...))
		}
		if err != nil {
			return false, err
		}
	}
	return more, nil
}

// tryAgain makes the next attempt to deliver a message, unless it has expired.
func (w *worker) tryAgain(ctx context.Context, waiting projections.Waiting, m notified) ([]domain.DeliveryAttempt, error) {
	if !m.expires.After(w.Now()) || !w.s.Alive(w.Now()) {
		return []domain.DeliveryAttempt{{
			Place: waiting.Place, Message: waiting.Message, Number: waiting.Attempts, Outcome: domain.DeliveryExpired,
		}}, nil
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
	return w.attempts(ctx, waiting.Attempts, func(int) (domain.DeliveryAttempt, Parcel, time.Time, error) {
		return its, parcel, w.Now(), nil
	})
}

// find reads the messages of what waits. One that nobody can read any more is the zero
// value, which has expired.
func (w *worker) find(ctx context.Context, due []projections.Waiting) (map[domain.Place]notified, error) {
	var positions []int64
	asked := map[int64]bool{}
	for _, waiting := range due {
		if position, _ := waiting.Place.Parts(); waiting.Owes == "" && !asked[position] {
			asked[position] = true
			positions = append(positions, position)
		}
	}
	events, err := eventstore.ReadPositions(ctx, w.Ledger, positions)
	if err != nil {
		return nil, err
	}
	found := make(map[domain.Place]notified, len(due))
	for _, recorded := range events {
		posted, isPost := recorded.Event.(domain.MessagesPosted)
		if !isPost {
			continue
		}
		if posted, err = w.Open(ctx, posted); err != nil {
			return nil, err
		}
		for _, its := range posted.Messages {
			m := notifiedOf(recorded.RecordedAt, its)
			found[m.place] = m
		}
	}
	return found, nil
}
