package domain_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"nabu/domain"
)

func TestMessageIDCarriesThePlace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		place := domain.Place(rapid.Int64Range(0, math.MaxInt64).Draw(t, "place"))
		id := domain.NewMessageID(place, rapid.Uint64().Draw(t, "salt"))
		if got := domain.PostingPlace(id); got != place {
			t.Fatalf("%s carries %d, want %d", id, got, place)
		}
		if parsed, ok := domain.ParseMessageID(id.String()); !ok || parsed != id {
			t.Fatalf("%s is not taken for an id", id)
		}
	})
}

func TestMessageIDsSortByPlace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.Int64Range(0, math.MaxInt64-1).Draw(t, "a")
		b := rapid.Int64Range(a+1, math.MaxInt64).Draw(t, "b")
		first := domain.NewMessageID(domain.Place(a), rapid.Uint64().Draw(t, "salt of a"))
		second := domain.NewMessageID(domain.Place(b), rapid.Uint64().Draw(t, "salt of b"))
		if first.String() >= second.String() {
			t.Fatalf("%s of %d does not stand before %s of %d", first, a, second, b)
		}
	})
}

func TestPlacesAreUniqueAndGrow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		position := rapid.Int64Range(1, 1<<47-2).Draw(t, "position")
		index := rapid.IntRange(0, domain.MaxPostedMessages-1).Draw(t, "index")
		place := domain.PlaceOf(position, index)
		if place >= domain.PlaceOf(position+1, 0) || index > 0 && place <= domain.PlaceOf(position, index-1) {
			t.Fatalf("place %d of %d/%d is out of order", place, position, index)
		}
	})
}

func TestForeignTextsAreNoMessageIDs(t *testing.T) {
	for _, text := range []string{
		"", "gone", uuid.NewString(), "{" + uuid.NewString() + "}", "00000000-0000-8000-0000-000000000000",
		"00000000-0000-8000-8000-00000000000g",
	} {
		if id, ok := domain.ParseMessageID(text); ok {
			t.Errorf("%q is taken for %s", text, id)
		}
	}
}

func TestPost(t *testing.T) {
	post := func(size int, messages ...domain.NewMessage) domain.Post {
		return domain.Post{Queue: orders, Client: "c", Messages: messages, Size: size, Salts: make([]uint64, len(messages))}
	}
	plain := domain.NewMessage{Body: `1`}
	delayed := func(text string) domain.NewMessage {
		return domain.NewMessage{Body: `1`, Delay: json.RawMessage(text)}
	}
	posted := func(position int64, number int64, messages ...domain.PostedMessage) domain.Event {
		for i := range messages {
			messages[i].ID = domain.NewMessageID(domain.PlaceOf(position, i), 0)
			messages[i].Body = `1`
		}
		return domain.MessagesPosted{Project: "p1", Queue: "orders", Number: number, Client: "c", Messages: messages}
	}
	there := []domain.Event{created(t, `{}`)}
	slow := []domain.Event{created(t, `{"_default_message_delay": 30}`)}
	tests := map[string]struct {
		given   []domain.Event
		post    domain.Post
		then    []domain.Event
		refused domain.Code
	}{
		"one message": {there, post(9, plain), []domain.Event{posted(7, 1, domain.PostedMessage{TTL: 3600})}, ""},
		"the queue is made on the way": {nil, post(9, plain), []domain.Event{
			domain.QueueCreated{Project: "p1", Name: "orders"}, posted(8, 7, domain.PostedMessage{TTL: 3600}),
		}, ""},
		"a ttl of its own, or the queue's": {
			[]domain.Event{created(t, `{"_default_message_ttl": 120}`)}, post(9, domain.NewMessage{TTL: 60, Body: `1`}, plain),
			[]domain.Event{posted(7, 1, domain.PostedMessage{TTL: 60}, domain.PostedMessage{TTL: 120})}, "",
		},
		"a delay counts in a delayed queue": {slow, post(9, delayed(`0`), plain, delayed(`900`)), []domain.Event{
			posted(7, 1, domain.PostedMessage{TTL: 3600}, domain.PostedMessage{TTL: 3600, Delay: 30}, domain.PostedMessage{TTL: 3600, Delay: 900}),
		}, ""},
		"elsewhere nobody looks at it":          {there, post(9, delayed(`"nonsense"`)), []domain.Event{posted(7, 1, domain.PostedMessage{TTL: 3600})}, ""},
		"a bad delay in a delayed queue":        {slow, post(9, plain, delayed(`901`)), nil, domain.Invalid},
		"a null delay in a delayed queue":       {slow, post(9, delayed(`null`)), nil, domain.Invalid},
		"no message":                            {there, post(9), nil, domain.Invalid},
		"more than the queue takes":             {[]domain.Event{created(t, `{"_max_messages_post_size": 10}`)}, post(11, plain), nil, domain.Invalid},
		"as much as the queue takes":            {[]domain.Event{created(t, `{"_max_messages_post_size": 10}`)}, post(10, plain), []domain.Event{posted(7, 1, domain.PostedMessage{TTL: 3600})}, ""},
		"more messages than places of an event": {there, post(9, make([]domain.NewMessage, domain.MaxPostedMessages+1)...), nil, domain.Invalid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			events, err := queueAfter(test.given...).Post(test.post, limits, domain.Moment{Position: 7})
			expect(t, events, err, test.then, test.refused)
		})
	}
}

// Where the operator has delays count on any queue, a queue without one is as a delayed one.
func TestPostWithADelayOnAnyQueue(t *testing.T) {
	everywhere := limits
	everywhere.DelayOnAnyQueue = true
	for name, test := range map[string]struct {
		metadata, delay string
		atOnce          bool
		then            int
		refused         domain.Code
	}{
		"a queue without a delay":         {`{}`, `5`, false, 5, ""},
		"the longest":                     {`{}`, `900`, false, 900, ""},
		"none":                            {`{}`, `0`, false, 0, ""},
		"a message that does not say":     {`{}`, ``, false, 0, ""},
		"a delayed queue":                 {`{"_default_message_delay": 30}`, `5`, false, 5, ""},
		"and a message that does not say": {`{"_default_message_delay": 30}`, ``, false, 30, ""},
		"what is posted at once":          {`{}`, `"nonsense"`, true, 0, ""},
		"too long":                        {`{}`, `901`, false, 0, domain.Invalid},
		"negative":                        {`{}`, `-1`, false, 0, domain.Invalid},
		"no number":                       {`{}`, `"5"`, false, 0, domain.Invalid},
		"null":                            {`{}`, `null`, false, 0, domain.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			m := domain.NewMessage{Body: `1`}
			if test.delay != "" {
				m.Delay = json.RawMessage(test.delay)
			}
			post := domain.Post{Queue: orders, Client: "c", Messages: []domain.NewMessage{m}, Size: 9, Salts: []uint64{0}, AtOnce: test.atOnce}
			events, err := queueAfter(created(t, test.metadata)).Post(post, everywhere, domain.Moment{Position: 7})
			var then []domain.Event
			if test.refused == "" {
				then = []domain.Event{domain.MessagesPosted{Project: "p1", Queue: "orders", Number: 1, Client: "c", Messages: []domain.PostedMessage{
					{ID: domain.NewMessageID(domain.PlaceOf(7, 0), 0), TTL: 3600, Delay: test.then, Body: `1`},
				}}}
			}
			expect(t, events, err, then, test.refused)
		})
	}
}

// Nothing is recorded of nothing, nor of a queue that is not there.
func TestWhatTakesNoMessageRecordsNothing(t *testing.T) {
	there, now := queueAfter(created(t, `{}`)), time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	some := []domain.Message{{ID: domain.NewMessageID(domain.PlaceOf(2, 0), 9), Place: domain.PlaceOf(2, 0), QueueNumber: 1}}
	for name, events := range map[string][]domain.Event{
		"no message is deleted":       there.DeleteMessages(orders, nil, now),
		"no message is popped":        there.Pop(orders, nil),
		"one of no queue is deleted":  domain.Queue{}.DeleteMessages(orders, some, now),
		"one of no queue is popped":   domain.Queue{}.Pop(orders, some),
		"a queue that is not emptied": domain.Queue{}.Purge(orders),
	} {
		if len(events) > 0 {
			t.Errorf("%s: %v", name, events)
		}
	}
	if len(there.DeleteMessages(orders, some, now)) != 1 || len(there.Pop(orders, some)) != 1 {
		t.Error("one that is there cannot be taken")
	}
}

func TestMessageTTL(t *testing.T) {
	for ttl, allowed := range map[int64]bool{59: false, 60: true, 1209600: true, 1209601: false} {
		if err := domain.CheckMessageTTL(ttl, limits); (err == nil) != allowed {
			t.Errorf("%d: %v", ttl, err)
		}
	}
}

func TestDeleteMessage(t *testing.T) {
	there := queueAfter(created(t, `{}`))
	now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	mine, other := uuid.New(), uuid.New()
	free := domain.Message{ID: domain.NewMessageID(domain.PlaceOf(2, 0), 9), Place: domain.PlaceOf(2, 0), QueueNumber: 1}
	held, lapsed := free, free
	held.Claim, held.ClaimEnds = mine, now.Add(time.Microsecond)
	lapsed.Claim, lapsed.ClaimEnds = mine, now
	gone := func(claim *domain.ClaimID) []domain.Event {
		return []domain.Event{domain.MessagesDeleted{
			Project: "p1", Queue: "orders", Number: 1, Messages: []domain.DeletedMessage{{ID: free.ID, Place: free.Place, Claim: claim}},
		}}
	}
	live := func(id domain.ClaimID) domain.NamedClaim { return domain.NamedClaim{Given: true, ID: id, Live: true} }
	dead := func(id domain.ClaimID) domain.NamedClaim { return domain.NamedClaim{Given: true, ID: id} }
	none, malformed := domain.NamedClaim{}, domain.NamedClaim{Given: true}
	tests := map[string]struct {
		message *domain.Message
		named   domain.NamedClaim
		then    []domain.Event
		refused domain.Code
	}{
		"free, no claim named":               {&free, none, gone(nil), ""},
		"absent":                             {nil, none, nil, ""},
		"absent, whatever the claim":         {nil, malformed, nil, ""},
		"free, a live claim of others":       {&free, live(other), nil, domain.NotHeld},
		"free, an unknown claim":             {&free, dead(other), nil, domain.NotHeld},
		"free, no id":                        {&free, malformed, nil, domain.NotHeld},
		"free again, the claim that is over": {&lapsed, dead(mine), nil, domain.NotHeld},
		"free again, no claim named":         {&lapsed, none, gone(nil), ""},
		"held, no claim named":               {&held, none, nil, domain.HeldByOther},
		"held, its claim":                    {&held, live(mine), gone(&mine), ""},
		"held, another live claim":           {&held, live(other), nil, domain.HeldByOther},
		"held, an unknown claim":             {&held, dead(other), nil, domain.NotHeld},
		"held, no id":                        {&held, malformed, nil, domain.NotHeld},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			events, err := there.DeleteOne(orders, test.message, test.named, now)
			expect(t, events, err, test.then, test.refused)
		})
	}
}
