package commands

import (
	"context"
	"errors"
	"time"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/postgres"
)

// mayGoShort tells whether the batch can be decided without the lock, on memory and
// what is loaded on top of it. While others write as well, memory is old more often
// than not, and the short way would only find that out.
func (e *Executor) mayGoShort(w *work) bool {
	if !e.memory.known || !e.alone {
		return false
	}
	for _, p := range w.commands {
		if !p.needs.short() || p.needs.Free > 0 && e.Tasks.HandsOut(p.needs.Queue) || p.request.IdempotencyKey != "" || p.request.Handled != nil {
			return false
		}
	}
	return true
}

// goShort decides without the lock and writes in one round trip, if nobody has written
// since. What the decisions need is remembered, or loaded in a round trip before. If
// memory does not hold the queues, or the ledger has moved on, nothing is done.
func (e *Executor) goShort(ctx context.Context, w *work) (way Way, done bool, err error) {
	w.state = newState(e.Config)
	if len(e.memory.recall(w.queues(), w.state)) > 0 || len(e.memory.recall(w.deadLetterQueues(), w.state)) > 0 {
		return ShortWay, false, nil
	}
	if !w.state.recallKeys(w.commands) {
		return ShortWay, false, nil
	}
	remembered, err := e.decideHot(ctx, w)
	if err != nil {
		return ShortWay, false, e.notStale(err)
	}
	if !remembered {
		if err := e.decidePeeking(ctx, w); err != nil {
			return ShortWay, false, e.notStale(err)
		}
	}
	if len(w.batch.Events) == 0 && !w.state.locked {
		e.memory.install(w.state, e.memory.head)
		return NoWay, true, nil
	}
	if w.state.locked || len(w.state.made) > 0 || !e.Projector.Covers(w.batch.Events) {
		return ShortWay, false, nil // a data key is looked up or kept in a transaction
	}
	w.uncertain = true
	at, _, err := e.Projector.AppendAndApply(ctx, e.tx, &w.batch)
	if err != nil {
		w.uncertain = !errors.Is(err, eventstore.ErrStale) && !postgres.IsBadData(err)
		return ShortWay, false, e.notStale(err)
	}
	w.uncertain = false
	if w.batch.Now.IsZero() {
		e.clock.set(at)
	}
	e.committed(w, w.batch.NewHead(at))
	e.lookAhead(w)
	return ShortWay, true, nil
}

// decideHot decides on what is remembered, if that is enough. Decisions that record
// nothing prove nothing then, since the memory may be old: so the ledger's head is asked
// for, and they are made again at the time that this was.
func (e *Executor) decideHot(ctx context.Context, w *work) (decided bool, err error) {
	now := e.estimate()
	decided, err = e.decideHotAt(w, now)
	if !decided || err != nil || len(w.batch.Events) > 0 {
		return decided, err
	}
	clock := time.Time{}
	if e.Now != nil {
		clock = now
	}
	if now, err = eventstore.Peek(ctx, e.tx, e.memory.head, clock); err != nil {
		return false, err
	}
	e.clock.set(now)
	return e.decideHotAt(w, now)
}

func (e *Executor) decideHotAt(w *work, now time.Time) (decided bool, err error) {
	if !w.timeless() && (now.IsZero() || !w.state.serve(w.commands, now)) {
		return false, nil
	}
	w.state.now = now
	if err := e.decide(w, e.memory.head, now); err != nil {
		return false, err
	}
	if e.Now == nil && !now.IsZero() {
		w.batch.MostOff = maxOff
	}
	return true, nil
}

// decidePeeking decides on what is loaded without the lock.
func (e *Executor) decidePeeking(ctx context.Context, w *work) error {
	var clock time.Time
	if e.Now != nil {
		clock = e.Now()
	}
	var now time.Time
	needs := w.messageNeeds()
	err := w.loadMessages(needs, func() (loaded domain.LoadedMessages, err error) {
		loaded, now, err = e.Loader.Peek(ctx, e.tx, e.memory.head, clock, needs)
		return loaded, err
	})
	if err != nil {
		return err
	}
	e.clock.set(now)
	w.state.now = now
	return e.decide(w, e.memory.head, now)
}

// estimate is the time of a batch that is decided now on memory, or zero if that is not
// known well enough. The database checks it.
func (e *Executor) estimate() time.Time {
	if e.Now != nil {
		return after(e.memory.head, e.Now())
	}
	if now, known := e.clock.now(); known {
		return after(e.memory.head, now)
	}
	return time.Time{}
}

// notStale is nil for eventstore.ErrStale: somebody else has written.
func (e *Executor) notStale(err error) error {
	if errors.Is(err, eventstore.ErrStale) {
		e.alone = false
		return nil
	}
	return err
}

// clock is the database's clock, as far as it is known here: when it was last told, and
// how long ago that is. It runs behind by the time that the telling took.
type clock struct {
	told time.Time // by the database
	at   time.Time // by this machine, which knows how time passes if not what time it is
}

// clockLife is for how long the database's clock is believed to run like ours.
const clockLife = time.Second

// maxOff is how far a batch's time that was given here may be from the database's clock.
const maxOff = time.Second

func (c *clock) set(told time.Time) { c.told, c.at = told, time.Now() }

// now is the database's time in microseconds, unless it was told too long ago.
func (c *clock) now() (now time.Time, known bool) {
	passed := time.Since(c.at)
	if c.told.IsZero() || passed > clockLife {
		return now, false
	}
	return c.told.Add(passed).Truncate(time.Microsecond), true
}
