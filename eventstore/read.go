package eventstore

import (
	"cmp"
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"iter"
	"slices"

	"nabu/domain"
	"nabu/internal/pgarray"
	"nabu/internal/pgrows"
)

var (
	//go:embed sql/page.sql
	pageSQL string
	//go:embed sql/stream.sql
	streamSQL string
	//go:embed sql/positions.sql
	positionsSQL string
)

// PageSize is how many events one statement reads at most. Pages cost no more than one
// long statement and hold no snapshot open.
const PageSize = 5000

// ReadHead finds the ledger's last event.
func ReadHead(ctx context.Context, tx Tx) (Head, error) {
	var h Head
	err := tx.QueryRowContext(ctx,
		`SELECT position, id, recorded_at FROM ledger.events ORDER BY position DESC LIMIT 1`).
		Scan(&h.Position, &h.ID, &h.Time)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return Head{}, fmt.Errorf("read the head: %w", err)
	}
	return h, nil
}

// ReadAll reads the history after a position up to and including another, in
// order, page by page. An error ends the sequence.
func ReadAll(ctx context.Context, tx Tx, after, upto int64) iter.Seq2[RecordedEvent, error] {
	return func(yield func(RecordedEvent, error) bool) {
		var events []RecordedEvent // the room of one page serves the next
		for size := firstPage; after < upto; {
			// Where the page ends is said in positions: with a limit of rows, and statistics
			// that are behind, PostgreSQL sorts the whole rest of the ledger for each page.
			end := min(upto, after+int64(size))
			var err error
			if events, err = readPageInto(ctx, tx, events[:0], pageSQL, []any{after, end}); err == nil && len(events) == 0 {
				end, err = before(ctx, tx, end, upto)
			}
			inOrder(events, func(e RecordedEvent) int64 { return e.Position })
			if err != nil {
				yield(RecordedEvent{}, fmt.Errorf("read events: %w", err))
				return
			}
			bytes := 0
			for _, e := range events {
				bytes += BodyBytes(e.Event)
				if !yield(e, nil) {
					return
				}
			}
			after, size = end, size.next(bytes)
		}
	}
}

// inOrder sorts a page by position, if it is not.
func inOrder[E any](page []E, position func(E) int64) {
	byPosition := func(a, b E) int { return cmp.Compare(position(a), position(b)) }
	if !slices.IsSortedFunc(page, byPosition) {
		slices.SortFunc(page, byPosition)
	}
}

// before is the position in front of the first event after one, or upto when there is
// none: the beginning of the ledger may be in an archive.
func before(ctx context.Context, tx Tx, after, upto int64) (position int64, err error) {
	err = tx.QueryRowContext(ctx, `
SELECT coalesce((SELECT e.position - 1 FROM ledger.events e WHERE e.position > $1::bigint ORDER BY e.position LIMIT 1), $2::bigint)`,
		after, upto).Scan(&position)
	return position, err
}

// ReadStream reads one stream's history after a version, in order, page by page.
// An error ends the sequence.
func ReadStream(ctx context.Context, tx Tx, stream string, after int64) iter.Seq2[RecordedEvent, error] {
	return readPages(ctx, tx, after, func(e RecordedEvent) int64 { return e.Version },
		func(after int64) (string, []any) { return streamSQL, []any{stream, after, PageSize} })
}

// ReadPositions reads the events at some positions, in order. Those that are not there are
// left out.
func ReadPositions(ctx context.Context, tx Tx, positions []int64) ([]RecordedEvent, error) {
	events, err := readPage(ctx, tx, positionsSQL, []any{pgarray.BigInts(positions)})
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return events, nil
}

// readPages yields the events of page after page until one is not full.
func readPages(
	ctx context.Context, tx Tx, after int64,
	key func(RecordedEvent) int64, page func(after int64) (string, []any),
) iter.Seq2[RecordedEvent, error] {
	return func(yield func(RecordedEvent, error) bool) {
		var events []RecordedEvent // the room of one page serves the next
		for {
			query, args := page(after)
			var err error
			events, err = readPageInto(ctx, tx, events[:0], query, args)
			if err != nil {
				yield(RecordedEvent{}, fmt.Errorf("read events: %w", err))
				return
			}
			for _, e := range events {
				if !yield(e, nil) {
					return
				}
				after = key(e)
			}
			if len(events) < PageSize {
				return
			}
		}
	}
}

func readPage(ctx context.Context, tx Tx, query string, args []any) ([]RecordedEvent, error) {
	return readPageInto(ctx, tx, nil, query, args)
}

// readPageInto appends a page to events.
func readPageInto(ctx context.Context, tx Tx, events []RecordedEvent, query string, args []any) ([]RecordedEvent, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var r row
	for columns := r.columns(); rows.Next(); {
		if err := rows.Scan(columns...); err != nil {
			return nil, err
		}
		e, err := r.recorded()
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

// Bodies reads the bodies that events have brought to places: the text at the place's
// index in the event at its position. Places that none of these belong to are left out.
func Bodies(ctx context.Context, tx Tx, places []domain.Place) (map[domain.Place]string, error) {
	rows, err := tx.QueryContext(ctx, `
SELECT asked.place, e.bodies[(asked.place & 65535) + 1]
FROM unnest($1::bigint[]) AS asked (place)
JOIN ledger.events e ON e.position = asked.place >> 16
WHERE e.bodies[(asked.place & 65535) + 1] IS NOT NULL`, pgarray.BigInts(places))
	bodies := make(map[domain.Place]string, len(places))
	err = pgrows.Each("read bodies", rows, err, func() error {
		var place domain.Place
		var body string
		if err := rows.Scan(&place, &body); err != nil {
			return err
		}
		bodies[place] = body
		return nil
	})
	return bodies, err
}
