package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"nabu/internal/postgres"
)

// LedgerReader reads the whole ledger and tells how many events there are.
type LedgerReader func(ctx context.Context, db *sql.DB) (events int, err error)

// What reading the ledger has to reach, beside bare Rows.Scan of the same table.
const (
	storedToBare  = 0.9
	decodedToBare = 0.5
)

// The ledger that is read: posts of one message, and some that are claimed and deleted by
// tens.
const (
	readPosts  = 20_000
	readClaims = 5_000 // messages
)

// measureRead reads the same ledger in several ways.
func measureRead(ctx context.Context, s *stage, r *Report) error {
	if s.ReadStored == nil || s.ReadDecoded == nil {
		return errors.New("read: nothing to read the ledger with")
	}
	if err := s.fillLedger(ctx); err != nil {
		return err
	}
	lines, err := s.measure(ctx,
		reading("ledger, Rows.Scan alone", scanLedger), reading("ledger, undecoded", s.ReadStored), reading("ledger, decoded", s.ReadDecoded))
	if err != nil {
		return err
	}
	r.Lines = append(r.Lines, lines...)
	r.least("undecoded / Rows.Scan, events", ratio(lines[1].runsMessages, lines[0].runsMessages), "", storedToBare)
	r.least("decoded / Rows.Scan, events", ratio(lines[2].runsMessages, lines[0].runsMessages), "", decodedToBare)
	return nil
}

// fillLedger makes events of several kinds.
func (s *stage) fillLedger(ctx context.Context) error {
	address, err := s.address(ctx)
	if err != nil {
		return err
	}
	s.progress("filling the ledger")
	const connections = 32
	posted, err := PostLoad{
		Addresses: []string{address}, Connections: connections, Queues: 10, PerRequest: 1, Body: s.Body,
		Duration: untilDone, Requests: readPosts / connections,
	}.Run(ctx)
	if err != nil {
		return err
	}
	if n := posted.Measured.Errors; n > 0 {
		return fmt.Errorf("fill the ledger: %d posts failed, the first with: %s", n, posted.Measured.FirstErr)
	}
	queue, err := s.supply(ctx)
	if err != nil {
		return err
	}
	if err := queue.Fill(ctx, readClaims); err != nil {
		return err
	}
	return queue.UseUp(ctx, claimTen(deleteByIDs, timeClaims))
}

// reading reads the ledger from beginning to end, over one connection, again and again.
// Its requests are passes and its messages events.
func reading(name string, read LedgerReader) scenario {
	return scenario{name, 1, func(ctx context.Context, s *stage) (*Measured, *Check, error) {
		url, err := s.database(ctx, postgres.App)
		if err != nil {
			return nil, nil, err
		}
		db, err := postgres.Open(url, 1)
		if err != nil {
			return nil, nil, err
		}
		defer func() { _ = db.Close() }()
		if _, err := read(ctx, db); err != nil { // warms up
			return nil, nil, err
		}
		m := &Measured{}
		for began := time.Now(); m.Took < s.Duration; m.Took = time.Since(began) {
			from := time.Now()
			n, err := read(ctx, db)
			if err != nil {
				return nil, nil, err
			}
			m.Requests++
			m.Messages += n
			m.Latency.Add(time.Since(from))
		}
		return m, nil, nil
	}}
}

// scanLedger does what any program has to that wants all columns.
func scanLedger(ctx context.Context, db *sql.DB) (events int, err error) {
	rows, err := db.QueryContext(ctx, `
SELECT position, id, batch, stream, version, type, data, bodies, project, actor, request_id,
    global_request_id, correlation_id, causation_id, recorded_at
FROM ledger.events
ORDER BY position`)
	if err != nil {
		return 0, fmt.Errorf("scan the ledger: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for ; rows.Next(); events++ {
		var (
			position, version                              int64
			id, batch, stream, kind, project               string
			data, bodies                                   []byte
			actor, request, global, correlation, causation sql.NullString
			at                                             time.Time
		)
		if err := rows.Scan(&position, &id, &batch, &stream, &version, &kind, &data, &bodies, &project, &actor, &request,
			&global, &correlation, &causation, &at); err != nil {
			return 0, fmt.Errorf("scan the ledger: %w", err)
		}
	}
	return events, rows.Err()
}
