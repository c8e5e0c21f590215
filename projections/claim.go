package projections

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/internal/pgrows"
)

// Claim is a claim as a client sees it. Times are whole seconds.
type Claim struct {
	TTL      int
	Age      int // since it began, or began anew
	Messages []Message
}

// Claim finds a live claim of a queue and the messages that it still holds.
func (v *Views) Claim(ctx context.Context, ref domain.ClaimRef) (claim Claim, exists bool, err error) {
	ctx, cancel := within(ctx)
	defer cancel()
	rows, err := v.DB.QueryContext(ctx, `
SELECT c.ttl, greatest(floor(extract(epoch FROM t.now - c.renewed_at)), 0)::bigint, m.id, m.ttl, m.key, m.body, m.place, m.age
FROM queues q
CROSS JOIN (SELECT coalesce($4::timestamptz, statement_timestamp()) AS now) AS t
CROSS JOIN LATERAL (SELECT * FROM claims f WHERE f.queue = q.number AND f.id = $3 OFFSET 0) AS c
LEFT JOIN LATERAL (
    SELECT `+messageColumns+`
    FROM unnest(c.places) AS p (place)
    CROSS JOIN LATERAL (SELECT * FROM messages f WHERE f.queue = c.queue AND f.place = p.place OFFSET 0) AS m
    WHERE m.claim = c.id AND m.expires_at > t.now AND m.place > q.purged AND `+isReadable+`
) AS m ON true
WHERE q.project = $1 AND q.name = $2 AND NOT q.deleted AND c.ends_at > t.now AND NOT c.released
ORDER BY m.place`, ref.Queue.Project, ref.Queue.Name, ref.ID, v.now())
	err = pgrows.Each("read claim", rows, err, func() error {
		var id, key uuid.NullUUID
		var ttl, place, age sql.NullInt64
		var body []byte
		if err := rows.Scan(&claim.TTL, &claim.Age, &id, &ttl, &key, &body, &place, &age); err != nil {
			return err
		}
		exists = true
		if id.Valid { // otherwise the one row of a claim that holds nothing any more
			claim.Messages = append(claim.Messages, Message{
				ID: id.UUID, TTL: int(ttl.Int64), Age: int(age.Int64), Claim: ref.ID, Place: domain.Place(place.Int64),
				Key: key.UUID, Body: body,
			})
		}
		return nil
	})
	if err != nil {
		return claim, false, err
	}
	claim.Messages, err = v.Open(ctx, ref.Queue.Project, claim.Messages)
	return claim, exists, err
}

// Stats is how many messages a queue has, and which stand at its ends.
type Stats struct {
	Claimed, Total int
	Oldest, Newest *MessageAge // nil in an empty queue
}

// MessageAge is a message and when it was posted.
type MessageAge struct {
	ID      domain.MessageID
	Age     int // whole seconds, never negative
	Created time.Time
}

// Stats counts a queue's messages, exactly. A queue that is not there is an empty one.
func (v *Views) Stats(ctx context.Context, id domain.QueueID) (Stats, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	var s Stats
	var oldest, newest uuid.NullUUID
	var oldestAt, newestAt sql.NullTime
	var now time.Time
	// As in loadMessages, the tables are named before the function is called.
	err := v.DB.QueryRowContext(ctx, `
WITH locked AS (SELECT FROM queues, messages)
SELECT t.now, s.total, s.claimed, s.oldest, s.oldest_at, s.newest, s.newest_at
FROM (SELECT coalesce($3::timestamptz, statement_timestamp()) AS now) AS t
CROSS JOIN LATERAL queue_stats($1, $2, t.now) AS s`, id.Project, id.Name, v.now()).Scan(
		&now, &s.Total, &s.Claimed, &oldest, &oldestAt, &newest, &newestAt)
	if errors.Is(err, sql.ErrNoRows) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read stats: %w", err)
	}
	s.Oldest, s.Newest = messageAge(oldest, oldestAt, now), messageAge(newest, newestAt, now)
	return s, nil
}

func messageAge(id uuid.NullUUID, at sql.NullTime, now time.Time) *MessageAge {
	if !id.Valid {
		return nil
	}
	return &MessageAge{ID: id.UUID, Age: max(int(now.Sub(at.Time)/time.Second), 0), Created: at.Time}
}
