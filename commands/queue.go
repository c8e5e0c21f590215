package commands

import "nabu/domain"

// CreateQueue asks for a queue with this metadata. The answer tells whether it is
// new; one that is there already keeps its metadata.
type CreateQueue struct {
	Queue    domain.QueueID
	Metadata domain.Metadata
}

// Needs: the queue.
func (c CreateQueue) Needs() Needs {
	return Needs{Queue: c.Queue, Rank: Adds, Size: c.Metadata.Size()}
}

// Decide makes the queue unless it is there.
func (c CreateQueue) Decide(s *State, _ domain.Moment) (created bool, events []domain.Event, err error) {
	events, err = s.Queue(c.Queue).Create(c.Queue, c.Metadata, s.Limits)
	return len(events) > 0, events, err
}

// ChangeQueue asks for a change of a queue's metadata. The answer is the metadata
// afterwards, as stored.
type ChangeQueue struct {
	Queue domain.QueueID
	Patch domain.MetadataPatch
}

// Needs: the queue.
func (c ChangeQueue) Needs() Needs {
	size := typicalMetadata // what is stored comes on top of what is changed
	for _, change := range c.Patch {
		size += len(change.Key) + len(change.Value)
	}
	return Needs{Queue: c.Queue, Unsettles: true, Rank: Adds, Size: size}
}

const typicalMetadata = 1 << 10

// Decide applies the whole patch or none of it.
func (c ChangeQueue) Decide(s *State, at domain.Moment) (domain.Metadata, []domain.Event, error) {
	q := s.Queue(c.Queue)
	events, err := q.Change(c.Queue, c.Patch, s.Limits)
	for _, e := range events {
		q.Apply(at.Position, e)
	}
	return q.Metadata, events, err
}

// DeleteQueue asks for a queue to go, with all its messages. The answer tells
// whether there was one.
type DeleteQueue struct {
	Queue domain.QueueID
}

// Needs: the queue.
func (c DeleteQueue) Needs() Needs { return Needs{Queue: c.Queue, Rank: Frees} }

// Decide deletes the queue if it is there.
func (c DeleteQueue) Decide(s *State, _ domain.Moment) (deleted bool, events []domain.Event, err error) {
	events, err = s.Queue(c.Queue).Delete(c.Queue)
	return len(events) > 0, events, err
}

// PurgeQueue asks for all messages of a queue to go, or all subscriptions to it, or both.
type PurgeQueue struct {
	Queue         domain.QueueID
	Messages      bool
	Subscriptions bool
	// Upto: only subscriptions that were there when the ledger ended at this position; 0:
	// all.
	Upto int64
}

// Purged is what a purge has come to. Of many subscriptions it takes a part.
type Purged struct {
	Upto int64 // where the ledger ended when it was decided
	More bool  // there may be more subscriptions
}

// purgedAtOnce is how many subscriptions one purge takes, so that others need not wait
// for it.
const purgedAtOnce = 100

// Needs: the queue, and the first of the subscriptions.
func (c PurgeQueue) Needs() Needs {
	needs := Needs{Queue: c.Queue, Rank: Frees}
	if c.Subscriptions {
		upto := c.Upto
		if upto == 0 {
			upto = domain.MaxPosition
		}
		needs.Subscriptions = &domain.SubscriptionNeed{Queue: c.Queue, First: purgedAtOnce, Upto: upto}
		needs.Size = rowSize * purgedAtOnce
	}
	return needs
}

// Decide empties the queue if it is there. That costs the same however many messages
// it holds: one mark says that all before it are gone. Subscriptions go one by one, for
// each has a history of its own; they may be there without the queue.
func (c PurgeQueue) Decide(s *State, at domain.Moment) (purged Purged, events []domain.Event, err error) {
	purged.Upto = at.Position - 1
	if c.Upto > 0 {
		purged.Upto = c.Upto
	}
	if c.Messages {
		events = s.Queue(c.Queue).Purge(c.Queue)
	}
	if c.Subscriptions {
		for _, its := range s.firstSubscriptions(c.Queue, purged.Upto) {
			events = append(append(events, its.Delete(at.Time)...), its.Sweep(at.Time)...)
		}
		purged.More = s.manySubscribed[c.Queue] // those taken by another purge of the batch count as well
	}
	return purged, events, nil
}
