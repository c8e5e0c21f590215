package projections

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgarray"
	"nabu/internal/pgrows"
)

// Forwards are the external events that another compute service is still to get.
var Forwards = Projection{Name: "forwards", DDL: mustDDL("forwards"), Apply: applyToForwards}

// Forward is what the service is to get of one server by one request.
type Forward struct {
	Event      string // the first of the events
	Position   int64  // of the event that accepted them
	Server     domain.ServerID
	RequestID  string // empty: it has no name
	AcceptedAt time.Time
}

// foldForwards is what a slice of history leaves to be forwarded, and what it does away with.
func foldForwards(history []eventstore.RecordedEvent) (owed []Forward, over []string) {
	for _, recorded := range history {
		switch e := recorded.Event.(type) {
		case domain.ExternalEventsAccepted:
			if e.Forward && len(e.Events) > 0 {
				owed = append(owed, Forward{e.Events[0].ID, recorded.Position, e.Server, recorded.Origin.RequestID, recorded.RecordedAt})
			}
		case domain.ExternalEventsForwarded:
			if len(e.Events) > 0 {
				over = append(over, e.Events[0].ID)
			}
		}
	}
	if len(owed) == 0 || len(over) == 0 {
		return owed, over
	}
	gone := make(map[string]bool, len(over))
	for _, event := range over {
		gone[event] = true
	}
	return slices.DeleteFunc(owed, func(f Forward) bool { return gone[f.Event] }), over
}

const (
	insertForwards = `
INSERT INTO forwards (event, position, server_uuid, request_id, accepted_at)
SELECT f.event, f.position, f.server, f.request, f.at
FROM unnest($1::text[], $2::bigint[], $3::uuid[], $4::text[], $5::timestamptz[]) AS f (event, position, server, request, at)`
	deleteForwards = `DELETE FROM forwards WHERE event = ANY($1::text[])`
)

func applyToForwards(ctx context.Context, tx eventstore.Tx, history []eventstore.RecordedEvent) error {
	owed, over := foldForwards(history)
	if len(over) > 0 {
		if _, err := tx.ExecContext(ctx, deleteForwards, pgarray.Texts(over)); err != nil {
			return fmt.Errorf("take away what was forwarded: %w", err)
		}
	}
	n := len(owed)
	if n == 0 {
		return nil
	}
	events, requests := make([]string, n), make([]string, n)
	positions, servers, times := make([]int64, n), make([]uuid.UUID, n), make([]time.Time, n)
	for i, f := range owed {
		events[i], positions[i], servers[i], requests[i], times[i] = f.Event, f.Position, f.Server, f.RequestID, f.AcceptedAt
	}
	_, err := tx.ExecContext(ctx, insertForwards, pgarray.Texts(events), pgarray.BigInts(positions), pgarray.UUIDs(servers),
		pgarray.TextsOrNull(requests), pgarray.Times(times))
	if err != nil {
		return fmt.Errorf("write what is to be forwarded: %w", err)
	}
	return nil
}

const forwardRead = `SELECT f.event, f.position, f.server_uuid, coalesce(f.request_id, ''), f.accepted_at FROM forwards f`

// Forwards lists what is to be forwarded behind a position, in order.
func (v *Views) Forwards(ctx context.Context, after int64, most int) ([]Forward, error) {
	return v.forwards(ctx, forwardRead+` WHERE f.position > $1 ORDER BY f.position LIMIT $2`, after, most)
}

// ForwardsOf lists those of one server.
func (v *Views) ForwardsOf(ctx context.Context, server domain.ServerID, after int64, most int) ([]Forward, error) {
	return v.forwards(ctx, forwardRead+` WHERE f.server_uuid = $3 AND f.position > $1 ORDER BY f.position LIMIT $2`, after, most, server)
}

func (v *Views) forwards(ctx context.Context, query string, args ...any) ([]Forward, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	rows, err := v.DB.QueryContext(ctx, query, args...)
	return pgrows.Collect("list what is to be forwarded", rows, err, func(f *Forward) error {
		return rows.Scan(&f.Event, &f.Position, &f.Server, &f.RequestID, &f.AcceptedAt)
	})
}

// WaitingForwards counts what is to be forwarded, and tells for how long the first of it has
// been; 0: nothing is.
func (v *Views) WaitingForwards(ctx context.Context) (n int, oldest time.Duration, err error) {
	ctx, cancel := within(ctx)
	defer cancel()
	var seconds sql.NullFloat64
	err = v.DB.QueryRowContext(ctx, `
SELECT count(*), extract(epoch FROM coalesce($1::timestamptz, statement_timestamp()) - min(f.accepted_at))::float8
FROM forwards f`,
		v.now()).Scan(&n, &seconds)
	if err != nil {
		return 0, 0, fmt.Errorf("count what is to be forwarded: %w", err)
	}
	return n, max(0, time.Duration(seconds.Float64*float64(time.Second))), nil
}
