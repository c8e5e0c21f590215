package eventstore_test

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"nabu/eventstore"
	"nabu/internal/pgtest"
	"nabu/internal/postgres"
)

// TestStoredEventsAreReadPageByPage: each once and in order, whatever is selected and
// however large the events are.
func TestStoredEventsAreReadPageByPage(t *testing.T) {
	t.Parallel()
	database := pgtest.Open(t)
	db := database.DB()
	for i := range 5 {
		var queues []string
		for n := range 130 {
			queues = append(queues, fmt.Sprint("q", (i+n)%2))
		}
		appendTo(t, db, queues...)
	}
	large := `"` + strings.Repeat("x", 300_000) + `"`
	for range 20 {
		if _, err := appendAlone(t.Context(), db, posted("q0", large)); err != nil {
			t.Fatal(err)
		}
	}
	const all = 670
	read := func(s eventstore.Selection) (positions []int64) {
		t.Helper()
		for e, err := range eventstore.ReadStored(t.Context(), db, s) {
			if err != nil {
				t.Fatal(err)
			}
			positions = append(positions, e.Position)
		}
		if !slices.IsSorted(positions) || len(slices.Compact(slices.Clone(positions))) != len(positions) {
			t.Errorf("%+v: out of order: %v", s, positions)
		}
		return positions
	}
	for want, s := range map[int]eventstore.Selection{
		all:      {},
		325 + 20: {Stream: "queue/p/q0"},
		325:      {Stream: "queue/p/q1"},
		300:      {After: 100, Upto: 400},
		100:      {After: 100, Upto: 300, Stream: "queue/p/q1"},
		570:      {After: 100, Types: []string{"messages.posted.v1"}},
		0:        {Types: []string{"queue.deleted.v1"}},
		620:      {After: 50, Project: "p"},
		-1:       {Actor: "nobody"},
	} {
		if got := read(s); len(got) != max(want, 0) {
			t.Errorf("%+v: %d events, want %d", s, len(got), want)
		}
	}
	for e, err := range eventstore.ReadStored(t.Context(), db, eventstore.Selection{After: all - 1}) {
		if err != nil || e.Type != "messages.posted.v1" || e.Stream != "queue/p/q0" || e.Version != 345 || len(e.Bodies) != 1 || e.Bodies[0] != large {
			t.Errorf("%d %s %s %d, %v", e.Position, e.Type, e.Stream, e.Version, err)
		}
	}
	beforeIsRight(t, db, all)
	// The ledger begins later: what came before is in an archive.
	admin, err := postgres.Open(database.AdminURL(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := admin.Exec(`BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM ledger.events WHERE position <= 660; COMMIT`); err != nil {
		t.Fatal(err)
	}
	if at, err := eventstore.PositionBefore(t.Context(), db, time.Time{}); err != nil || at != 0 {
		t.Errorf("before all times: %d, %v", at, err)
	}
	beforeIsRight(t, db, all)
	if got := read(eventstore.Selection{}); len(got) != 10 {
		t.Errorf("%d events are left", len(got))
	}
	n := 0
	for _, err := range eventstore.ReadAll(t.Context(), db, 0, 1<<62) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 10 {
		t.Errorf("%d events are left, decoded", n)
	}
}

// beforeIsRight wants the times of the events there are, and those between them, to be found.
func beforeIsRight(t *testing.T, db *sql.DB, head int64) {
	t.Helper()
	var last eventstore.StoredEvent
	for e, err := range eventstore.ReadStored(t.Context(), db, eventstore.Selection{}) {
		if err != nil {
			t.Fatal(err)
		}
		if !e.RecordedAt.Equal(last.RecordedAt) && last.Position > 0 {
			for _, at := range []time.Time{e.RecordedAt, last.RecordedAt.Add(time.Microsecond)} {
				if before, err := eventstore.PositionBefore(t.Context(), db, at); err != nil || before != last.Position {
					t.Errorf("before %s is %d, not %d, %v", at, before, last.Position, err)
				}
			}
		}
		last = e
	}
	if before, err := eventstore.PositionBefore(t.Context(), db, last.RecordedAt.Add(time.Hour)); err != nil || before != head {
		t.Errorf("later than all is behind %d, %v", before, err)
	}
}
