package commands

import (
	"context"

	"nabu/domain"
	"nabu/eventstore"
)

// sweptMark is a queue's mark before sweeps by other replicas, and where these are in the ledger.
// What the swept claims held is found no more by their end, so a mark holds only below that.
type sweptMark struct {
	mark   domain.Mark
	sweeps []int64
}

// sweptAway takes note of a sweep that takes a queue's mark away.
func (m *memory) sweptAway(id domain.QueueID, mark domain.Mark, sweep int64) {
	if known := m.swept[id]; known != nil {
		known.sweeps = append(known.sweeps, sweep)
	} else if mark.Place > 0 {
		m.swept[id] = &sweptMark{mark: mark, sweeps: []int64{sweep}}
	}
}

// lowerMarks brings back the marks that other replicas' sweeps have taken away, each at the lowest
// place that one of these tells of: without it the next claim of the queue would walk over all
// that is taken. It is one round trip, and none without such a sweep.
func (e *Executor) lowerMarks(ctx context.Context) error {
	if len(e.memory.swept) == 0 {
		return nil
	}
	var positions []int64
	for _, swept := range e.memory.swept {
		positions = append(positions, swept.sweeps...)
	}
	sweeps, err := eventstore.ReadPositions(ctx, e.conn, positions)
	if err != nil {
		return err
	}
	lowest := make(map[int64]domain.Place, len(sweeps))
	for _, recorded := range sweeps {
		if swept, ok := recorded.Event.(domain.MessagesSwept); ok {
			lowest[recorded.Position] = swept.Lowest
		}
	}
	e.memory.lowerMarks(lowest)
	return nil
}

// lowerMarks takes the lowest places that sweeps tell of, by position; 0: none, so nothing that a
// mark depends on was swept.
func (m *memory) lowerMarks(lowest map[int64]domain.Place) {
	for id, swept := range m.swept {
		q, remembered := m.queues[id]
		for _, position := range swept.sweeps {
			place, read := lowest[position]
			remembered = remembered && read
			if place > 0 {
				swept.mark.Place = min(swept.mark.Place, place)
			}
		}
		if remembered {
			q.mark = swept.mark
			m.queues[id] = q
		}
	}
	clear(m.swept)
}
