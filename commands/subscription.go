package commands

import (
	"bytes"
	"context"
	"slices"

	"nabu/domain"
	"nabu/eventstore"
)

// Subscribe asks for a subscription to a queue, which is made if absent. The answer is
// the subscription's id: that of an older one, if the same subscriber has one that is not
// confirmed, unless it is to be made anew.
type Subscribe struct {
	domain.NewSubscription
	Rules domain.SubscriptionRules
}

// Needs: the queue, and what the subscriber has already.
func (c Subscribe) Needs() Needs {
	return Needs{
		Queue: c.Queue, Subscriptions: &domain.SubscriptionNeed{Queue: c.Queue, Subscriber: c.Subscriber},
		Rank: Adds, Size: rowSize + len(c.Subscriber) + len(c.Options),
	}
}

// Decide makes the subscription unless there is one.
func (c Subscribe) Decide(s *State, at domain.Moment) (domain.SubscriptionID, []domain.Event, error) {
	known := s.subscriber(c.Queue, c.Subscriber)
	return s.Queue(c.Queue).Subscribe(c.NewSubscription, known, c.Rules, s.Limits, at)
}

// ChangeSubscription asks for a subscription to be otherwise.
type ChangeSubscription struct {
	Queue  domain.QueueID
	ID     domain.SubscriptionID
	Change domain.SubscriptionChange
	Rules  domain.SubscriptionRules
}

// Needs: the subscription, and what its new subscriber has already.
func (c ChangeSubscription) Needs() Needs {
	return Needs{
		Queue: c.Queue, Rank: Adds, Size: rowSize + len(c.Change.Subscriber) + len(c.Change.Options),
		Subscriptions: &domain.SubscriptionNeed{
			Queue: c.Queue, IDs: []domain.SubscriptionID{c.ID}, Subscriber: c.Change.Subscriber,
		},
	}
}

// Decide changes all that is asked for or nothing. The answer tells whether something
// was changed.
func (c ChangeSubscription) Decide(s *State, at domain.Moment) (changed bool, events []domain.Event, err error) {
	other := s.subscriber(c.Queue, c.Change.Subscriber)
	events, err = s.Subscription(c.Queue, c.ID).Change(c.Change, other, c.Rules, at.Time)
	return len(events) > 0, events, err
}

// ConfirmSubscription brings the word of a subscriber: whether it wants what the queue
// gets.
type ConfirmSubscription struct {
	Queue     domain.QueueID
	ID        domain.SubscriptionID
	Confirmed bool
	Rules     domain.SubscriptionRules
}

// Needs: the subscription.
func (c ConfirmSubscription) Needs() Needs { return needsSubscriptions(c.Queue, Adds, c.ID) }

// Decide keeps the word. The answer tells whether it is a new one.
func (c ConfirmSubscription) Decide(s *State, at domain.Moment) (changed bool, events []domain.Event, err error) {
	events, err = s.Subscription(c.Queue, c.ID).Confirm(c.Confirmed, c.Rules, at.Time)
	return len(events) > 0, events, err
}

// DeleteSubscription asks for a subscription to go. The answer tells whether it was
// there.
type DeleteSubscription struct {
	Queue domain.QueueID
	ID    domain.SubscriptionID
}

// Needs: the subscription.
func (c DeleteSubscription) Needs() Needs { return needsSubscriptions(c.Queue, Frees, c.ID) }

// Decide deletes the subscription if it is there.
func (c DeleteSubscription) Decide(s *State, at domain.Moment) (deleted bool, events []domain.Event, err error) {
	events = s.Subscription(c.Queue, c.ID).Delete(at.Time)
	return len(events) > 0, events, nil
}

// SweepSubscriptions asks for subscriptions to a queue to be taken away that have
// expired. The answer tells whether there were some. Nothing depends on it but the room
// that the table takes.
type SweepSubscriptions struct {
	Queue domain.QueueID
	IDs   []domain.SubscriptionID
}

// Needs: the subscriptions.
func (c SweepSubscriptions) Needs() Needs {
	needs := needsSubscriptions(c.Queue, Frees, c.IDs...)
	needs.Housework = true
	return needs
}

// Decide sweeps those that have expired.
func (c SweepSubscriptions) Decide(s *State, at domain.Moment) (swept bool, events []domain.Event, err error) {
	for _, id := range c.IDs {
		events = append(events, s.Subscription(c.Queue, id).Sweep(at.Time)...)
	}
	return len(events) > 0, events, nil
}

func needsSubscriptions(queue domain.QueueID, rank Rank, ids ...domain.SubscriptionID) Needs {
	return Needs{
		Queue: queue, Subscriptions: &domain.SubscriptionNeed{Queue: queue, IDs: ids},
		Rank: rank, Size: rowSize * len(ids),
	}
}

// loadSubscriptions fills the state with the subscriptions that the commands need.
func (e *Executor) loadSubscriptions(ctx context.Context, w *work) error {
	var needs []domain.SubscriptionNeed
	for _, p := range w.commands {
		if p.needs.Subscriptions != nil {
			needs = append(needs, *p.needs.Subscriptions)
		}
	}
	if len(needs) == 0 {
		return nil
	}
	found, err := e.Loader.Subscriptions(ctx, e.conn, needs)
	if err != nil {
		return err
	}
	w.state.subscriptions = make(map[domain.SubscriptionRef]eventstore.Versioned[domain.Subscription], len(found))
	counts := map[domain.QueueID]int{}
	for _, its := range found {
		w.state.subscriptions[domain.SubscriptionRef{Project: its.State.Queue.Project, ID: its.State.ID}] = its
		counts[its.State.Queue]++
	}
	w.state.manySubscribed = map[domain.QueueID]bool{}
	for _, need := range needs {
		if need.First > 0 && counts[need.Queue] >= need.First {
			w.state.manySubscribed[need.Queue] = true
		}
	}
	return nil
}

// Subscription is a subscription to the queue, which may have expired, or the zero value
// when it is not there.
func (s *State) Subscription(queue domain.QueueID, id domain.SubscriptionID) domain.Subscription {
	its := s.subscriptions[domain.SubscriptionRef{Project: queue.Project, ID: id}].State
	if its.Queue != queue {
		return domain.Subscription{}
	}
	return its
}

// subscriber is the subscription that a subscriber has to the queue, which may have
// expired, or the zero value when it has none. A batch has few subscriptions.
func (s *State) subscriber(queue domain.QueueID, subscriber string) domain.Subscription {
	for _, its := range s.subscriptions {
		if its.State.Queue == queue && its.State.Subscriber == subscriber {
			return its.State
		}
	}
	return domain.Subscription{}
}

// firstSubscriptions are the first of the subscriptions to the queue, in the order of
// their ids, that were made by an event up to a position.
func (s *State) firstSubscriptions(queue domain.QueueID, upto int64) (first []domain.Subscription) {
	for _, its := range s.subscriptions {
		if position, _ := domain.PostingPlace(its.State.ID).Parts(); its.State.Queue == queue && position <= upto {
			first = append(first, its.State)
		}
	}
	slices.SortFunc(first, func(a, b domain.Subscription) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return first[:min(len(first), purgedAtOnce)]
}

// recordSubscription overlays the subscriptions with an event and gives the event its
// version.
func (s *State) recordSubscription(ref domain.SubscriptionRef, e domain.Event) (version int64) {
	its := s.subscriptions[ref]
	its.Version++
	its.State.Apply(s.now, e)
	s.subscriptions[ref] = its
	return its.Version
}
