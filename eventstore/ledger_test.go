package eventstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgtest"
	"nabu/internal/postgres"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func posted(queue string, bodies ...string) domain.Event {
	e := domain.MessagesPosted{Project: "p", Queue: queue, Number: 1, Client: "c"}
	for i, body := range bodies {
		e.Messages = append(e.Messages, domain.PostedMessage{ID: domain.NewMessageID(domain.Place(i), 1), TTL: 60, Body: body})
	}
	return e
}

// appendAlone writes events in a transaction of their own, as a writer does.
func appendAlone(ctx context.Context, db *sql.DB, events ...domain.Event) (eventstore.Head, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return eventstore.Head{}, err
	}
	defer conn.Close()
	tail, err := eventstore.Begin(ctx, conn, eventstore.Head{})
	if err != nil {
		return eventstore.Head{}, err
	}
	head, err := appendUnderLock(ctx, conn, tail.Head, events)
	end := "COMMIT"
	if err != nil {
		end = "ROLLBACK"
	}
	if _, endErr := conn.ExecContext(ctx, end); endErr != nil {
		return head, errors.Join(err, endErr)
	}
	return head, err
}

func appendUnderLock(ctx context.Context, conn *sql.Conn, head eventstore.Head, events []domain.Event) (eventstore.Head, error) {
	batch := eventstore.Batch{ID: uuid.New(), Head: head}
	versions := map[string]int64{}
	for _, e := range events {
		if _, known := versions[e.Stream()]; !known {
			var last int64
			if err := conn.QueryRowContext(ctx, `SELECT `+eventstore.LastVersion("$1"), e.Stream()).Scan(&last); err != nil {
				return head, err
			}
			versions[e.Stream()] = last
		}
		versions[e.Stream()]++
		batch.Events = append(batch.Events, eventstore.NewEvent{
			Event: e, Version: versions[e.Stream()], Origin: domain.Origin{Project: "p", RequestID: "req-1"},
		})
	}
	at, err := eventstore.Append(ctx, conn, &batch)
	if err != nil {
		return head, err
	}
	return batch.NewHead(at), nil
}

func collect(t *testing.T, events func(func(eventstore.RecordedEvent, error) bool)) []eventstore.RecordedEvent {
	t.Helper()
	var all []eventstore.RecordedEvent
	for e, err := range events {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func TestWhatIsAppendedIsReadBack(t *testing.T) {
	ctx, db := t.Context(), pgtest.Open(t).DB()
	// Texts that a compacting, sorting, escaping or unescaping store would change.
	bodies := []string{
		`{"b": 1, "a": 2,  "a": 3}`, `"\u0000 \ud800 <&> \/"`, `[1.50e2, 123456789012345678901234567890]`, "\"\u2028é\"", ` 7 `,
		`"{},\"NULL\""`, `null`,
	}
	event := posted("a", bodies...)
	metadata, err := domain.ParseMetadata([]byte(`{"z": 1.0, "a": "\u0000"}`))
	if err != nil {
		t.Fatal(err)
	}
	created := domain.QueueCreated{Project: "p", Name: "a", Metadata: metadata}
	if _, err := appendAlone(ctx, db, created, event, domain.QueueDeleted{Project: "p", Name: "b", Number: 9}); err != nil {
		t.Fatal(err)
	}
	if _, err := appendAlone(ctx, db, event); err != nil {
		t.Fatal(err)
	}
	all := collect(t, eventstore.ReadAll(ctx, db, 0, 1<<62))
	var got []domain.Event
	for i, e := range all {
		if e.Position != int64(i)+1 {
			t.Errorf("event %d has position %d", i+1, e.Position)
		}
		got = append(got, e.Event)
	}
	want := []domain.Event{created, event, domain.QueueDeleted{Project: "p", Name: "b", Number: 9}, event}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	stream := collect(t, eventstore.ReadStream(ctx, db, "queue/p/a", 1))
	if len(stream) != 2 || stream[0].Version != 2 || stream[1].Version != 3 || stream[1].Position != 4 {
		t.Fatalf("the stream after version 1: %+v", stream)
	}
	if middle := collect(t, eventstore.ReadAll(ctx, db, 1, 3)); len(middle) != 2 || middle[0].Position != 2 {
		t.Fatalf("positions 2 to 3: %+v", middle)
	}
	head, err := eventstore.ReadHead(ctx, db)
	if err != nil || head.Position != 4 || head.ID != all[3].ID || !head.Time.Equal(all[3].RecordedAt) {
		t.Fatalf("head %+v, %v", head, err)
	}
}

func TestPagesJoin(t *testing.T) {
	ctx, db := t.Context(), pgtest.Open(t).DB()
	var events []domain.Event
	for i := range eventstore.PageSize*2 + 1 {
		events = append(events, posted(fmt.Sprint("q", i%2), `1`))
	}
	if _, err := appendAlone(ctx, db, events[:0:0]...); err == nil {
		t.Fatal("an empty batch was written")
	}
	for part := range 3 {
		if _, err := appendAlone(ctx, db, sameStreamOnce(events, part)...); err != nil {
			t.Fatal(err)
		}
	}
	all := collect(t, eventstore.ReadAll(ctx, db, 0, 1<<62))
	if len(all) != len(events) {
		t.Fatalf("read %d of %d events", len(all), len(events))
	}
	for i, e := range all {
		if e.Position != int64(i)+1 {
			t.Fatalf("event %d has position %d", i+1, e.Position)
		}
	}
	if n := len(collect(t, eventstore.ReadStream(ctx, db, "queue/p/q0", 0))); n != eventstore.PageSize+1 {
		t.Fatalf("read %d events of the stream", n)
	}
	for _, err := range eventstore.ReadAll(ctx, db, 0, 1<<62) { // a reader may stop early
		if err != nil {
			t.Fatal(err)
		}
		break
	}
}

// sameStreamOnce is one of three parts of the events.
func sameStreamOnce(events []domain.Event, part int) []domain.Event {
	third := (len(events) + 2) / 3
	return events[part*third : min((part+1)*third, len(events))]
}

func TestABatchOnAnOldHeadIsNotWritten(t *testing.T) {
	ctx, db := t.Context(), pgtest.Open(t).DB()
	first, err := appendAlone(ctx, db, posted("a", `1`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := appendAlone(ctx, db, posted("a", `2`)); err != nil {
		t.Fatal(err)
	}
	for name, head := range map[string]eventstore.Head{
		"an empty ledger": {}, "an earlier event": first,
		"another event at the position": {Position: 2, ID: uuid.New()}, "an event to come": {Position: 3, ID: uuid.New()},
	} {
		batch := eventstore.Batch{ID: uuid.New(), Head: head, Events: []eventstore.NewEvent{{Event: posted("a", `3`), Version: 3}}}
		if _, err := eventstore.Append(ctx, db, &batch); !errors.Is(err, eventstore.ErrStale) {
			t.Errorf("%s as the head: %v", name, err)
		}
	}
	if head, err := eventstore.ReadHead(ctx, db); err != nil || head.Position != 2 {
		t.Fatalf("head %+v, %v", head, err)
	}
}

// TestABatchWithAClockFarOffIsNotWritten: a time that the writer believed it to be is
// taken only near the database's.
func TestABatchWithAClockFarOffIsNotWritten(t *testing.T) {
	ctx, db := t.Context(), pgtest.Open(t).DB()
	head, err := appendAlone(ctx, db, posted("a", `1`))
	if err != nil {
		t.Fatal(err)
	}
	for off, want := range map[time.Duration]error{
		-time.Hour: eventstore.ErrStale, time.Hour: eventstore.ErrStale, 20 * time.Second: nil,
	} {
		batch := eventstore.Batch{
			ID: uuid.New(), Head: head, Now: head.Time.Add(off), MostOff: time.Minute,
			Events: []eventstore.NewEvent{{Event: posted("a", `2`), Version: 2}},
		}
		at, err := eventstore.Append(ctx, db, &batch)
		if !errors.Is(err, want) {
			t.Errorf("a clock %s off: %v", off, err)
		}
		if err == nil {
			head = batch.NewHead(at)
		}
	}
}

func TestTheTailTellsWhatOthersWrote(t *testing.T) {
	ctx, db := t.Context(), pgtest.Open(t).DB()
	known, err := appendAlone(ctx, db, domain.QueueCreated{Project: "p", Name: "a"}, posted("a", `1`))
	if err != nil {
		t.Fatal(err)
	}
	deleted := domain.QueueDeleted{Project: "p", Name: "a", Number: 1}
	last, err := appendAlone(ctx, db, posted("a", `2`), deleted)
	if err != nil {
		t.Fatal(err)
	}
	tail := begin(t, db, known)
	want := []eventstore.TailEvent{
		{Position: 3, Stream: "queue/p/a", Version: 3, Type: "messages.posted.v1"},
		{Position: 4, Stream: "queue/p/a", Version: 4, Type: "queue.deleted.v1"},
	}
	if diff := cmp.Diff(want, tail.Events); diff != "" || tail.Lost || tail.Head.ID != last.ID || tail.Head.Position != 4 {
		t.Fatalf("%+v (-want +got):\n%s", tail, diff)
	}
	if tail := begin(t, db, last); len(tail.Events) > 0 || tail.Lost || tail.Head != last {
		t.Fatalf("from the head on: %+v", tail)
	}
	if tail := begin(t, db, eventstore.Head{}); len(tail.Events) > 0 || tail.Lost || tail.Head != last {
		t.Fatalf("knowing nothing: %+v", tail)
	}
	if tail := begin(t, db, eventstore.Head{Position: 2, ID: uuid.New()}); !tail.Lost {
		t.Fatal("the memory of another history is not noticed")
	}
	if tail := begin(t, db, eventstore.Head{Position: 99, ID: uuid.New()}); !tail.Lost {
		t.Fatal("the memory of a longer history is not noticed")
	}
	var many []domain.Event
	for range eventstore.TailLimit + 1 {
		many = append(many, posted("b", `1`))
	}
	if _, err := appendAlone(ctx, db, many...); err != nil {
		t.Fatal(err)
	}
	if tail := begin(t, db, last); !tail.Lost || tail.Head.Position != 4+eventstore.TailLimit+1 {
		t.Fatalf("too far behind: lost %v, head %+v", tail.Lost, tail.Head)
	}
}

func begin(t *testing.T, db *sql.DB, known eventstore.Head) eventstore.Tail {
	t.Helper()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tail, err := eventstore.Begin(t.Context(), conn, known)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	return tail
}

func TestTimeFollowsPosition(t *testing.T) {
	ctx, db := t.Context(), pgtest.Open(t).DB()
	future := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	head := eventstore.Head{}
	for i, now := range []time.Time{future, {}, future.Add(-time.Minute)} {
		batch := eventstore.Batch{ID: uuid.New(), Head: head, Now: now, Events: []eventstore.NewEvent{{Event: posted("a", `1`), Version: int64(i) + 1}}}
		at, err := eventstore.Append(ctx, db, &batch)
		if err != nil {
			t.Fatal(err)
		}
		if want := future.Add(time.Duration(i) * time.Microsecond); !at.Equal(want) {
			t.Errorf("batch %d has time %v, want %v", i, at, want)
		}
		head = batch.NewHead(at)
	}
}

// TestReadersMissNothing: while eight writers append, some of them rolling back, a
// reader that goes on from the last position it saw meets every event once and in
// order. Beside it a table with a sequence is written by the same writers and read
// in the same way: that reader must lose rows, or the test shows nothing.
func TestReadersMissNothing(t *testing.T) {
	ctx := t.Context()
	db, err := postgres.Open(pgtest.Open(t).URL(), 2*8+2) // two for each writer, two for the readers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.Exec(`CREATE SCHEMA control; CREATE TABLE control.naive (position bigserial PRIMARY KEY)`); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := db.Exec(`DROP SCHEMA control CASCADE`); err != nil {
			t.Error(err)
		}
	})
	var writing atomic.Int32
	var writers sync.WaitGroup
	for w := range 8 {
		writing.Add(1)
		writers.Go(func() {
			defer writing.Add(-1)
			for i := range 60 {
				if err := writeBoth(ctx, db, w, i); err != nil {
					t.Errorf("write: %v", err)
					return
				}
			}
		})
	}
	var ours, naive reader
	for last := false; ; {
		ours.read(t, db, `SELECT position FROM ledger.events WHERE position > $1 ORDER BY position`)
		naive.read(t, db, `SELECT position FROM control.naive WHERE position > $1 ORDER BY position`)
		if last {
			break
		}
		last = writing.Load() == 0
	}
	writers.Wait()
	var events, rows int
	if err := db.QueryRow(`SELECT (SELECT count(*) FROM ledger.events), (SELECT count(*) FROM control.naive)`).Scan(&events, &rows); err != nil {
		t.Fatal(err)
	}
	t.Logf("ours: read %d of %d; control: read %d of %d", ours.seen, events, naive.seen, rows)
	if ours.seen != events || ours.last != int64(events) {
		t.Errorf("the reader met %d of %d events, the last at %d", ours.seen, events, ours.last)
	}
	if naive.seen == rows {
		t.Error("the control lost nothing: the writers do not overlap")
	}
}

// writeBoth appends an event and a row of the control, in transactions of which
// every seventh is rolled back, and lets the control's commits overtake each other.
func writeBoth(ctx context.Context, db *sql.DB, writer, i int) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.Exec(`INSERT INTO control.naive DEFAULT VALUES`); err != nil {
		return err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	tail, err := eventstore.Begin(ctx, conn, eventstore.Head{})
	if err != nil {
		return err
	}
	if _, err := appendUnderLock(ctx, conn, tail.Head, []domain.Event{posted(fmt.Sprint("q", writer), `1`)}); err != nil {
		return err
	}
	if i%7 == 6 {
		_, err = conn.ExecContext(ctx, "ROLLBACK")
		return errors.Join(err, tx.Rollback())
	}
	_, err = conn.ExecContext(ctx, "COMMIT")
	return errors.Join(err, tx.Commit())
}

// reader goes on from the last position it saw.
type reader struct {
	last int64
	seen int
}

func (r *reader) read(t *testing.T, db *sql.DB, query string) {
	t.Helper()
	rows, err := db.Query(query, r.last)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&r.last); err != nil {
			t.Fatal(err)
		}
		r.seen++
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

// TestTheLedgerIsAppendOnly tries to change history, as the application's role and
// as the role that owns the tables.
func TestTheLedgerIsAppendOnly(t *testing.T) {
	ctx, database := t.Context(), pgtest.Open(t)
	if _, err := appendAlone(ctx, database.DB(), posted("a", `1`)); err != nil {
		t.Fatal(err)
	}
	changes := []string{
		`UPDATE ledger.events SET type = 'x'`, `DELETE FROM ledger.events`, `TRUNCATE ledger.events`,
		`UPDATE ledger.events_1 SET type = 'x'`, `DELETE FROM ledger.events_1`, `TRUNCATE ledger.events_1`,
		`DELETE FROM ledger.events WHERE false`,
	}
	onlyTheOwner := []string{
		`ALTER TABLE ledger.events DETACH PARTITION ledger.events_1`, `DROP TABLE ledger.events_1`, `DROP TABLE ledger.events`,
		`ALTER TABLE ledger.events DISABLE TRIGGER ALL`, `DROP TRIGGER append_only ON ledger.events`,
		`CREATE OR REPLACE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`,
		`CREATE TABLE ledger.more (a int)`, `SET session_replication_role = replica`,
	}
	for role, try := range map[string]struct {
		url     string
		changes []string
	}{
		"the application": {database.URL(), append(changes, onlyTheOwner...)},
		"the owner":       {database.OwnerURL(), changes},
	} {
		db, err := postgres.Open(try.url, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		for _, change := range try.changes {
			_, err := db.Exec(change)
			if err == nil || !strings.Contains(err.Error(), "permission denied") && !strings.Contains(err.Error(), "append-only") &&
				!strings.Contains(err.Error(), "must be owner") {
				t.Errorf("%s may %s: %v", role, change, err)
			}
		}
	}
	if n := len(collect(t, eventstore.ReadAll(ctx, database.DB(), 0, 1<<62))); n != 1 {
		t.Fatalf("%d events are left", n)
	}
}

func TestFindBatch(t *testing.T) {
	ctx, db := t.Context(), pgtest.Open(t).DB()
	batch := eventstore.Batch{ID: uuid.New(), Events: []eventstore.NewEvent{{Event: posted("a", `1`), Version: 1}}}
	at, err := eventstore.Append(ctx, db, &batch)
	if err != nil {
		t.Fatal(err)
	}
	if got, found, err := eventstore.FindBatch(ctx, db, 0, batch.ID); err != nil || !found || !got.Equal(at) {
		t.Fatalf("%v, %v, %v", got, found, err)
	}
	if _, found, err := eventstore.FindBatch(ctx, db, 1, batch.ID); err != nil || found {
		t.Fatalf("behind it: %v, %v", found, err)
	}
	if _, found, err := eventstore.FindBatch(ctx, db, 0, uuid.New()); err != nil || found {
		t.Fatalf("another: %v, %v", found, err)
	}
}
