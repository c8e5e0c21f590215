package commands_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/eventually"
	"nabu/internal/pgproxy"
	"nabu/internal/pgtest"
	"nabu/internal/postgres"
	"nabu/internal/sealing"
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

// executor starts a replica on a database; the house's own, where it prepares its statements
// unless a pooler stands before it, when db is nil.
func (h *house) executor(db *sql.DB, change ...func(*commands.Config)) *commands.Executor {
	h.Helper()
	prepare := db == nil && !pgtest.Pooled()
	if db == nil {
		db = h.db
	}
	log := slog.New(slog.DiscardHandler)
	cfg := commands.Config{
		DB: db, Prepare: prepare, Loader: projections.States{}, Projector: projections.Inlines{}, Limits: encryptingLimits(),
		Keys: sealing.NewKeys(h.db, h.masters(), log), Log: log,
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
func (h *house) history() []eventstore.RecordedEvent { return h.historyAfter(0) }

func (h *house) historyAfter(position int64) []eventstore.RecordedEvent {
	h.Helper()
	var all []eventstore.RecordedEvent
	for e, err := range eventstore.ReadAll(context.Background(), h.db, position, 1<<62) {
		if err != nil {
			h.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// ordered fails the test unless positions and versions are without holes and time never
// goes back. It returns the history.
func (h *house) ordered() []eventstore.RecordedEvent {
	h.Helper()
	versions := map[string]int64{}
	var before time.Time
	history := h.history()
	for i, e := range history {
		stream := e.Event.Stream()
		if e.Position != int64(i)+1 || e.Version != versions[stream]+1 || e.RecordedAt.Before(before) {
			h.Fatalf("event %d: position %d, version %d after %d, time %v after %v",
				i+1, e.Position, e.Version, versions[stream], e.RecordedAt, before)
		}
		versions[stream], before = e.Version, e.RecordedAt
	}
	return history
}

// sound fails the test unless the history is ordered, and the messages there are are
// those that were posted and not deleted.
func (h *house) sound() {
	h.Helper()
	there := map[domain.MessageID]bool{}
	for _, e := range h.ordered() {
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
		case domain.MessagesPopped:
			for _, m := range event.Messages {
				if !there[m.ID] {
					h.Fatalf("message %s was popped but not there", m.ID)
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
	eventually.Holds(h, "the first command waits for the lock", h.waitsForLock)
	for i, cmd := range cmds {
		callers.Go(func() { errs[i] = cmd() })
		eventually.Holds(h, "the command waits", func() bool { return e.Waiting() == i+1 })
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
