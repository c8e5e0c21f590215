// Package eventstore is nabu's ledger: it appends events in one order, reads them
// back by stream or from any position on, and knows how each kind was ever stored.
// It must never change or remove an event.
package eventstore

import (
	"context"
	"database/sql"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
)

// NewEvent is an event about to be written.
type NewEvent struct {
	Event   domain.Event
	Version int64 // its number in its stream, from 1
	Origin  domain.Origin
	// CausedBefore: the event that caused this one stands so many places before it in the
	// batch; 0: it does not, and Origin tells.
	CausedBefore int
}

// RecordedEvent is an event with its place in the history.
type RecordedEvent struct {
	// Position is the event's place in the whole history: 1, 2, 3 and so on,
	// without a hole.
	Position int64
	ID       uuid.UUID
	Batch    uuid.UUID // shared by all events committed together
	Version  int64
	Event    domain.Event // of the newest version of its type
	Origin   domain.Origin
	// RecordedAt is the time of the event's batch, to the microsecond. It never
	// goes back from one position to the next.
	RecordedAt time.Time
}

// BodyBytes is how long an event's bodies are, together.
func BodyBytes(e domain.Event) (n int) {
	bodied, ok := e.(domain.Bodied)
	if !ok {
		return 0
	}
	for _, body := range bodied.Bodies() {
		n += len(body)
	}
	return n
}

// Head is the end of the ledger: its last event. The zero Head is an empty ledger.
type Head struct {
	Position int64
	ID       uuid.UUID
	Time     time.Time
}

// Tx is what a statement runs on: a transaction, or a connection that has one open.
type Tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}
