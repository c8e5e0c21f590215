package bench

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
)

// RowsLoad inserts rows into a table like the ledger's, and into nothing else, the
// way a Go program does that has no other wish: one connection, a prepared
// statement, 100 rows each time as text arrays. It is what posts of ten messages
// are compared with.
type RowsLoad struct {
	DatabaseURL string // of a role that may read the ledger and make schemas
	Body        int    // bytes of one body
	Warmup      time.Duration
	Duration    time.Duration
}

const rowsPerInsert = 100

const makeRowsTable = `
DROP SCHEMA IF EXISTS nabu_bench CASCADE;
CREATE SCHEMA nabu_bench;
CREATE TABLE nabu_bench.events (LIKE ledger.events INCLUDING ALL) PARTITION BY RANGE (position);
CREATE TABLE nabu_bench.events_1 PARTITION OF nabu_bench.events FOR VALUES FROM (1) TO (1000000000)`

const insertRows = `
INSERT INTO nabu_bench.events
    (position, id, batch, stream, version, type, data, bodies, project, actor, request_id, recorded_at)
SELECT $1::bigint + n, id, $2::uuid, stream, version, type, data, ARRAY[body], project, actor, request_id, clock_timestamp()
FROM unnest($3::uuid[], $4::text[], $5::bigint[], $6::text[], $7::json[], $8::text[], $9::text[], $10::text[], $11::text[])
    WITH ORDINALITY AS new (id, stream, version, type, data, body, project, actor, request_id, n)`

// Run makes the load. Its messages are rows.
func (l RowsLoad) Run(ctx context.Context) (m *Measured, err error) {
	connector, err := pq.NewConnector(l.DatabaseURL)
	if err != nil {
		return nil, fmt.Errorf("rows: database URL: %w", err)
	}
	db := sql.OpenDB(connector)
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, makeRowsTable); err != nil {
		return nil, fmt.Errorf("rows: make the table: %w", err)
	}
	defer func() { _, _ = db.ExecContext(context.WithoutCancel(ctx), `DROP SCHEMA nabu_bench CASCADE`) }()
	insert, err := db.PrepareContext(ctx, insertRows)
	if err != nil {
		return nil, fmt.Errorf("rows: prepare: %w", err)
	}
	defer func() { _ = insert.Close() }()
	return l.insert(ctx, insert)
}

func (l RowsLoad) insert(ctx context.Context, insert *sql.Stmt) (*Measured, error) {
	body := messageBody(l.Body)
	counting := time.Now().Add(l.Warmup)
	w := &window{start: counting, end: counting.Add(l.Duration)}
	m := &Measured{Took: l.Duration}
	for position := 0; ctx.Err() == nil; position += rowsPerInsert {
		from := time.Now()
		if !from.Before(w.end) {
			break
		}
		args, err := newRows(position, body)
		if err != nil {
			return m, err
		}
		if _, err := insert.ExecContext(ctx, args...); err != nil {
			return m, fmt.Errorf("rows: insert: %w", err)
		}
		if done := time.Now(); w.holds(from, done) {
			m.Requests++
			m.Messages += rowsPerInsert
			m.Latency.Add(done.Sub(from))
		}
	}
	return m, ctx.Err()
}

// newRows are a hundred rows as a post of one message writes them.
func newRows(position int, body string) ([]any, error) {
	const n = rowsPerInsert
	ids, streams, types, data := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	bodies, projects, actors, requests := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	versions := make([]int64, n)
	batch, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	for i := range n {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, err
		}
		ids[i], versions[i] = id.String(), int64(position+i+1)
		streams[i], types[i], projects[i], actors[i] = "queue/bench/orders", "messages.posted.v1", project, "bench"
		data[i] = `{"project":"bench","queue":"orders","number":1,"client":"` + sender + `","messages":[{"id":"` + ids[i] + `","ttl":3600}]}`
		bodies[i] = body
		requests[i] = "req-" + ids[i]
	}
	return []any{
		position, batch.String(), pq.Array(ids), pq.Array(streams), pq.Array(versions), pq.Array(types), pq.Array(data),
		pq.Array(bodies), pq.Array(projects), pq.Array(actors), pq.Array(requests),
	}, nil
}
