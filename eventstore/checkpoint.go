package eventstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"nabu/internal/pgarray"
)

// ErrMoved: a consumer's checkpoint is not where it was believed to be.
var ErrMoved = errors.New("the checkpoint has moved")

// MoveCheckpoint moves a consumer's checkpoint in the open transaction: whoever writes
// what a slice leads to and its checkpoint together has written it exactly once. It
// fails with ErrMoved, and changes nothing, when the checkpoint is not at from or the
// consumer has none; the transaction is then to be rolled back. The checkpoint's row
// stays locked until the transaction ends.
func MoveCheckpoint(ctx context.Context, tx Tx, consumer string, from, to int64) error {
	result, err := tx.ExecContext(ctx, `
UPDATE ledger.consumers SET position = $3::bigint, updated_at = clock_timestamp()
WHERE name = $1::text AND position = $2::bigint`, consumer, from, to)
	if err != nil {
		return fmt.Errorf("move the checkpoint of %s: %w", consumer, err)
	}
	moved, err := result.RowsAffected()
	if err != nil {
		return fmt.Errorf("move the checkpoint of %s: %w", consumer, err)
	}
	if moved == 0 {
		return fmt.Errorf("move the checkpoint of %s from %d to %d: %w", consumer, from, to, ErrMoved)
	}
	return nil
}

// PutCheckpoint puts a consumer's checkpoint to a position in the open transaction, since
// all events up to there have been handled by other means: what is parked is not any more,
// unless it was skipped. The checkpoint's row stays locked until the transaction ends.
func PutCheckpoint(ctx context.Context, tx Tx, consumer string, position int64) error {
	_, err := tx.ExecContext(ctx, `
WITH handled AS (
    DELETE FROM ledger.parked WHERE consumer = $1::text AND position <= $2::bigint AND skipped_at IS NULL
)
INSERT INTO ledger.consumers (name, position, updated_at) VALUES ($1::text, $2::bigint, clock_timestamp())
ON CONFLICT (name) DO UPDATE SET position = excluded.position, updated_at = excluded.updated_at`, consumer, position)
	if err != nil {
		return fmt.Errorf("put the checkpoint of %s: %w", consumer, err)
	}
	return nil
}

// ReadCheckpoint is the checkpoint of a consumer, 0 if it has none.
func ReadCheckpoint(ctx context.Context, tx Tx, consumer string) (position int64, err error) {
	err = tx.QueryRowContext(ctx, `
SELECT coalesce((SELECT position FROM ledger.consumers WHERE name = $1::text), 0)`, consumer).Scan(&position)
	if err != nil {
		return 0, fmt.Errorf("read the checkpoint of %s: %w", consumer, err)
	}
	return position, nil
}

// Start is where a consumer begins that has no checkpoint yet.
type Start int

// The starts.
const (
	AtBeginning Start = iota // with the first event of the ledger
	AtHead                   // with the first event that is appended after it subscribed
)

// register gives a consumer its checkpoint if it has none.
func register(ctx context.Context, tx Tx, consumer string, start Start) error {
	_, err := tx.ExecContext(ctx, `
INSERT INTO ledger.consumers (name, position, updated_at)
SELECT $1::text, CASE WHEN $2::boolean
    THEN coalesce((SELECT e.position FROM ledger.events e ORDER BY e.position DESC LIMIT 1), 0)
    ELSE 0 END, clock_timestamp()
ON CONFLICT (name) DO NOTHING`, consumer, start == AtHead)
	if err != nil {
		return fmt.Errorf("register consumer %s: %w", consumer, err)
	}
	return nil
}

// standing is where a consumer stands.
type standing struct {
	at    int64
	head  Head // without its time
	parks bool // something is parked
	asked bool // and some of it, behind the checkpoint, is to be delivered again
}

// look finds a consumer's checkpoint, the ledger's head and whether something is parked:
// a few index probes.
func look(ctx context.Context, tx Tx, consumer string) (s standing, err error) {
	var id uuid.NullUUID // none: the ledger is empty
	err = tx.QueryRowContext(ctx, `
SELECT c.position, coalesce(h.position, 0), h.id,
    EXISTS (SELECT FROM ledger.parked p WHERE p.consumer = c.name AND p.skipped_at IS NULL),
    EXISTS (SELECT FROM ledger.parked p
        WHERE p.consumer = c.name AND p.asked AND p.skipped_at IS NULL AND p.position <= c.position)
FROM ledger.consumers c
LEFT JOIN LATERAL (SELECT e.position, e.id FROM ledger.events e ORDER BY e.position DESC LIMIT 1) AS h ON true
WHERE c.name = $1::text`, consumer).Scan(&s.at, &s.head.Position, &id, &s.parks, &s.asked)
	if err != nil {
		return standing{}, fmt.Errorf("read the checkpoint of %s: %w", consumer, err)
	}
	s.head.ID = id.UUID
	return s, nil
}

var (
	//go:embed sql/slice.sql
	sliceSQL string
	//go:embed sql/slice_of_types.sql
	sliceOfTypesSQL string
)

// readSlice reads the events after a position, at most up to another that is greater,
// and tells how far it came.
func readSlice(ctx context.Context, tx Tx, after, upto int64, maxEvents, maxBytes int) ([]RecordedEvent, int64, error) {
	events, err := readPage(ctx, tx, sliceSQL, []any{after, upto, maxEvents, maxBytes})
	if err != nil {
		return nil, 0, fmt.Errorf("read the slice after %d: %w", after, err)
	}
	if len(events) == 0 {
		return nil, 0, fmt.Errorf("event %d is missing in the ledger", after+1)
	}
	return events, events[len(events)-1].Position, nil
}

// maxPassed is how many events are looked through at a time for some of the types that
// a consumer wants.
const maxPassed = 50_000

// readSliceOf reads the events of some types after a position, and tells how far it
// came. There may be none.
func readSliceOf(
	ctx context.Context, tx Tx, after, upto int64, maxEvents, maxBytes int, types []string,
) ([]RecordedEvent, int64, error) {
	upto = min(upto, after+maxPassed)
	events, err := readPage(ctx, tx, sliceOfTypesSQL, []any{after, upto, maxEvents, maxBytes, pgarray.Texts(types)})
	if err != nil {
		return nil, 0, fmt.Errorf("read the slice after %d: %w", after, err)
	}
	if n := len(events); n > 0 { // whatever bound has ended it, the rest comes next
		upto = events[n-1].Position
	}
	return events, upto, nil
}

// lockSeed sets consumers' locks apart from those of others that hash texts.
const lockSeed = 7881299347898370

// lockConsumer tries to make the connection's session the one that reads for a
// consumer. PostgreSQL frees the lock when the session ends. That of a machine that
// has vanished ends after a minute; left to its defaults, after two hours.
func lockConsumer(ctx context.Context, conn *sql.Conn, consumer string) (held bool, err error) {
	var setting string
	err = conn.QueryRowContext(ctx, `
SELECT pg_try_advisory_lock(hashtextextended($1::text, $2::bigint)),
    set_config('tcp_keepalives_idle', '30', false) || set_config('tcp_keepalives_interval', '10', false)
        || set_config('tcp_keepalives_count', '3', false)`, consumer, lockSeed).Scan(&held, &setting)
	if err != nil {
		return false, fmt.Errorf("lock consumer %s: %w", consumer, err)
	}
	return held, nil
}

// unlockTime is how long to wait for an answer before the connection is thrown away,
// which also ends the lock.
const unlockTime = 2 * time.Second

// unlockConsumer gives the lock and the connection back.
func unlockConsumer(conn *sql.Conn, consumer string) {
	ctx, cancel := context.WithTimeout(context.Background(), unlockTime)
	defer cancel()
	var held bool
	err := conn.QueryRowContext(ctx, `SELECT pg_advisory_unlock(hashtextextended($1::text, $2::bigint))`,
		consumer, lockSeed).Scan(&held)
	if err != nil || !held {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
	_ = conn.Close()
}
