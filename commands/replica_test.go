package commands_test

import (
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"testing"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/eventually"
	"nabu/internal/pgproxy"
	"nabu/internal/pgtest"
	"nabu/projections"
)

// TestTwoReplicasLoseAndDoubleNothing: 32 callers on two executors post, delete and
// make and delete queues; every acknowledged post is in the history exactly once.
func TestTwoReplicasLoseAndDoubleNothing(t *testing.T) {
	h := newHouse(t)
	replicas := []*commands.Executor{h.executor(nil), h.executor(nil)}
	var mu sync.Mutex
	acknowledged := map[domain.MessageID]bool{}
	var callers sync.WaitGroup
	for caller := range 32 {
		callers.Go(func() {
			e := replicas[caller%2]
			queue := domain.QueueID{Project: "p1", Name: fmt.Sprint("q", caller%3)}
			for round := range 25 {
				ids, err := commands.Run(as(t.Context(), ""), e, post(queue, `1`, `2`))
				if err != nil {
					t.Errorf("post: %v", err)
					return
				}
				mu.Lock()
				acknowledged[ids[0]], acknowledged[ids[1]] = true, true
				mu.Unlock()
				other := replicas[(caller+round)%2]
				switch round % 10 {
				case 3:
					if _, err := commands.Run(as(t.Context(), ""), other, commands.DeleteMessages{Queue: queue, IDs: ids}); err != nil {
						t.Errorf("delete: %v", err)
					}
				case 7:
					if _, err := commands.Run(as(t.Context(), ""), other, commands.DeleteQueue{Queue: domain.QueueID{Project: "p1", Name: "q2"}}); err != nil {
						t.Errorf("delete queue: %v", err)
					}
				}
			}
		})
	}
	callers.Wait()
	posted := map[domain.MessageID]int{}
	for _, e := range h.history() {
		if event, ok := e.Event.(domain.MessagesPosted); ok {
			for _, m := range event.Messages {
				posted[m.ID]++
			}
		}
	}
	for id := range acknowledged {
		if posted[id] != 1 {
			t.Errorf("message %s was acknowledged and is %d times in the history", id, posted[id])
		}
	}
	if len(posted) != len(acknowledged) {
		t.Errorf("%d messages in the history, %d acknowledged", len(posted), len(acknowledged))
	}
	h.sound()
}

// TestNothingIsReadBeforeTheLock: while another session holds the lock, a delete
// waits. The other deletes the same message and commits. A decision on a state read
// before or together with the lock would delete it a second time.
func TestNothingIsReadBeforeTheLock(t *testing.T) {
	h := newHouse(t)
	first := h.executor(nil)
	id := run(t, first, post(orders, `1`))[0]

	second := h.executor(nil) // remembers nothing
	conn := h.holdLock()
	done := make(chan bool)
	go func() { done <- run(h, second, commands.DeleteMessage{Queue: orders, ID: id}) }()
	eventually.Holds(t, "the delete waits for the lock", h.waitsForLock)
	h.appendUnderLock(conn, domain.MessagesDeleted{
		Project: "p1", Queue: "orders", Number: 1, Messages: []domain.DeletedMessage{{ID: id, Place: domain.PostingPlace(id)}},
	})
	h.release(conn, "COMMIT")
	if deleted := <-done; deleted {
		t.Fatal("a message was deleted twice")
	}
	h.sound()
}

// TestLockAndLoadInOneStatementReadsThePast is the control of the test above: the
// same wait, but with the message looked up by the statement that takes the lock.
func TestLockAndLoadInOneStatementReadsThePast(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	id := run(t, e, post(orders, `1`))[0]
	conn := h.holdLock()
	seen := make(chan int)
	go func() {
		var n int
		if err := h.db.QueryRow(`
WITH lock AS MATERIALIZED (SELECT pg_advisory_xact_lock(7881299347898367))
SELECT (SELECT count(*) FROM messages WHERE id = $1) FROM lock`, id.String()).Scan(&n); err != nil {
			t.Error(err)
		}
		seen <- n
	}()
	eventually.Holds(t, "the statement waits for the lock", h.waitsForLock)
	h.appendUnderLock(conn, domain.MessagesDeleted{
		Project: "p1", Queue: "orders", Number: 1, Messages: []domain.DeletedMessage{{ID: id, Place: domain.PostingPlace(id)}},
	})
	h.release(conn, "COMMIT")
	if n := <-seen; n != 1 {
		t.Fatal("the control does not show the danger any more")
	}
}

// appendUnderLock writes an event of the queue orders on a connection that holds
// the lock, as another replica would.
func (h *house) appendUnderLock(conn *sql.Conn, event domain.Event) {
	h.Helper()
	ctx := h.Context()
	head, err := eventstore.ReadHead(ctx, conn)
	if err != nil {
		h.Fatal(err)
	}
	var version int64
	if err := conn.QueryRowContext(ctx, `SELECT `+eventstore.LastVersion("$1"), event.Stream()).Scan(&version); err != nil {
		h.Fatal(err)
	}
	batch := eventstore.Batch{Head: head, Events: []eventstore.NewEvent{{
		Event: event, Version: version + 1, Origin: domain.Origin{Project: "p1"},
	}}}
	at, err := eventstore.Append(ctx, conn, &batch)
	if err != nil {
		h.Fatal(err)
	}
	if err := (projections.Inlines{}).Apply(ctx, conn, batch.Recorded(at)); err != nil {
		h.Fatal(err)
	}
}

// TestMemoryFollowsOtherReplicas: what a replica remembers is worth nothing once
// another has written.
func TestMemoryFollowsOtherReplicas(t *testing.T) {
	h := newHouse(t)
	a, b := h.executor(nil), h.executor(nil)
	run(t, a, post(orders, `1`))
	run(t, a, post(orders, `2`))
	if way := h.lastReport().Way; way != commands.ShortWay {
		t.Fatalf("a second post went the way %q", way)
	}
	run(t, b, commands.ChangeQueue{Queue: orders, Patch: domain.MetadataPatch{{Op: "add", Key: "_default_message_ttl", Value: []byte(`60`)}}})
	run(t, a, post(orders, `3`))
	if ttl := h.lastPosted().Messages[0].TTL; ttl != 60 {
		t.Fatalf("posted with ttl %d, after the other replica set 60", ttl)
	}
	run(t, b, commands.DeleteQueue{Queue: orders})
	run(t, a, post(orders, `4`))
	if number := h.lastPosted().Number; number == 1 {
		t.Fatal("posted to the queue that the other replica had deleted")
	}
	for range eventstore.TailLimit + 10 { // further than memory is caught up
		run(t, b, post(orders, `5`))
	}
	run(t, a, post(orders, `6`))
	h.sound()
}

// TestAMemoryOfTheEmptyLedgerProvesNothing: what a replica remembers of a ledger
// without events has no event that could show whether it still holds.
func TestAMemoryOfTheEmptyLedgerProvesNothing(t *testing.T) {
	h := newHouse(t)
	a, b := h.executor(nil), h.executor(nil)
	run(t, a, commands.DeleteQueue{Queue: orders}) // remembers that there is none
	ids := run(t, b, post(orders, `1`))
	if !run(t, a, commands.DeleteMessage{Queue: orders, ID: ids[0]}) {
		t.Error("a message that was there was not deleted")
	}
	run(t, a, post(orders, `2`))
	h.sound()
}

// TestAClientThatFallsSilentLosesTheLock: a session that holds the ledger's lock and
// stops in the middle of a message is out of reach of PostgreSQL's own time limits.
// The first batch that waits for it in vain ends it.
func TestAClientThatFallsSilentLosesTheLock(t *testing.T) {
	h := newHouse(t)
	server := pgtest.Open(t)
	h.db = server.DB()
	pgproxy.Stuck(t, server.URL(), `BEGIN; SET LOCAL idle_in_transaction_session_timeout = 2000; SELECT pg_advisory_xact_lock(7881299347898367)`)
	run(t, h.executor(nil), post(orders, `1`))
	h.sound()
}

func (h *house) lastPosted() domain.MessagesPosted {
	h.Helper()
	for _, e := range slices.Backward(h.history()) {
		if posted, ok := e.Event.(domain.MessagesPosted); ok {
			return posted
		}
	}
	h.Fatal("nothing was posted")
	return domain.MessagesPosted{}
}

func TestWhatComesWhileTheLockIsHeldJoinsTheBatch(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	cmd := poster(as(t.Context(), ""), e, post(orders, `1`))
	for _, err := range h.gathered(e, cmd, cmd, cmd) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if report := h.lastReport(); report.Commands != 4 {
		t.Fatalf("the last batch had %d commands", report.Commands)
	}
}
