package eventstore_test

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgtest"
)

// writer is a process that keeps what it appends.
type writer struct {
	testing.TB
	db     *sql.DB
	recent *eventstore.Recent
	kept   map[uuid.UUID]domain.Event // by their ids
}

func newWriter(t testing.TB, db *sql.DB) *writer {
	return &writer{TB: t, db: db, recent: &eventstore.Recent{}, kept: map[uuid.UUID]domain.Event{}}
}

// write appends a batch to the end of the ledger.
func (w *writer) write(events ...domain.Event) {
	w.Helper()
	tx, err := w.db.BeginTx(w.Context(), nil)
	if err != nil {
		w.Fatal(err)
	}
	head, err := eventstore.ReadHead(w.Context(), tx)
	if err != nil {
		w.Fatal(err)
	}
	batch := eventstore.Batch{ID: uuid.New(), Head: head}
	for _, e := range events {
		batch.Events = append(batch.Events, eventstore.NewEvent{Event: e, Version: 1, Origin: domain.Origin{Project: "p"}})
	}
	at, err := eventstore.Append(w.Context(), tx, &batch)
	if err != nil {
		w.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		w.Fatal(err)
	}
	for _, e := range batch.Recorded(at) {
		w.kept[e.ID] = e.Event
	}
	w.recent.Add(&batch, batch.NewHead(at))
}

// deletes writes so many batches of one event.
func (w *writer) deletes(batches int) {
	for range batches {
		w.write(deletion(1))
	}
}

func deletion(messages int) domain.Event {
	e := domain.MessagesDeleted{Project: "p", Queue: "a", Number: 1}
	for i := range messages {
		e.Messages = append(e.Messages, domain.DeletedMessage{ID: domain.NewMessageID(domain.Place(i), 1), Place: domain.Place(i)})
	}
	return e
}

// sources tells how many events in a row are the very ones that the writer has kept, and how
// many were read.
func (w *writer) sources(events []eventstore.RecordedEvent) string {
	var runs []string
	for n, i := 0, 0; i < len(events); i++ {
		source := "read"
		if w.keeps(events[i]) {
			source = "kept"
		}
		if i > 0 && strings.HasSuffix(runs[len(runs)-1], source) {
			runs = runs[:len(runs)-1]
		} else {
			n = 0
		}
		n++
		runs = append(runs, fmt.Sprint(n, " ", source))
	}
	return strings.Join(runs, " ")
}

func (w *writer) keeps(e eventstore.RecordedEvent) bool {
	was, known := w.kept[e.ID].(domain.MessagesDeleted)
	is, deleted := e.Event.(domain.MessagesDeleted)
	return known && deleted && &was.Messages[0] == &is.Messages[0]
}

// TestWhatWasJustAppendedIsNotReadBack: but nothing is delivered that the ledger does not have
// there, whoever has written it.
func TestWhatWasJustAppendedIsNotReadBack(t *testing.T) {
	t.Parallel()
	large := deletion(20_000) // 1.3 MB
	many := slices.Repeat([]domain.Event{deletion(1)}, 1600)
	tests := map[string]struct {
		slice int // events at most
		write func(w, other *writer)
		want  string // what was kept or read
	}{
		"all is its own":                {1, func(w, _ *writer) { w.deletes(3) }, "3 kept"},
		"in slices of two":              {2, func(w, _ *writer) { w.deletes(3) }, "3 kept"},
		"another has written behind it": {1, func(w, other *writer) { w.deletes(2); other.deletes(1) }, "3 read"},
		"and it again":                  {1, func(w, other *writer) { w.deletes(2); other.deletes(1); w.deletes(2) }, "3 read 2 kept"},
		"another was before it":         {1, func(w, other *writer) { other.deletes(2); w.deletes(2) }, "2 read 2 kept"},
		"one slice of both":             {9, func(w, other *writer) { other.deletes(2); w.deletes(2) }, "4 read"},
		"another ledger's": {1, func(w, other *writer) {
			w.recent = keptElsewhere(w, 3)
			other.deletes(3)
		}, "3 read"},
		"behind another ledger's": {1, func(w, other *writer) {
			w.recent = keptElsewhere(w, 2)
			other.deletes(2)
			w.deletes(1)
		}, "2 read 1 kept"},
		"more than is kept":        {400, func(w, _ *writer) { w.write(many...); w.write(many...); w.write(many...) }, "1600 read 3200 kept"},
		"more bytes than are kept": {1, func(w, _ *writer) { w.write(large, deletion(1)); w.write(large); w.write(large); w.write(large) }, "2 read 3 kept"},
		"one with bodies between":  {9, func(w, _ *writer) { w.deletes(2); w.write(posted("a", `1`)); w.deletes(1) }, "2 kept 2 read"},
		"one by one":               {1, func(w, _ *writer) { w.deletes(2); w.write(posted("a", `1`)); w.deletes(1) }, "2 kept 1 read 1 kept"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.Open(t).DB()
			w := newWriter(t, db)
			test.write(w, newWriter(t, db))
			stored := collect(t, eventstore.ReadAll(t.Context(), db, 0, 1<<62))
			messages := subscribe(t, newFeed(t, db, func(cfg *eventstore.FeedConfig) {
				cfg.Recent, cfg.MaxEvents = w.recent, test.slice
			}), "c")
			var delivered []eventstore.RecordedEvent
			for len(delivered) < len(stored) {
				msg, slice := next(t, messages)
				delivered = append(delivered, slice.Events...)
				msg.Ack()
			}
			if diff := cmp.Diff(stored, delivered); diff != "" {
				t.Errorf("(-stored +delivered):\n%s", diff)
			}
			if got := w.sources(delivered); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

// keptElsewhere is what a writer keeps that has written so many batches of another ledger.
func keptElsewhere(t testing.TB, batches int) *eventstore.Recent {
	elsewhere := newWriter(t, pgtest.Open(t).DB())
	elsewhere.deletes(batches)
	return elsewhere.recent
}

// TestWhatIsKeptIsCutAsWhatIsRead: by number, by bytes and by the types that a consumer wants.
func TestWhatIsKeptIsCutAsWhatIsRead(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t).DB()
	w := newWriter(t, db)
	purged := domain.QueuePurged{Project: "p", Name: "a", Number: 1}
	deleted := domain.QueueDeleted{Project: "p", Name: "a", Number: 1}
	w.write(purged, deleted, posted("a", `1`), deleted)
	w.write(purged)
	w.write(deleted, purged, deleted, deleted)
	w.write(purged, purged)
	bounds := func(recent *eventstore.Recent, maxEvents, maxBytes int, types []string) (cuts [][]int64) {
		consumer := uuid.NewString()
		feed := newFeed(t, db, func(cfg *eventstore.FeedConfig) {
			cfg.Recent, cfg.MaxEvents, cfg.MaxBytes, cfg.Types = recent, maxEvents, maxBytes, map[string][]string{consumer: types}
		})
		defer func() { _ = feed.Close() }()
		messages := subscribe(t, feed, consumer)
		for last := int64(0); last < 9; { // nobody is told of what is not wanted
			select {
			case msg := <-messages:
				slice, _ := eventstore.SliceOf(msg)
				var cut []int64
				for _, e := range slice.Events {
					cut, last = append(cut, e.Position), e.Position
				}
				cuts = append(cuts, cut)
				msg.Ack()
			case <-time.After(atLast):
				t.Fatalf("nothing is delivered after %v", cuts)
			}
		}
		return cuts
	}
	for _, types := range [][]string{{deleted.EventType()}, {deleted.EventType(), purged.EventType()}} {
		for _, most := range []int{1, 2, 3, 100} {
			for _, bytes := range []int{1, 50, 90, 1000} {
				if diff := cmp.Diff(bounds(nil, most, bytes, types), bounds(w.recent, most, bytes, types)); diff != "" {
					t.Errorf("%v, %d events, %d bytes (-read +kept):\n%s", types, most, bytes, diff)
				}
			}
		}
	}
}
