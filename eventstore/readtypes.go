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

//go:embed sql/version_at.sql
var versionAtSQL string

// ReadStreamOf reads the next events of some types in one stream after a version and up to
// another, in order: at most so many, with bodies of so many bytes besides the last one's.
// None: there are no more up to there. It costs what is between, whatever its type.
func ReadStreamOf(
	ctx context.Context, tx Tx, stream string, after, upto int64, types []string, maxEvents, maxBytes int,
) ([]RecordedEvent, error) {
	events, err := readPage(ctx, tx, streamOfTypesSQL, []any{stream, after, pgarray.Texts(types), maxEvents, maxBytes, upto})
	if err != nil {
		return nil, fmt.Errorf("read %s after version %d: %w", stream, after, err)
	}
	return events, nil
}

// VersionAt is the version that a stream had at a position; 0: it had no events. It costs
// the same wherever that was.
func VersionAt(ctx context.Context, tx Tx, stream string, position int64) (version int64, err error) {
	if err := tx.QueryRowContext(ctx, versionAtSQL, stream, position).Scan(&version); err != nil {
		return 0, fmt.Errorf("find the version of %s at %d: %w", stream, position, err)
	}
	return version, nil
}

// StreamEnd is the version and position of a stream's last event up to a version; 0: it has
// none.
func StreamEnd(ctx context.Context, tx Tx, stream string, upto int64) (version, position int64, err error) {
	err = tx.QueryRowContext(ctx, `
SELECT e.version, e.position FROM ledger.events e
WHERE hashtextextended(e.stream, 0) = hashtextextended($1::text, 0) AND e.stream = $1::text AND e.version <= $2::bigint
ORDER BY e.version DESC LIMIT 1`, stream, upto).Scan(&version, &position)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, 0, fmt.Errorf("find the end of %s: %w", stream, err)
	}
	return version, position, nil
}
