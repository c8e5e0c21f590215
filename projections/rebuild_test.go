package projections_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgtest"
	"nabu/projections"
)

// rebuild makes all read models anew, in slices of so many events at most.
func (h *house) rebuild(slice int) {
	h.Helper()
	if err := (projections.Rebuilding{DB: h.direct, Projections: projections.Inline, Slice: slice}).Run(h.request()); err != nil {
		h.Fatal(err)
	}
}

// tables are all rows of all projects.
func (h *house) tables() (rows []string) {
	h.Helper()
	for _, table := range []string{
		"queues", "messages", "claims", "message_counts", "revoked_shares", "subscriptions",
		"delivery_cursors", "deliveries", "tasks", "user_messages",
	} {
		found, err := h.db.Query(`SELECT $1 || ' ' || row_to_json(t)::text FROM live.`+table+` t ORDER BY 1`, table)
		if err != nil {
			h.Fatal(err)
		}
		for found.Next() {
			var row string
			if err := found.Scan(&row); err != nil {
				h.Fatal(err)
			}
			rows = append(rows, row)
		}
		if err := found.Err(); err != nil {
			h.Fatal(err)
		}
	}
	return rows
}

// TestARebuildIsTheLiveTable: whatever clients do, a check finds nothing, and a rebuild
// makes the same rows, in slices of any size; and the service goes on with them.
func TestARebuildIsTheLiveTable(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const enough = 8 // each history lengthens the next: a rebuild takes all there is
	done, failed := 0, false
	rapid.Check(t, func(rt *rapid.T) {
		if done++; done > enough && !failed {
			return
		}
		h.project = uuid.NewString()
		w := walk{house: h, T: rt}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			h.now = h.now.Add(time.Duration(rapid.IntRange(0, 90).Draw(rt, "seconds"))*time.Second + time.Millisecond)
			w.step()
		}
		slice := rapid.SampledFrom([]int{1, 7, 50, 1000}).Draw(rt, "slice")
		failed = true // unless it comes to its end
		if diff := cmp.Diff([]string(nil), h.check(slice)); diff != "" {
			rt.Fatalf("a check finds (-want +got):\n%s", diff)
		}
		before := h.tables()
		h.rebuild(slice)
		if diff := cmp.Diff(before, h.tables()); diff != "" {
			rt.Fatalf("(-live +rebuilt):\n%s", diff)
		}
		h.counted(rt)
		failed = false
	})
}

// TestWhatIsRememberedIsForgotten: a rebuild brings back what somebody took away below the
// mark of a queue, and what somebody made of its metadata; executors that remember
// otherwise go by the new tables at once.
func TestWhatIsRememberedIsForgotten(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	other := h.replica()
	h.create("a", `{}`)
	h.post("a", "c", plain(`1`), plain(`2`))
	h.tamper(`DELETE FROM messages WHERE place = 131072; UPDATE queues SET metadata = '{"_default_message_ttl": 77}'`)
	if _, err := commands.Run(h.request(), other, h.posting("a", plain(`3`))); err != nil { // remembers the metadata
		t.Fatal(err)
	}
	for _, e := range []*commands.Executor{other, h.executor} {
		pop, err := commands.Run(h.request(), e, commands.PopMessages{Queue: h.id("a"), Limit: 1})
		if err != nil || len(pop) != 1 {
			t.Fatalf("popped %v, %v", pop, err)
		}
	}
	h.rebuild(0)
	pop, err := commands.Run(h.request(), other, commands.PopMessages{Queue: h.id("a"), Limit: 9})
	if err != nil || len(pop) != 1 || pop[0].Body != `1` {
		t.Errorf("popped %+v, %v", pop, err)
	}
	h.post("a", "c", plain(`4`))
	if _, err := commands.Run(h.request(), other, h.posting("a", plain(`5`))); err != nil {
		t.Fatal(err)
	}
	if rows := h.tables(); len(rows) != 3 || !strings.Contains(rows[1], `"ttl":3600`) || !strings.Contains(rows[2], `"ttl":3600`) {
		t.Errorf("there are %s", rows)
	}
	if got := h.check(0); len(got) > 0 {
		t.Errorf("a check finds %q", got)
	}
}

func (h *house) tamper(statement string) {
	h.Helper()
	if _, err := h.db.Exec(statement); err != nil {
		h.Fatal(err)
	}
}

func (h *house) posting(name string, messages ...domain.NewMessage) commands.PostMessages {
	p := domain.Post{Queue: h.id(name), Client: "c", Messages: messages, Size: 10}
	for range messages {
		p.Salts = append(p.Salts, rand.Uint64())
	}
	return commands.PostMessages{Post: p}
}

// replica is another executor, by the database's clock.
func (h *house) replica() *commands.Executor {
	e := commands.NewExecutor(commands.Config{
		DB: h.db, Prepare: !pgtest.Pooled(), Loader: projections.States{}, Projector: projections.Inlines{}, Limits: domain.DefaultLimits(),
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return h.now },
	})
	h.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			h.Error(err)
		}
	})
	return e
}

// TestNamedProjectionsAreRebuiltAlone: what was not named stays as it is.
func TestNamedProjectionsAreRebuiltAlone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.create("a", `{}`)
	h.post("a", "c", plain(`1`))
	h.tamper(`UPDATE queues SET default_delay = 9; UPDATE messages SET ttl = 9`)
	for _, p := range []projections.Projection{projections.Messages, projections.Queues} {
		if got := h.check(0); len(got) == 0 {
			t.Error("a check finds nothing")
		}
		if err := (projections.Rebuilding{DB: h.direct, Projections: []projections.Projection{p}}).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := h.check(0); len(got) > 0 {
		t.Errorf("a check finds %q", got)
	}
	h.post("a", "c", plain(`2`))
	if got := h.list(projections.MessageList{Queue: h.id("a"), Limit: 10, Echo: true}); len(got) != 2 {
		t.Errorf("listed %v", got)
	}
	last := domain.ReadModelsRebuilt{}
	for e, err := range eventstore.ReadStream(t.Context(), h.db, last.Stream(), 1) {
		if err != nil || e.Version != 2 {
			t.Fatalf("version %d, %v", e.Version, err)
		}
		last = e.Event.(domain.ReadModelsRebuilt)
	}
	if diff := cmp.Diff([]string{"queues"}, last.Projections); diff != "" {
		t.Errorf("recorded last (-want +got):\n%s", diff)
	}
}

// TestAnInterruptedRebuildChangesNothing: whenever it is told to stop, the live tables are
// whole, the service goes on, and the next one succeeds.
func TestAnInterruptedRebuildChangesNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for range 30 {
		h.post("a", "c", plain(`1`), plain(`2`))
	}
	for stop := 0; ; stop++ {
		ctx, cancel := context.WithCancel(t.Context())
		told := 0
		err := projections.Rebuilding{DB: h.direct, Projections: projections.Inline, Slice: 7, Tell: func(projections.Progress) {
			if told == stop {
				cancel()
			}
			told++
		}}.Run(ctx)
		cancel()
		if got := h.check(0); len(got) > 0 {
			t.Fatalf("stopped at step %d: a check finds %q", stop, got)
		}
		var left int
		if err := h.db.QueryRow(`SELECT count(*) FROM pg_namespace WHERE nspname IN ('next', 'old', 'scratch')`).Scan(&left); err != nil || left > 0 {
			t.Fatalf("stopped at step %d: %d schemas are left, %v", stop, left, err)
		}
		h.post("a", "c", plain(`3`))
		if told <= stop {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatalf("stopped at step %d: %v", stop, err)
		}
	}
}

// TestALoadLocksTheTableThatItReads: otherwise a swap could come between its snapshot and
// its look at the table, which would be a new one whose last rows it cannot see.
func TestALoadLocksTheTableThatItReads(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.post("a", "c", plain(`1`))
	tx, err := h.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	head, err := eventstore.ReadHead(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := (projections.States{}).Peek(t.Context(), tx, head, time.Time{}, domain.MessageNeeds{}); err != nil {
		t.Fatal(err)
	}
	var locked bool
	if err := tx.QueryRow(`
SELECT EXISTS (SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'live.messages'::regclass AND granted)`).Scan(&locked); err != nil {
		t.Fatal(err)
	}
	if !locked {
		t.Error("the load has read nothing of messages, and has not locked it either")
	}
}

// TestAForeignSchemaIsLeftAlone: a schema that somebody else has made is not removed.
func TestAForeignSchemaIsLeftAlone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.tamper(`CREATE SCHEMA old; CREATE TABLE old.precious ()`)
	err := projections.Rebuilding{DB: h.direct, Projections: projections.Inline}.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "schema old is not nabu's") {
		t.Errorf("%v", err)
	}
	h.tamper(`DROP TABLE old.precious; DROP SCHEMA old`)
}

// TestSwapsUnderLoad: while rebuilds swap again and again, callers on two executors post,
// claim, delete and list. Nobody misses what is there, gets what another has, or is
// refused. One rebuild folds so slowly that it would never catch up with them.
func TestSwapsUnderLoad(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	executors := []*commands.Executor{h.clocked(), h.clocked()}
	h.views.Now = nil
	ctx, stop := context.WithCancel(h.request())
	var callers sync.WaitGroup
	defer callers.Wait()
	defer stop()
	round := make(chan struct{}, 1)
	for caller := range 4 { // one for each pair of executors
		callers.Go(func() {
			for ctx.Err() == nil {
				if err := h.roundTrip(executors, caller); err != nil {
					t.Error(err)
					stop()
					return
				}
				select {
				case round <- struct{}{}:
				default:
				}
			}
		})
	}
	rounds := func(n int) {
		for range n {
			select {
			case <-round:
			case <-ctx.Done():
			}
		}
	}
	rounds(40) // some 250 events, more than a swap may be about to fold
	// The slow one comes first, while there is little to fold.
	for _, slice := range []int{1, 0, 30, 30, 100, 100, 1000, 1000} {
		h.rebuild(slice)
		rounds(4) // the first may have ended before the swap
	}
	stop()
	callers.Wait()
	if got := h.check(0); len(got) > 0 {
		t.Errorf("a check finds %q", got)
	}
}

// TestARebuildThatFallsBehindMakesOthersWait: one that finds as much as before each time it
// looks takes the ledger's lock to fold, and has then folded also what came since it looked.
func TestARebuildThatFallsBehindMakesOthersWait(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	executor := h.clocked()
	h.views.Now = nil
	append300 := func() {
		var all sync.WaitGroup
		for i := range 300 { // one event each, more than a swap may be about to fold
			all.Go(func() {
				if _, err := commands.Run(h.request(), executor, h.posting(fmt.Sprint("q", i%3), plain(`1`))); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	looks := 0
	err := projections.Rebuilding{DB: h.direct, Projections: projections.Inline, Tell: func(p projections.Progress) {
		switch {
		case p.Step == projections.Indexing:
			append300()
		case p.Step == projections.CatchingUp && p.Position < p.Head:
			looks++
			append300()
		}
	}}.Run(h.request())
	if err != nil {
		t.Fatal(err)
	}
	if looks != 3 {
		t.Errorf("it looked %d times and found too much to swap, not 3 times", looks)
	}
	if got := h.check(0); len(got) > 0 {
		t.Errorf("a check finds %q", got)
	}
}

// clocked is an executor that goes by the database's clock.
func (h *house) clocked() *commands.Executor {
	e := commands.NewExecutor(commands.Config{
		DB: h.db, Prepare: !pgtest.Pooled(), Loader: projections.States{}, Projector: projections.Inlines{}, Limits: domain.DefaultLimits(),
		Log: slog.New(slog.DiscardHandler),
	})
	h.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			h.Error(err)
		}
	})
	return e
}

// roundTrip posts to a queue of the caller's own through one executor, and finds, claims
// and deletes all of it through the other.
func (h *house) roundTrip(executors []*commands.Executor, caller int) error {
	ctx := h.request()
	mine, other := executors[caller%2], executors[(caller/2)%2]
	name := fmt.Sprint("q", caller)
	ids, err := commands.Run(ctx, mine, h.posting(name, plain(`1`), plain(`2`), plain(`3`)))
	if err != nil {
		return fmt.Errorf("post: %w", err)
	}
	page, err := h.views.Messages(ctx, projections.MessageList{Queue: h.id(name), Limit: 10, Echo: true})
	if err != nil || len(page.Messages) != 3 {
		return fmt.Errorf("listed %d messages instead of 3: %w", len(page.Messages), err)
	}
	claim := uuid.New()
	got, err := commands.Run(ctx, other, commands.ClaimMessages{Queue: h.id(name), Claiming: domain.Claiming{
		Claim: claim, Life: domain.ClaimLife{TTL: 300, Grace: 60}, Limit: 2,
	}})
	if err != nil || len(got) != 2 || got[0].ID != ids[0] || got[1].ID != ids[1] {
		return fmt.Errorf("claimed %v instead of %v: %w", got, ids[:2], err)
	}
	if again, err := commands.Run(ctx, mine, commands.PopMessages{Queue: h.id(name), Limit: 3}); err != nil || len(again) != 1 || again[0].ID != ids[2] {
		return fmt.Errorf("popped %v instead of %v: %w", again, ids[2], err)
	}
	for i, id := range ids[:2] {
		deleted, err := commands.Run(ctx, executors[i], commands.DeleteMessage{Queue: h.id(name), ID: id, WithClaim: true, Claim: claim})
		if err != nil || !deleted {
			return fmt.Errorf("delete of %v: %v, %w", id, deleted, err)
		}
	}
	page, err = h.views.Messages(ctx, projections.MessageList{Queue: h.id(name), Limit: 10, Echo: true, IncludeClaimed: true})
	if err != nil || len(page.Messages) != 0 {
		return fmt.Errorf("listed %d messages that were deleted: %w", len(page.Messages), err)
	}
	return nil
}

// TestASwapWaitsForWhoReads: somebody who reads a live table for long delays the swap, and
// nobody else.
func TestASwapWaitsForWhoReads(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.post("a", "c", plain(`1`))
	reader, err := h.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Rollback() }()
	if _, err := reader.Exec(`LOCK TABLE messages IN ACCESS SHARE MODE`); err != nil {
		t.Fatal(err)
	}
	tries := 0
	err = projections.Rebuilding{DB: h.direct, Projections: projections.Inline, Tell: func(p projections.Progress) {
		if p.Step != projections.Swapping {
			return
		}
		tries++
		h.post("a", "c", plain(`2`))
		if got := h.list(projections.MessageList{Queue: h.id("a"), Limit: 10, Echo: true}); len(got) != tries+1 {
			t.Errorf("listed %v before try %d", got, tries)
		}
		if tries == 4 {
			_ = reader.Rollback()
		}
	}}.Run(t.Context())
	if err != nil || tries != 4 {
		t.Errorf("%d tries, %v", tries, err)
	}
	if got := h.check(0); len(got) > 0 {
		t.Errorf("a check finds %q", got)
	}
}
