package commands

import (
	"context"

	"nabu/domain"
)

// SweepQueue asks for rows of a queue to be removed that nobody can see any more. The
// answer tells whether there were some; there may be more then. Nothing depends on it
// but the room that the tables take.
type SweepQueue struct {
	Queue  domain.QueueID
	Number int64 // the queue's, which may be deleted
}

// Needs: what can be swept.
func (c SweepQueue) Needs() Needs {
	return Needs{Queue: c.Queue, Sweep: c.Number, Housework: true, Rank: Frees, Size: sweepSize}
}

// sweepSize is what a sweep costs its batch: a good part, so that few share one.
const sweepSize = 1 << 20

// Decide sweeps what was found.
func (c SweepQueue) Decide(s *State, _ domain.Moment) (swept bool, events []domain.Event, err error) {
	found, known := s.sweeps[c.Number]
	if !known {
		return false, nil, nil
	}
	delete(s.sweeps, c.Number) // once in a batch
	events = s.Queue(c.Queue).Sweep(found)
	return len(events) > 0, events, nil
}

func (e *Executor) loadSweeps(ctx context.Context, w *work) (err error) {
	var numbers []int64
	for _, p := range w.commands {
		if p.needs.Sweep > 0 {
			numbers = append(numbers, p.needs.Sweep)
		}
	}
	if len(numbers) > 0 {
		w.state.sweeps, err = e.Loader.Sweeps(ctx, e.conn, numbers, w.state.now)
	}
	return err
}
