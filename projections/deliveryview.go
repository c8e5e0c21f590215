package projections

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgarray"
	"nabu/internal/pgrows"
)

// Subscriber is a subscription that has not expired, as who delivers to it has to know it.
type Subscriber struct {
	domain.Subscription
	Version     int64           // of the subscription's stream
	Metadata    domain.Metadata // of its queue; empty when there is none
	Cursor      domain.Place    // the queue's messages up to here have been dealt with
	ConfirmedAt domain.Place    // where the subscriber has confirmed it last; 0: it has not
}

// selectSubscribers reads subscribers; asked are ids, and $1 is the time.
func selectSubscribers(asked string) string {
	return `
SELECT s.project, s.queue, s.id, s.subscriber, s.ttl, s.expires_at, s.options, s.confirmed, d.cursor, d.confirmed,
    ` + eventstore.LastVersion("('subscription/' || s.project || '/' || s.id)") + `, coalesce(q.metadata, '')
FROM (` + asked + `) AS asked (id)
JOIN delivery_cursors d ON d.subscription = asked.id
JOIN subscriptions s ON s.project = d.project AND s.queue = d.queue AND s.id = d.subscription
LEFT JOIN queues q ON q.project = s.project AND q.name = s.queue AND NOT q.deleted
WHERE s.expires_at > coalesce($1::timestamptz, statement_timestamp())`
}

// SubscribersOf lists the subscribers of queues, confirmed or not, in no order.
func (v *Views) SubscribersOf(ctx context.Context, queues []domain.QueueID) ([]Subscriber, error) {
	projects, names := make([]string, len(queues)), make([]string, len(queues))
	for i, q := range queues {
		projects[i], names[i] = q.Project, q.Name
	}
	return v.subscribers(ctx, `
SELECT c.subscription FROM unnest($2::text[], $3::text[]) AS of (project, queue)
JOIN delivery_cursors c USING (project, queue)`, pgarray.Texts(projects), pgarray.Texts(names))
}

// SubscribersDue lists subscribers for whom something has waited long enough, besides some,
// at most so many, the longest first. It costs a probe for each subscriber that something
// waits for.
func (v *Views) SubscribersDue(ctx context.Context, besides []domain.SubscriptionID, most int) ([]Subscriber, error) {
	return v.subscribers(ctx, `
WITH RECURSIVE first (subscription, due_at) AS (
    (SELECT w.subscription, w.due_at FROM deliveries w ORDER BY w.subscription, w.due_at LIMIT 1)
    UNION ALL
    SELECT next.subscription, next.due_at FROM first
    CROSS JOIN LATERAL (
        SELECT w.subscription, w.due_at FROM deliveries w
        WHERE w.subscription > first.subscription ORDER BY w.subscription, w.due_at LIMIT 1
    ) AS next
)
SELECT f.subscription FROM first f
WHERE f.due_at <= coalesce($1::timestamptz, statement_timestamp()) AND NOT f.subscription = ANY ($2::uuid[])
ORDER BY f.due_at LIMIT $3`, pgarray.UUIDs(besides), most)
}

// SubscribersBehind lists subscribers whose queue has events that have not been looked
// through for them. It looks at all subscriptions there are, but not at what became of
// their queues: the last event of one tells enough.
func (v *Views) SubscribersBehind(ctx context.Context) ([]Subscriber, error) {
	return v.subscribers(ctx, `
SELECT c.subscription
FROM (SELECT DISTINCT project, queue FROM delivery_cursors) AS of
CROSS JOIN LATERAL (
    SELECT e.position << 16 | greatest(coalesce(cardinality(e.bodies), 0) - 1, 0) AS place
    FROM ledger.events e
    WHERE hashtextextended(e.stream, 0) = hashtextextended('queue/' || of.project || '/' || of.queue, 0)
        AND e.stream = 'queue/' || of.project || '/' || of.queue
    ORDER BY e.version DESC LIMIT 1
) AS last
JOIN delivery_cursors c USING (project, queue)
WHERE c.cursor < last.place`)
}

// SubscribersByID lists those of some subscribers that are there.
func (v *Views) SubscribersByID(ctx context.Context, ids []domain.SubscriptionID) ([]Subscriber, error) {
	return v.subscribers(ctx, `SELECT * FROM unnest($2::uuid[])`, pgarray.UUIDs(ids))
}

func (v *Views) subscribers(ctx context.Context, asked string, args ...any) ([]Subscriber, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	rows, err := v.DB.QueryContext(ctx, selectSubscribers(asked), append([]any{v.now()}, args...)...)
	return pgrows.Collect("list subscribers", rows, err, func(s *Subscriber) error {
		its := &s.Subscription
		var metadata string
		if err := rows.Scan(&its.Queue.Project, &its.Queue.Name, &its.ID, &its.Subscriber, &its.TTL, &its.Expires, &its.Options,
			&its.Confirmed, &s.Cursor, &s.ConfirmedAt, &s.Version, &metadata); err != nil {
			return err
		}
		s.Metadata, err = domain.ParseMetadata([]byte(metadata))
		return err
	})
}

// Waiting is something that waits to be delivered.
type Waiting struct {
	Place    domain.Place
	Message  domain.MessageID    // zero: a confirmation is owed
	Owes     domain.Confirmation // empty: it is a message
	Attempts int                 // made so far
}

// DeliveriesDue lists what has waited long enough for a subscriber, the longest first, at
// most so many.
func (v *Views) DeliveriesDue(ctx context.Context, id domain.SubscriptionID, most int) ([]Waiting, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	rows, err := v.DB.QueryContext(ctx, `
SELECT w.place, w.message, w.owes, w.attempts
FROM deliveries w
WHERE w.subscription = $2 AND w.due_at <= coalesce($1::timestamptz, statement_timestamp())
ORDER BY w.due_at, w.place LIMIT $3`, v.now(), id, most)
	return pgrows.Collect("list deliveries", rows, err, func(w *Waiting) error {
		var message uuid.NullUUID
		if err := rows.Scan(&w.Place, &message, &w.Owes, &w.Attempts); err != nil {
			return err
		}
		w.Message = message.UUID
		return nil
	})
}

// Subscribed is the position of the ledger's last event, and whether anybody has
// subscribed to anything.
func (v *Views) Subscribed(ctx context.Context) (head int64, any bool, err error) {
	ctx, cancel := within(ctx)
	defer cancel()
	err = v.DB.QueryRowContext(ctx, `
SELECT coalesce((SELECT e.position FROM ledger.events e ORDER BY e.position DESC LIMIT 1), 0),
    EXISTS (SELECT FROM delivery_cursors)`).Scan(&head, &any)
	if err != nil {
		return 0, false, fmt.Errorf("look for subscriptions: %w", err)
	}
	return head, any, nil
}

// QueuesPosted lists the queues that got messages by events after a position up to another.
func (v *Views) QueuesPosted(ctx context.Context, after, upto int64) ([]domain.QueueID, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	rows, err := v.DB.QueryContext(ctx, `
SELECT DISTINCT e.stream FROM ledger.events e
WHERE e.position > $1::bigint AND e.position <= $2::bigint AND e.type = 'messages.posted.v1'`, after, upto)
	var queues []domain.QueueID
	err = pgrows.Each("list queues with new messages", rows, err, func() error {
		var stream string
		if err := rows.Scan(&stream); err != nil {
			return err
		}
		if queue, ok := domain.QueueOfStream(stream); ok {
			queues = append(queues, queue)
		}
		return nil
	})
	return queues, err
}

// WaitingDeliveries counts what waits, and tells for how long what is due has been; 0:
// nothing is.
func (v *Views) WaitingDeliveries(ctx context.Context) (waiting int, overdue time.Duration, err error) {
	ctx, cancel := within(ctx)
	defer cancel()
	var seconds sql.NullFloat64
	err = v.DB.QueryRowContext(ctx, `
SELECT count(*), extract(epoch FROM coalesce($1::timestamptz, statement_timestamp()) - min(w.due_at))::float8
FROM deliveries w`, v.now()).Scan(&waiting, &seconds)
	if err != nil {
		return 0, 0, fmt.Errorf("count deliveries: %w", err)
	}
	return waiting, max(0, time.Duration(seconds.Float64*float64(time.Second))), nil
}
