package sealing

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"nabu/internal/pgarray"
	"nabu/internal/pgrows"
)

// StoredKey is a data key as operators see it.
type StoredKey struct {
	ID          uuid.UUID
	Queue       Queue
	Master      string // that wraps it, or did
	MadeAt      time.Time
	WrappedAt   time.Time
	DestroyedAt time.Time // zero: it is there
}

// List lists data keys by project, queue and age: those of one queue name in a project,
// or all if project is empty.
func List(ctx context.Context, tx Tx, project, queue string) ([]StoredKey, error) {
	rows, err := tx.QueryContext(ctx, `
SELECT k.id, k.project, k.queue, k.number, k.master, k.made_at, k.wrapped_at, k.destroyed_at
FROM secrets.data_keys k
WHERE $1 = '' OR k.project = $1 AND k.queue = $2
ORDER BY k.project, k.queue, k.id`, project, queue)
	return pgrows.Collect("list data keys", rows, err, func(k *StoredKey) error {
		var destroyed sql.NullTime
		if err := rows.Scan(&k.ID, &k.Queue.Project, &k.Queue.Name, &k.Queue.Number, &k.Master, &k.MadeAt, &k.WrappedAt, &destroyed); err != nil {
			return err
		}
		k.DestroyedAt = destroyed.Time
		return nil
	})
}

// Destroy destroys data keys, in the transaction that records it.
func Destroy(ctx context.Context, tx Tx, ids []uuid.UUID) error {
	if _, err := tx.ExecContext(ctx, `
UPDATE secrets.data_keys SET wrapped = NULL, destroyed_at = now()
WHERE id = ANY ($1::uuid[]) AND wrapped IS NOT NULL`, pgarray.UUIDs(ids)); err != nil {
		return fmt.Errorf("destroy data keys: %w", err)
	}
	return nil
}

// rotatePage is how many data keys are wrapped anew in one transaction.
const rotatePage = 500

// Rotate wraps by the active master key whatever another one wraps, and returns how many
// data keys that were. It may run while nabu serves, and again after an interruption.
func Rotate(ctx context.Context, db *sql.DB, masters *Masters) (rotated int, err error) {
	for {
		n, err := rotateSome(ctx, db, masters)
		rotated += n
		if err != nil || n == 0 {
			return rotated, err
		}
	}
}

func rotateSome(ctx context.Context, db *sql.DB, masters *Masters) (int, error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("rotate data keys: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	keys, err := readKeys(ctx, tx, `
SELECT `+keyColumns+`
FROM secrets.data_keys k
WHERE k.master <> $1 AND k.wrapped IS NOT NULL
ORDER BY k.id LIMIT $2 FOR UPDATE`, masters.active, rotatePage)
	if err != nil || len(keys) == 0 {
		return 0, err
	}
	ids, wrapped := make([]uuid.UUID, len(keys)), make([]string, len(keys))
	for i, key := range keys {
		if err := masters.rewrap(key); err != nil {
			return 0, fmt.Errorf("data key %s of queue %s, wrapped by %s: %w", key.ID, key.Queue.Name, key.Master, err)
		}
		ids[i], wrapped[i] = key.ID, fmt.Sprintf("%x", key.wrapped)
	}
	if _, err := tx.ExecContext(ctx, `
UPDATE secrets.data_keys k SET master = $3, wrapped = decode(w.wrapped, 'hex'), wrapped_at = now()
FROM unnest($1::uuid[], $2::text[]) AS w (id, wrapped)
WHERE k.id = w.id`, pgarray.UUIDs(ids), pgarray.Texts(wrapped), masters.active); err != nil {
		return 0, fmt.Errorf("rotate data keys: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return 0, fmt.Errorf("rotate data keys: %w", err)
	}
	return len(keys), nil
}

// ErrMasters: the master keys at hand are not those that wrap the data keys.
var ErrMasters = errors.New("the master keys do not fit the database")

// Check fails with ErrMasters when a master key that wraps data keys is not among the masters, or is
// another one under the same id. masters may be nil.
func Check(ctx context.Context, tx Tx, masters *Masters) error {
	keys, err := readKeys(ctx, tx, `
SELECT DISTINCT ON (k.master) `+keyColumns+`
FROM secrets.data_keys k WHERE k.wrapped IS NOT NULL ORDER BY k.master, k.id DESC`)
	if err != nil {
		return err
	}
	var problems []error
	for _, key := range keys {
		switch _, err := masters.reveal(key); {
		case errors.Is(err, errNoMaster):
			problems = append(problems, fmt.Errorf("data keys are wrapped by the master key %s, which is not configured", key.Master))
		case err != nil:
			problems = append(problems, fmt.Errorf("data keys are wrapped by another master key than the one configured as %s", key.Master))
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("%w: %w", ErrMasters, errors.Join(problems...))
	}
	return nil
}
