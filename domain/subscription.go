package domain

import (
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// SubscriptionID names a subscription for ever. It is a UUID of version 8 that carries
// the place of the event that made it, so subscriptions in the order of their ids are
// in the order in which they were made.
type SubscriptionID = uuid.UUID

// NewSubscriptionID makes the id of a subscription that the event at a position makes,
// out of 59 random bits.
func NewSubscriptionID(position int64, salt uint64) SubscriptionID {
	return NewMessageID(PlaceOf(position, 0), salt)
}

// MaxPosition is the greatest position that an id can carry.
const MaxPosition = math.MaxInt64 >> placeIndexBits

// LastSubscriptionID is not less than the ids of all subscriptions that were made by the
// events up to a position.
func LastSubscriptionID(position int64) SubscriptionID {
	return NewMessageID(PlaceOf(position, 1<<placeIndexBits-1), saltMask)
}

// ParseSubscriptionID reads an id in its dashed form. What is no id of nabu's is told
// apart by its shape alone.
func ParseSubscriptionID(text string) (SubscriptionID, bool) { return ParseMessageID(text) }

// SubscriptionRef names a subscription: ids are unique, the project keeps others out.
type SubscriptionRef struct {
	Project string
	ID      SubscriptionID
}

// Stream is the subscription's history.
func (ref SubscriptionRef) Stream() string {
	return subscriptionStream + ref.Project + "/" + ref.ID.String()
}

const subscriptionStream = "subscription/"

// SubscriptionOfStream takes a subscription's stream apart.
func SubscriptionOfStream(stream string) (SubscriptionRef, bool) {
	rest, isSubscription := strings.CutPrefix(stream, subscriptionStream)
	slash := strings.LastIndexByte(rest, '/')
	if !isSubscription || slash < 0 {
		return SubscriptionRef{}, false
	}
	id, err := uuid.Parse(rest[slash+1:])
	return SubscriptionRef{Project: rest[:slash], ID: id}, err == nil
}

// Confirmation is what a subscriber is to be asked by an event.
type Confirmation string

// What may be owed to a subscriber. Who delivers notifications sends it, once for each
// event that owes it.
const (
	// ConfirmSubscription asks whether it wants what the queue gets. Until it says so,
	// nothing is delivered.
	ConfirmSubscription Confirmation = "subscribe"
	// ConfirmUnsubscription tells it that nothing is delivered any more, and how to
	// change that.
	ConfirmUnsubscription Confirmation = "unsubscribe"
)

// SubscriptionCreated: a client subscribed somebody to a queue. It belongs to the
// queue's name: it stays when the queue is deleted, as in Zaqar, and is of the next
// queue of that name.
type SubscriptionCreated struct {
	Project    string         `json:"project"`
	ID         SubscriptionID `json:"id"`
	Queue      string         `json:"queue"`
	Subscriber string         `json:"subscriber"`     // a URI
	TTL        int            `json:"ttl"`            // seconds to live from the event's time on
	Owes       Confirmation   `json:"owes,omitempty"` // to the subscriber
	Options    string         `json:"-"`              // a JSON object as the client sent it, in the bodies
}

func (SubscriptionCreated) EventType() string  { return "subscription.created.v1" }
func (e SubscriptionCreated) Stream() string   { return SubscriptionRef{e.Project, e.ID}.Stream() }
func (e SubscriptionCreated) Bodies() []string { return []string{e.Options} }

// SubscriptionUpdated: a client changed a subscription, or asked for one again whose
// subscriber has not confirmed it. One that owes a confirmation is not confirmed.
type SubscriptionUpdated struct {
	Project    string         `json:"project"`
	ID         SubscriptionID `json:"id"`
	Queue      string         `json:"queue"`
	Subscriber string         `json:"subscriber"`     // afterwards
	TTL        int            `json:"ttl,omitempty"`  // seconds to live from the event's time on; 0: as long as before
	Owes       Confirmation   `json:"owes,omitempty"` // to the subscriber
	Options    string         `json:"-"`              // afterwards
}

func (SubscriptionUpdated) EventType() string  { return "subscription.updated.v1" }
func (e SubscriptionUpdated) Stream() string   { return SubscriptionRef{e.Project, e.ID}.Stream() }
func (e SubscriptionUpdated) Bodies() []string { return []string{e.Options} }

// SubscriptionConfirmed: the subscriber, or the owner for it, wants what the queue gets.
type SubscriptionConfirmed struct {
	Project string         `json:"project"`
	ID      SubscriptionID `json:"id"`
	Queue   string         `json:"queue"`
}

func (SubscriptionConfirmed) EventType() string { return "subscription.confirmed.v1" }
func (e SubscriptionConfirmed) Stream() string  { return SubscriptionRef{e.Project, e.ID}.Stream() }

// SubscriptionUnconfirmed: the subscriber, or the owner for it, wants nothing any more.
type SubscriptionUnconfirmed struct {
	Project string         `json:"project"`
	ID      SubscriptionID `json:"id"`
	Queue   string         `json:"queue"`
	Owes    Confirmation   `json:"owes,omitempty"` // to the subscriber
}

func (SubscriptionUnconfirmed) EventType() string { return "subscription.unconfirmed.v1" }
func (e SubscriptionUnconfirmed) Stream() string  { return SubscriptionRef{e.Project, e.ID}.Stream() }

// SubscriptionDeleted: a client deleted a subscription, or purged its queue's.
type SubscriptionDeleted struct {
	Project string         `json:"project"`
	ID      SubscriptionID `json:"id"`
	Queue   string         `json:"queue"`
}

func (SubscriptionDeleted) EventType() string { return "subscription.deleted.v1" }
func (e SubscriptionDeleted) Stream() string  { return SubscriptionRef{e.Project, e.ID}.Stream() }

// SubscriptionSwept: a subscription that had expired was taken away.
type SubscriptionSwept struct {
	Project string         `json:"project"`
	ID      SubscriptionID `json:"id"`
	Queue   string         `json:"queue"`
}

func (SubscriptionSwept) EventType() string { return "subscription.swept.v1" }
func (e SubscriptionSwept) Stream() string  { return SubscriptionRef{e.Project, e.ID}.Stream() }

// Subscription is what the history of one subscription adds up to. The zero value is
// one that is not there.
type Subscription struct {
	ID         SubscriptionID
	Queue      QueueID
	Subscriber string
	TTL        int // seconds
	Expires    time.Time
	Options    string // a JSON object
	Confirmed  bool
}

// Exists tells whether the subscription is there, though it may have expired.
func (s Subscription) Exists() bool { return s.ID != SubscriptionID{} }

// Alive tells whether the subscription is there for clients.
func (s Subscription) Alive(now time.Time) bool { return s.Exists() && s.Expires.After(now) }

// Apply folds one event of the history into the subscription; at is the event's time.
func (s *Subscription) Apply(at time.Time, e Event) {
	switch e := e.(type) {
	case SubscriptionCreated:
		*s = Subscription{
			ID: e.ID, Queue: QueueID{e.Project, e.Queue}, Subscriber: e.Subscriber,
			TTL: e.TTL, Expires: SubscriptionEnd(at, e.TTL), Options: e.Options,
		}
	case SubscriptionUpdated:
		s.Subscriber, s.Options = e.Subscriber, e.Options
		if e.TTL > 0 {
			s.TTL, s.Expires = e.TTL, SubscriptionEnd(at, e.TTL)
		}
		if e.Owes == ConfirmSubscription {
			s.Confirmed = false
		}
	case SubscriptionConfirmed:
		s.Confirmed = true
	case SubscriptionUnconfirmed:
		s.Confirmed = false
	case SubscriptionDeleted, SubscriptionSwept:
		*s = Subscription{}
	}
}

// SubscriptionEnd is when a subscription expires that lives so many seconds from a time
// on. A duration could not hold as many as there may be.
func SubscriptionEnd(from time.Time, ttl int) time.Time {
	return time.Unix(from.Unix()+int64(ttl), int64(from.Nanosecond())).UTC()
}

// SubscriptionRules are what an operator says of subscriptions besides the Limits.
type SubscriptionRules struct {
	Types []string // schemes that a subscriber's URI may have, in lower case
	// Confirm: nothing is delivered before the subscriber has confirmed it.
	Confirm bool
}

// SubscriberTypes are the schemes that nabu can deliver to. Zaqar's trust+http and
// trust+https need trusts, which nabu cannot make.
var SubscriberTypes = []string{"http", "https", "mailto"}

// CheckSubscriber refuses a text that is no URI of one of the types. Nothing but the
// scheme is looked at, as in Zaqar: clients subscribe addresses that do not exist yet.
func (r SubscriptionRules) CheckSubscriber(subscriber string) error {
	if !Storable(subscriber) || strings.ContainsRune(subscriber, utf8.RuneError) {
		return Errorf(Invalid, "subscriber must not hold a NUL or half of a surrogate pair")
	}
	scheme, _, _ := strings.Cut(subscriber, ":")
	if scheme == subscriber || !slices.Contains(r.Types, strings.ToLower(scheme)) {
		return Errorf(Invalid, "subscriber must be a URI with one of the schemes %s", strings.Join(r.Types, ", "))
	}
	return nil
}

// CheckSubscriptionTTL refuses a life that is too short.
func CheckSubscriptionTTL(ttl int64) error {
	if ttl < MinSubscriptionTTL {
		return Errorf(Invalid, "ttl must be at least %d seconds", MinSubscriptionTTL)
	}
	return nil
}

// calendarsEnd is the first moment that a date of four digits cannot name.
var calendarsEnd = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)

// checkSubscriptionEnd refuses a life that the calendar does not hold.
func checkSubscriptionEnd(ttl int, now time.Time) error {
	if int64(ttl) > calendarsEnd.Unix()-now.Unix()-1 {
		return Errorf(Invalid, "ttl must not lead beyond the year 9999")
	}
	return nil
}

// CheckSubscriptionOptions refuses options, a JSON object, whose known members break
// their rules.
func CheckSubscriptionOptions(options string) error {
	if _, _, err := subscriptionRetryPolicy(options); err != nil {
		return err
	}
	_, err := ParseFilterPolicy(options)
	return err
}

// NewSubscription is what a client wants to subscribe. The parts have passed their
// checks.
type NewSubscription struct {
	Queue      QueueID
	Subscriber string
	TTL        int    // seconds; 0: the server's default
	Options    string // a JSON object; empty: none
	Salt       uint64 // random bits of the id
	// Anew: one that the subscriber has already stands in the way, confirmed or not, as over
	// Zaqar's WebSocket.
	Anew bool
}

// NoOptions are the options of a subscription that was made without.
const NoOptions = "{}"

// Subscribe decides what a request to subscribe records; known is the subscription that
// the subscriber has to the queue, if any. A second request for one that is not
// confirmed changes nothing, and is answered with its id; if confirmations are required,
// the subscriber is asked again. The queue is made if it is not there.
func (q Queue) Subscribe(n NewSubscription, known Subscription, r SubscriptionRules, limits Limits, at Moment) (
	id SubscriptionID, events []Event, err error,
) {
	ttl, options := n.TTL, n.Options
	if ttl == 0 {
		ttl = limits.DefaultSubscriptionTTL
	}
	if options == "" {
		options = NoOptions
	}
	if err := checkSubscriptionEnd(ttl, at.Time); err != nil {
		return id, nil, err
	}
	alive := known.Alive(at.Time)
	if alive && (known.Confirmed || n.Anew) {
		return id, nil, Errorf(Conflict, "the subscriber has subscribed to queue %s already", n.Queue.Name)
	}
	if !q.Exists() {
		events = append(events, QueueCreated{Project: n.Queue.Project, Name: n.Queue.Name})
	}
	if alive {
		if r.Confirm {
			events = append(events, known.updated(ConfirmSubscription))
		}
		return known.ID, events, nil
	}
	events = append(events, known.Sweep(at.Time)...)
	created := SubscriptionCreated{
		Project: n.Queue.Project, ID: NewSubscriptionID(at.Position+int64(len(events)), n.Salt), Queue: n.Queue.Name,
		Subscriber: n.Subscriber, TTL: ttl, Options: options,
	}
	if r.Confirm {
		created.Owes = ConfirmSubscription
	}
	return created.ID, append(events, created), nil
}

// updated is the event of an update that leaves the subscription as it is.
func (s Subscription) updated(owes Confirmation) SubscriptionUpdated {
	return SubscriptionUpdated{
		Project: s.Queue.Project, ID: s.ID, Queue: s.Queue.Name, Subscriber: s.Subscriber, Owes: owes, Options: s.Options,
	}
}

// SubscriptionChange is what a client wants to be otherwise. The parts have passed their
// checks.
type SubscriptionChange struct {
	Subscriber string // empty: as it is
	TTL        int    // seconds from now on; 0: as it is
	Options    string // a JSON object; empty: as they are
}

// Change decides what a change of the subscription records; other is the subscription
// that the new subscriber has to the queue, if any. A new subscriber has not confirmed
// anything, if that is required.
func (s Subscription) Change(c SubscriptionChange, other Subscription, r SubscriptionRules, now time.Time) ([]Event, error) {
	if err := checkSubscriptionEnd(c.TTL, now); err != nil {
		return nil, err
	}
	if !s.Alive(now) {
		return nil, errNoSubscription
	}
	var events []Event
	e := s.updated("")
	e.TTL = c.TTL
	if c.Options != "" {
		e.Options = c.Options
	}
	if c.Subscriber != "" && c.Subscriber != s.Subscriber {
		if other.Alive(now) {
			return nil, Errorf(Conflict, "the subscriber has subscribed to queue %s already", s.Queue.Name)
		}
		events = append(events, other.Sweep(now)...)
		e.Subscriber = c.Subscriber
		if r.Confirm {
			e.Owes = ConfirmSubscription
		}
	}
	if e == s.updated("") {
		return nil, nil
	}
	return append(events, e), nil
}

var errNoSubscription = Errorf(NotFound, "the subscription does not exist")

// Confirm decides what the word of a subscriber records. If confirmations are required,
// one that wants nothing any more is told so each time.
func (s Subscription) Confirm(confirmed bool, r SubscriptionRules, now time.Time) ([]Event, error) {
	if !s.Alive(now) {
		return nil, errNoSubscription
	}
	switch {
	case confirmed && !s.Confirmed:
		return []Event{SubscriptionConfirmed{Project: s.Queue.Project, ID: s.ID, Queue: s.Queue.Name}}, nil
	case !confirmed && r.Confirm:
		return []Event{SubscriptionUnconfirmed{
			Project: s.Queue.Project, ID: s.ID, Queue: s.Queue.Name, Owes: ConfirmUnsubscription,
		}}, nil
	case !confirmed && s.Confirmed:
		return []Event{SubscriptionUnconfirmed{Project: s.Queue.Project, ID: s.ID, Queue: s.Queue.Name}}, nil
	}
	return nil, nil
}

// Delete decides what a request to delete the subscription records. One that has
// expired is left to the sweeper.
func (s Subscription) Delete(now time.Time) []Event {
	if !s.Alive(now) {
		return nil
	}
	return []Event{SubscriptionDeleted{Project: s.Queue.Project, ID: s.ID, Queue: s.Queue.Name}}
}

// Sweep decides what taking the subscription away records: nothing before it has expired.
func (s Subscription) Sweep(now time.Time) []Event {
	if !s.Exists() || s.Alive(now) {
		return nil
	}
	return []Event{SubscriptionSwept{Project: s.Queue.Project, ID: s.ID, Queue: s.Queue.Name}}
}
