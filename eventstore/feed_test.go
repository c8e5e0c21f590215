package eventstore_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/eventually"
	"nabu/internal/pgtest"
	"nabu/internal/postgres"
)

// atLast is how long a test waits for what must come.
const atLast = 20 * time.Second

// newFeed makes a feed that is in a hurry.
func newFeed(t testing.TB, db *sql.DB, change ...func(*eventstore.FeedConfig)) *eventstore.Feed {
	t.Helper()
	cfg := eventstore.FeedConfig{
		DB: db, Log: slog.New(slog.DiscardHandler),
		Poll: 5 * time.Millisecond, MaxPause: 5 * time.Millisecond, Drain: 10 * time.Millisecond,
	}
	for _, c := range change {
		c(&cfg)
	}
	f := eventstore.NewFeed(cfg)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// oneByOne lets each message carry one event.
func oneByOne(cfg *eventstore.FeedConfig) { cfg.MaxEvents = 1 }

func subscribe(t testing.TB, f *eventstore.Feed, consumer string) <-chan *message.Message {
	t.Helper()
	messages, err := f.Subscribe(t.Context(), consumer)
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

// next is the next message and its slice, which must be what its payload says.
func next(t testing.TB, messages <-chan *message.Message) (*message.Message, eventstore.Slice) {
	t.Helper()
	select {
	case msg, open := <-messages:
		if !open {
			t.Fatal("the feed has ended")
		}
		return msg, sliceOf(t, msg)
	case <-time.After(atLast):
		t.Fatal("nothing is delivered")
	}
	return nil, eventstore.Slice{}
}

func sliceOf(t testing.TB, msg *message.Message) eventstore.Slice {
	t.Helper()
	slice, ok := eventstore.SliceOf(msg)
	if !ok {
		t.Fatal("a message without a slice")
	}
	if want := fmt.Sprintf(`{"consumer":%q,"from":%d,"to":%d}`, slice.Consumer, slice.From, slice.To); string(msg.Payload) != want {
		t.Errorf("payload %s, want %s", msg.Payload, want)
	}
	for i, e := range slice.Events {
		if e.Position != slice.From+int64(i)+1 {
			t.Errorf("event %d of the slice from %d has position %d", i, slice.From, e.Position)
		}
	}
	if slice.To != slice.From+int64(len(slice.Events)) || slice.To == slice.From {
		t.Errorf("a slice from %d to %d with %d events", slice.From, slice.To, len(slice.Events))
	}
	return slice
}

// wantNext takes the next slice, which must have these bounds, and acknowledges it.
func wantNext(t testing.TB, messages <-chan *message.Message, from, to int64) {
	t.Helper()
	msg, slice := next(t, messages)
	if slice.From != from || slice.To != to {
		t.Errorf("slice from %d to %d, want %d to %d", slice.From, slice.To, from, to)
	}
	msg.Ack()
}

func wantEnd(t testing.TB, messages <-chan *message.Message) {
	t.Helper()
	select {
	case msg, open := <-messages:
		if open {
			t.Fatalf("%s is delivered after the end", msg.UUID)
		}
	case <-time.After(atLast):
		t.Fatal("the feed does not end")
	}
}

// appendEvents writes events in one batch.
func appendEvents(t testing.TB, db *sql.DB, n int) eventstore.Head {
	t.Helper()
	var events []domain.Event
	for range n {
		events = append(events, posted("a", `1`))
	}
	head, err := appendAlone(t.Context(), db, events...)
	if err != nil {
		t.Fatal(err)
	}
	return head
}

func checkpoint(t testing.TB, db *sql.DB, consumer string) (position int64) {
	t.Helper()
	if err := db.QueryRow(`SELECT position FROM ledger.consumers WHERE name = $1`, consumer).Scan(&position); err != nil {
		t.Fatal(err)
	}
	return position
}

func TestAFeedGoesOnFromItsCheckpoint(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t).DB()
	appendEvents(t, db, 3)
	f := newFeed(t, db, oneByOne)
	messages := subscribe(t, f, "notifier")
	wantNext(t, messages, 0, 1)
	if _, slice := next(t, messages); slice.From != 1 { // nobody answers
		t.Errorf("the second slice is from %d", slice.From)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, messages)
	if at := checkpoint(t, db, "notifier"); at != 1 {
		t.Errorf("the checkpoint is %d", at)
	}
	if _, err := f.Subscribe(t.Context(), "notifier"); !errors.Is(err, eventstore.ErrFeedClosed) {
		t.Errorf("subscribe after the end: %v", err)
	}
	messages = subscribe(t, newFeed(t, db), "notifier")
	wantNext(t, messages, 1, 3)
	appendEvents(t, db, 1)
	wantNext(t, messages, 3, 4)
	wantNext(t, subscribe(t, newFeed(t, db), "another"), 0, 4)
}

func TestNackBringsTheSameSliceAgain(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t).DB()
	appendEvents(t, db, 2)
	messages := subscribe(t, newFeed(t, db), "notifier")
	for range 3 {
		msg, slice := next(t, messages)
		if slice.From != 0 || slice.To != 2 {
			t.Errorf("slice from %d to %d", slice.From, slice.To)
		}
		appendEvents(t, db, 1)
		msg.Nack()
		<-msg.Context().Done()
	}
	wantNext(t, messages, 0, 2)
	wantNext(t, messages, 2, 5)
}

func TestSomebodyElseMovesTheCheckpoint(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t).DB()
	appendEvents(t, db, 10)
	messages := subscribe(t, newFeed(t, db, oneByOne), "index")
	move := func(from, to int64) {
		t.Helper()
		if err := eventstore.MoveCheckpoint(t.Context(), db, "index", from, to); err != nil {
			t.Fatal(err)
		}
	}
	msg, _ := next(t, messages) // a handler writes it with what it does
	move(0, 1)
	msg.Ack()
	msg, _ = next(t, messages) // a handler fails after it has written it
	move(1, 2)
	msg.Nack()
	msg, _ = next(t, messages) // another reader was faster
	move(2, 6)
	msg.Ack()
	msg, _ = next(t, messages) // an operator sends it back
	move(6, 5)
	msg.Ack()
	wantNext(t, messages, 5, 6)
	for at := range int64(4) {
		wantNext(t, messages, 6+at, 7+at)
	}
	eventually.Holds(t, "all is written down", func() bool { return checkpoint(t, db, "index") == 10 })
	move(10, 9) // while the feed is idle
	wantNext(t, messages, 9, 10)
	if _, err := db.Exec(`DELETE FROM ledger.consumers`); err != nil {
		t.Fatal(err)
	}
	wantNext(t, messages, 0, 1) // it begins anew
}

func TestMoveCheckpointIsPartOfItsTransaction(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t).DB()
	wantMoved := func(err error) {
		t.Helper()
		if !errors.Is(err, eventstore.ErrMoved) {
			t.Errorf("want ErrMoved, got %v", err)
		}
	}
	wantMoved(eventstore.MoveCheckpoint(t.Context(), db, "index", 0, 1))
	subscribe(t, newFeed(t, db), "index")
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := eventstore.MoveCheckpoint(t.Context(), tx, "index", 0, 5); err != nil {
		t.Error(err)
	}
	wantMoved(eventstore.MoveCheckpoint(t.Context(), tx, "index", 0, 5))
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if at := checkpoint(t, db, "index"); at != 0 {
		t.Errorf("rolled back, the checkpoint is %d", at)
	}
}

func TestOneReaderOfAConsumerIsActive(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t).DB()
	appendEvents(t, db, 20)
	feeds := []*eventstore.Feed{newFeed(t, db, oneByOne), newFeed(t, db, oneByOne)}
	readers := []<-chan *message.Message{subscribe(t, feeds[0], "notifier"), subscribe(t, feeds[1], "notifier")}
	active := -1
	for at := range int64(10) {
		var msg *message.Message
		got := 0
		select {
		case msg = <-readers[0]:
		case msg = <-readers[1]:
			got = 1
		case <-time.After(atLast):
			t.Fatal("nobody is active")
		}
		if slice := sliceOf(t, msg); slice.From != at || active >= 0 && active != got {
			t.Errorf("reader %d gets the slice from %d after reader %d had the one before", got, slice.From, active)
		}
		active = got
		msg.Ack()
	}
	if err := feeds[active].Close(); err != nil {
		t.Fatal(err)
	}
	for at := range int64(10) {
		wantNext(t, readers[1-active], 10+at, 11+at)
	}
}

// TestALostConnectionEndsTheActivity: the one whose session is ended while it handles a
// slice may see another reader get the same. Both acknowledge it, and it counts once.
func TestALostConnectionEndsTheActivity(t *testing.T) {
	t.Parallel()
	for name, lateFirst := range map[string]bool{"the first is done first": false, "the second is done first": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.Open(t).DB()
			appendEvents(t, db, 3)
			first := subscribe(t, newFeed(t, db, oneByOne), "notifier")
			held, _ := next(t, first)
			second := subscribe(t, newFeed(t, db, oneByOne), "notifier")
			var ended int
			if err := db.QueryRow(`
SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 10000))
FROM pg_locks
WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&ended); err != nil || ended != 1 {
				t.Fatalf("%d sessions ended, %v", ended, err)
			}
			doubled, slice := next(t, second)
			if slice.From != 0 {
				t.Errorf("the second reader gets the slice from %d", slice.From)
			}
			answers := []*message.Message{held, doubled}
			if lateFirst {
				answers = []*message.Message{doubled, held}
			}
			for _, msg := range answers {
				msg.Ack()
				eventually.Holds(t, "written down", func() bool { return checkpoint(t, db, "notifier") == 1 })
			}
			wantNext(t, second, 1, 2)
			wantNext(t, second, 2, 3)
			eventually.Holds(t, "written down", func() bool { return checkpoint(t, db, "notifier") == 3 })
		})
	}
}

func TestWakeDoesNotWaitForThePoll(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t).DB()
	f := newFeed(t, db, func(cfg *eventstore.FeedConfig) { cfg.Poll = time.Hour })
	f.Wake(1) // nobody listens
	messages := subscribe(t, f, "notifier")
	for i := range int64(5) {
		head := appendEvents(t, db, 1)
		for range 100 {
			f.Wake(head.Position)
		}
		wantNext(t, messages, i, i+1)
	}
	f.Wake(99) // a mistake is found out
	head := appendEvents(t, db, 1)
	f.Wake(head.Position)
	wantNext(t, messages, 5, 6)
}

func TestAConsumerMayBeginAtTheHead(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t).DB()
	appendEvents(t, db, 3)
	atHead := func(cfg *eventstore.FeedConfig) {
		cfg.From = map[string]eventstore.Start{"forwarder": eventstore.AtHead}
	}
	f := newFeed(t, db, atHead)
	messages := subscribe(t, f, "forwarder")
	appendEvents(t, db, 2)
	wantNext(t, messages, 3, 5)
	_ = f.Close()
	appendEvents(t, db, 2)
	wantNext(t, subscribe(t, newFeed(t, db, atHead), "forwarder"), 5, 7) // the second time its checkpoint counts
	wantNext(t, subscribe(t, newFeed(t, db, atHead), "notifier"), 0, 7)
}

func TestSlicesAreBounded(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t).DB()
	large := `"` + strings.Repeat("x", 400_000) + `"`
	if _, err := appendAlone(t.Context(), db, posted("a", large), posted("a", large), posted("a", large),
		posted("a", large, large, large, large), posted("a", `1`)); err != nil {
		t.Fatal(err)
	}
	appendEvents(t, db, 600)
	messages := subscribe(t, newFeed(t, db), "notifier")
	wantNext(t, messages, 0, 3) // the third reaches the bound
	wantNext(t, messages, 3, 4)
	wantNext(t, messages, 4, 504)
	wantNext(t, messages, 504, 605)
}

func TestWhatIsHandledAtTheEndCounts(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t).DB()
	appendEvents(t, db, 2)
	f := newFeed(t, db, oneByOne, func(cfg *eventstore.FeedConfig) { cfg.Drain = time.Hour })
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "kept"))
	messages, err := f.Subscribe(ctx, "notifier")
	if err != nil {
		t.Fatal(err)
	}
	idle, err := f.Subscribe(ctx, "idle")
	if err != nil {
		t.Fatal(err)
	}
	wantNext(t, idle, 0, 1)
	wantNext(t, idle, 1, 2)
	msg, _ := next(t, messages)
	cancel()
	wantEnd(t, idle)
	if err := msg.Context().Err(); err != nil || msg.Context().Value(key{}) != "kept" {
		t.Errorf("the message's context: %v, %v", err, msg.Context().Value(key{}))
	}
	msg.Ack()
	wantEnd(t, messages)
	if at := checkpoint(t, db, "notifier"); at != 1 {
		t.Errorf("the checkpoint is %d", at)
	}
	messages = subscribe(t, newFeed(t, db, oneByOne), "notifier") // at once: the lock is free
	msg, _ = next(t, messages)
	if _, ok := eventstore.SliceOf(msg.Copy()); ok {
		t.Error("a copy without the context has a slice")
	}
}

// TestAFeedStopsAtAHole: an event that is not there is never passed over in silence.
func TestAFeedStopsAtAHole(t *testing.T) {
	t.Parallel()
	database := pgtest.Open(t)
	db := database.DB()
	appendEvents(t, db, 5)
	admin, err := postgres.Open(database.AdminURL(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := admin.Exec(`BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM ledger.events WHERE position = 3; COMMIT`); err != nil {
		t.Fatal(err)
	}
	logged := make(logged)
	messages := subscribe(t, newFeed(t, db, func(cfg *eventstore.FeedConfig) { cfg.Log = slog.New(slog.NewJSONHandler(logged, nil)) }), "notifier")
	wantNext(t, messages, 0, 2)
	for range 3 {
		select {
		case line := <-logged:
			var entry struct{ Consumer, Error string }
			if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Consumer != "notifier" || entry.Error != "event 3 is missing in the ledger" {
				t.Errorf("logged %s: %v", line, err)
			}
		case msg := <-messages:
			t.Fatalf("%s is delivered", msg.UUID)
		case <-time.After(atLast):
			t.Fatal("nothing is logged")
		}
	}
}

// logged takes the lines of a log; those that nobody waits for are lost.
type logged chan string

func (l logged) Write(line []byte) (int, error) {
	select {
	case l <- string(line):
	case <-time.After(time.Second):
	}
	return len(line), nil
}

// TestAConsumerGetsTheTypesItWants: and its checkpoint passes over the others, in steps
// when there are many.
func TestAConsumerGetsTheTypesItWants(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t).DB()
	f := newFeed(t, db, func(cfg *eventstore.FeedConfig) {
		cfg.Types = map[string][]string{"c": {domain.QueueDeleted{}.EventType()}}
	})
	messages := subscribe(t, f, "c")
	add := func(events ...domain.Event) {
		t.Helper()
		if _, err := appendAlone(t.Context(), db, events...); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(from, to int64) {
		t.Helper()
		select {
		case msg := <-messages:
			slice, _ := eventstore.SliceOf(msg)
			if len(slice.Events) != 1 || slice.From != from || slice.To != to || slice.Events[0].Position != to {
				t.Fatalf("slice %d to %d with %d events, want %d to %d with one", slice.From, slice.To, len(slice.Events), from, to)
			}
			msg.Ack()
		case <-time.After(atLast):
			t.Fatal("nothing is delivered")
		}
	}
	created := domain.QueueCreated{Project: "p", Name: "a"}
	deleted := domain.QueueDeleted{Project: "p", Name: "a", Number: 1}
	add(created, deleted, created)
	expect(0, 2)
	for range 3 {
		add(created)
	}
	add(deleted, created)
	expect(2, 7)
}
