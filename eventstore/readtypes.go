package eventstore

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"

	"nabu/internal/pgarray"
)

//go:embed sql/stream_of_types.sql
var streamOfTypesSQL string

// ReadStreamOf reads the next events of some types in one stream after a version, in order:
// at most so many, with bodies of so many bytes besides the last one's. None: there are no
// more.
func ReadStreamOf(
	ctx context.Context, tx Tx, stream string, after int64, types []string, maxEvents, maxBytes int,
) ([]RecordedEvent, error) {
	events, err := readPage(ctx, tx, streamOfTypesSQL, []any{stream, after, pgarray.Texts(types), maxEvents, maxBytes})
	if err != nil {
		return nil, fmt.Errorf("read %s after version %d: %w", stream, after, err)
	}
	return events, nil
}

// VersionAt is the version that a stream had at a position; 0: it had no events. It costs
// what came after.
func VersionAt(ctx context.Context, tx Tx, stream string, position int64) (version int64, err error) {
	err = tx.QueryRowContext(ctx, `
SELECT e.version FROM ledger.events e
WHERE hashtextextended(e.stream, 0) = hashtextextended($1::text, 0) AND e.stream = $1::text AND e.position <= $2::bigint
ORDER BY e.version DESC LIMIT 1`, stream, position).Scan(&version)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("find the version of %s at %d: %w", stream, position, err)
	}
	return version, nil
}
