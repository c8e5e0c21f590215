package eventstore

import (
	"context"
	_ "embed"
	"fmt"
	"iter"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/internal/pgarray"
)

var (
	//go:embed sql/stored.sql
	storedSQL string
	//go:embed sql/stored_page.sql
	storedPageSQL string
	//go:embed sql/stored_stream.sql
	storedStreamSQL string
	//go:embed sql/position_before.sql
	positionBeforeSQL string
)

// StoredEvent is an event as it stands in the ledger, with all columns, undecoded.
type StoredEvent struct {
	Position   int64
	ID, Batch  uuid.UUID
	Stream     string
	Version    int64
	Type       string
	Data       []byte // a JSON object
	Bodies     []string
	Origin     domain.Origin
	RecordedAt time.Time
}

// Selection says which events are wanted.
type Selection struct {
	After, Upto int64 // positions; Upto 0: all there are now
	Stream      string
	Project     string
	Actor       string // who asked, as it stands beside the events
	Types       []string
	// RequestID is that of a request, or the global one of its caller: the events of that
	// request, and whatever it has led to.
	RequestID string

	version int64    // of the stream, the last one read
	rows    pageRows // of the next page
}

// pageRows is how many events a page has. Pages grow while events are small.
type pageRows int

// The size of a page.
const (
	firstPage      pageRows = 1000
	smallPageBytes          = 2 << 20
	largePageBytes          = 8 << 20
)

// next is the size of the page behind one with so many bytes.
func (n pageRows) next(bytes int) pageRows {
	switch {
	case bytes > largePageBytes:
		return max(n/2, 1)
	case bytes < smallPageBytes:
		return min(2*n, PageSize)
	}
	return n
}

// ReadStored reads the selected events in order, page by page, as they are stored, also
// those of types that are not known. An error ends the sequence.
func ReadStored(ctx context.Context, tx Tx, s Selection) iter.Seq2[StoredEvent, error] {
	return func(yield func(StoredEvent, error) bool) {
		var events []StoredEvent // the room of one page serves the next
		if s.Upto == 0 {
			head, err := ReadHead(ctx, tx)
			if err != nil {
				yield(StoredEvent{}, err)
				return
			}
			s.Upto = head.Position
		}
		for s.rows = firstPage; s.After < s.Upto; {
			var err error
			events, err = s.page(ctx, tx, events[:0])
			if err != nil {
				yield(StoredEvent{}, fmt.Errorf("read events: %w", err))
				return
			}
			for _, e := range events {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// PositionBefore is the position of the last event that was recorded before a time; 0: there is
// none. It costs next to nothing, however long the history is.
func PositionBefore(ctx context.Context, tx Tx, at time.Time) (position int64, err error) {
	head, err := ReadHead(ctx, tx)
	if err != nil {
		return 0, err
	}
	if err := tx.QueryRowContext(ctx, positionBeforeSQL, at, head.Position).Scan(&position); err != nil {
		return 0, fmt.Errorf("find the position of a time: %w", err)
	}
	return position, nil
}

// page reads some of the events into a room, and moves the selection on behind them.
func (s *Selection) page(ctx context.Context, tx Tx, room []StoredEvent) ([]StoredEvent, error) {
	query, args, upto := storedSQL, []any{s.After, s.Upto, s.Project, pgarray.Texts(s.Types), int(s.rows), s.RequestID, s.Actor}, s.Upto
	switch {
	case s.Stream != "":
		query = storedStreamSQL
		args = []any{s.After, s.Upto, s.Stream, s.version, s.Project, pgarray.Texts(s.Types), int(s.rows), s.RequestID, s.Actor}
	case s.Project == "" && (len(s.Types) > 0 || s.RequestID != "" || s.Actor != ""): // there is no index by these
		upto = min(s.Upto, s.After+maxPassed)
		args[1] = upto
	case s.Project == "": // see ReadAll
		upto = min(s.Upto, s.After+int64(s.rows))
		query, args = storedPageSQL, []any{s.After, upto}
	}
	events, err := readStored(ctx, tx, room, query, args)
	if err != nil {
		return nil, err
	}
	inOrder(events, func(e StoredEvent) int64 { return e.Position })
	if n := len(events); n < int(s.rows) {
		s.After = upto
		if n == 0 && upto < s.Upto {
			s.After, err = before(ctx, tx, upto, s.Upto)
		}
	} else {
		s.After, s.version = events[n-1].Position, events[n-1].Version
	}
	bytes := 0
	for _, e := range events {
		bytes += len(e.Data)
		for _, body := range e.Bodies {
			bytes += len(body)
		}
	}
	s.rows = s.rows.next(bytes)
	return events, err
}

// readStored appends a page to events.
func readStored(ctx context.Context, tx Tx, events []StoredEvent, query string, args []any) ([]StoredEvent, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var r row
	for columns := r.allColumns(); rows.Next(); {
		if err := rows.Scan(columns...); err != nil {
			return nil, err
		}
		e, err := r.stored()
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, rows.Err()
}
