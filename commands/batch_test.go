package commands_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgproxy"
	"nabu/internal/pgtest"
	"nabu/internal/postgres"
	"nabu/projections"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var orders = domain.QueueID{Project: "p1", Name: "orders"}

// house is a database and executors on it.
type house struct {
	testing.TB
	db *sql.DB

	mu      sync.Mutex
	reports []commands.BatchReport
}

func newHouse(t testing.TB) *house {
	return &house{TB: t, db: pgtest.Open(t).DB()}
}

// newProxiedHouse is a house with a second way to its database, through a proxy.
func newProxiedHouse(t testing.TB) (*house, *pgproxy.Proxy, *sql.DB) {
	t.Helper()
	server := pgtest.Open(t)
	proxy := pgproxy.New(t, server.URL())
	db, err := postgres.Open(proxy.URL(server.URL()), 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return &house{TB: t, db: server.DB()}, proxy, db
}

// executor starts a replica on a database; the house's own when db is nil.
func (h *house) executor(db *sql.DB, change ...func(*commands.Config)) *commands.Executor {
	h.Helper()
	if db == nil {
		db = h.db
	}
	cfg := commands.Config{
		DB: db, Loader: projections.States{}, Projector: projections.Inlines{}, Limits: domain.DefaultLimits(),
		Log: slog.New(slog.DiscardHandler),
		Observe: func(r commands.BatchReport) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.reports = append(h.reports, r)
		},
	}
	for _, c := range change {
		c(&cfg)
	}
	e := commands.NewExecutor(cfg)
	h.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			h.Errorf("close executor: %v", err)
		}
	})
	return e
}

func (h *house) lastReport() commands.BatchReport {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.reports) == 0 {
		return commands.BatchReport{}
	}
	return h.reports[len(h.reports)-1]
}

// history is all that is in the ledger.
func (h *house) history() []eventstore.RecordedEvent {
	h.Helper()
	var all []eventstore.RecordedEvent
	for e, err := range eventstore.ReadAll(context.Background(), h.db, 0, 1<<62) {
		if err != nil {
			h.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// sound fails the test unless positions and versions are without holes, time never
// goes back, and the messages there are are those that were posted and not deleted.
func (h *house) sound() {
	h.Helper()
	versions := map[string]int64{}
	there := map[domain.MessageID]bool{}
	var before time.Time
	for i, e := range h.history() {
		stream := e.Event.Stream()
		if e.Position != int64(i)+1 || e.Version != versions[stream]+1 || e.RecordedAt.Before(before) {
			h.Fatalf("event %d: position %d, version %d after %d, time %v after %v",
				i+1, e.Position, e.Version, versions[stream], e.RecordedAt, before)
		}
		versions[stream], before = e.Version, e.RecordedAt
		switch event := e.Event.(type) {
		case domain.MessagesPosted:
			for _, m := range event.Messages {
				if there[m.ID] {
					h.Fatalf("message %s was posted twice", m.ID)
				}
				there[m.ID] = true
			}
		case domain.MessagesDeleted:
			for _, m := range event.Messages {
				if !there[m.ID] {
					h.Fatalf("message %s was deleted but not there", m.ID)
				}
				delete(there, m.ID)
			}
		}
	}
	live := h.messages()
	for id := range live {
		if !there[id] {
			h.Fatalf("message %s is in the table but not in the history", id)
		}
	}
	if len(live) != len(there) {
		h.Fatalf("%d messages in the table, %d in the history", len(live), len(there))
	}
}

func (h *house) messages() map[domain.MessageID]bool {
	h.Helper()
	rows, err := h.db.Query(`SELECT id FROM messages`)
	if err != nil {
		h.Fatal(err)
	}
	defer rows.Close()
	live := map[domain.MessageID]bool{}
	for rows.Next() {
		var id domain.MessageID
		if err := rows.Scan(&id); err != nil {
			h.Fatal(err)
		}
		live[id] = true
	}
	if err := rows.Err(); err != nil {
		h.Fatal(err)
	}
	return live
}

func post(queue domain.QueueID, bodies ...string) commands.PostMessages {
	p := domain.Post{Queue: queue, Client: "c", Size: 100}
	for _, body := range bodies {
		p.Messages = append(p.Messages, domain.NewMessage{Body: body})
		p.Salts = append(p.Salts, rand.Uint64())
	}
	return commands.PostMessages{Post: p}
}

func run[R any](t testing.TB, e *commands.Executor, cmd commands.Command[R]) R {
	t.Helper()
	result, err := commands.Run(as(t.Context(), ""), e, cmd)
	if err != nil {
		t.Fatalf("%T: %v", cmd, err)
	}
	return result
}

// as is a context of a request, with an idempotency key if there is one.
func as(ctx context.Context, key string) context.Context {
	return commands.WithRequest(ctx, commands.Request{
		Origin:         domain.Origin{Project: "p1", Actor: "u1", RequestID: "req-1", CorrelationID: "req-1"},
		IdempotencyKey: key,
	})
}

func refusal(err error) domain.Code {
	if refused, ok := errors.AsType[*domain.Error](err); ok {
		return refused.Code
	}
	return ""
}

// until waits for a condition that another goroutine brings about.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

// holdLock takes the ledger's lock on a connection of its own, and returns it.
func (h *house) holdLock() *sql.Conn {
	h.Helper()
	conn, err := h.db.Conn(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	if _, err := eventstore.Begin(h.Context(), conn, eventstore.Head{}); err != nil {
		h.Fatal(err)
	}
	if _, err := conn.ExecContext(h.Context(), `SET LOCAL idle_in_transaction_session_timeout = 0`); err != nil {
		h.Fatal(err)
	}
	return conn
}

// release ends the transaction of holdLock.
func (h *house) release(conn *sql.Conn, how string) {
	h.Helper()
	if _, err := conn.ExecContext(h.Context(), how); err != nil {
		h.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		h.Fatal(err)
	}
}

// waitsForLock tells whether a session waits for the ledger's lock.
func (h *house) waitsForLock() bool {
	h.Helper()
	var n int
	if err := h.db.QueryRow(`
SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
WHERE l.locktype = 'advisory' AND NOT l.granted AND d.datname = current_database()`).Scan(&n); err != nil {
		h.Fatal(err)
	}
	return n > 0
}

func TestWhatIsPostedIsRecordedAndThere(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	ids := run(t, e, post(orders, `{"a": 1}`, `"b\u0000"`))
	past := h.history()
	if len(past) != 2 {
		t.Fatalf("%d events, want the queue and its messages", len(past))
	}
	posted := past[1].Event.(domain.MessagesPosted)
	want := domain.MessagesPosted{
		Project: "p1", Queue: "orders", Number: 1, Client: "c", Messages: []domain.PostedMessage{
			{ID: ids[0], TTL: 3600, Body: `{"a": 1}`}, {ID: ids[1], TTL: 3600, Body: `"b\u0000"`},
		},
	}
	if diff := cmp.Diff(want, posted); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if domain.PostingPlace(ids[1]) != domain.PlaceOf(2, 1) {
		t.Fatalf("the second message stands at %d", domain.PostingPlace(ids[1]))
	}
	origin := domain.Origin{Project: "p1", Actor: "u1", RequestID: "req-1", CorrelationID: "req-1"}
	if past[1].Origin != origin || past[0].Batch != past[1].Batch || past[0].RecordedAt != past[1].RecordedAt {
		t.Fatalf("recorded as %+v", past[1])
	}
	h.sound()
}

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
	until(t, "the delete waits for the lock", h.waitsForLock)
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
	until(t, "the statement waits for the lock", h.waitsForLock)
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

// gathered hands commands to an executor that cannot decide yet, so that they all
// are one batch, and returns their errors in the same order.
func (h *house) gathered(e *commands.Executor, cmds ...func() error) []error {
	h.Helper()
	conn := h.holdLock()
	errs := make([]error, len(cmds)+1)
	var callers sync.WaitGroup
	callers.Go(func() { // keeps the executor busy while the others gather
		_, errs[len(cmds)] = commands.Run(as(h.Context(), ""), e, post(domain.QueueID{Project: "p1", Name: "first"}, `0`))
	})
	until(h, "the first command waits for the lock", h.waitsForLock)
	for i, cmd := range cmds {
		callers.Go(func() { errs[i] = cmd() })
		until(h, "the command waits", func() bool { return e.Waiting() == i+1 })
	}
	h.release(conn, "ROLLBACK")
	callers.Wait()
	if err := errs[len(cmds)]; err != nil {
		h.Fatal(err)
	}
	return errs[:len(cmds)]
}

func poster(ctx context.Context, e *commands.Executor, cmd commands.PostMessages) func() error {
	return func() error {
		_, err := commands.Run(ctx, e, cmd)
		return err
	}
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

func TestARefusalConcernsItsOwnCommandOnly(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	ctx := as(t.Context(), "")
	errs := h.gathered(e,
		poster(ctx, e, post(orders, `1`)),
		poster(ctx, e, post(orders)), // no message: refused
		poster(ctx, e, post(orders, `2`)))
	if errs[0] != nil || errs[2] != nil || refusal(errs[1]) != domain.Invalid {
		t.Fatalf("answers: %v", errs)
	}
	if n := len(h.messages()); n != 3 { // with the one that kept the executor busy
		t.Fatalf("%d messages", n)
	}
	h.sound()
}

func TestDataTheDatabaseRefusesConcernsItsOwnCommandOnly(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	ctx := as(t.Context(), "")
	var cmds []func() error
	for i := range 9 {
		body := `1`
		if i == 5 {
			body = "\"\x00\"" // no layer above lets this through
		}
		cmds = append(cmds, poster(ctx, e, post(orders, body)))
	}
	for i, err := range h.gathered(e, cmds...) {
		if i == 5 && refusal(err) != domain.Invalid || i != 5 && err != nil {
			t.Errorf("answer %d: %v", i, err)
		}
	}
	if n := len(h.messages()); n != 9 {
		t.Fatalf("%d messages", n)
	}
	h.sound()
}

func TestDeletesAreDecidedBeforePosts(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	run(t, e, post(orders, `1`))
	ctx := as(t.Context(), "")
	errs := h.gathered(e, poster(ctx, e, post(orders, `2`)), func() error {
		_, err := commands.Run(ctx, e, commands.DeleteQueue{Queue: orders})
		return err
	})
	if errs[0] != nil || errs[1] != nil {
		t.Fatal(errs)
	}
	// The post came first in time but goes second: its message is in the new queue.
	posted := h.lastPosted()
	views := &projections.Views{DB: h.db}
	page, err := views.Messages(ctx, projections.MessageList{Queue: orders, Limit: 10, Echo: true})
	if err != nil || len(page.Messages) != 1 || page.Messages[0].ID != posted.Messages[0].ID {
		t.Fatalf("the queue has %v, %v", page.Messages, err)
	}
	if posted.Number == 1 {
		t.Fatal("posted to the deleted queue")
	}
}

func TestACallerThatLeftIsDropped(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	leaving, leave := context.WithCancel(as(t.Context(), ""))
	errs := h.gathered(e, poster(leaving, e, post(orders, `1`)), func() error {
		leave() // while the first one waits
		return poster(as(t.Context(), ""), e, post(domain.QueueID{Project: "p1", Name: "stays"}, `1`))()
	})
	if !errors.Is(errs[0], context.Canceled) || errs[1] != nil {
		t.Fatalf("answers: %v", errs)
	}
	for _, event := range h.history() {
		if event.Event.Stream() == orders.Stream() {
			t.Fatalf("recorded for a caller that had left: %v", event.Event)
		}
	}
}

func TestABatchThatDecidesNothingIsRolledBack(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	run(t, e, commands.CreateQueue{Queue: orders})
	head := h.lastReport().Head
	nothing := map[string]func(){
		"a queue that is there":       func() { run(t, e, commands.CreateQueue{Queue: orders}) },
		"a message that is not there": func() { run(t, e, commands.DeleteMessage{Queue: orders, ID: domain.NewMessageID(1, 1)}) },
		"messages that are not there": func() {
			run(t, e, commands.DeleteMessages{Queue: orders, IDs: []domain.MessageID{domain.NewMessageID(1, 1)}})
		},
		"a queue that is not there":    func() { run(t, e, commands.DeleteQueue{Queue: domain.QueueID{Project: "p1", Name: "none"}}) },
		"a patch that changes nothing": func() { run(t, e, commands.ChangeQueue{Queue: orders}) },
		"a refusal": func() {
			if _, err := commands.Run(as(t.Context(), ""), e, post(orders)); refusal(err) != domain.Invalid {
				t.Errorf("answer: %v", err)
			}
		},
	}
	for what, ask := range nothing {
		ask()
		if report := h.lastReport(); report.Way != commands.NoWay || report.Head != head || report.Events != 0 {
			t.Errorf("%s: %+v", what, report)
		}
	}
}

func TestAfterCloseNothingIsTaken(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	ctx := as(t.Context(), "")
	conn := h.holdLock()
	var callers sync.WaitGroup
	errs := make([]error, 20)
	ask := func(i int) { callers.Go(func() { _, errs[i] = commands.Run(ctx, e, post(orders, `1`)) }) }
	ask(0)
	until(t, "the first waits for the lock", h.waitsForLock)
	for i := range 19 {
		ask(i + 1)
	}
	until(t, "the others wait behind it", func() bool { return e.Waiting() == 19 })
	closed := make(chan error)
	go func() { closed <- e.Close(context.Background()) }()
	gone, leave := context.WithCancel(ctx)
	leave()
	until(t, "the executor takes no more", func() bool {
		_, err := commands.Run(gone, e, commands.DeleteQueue{Queue: domain.QueueID{Project: "p1", Name: "other"}})
		return refusal(err) == domain.Unavailable
	})
	h.release(conn, "ROLLBACK")
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	callers.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatalf("a command that was waiting: %v", err)
		}
	}
	if n := len(h.messages()); n != 20 {
		t.Fatalf("%d messages", n)
	}
}

// TestEveryCutIsSurvived cuts the connection at each round trip of each kind of
// batch, before the server saw it and after it answered. The command is carried out
// exactly once, whether its commit was lost or only the answer.
func TestEveryCutIsSurvived(t *testing.T) {
	for name, cut := range map[string]pgproxy.Cut{"unseen": pgproxy.Before, "unanswered": pgproxy.After} {
		t.Run(name, func(t *testing.T) {
			h, proxy, db := newProxiedHouse(t)
			e := h.executor(db)
			run(t, e, post(orders, `0`))
			kept := len(h.messages())
			steps := map[string]func() int{
				"a post, the short way": func() int { return len(run(t, e, post(orders, `1`))) },
				"a post, the long way": func() int {
					ctx := as(t.Context(), fmt.Sprint(rand.Uint64()))
					ids, err := commands.Run(ctx, e, post(orders, `1`))
					if err != nil {
						t.Error(err)
					}
					return len(ids)
				},
				"a post and a delete": func() int {
					ids := run(t, e, post(orders, `1`, `2`))
					if n := run(t, e, commands.DeleteMessages{Queue: orders, IDs: ids}); n != 2 {
						t.Errorf("%d messages deleted", n)
					}
					return 0
				},
				"a new queue": func() int {
					return len(run(t, e, post(domain.QueueID{Project: "p1", Name: fmt.Sprint(rand.Uint64())}, `1`)))
				},
			}
			for what, step := range steps {
				for k := int64(1); ; k++ {
					reached := false
					proxy.OnTrip(func(trip int64) pgproxy.Cut {
						if trip != k {
							return pgproxy.Pass
						}
						reached = true
						return cut
					})
					kept += step()
					if n := len(h.messages()); n != kept {
						t.Fatalf("%s, cut at round trip %d: %d messages, want %d", what, k, n, kept)
					}
					if proxy.OnTrip(nil); !reached {
						break
					}
				}
			}
			h.sound()
		})
	}
}

func TestWithoutADatabaseTheAnswerIsUnavailable(t *testing.T) {
	h, proxy, db := newProxiedHouse(t)
	e := h.executor(db)
	proxy.OnTrip(func(int64) pgproxy.Cut { return pgproxy.Before })
	if _, err := commands.Run(as(t.Context(), ""), e, post(orders, `1`)); refusal(err) != domain.Unavailable {
		t.Fatalf("answer: %v", err)
	}
	proxy.OnTrip(nil)
	run(t, e, post(orders, `1`)) // and goes on without help
}

// TestRoundTripsOfABatch counts what a batch costs, however many commands it has.
func TestRoundTripsOfABatch(t *testing.T) {
	h, proxy, db := newProxiedHouse(t)
	var trips []int64 // after each batch
	e := h.executor(db, func(cfg *commands.Config) {
		cfg.Observe = func(commands.BatchReport) { trips = append(trips, proxy.Trips()) }
	})
	ctx := as(t.Context(), "")
	known := domain.QueueID{Project: "p1", Name: "known"}
	ids := run(t, e, post(known, `1`, `2`, `3`, `4`))
	other := h.executor(nil) // another replica, so that memory is old
	beside := false          // the other replica
	count := func(what string, most int64, cmds ...func() error) {
		t.Helper()
		if beside {
			run(t, other, post(known, `9`))
		}
		for i, err := range h.gathered(e, cmds...) {
			if err != nil {
				t.Fatalf("%s: command %d: %v", what, i, err)
			}
		}
		n := len(trips)
		cost := trips[n-1] - trips[n-2]
		t.Logf("%s: %d round trips", what, cost)
		if cost > most {
			t.Errorf("%s: %d round trips, at most %d", what, cost, most)
		}
	}
	posts := func(n int, queue func(int) domain.QueueID) (cmds []func() error) {
		for i := range n {
			cmds = append(cmds, poster(ctx, e, post(queue(i), `1`)))
		}
		return cmds
	}
	before := proxy.Trips()
	run(t, e, post(known, `5`))
	if alone := proxy.Trips() - before; alone != 1 {
		t.Errorf("a post to a known queue, with no other replica: %d round trips", alone)
	}
	count("posts to new queues", 6, posts(20, func(i int) domain.QueueID { return domain.QueueID{Project: "p1", Name: fmt.Sprint("newer", i)} })...)
	// One of them is the try that finds out that another replica has written.
	count("posts to a known queue", 4, posts(20, func(int) domain.QueueID { return known })...)
	count("posts to new queues", 6, posts(20, func(i int) domain.QueueID { return domain.QueueID{Project: "p1", Name: fmt.Sprint("new", i)} })...)
	count("a mix of everything", 12, append(posts(5, func(i int) domain.QueueID { return domain.QueueID{Project: "p1", Name: fmt.Sprint("mix", i)} }),
		poster(as(t.Context(), "key"), e, post(known, `1`)),
		func() error {
			_, err := commands.Run(ctx, e, commands.DeleteMessages{Queue: known, IDs: ids[:2]})
			return err
		},
		func() error {
			_, err := commands.Run(ctx, e, commands.DeleteMessage{Queue: known, ID: ids[2]})
			return err
		},
		func() error {
			_, err := commands.Run(ctx, e, commands.DeleteQueue{Queue: domain.QueueID{Project: "p1", Name: "new1"}})
			return err
		},
		func() error {
			_, err := commands.Run(ctx, e, commands.CreateQueue{Queue: orders})
			return err
		},
		func() error {
			_, err := commands.Run(ctx, e, commands.ChangeQueue{Queue: known, Patch: domain.MetadataPatch{{Op: "add", Key: "a", Value: []byte(`1`)}}})
			return err
		})...)
	h.sound()
}

func TestIdempotencyKeys(t *testing.T) {
	h := newHouse(t)
	var now time.Time
	clock := func(cfg *commands.Config) { cfg.Now = func() time.Time { return now } }
	now = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	e, other := h.executor(nil, clock), h.executor(nil, clock)
	hashed := func(project, key string, hash byte) context.Context {
		return commands.WithRequest(t.Context(), commands.Request{
			Origin: domain.Origin{Project: project}, IdempotencyKey: key, RequestHash: [32]byte{hash},
		})
	}
	ask := func(e *commands.Executor, ctx context.Context) ([]domain.MessageID, error) {
		return commands.Run(ctx, e, post(orders, `1`))
	}
	first, err := ask(e, hashed("p1", "k", 1))
	if err != nil {
		t.Fatal(err)
	}
	for _, replica := range []*commands.Executor{e, other} {
		again, err := ask(replica, hashed("p1", "k", 1))
		if err != nil || !slices.Equal(again, first) {
			t.Fatalf("asked again: %v, %v; the first answer was %v", again, err, first)
		}
		if _, err := ask(replica, hashed("p1", "k", 2)); refusal(err) != domain.KeyReused {
			t.Fatalf("another request with the key: %v", err)
		}
	}
	if n := len(h.messages()); n != 1 {
		t.Fatalf("%d messages", n)
	}
	for _, ctx := range []context.Context{hashed("p2", "k", 1), hashed("p1", "other", 1)} {
		if ids, err := ask(e, ctx); err != nil || slices.Equal(ids, first) {
			t.Fatalf("another project or key: %v, %v", ids, err)
		}
	}
	// A refusal is no answer to keep.
	if _, err := commands.Run(hashed("p1", "refused", 1), e, post(orders)); refusal(err) != domain.Invalid {
		t.Fatal(err)
	}
	if _, err := ask(e, hashed("p1", "refused", 2)); err != nil {
		t.Fatalf("after a refusal: %v", err)
	}
	now = now.Add(25 * time.Hour)
	if ids, err := ask(e, hashed("p1", "k", 3)); err != nil || slices.Equal(ids, first) {
		t.Fatalf("a day later: %v, %v", ids, err)
	}
	h.sound()
}

func TestAKeyWhoseFirstRequestStillRunsIsRefused(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	errs := h.gathered(e,
		poster(as(t.Context(), "k"), e, post(orders, `1`)),
		func() error {
			_, err := commands.Run(as(t.Context(), "k"), e, post(orders, `1`))
			if refusal(err) != domain.KeyInUse {
				return fmt.Errorf("the second answer is %w", err)
			}
			return poster(as(t.Context(), ""), e, post(orders, `2`))()
		})
	if errs[0] != nil || errs[1] != nil {
		t.Fatal(errs)
	}
}

func TestTheWaitingLineIsBounded(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	conn := h.holdLock()
	large := bulky{post(orders, `1`)}
	var callers sync.WaitGroup
	ask := func() {
		callers.Go(func() {
			if _, err := commands.Run[[]domain.MessageID](as(t.Context(), ""), e, large); err != nil {
				t.Errorf("within the bound: %v", err)
			}
		})
	}
	ask()
	until(t, "the first waits for the lock", h.waitsForLock)
	for range 4 {
		ask()
	}
	until(t, "four wait behind it", func() bool { return e.Waiting() == 4 })
	if _, err := commands.Run[[]domain.MessageID](as(t.Context(), ""), e, large); refusal(err) != domain.Unavailable {
		t.Fatalf("beyond the bound: %v", err)
	}
	h.release(conn, "ROLLBACK")
	callers.Wait()
}

// bulky is a post that says it adds 16 MB to its batch.
type bulky struct{ commands.PostMessages }

func (b bulky) Needs() commands.Needs {
	needs := b.PostMessages.Needs()
	needs.Size = 16 << 20
	return needs
}

func TestTimeNeverGoesBack(t *testing.T) {
	h := newHouse(t)
	times := []time.Time{
		time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2030, 6, 1, 0, 0, 0, 0, time.UTC), time.Date(2032, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	next := 0
	e := h.executor(nil, func(cfg *commands.Config) {
		cfg.Now = func() time.Time { return times[next] }
	})
	for next = range times {
		run(t, e, post(orders, `1`)) // the short way, but for the first
		run(t, e, commands.CreateQueue{Queue: domain.QueueID{Project: "p1", Name: fmt.Sprint("q", next)}})
	}
	h.sound()
	past := h.history()
	if last := past[len(past)-1].RecordedAt; !last.Equal(times[3].Add(time.Microsecond)) && !last.Equal(times[3]) {
		t.Fatalf("the last event's time is %v", last)
	}
}

// TestPartitionsAreMadeAhead starts with a ledger whose one partition is full.
func TestPartitionsAreMadeAhead(t *testing.T) {
	h := newHouse(t)
	if _, err := h.db.Exec(`
INSERT INTO ledger.events (position, id, batch, stream, version, type, data, project, recorded_at)
SELECT past - 1, gen_random_uuid(), gen_random_uuid(), 'queue/p0/q', 1, 'queue.deleted.v1', '{}', 'p0', now()
FROM ledger.partitions`); err != nil {
		t.Fatal(err)
	}
	e := h.executor(nil, func(cfg *commands.Config) { cfg.PartitionSize = 8 })
	for range 50 {
		run(t, e, post(orders, `1`))
	}
	var partitions int
	if err := h.db.QueryRow(`SELECT count(DISTINCT tableoid) FROM ledger.events`).Scan(&partitions); err != nil {
		t.Fatal(err)
	}
	if partitions < 7 {
		t.Fatalf("51 events stand in %d partitions", partitions)
	}
	if n := len(h.messages()); n != 50 {
		t.Fatalf("%d messages", n)
	}
}
