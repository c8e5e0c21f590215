package eventstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"nabu/internal/pgarray"
)

// PartitionSize is how many positions one partition of the events table holds.
const PartitionSize = 10_000_000

// begin starts a batch that goes the long way: a transaction, and then, by a function
// that takes the lock first, the clock, the head and the tail from a known position
// on. All of it is one round trip; a simple query takes no parameters, and only
// numbers are put into it.
const begin = `BEGIN ISOLATION LEVEL READ COMMITTED;
SELECT * FROM ledger.begin_batch(%d, %d)`

// Tail is what a caller that knows the ledger up to some event learns of what
// came after it.
type Tail struct {
	Head Head
	// Now is the database's clock, read after the lock was taken, or just behind the
	// last event where the clock is not.
	Now time.Time
	// Events are those after the known head, in order, at most TailLimit of them.
	Events []TailEvent
	// Lost: the known head is not in the ledger (another history was restored), or
	// more events came after it than Events can hold.
	Lost bool
}

// TailEvent is an event after a known head, without what it says.
type TailEvent struct {
	Position int64
	Stream   string
	Version  int64
	Type     string
}

// TailLimit bounds Tail.Events. A memory that is further behind is cheaper to
// throw away than to catch up.
const TailLimit = 1000

// Begin opens a transaction on a connection, takes the append lock and reads what
// came after known. It costs one round trip. The caller ends the transaction with
// COMMIT or ROLLBACK, both of which release the lock. If another transaction holds
// the lock for five seconds, Begin fails (SQLSTATE 55P03), and a caller that goes
// silent for two seconds loses it.
func Begin(ctx context.Context, conn Tx, known Head) (Tail, error) {
	tail, err := beginBatch(ctx, conn, known)
	if err != nil {
		return tail, fmt.Errorf("begin batch: %w", err)
	}
	return tail, nil
}

func beginBatch(ctx context.Context, conn Tx, known Head) (Tail, error) {
	var tail Tail
	rows, err := conn.QueryContext(ctx, fmt.Sprintf(begin, known.Position, TailLimit+2))
	if err != nil {
		return tail, err
	}
	defer rows.Close()
	tail.Lost = known.Position > 0 // unless the known event is met
	for first := true; rows.Next(); first = false {
		if err := scanTail(rows, first, known, &tail); err != nil {
			return tail, err
		}
	}
	if err := rows.Err(); err != nil {
		return tail, err
	}
	if tail.Now.IsZero() {
		return tail, errors.New("the database did not say the time")
	}
	tail.Lost = tail.Lost || len(tail.Events) > TailLimit
	return tail, nil
}

// scanTail reads one row: the first has the clock and the head, the others are the
// events from the known head on. Without that one the memory does not belong to this
// ledger.
func scanTail(rows *sql.Rows, first bool, known Head, tail *Tail) error {
	var (
		now, at           sql.NullTime
		position, version sql.NullInt64
		id                uuid.NullUUID
		stream, eventType sql.NullString
	)
	if err := rows.Scan(&now, &position, &id, &at, &stream, &version, &eventType); err != nil {
		return err
	}
	if first {
		tail.Now, tail.Head = now.Time, Head{position.Int64, id.UUID, at.Time}
		return nil
	}
	if position.Int64 == known.Position {
		tail.Lost = id.UUID != known.ID
		return nil
	}
	tail.Events = append(tail.Events, TailEvent{
		Position: position.Int64, Stream: stream.String, Version: version.Int64, Type: eventType.String,
	})
	return nil
}

// Batch is a set of events that is written whole or not at all.
type Batch struct {
	ID   uuid.UUID
	Head Head      // the event they follow
	Now  time.Time // the batch's clock; zero: the database's, read after the lock
	// MostOff is how far Now may be from the database's clock; 0: any time is taken.
	MostOff time.Duration
	Events  []NewEvent

	ids   []uuid.UUID
	sizes []int // of each event's data and bodies, in bytes
	// recorded is what the batch is if it was written at the time that it has.
	recorded []RecordedEvent
}

// AppendParameters is how many AppendArgs there are.
const AppendParameters = 17

// AppendArgs are the parameters of the database's function ledger.append, which
// writes the batch: it takes the lock where the transaction does not hold it yet, and
// returns the batch's time, or NULL when Head is no longer the ledger's head. The
// batch's events get their ids here.
func (b *Batch) AppendArgs() ([]any, error) {
	n := len(b.Events)
	if n == 0 {
		return nil, errors.New("a batch without events")
	}
	b.ids, b.sizes, b.recorded = make([]uuid.UUID, n), make([]int, n), nil
	texts := make([]string, 8*n)
	column := func(i int) []string { return texts[i*n : (i+1)*n] }
	streams, types, bodies, projects := column(0), column(1), column(2), column(3)
	actors, requests, global, correlations := column(4), column(5), column(6), column(7)
	versions, data, causes := make([]int64, n), make([][]byte, n), make([]uuid.UUID, n)
	for i, e := range b.Events {
		var err error
		if data[i], bodies[i], err = encode(e.Event); err != nil {
			return nil, err
		}
		b.sizes[i] = len(data[i]) + len(bodies[i])
		if b.ids[i], err = uuid.NewV7(); err != nil {
			return nil, fmt.Errorf("make event id: %w", err)
		}
		if before := i - e.CausedBefore; before < i && before >= 0 {
			e.Origin.CausationID = b.ids[before]
			b.Events[i].Origin = e.Origin
		}
		streams[i], versions[i], types[i] = e.Event.Stream(), e.Version, e.Event.EventType()
		projects[i], actors[i] = e.Origin.Project, e.Origin.Actor
		requests[i], global[i] = e.Origin.RequestID, e.Origin.GlobalRequestID
		correlations[i], causes[i] = e.Origin.CorrelationID, e.Origin.CausationID
	}
	var mostOff any
	if b.MostOff > 0 {
		mostOff = strconv.FormatInt(b.MostOff.Microseconds(), 10) + " microseconds"
	}
	return append(b.Head.Args(b.Now), mostOff, b.ID.String(),
		pgarray.UUIDs(b.ids), pgarray.Texts(streams), pgarray.BigInts(versions), pgarray.Texts(types),
		pgarray.Texts(data), pgarray.TextsOrNull(bodies), pgarray.Texts(projects),
		pgarray.TextsOrNull(actors), pgarray.TextsOrNull(requests), pgarray.TextsOrNull(global),
		pgarray.TextsOrNull(correlations), pgarray.UUIDsOrNull(causes),
	), nil
}

// Args are a head and a clock (zero: the database's) as ledger.append and ledger.peek
// take them: three parameters.
func (h Head) Args(now time.Time) []any {
	args := make([]any, 3, 3+AppendParameters)
	args[0] = strconv.FormatInt(h.Position, 10)
	if h.Position > 0 {
		args[1] = h.ID.String()
	}
	if !now.IsZero() {
		args[2] = now
	}
	return args
}

// Peek tells the time that a batch behind a head would have: by the given clock, or by the
// database's if that is zero. It takes no lock, and fails with ErrStale when the head is not
// the ledger's.
func Peek(ctx context.Context, tx Tx, head Head, clock time.Time) (time.Time, error) {
	at, err := scanTime(tx.QueryRowContext(ctx, `SELECT ledger.peek($1, $2, $3)`, head.Args(clock)...))
	if err != nil {
		return at, fmt.Errorf("peek: %w", err)
	}
	return at, nil
}

// Recorded is the batch as it stands in the ledger once it was written at a time. It is not to
// be changed: the next call may return the same.
func (b *Batch) Recorded(at time.Time) []RecordedEvent {
	if len(b.recorded) > 0 && b.recorded[0].RecordedAt.Equal(at) {
		return b.recorded
	}
	b.recorded = make([]RecordedEvent, len(b.Events))
	for i, e := range b.Events {
		b.recorded[i] = RecordedEvent{
			Position: b.Head.Position + int64(i) + 1, ID: b.ids[i], Batch: b.ID,
			Version: e.Version, Event: e.Event, Origin: e.Origin, RecordedAt: at,
		}
	}
	return b.recorded
}

// NewHead is the ledger's head once the batch was written at a time.
func (b *Batch) NewHead(at time.Time) Head {
	n := len(b.Events)
	return Head{Position: b.Head.Position + int64(n), ID: b.ids[n-1], Time: at}
}

// ErrStale: the ledger's head is not the one the batch was decided on, or the batch's
// clock is further off than that may be.
var ErrStale = errors.New("the ledger has moved on")

// Append writes a batch in the open transaction and returns its time. It fails
// with ErrStale when Head is not the ledger's head.
func Append(ctx context.Context, tx Tx, b *Batch) (time.Time, error) {
	args, err := b.AppendArgs()
	if err != nil {
		return time.Time{}, err
	}
	return ScanTime(tx.QueryRowContext(ctx,
		`SELECT ledger.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`, args...))
}

// ScanTime reads the answer of ledger.append, or of a function that passes it on:
// the batch's time, or ErrStale for NULL.
func ScanTime(row *sql.Row) (time.Time, error) {
	at, err := scanTime(row)
	if err != nil {
		return at, fmt.Errorf("append: %w", err)
	}
	return at, nil
}

func scanTime(row *sql.Row) (time.Time, error) {
	var at sql.NullTime
	if err := row.Scan(&at); err != nil {
		return time.Time{}, err
	}
	if !at.Valid {
		return time.Time{}, ErrStale
	}
	return at.Time, nil
}

// Extend makes partitions until the ledger has room for the given position, and
// returns the first position without room. It may be called by several at once.
func Extend(ctx context.Context, tx Tx, upto, size int64) (past int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT ledger.extend($1::bigint, $2::bigint)`, upto, size).Scan(&past)
	if err != nil {
		return 0, fmt.Errorf("extend the ledger to %d: %w", upto, err)
	}
	return past, nil
}

// Room tells the ledger's last position and the first one that it has no partition
// for.
func Room(ctx context.Context, tx Tx) (head, past int64, err error) {
	err = tx.QueryRowContext(ctx, `
SELECT coalesce((SELECT position FROM ledger.events ORDER BY position DESC LIMIT 1), 0),
    coalesce((SELECT max(past) FROM ledger.partitions), 1)`).Scan(&head, &past)
	if err != nil {
		return 0, 0, fmt.Errorf("measure the ledger's room: %w", err)
	}
	return head, past, nil
}

// FreeLock ends sessions that hold the append lock while PostgreSQL has been waiting
// for their client for so long, and returns how many. The role must be theirs.
func FreeLock(ctx context.Context, tx Tx, silent time.Duration) (ended int, err error) {
	err = tx.QueryRowContext(ctx, `
SELECT count(*) FILTER (WHERE pg_terminate_backend(a.pid))
FROM pg_locks l
JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.classid::bigint << 32 | l.objid::bigint = 7881299347898367
    AND a.wait_event = 'ClientRead'
    AND a.xact_start < clock_timestamp() - make_interval(secs => $1)`, silent.Seconds()).Scan(&ended)
	if err != nil {
		return 0, fmt.Errorf("free the ledger's lock: %w", err)
	}
	return ended, nil
}

// FindBatch looks whether a batch was written after a position, and when. It
// answers for good only while the caller holds the lock: a transaction that was cut
// off from its client may otherwise still be about to commit.
func FindBatch(ctx context.Context, tx Tx, after int64, batch uuid.UUID) (at time.Time, found bool, err error) {
	err = tx.QueryRowContext(ctx,
		`SELECT recorded_at FROM ledger.events WHERE position > $1::bigint AND batch = $2::uuid ORDER BY position LIMIT 1`,
		after, batch.String()).Scan(&at)
	if errors.Is(err, sql.ErrNoRows) {
		return at, false, nil
	}
	if err != nil {
		return at, false, fmt.Errorf("find batch: %w", err)
	}
	return at, true, nil
}

// Versioned is a state and the version of its stream's last event.
type Versioned[S any] struct {
	State   S
	Version int64
}

// FirstEvent is an SQL query: the id and the correlation of the first event of the stream that
// an expression names, as long as it is in the ledger.
func FirstEvent(stream string) string {
	return `SELECT e.id, e.correlation_id FROM ledger.events e
    WHERE hashtextextended(e.stream, 0) = hashtextextended(` + stream + `, 0) AND e.stream = ` + stream + ` AND e.version = 1
    LIMIT 1`
}

// LastVersion is an SQL expression: the version of the last event of the stream
// that another expression names, or 0. It lets a state and its version be loaded in
// one round trip.
func LastVersion(stream string) string {
	return `coalesce((SELECT e.version FROM ledger.events e
    WHERE hashtextextended(e.stream, 0) = hashtextextended(` + stream + `, 0) AND e.stream = ` + stream + `
    ORDER BY e.version DESC LIMIT 1), 0)`
}
