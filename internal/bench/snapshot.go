package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"nabu/internal/postgres"
)

// snapshot is a transaction that sees the database as it once was, like that of a
// long backup or of a session that somebody forgot: while it is open, nothing that
// is deleted can be cleared away.
type snapshot struct {
	databaseURL string
	after       time.Duration // when it is opened
	open        time.Duration // how long it stays
}

// hold opens the snapshot and closes it, at the latest when ctx ends.
func (s snapshot) hold(ctx context.Context) (err error) {
	pause(ctx, s.after)
	db, err := postgres.Open(s.databaseURL, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	session := context.WithoutCancel(ctx)
	tx, err := db.BeginTx(session, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return fmt.Errorf("open a snapshot: %w", err)
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }()
	var before, after string
	if _, err := tx.ExecContext(session, `SET LOCAL idle_in_transaction_session_timeout = 0`); err != nil {
		return fmt.Errorf("open a snapshot: %w", err)
	}
	if err := tx.QueryRowContext(session, `SELECT pg_current_snapshot()`).Scan(&before); err != nil {
		return fmt.Errorf("open a snapshot: %w", err)
	}
	pause(ctx, s.open)
	if err := tx.QueryRowContext(session, `SELECT pg_current_snapshot()`).Scan(&after); err != nil {
		return fmt.Errorf("hold a snapshot: %w", err)
	}
	if before != after {
		return fmt.Errorf("the snapshot did not stay as it was: %s became %s", before, after)
	}
	return nil
}
