package projections

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgarray"
	"nabu/internal/pgrows"
)

// Subscriptions are the subscriptions to each queue.
var Subscriptions = Projection{Name: "subscriptions", DDL: mustDDL("subscriptions"), Apply: applyToSubscriptions}

// subscriptionRow is the last word of a slice of history on one subscription. What is
// zero was not said.
type subscriptionRow struct {
	queue               domain.QueueID
	id                  domain.SubscriptionID
	subscriber, options string
	ttl                 int
	created, ends       time.Time
	confirmed           int // 1: confirmed, -1: not
	gone                bool
}

// The words on whether a subscription is confirmed.
const (
	isConfirmed  = 1
	notConfirmed = -1
)

// foldSubscriptions is the last word on each subscription, in the order of first mention.
func foldSubscriptions(history []eventstore.RecordedEvent) []*subscriptionRow {
	var subscriptions mentions[domain.SubscriptionID, subscriptionRow]
	row := func(project, queue string, id domain.SubscriptionID) *subscriptionRow {
		r := subscriptions.of(id)
		r.queue, r.id = domain.QueueID{Project: project, Name: queue}, id
		return r
	}
	for _, recorded := range history {
		at := recorded.RecordedAt
		switch e := recorded.Event.(type) {
		case domain.SubscriptionCreated:
			r := row(e.Project, e.Queue, e.ID)
			r.subscriber, r.options, r.ttl, r.created = e.Subscriber, e.Options, e.TTL, at
			r.ends = domain.SubscriptionEnd(at, e.TTL)
		case domain.SubscriptionUpdated:
			r := row(e.Project, e.Queue, e.ID)
			r.subscriber, r.options = e.Subscriber, e.Options
			if e.TTL > 0 {
				r.ttl, r.ends = e.TTL, domain.SubscriptionEnd(at, e.TTL)
			}
			if e.Owes == domain.ConfirmSubscription {
				r.confirmed = notConfirmed
			}
		case domain.SubscriptionConfirmed:
			row(e.Project, e.Queue, e.ID).confirmed = isConfirmed
		case domain.SubscriptionUnconfirmed:
			row(e.Project, e.Queue, e.ID).confirmed = notConfirmed
		case domain.SubscriptionDeleted:
			row(e.Project, e.Queue, e.ID).gone = true
		case domain.SubscriptionSwept:
			row(e.Project, e.Queue, e.ID).gone = true
		}
	}
	return subscriptions.rows
}

func applyToSubscriptions(ctx context.Context, tx eventstore.Tx, history []eventstore.RecordedEvent) error {
	rows := foldSubscriptions(history)
	if len(rows) == 0 {
		return nil
	}
	var gone, changed, made subscriptionColumns
	for _, r := range rows {
		switch isNew := !r.created.IsZero(); {
		case r.gone && !isNew:
			gone.add(r)
		case r.gone: // it came and went within the slice
		case isNew:
			made.add(r)
		default:
			changed.add(r)
		}
	}
	args := append(append(gone.names(), changed.names()...), changed.contents(false)...)
	args = append(append(args, made.names()...), made.contents(true)...)
	return call(ctx, tx, "write_subscriptions", args)
}

// subscriptionColumns are rows column by column.
type subscriptionColumns struct {
	projects, queues, subscribers, options []string
	ids, keys                              []uuid.UUID
	ttls                                   []int64
	created, ends                          []time.Time
	confirmed                              []int
}

func (c *subscriptionColumns) add(r *subscriptionRow) {
	c.projects, c.queues, c.ids = append(c.projects, r.queue.Project), append(c.queues, r.queue.Name), append(c.ids, r.id)
	c.subscribers, c.options = append(c.subscribers, r.subscriber), append(c.options, r.options)
	c.keys = append(c.keys, subscriberKey(r.subscriber))
	c.ttls, c.confirmed = append(c.ttls, int64(r.ttl)), append(c.confirmed, r.confirmed)
	c.created, c.ends = append(c.created, r.created), append(c.ends, r.ends)
}

func (c *subscriptionColumns) names() []any {
	return []any{pgarray.Texts(c.projects), pgarray.Texts(c.queues), pgarray.UUIDs(c.ids)}
}

func (c *subscriptionColumns) contents(withTimes bool) []any {
	args := []any{pgarray.TextsOrNull(c.subscribers), pgarray.UUIDsOrNull(c.keys), pgarray.BigInts(c.ttls)}
	if withTimes {
		args = append(args, pgarray.Times(c.created))
	}
	return append(args, pgarray.TimesOrNull(c.ends), pgarray.TextsOrNull(c.options), pgarray.Ints(c.confirmed))
}

// subscriberKey stands for a subscriber in the index; zero: for none.
func subscriberKey(subscriber string) uuid.UUID {
	if subscriber == "" {
		return uuid.Nil
	}
	return uuid.NewHash(sha256.New(), uuid.Nil, []byte(subscriber), 8)
}

// loadSubscriptions: $1 to $3 subscriptions by id, $4 to $6 by subscriber, and of the
// queues $7 and $8 the first $9 of those that are not beyond the id $10.
var loadSubscriptions = `
SELECT s.project, s.queue, s.id, s.subscriber, s.ttl, s.expires_at, s.options, s.confirmed,
    ` + eventstore.LastVersion("'subscription/' || s.project || '/' || s.id") + `
FROM (
    SELECT s.* FROM unnest($1::text[], $2::text[], $3::uuid[]) AS asked (project, queue, id)
    JOIN subscriptions s USING (project, queue, id)
    UNION
    SELECT s.* FROM unnest($4::text[], $5::text[], $6::uuid[]) AS asked (project, queue, subscriber_key)
    JOIN subscriptions s USING (project, queue, subscriber_key)
    UNION
    SELECT s.* FROM unnest($7::text[], $8::text[], $9::integer[], $10::uuid[]) AS asked (project, queue, first, upto)
    CROSS JOIN LATERAL (
        SELECT * FROM subscriptions s
        WHERE s.project = asked.project AND s.queue = asked.queue AND s.id <= asked.upto
        ORDER BY s.id LIMIT asked.first) AS s
) AS s`

// Subscriptions finds subscriptions, expired ones as well, and the versions of their
// streams.
func (States) Subscriptions(
	ctx context.Context, tx eventstore.Tx, needs []domain.SubscriptionNeed,
) ([]eventstore.Versioned[domain.Subscription], error) {
	rows, err := tx.QueryContext(ctx, loadSubscriptions, subscriptionNeedArgs(needs)...)
	return pgrows.Collect("load subscriptions", rows, err, func(its *eventstore.Versioned[domain.Subscription]) error {
		s := &its.State
		if err := rows.Scan(&s.Queue.Project, &s.Queue.Name, &s.ID, &s.Subscriber, &s.TTL, &s.Expires, &s.Options, &s.Confirmed, &its.Version); err != nil {
			return err
		}
		return nil
	})
}

func subscriptionNeedArgs(needs []domain.SubscriptionNeed) []any {
	var byID, bySubscriber, first subscriptionColumns
	var most []int
	for _, need := range needs {
		for _, id := range need.IDs {
			byID.add(&subscriptionRow{queue: need.Queue, id: id})
		}
		if need.Subscriber != "" {
			bySubscriber.add(&subscriptionRow{queue: need.Queue, id: subscriberKey(need.Subscriber)})
		}
		if need.First > 0 {
			first.add(&subscriptionRow{queue: need.Queue, id: domain.LastSubscriptionID(need.Upto)})
			most = append(most, need.First)
		}
	}
	args := append(byID.names(), bySubscriber.names()...)
	upto := first.names()
	return append(args, upto[0], upto[1], pgarray.Ints(most), upto[2])
}

// Subscription is a subscription as clients see it.
type Subscription struct {
	ID         domain.SubscriptionID
	Subscriber string
	TTL        int // seconds
	Age        int // seconds since it was made, never negative
	Options    string
	Confirmed  bool
}

const subscriptionColumnsRead = `s.id, s.subscriber, s.ttl,
    greatest(floor(extract(epoch FROM coalesce($1::timestamptz, statement_timestamp()) - s.created_at)), 0)::bigint,
    s.options, s.confirmed`

// SubscriptionList asks for a page of the subscriptions to a queue, in the order in which
// they were made.
type SubscriptionList struct {
	Queue domain.QueueID
	After domain.SubscriptionID // only those after this one, be it there or not; zero: all
	Limit int
}

// Subscriptions lists subscriptions that have not expired.
func (v *Views) Subscriptions(ctx context.Context, list SubscriptionList) ([]Subscription, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	rows, err := v.DB.QueryContext(ctx, `
SELECT `+subscriptionColumnsRead+`
FROM subscriptions s
WHERE s.project = $2 AND s.queue = $3 AND s.id > $4 AND s.expires_at > coalesce($1::timestamptz, statement_timestamp())
ORDER BY s.id LIMIT $5`, v.now(), list.Queue.Project, list.Queue.Name, list.After, list.Limit)
	return pgrows.Collect("list subscriptions", rows, err, func(s *Subscription) error {
		return rows.Scan(&s.ID, &s.Subscriber, &s.TTL, &s.Age, &s.Options, &s.Confirmed)
	})
}

// Subscription finds a subscription to a queue that has not expired.
func (v *Views) Subscription(ctx context.Context, queue domain.QueueID, id domain.SubscriptionID) (s Subscription, exists bool, err error) {
	ctx, cancel := within(ctx)
	defer cancel()
	err = v.DB.QueryRowContext(ctx, `
SELECT `+subscriptionColumnsRead+`
FROM subscriptions s
WHERE s.project = $2 AND s.queue = $3 AND s.id = $4 AND s.expires_at > coalesce($1::timestamptz, statement_timestamp())`,
		v.now(), queue.Project, queue.Name, id).Scan(&s.ID, &s.Subscriber, &s.TTL, &s.Age, &s.Options, &s.Confirmed)
	if errors.Is(err, sql.ErrNoRows) {
		return s, false, nil
	}
	if err != nil {
		return s, false, fmt.Errorf("read subscription: %w", err)
	}
	return s, true, nil
}

// ExpiredSubscriptions lists subscriptions that have expired, by their queues.
func (v *Views) ExpiredSubscriptions(ctx context.Context, l SweepLook[domain.QueueID]) (
	map[domain.QueueID][]domain.SubscriptionID, error,
) {
	ctx, cancel := within(ctx)
	defer cancel()
	projects, names := make([]string, len(l.Except)), make([]string, len(l.Except))
	for i, queue := range l.Except {
		projects[i], names[i] = queue.Project, queue.Name
	}
	rows, err := v.DB.QueryContext(ctx, `
SELECT s.project, s.queue, s.id
FROM subscriptions s
WHERE s.expires_at <= $1 AND NOT EXISTS (
    SELECT FROM unnest($3::text[], $4::text[]) AS e (project, queue) WHERE e.project = s.project AND e.queue = s.queue)
ORDER BY s.expires_at LIMIT $2`, l.By, l.Most, pgarray.Texts(projects), pgarray.Texts(names))
	expired := map[domain.QueueID][]domain.SubscriptionID{}
	err = pgrows.Each("list expired subscriptions", rows, err, func() error {
		var queue domain.QueueID
		var id domain.SubscriptionID
		if err := rows.Scan(&queue.Project, &queue.Name, &id); err != nil {
			return err
		}
		expired[queue] = append(expired[queue], id)
		return nil
	})
	return expired, err
}
