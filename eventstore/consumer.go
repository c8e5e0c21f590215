package eventstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"nabu/domain"
	"nabu/internal/pgrows"
)

// Consumer is how far a reader of the feed has come.
type Consumer struct {
	Name     string
	Position int64 // its checkpoint
	// Events are how many it is behind, whether it wants them or not, and Age is how long
	// the first of them has been in the ledger; 0: it has read all.
	Events int64
	Age    time.Duration
	// UpdatedAt is when the checkpoint moved last.
	UpdatedAt time.Time
	// Parked is how many events are, and ParkedAge for how long the first one has been.
	Parked    int
	ParkedAge time.Duration
}

// Consumers lists all consumers by name.
func Consumers(ctx context.Context, tx Tx) ([]Consumer, error) {
	rows, err := tx.QueryContext(ctx, `
SELECT c.name, c.position, greatest(h.position - c.position, 0),
    coalesce(extract(epoch FROM greatest(clock_timestamp() - next.recorded_at, interval '0')), 0)::float8, c.updated_at,
    parked.n, coalesce(extract(epoch FROM clock_timestamp() - parked.first), 0)::float8
FROM ledger.consumers c
CROSS JOIN (SELECT coalesce((SELECT e.position FROM ledger.events e ORDER BY e.position DESC LIMIT 1), 0) AS position) AS h
LEFT JOIN LATERAL (
    SELECT e.recorded_at FROM ledger.events e WHERE e.position > c.position ORDER BY e.position LIMIT 1
) AS next ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS n, min(p.parked_at) AS first
    FROM ledger.parked p
    WHERE p.consumer = c.name AND p.skipped_at IS NULL
) AS parked
ORDER BY c.name`)
	consumers := []Consumer{}
	err = pgrows.Each("list the consumers", rows, err, func() error {
		var c Consumer
		var age, parkedAge float64
		if err := rows.Scan(&c.Name, &c.Position, &c.Events, &age, &c.UpdatedAt, &c.Parked, &parkedAge); err != nil {
			return err
		}
		c.Age, c.ParkedAge = seconds(age), seconds(parkedAge)
		consumers = append(consumers, c)
		return nil
	})
	return consumers, err
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

// Parked is an event that was set aside for a consumer.
type Parked struct {
	Consumer string
	Position int64
	Stream   string
	Error    string // of the last try; empty: it waits behind another of its stream
	Attempts int    // how often it was refused, alone
	ParkedAt time.Time
	Age      time.Duration
	TriedAt  time.Time // zero: it waits behind another
	Asked    bool      // it is about to be delivered again
}

// ParkedEvents lists what is parked, by consumer and position, at most so many.
func ParkedEvents(ctx context.Context, tx Tx, most int) ([]Parked, error) {
	rows, err := tx.QueryContext(ctx, `
SELECT p.consumer, p.position, p.stream, coalesce(p.error, ''), p.attempts, p.parked_at,
    extract(epoch FROM clock_timestamp() - p.parked_at)::float8, p.tried_at, p.asked
FROM ledger.parked p
WHERE p.skipped_at IS NULL
ORDER BY p.consumer, p.position
LIMIT $1::int`, most)
	parked := []Parked{}
	err = pgrows.Each("list what is parked", rows, err, func() error {
		var p Parked
		var age float64
		var tried sql.NullTime
		if err := rows.Scan(&p.Consumer, &p.Position, &p.Stream, &p.Error, &p.Attempts, &p.ParkedAt, &age, &tried, &p.Asked); err != nil {
			return err
		}
		p.Age, p.TriedAt = seconds(age), tried.Time
		parked = append(parked, p)
		return nil
	})
	return parked, err
}

// Retry asks for what is parked for a consumer to be delivered again, in order: all of
// it, or the stream of the event at a position (0: all), of which that must be the first.
// It returns how many events that are. The consumer's reader does it when it looks next.
// It refuses with domain.NotFound or domain.Conflict.
func Retry(ctx context.Context, db *sql.DB, consumer string, position int64) (asked int64, err error) {
	err = changeParked(ctx, db, consumer, func(tx *sql.Tx) error {
		stream := ""
		if position > 0 {
			if stream, err = firstParked(ctx, tx, consumer, position); err != nil {
				return err
			}
		}
		asked, err = ask(ctx, tx, consumer, stream)
		return err
	})
	return asked, err
}

// Skip gives up one parked event, for a reason that is kept with it. Was it the first of
// its stream, what waits behind it is delivered; Skip returns how many events that are.
// It refuses with domain.NotFound, or domain.Invalid without a reason.
func Skip(ctx context.Context, db *sql.DB, consumer string, position int64, reason string) (asked int64, err error) {
	if reason == "" {
		return 0, domain.Errorf(domain.Invalid, "a reason must be given")
	}
	err = changeParked(ctx, db, consumer, func(tx *sql.Tx) error {
		stream, err := firstParked(ctx, tx, consumer, position)
		waits := false
		if refused, ok := errors.AsType[*domain.Error](err); ok && refused.Code == domain.Conflict {
			waits, err = true, nil
		}
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `
UPDATE ledger.parked SET skipped_at = clock_timestamp(), reason = $3::text
WHERE consumer = $1::text AND position = $2::bigint`, consumer, position, errorText(errors.New(reason))); err != nil {
			return fmt.Errorf("skip event %d for %s: %w", position, consumer, err)
		}
		if waits {
			return nil
		}
		asked, err = ask(ctx, tx, consumer, stream)
		return err
	})
	return asked, err
}

// changeParked changes what is parked for a consumer, with nobody else.
func changeParked(ctx context.Context, db *sql.DB, consumer string, change func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("change what is parked for %s: %w", consumer, err)
	}
	defer func() { _ = tx.Rollback() }()
	known, err := lockParked(ctx, tx, consumer)
	if err != nil {
		return err
	}
	if !known {
		return domain.Errorf(domain.NotFound, "no consumer is called %s", consumer)
	}
	if err := change(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("change what is parked for %s: %w", consumer, err)
	}
	return nil
}

// firstParked is the stream of a parked event, which must be the first of it.
func firstParked(ctx context.Context, tx Tx, consumer string, position int64) (stream string, err error) {
	var first int64
	err = tx.QueryRowContext(ctx, `
SELECT p.stream, (SELECT min(f.position) FROM ledger.parked f
    WHERE f.consumer = p.consumer AND f.stream = p.stream AND f.skipped_at IS NULL)
FROM ledger.parked p
WHERE p.consumer = $1::text AND p.position = $2::bigint AND p.skipped_at IS NULL`, consumer, position).Scan(&stream, &first)
	if errors.Is(err, sql.ErrNoRows) {
		return "", domain.Errorf(domain.NotFound, "event %d is not parked for consumer %s", position, consumer)
	}
	if err != nil {
		return "", fmt.Errorf("look for event %d of %s: %w", position, consumer, err)
	}
	if first != position {
		return stream, domain.Errorf(domain.Conflict, "event %d waits behind event %d of its stream", position, first)
	}
	return stream, nil
}

// ask lets the events of a parked stream, or of all (empty), be delivered again.
func ask(ctx context.Context, tx Tx, consumer, stream string) (int64, error) {
	result, err := tx.ExecContext(ctx, `
UPDATE ledger.parked SET asked = true
WHERE consumer = $1::text AND ($2::text = '' OR stream = $2::text) AND skipped_at IS NULL`, consumer, stream)
	if err != nil {
		return 0, fmt.Errorf("ask for what is parked for %s: %w", consumer, err)
	}
	return result.RowsAffected()
}
