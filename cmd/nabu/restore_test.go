package main

import (
	"bytes"
	"context"
	"database/sql"
	"io"
	"log/slog"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nabu/eventstore"
	"nabu/internal/eventually"
	"nabu/internal/pgtest"
	"nabu/internal/postgres"
)

// TestARestoredDumpGoesOn dumps a ledger that is being written and read, restores it
// into a new PostgreSQL and goes on there. Consumers go on where the dump has them, each
// event has its effect once, and keys and claims are what they were.
func TestARestoredDumpGoesOn(t *testing.T) {
	t.Parallel()
	dump := filepath.Join(t.TempDir(), "dump")
	first := pgtest.OpenServer(t, map[string]string{"fsync": "off"})
	before := start(t, urlsOf(first)...)
	counting := countEvents(t, adminOf(t, first, postgres.Database), true)
	once := before.ask("POST", "/v2/queues/once/messages", `{"messages":[{"ttl":600,"body":"1"}]}`, 201, "Idempotency-Key", "only-once")
	before.call("POST", "/v2/queues/held/messages", `{"messages":[{"ttl":600,"body":"held"}]}`, 201)
	claim := claimPath(t, before.call("POST", "/v2/queues/held/claims", `{"ttl":300,"grace":60}`, 201))

	dumpUnderLoad(t, first, before, dump)
	counting.end()
	before.end()

	second := pgtest.OpenServer(t, map[string]string{"fsync": "off"})
	const restored = "restored"
	if _, err := adminOf(t, second, postgres.Database).Exec(`CREATE DATABASE ` + restored + ` OWNER nabu_owner`); err != nil {
		t.Fatal(err)
	}
	runProgram(t, "pg_restore", "--exit-on-error", "--dbname="+second.URL(postgres.Admin, restored), dump)
	db := adminOf(t, second, restored)
	head, sweeper := number(t, db, headSQL), number(t, db, sweeperSQL)
	if counted := number(t, db, countedSQL); counted == 0 || counted > head {
		t.Fatalf("the dump has %d events, %d of them counted", head, counted)
	}
	inRestored := []string{"--database-url", second.URL(postgres.App, restored), "--direct-database-url", second.URL(postgres.Owner, restored)}
	err := run(context.Background(), append([]string{"replay", "--check"}, inRestored...), cleanEnviron(), io.Discard)
	if exitCode(err) != exitMisconfigured || !strings.Contains(err.Error(), "run nabu migrate up first") {
		t.Errorf("before the roles have their rights back a check says %v", err)
	}
	after := start(t, inRestored...)
	counting = countEvents(t, db, false)
	if again := after.ask("POST", "/v2/queues/once/messages", `{"messages":[{"ttl":600,"body":"1"}]}`, 201, "Idempotency-Key", "only-once"); again != once {
		t.Errorf("the key's answer is %s, and was %s", again, once)
	}
	after.mustShow(after.call("GET", claim, "", 200), `"held"`)
	after.call("POST", "/v2/queues/held/claims", `{"ttl":300,"grace":60}`, 204)
	if now := number(t, db, headSQL); now != head {
		t.Errorf("the head went from %d to %d, and nothing was to be recorded", head, now)
	}
	after.call("POST", "/v2/queues/purged/messages", `{"messages":[{"ttl":600,"body":"1"}]}`, 201)
	after.call("DELETE", "/v2/queues/purged", "", 204)
	eventually.Holds(t, "the sweeper goes on", func() bool { return number(t, db, sweeperSQL) > max(head, sweeper) })
	eventually.Holds(t, "every event was counted", func() bool { return number(t, db, countedSQL) >= number(t, db, headSQL) })
	after.end()
	counting.end()
	var differs bytes.Buffer
	if err := run(context.Background(), append([]string{"replay", "--check"}, inRestored...), cleanEnviron(), &differs); err != nil {
		t.Errorf("a check of the restored read models: %v\n%s", err, differs.String())
	}
	if doubled := number(t, db, `SELECT count(*) - count(DISTINCT position) FROM counts.events`); doubled != 0 {
		t.Errorf("%d events were counted twice", doubled)
	}
	if err := newLedgered().read(context.Background(), db); err != nil {
		t.Error(err)
	}
}

// dumpUnderLoad dumps a database while clients post, claim and delete.
func dumpUnderLoad(t *testing.T, server *postgres.Server, nabu *running, file string) {
	t.Helper()
	load := torment(t, 5*time.Millisecond, strings.TrimPrefix(nabu.url, "http://"))
	defer load.stop()
	load.answersOf(200, load.nabus...)
	runProgram(t, "pg_dump", "--format=custom", "--file="+file, server.URL(postgres.Owner, postgres.Database))
	load.answersOf(20, load.nabus...)
}

const (
	headSQL    = `SELECT max(position) FROM ledger.events`
	countedSQL = `SELECT count(DISTINCT position) FROM counts.events`
	sweeperSQL = `SELECT position FROM ledger.consumers WHERE name = 'sweeper'`
)

func urlsOf(server *postgres.Server) []string {
	return []string{
		"--database-url", server.URL(postgres.App, postgres.Database),
		"--direct-database-url", server.URL(postgres.Owner, postgres.Database),
	}
}

func adminOf(t *testing.T, server *postgres.Server, database string) *sql.DB {
	t.Helper()
	db, err := postgres.Open(server.URL(postgres.Admin, database), 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func number(t *testing.T, db *sql.DB, query string) (n int64) {
	t.Helper()
	if err := db.QueryRow(query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// claimPath is where the claim is that holds the first message of an answer.
func claimPath(t *testing.T, claimed string) string {
	t.Helper()
	_, id, found := strings.Cut(claimed, "?claim_id=")
	if !found {
		t.Fatalf("no claim in %s", claimed)
	}
	return "/v2/queues/held/claims/" + id[:36]
}

// counter is a consumer that writes down each event it gets, in the transaction that
// moves its checkpoint.
type counter struct {
	db      *sql.DB
	feed    *eventstore.Feed
	running sync.WaitGroup
}

// countEvents starts the consumer, and makes its table where there is none yet.
func countEvents(t *testing.T, db *sql.DB, first bool) *counter {
	t.Helper()
	c := &counter{db: db}
	if first {
		if _, err := c.db.Exec(`CREATE SCHEMA counts AUTHORIZATION nabu_owner; SET LOCAL ROLE nabu_owner; CREATE TABLE counts.events (position bigint NOT NULL)`); err != nil {
			t.Fatal(err)
		}
	}
	c.feed = eventstore.NewFeed(eventstore.FeedConfig{DB: c.db, Log: slog.New(slog.DiscardHandler), Poll: 10 * time.Millisecond})
	messages, err := c.feed.Subscribe(context.Background(), "counter")
	if err != nil {
		t.Fatal(err)
	}
	c.running.Go(func() {
		for msg := range messages {
			slice, _ := eventstore.SliceOf(msg)
			if err := c.count(slice); err != nil {
				t.Error(err)
				msg.Nack()
			}
			msg.Ack()
		}
	})
	return c
}

func (c *counter) count(slice eventstore.Slice) error {
	ctx := context.Background()
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for _, e := range slice.Events {
		if _, err := tx.ExecContext(ctx, `INSERT INTO counts.events VALUES ($1)`, e.Position); err != nil {
			return err
		}
	}
	if err := eventstore.MoveCheckpoint(ctx, tx, slice.Consumer, slice.From, slice.To); err != nil {
		return err
	}
	return tx.Commit()
}

func (c *counter) end() {
	_ = c.feed.Close()
	c.running.Wait()
}

// runProgram runs one of PostgreSQL's programs.
func runProgram(t *testing.T, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
		if len(found) == 0 {
			t.Skipf("%s is not on this machine", name)
		}
		path = slices.Max(found)
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}
