package eventstore

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"

	"nabu/internal/pgarray"
	"nabu/internal/pgrows"
)

var (
	//go:embed sql/hold.sql
	holdSQL string
	//go:embed sql/park.sql
	parkSQL string
	//go:embed sql/parked_slice.sql
	parkedSliceSQL string
)

// Settle writes down in the open transaction that the slice was handled: the checkpoint
// moves to its end, or what was parked is no longer. It fails with ErrMoved when
// somebody else has done either; the transaction is then to be rolled back.
func (s Slice) Settle(ctx context.Context, tx Tx) error {
	if !s.Parked {
		return MoveCheckpoint(ctx, tx, s.Consumer, s.From, s.To)
	}
	result, err := tx.ExecContext(ctx, `
DELETE FROM ledger.parked
WHERE consumer = $1::text AND position = ANY ($2::bigint[]) AND skipped_at IS NULL`,
		s.Consumer, pgarray.BigInts(s.positions()))
	if err != nil {
		return fmt.Errorf("settle what was parked for %s: %w", s.Consumer, err)
	}
	if gone, err := result.RowsAffected(); err != nil {
		return fmt.Errorf("settle what was parked for %s: %w", s.Consumer, err)
	} else if gone != int64(len(s.Events)) {
		return fmt.Errorf("settle what was parked for %s: %w", s.Consumer, ErrMoved)
	}
	return nil
}

// Reserve makes sure, in the open transaction, that Settle will not fail with ErrMoved,
// and fails with it otherwise.
func (s Slice) Reserve(ctx context.Context, tx Tx) error {
	query, args, want := `
SELECT count(*) FROM (
    SELECT FROM ledger.consumers WHERE name = $1::text AND position = $2::bigint FOR UPDATE
) AS mine`, []any{s.Consumer, s.From}, 1
	if s.Parked {
		query, args, want = `
SELECT count(*) FROM (
    SELECT FROM ledger.parked
    WHERE consumer = $1::text AND position = ANY ($2::bigint[]) AND skipped_at IS NULL
    FOR UPDATE
) AS mine`, []any{s.Consumer, pgarray.BigInts(s.positions())}, len(s.Events)
	}
	var mine int
	if err := tx.QueryRowContext(ctx, query, args...).Scan(&mine); err != nil {
		return fmt.Errorf("reserve a slice of %s: %w", s.Consumer, err)
	}
	if mine != want {
		return fmt.Errorf("reserve a slice of %s: %w", s.Consumer, ErrMoved)
	}
	return nil
}

func (s Slice) positions() []int64 {
	positions := make([]int64, len(s.Events))
	for i, e := range s.Events {
		positions[i] = e.Position
	}
	return positions
}

// lockParked lets nobody else change what is parked for a consumer until the
// transaction ends. What is parked is read by statements behind it. It tells whether
// there is such a consumer.
func lockParked(ctx context.Context, tx Tx, consumer string) (known bool, err error) {
	err = tx.QueryRowContext(ctx, `SELECT true FROM ledger.consumers WHERE name = $1::text FOR UPDATE`, consumer).Scan(&known)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return false, fmt.Errorf("lock what is parked for %s: %w", consumer, err)
	}
	return known, nil
}

// hold parks those of a consumer's next events whose streams have something parked, and
// returns the others. It may be done again: what is held already stays as it is. What is
// held in front of the checkpoint is not delivered before the checkpoint has passed.
func hold(ctx context.Context, conn *sql.Conn, consumer string, events []RecordedEvent) (others []RecordedEvent, err error) {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("hold events of %s: %w", consumer, err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := lockParked(ctx, tx, consumer); err != nil {
		return nil, err
	}
	held, err := holdStreams(ctx, tx, consumer, events)
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		return nil, fmt.Errorf("hold events of %s: %w", consumer, err)
	}
	for _, e := range events {
		if !held[e.Position] {
			others = append(others, e)
		}
	}
	return others, nil
}

// holdStreams parks them, and tells which.
func holdStreams(ctx context.Context, tx Tx, consumer string, events []RecordedEvent) (map[int64]bool, error) {
	positions, streams := make([]int64, len(events)), make([]string, len(events))
	for i, e := range events {
		positions[i], streams[i] = e.Position, e.Event.Stream()
	}
	rows, err := tx.QueryContext(ctx, holdSQL, consumer, pgarray.BigInts(positions), pgarray.Texts(streams))
	held := map[int64]bool{}
	err = pgrows.Each("hold streams", rows, err, func() error {
		var position int64
		if err := rows.Scan(&position); err != nil {
			return err
		}
		held[position] = true
		return nil
	})
	return held, err
}

// maxErrorText bounds what is kept of an error, in characters.
const maxErrorText = 2000

// park parks the one event of a slice and moves the checkpoint past it. It fails with
// ErrMoved when the checkpoint is not at the slice's beginning.
func park(ctx context.Context, tx Tx, slice Slice, why error, attempts int) error {
	e := slice.Events[0]
	var parked int
	err := tx.QueryRowContext(ctx, parkSQL, slice.Consumer, slice.From, slice.To, e.Position, e.Event.Stream(),
		errorText(why), attempts).Scan(&parked)
	if err != nil {
		return fmt.Errorf("park event %d for %s: %w", e.Position, slice.Consumer, err)
	}
	if parked == 0 {
		return fmt.Errorf("park event %d for %s: %w", e.Position, slice.Consumer, ErrMoved)
	}
	return nil
}

// errorText is an error as PostgreSQL can keep it.
func errorText(why error) string {
	var kept []rune
	for _, char := range why.Error() {
		if char != 0 && len(kept) < maxErrorText {
			kept = append(kept, char)
		}
	}
	return string(kept)
}

// readParked reads what is parked for a consumer and asked for, from the first on. There
// may be none.
func readParked(ctx context.Context, tx Tx, consumer string, maxEvents, maxBytes int) (Slice, error) {
	slice := Slice{Consumer: consumer, Parked: true}
	var err error
	slice.Events, err = readPage(ctx, tx, parkedSliceSQL, []any{consumer, maxEvents, maxBytes})
	if err != nil {
		return slice, fmt.Errorf("read what is parked for %s: %w", consumer, err)
	}
	if n := len(slice.Events); n > 0 {
		slice.From, slice.To = slice.Events[0].Position-1, slice.Events[n-1].Position
	}
	return slice, nil
}

// parkAgain writes down that a parked event was refused once more: it and what follows on
// its stream are no longer asked for.
func parkAgain(ctx context.Context, tx Tx, slice Slice, why error) error {
	e := slice.Events[0]
	_, err := tx.ExecContext(ctx, `
UPDATE ledger.parked p
SET asked = false,
    error = CASE WHEN p.position = $2::bigint THEN $4::text ELSE p.error END,
    attempts = p.attempts + (p.position = $2::bigint)::int,
    tried_at = CASE WHEN p.position = $2::bigint THEN clock_timestamp() ELSE p.tried_at END
WHERE p.consumer = $1::text AND p.stream = $3::text AND p.skipped_at IS NULL`,
		slice.Consumer, e.Position, e.Event.Stream(), errorText(why))
	if err != nil {
		return fmt.Errorf("park event %d for %s again: %w", e.Position, slice.Consumer, err)
	}
	return nil
}
