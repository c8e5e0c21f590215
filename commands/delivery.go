package commands

import "nabu/domain"

// ReportDeliveries brings what has become of deliveries to subscribers of one queue. Each
// report stands for itself.
type ReportDeliveries struct {
	Queue   domain.QueueID
	Reports []DeliveryReport
}

// DeliveryReport is what has become of deliveries to one subscriber.
type DeliveryReport struct {
	Subscription domain.SubscriptionID
	// Version is that of the subscription's stream as the reporter knows it. If it has
	// another, somebody else has reported or the subscription was changed, and this report
	// is refused.
	Version  int64
	Attempts []domain.DeliveryAttempt
	Cursor   domain.Place
}

// attemptSize is what an attempt adds to its batch, roughly, in bytes.
const attemptSize = 250

// Needs: the subscriptions.
func (c ReportDeliveries) Needs() Needs {
	ids := make([]domain.SubscriptionID, len(c.Reports))
	size := 0
	for i, r := range c.Reports {
		ids[i] = r.Subscription
		size += rowSize + attemptSize*len(r.Attempts)
	}
	needs := needsSubscriptions(c.Queue, Adds, ids...)
	needs.Size = size
	return needs
}

// Decide records the reports whose version is right. The answer is the version of each
// subscription's stream afterwards; 0: the report was refused.
func (c ReportDeliveries) Decide(s *State, _ domain.Moment) ([]int64, []domain.Event, error) {
	versions := make([]int64, len(c.Reports))
	var events []domain.Event
	for i, r := range c.Reports {
		its := s.subscriptions[domain.SubscriptionRef{Project: c.Queue.Project, ID: r.Subscription}]
		if its.Version != r.Version || its.State.Queue != c.Queue {
			continue
		}
		if decided := its.State.ReportDeliveries(r.Attempts, r.Cursor); len(decided) > 0 {
			versions[i] = its.Version + 1
			events = append(events, decided...)
		}
	}
	return versions, events, nil
}
