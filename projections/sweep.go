package projections

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgarray"
	"nabu/internal/pgrows"
)

// countRow is what a slice of history says of the places between which a queue's
// messages are kept count of.
type countRow struct {
	queue       int64
	after, upto domain.Place
	emptied     bool // purged within the slice
	counted     bool // moved on within the slice
	over        bool // the queue was deleted, and nothing of it is left
}

// foldCounts is the last word on each queue's count, in the order of first mention.
func foldCounts(history []eventstore.RecordedEvent) []*countRow {
	var counts mentions[int64, countRow]
	row := func(queue int64) *countRow {
		r := counts.of(queue)
		r.queue = queue
		return r
	}
	for _, recorded := range history {
		switch e := recorded.Event.(type) {
		case domain.QueuePurged:
			r := row(e.Number)
			r.after = domain.PlaceOf(recorded.Position, 0)
			r.upto, r.emptied = r.after, true
		case domain.MessagesSwept:
			if e.Over {
				row(e.Number).over = true
			}
			if e.Counted > 0 {
				r := row(e.Number)
				r.upto, r.counted = e.Counted, true
				if !r.emptied {
					r.after = e.CountedAfter
				}
			}
		}
	}
	return counts.rows
}

// sweep takes away what the events tell to be over, and moves the counts on.
func (c *messageChange) sweep(ctx context.Context, tx eventstore.Tx) error {
	if len(c.swept) == 0 && len(c.counts) == 0 {
		return nil
	}
	args := c.sweptArgs()
	var forgotten, anew, moved, gone []*countRow
	for _, row := range c.counts {
		switch {
		case row.over:
			gone = append(gone, row)
		case !row.counted:
			forgotten = append(forgotten, row)
		case row.emptied:
			anew = append(anew, row)
		default:
			moved = append(moved, row)
		}
	}
	for _, rows := range [][]*countRow{forgotten, anew, moved} {
		args = append(args, countArgs(rows)...)
	}
	args = append(args, countArgs(gone)[0])
	return call(ctx, tx, "sweep_messages", args)
}

// sweptArgs are the messages and claims that go: messages that had expired, or stood in
// a queue that was purged or deleted.
func (c *messageChange) sweptArgs() []any {
	var queues, claimQueues []int64
	var firsts, lasts []domain.Place
	var times []time.Time // zero: whatever stands there
	var claims []uuid.UUID
	add := func(queue int64, first, last domain.Place, at time.Time) {
		queues, firsts, lasts, times = append(queues, queue), append(firsts, first), append(lasts, last), append(times, at)
	}
	upto := map[int64]domain.Place{} // the last of many is enough, and each walks from the first place
	for _, recorded := range c.swept {
		e := recorded.Event.(domain.MessagesSwept)
		for _, r := range e.Expired {
			add(e.Number, r.First, r.Last, recorded.RecordedAt)
		}
		upto[e.Number] = max(upto[e.Number], e.Upto)
		for _, id := range e.Claims {
			claimQueues, claims = append(claimQueues, e.Number), append(claims, id)
		}
	}
	for _, queue := range slices.Sorted(maps.Keys(upto)) {
		if upto[queue] > 0 {
			add(queue, 0, upto[queue], time.Time{})
		}
	}
	return []any{
		pgarray.BigInts(queues), pgarray.BigInts(firsts), pgarray.BigInts(lasts), pgarray.TimesOrNull(times),
		pgarray.BigInts(claimQueues), pgarray.UUIDs(claims),
	}
}

func countArgs(rows []*countRow) []any {
	n := len(rows)
	queues, afters, uptos := make([]int64, n), make([]domain.Place, n), make([]domain.Place, n)
	for i, row := range rows {
		queues[i], afters[i], uptos[i] = row.queue, row.after, row.upto
	}
	return []any{pgarray.BigInts(queues), pgarray.BigInts(afters), pgarray.BigInts(uptos)}
}

// Bounds of one sweep of a queue, in rows.
const (
	maxSwept     = 250    // messages, and claims: a few milliseconds behind the lock
	leastCounted = 1000   // messages, or events in the ledger, for a count to be worth it
	maxCounted   = 25_000 // messages, in one step
)

// claimRest is how long a claim is over before it is swept, in seconds. Until then,
// its end tells where messages became free.
const claimRest = 60

// loadSweeps has a plan that is kept: making one takes longer than what it is for.
const loadSweeps = `SELECT * FROM load_sweeps($1, $2, $3, $4, $5, $6)`

// Sweeps finds what nobody can see any more of queues.
func (States) Sweeps(ctx context.Context, tx eventstore.Tx, numbers []int64, at time.Time) (map[int64]domain.Sweepable, error) {
	rows, err := tx.QueryContext(ctx, loadSweeps, pgarray.BigInts(numbers), at, maxSwept, claimRest, leastCounted, maxCounted)
	found := make(map[int64]domain.Sweepable, len(numbers))
	err = pgrows.Each("load sweeps", rows, err, func() error {
		var s domain.Sweepable
		var firsts, lasts pq.Int64Array
		var claims pq.StringArray
		if err := rows.Scan(&s.Queue.Project, &s.Queue.Name, &s.Number, &s.Deleted, &s.Purged, &firsts, &lasts,
			&s.Upto, &s.Clean, &claims, &s.Lowest, &s.Counted, &s.Empty); err != nil {
			return err
		}
		for i, first := range firsts {
			s.Expired = append(s.Expired, domain.PlaceRange{First: domain.Place(first), Last: domain.Place(lasts[i])})
		}
		for _, text := range claims {
			id, err := uuid.Parse(text)
			if err != nil {
				return fmt.Errorf("claim %q: %w", text, err)
			}
			s.Claims = append(s.Claims, id)
		}
		found[s.Number] = s
		return nil
	})
	return found, err
}

// SweepableQueue is a queue, there or deleted, of which something may be swept.
type SweepableQueue struct {
	Queue  domain.QueueID
	Number int64
}

// SweepLook is a look for what time has ended.
type SweepLook[K any] struct {
	By     time.Time // ended up to this moment
	Except []K       // whatever it is that is swept together is not looked for of these
	Most   int       // to be listed
}

// Clock is the time by which looks for what can be swept go.
func (v *Views) Clock(ctx context.Context) (now time.Time, err error) {
	ctx, cancel := within(ctx)
	defer cancel()
	if err = v.DB.QueryRowContext(ctx, `SELECT coalesce($1::timestamptz, statement_timestamp())`, v.now()).Scan(&now); err != nil {
		return now, fmt.Errorf("ask for the time: %w", err)
	}
	return now, nil
}

// Sweepable lists queues, but for some by their numbers, with messages that have expired, claims
// that ended some time before, or rows that a purge or a deletion has left.
func (v *Views) Sweepable(ctx context.Context, l SweepLook[int64]) ([]SweepableQueue, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	rows, err := v.DB.QueryContext(ctx, `
SELECT q.project, q.name, q.number
FROM (
    (SELECT m.queue FROM messages m
        WHERE m.ttl >= 0 AND m.expires_at <= $1 AND m.queue <> ALL ($5::bigint[])
        ORDER BY m.expires_at LIMIT $3)
    UNION
    (SELECT q.number FROM queues q WHERE (q.deleted OR q.purged > q.swept) AND q.number <> ALL ($5::bigint[])
        ORDER BY q.number LIMIT $3)
    UNION
    (SELECT c.queue FROM claims c
        WHERE c.ttl >= 0 AND c.ends_at <= $1::timestamptz - make_interval(secs => $2) AND c.queue <> ALL ($5::bigint[])
        ORDER BY c.ends_at LIMIT $3)
) AS s (number)
JOIN queues q USING (number)
LIMIT $4`, l.By, claimRest, 10*maxSwept, l.Most, pgarray.BigInts(l.Except))
	return pgrows.Collect("list what can be swept", rows, err, func(q *SweepableQueue) error {
		return rows.Scan(&q.Queue.Project, &q.Queue.Name, &q.Number)
	})
}

// fewEvents is how far back LatelyPosted looks, in events.
const fewEvents = 100_000

// LatelyPosted counts the messages in the last of the posts, by queue.
func (v *Views) LatelyPosted(ctx context.Context) (map[domain.QueueID]int, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	rows, err := v.DB.QueryContext(ctx, `
SELECT e.stream, sum(cardinality(e.bodies))
FROM ledger.events e
WHERE e.position > (SELECT coalesce(max(h.position), 0) - $1 FROM ledger.events h) AND e.type = $2
GROUP BY e.stream`, fewEvents, domain.MessagesPosted{}.EventType())
	counts := map[domain.QueueID]int{}
	err = pgrows.Each("count posts", rows, err, func() error {
		var stream string
		var n int
		if err := rows.Scan(&stream, &n); err != nil {
			return err
		}
		if id, isQueue := domain.QueueOfStream(stream); isQueue {
			counts[id] = n
		}
		return nil
	})
	return counts, err
}

// QueueNumber is the number of the queue that bears a name now; 0: none does.
func (v *Views) QueueNumber(ctx context.Context, id domain.QueueID) (number int64, err error) {
	ctx, cancel := within(ctx)
	defer cancel()
	err = v.DB.QueryRowContext(ctx,
		`SELECT number FROM queues WHERE project = $1 AND name = $2 AND NOT deleted`, id.Project, id.Name).Scan(&number)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("find queue: %w", err)
	}
	return number, nil
}
