package projections

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/internal/pgarray"
	"nabu/internal/pgrows"
)

// TaskLook is how far a look for lost tasks has come: what had ended or happened by then was
// seen. The zero TaskLook has seen nothing.
type TaskLook struct {
	now  time.Time // of the look
	head time.Time // of the last event that it could see
}

// since is when that begins which the next look has not seen. Zero: everything, since claims
// may have been swept between the two.
func (l TaskLook) since(now time.Time) time.Time {
	switch {
	case l.now.IsZero() || now.Sub(l.now) >= claimRest*time.Second:
		return time.Time{}
	case l.head.Before(l.now):
		return l.head
	}
	return l.now
}

// LostTasks looks for tasks in processing whose worker's claim is over and whose message
// nobody has claimed since: their messages, by queue. It costs the claims that have ended and
// the tasks that have changed since the last look, however many tasks there are; the first
// look, and one that comes a minute later, walks over all tasks in processing. A task that was
// begun by somebody who never had a claim is not lost before a claim finds it.
func (v *Views) LostTasks(ctx context.Context, rules domain.TaskRules, last TaskLook) (
	lost map[domain.QueueID][]domain.MessageID, look TaskLook, err error,
) {
	l := lostTasks{views: v, rules: rules, found: map[domain.QueueID][]domain.MessageID{}}
	var head sql.NullTime
	err = v.DB.QueryRowContext(ctx, `
SELECT coalesce($1::timestamptz, statement_timestamp()),
    (SELECT e.recorded_at FROM ledger.events e ORDER BY e.position DESC LIMIT 1)`, v.now()).Scan(&look.now, &head)
	if err != nil {
		return nil, look, fmt.Errorf("look for lost tasks: %w", err)
	}
	look.head, l.now, l.since = head.Time, look.now, last.since(look.now)
	if err := l.ofClaims(ctx); err != nil {
		return nil, look, fmt.Errorf("look for lost tasks: %w", err)
	}
	if err := l.ofTasks(ctx); err != nil {
		return nil, look, fmt.Errorf("look for lost tasks: %w", err)
	}
	for queue, ids := range l.found { // some were found in both ways
		slices.SortFunc(ids, func(a, b domain.MessageID) int { return bytes.Compare(a[:], b[:]) })
		l.found[queue] = slices.Compact(ids)
	}
	return l.found, look, nil
}

// lostTasks is a look in the making.
type lostTasks struct {
	views      *Views
	rules      domain.TaskRules
	now, since time.Time // since: zero for everything
	found      map[domain.QueueID][]domain.MessageID
}

// isFree is an SQL condition: nobody holds the message m of the queue q at the time $1, which
// may be had.
const isFree = `m.place > q.purged AND m.expires_at > $1 AND m.visible_at <= $1 AND (m.claim_ends IS NULL OR m.claim_ends <= $1)`

// ofClaims finds those whose claim has ended, by its time or because it was given up.
func (l *lostTasks) ofClaims(ctx context.Context) error {
	return l.find(ctx, `
SELECT q.name, m.id
FROM queues q
JOIN claims c ON c.place >= 0 AND c.queue = q.number AND NOT c.emptied
    AND c.ends_at > coalesce($2, '-infinity'::timestamptz) AND c.ends_at <= $1
CROSS JOIN LATERAL unnest(c.places) AS p (place)
JOIN messages m ON m.queue = c.queue AND m.place = p.place
JOIN tasks t ON t.handed = m.id AND t.status = $4
WHERE q.project = $3 AND q.name LIKE 'tasks.%' AND NOT q.deleted AND `+isFree,
		l.now, sql.NullTime{Time: l.since, Valid: !l.since.IsZero()}, l.rules.ServiceProject, string(domain.TaskProcessing))
}

// find reads rows of a queue's name and a message.
func (l *lostTasks) find(ctx context.Context, statement string, args ...any) error {
	ctx, cancel := within(ctx)
	defer cancel()
	rows, err := l.views.DB.QueryContext(ctx, statement, args...)
	return pgrows.Each("read messages of tasks", rows, err, func() error {
		queue := domain.QueueID{Project: l.rules.ServiceProject}
		var id domain.MessageID
		if err := rows.Scan(&queue.Name, &id); err != nil {
			return err
		}
		if l.rules.HandsOut(queue) {
			l.found[queue] = append(l.found[queue], id)
		}
		return nil
	})
}

// looked is how many tasks are looked at in one step.
const looked = 1000

// ofTasks finds those that were begun, or told of, when their claim was over already.
func (l *lostTasks) ofTasks(ctx context.Context) error {
	column, after := "created_at", time.Time{}
	if !l.since.IsZero() {
		column, after = "updated_at", l.since
	}
	last := uuid.Max // at the very time of after nothing is new
	for {
		names, ids, n, err := l.processing(ctx, column, &after, &last)
		if err != nil {
			return err
		}
		if err := l.unheld(ctx, names, ids); err != nil {
			return err
		}
		if n < looked {
			return nil
		}
	}
}

// processing is a page of the tasks in processing, in the order of a time: their queues and
// messages. It moves the place on behind which the next page begins.
func (l *lostTasks) processing(ctx context.Context, column string, after *time.Time, last *uuid.UUID) (
	names []string, ids []domain.MessageID, n int, err error,
) {
	ctx, cancel := within(ctx)
	defer cancel()
	rows, err := l.views.DB.QueryContext(ctx, `
SELECT t.`+column+`, t.id, t.type, t.handed FROM tasks t
WHERE t.status = $1 AND t.`+column+` >= $2 AND (t.`+column+`, t.id) > ($2, $3) ORDER BY t.`+column+`, t.id LIMIT $4`,
		string(domain.TaskProcessing), *after, *last, looked)
	err = pgrows.Each("read tasks in processing", rows, err, func() error {
		n++
		var taskType string
		var handed uuid.NullUUID
		if err := rows.Scan(after, last, &taskType, &handed); err != nil {
			return err
		}
		if handed.Valid {
			names, ids = append(names, l.rules.HandOut(taskType).Name), append(ids, handed.UUID)
		}
		return nil
	})
	return names, ids, n, err
}

// unheld finds those of the messages that nobody holds any more.
func (l *lostTasks) unheld(ctx context.Context, names []string, ids []domain.MessageID) error {
	if len(ids) == 0 {
		return nil
	}
	places := make([]domain.Place, len(ids))
	for i, id := range ids {
		places[i] = domain.PostingPlace(id)
	}
	return l.find(ctx, `
SELECT q.name, m.id
FROM unnest($3::text[], $4::uuid[], $5::bigint[]) AS asked (name, id, place)
JOIN queues q ON q.project = $2 AND q.name = asked.name AND NOT q.deleted`+findMessages+`
JOIN tasks t ON t.handed = m.id AND t.status = $6
WHERE `+isFree+` AND (m.claim IS NOT NULL OR t.attempts > 1)`,
		l.now, l.rules.ServiceProject, pgarray.Texts(names), pgarray.UUIDs(ids), pgarray.BigInts(places),
		string(domain.TaskProcessing))
}
