package eventstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/eventually"
	"nabu/internal/pgtest"
)

// picky is a consumer that refuses some positions, and keeps those that it has handled.
type picky struct {
	testing.TB
	messages <-chan *message.Message
	refuses  map[int64]bool
	handled  []int64
	refused  int // slices
}

// handle handles slices until it has handled so many events more.
func (p *picky) handle(n int) {
	p.Helper()
	for n += len(p.handled); len(p.handled) < n; {
		select {
		case msg := <-p.messages:
			p.answer(msg)
		case <-time.After(atLast):
			p.Fatalf("handled %v, and nothing more is delivered", p.handled)
		}
	}
}

func (p *picky) answer(msg *message.Message) {
	slice, _ := eventstore.SliceOf(msg)
	for _, e := range slice.Events {
		if p.refuses[e.Position] {
			p.refused++
			eventstore.Refuse(msg, fmt.Errorf("no taste for %d", e.Position))
			msg.Nack()
			return
		}
	}
	for _, e := range slice.Events {
		p.handled = append(p.handled, e.Position)
	}
	msg.Ack()
}

// took wants the positions that were handled since the last look.
func (p *picky) took(want ...int64) {
	p.Helper()
	if !slices.Equal(p.handled, want) {
		p.Errorf("handled %v, want %v", p.handled, want)
	}
	p.handled = nil
}

func newPicky(t testing.TB, db *sql.DB, refuses ...int64) *picky {
	t.Helper()
	f := newFeed(t, db, func(cfg *eventstore.FeedConfig) { cfg.Tries = 2 })
	p := &picky{TB: t, messages: subscribe(t, f, "picky"), refuses: map[int64]bool{}}
	for _, position := range refuses {
		p.refuses[position] = true
	}
	return p
}

// appendTo writes an event to each of some streams, in one batch.
func appendTo(t testing.TB, db *sql.DB, queues ...string) {
	t.Helper()
	var events []domain.Event
	for _, name := range queues {
		events = append(events, posted(name, `1`))
	}
	if _, err := appendAlone(t.Context(), db, events...); err != nil {
		t.Fatal(err)
	}
}

func parkedAre(t testing.TB, db *sql.DB, want ...int64) []eventstore.Parked {
	t.Helper()
	parked, err := eventstore.ParkedEvents(t.Context(), db, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	for _, p := range parked {
		got = append(got, p.Position)
	}
	if !slices.Equal(got, want) {
		t.Errorf("parked are %v, want %v", got, want)
	}
	return parked
}

// TestABadEventIsParkedWithItsStream: the slice is halved down to the event at fault, what
// follows on its stream waits, and all else goes on. When the fault is mended, the stream
// is delivered in order, and then goes on by itself.
func TestABadEventIsParkedWithItsStream(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t).DB()
	appendTo(t, db, "a", "b", "a", "b", "a", "c") // 1 to 6
	p := newPicky(t, db, 3)
	p.handle(4)
	p.took(1, 2, 4, 6)
	eventually.Holds(t, "written down", func() bool { return checkpoint(t, db, "picky") == 6 })
	parked := parkedAre(t, db, 3, 5)
	if parked[0].Error != "no taste for 3" || parked[0].Attempts != 2 || parked[0].Stream != "queue/p/a" || parked[0].TriedAt.IsZero() ||
		parked[1].Error != "" || parked[1].Attempts != 0 || !parked[1].TriedAt.IsZero() {
		t.Errorf("parked are %+v", parked)
	}
	if p.refused != 2+1+2 { // the whole, the half, the one
		t.Errorf("%d slices were refused", p.refused)
	}
	appendTo(t, db, "a", "b") // 7 and 8
	p.handle(1)
	p.took(8)
	parkedAre(t, db, 3, 5, 7)

	if n, err := eventstore.Retry(t.Context(), db, "picky", 0); err != nil || n != 3 {
		t.Fatalf("%d events, %v", n, err)
	}
	eventually.Holds(t, "refused once more", func() bool {
		select {
		case msg := <-p.messages:
			p.answer(msg)
		default:
		}
		return parkedAre(t, db, 3, 5, 7)[0].Attempts == 3
	})
	p.took()
	delete(p.refuses, 3)
	if n, err := eventstore.Retry(t.Context(), db, "picky", 3); err != nil || n != 3 {
		t.Fatalf("%d events, %v", n, err)
	}
	p.handle(3)
	p.took(3, 5, 7)
	eventually.Holds(t, "nothing is parked", func() bool {
		parked, err := eventstore.ParkedEvents(t.Context(), db, 1)
		return err == nil && len(parked) == 0
	})
	appendTo(t, db, "a") // 9
	p.handle(1)
	p.took(9)
}

func TestASkippedEventLetsItsStreamGoOn(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t).DB()
	appendTo(t, db, "a", "a", "b", "a", "b") // 1 to 5
	p := newPicky(t, db, 1)
	p.handle(2)
	p.took(3, 5)
	refused := func(err error, code domain.Code) {
		t.Helper()
		if e, ok := errors.AsType[*domain.Error](err); !ok || e.Code != code {
			t.Errorf("%v instead of a refusal because of %s", err, code)
		}
	}
	_, err := eventstore.Skip(t.Context(), db, "picky", 1, "")
	refused(err, domain.Invalid)
	_, err = eventstore.Skip(t.Context(), db, "picky", 3, "why not")
	refused(err, domain.NotFound)
	_, err = eventstore.Retry(t.Context(), db, "picky", 2)
	refused(err, domain.Conflict)
	_, err = eventstore.Retry(t.Context(), db, "nobody", 1)
	refused(err, domain.NotFound)

	if n, err := eventstore.Skip(t.Context(), db, "picky", 2, "of no use"); err != nil || n != 0 { // it waits behind 1
		t.Fatalf("%d events, %v", n, err)
	}
	if n, err := eventstore.Skip(t.Context(), db, "picky", 1, "rotten"); err != nil || n != 1 {
		t.Fatalf("%d events, %v", n, err)
	}
	p.handle(1)
	p.took(4)
	eventually.Holds(t, "settled", func() bool {
		parked, err := eventstore.ParkedEvents(t.Context(), db, 1)
		return err == nil && len(parked) == 0
	})
	var reasons string
	if err := db.QueryRow(`SELECT string_agg(position || ': ' || reason, ', ' ORDER BY position) FROM ledger.parked`).Scan(&reasons); err != nil || reasons != "1: rotten, 2: of no use" {
		t.Errorf("kept is %q, %v", reasons, err)
	}
}

// TestWhatPassesIsNotCounted: a refusal of which the feed is told that it will pass parks
// nothing, however often it comes.
func TestWhatPassesIsNotCounted(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t).DB()
	appendTo(t, db, "a", "b")
	away := errors.New("away")
	f := newFeed(t, db, func(cfg *eventstore.FeedConfig) {
		cfg.Tries = 2
		cfg.Temporary = func(err error) bool { return errors.Is(err, away) }
	})
	messages := subscribe(t, f, "c")
	for range 10 {
		msg, slice := next(t, messages)
		if slice.To != 2 {
			t.Fatalf("the slice ends at %d", slice.To)
		}
		eventstore.Refuse(msg, away)
		msg.Nack()
	}
	wantNext(t, messages, 0, 2)
	parkedAre(t, db)
}

// TestSeveralBadEventsInOneSlice: all others are handled, in order.
func TestSeveralBadEventsInOneSlice(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t).DB()
	var queues []string
	for i := range 100 {
		queues = append(queues, fmt.Sprint("q", i))
	}
	appendTo(t, db, queues...)
	p := newPicky(t, db, 1, 17, 18, 64, 100)
	p.handle(95)
	if !slices.IsSorted(p.handled) || len(slices.Compact(p.handled)) != 95 {
		t.Errorf("handled %v", p.handled)
	}
	eventually.Holds(t, "all is read", func() bool {
		select {
		case msg := <-p.messages:
			p.answer(msg)
		default:
		}
		return checkpoint(t, db, "picky") == 100
	})
	parkedAre(t, db, 1, 17, 18, 64, 100)
}

// TestParkedEventsAreSettledByTheirHandler: in the transaction of what it writes, once.
func TestParkedEventsAreSettledByTheirHandler(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t).DB()
	appendTo(t, db, "a", "b")
	p := newPicky(t, db, 1)
	p.handle(1)
	if _, err := eventstore.Retry(t.Context(), db, "picky", 1); err != nil {
		t.Fatal(err)
	}
	msg := <-p.messages
	slice, _ := eventstore.SliceOf(msg)
	if !slice.Parked || len(slice.Events) != 1 || string(msg.Payload) != `{"consumer":"picky","from":0,"to":1,"parked":true}` {
		t.Errorf("%s with %+v", msg.Payload, slice)
	}
	inTx := func(do func(context.Context, eventstore.Tx) error) error {
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := do(t.Context(), tx); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		return tx.Commit()
	}
	if err := inTx(slice.Reserve); err != nil {
		t.Error(err)
	}
	if err := inTx(slice.Settle); err != nil {
		t.Error(err)
	}
	for name, do := range map[string]func(context.Context, eventstore.Tx) error{"reserve": slice.Reserve, "settle": slice.Settle} {
		if err := inTx(do); !errors.Is(err, eventstore.ErrMoved) {
			t.Errorf("%s again: %v", name, err)
		}
	}
	msg.Ack()
	appendTo(t, db, "a")
	p.handle(1)
	p.took(2, 3)
}

func TestConsumersTellHowFarTheyAre(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t).DB()
	consumers, err := eventstore.Consumers(t.Context(), db)
	if err != nil || len(consumers) != 0 {
		t.Fatalf("%v, %v", consumers, err)
	}
	appendTo(t, db, "a", "b", "a")
	p := newPicky(t, db, 1)
	p.handle(1)
	eventually.Holds(t, "written down", func() bool { return checkpoint(t, db, "picky") == 3 })
	subscribe(t, newFeed(t, db), "idle")
	consumers, err = eventstore.Consumers(t.Context(), db)
	if err != nil || len(consumers) != 2 {
		t.Fatalf("%v, %v", consumers, err)
	}
	idle, ours := consumers[0], consumers[1]
	if idle.Name != "idle" || idle.Position != 0 || idle.Events != 3 || idle.Age <= 0 || idle.Parked != 0 {
		t.Errorf("%+v", idle)
	}
	if ours.Name != "picky" || ours.Position != 3 || ours.Events != 0 || ours.Age != 0 || ours.Parked != 2 || ours.ParkedAge <= 0 {
		t.Errorf("%+v", ours)
	}
}
