// Package projections builds what clients read out of the history, and reads it
// back: read models, the states that decisions load, and the views that query
// them. A projection writes its own tables and nothing else, and only as events
// tell: it asks no clock and draws no random number, so the same history always
// makes the same tables.
package projections

import (
	"context"
	"embed"
	"fmt"
	"strings"

	"nabu/eventstore"
)

//go:embed *.sql
var ddl embed.FS

// Projection is a read model. Its tables are named without a schema: the search
// path says whether they are the live ones or a copy.
type Projection struct {
	Name string
	// DDL makes the tables, and the functions that Apply uses, in the first schema
	// of the search path.
	DDL string
	// Apply brings the tables forward by a slice of history.
	Apply func(ctx context.Context, tx eventstore.Tx, history []eventstore.RecordedEvent) error
}

// Inline are the projections that are written in the transaction that appends, in
// the order in which they are applied.
var Inline = []Projection{Queues, Messages, Shares, Subscriptions, Deliveries, Tasks, UserMessages, Servers, Forwards}

// Create makes the tables of all projections in the first schema of the search path.
func Create(ctx context.Context, tx eventstore.Tx) error {
	for _, p := range All {
		if _, err := tx.ExecContext(ctx, p.DDL); err != nil {
			return fmt.Errorf("create projection %s: %w", p.Name, err)
		}
	}
	return nil
}

// Inlines applies the inline projections; it is what the executor projects with.
type Inlines struct{}

// Apply brings all inline projections forward by a slice of history.
func (Inlines) Apply(ctx context.Context, tx eventstore.Tx, history []eventstore.RecordedEvent) error {
	for _, p := range Inline {
		if err := p.Apply(ctx, tx, history); err != nil {
			return fmt.Errorf("project %s: %w", p.Name, err)
		}
	}
	return nil
}

// mustDDL is what stands in files of statements, one after the other.
func mustDDL(names ...string) string {
	var all strings.Builder
	for _, name := range names {
		text, err := ddl.ReadFile(name + ".sql")
		if err != nil {
			panic(err) // embedded at build time
		}
		all.Write(text)
	}
	return all.String()
}
