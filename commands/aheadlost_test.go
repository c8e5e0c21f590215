package commands_test

import (
	"database/sql"
	"testing"

	"nabu/commands"
	"nabu/domain"
	"nabu/internal/pgproxy"
	"nabu/internal/pgtest"
	"nabu/internal/postgres"
)

// takeover is a model whose server fails, and another one takes over that has not got the last
// event.
type takeover struct {
	*aheadModel
	own   *pgproxy.Proxy // the executor's way to the database
	ahead *pgproxy.Proxy // that of its loads ahead, which nobody cuts
	admin func(statement string, args ...any)
}

func newTakeover(t *testing.T) takeover {
	server := pgtest.Open(t)
	through := func() (*pgproxy.Proxy, *sql.DB) {
		proxy := pgproxy.New(t, server.URL())
		db, err := postgres.Open(proxy.URL(server.URL()), 1)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return proxy, db
	}
	own, db := through()
	ahead, aheadDB := through()
	m := newGatedModel(t, &house{TB: t, db: server.DB()})
	m.e = m.executor(db, m.clock.config, func(cfg *commands.Config) { cfg.Ahead, cfg.Loader = aheadDB, m.gated() })
	m.other = m.executor(nil, m.clock.config)
	t.Cleanup(func() { close(m.over) }) // before the executor is closed, which waits for its load
	pool, err := postgres.Open(server.AdminURL(), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close() })
	conn, err := pool.Conn(t.Context()) // which the table of its own lasts as long as
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return takeover{m, own, ahead, func(statement string, args ...any) {
		t.Helper()
		if _, err := conn.ExecContext(t.Context(), statement, args...); err != nil {
			t.Fatal(err)
		}
	}}
}

// deleteElsewhere has another replica delete a message that the load under way comes to.
func (m takeover) deleteElsewhere() {
	m.look()
	id := m.free[len(m.free)-5]
	m.admin(`CREATE TEMP TABLE lost AS SELECT * FROM live.messages WHERE id = $1`, id)
	do(m.aheadModel, m.other, commands.DeleteMessage{Queue: m.queue, ID: id})
}

// happens cuts the executor's connection, and the next one finds a ledger without the last event.
func (m takeover) happens() {
	m.admin(`
BEGIN;
SET LOCAL session_replication_role = replica;
DELETE FROM ledger.events WHERE position = (SELECT max(position) FROM ledger.events);
INSERT INTO live.messages TABLE lost;
COMMIT`)
	m.own.CutAll()
}

// TestALoadAheadFromALostServerIsNotUsed: the executor's connection is lost while it deals with
// another queue, and the new one leads to a server that knows nothing of what another replica did
// last. A load ahead saw that, and what is remembered of the queue holds for the new server: so
// nobody else will say that the message it missed is there.
func TestALoadAheadFromALostServerIsNotUsed(t *testing.T) {
	t.Parallel()
	for name, ends := range map[string]bool{"while it is under way": false, "when it is there": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newTakeover(t)
			elsewhere := domain.QueueID{Project: "p1", Name: "elsewhere"}
			do(m.aheadModel, m.e, post(elsewhere, `0`))
			do(m.aheadModel, m.e, post(m.queue, numbered(400)...))
			m.begin()
			m.deleteElsewhere()
			if m.goOn(); ends { // it looks
				m.end()
			}
			m.happens()
			do(m.aheadModel, m.e, post(elsewhere, `1`))
			m.drain()
			m.sound()
			if n := m.ahead.Opened(); n < 2 {
				t.Errorf("%d connections for loads ahead, the first of which leads to the lost server", n)
			}
		})
	}
}
