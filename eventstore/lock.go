package eventstore

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/google/uuid"
)

// Lock takes the append lock in an open transaction and reads the head behind it. The
// transaction gets the limits of a batch: five seconds for each statement and each lock,
// this one included, and two for a caller that goes silent.
func Lock(ctx context.Context, tx Tx) (Head, error) {
	var position sql.NullInt64
	var id uuid.NullUUID
	var at sql.NullTime
	err := tx.QueryRowContext(ctx, `SELECT at_position, id, recorded_at FROM ledger.begin_batch(0, 0)`).Scan(&position, &id, &at)
	if err != nil {
		return Head{}, fmt.Errorf("take the ledger's lock: %w", err)
	}
	return Head{position.Int64, id.UUID, at.Time}, nil
}
