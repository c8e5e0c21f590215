package projections

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"nabu/eventstore"
)

// Async are the projections that are written after the commit, each by the consumer of
// the feed that bears its name. Nobody may rely on them to be up to date.
var Async = []Projection{MessageIndex}

// All are all projections, those first that clients read right after their own writes.
var All = slices.Concat(Inline, Async)

// async tells whether a projection is written by a consumer of the feed.
func (p Projection) async() bool {
	return slices.ContainsFunc(Async, func(a Projection) bool { return a.Name == p.Name })
}

// Follow brings a projection forward by a slice of the feed and settles the slice, in one
// transaction, so each event is applied once. It fails with eventstore.ErrMoved when
// somebody else has done it.
func (p Projection) Follow(ctx context.Context, db *sql.DB, slice eventstore.Slice) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("project %s: %w", p.Name, err)
	}
	defer func() { _ = tx.Rollback() }()
	if err := slice.Reserve(ctx, tx); err != nil {
		return fmt.Errorf("project %s: %w", p.Name, err)
	}
	if err := p.Apply(ctx, tx, slice.Events); err != nil {
		return fmt.Errorf("project %s: %w", p.Name, err)
	}
	if err := slice.Settle(ctx, tx); err != nil {
		return fmt.Errorf("project %s: %w", p.Name, err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("project %s: %w", p.Name, err)
	}
	return nil
}
