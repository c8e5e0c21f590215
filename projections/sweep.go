package projections

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgarray"
)

// countRow is what a slice of history says of the places between which a queue's
// messages are kept count of.
type countRow struct {
	queue       int64
	after, upto domain.Place
	emptied     bool // purged within the slice
	counted     bool // moved on within the slice
}

// foldCounts is the last word on each queue's count, in the order of first mention.
func foldCounts(history []eventstore.RecordedEvent) []*countRow {
	var rows []*countRow
	byQueue := map[int64]*countRow{}
	row := func(queue int64) *countRow {
		r := byQueue[queue]
		if r == nil {
			r = &countRow{queue: queue}
			byQueue[queue] = r
			rows = append(rows, r)
		}
		return r
	}
	for _, recorded := range history {
		switch e := recorded.Event.(type) {
		case domain.QueuePurged:
			r := row(e.Number)
			r.after = domain.PlaceOf(recorded.Position, 0)
			r.upto, r.emptied = r.after, true
		case domain.MessagesSwept:
			if e.Counted > 0 {
				r := row(e.Number)
				r.upto, r.counted = e.Counted, true
				if !r.emptied {
					r.after = e.CountedAfter
				}
			}
		}
	}
	return rows
}

// sweep takes away what the events tell to be over, and moves the counts on. The rest
// of the slice has been written: a count is of the rows that are left.
func (c *messageChange) sweep(ctx context.Context, tx eventstore.Tx) error {
	if err := c.sweepMessages(ctx, tx); err != nil {
		return fmt.Errorf("sweep messages: %w", err)
	}
	if err := c.sweepClaims(ctx, tx); err != nil {
		return fmt.Errorf("sweep claims: %w", err)
	}
	if err := c.count(ctx, tx); err != nil {
		return fmt.Errorf("count messages: %w", err)
	}
	return c.sweepCounts(ctx, tx)
}

// sweepMessages deletes what had expired, or stood in a queue that was purged or
// deleted.
func (c *messageChange) sweepMessages(ctx context.Context, tx eventstore.Tx) error {
	var queues []int64
	var firsts, lasts []domain.Place
	var times []time.Time // zero: whatever stands there
	add := func(queue int64, first, last domain.Place, at time.Time) {
		queues, firsts, lasts, times = append(queues, queue), append(firsts, first), append(lasts, last), append(times, at)
	}
	for _, recorded := range c.swept {
		e := recorded.Event.(domain.MessagesSwept)
		for _, r := range e.Expired {
			add(e.Number, r.First, r.Last, recorded.RecordedAt)
		}
		if e.Upto > 0 {
			add(e.Number, 0, e.Upto, time.Time{})
		}
	}
	if len(queues) == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `
WITH gone AS (
    DELETE FROM messages m
    USING unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[]) AS r (queue, first, last, at)
    WHERE m.queue = r.queue AND m.place >= r.first AND m.place <= r.last AND (r.at IS NULL OR m.expires_at <= r.at)
    RETURNING m.queue, m.place
), counted AS (
    SELECT g.queue, count(*) AS messages
    FROM gone g
    JOIN message_counts n ON n.queue = g.queue AND g.place > n.after AND g.place <= n.upto
    GROUP BY g.queue
)
UPDATE message_counts n
SET messages = n.messages - c.messages
FROM counted c
WHERE n.queue = c.queue`,
		pgarray.BigInts(queues), pgarray.BigInts(firsts), pgarray.BigInts(lasts), pgarray.TimesOrNull(times))
	return err
}

func (c *messageChange) sweepClaims(ctx context.Context, tx eventstore.Tx) error {
	var queues []int64
	var ids []uuid.UUID
	for _, recorded := range c.swept {
		e := recorded.Event.(domain.MessagesSwept)
		for _, id := range e.Claims {
			queues, ids = append(queues, e.Number), append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `
DELETE FROM claims c
USING unnest($1::bigint[], $2::uuid[]) AS over (queue, id)
WHERE c.queue = over.queue AND c.id = over.id`, pgarray.BigInts(queues), pgarray.UUIDs(ids))
	return err
}

// count moves the counts on. One that begins anew counts from its first place; the
// others add what stands between the former last place and the new one.
func (c *messageChange) count(ctx context.Context, tx eventstore.Tx) error {
	var emptied, forgotten, moved []*countRow
	for _, row := range c.counts {
		switch {
		case !row.counted:
			forgotten = append(forgotten, row)
		case row.emptied:
			emptied = append(emptied, row)
		default:
			moved = append(moved, row)
		}
	}
	for _, step := range []struct {
		rows      []*countRow
		statement string
	}{
		{forgotten, `
UPDATE message_counts n
SET after = r.after, upto = r.upto, messages = 0
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS r (queue, after, upto)
WHERE n.queue = r.queue`},
		{emptied, `
INSERT INTO message_counts AS n (queue, after, upto, messages)
SELECT r.queue, r.after, r.upto, (
    SELECT count(*) FROM messages m WHERE m.queue = r.queue AND m.place > r.after AND m.place <= r.upto)
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS r (queue, after, upto)
ON CONFLICT (queue) DO UPDATE SET after = excluded.after, upto = excluded.upto, messages = excluded.messages`},
		{moved, `
INSERT INTO message_counts AS n (queue, after, upto, messages)
SELECT r.queue, coalesce(was.after, r.after), r.upto, coalesce(was.messages, 0) + (
    SELECT count(*) FROM messages m
    WHERE m.queue = r.queue AND m.place > coalesce(was.upto, r.after) AND m.place <= r.upto)
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS r (queue, after, upto)
LEFT JOIN message_counts was ON was.queue = r.queue
ON CONFLICT (queue) DO UPDATE SET upto = excluded.upto, messages = excluded.messages`},
	} {
		if len(step.rows) == 0 {
			continue
		}
		n := len(step.rows)
		queues, afters, uptos := make([]int64, n), make([]domain.Place, n), make([]domain.Place, n)
		for i, row := range step.rows {
			queues[i], afters[i], uptos[i] = row.queue, row.after, row.upto
		}
		if _, err := tx.ExecContext(ctx, step.statement,
			pgarray.BigInts(queues), pgarray.BigInts(afters), pgarray.BigInts(uptos)); err != nil {
			return err
		}
	}
	return nil
}

// sweepCounts forgets the counts of queues that are over.
func (c *messageChange) sweepCounts(ctx context.Context, tx eventstore.Tx) error {
	var over []int64
	for _, recorded := range c.swept {
		if e := recorded.Event.(domain.MessagesSwept); e.Over {
			over = append(over, e.Number)
		}
	}
	if len(over) == 0 {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM message_counts WHERE queue = ANY ($1::bigint[])`, pgarray.BigInts(over)); err != nil {
		return fmt.Errorf("forget counts: %w", err)
	}
	return nil
}

// Bounds of one sweep of a queue, in rows.
const (
	maxSwept     = 1000  // messages, and claims
	leastCounted = 1000  // messages, for a count to be worth it
	maxCounted   = 10000 // messages, in one step
)

// claimRest is how long a claim is over before it is swept, in seconds. Until then,
// its end tells where messages became free.
const claimRest = 60

// Sweeps finds what nobody can see any more of queues.
func (States) Sweeps(ctx context.Context, tx eventstore.Tx, numbers []int64, at time.Time) (map[int64]domain.Sweepable, error) {
	rows, err := tx.QueryContext(ctx, `
SELECT q.project, q.name, q.number, q.deleted, q.purged, expired.places, coalesce(gone.upto, 0),
    NOT q.deleted AND q.purged > q.swept AND gone.rows < $3, over.ids, over.lowest, coalesce(counted.upto, 0),
    q.deleted AND gone.rows < $3 AND NOT EXISTS (
        SELECT FROM claims c WHERE c.queue = q.number AND NOT c.id = ANY (over.ids))
FROM (SELECT DISTINCT number FROM unnest($1::bigint[]) AS asked (number)) AS asked
JOIN queues q USING (number)
CROSS JOIN LATERAL (SELECT CASE WHEN q.deleted THEN 9223372036854775807 ELSE q.purged END AS mark) AS w
CROSS JOIN LATERAL (
    SELECT count(*) AS rows, max(m.place) AS upto
    FROM (SELECT m.place FROM messages m WHERE m.queue = q.number AND m.place <= w.mark ORDER BY m.place LIMIT $3) AS m
) AS gone
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(m.place ORDER BY m.place), '{}') AS places
    FROM (SELECT m.place FROM messages m
        WHERE m.expires_at <= $2 AND m.queue = q.number AND m.place > w.mark
        ORDER BY m.expires_at LIMIT $3) AS m
) AS expired
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(c.id), '{}') AS ids, coalesce(min(c.lowest), 0) AS lowest
    FROM (SELECT c.id, (SELECT min(p.place) FROM unnest(c.places) AS p (place)) AS lowest
        FROM claims c
        WHERE c.queue = q.number AND (q.deleted OR c.ends_at <= $2 - make_interval(secs => $4))
        ORDER BY c.ends_at LIMIT $3) AS c
) AS over
CROSS JOIN LATERAL (
    SELECT CASE WHEN count(*) >= $5 THEN max(m.place) END AS upto
    FROM (SELECT m.place FROM messages m
        WHERE m.queue = q.number AND NOT q.deleted AND m.place > greatest(q.purged,
            coalesce((SELECT n.upto FROM message_counts n WHERE n.queue = q.number), 0))
        ORDER BY m.place LIMIT $6) AS m
) AS counted`, pgarray.BigInts(numbers), at, maxSwept, claimRest, leastCounted, maxCounted)
	if err != nil {
		return nil, fmt.Errorf("load sweeps: %w", err)
	}
	defer rows.Close()
	found := make(map[int64]domain.Sweepable, len(numbers))
	for rows.Next() {
		var s domain.Sweepable
		var expired pq.Int64Array
		var claims pq.StringArray
		if err := rows.Scan(&s.Queue.Project, &s.Queue.Name, &s.Number, &s.Deleted, &s.Purged, &expired,
			&s.Upto, &s.Clean, &claims, &s.Lowest, &s.Counted, &s.Empty); err != nil {
			return nil, fmt.Errorf("load sweeps: %w", err)
		}
		for _, place := range expired {
			s.Expired = append(s.Expired, domain.Place(place))
		}
		for _, text := range claims {
			id, err := uuid.Parse(text)
			if err != nil {
				return nil, fmt.Errorf("load sweeps: claim %q: %w", text, err)
			}
			s.Claims = append(s.Claims, id)
		}
		found[s.Number] = s
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("load sweeps: %w", err)
	}
	return found, nil
}

// SweepableQueue is a queue, there or deleted, of which something may be swept.
type SweepableQueue struct {
	Queue  domain.QueueID
	Number int64
}

// Sweepable lists queues with messages that have expired, claims that ended some time
// ago, or rows that a purge or a deletion has left; at most so many.
func (v *Views) Sweepable(ctx context.Context, most int) ([]SweepableQueue, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	rows, err := v.DB.QueryContext(ctx, `
SELECT q.project, q.name, q.number
FROM (
    (SELECT m.queue FROM messages m WHERE m.expires_at <= coalesce($1::timestamptz, statement_timestamp())
        ORDER BY m.expires_at LIMIT $3)
    UNION
    (SELECT q.number FROM queues q WHERE q.deleted OR q.purged > q.swept ORDER BY q.number LIMIT $3)
    UNION
    (SELECT c.queue FROM claims c
        WHERE c.ends_at <= coalesce($1::timestamptz, statement_timestamp()) - make_interval(secs => $2) LIMIT $3)
) AS s (number)
JOIN queues q USING (number)
LIMIT $4`, v.now(), claimRest, 10*maxSwept, most)
	if err != nil {
		return nil, fmt.Errorf("list what can be swept: %w", err)
	}
	defer rows.Close()
	var queues []SweepableQueue
	for rows.Next() {
		var q SweepableQueue
		if err := rows.Scan(&q.Queue.Project, &q.Queue.Name, &q.Number); err != nil {
			return nil, fmt.Errorf("list what can be swept: %w", err)
		}
		queues = append(queues, q)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list what can be swept: %w", err)
	}
	return queues, nil
}
