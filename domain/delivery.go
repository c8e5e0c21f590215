package domain

import "time"

// DeliveryOutcome is what an attempt to deliver has led to.
type DeliveryOutcome string

// The outcomes. After the last three nothing more is tried.
const (
	DeliveryDelayed   DeliveryOutcome = "delayed" // the message is held back: no attempt was made yet
	DeliveryRetry     DeliveryOutcome = "retry"   // it failed, and is tried again when it is due
	DeliveryDelivered DeliveryOutcome = "delivered"
	DeliveryDropped   DeliveryOutcome = "dropped" // refused for good, or failed as often as the policy says
	DeliveryExpired   DeliveryOutcome = "expired" // the message has, while it waited
)

// Over tells whether nothing more is tried after the outcome.
func (o DeliveryOutcome) Over() bool { return o != DeliveryDelayed && o != DeliveryRetry }

// DeliveriesAttempted: nabu has tried to deliver messages to a subscriber, in this order.
type DeliveriesAttempted struct {
	Project      string            `json:"project"`
	Subscription SubscriptionID    `json:"subscription"`
	Queue        string            `json:"queue"`
	Attempts     []DeliveryAttempt `json:"attempts,omitempty"`
	// Cursor: the queue's messages up to this place have been dealt with: an attempt was
	// made, or they wait for their delay, or they are none of the subscriber's business.
	Cursor Place `json:"cursor"`
}

// DeliveryAttempt is one of the attempts.
type DeliveryAttempt struct {
	// Place is where the message stands, or that of the event that owes a confirmation.
	Place   Place           `json:"place"`
	Message MessageID       `json:"message,omitzero"`
	Owes    Confirmation    `json:"owes,omitempty"`
	Number  int             `json:"number,omitempty"` // from 1; 0: none was made
	Started time.Time       `json:"started,omitzero"`
	Took    int             `json:"took_ms,omitempty"`
	Status  int             `json:"status,omitempty"` // of HTTP; 0: there was no answer
	Error   string          `json:"error,omitempty"`
	Outcome DeliveryOutcome `json:"outcome"`
	Due     time.Time       `json:"due,omitzero"` // of the next attempt
}

func (DeliveriesAttempted) EventType() string { return "deliveries.attempted.v1" }
func (e DeliveriesAttempted) Stream() string {
	return SubscriptionRef{e.Project, e.Subscription}.Stream()
}

// FirstCursor is the place behind which a subscription's messages begin: where it was made.
func FirstCursor(id SubscriptionID) Place { return PostingPlace(id) }

// ReportDeliveries decides what a report on deliveries records. Of a subscription that is
// gone nothing is.
func (s Subscription) ReportDeliveries(attempts []DeliveryAttempt, cursor Place) []Event {
	if !s.Exists() {
		return nil
	}
	return []Event{DeliveriesAttempted{
		Project: s.Queue.Project, Subscription: s.ID, Queue: s.Queue.Name, Attempts: attempts, Cursor: cursor,
	}}
}

const (
	// maxRetryAfter bounds what a subscriber may ask for.
	maxRetryAfter = time.Hour
	// maxHasty is how many attempts may follow each other without a pause, and hastyPause
	// the least one from then on: a policy may ask for two milliards of them.
	maxHasty   = 100
	hastyPause = time.Second
)

// NextAttempt is when an attempt is made again that has failed as the number-th: at the
// policy's delay, or when the subscriber has asked for it, if that is later. From the
// hundredth attempt on it is a second at least. ok is false when there are no more.
func (p RetryPolicy) NextAttempt(number int, failed time.Time, retryAfter time.Duration) (due time.Time, ok bool) {
	delay, ok := p.Delay(number)
	if number >= maxHasty {
		delay = max(delay, hastyPause)
	}
	return failed.Add(max(delay, min(retryAfter, maxRetryAfter))), ok
}
