package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lib/pq"
)

// SkipLockedLoad claims ten messages and deletes them, again and again, on one plain
// table, the way everybody does who makes a queue out of PostgreSQL: two statements,
// a transaction each, over many connections. It is what claims with deletes by ids
// are compared with.
type SkipLockedLoad struct {
	DatabaseURL string // of a role that may make schemas
	Connections int
	Body        int    // bytes of one body
	Pgbench     string // the program that makes the load; empty: lib/pq does
	Warmup      time.Duration
	Duration    time.Duration
}

const makePlainQueue = `
DROP SCHEMA IF EXISTS nabu_bench CASCADE;
CREATE SCHEMA nabu_bench;
CREATE TABLE nabu_bench.messages (
    id            bigint PRIMARY KEY,
    body          text NOT NULL,
    claim_expires timestamptz
)`

const fillPlainQueue = `INSERT INTO nabu_bench.messages (id, body) SELECT n, $1 FROM generate_series(1, $2::bigint) AS n`

// plainMessages is how many messages a second the table is filled for, at first.
const plainMessages = 50_000

const claimPlain = `
WITH claimed AS (
    UPDATE nabu_bench.messages SET claim_expires = now() + interval '30 minutes'
    WHERE id IN (
        SELECT id FROM nabu_bench.messages
        WHERE claim_expires IS NULL OR claim_expires < now()
        ORDER BY id LIMIT 10 FOR UPDATE SKIP LOCKED
    )
    RETURNING id, body
)
SELECT coalesce(array_agg(id), '{}') AS ids, array_agg(body) AS bodies FROM claimed`

const deletePlain = `DELETE FROM nabu_bench.messages WHERE id = ANY($1::bigint[])`

// Run makes the load, again with more messages if they did not last.
func (l SkipLockedLoad) Run(ctx context.Context) (m *Measured, err error) {
	connector, err := pq.NewConnector(l.DatabaseURL)
	if err != nil {
		return nil, fmt.Errorf("skip locked: database URL: %w", err)
	}
	db := sql.OpenDB(connector)
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxIdleConns(l.Connections)
	defer func() { _, _ = db.ExecContext(context.WithoutCancel(ctx), `DROP SCHEMA IF EXISTS nabu_bench CASCADE`) }()
	messages := int(plainMessages * (l.Warmup + l.Duration + time.Second).Seconds())
	for lasted := false; !lasted; messages *= 4 {
		if m, lasted, err = l.onQueueOf(ctx, db, messages); err != nil {
			return nil, fmt.Errorf("skip locked: %w", err)
		}
	}
	return m, nil
}

// onQueueOf makes the load on a new table and tells whether its messages lasted.
func (l SkipLockedLoad) onQueueOf(ctx context.Context, db *sql.DB, messages int) (m *Measured, lasted bool, err error) {
	if _, err := db.ExecContext(ctx, makePlainQueue); err != nil {
		return nil, false, fmt.Errorf("make the table: %w", err)
	}
	if _, err := db.ExecContext(ctx, fillPlainQueue, messageBody(l.Body), messages); err != nil {
		return nil, false, fmt.Errorf("fill the table: %w", err)
	}
	if _, err := db.ExecContext(ctx, `VACUUM (ANALYZE, FREEZE) nabu_bench.messages`); err != nil {
		return nil, false, err
	}
	if l.Pgbench != "" {
		m, err = l.runPgbench(ctx)
	} else {
		m, err = l.runHere(ctx, db)
	}
	if err != nil {
		return nil, false, err
	}
	err = db.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM nabu_bench.messages WHERE claim_expires IS NULL)`).Scan(&lasted)
	return m, lasted, err
}

// runHere makes the load by lib/pq.
func (l SkipLockedLoad) runHere(ctx context.Context, db *sql.DB) (*Measured, error) {
	counting := time.Now().Add(l.Warmup)
	w := &window{start: counting, end: counting.Add(l.Duration)}
	each, problems := make([]Measured, l.Connections), make([]error, l.Connections)
	var all sync.WaitGroup
	for i := range each {
		all.Go(func() { problems[i] = each[i].takePlain(ctx, db, w) })
	}
	all.Wait()
	sum := &Measured{Took: l.Duration}
	for i := range each {
		sum.merge(&each[i])
	}
	return sum, errors.Join(append(problems, ctx.Err())...)
}

// takePlain is one connection's claims and deletes.
func (m *Measured) takePlain(ctx context.Context, db *sql.DB, w *window) (err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	claim, err := conn.PrepareContext(ctx, claimPlain)
	if err != nil {
		return err
	}
	defer func() { _ = claim.Close() }()
	remove, err := conn.PrepareContext(ctx, deletePlain)
	if err != nil {
		return err
	}
	defer func() { _ = remove.Close() }()
	for ctx.Err() == nil {
		from := time.Now()
		if !from.Before(w.end) {
			break
		}
		var ids string
		var bodies sql.NullString
		if err := claim.QueryRowContext(ctx).Scan(&ids, &bodies); err != nil {
			return err
		}
		if claimed := time.Now(); w.holds(from, claimed) {
			m.count(outcome{}, claimed.Sub(from))
		}
		gone, err := remove.ExecContext(ctx, ids)
		if err != nil {
			return err
		}
		if done := time.Now(); w.holds(from, done) {
			n, _ := gone.RowsAffected()
			m.count(outcome{messages: int(n), untimed: true}, 0)
		}
	}
	return nil
}
