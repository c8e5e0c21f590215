package projections

import (
	"context"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgarray"
)

// Deliveries are how far the messages of each queue have been delivered to each of its
// subscribers, and what waits to be tried again.
var Deliveries = Projection{Name: "deliveries", DDL: mustDDL("deliveries"), Apply: applyToDeliveries}

// deliveryRow is something that waits.
type deliveryRow struct {
	message  domain.MessageID
	owes     domain.Confirmation
	attempts int
	due      time.Time
}

// deliverySlice is the last word of a slice of history on the deliveries to one subscriber.
type deliverySlice struct {
	id                domain.SubscriptionID
	project, queue    string
	cursor, confirmed domain.Place
	touched           bool         // the cursor's row is to be written
	settled           domain.Place // confirmations owed by earlier events are; 0: they are not
	dropped           domain.Place // and all that came earlier is given up; 0: it is not
	waiting           map[domain.Place]deliveryRow
	over              map[domain.Place]bool
	gone              bool
}

// deliveryFold is the last word on each subscription, in the order of first mention.
type deliveryFold struct {
	slices mentions[domain.SubscriptionID, deliverySlice]
}

func (f *deliveryFold) of(project, queue string, id domain.SubscriptionID) *deliverySlice {
	s := f.slices.of(id)
	if s.waiting == nil {
		*s = deliverySlice{
			id: id, project: project, queue: queue, cursor: domain.FirstCursor(id),
			waiting: map[domain.Place]deliveryRow{}, over: map[domain.Place]bool{},
		}
	}
	return s
}

func (f *deliveryFold) fold(recorded eventstore.RecordedEvent) {
	place := domain.PlaceOf(recorded.Position, 0)
	switch e := recorded.Event.(type) {
	case domain.SubscriptionCreated:
		s := f.of(e.Project, e.Queue, e.ID)
		s.touched = true
		s.owe(place, e.Owes, recorded.RecordedAt)
	case domain.SubscriptionUpdated:
		f.of(e.Project, e.Queue, e.ID).owe(place, e.Owes, recorded.RecordedAt)
	case domain.SubscriptionUnconfirmed:
		f.of(e.Project, e.Queue, e.ID).owe(place, e.Owes, recorded.RecordedAt)
	case domain.SubscriptionConfirmed:
		s := f.of(e.Project, e.Queue, e.ID)
		s.touched, s.confirmed, s.settled = true, place, place
		s.drop(func(row deliveryRow) bool { return row.owes != "" })
	case domain.SubscriptionDeleted:
		f.of(e.Project, e.Queue, e.ID).gone = true
	case domain.SubscriptionSwept:
		f.of(e.Project, e.Queue, e.ID).gone = true
	case domain.DeliveriesAttempted:
		f.of(e.Project, e.Queue, e.Subscription).attempted(e)
	}
}

// owe takes note of a confirmation that an event owes. What waited before is given up: it
// was for a subscriber that has to confirm first.
func (s *deliverySlice) owe(place domain.Place, owes domain.Confirmation, at time.Time) {
	if owes == "" {
		return
	}
	s.dropped = place
	s.drop(func(deliveryRow) bool { return true })
	s.waiting[place] = deliveryRow{owes: owes, due: at}
}

func (s *deliverySlice) drop(which func(deliveryRow) bool) {
	for place, row := range s.waiting {
		if which(row) {
			delete(s.waiting, place)
			s.over[place] = true
		}
	}
}

func (s *deliverySlice) attempted(e domain.DeliveriesAttempted) {
	s.touched = true
	s.cursor = max(s.cursor, e.Cursor)
	for _, a := range e.Attempts {
		if a.Outcome.Over() {
			delete(s.waiting, a.Place)
			s.over[a.Place] = true
			continue
		}
		delete(s.over, a.Place)
		s.waiting[a.Place] = deliveryRow{message: a.Message, owes: a.Owes, attempts: a.Number, due: a.Due}
	}
}

func applyToDeliveries(ctx context.Context, tx eventstore.Tx, history []eventstore.RecordedEvent) error {
	var f deliveryFold
	for _, e := range history {
		f.fold(e)
	}
	if len(f.slices.rows) == 0 {
		return nil
	}
	return call(ctx, tx, "write_deliveries", f.args())
}

// args are the parameters of write_deliveries.
func (f *deliveryFold) args() []any {
	var cursors, settled, over, waiting deliveryColumns
	var gone []uuid.UUID
	for _, s := range f.slices.rows {
		if s.gone {
			gone = append(gone, s.id)
			continue
		}
		if s.touched {
			cursors.add(s.id, s.cursor)
			cursors.projects, cursors.queues = append(cursors.projects, s.project), append(cursors.queues, s.queue)
			cursors.confirmed = append(cursors.confirmed, s.confirmed)
		}
		if s.settled > 0 {
			settled.add(s.id, s.settled)
			settled.numbers = append(settled.numbers, 0)
		}
		if s.dropped > 0 {
			settled.add(s.id, s.dropped)
			settled.numbers = append(settled.numbers, 1)
		}
		for place := range s.over {
			over.add(s.id, place)
		}
		for place, row := range s.waiting {
			waiting.add(s.id, place)
			waiting.messages, waiting.owes = append(waiting.messages, row.message), append(waiting.owes, string(row.owes))
			waiting.numbers, waiting.due = append(waiting.numbers, row.attempts), append(waiting.due, row.due)
		}
	}
	return []any{
		pgarray.UUIDs(cursors.ids), pgarray.Texts(cursors.projects), pgarray.Texts(cursors.queues),
		pgarray.BigInts(cursors.places), pgarray.BigInts(cursors.confirmed),
		pgarray.UUIDs(settled.ids), pgarray.BigInts(settled.places), pgarray.Ints(settled.numbers),
		pgarray.UUIDs(over.ids), pgarray.BigInts(over.places),
		pgarray.UUIDs(waiting.ids), pgarray.BigInts(waiting.places), pgarray.UUIDsOrNull(waiting.messages),
		pgarray.Texts(waiting.owes), pgarray.Ints(waiting.numbers), pgarray.Times(waiting.due),
		pgarray.UUIDs(gone),
	}
}

// deliveryColumns are rows column by column; which of them are used depends.
type deliveryColumns struct {
	ids               []uuid.UUID
	places, confirmed []domain.Place
	projects, queues  []string
	messages          []uuid.UUID
	owes              []string
	numbers           []int
	due               []time.Time
}

func (c *deliveryColumns) add(id uuid.UUID, place domain.Place) {
	c.ids, c.places = append(c.ids, id), append(c.places, place)
}
