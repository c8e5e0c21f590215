package projections_test

import (
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/projections"
)

// history is all that was recorded in the house's project.
func (h *house) history() []eventstore.RecordedEvent {
	h.Helper()
	return slices.DeleteFunc(h.all(), func(e eventstore.RecordedEvent) bool { return e.Origin.Project != h.project })
}

// all is all that was recorded in the house's ledger.
func (h *house) all() (history []eventstore.RecordedEvent) {
	h.Helper()
	for e, err := range eventstore.ReadAll(h.Context(), h.db, h.from, 1<<62) {
		if err != nil {
			h.Fatal(err)
		}
		history = append(history, e)
	}
	return history
}

// index lets the message index follow the history as its consumer does, in slices.
func (h *house) index(history []eventstore.RecordedEvent, size int) {
	h.Helper()
	at := int64(0)
	if err := h.db.QueryRow(`SELECT position FROM ledger.consumers WHERE name = 'message-index'`).Scan(&at); err != nil {
		h.Fatal(err)
	}
	wanted := slices.DeleteFunc(slices.Clone(history), func(e eventstore.RecordedEvent) bool {
		return e.Position <= at || !slices.Contains(projections.MessageIndexTypes, e.Event.EventType())
	})
	for part := range slices.Chunk(wanted, size) {
		slice := eventstore.Slice{Consumer: "message-index", From: at, To: part[len(part)-1].Position, Events: part}
		if err := projections.MessageIndex.Follow(h.Context(), h.db, slice); err != nil {
			h.Fatal(err)
		}
		if err := projections.MessageIndex.Follow(h.Context(), h.db, slice); !errors.Is(err, eventstore.ErrMoved) {
			h.Fatalf("the same slice again: %v", err)
		}
		at = slice.To
	}
}

func newIndexedHouse(t *testing.T) *house {
	h := newHouse(t)
	if _, err := h.db.Exec(`INSERT INTO ledger.consumers VALUES ('message-index', 0, now())`); err != nil {
		t.Fatal(err)
	}
	return h
}

// story is the positions of a message's story behind that of the house's beginning.
func (h *house) story(id domain.MessageID) []int64 {
	h.Helper()
	story, err := h.views.MessageStory(h.Context(), id)
	if err != nil {
		h.Fatal(err)
	}
	return positionsOf(story)
}

func positionsOf(events []eventstore.RecordedEvent) []int64 {
	positions := []int64{}
	for _, e := range events {
		positions = append(positions, e.Position)
	}
	return positions
}

// TestTheStoryOfAMessage: from its posting to what took its row away, through another
// queue if it was moved.
func TestTheStoryOfAMessage(t *testing.T) {
	t.Parallel()
	h := newIndexedHouse(t)
	h.create("a", `{"_max_claim_count": 1, "_dead_letter_queue": "b"}`)
	moved := h.post("a", "c", plain(`1`))[0]
	claim := func(queue string) domain.ClaimID {
		id := uuid.New()
		run(h, commands.ClaimMessages{Queue: h.id(queue), Claiming: domain.Claiming{
			Claim: id, Life: domain.ClaimLife{TTL: 60, Grace: 60}, Limit: 5,
		}})
		return id
	}
	first := claim("a")
	run(h, commands.ReleaseClaim{Queue: h.id("a"), Claim: first})
	claim("a") // the second time is once too often
	purged := h.post("b", "c", plain(`2`))[0]
	claim("b")
	run(h, commands.PurgeQueue{Queue: h.id("b"), Messages: true})
	h.post("b", "c", plain(`3`))
	(&walk{house: h}).sweep()
	run(h, commands.DeleteQueue{Queue: h.id("b")})
	history := h.history()
	types := func(id domain.MessageID) (types []string) {
		story, err := h.views.MessageStory(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range story {
			types = append(types, e.Event.EventType())
		}
		return types
	}
	if diff := cmp.Diff([]string{"messages.posted.v1"}, types(moved)); diff != "" {
		t.Errorf("before the index knows (-want +got):\n%s", diff)
	}
	h.index(history, 100)
	if diff := cmp.Diff([]string{
		"messages.posted.v1", "messages.claimed.v1", "claim.released.v1", "messages.moved-out.v1", "messages.moved-in.v1",
		"messages.claimed.v1", "queue.purged.v1", "messages.swept.v1",
	}, types(moved)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"messages.posted.v1", "messages.claimed.v1", "queue.purged.v1", "messages.swept.v1"}, types(purged)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, id := range map[string]domain.MessageID{
		"another salt":     domain.NewMessageID(domain.PostingPlace(moved), 1),
		"no message there": domain.NewMessageID(domain.PlaceOf(1, 0), 1),
		"behind the head":  domain.NewMessageID(domain.PlaceOf(1<<40, 0), 1),
	} {
		_, err := h.views.MessageStory(t.Context(), id)
		if refused, ok := errors.AsType[*domain.Error](err); !ok || refused.Code != domain.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// follow is the next events that the consumer of an index gets which begins behind h.from.
func (h *house) follow(events int) (got []eventstore.RecordedEvent) {
	consumer := uuid.NewString()
	if _, err := h.db.Exec(`INSERT INTO ledger.consumers VALUES ($1, $2, now())`, consumer, h.from); err != nil {
		h.Fatal(err)
	}
	feed := eventstore.NewFeed(eventstore.FeedConfig{
		DB: h.direct, Log: slog.New(slog.DiscardHandler), Recent: h.recent, MaxEvents: 20,
		Types: map[string][]string{consumer: projections.MessageIndexTypes},
	})
	defer func() { _ = feed.Close() }()
	messages, err := feed.Subscribe(h.Context(), consumer)
	if err != nil {
		h.Fatal(err)
	}
	for len(got) < events {
		select {
		case msg := <-messages:
			slice, _ := eventstore.SliceOf(msg)
			got = append(got, slice.Events...)
			msg.Ack()
		case <-time.After(20 * time.Second):
			h.Fatalf("of %d events %d are delivered", events, len(got))
		}
	}
	return got
}

// TestStoriesAreWholeWhateverHappens compares the index with a plain walk through a random
// history, and what is stored of that with what a consumer is given as it was decided, without
// being read back.
func TestStoriesAreWholeWhateverHappens(t *testing.T) {
	t.Parallel()
	h := newIndexedHouse(t)
	rapid.Check(t, func(rt *rapid.T) {
		h.project = uuid.NewString()
		if err := h.db.QueryRow(`SELECT coalesce(max(position), 0) FROM ledger.events`).Scan(&h.from); err != nil {
			rt.Fatal(err)
		}
		w := walk{house: h, T: rt}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			h.now = h.now.Add(time.Duration(rapid.IntRange(0, 90).Draw(rt, "seconds"))*time.Second + time.Millisecond)
			w.step()
		}
		stored := slices.DeleteFunc(h.all(), func(e eventstore.RecordedEvent) bool {
			return !slices.Contains(projections.MessageIndexTypes, e.Event.EventType())
		})
		if diff := cmp.Diff(stored, h.follow(len(stored)), cmpopts.EquateEmpty()); diff != "" {
			rt.Fatalf("(-stored +kept):\n%s", diff)
		}
		history := h.history()
		h.index(history, rapid.IntRange(1, 9).Draw(rt, "slice"))
		for _, id := range w.posted {
			if diff := cmp.Diff(told(history, id), h.story(id)); diff != "" {
				rt.Fatalf("message %s (-walk +story):\n%s", id, diff)
			}
		}
	})
}

// told is the story of a message as a walk through the history tells it.
func told(history []eventstore.RecordedEvent, id domain.MessageID) []int64 {
	var (
		story       []int64
		queue       int64
		place       domain.Place
		expires     time.Time
		there, gone bool // there: it has a row. gone: nobody can see it
	)
	arrive := func(at int64, i int, number int64, end time.Time) {
		queue, place, expires, there, gone = number, domain.PlaceOf(at, i), end, true, false
	}
	for _, recorded := range history {
		named, ends := false, false
		at := recorded.RecordedAt
		hold := func(messages []domain.ClaimedMessage, seconds int) {
			for _, m := range messages {
				if m.ID == id {
					named = true
					if m.Extended {
						expires = at.Add(time.Duration(seconds) * time.Second)
					}
				}
			}
		}
		among := func(messages []domain.MessageAt) bool {
			return slices.ContainsFunc(messages, func(m domain.MessageAt) bool { return m.ID == id })
		}
		switch e := recorded.Event.(type) {
		case domain.MessagesPosted:
			for i, m := range e.Messages {
				if m.ID == id {
					named = true
					arrive(recorded.Position, i, e.Number, at.Add(time.Duration(m.TTL)*time.Second))
				}
			}
		case domain.MessagesMovedIn:
			for i, m := range e.Messages {
				if m.ID == id {
					named = true
					arrive(recorded.Position, i, e.Number, m.Expires)
				}
			}
		case domain.MessagesClaimed:
			hold(e.Messages, e.TTL+e.Grace)
		case domain.ClaimRenewed:
			hold(e.Messages, e.TTL+e.Grace)
		case domain.ClaimReleased:
			named = among(e.Messages)
		case domain.MessagesPopped:
			named = among(e.Messages)
			ends = named
		case domain.MessagesMovedOut:
			named = among(e.Messages)
			ends = named
		case domain.MessagesDeleted:
			named = slices.ContainsFunc(e.Messages, func(m domain.DeletedMessage) bool { return m.ID == id })
			ends = named
		case domain.QueuePurged:
			named = there && !gone && e.Number == queue
			gone = gone || named
		case domain.QueueDeleted:
			named = there && !gone && e.Number == queue
			gone = gone || named
		case domain.MessagesSwept:
			named = there && e.Number == queue && (place <= e.Upto || slices.ContainsFunc(e.Expired, func(r domain.PlaceRange) bool {
				return r.First <= place && place <= r.Last && !at.Before(expires)
			}))
			ends = named
		}
		if named {
			story = append(story, recorded.Position)
		}
		there = there && !ends
	}
	return story
}

// TestDeliveriesAreInTheStory: a report on deliveries concerns each message that it names, once
// however often it was tried; and what an index was made of before is in it when its consumer
// is set back.
func TestDeliveriesAreInTheStory(t *testing.T) {
	t.Parallel()
	h := newIndexedHouse(t)
	subscription := run(h, commands.Subscribe{
		NewSubscription: domain.NewSubscription{Queue: h.id("q"), Subscriber: "http://a", TTL: 60, Salt: 1},
		Rules:           domain.SubscriptionRules{Types: domain.SubscriberTypes},
	})
	ids := h.post("q", "c", plain(`1`), plain(`2`), plain(`3`))
	version := int64(1)
	report := func(attempts ...domain.DeliveryAttempt) int64 {
		t.Helper()
		for i := range attempts {
			attempts[i].Place = domain.PostingPlace(attempts[i].Message)
		}
		if got := run(h, commands.ReportDeliveries{Queue: h.id("q"), Reports: []commands.DeliveryReport{{
			Subscription: subscription, Version: version, Cursor: domain.PostingPlace(ids[1]), Attempts: attempts,
		}}}); got[0] != version+1 {
			t.Fatalf("a report was refused: %v", got)
		}
		version++
		history := h.all()
		return history[len(history)-1].Position
	}
	tried := report(
		domain.DeliveryAttempt{Message: ids[0], Number: 1, Outcome: domain.DeliveryDelivered},
		domain.DeliveryAttempt{Message: ids[1], Number: 1, Outcome: domain.DeliveryRetry, Due: h.now},
		domain.DeliveryAttempt{Message: ids[1], Number: 2, Outcome: domain.DeliveryRetry, Due: h.now},
	)
	again := report(domain.DeliveryAttempt{Message: ids[1], Number: 3, Outcome: domain.DeliveryDelivered})
	posted, _ := domain.PostingPlace(ids[0]).Parts()
	expect := func(when string) {
		t.Helper()
		for i, want := range [][]int64{{posted, tried}, {posted, tried, again}, {posted}} {
			if diff := cmp.Diff(want, h.story(ids[i])); diff != "" {
				t.Errorf("%s, message %d (-want +got):\n%s", when, i+1, diff)
			}
		}
	}
	h.index(h.all(), 100)
	expect("at once")
	if _, err := h.db.Exec(`UPDATE ledger.consumers SET position = 0 WHERE name = 'message-index'`); err != nil {
		t.Fatal(err)
	}
	h.index(h.all(), 1)
	expect("when its consumer was set back")
}

// TestTheMessageIndexIsRebuilt: a check compares it up to its checkpoint, and a rebuild
// makes all of it and moves the checkpoint, so that its consumer goes on behind it.
func TestTheMessageIndexIsRebuilt(t *testing.T) {
	t.Parallel()
	h := newIndexedHouse(t)
	index := []projections.Projection{projections.MessageIndex}
	check := func() (found []string) {
		t.Helper()
		if err := (projections.Checking{DB: h.direct, Projections: index, Found: func(d projections.Difference) error {
			found = append(found, d.Table)
			return nil
		}}).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		return found
	}
	h.create("a", `{}`)
	first, second := h.post("a", "c", plain(`1`))[0], h.post("a", "c", plain(`2`))[0]
	run(h, commands.DeleteMessage{Queue: h.id("a"), ID: first})
	h.index(h.all(), 100)
	run(h, commands.DeleteMessage{Queue: h.id("a"), ID: second})
	if found := check(); found != nil {
		t.Errorf("behind the ledger, a check finds %v", found)
	}
	if _, err := h.db.Exec(`DELETE FROM live.message_events`); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"message_events"}, check()); diff != "" {
		t.Errorf("with a row taken away (-want +got):\n%s", diff)
	}
	late := h.all()
	if err := (projections.Rebuilding{DB: h.direct, Projections: index}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found := check(); found != nil {
		t.Errorf("after a rebuild, a check finds %v", found)
	}
	for _, id := range []domain.MessageID{first, second} {
		if story := h.story(id); len(story) != 2 {
			t.Errorf("after a rebuild, the story of %s is %v", id, story)
		}
	}
	slice := eventstore.Slice{Consumer: "message-index", From: late[len(late)-2].Position, To: late[len(late)-1].Position, Events: late[len(late)-1:]}
	if err := projections.MessageIndex.Follow(t.Context(), h.db, slice); !errors.Is(err, eventstore.ErrMoved) {
		t.Errorf("a slice that the rebuild has folded: %v", err)
	}
	h.post("a", "c", plain(`3`))
	h.index(h.all(), 100)
	if found := check(); found != nil {
		t.Errorf("after it has followed on, a check finds %v", found)
	}
	// An operator sets the consumer back: some of the next slice is there, some is not, and it
	// is of two stretches.
	for range 150 {
		run(h, commands.DeleteMessage{Queue: h.id("a"), ID: h.post("a", "c", plain(`4`))[0]})
	}
	h.index(h.all(), 1000)
	third := h.post("a", "c", plain(`5`))[0]
	if _, err := h.db.Exec(`UPDATE ledger.consumers SET position = 0 WHERE name = 'message-index'`); err != nil {
		t.Fatal(err)
	}
	run(h, commands.DeleteMessage{Queue: h.id("a"), ID: third})
	h.index(h.all(), 1000)
	if found := check(); found != nil {
		t.Errorf("after it was set back, a check finds %v", found)
	}
	if story := h.story(third); len(story) != 2 {
		t.Errorf("after it was set back, a story is %v", story)
	}
}
