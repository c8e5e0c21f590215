package projections

import (
	"context"
	"database/sql"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgarray"
	"nabu/internal/pgrows"
)

// Bounds of what is loaded for the decisions that come next, of each queue: messages, and bytes of
// bodies, which the last one may exceed.
const (
	freeAhead   = 200
	aheadBodies = 256 << 10
)

// loadAhead names the table for the reason that loadMessages does.
var loadAhead = `
WITH locked AS (SELECT FROM messages)
SELECT queue, place, id, client, ttl, created_at, expires_at, claim_count, key, body
FROM free_ahead(` + placeholders(1, 7) + `)`

// FreeAhead finds the next free messages of queues as they are at a time, from a place of each on
// that stands behind what was purged: 200 of each at most, and while their bodies come to no more
// than 256 KiB, but one in any case. Until is not told. It takes no lock, and fails when the event
// at the given head is not in the ledger that it reads: another one, or a replica that lags behind.
func (States) FreeAhead(
	ctx context.Context, tx eventstore.Tx, head eventstore.Head, needs []domain.AheadNeed, at time.Time,
) (map[domain.QueueID]domain.FreeMessages, error) {
	queues, places := make([]int64, len(needs)), make([]domain.Place, len(needs))
	found := make(map[int64]*domain.FreeMessages, len(needs))
	for i, need := range needs {
		queues[i], places[i] = need.Number, need.From
		found[need.Number] = &domain.FreeMessages{}
	}
	rows, err := tx.QueryContext(ctx, loadAhead, head.Position, head.ID.String(),
		pgarray.BigInts(queues), pgarray.BigInts(places), at, freeAhead, aheadBodies)
	err = pgrows.Each("load messages ahead", rows, err, func() error {
		var m domain.Message
		var key uuid.NullUUID
		var body sql.NullString
		if err := rows.Scan(&m.QueueNumber, &m.Place, &m.ID, &m.Client, &m.TTL, &m.Created, &m.Expires, &m.ClaimCount,
			&key, &body); err != nil {
			return err
		}
		m.Key, m.Body = key.UUID, body.String
		switch free := found[m.QueueNumber]; {
		case free.Beyond > 0: // it stands behind the end
		case !body.Valid || len(free.Messages) == freeAhead:
			free.Beyond = m.Place
		default:
			free.Messages = append(free.Messages, m)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	all := make(map[domain.QueueID]domain.FreeMessages, len(needs))
	for _, need := range needs {
		all[need.Queue] = *found[need.Number]
	}
	return all, nil
}
