package domain_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"nabu/domain"
)

var (
	claimed = uuid.MustParse("0199b9a0-6d7a-7c31-9a53-0242ac120002")
	noon    = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// message is a free one at a place, that lives for some seconds from noon on.
func message(index, lives, claims int) domain.Message {
	place := domain.PlaceOf(2, index)
	return domain.Message{
		ID: domain.NewMessageID(place, 9), Place: place, QueueNumber: 1, Client: "c", TTL: 60, ClaimCount: claims,
		Created: noon.Add(-time.Minute), Expires: noon.Add(time.Duration(lives) * time.Second), Body: `1`,
	}
}

func at(m domain.Message) domain.MessageAt { return domain.MessageAt{ID: m.ID, Place: m.Place} }

// claimedEvent is what a claim of 100 seconds and a grace of 70 records.
func claimedEvent(counted bool, extended bool, messages ...domain.Message) domain.Event {
	e := domain.MessagesClaimed{Project: "p1", Queue: "orders", Number: 1, Claim: claimed, TTL: 100, Grace: 70, Counted: counted}
	for _, m := range messages {
		e.Messages = append(e.Messages, domain.ClaimedMessage{ID: m.ID, Place: m.Place, Extended: extended})
	}
	return e
}

func TestClaim(t *testing.T) {
	plain, strict := created(t, `{}`), created(t, `{"_max_claim_count": 2, "_dead_letter_queue": "dead"}`)
	lasting := created(t, `{"_max_claim_count": 2, "_dead_letter_queue": "dead", "_dead_letter_queue_messages_ttl": 600}`)
	itself := created(t, `{"_max_claim_count": 2, "_dead_letter_queue": "orders"}`)
	a, b, c, fresh := message(0, 500, 0), message(1, 500, 0), message(2, 500, 0), message(3, 500, 1)
	short, exact, between := message(0, 99, 0), message(0, 100, 0), message(0, 169, 0)
	worn := message(0, 500, 2)
	unread := worn
	unread.Body = ""
	out := func(to string) domain.Event {
		return domain.MessagesMovedOut{Project: "p1", Queue: "orders", Number: 1, To: to, Messages: []domain.MessageAt{at(worn)}}
	}
	in := func(queue string, number int64, ttl, lives int) domain.Event {
		return domain.MessagesMovedIn{Project: "p1", Queue: queue, Number: number, From: "orders", Messages: []domain.MovedMessage{{
			ID: worn.ID, From: worn.Place, Client: "c", TTL: ttl, Created: worn.Created,
			Expires: noon.Add(time.Duration(lives) * time.Second), Body: `1`,
		}}}
	}
	deadCreated := domain.QueueCreated{Project: "p1", Name: "dead"}
	tests := map[string]struct {
		queue domain.Event
		free  []domain.Message
		dead  domain.Queue
		limit int
		then  []domain.Event
	}{
		"nothing is free":                       {plain, nil, domain.Queue{}, 2, nil},
		"the oldest, up to the limit":           {plain, []domain.Message{a, b, c}, domain.Queue{}, 2, []domain.Event{claimedEvent(false, false, a, b)}},
		"as many as there are":                  {plain, []domain.Message{a}, domain.Queue{}, 2, []domain.Event{claimedEvent(false, false, a)}},
		"one that ends before the claim":        {plain, []domain.Message{short}, domain.Queue{}, 2, []domain.Event{claimedEvent(false, true, short)}},
		"one that ends with the claim":          {plain, []domain.Message{exact}, domain.Queue{}, 2, []domain.Event{claimedEvent(false, false, exact)}},
		"one that ends in the grace":            {plain, []domain.Message{between}, domain.Queue{}, 2, []domain.Event{claimedEvent(false, false, between)}},
		"counts matter only with a rule":        {plain, []domain.Message{worn}, domain.Queue{}, 2, []domain.Event{claimedEvent(false, false, worn)}},
		"one claim less than too many":          {strict, []domain.Message{fresh}, domain.Queue{}, 2, []domain.Event{claimedEvent(true, false, fresh)}},
		"claimed too often, to a new queue":     {strict, []domain.Message{worn}, domain.Queue{}, 2, []domain.Event{deadCreated, out("dead"), in("dead", 7, 60, 500)}},
		"claimed too often, to a known queue":   {strict, []domain.Message{worn}, domain.Queue{Number: 5}, 2, []domain.Event{out("dead"), in("dead", 5, 60, 500)}},
		"with a life of its own there":          {lasting, []domain.Message{worn}, domain.Queue{Number: 5}, 2, []domain.Event{out("dead"), in("dead", 5, 600, 600)}},
		"to the end of the same queue":          {itself, []domain.Message{worn}, domain.Queue{Number: 1}, 2, []domain.Event{out("orders"), in("orders", 1, 60, 500)}},
		"others take its place":                 {strict, []domain.Message{worn, b, c}, domain.Queue{Number: 5}, 2, []domain.Event{out("dead"), in("dead", 5, 60, 500), claimedEvent(true, false, b, c)}},
		"one whose body was not read is passed": {strict, []domain.Message{a, unread, c}, domain.Queue{Number: 5}, 2, []domain.Event{claimedEvent(true, false, a, c)}},
		"a limit that was reached ends it, too": {strict, []domain.Message{a, worn}, domain.Queue{Number: 5}, 1, []domain.Event{claimedEvent(true, false, a)}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ask := domain.Claiming{Claim: claimed, Life: domain.ClaimLife{TTL: 100, Grace: 70}, Limit: test.limit}
			taken, events := queueAfter(test.queue).Claim(orders, ask, test.free, test.dead, domain.Moment{Position: 7, Time: noon})
			expect(t, events, nil, test.then, "")
			var held domain.MessagesClaimed
			if n := len(events); n > 0 {
				held, _ = events[n-1].(domain.MessagesClaimed)
			}
			if len(taken) != len(held.Messages) {
				t.Fatalf("%d messages were taken, and the event has %d", len(taken), len(held.Messages))
			}
			for i, m := range taken {
				if m.ID != held.Messages[i].ID || m.Holder(noon.Add(99*time.Second)) != claimed || m.Holder(noon.Add(100*time.Second)) != (domain.ClaimID{}) {
					t.Errorf("%s, in the event %s, is held until %v", m.ID, held.Messages[i].ID, m.ClaimEnds)
				}
				before := test.free[slices.IndexFunc(test.free, func(free domain.Message) bool { return free.ID == m.ID })]
				if counted := m.ClaimCount > before.ClaimCount; counted != held.Counted {
					t.Errorf("%s was claimed %d times, and before %d times", m.ID, m.ClaimCount, before.ClaimCount)
				}
			}
		})
	}
}

func TestAClaimMovesNoMoreThanItMay(t *testing.T) {
	var free []domain.Message
	for i := range domain.MaxDeadLetters + 5 {
		free = append(free, message(i, 500, 1))
	}
	q := queueAfter(created(t, `{"_max_claim_count": 1, "_dead_letter_queue": "dead"}`))
	_, events := q.Claim(orders, domain.Claiming{Life: domain.ClaimLife{TTL: 60, Grace: 60}, Limit: 1},
		append(free, message(999, 500, 0)), domain.Queue{Number: 5}, domain.Moment{Position: 7, Time: noon})
	if len(events) != 2 || len(events[0].(domain.MessagesMovedOut).Messages) != domain.MaxDeadLetters {
		t.Fatalf("%d events", len(events))
	}
}

func TestRenewAndRelease(t *testing.T) {
	there := queueAfter(created(t, `{}`))
	a, short := message(0, 500, 0), message(1, 99, 0)
	claim := &domain.Claim{ID: claimed, Messages: []domain.Message{a, short}}
	life := domain.ClaimLife{TTL: 100, Grace: 70}
	moment := domain.Moment{Position: 7, Time: noon}

	events, err := there.Renew(orders, claim, life, moment)
	expect(t, events, err, []domain.Event{domain.ClaimRenewed{
		Project: "p1", Queue: "orders", Number: 1, Claim: claimed, TTL: 100, Grace: 70,
		Messages: []domain.ClaimedMessage{{ID: a.ID, Place: a.Place}, {ID: short.ID, Place: short.Place, Extended: true}},
	}}, "")
	events, err = there.Renew(orders, nil, life, moment)
	expect(t, events, err, nil, domain.NotFound)

	expect(t, there.Release(orders, claim), nil, []domain.Event{domain.ClaimReleased{
		Project: "p1", Queue: "orders", Number: 1, Claim: claimed, Messages: []domain.MessageAt{at(a), at(short)},
	}}, "")
	expect(t, there.Release(orders, nil), nil, nil, "")

	for life, refused := range map[domain.ClaimLife]bool{
		{TTL: 60, Grace: 60}: false, {TTL: 43200, Grace: 43200}: false,
		{TTL: 59, Grace: 60}: true, {TTL: 43201, Grace: 60}: true, {TTL: 60, Grace: 59}: true, {TTL: 60, Grace: 43201}: true,
	} {
		if err := life.Check(limits); (err != nil) != refused {
			t.Errorf("%+v: %v", life, err)
		}
	}
}

func TestSweep(t *testing.T) {
	q := queueAfter(created(t, `{}`), domain.QueuePurged{Project: "p1", Name: "orders", Number: 1})
	swept := func(change func(*domain.MessagesSwept)) []domain.Event {
		e := domain.MessagesSwept{Project: "p1", Queue: "orders", Number: 1}
		change(&e)
		return []domain.Event{e}
	}
	far := domain.PlaceOf(100, 0)
	tests := map[string]struct {
		found domain.Sweepable
		then  []domain.Event
	}{
		"nothing": {domain.Sweepable{}, nil},
		"expired": {domain.Sweepable{Expired: []domain.PlaceRange{{First: 3, Last: far}}}, swept(func(e *domain.MessagesSwept) {
			e.Expired = []domain.PlaceRange{{First: 3, Last: far}}
		})},
		"a part of what was purged": {domain.Sweepable{Upto: 12}, swept(func(e *domain.MessagesSwept) { e.Upto = 12 })},
		"all of what was purged": {domain.Sweepable{Upto: 12, Clean: true}, swept(func(e *domain.MessagesSwept) {
			e.Upto, e.Clean = q.Purged, true
		})},
		"a purge of an empty queue":     {domain.Sweepable{Clean: true}, swept(func(e *domain.MessagesSwept) { e.Upto, e.Clean = q.Purged, true })},
		"claims":                        {domain.Sweepable{Claims: []domain.ClaimID{claimed}, Lowest: 5}, swept(func(e *domain.MessagesSwept) { e.Claims, e.Lowest = []domain.ClaimID{claimed}, 5 })},
		"a count":                       {domain.Sweepable{Counted: far}, swept(func(e *domain.MessagesSwept) { e.Counted, e.CountedAfter = far, q.Purged })},
		"a count that a purge overtook": {domain.Sweepable{Counted: far, Purged: 1}, nil},
		"a deleted queue":               {domain.Sweepable{Deleted: true, Upto: far}, swept(func(e *domain.MessagesSwept) { e.Upto = far })},
		"the last of a deleted queue":   {domain.Sweepable{Deleted: true, Empty: true}, swept(func(e *domain.MessagesSwept) { e.Over = true })},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.found.Queue, test.found.Number = orders, 1
			if test.found.Purged == 0 {
				test.found.Purged = q.Purged
			}
			if diff := cmp.Diff(test.then, q.Sweep(test.found)); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}
