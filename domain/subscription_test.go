package domain_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"nabu/domain"
)

var (
	minute  = noon.Add(time.Minute)
	first   = domain.NewSubscriptionID(7, 1)
	second  = domain.NewSubscriptionID(8, 2)
	lenient = domain.SubscriptionRules{Types: domain.SubscriberTypes}
	careful = domain.SubscriptionRules{Types: domain.SubscriberTypes, Confirm: true}
)

// subscribed is what clients made at noon, for a minute.
func subscribed(id domain.SubscriptionID, subscriber string) domain.SubscriptionCreated {
	return domain.SubscriptionCreated{Project: "p1", ID: id, Queue: "orders", Subscriber: subscriber, TTL: 60, Options: `{"a": 1}`}
}

func updated(id domain.SubscriptionID, subscriber string, ttl int, owes domain.Confirmation) domain.SubscriptionUpdated {
	return domain.SubscriptionUpdated{
		Project: "p1", ID: id, Queue: "orders", Subscriber: subscriber, TTL: ttl, Owes: owes, Options: `{"a": 1}`,
	}
}

var (
	confirmedFirst   = domain.SubscriptionConfirmed{Project: "p1", ID: first, Queue: "orders"}
	unconfirmedFirst = domain.SubscriptionUnconfirmed{Project: "p1", ID: first, Queue: "orders"}
	deletedFirst     = domain.SubscriptionDeleted{Project: "p1", ID: first, Queue: "orders"}
	sweptFirst       = domain.SubscriptionSwept{Project: "p1", ID: first, Queue: "orders"}
	sweptSecond      = domain.SubscriptionSwept{Project: "p1", ID: second, Queue: "orders"}
)

// subscriptionAfter is a subscription with this past, all of it at noon.
func subscriptionAfter(past ...domain.Event) domain.Subscription {
	var s domain.Subscription
	for _, e := range past {
		s.Apply(noon, e)
	}
	return s
}

func TestSubscribe(t *testing.T) {
	const at = 20
	made := func(position int64, rules domain.SubscriptionRules) domain.SubscriptionCreated {
		e := subscribed(domain.NewSubscriptionID(position, 9), "http://a")
		if rules.Confirm {
			e.Owes = domain.ConfirmSubscription
		}
		return e
	}
	theQueue := domain.QueueCreated{Project: "p1", Name: "orders"}
	has := []domain.Event{subscribed(first, "http://a")}
	confirmed := []domain.Event{subscribed(first, "http://a"), confirmedFirst}
	tests := map[string]struct {
		queue   []domain.Event
		given   []domain.Event // of the same subscriber
		rules   domain.SubscriptionRules
		now     time.Time
		anew    bool
		id      domain.SubscriptionID
		then    []domain.Event
		refused domain.Code
	}{
		"the first to a queue":                                             {[]domain.Event{theQueue}, nil, lenient, noon, false, domain.NewSubscriptionID(at, 9), []domain.Event{made(at, lenient)}, ""},
		"the first to no queue":                                            {nil, nil, lenient, noon, false, domain.NewSubscriptionID(at+1, 9), []domain.Event{theQueue, made(at+1, lenient)}, ""},
		"one that has to be confirmed":                                     {[]domain.Event{theQueue}, nil, careful, noon, false, domain.NewSubscriptionID(at, 9), []domain.Event{made(at, careful)}, ""},
		"a second one changes nothing":                                     {[]domain.Event{theQueue}, has, lenient, noon, false, first, nil, ""},
		"a second one makes the queue":                                     {nil, has, lenient, noon, false, first, []domain.Event{theQueue}, ""},
		"a second one is asked again":                                      {[]domain.Event{theQueue}, has, careful, noon, false, first, []domain.Event{updated(first, "http://a", 0, domain.ConfirmSubscription)}, ""},
		"one that is confirmed stands in the way":                          {nil, confirmed, lenient, noon, false, domain.SubscriptionID{}, nil, domain.Conflict},
		"one that is not confirmed does as well, if it is to be made anew": {nil, has, careful, noon, true, domain.SubscriptionID{}, nil, domain.Conflict},
		"one made anew is like any other":                                  {[]domain.Event{theQueue}, nil, careful, noon, true, domain.NewSubscriptionID(at, 9), []domain.Event{made(at, careful)}, ""},
		"one that has expired does not": {[]domain.Event{theQueue}, confirmed, lenient, minute, false, domain.NewSubscriptionID(at+1, 9),
			[]domain.Event{sweptFirst, made(at+1, lenient)}, ""},
		"one that was deleted does not": {[]domain.Event{theQueue}, append(confirmed[:2:2], deletedFirst), lenient, noon, false, domain.NewSubscriptionID(at, 9), []domain.Event{made(at, lenient)}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			id, events, err := queueAfter(test.queue...).Subscribe(
				domain.NewSubscription{Queue: orders, Subscriber: "http://a", TTL: 60, Options: `{"a": 1}`, Salt: 9, Anew: test.anew},
				subscriptionAfter(test.given...), test.rules, limits, domain.Moment{Position: at, Time: test.now})
			expect(t, events, err, test.then, test.refused)
			if id != test.id {
				t.Errorf("id %s, want %s", id, test.id)
			}
		})
	}
}

func TestChangeSubscription(t *testing.T) {
	has := []domain.Event{subscribed(first, "http://a")}
	confirmed := []domain.Event{subscribed(first, "http://a"), confirmedFirst}
	others := []domain.Event{domain.SubscriptionCreated{Project: "p1", ID: second, Queue: "orders", Subscriber: "http://b", TTL: 30}}
	expired := noon.Add(30 * time.Second) // the other one
	options := updated(first, "http://a", 0, "")
	options.Options = `{}`
	tests := map[string]struct {
		given   []domain.Event
		change  domain.SubscriptionChange
		others  []domain.Event
		rules   domain.SubscriptionRules
		now     time.Time
		then    []domain.Event
		refused domain.Code
	}{
		"a ttl":                        {has, domain.SubscriptionChange{TTL: 60}, nil, careful, noon, []domain.Event{updated(first, "http://a", 60, "")}, ""},
		"options":                      {has, domain.SubscriptionChange{Options: `{}`}, nil, careful, noon, []domain.Event{options}, ""},
		"the same options":             {has, domain.SubscriptionChange{Options: `{"a": 1}`}, nil, careful, noon, nil, ""},
		"the same subscriber":          {confirmed, domain.SubscriptionChange{Subscriber: "http://a"}, has, careful, noon, nil, ""},
		"another subscriber":           {confirmed, domain.SubscriptionChange{Subscriber: "http://b"}, nil, lenient, noon, []domain.Event{updated(first, "http://b", 0, "")}, ""},
		"another that has to confirm":  {confirmed, domain.SubscriptionChange{Subscriber: "http://b"}, nil, careful, noon, []domain.Event{updated(first, "http://b", 0, domain.ConfirmSubscription)}, ""},
		"another one's subscriber":     {has, domain.SubscriptionChange{Subscriber: "http://b", TTL: 60}, others, lenient, noon, nil, domain.Conflict},
		"that of one that has expired": {has, domain.SubscriptionChange{Subscriber: "http://b"}, others, lenient, expired, []domain.Event{sweptSecond, updated(first, "http://b", 0, "")}, ""},
		"of one that has expired":      {has, domain.SubscriptionChange{TTL: 60}, nil, lenient, minute, nil, domain.NotFound},
		"of one that is not there":     {nil, domain.SubscriptionChange{TTL: 60}, nil, lenient, noon, nil, domain.NotFound},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			events, err := subscriptionAfter(test.given...).Change(test.change, subscriptionAfter(test.others...), test.rules, test.now)
			expect(t, events, err, test.then, test.refused)
		})
	}
}

func TestConfirmSubscription(t *testing.T) {
	has := []domain.Event{subscribed(first, "http://a")}
	confirmed := []domain.Event{subscribed(first, "http://a"), confirmedFirst}
	told := unconfirmedFirst
	told.Owes = domain.ConfirmUnsubscription
	tests := map[string]struct {
		given   []domain.Event
		word    bool
		rules   domain.SubscriptionRules
		now     time.Time
		then    []domain.Event
		refused domain.Code
	}{
		"yes":                             {has, true, careful, noon, []domain.Event{confirmedFirst}, ""},
		"yes again":                       {confirmed, true, careful, noon, nil, ""},
		"yes after no":                    {append(confirmed[:2:2], told), true, careful, noon, []domain.Event{confirmedFirst}, ""},
		"yes after another subscriber":    {append(confirmed[:2:2], updated(first, "http://b", 0, domain.ConfirmSubscription)), true, careful, noon, []domain.Event{confirmedFirst}, ""},
		"yes after another that need not": {append(confirmed[:2:2], updated(first, "http://b", 0, "")), true, lenient, noon, nil, ""},
		"no":                              {confirmed, false, lenient, noon, []domain.Event{unconfirmedFirst}, ""},
		"no from the first on":            {has, false, lenient, noon, nil, ""},
		"no, and it is told":              {confirmed, false, careful, noon, []domain.Event{told}, ""},
		"no from the first on, it is too": {has, false, careful, noon, []domain.Event{told}, ""},
		"one that has expired":            {has, true, careful, minute, nil, domain.NotFound},
		"one that is not there":           {nil, true, careful, noon, nil, domain.NotFound},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			events, err := subscriptionAfter(test.given...).Confirm(test.word, test.rules, test.now)
			expect(t, events, err, test.then, test.refused)
		})
	}
}

// Deletion is for what is alive, sweeping for what is not, and a renewed life counts.
func TestDeleteAndSweepSubscription(t *testing.T) {
	has := []domain.Event{subscribed(first, "http://a")}
	longer := append(has[:1:1], updated(first, "http://a", 61, ""))
	tests := map[string]struct {
		given        []domain.Event
		now          time.Time
		delete, take []domain.Event
	}{
		"alive":                {has, minute.Add(-time.Microsecond), []domain.Event{deletedFirst}, nil},
		"expired":              {has, minute, nil, []domain.Event{sweptFirst}},
		"made to live longer":  {longer, minute, []domain.Event{deletedFirst}, nil},
		"and expired in time":  {longer, minute.Add(time.Second), nil, []domain.Event{sweptFirst}},
		"deleted":              {append(has[:1:1], deletedFirst), minute, nil, nil},
		"swept":                {append(has[:1:1], sweptFirst), minute, nil, nil},
		"one that never was":   {nil, minute, nil, nil},
		"changed, not renewed": {append(has[:1:1], updated(first, "http://b", 0, "")), minute, nil, []domain.Event{sweptFirst}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := subscriptionAfter(test.given...)
			expect(t, s.Delete(test.now), nil, test.delete, "")
			expect(t, s.Sweep(test.now), nil, test.take, "")
		})
	}
}

// A subscription may live until the calendar ends, which no duration could hold.
func TestSubscriptionLife(t *testing.T) {
	last := time.Date(9999, 12, 31, 23, 59, 59, 5000, time.UTC)
	ttl := int(last.Unix() - noon.Unix())
	if end := domain.SubscriptionEnd(noon.Add(5*time.Microsecond), ttl); !end.Equal(last) {
		t.Fatalf("%d seconds end at %s", ttl, end)
	}
	for seconds, refused := range map[int]domain.Code{ttl: "", ttl + 1: domain.Invalid, 1 << 62: domain.Invalid} {
		_, _, err := domain.Queue{}.Subscribe(domain.NewSubscription{Queue: orders, Subscriber: "http://a", TTL: seconds},
			domain.Subscription{}, lenient, limits, domain.Moment{Position: 1, Time: noon})
		if (err == nil) != (refused == "") {
			t.Errorf("%d seconds: %v", seconds, err)
		}
		_, err = subscriptionAfter(subscribed(first, "http://a")).Change(domain.SubscriptionChange{TTL: seconds}, domain.Subscription{}, lenient, noon)
		if (err == nil) != (refused == "") {
			t.Errorf("changed to %d seconds: %v", seconds, err)
		}
	}
	if domain.CheckSubscriptionTTL(59) == nil || domain.CheckSubscriptionTTL(60) != nil {
		t.Error("a minute is the least")
	}
}

func TestCheckSubscriber(t *testing.T) {
	for _, subscriber := range []string{"http://a", "https://a", "mailto:a@b", "HTTP:", "http:// any thing", "https://ü/\u202e"} {
		if err := lenient.CheckSubscriber(subscriber); err != nil {
			t.Errorf("%q: %v", subscriber, err)
		}
	}
	for _, subscriber := range []string{"", "http", "fake", "email://a", "trust+http://a", " http://a", "http ://a", "http://\x00", "http://\xff", "http://\ufffd"} {
		err := lenient.CheckSubscriber(subscriber)
		if refused, ok := errors.AsType[*domain.Error](err); !ok || refused.Code != domain.Invalid {
			t.Errorf("%q: %v", subscriber, err)
		}
	}
}

// Ids are in the order of the positions that they carry, and a stream can be taken apart
// whatever the project is called.
func TestSubscriptionIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		position := rapid.Int64Range(1, domain.MaxPosition-1)
		a, b := position.Draw(t, "one"), position.Draw(t, "other")
		its, another := domain.NewSubscriptionID(a, rapid.Uint64().Draw(t, "salt")), domain.NewSubscriptionID(b, rapid.Uint64().Draw(t, "salt"))
		if a != b && (a < b) != (strings.Compare(its.String(), another.String()) < 0) {
			t.Fatalf("%d and %d make %s and %s", a, b, its, another)
		}
		if last := domain.LastSubscriptionID(a).String(); its.String() > last || domain.NewSubscriptionID(a+1, 0).String() <= last {
			t.Fatalf("%s is not the last one of %d", last, a)
		}
		if parsed, ok := domain.ParseSubscriptionID(its.String()); !ok || parsed != its {
			t.Fatalf("%s is read as %s, %v", its, parsed, ok)
		}
		ref := domain.SubscriptionRef{Project: rapid.String().Draw(t, "project"), ID: its}
		if back, ok := domain.SubscriptionOfStream(ref.Stream()); !ok || back != ref {
			t.Fatalf("%q is taken for %+v, %v", ref.Stream(), back, ok)
		}
	})
	for _, stream := range []string{"", "queue/p/q", "subscription/p", "subscription/p/q", "subscription/" + uuid.Nil.String()} {
		if ref, ok := domain.SubscriptionOfStream(stream); ok {
			t.Errorf("%q is taken for %+v", stream, ref)
		}
	}
}
