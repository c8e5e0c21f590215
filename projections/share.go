package projections

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgarray"
	"nabu/internal/pgrows"
)

// Shares are the signed URLs that were taken back.
var Shares = Projection{Name: "shares", DDL: mustDDL("shares"), Apply: applyToShares}

// revokedShare is the last word of a slice of history on a signed URL, or on all of a
// queue.
type revokedShare struct {
	position int64
	expires  time.Time // zero: all
}

// applyToShares notes what was taken back, and forgets what has ended by itself by the
// time of the slice's last such event. No event takes back what is over, so its own row
// stays however the history is sliced.
func applyToShares(ctx context.Context, tx eventstore.Tx, history []eventstore.RecordedEvent) error {
	revoked, last := foldShares(history)
	if len(revoked) == 0 {
		return nil
	}
	var projects, queues, digests []string
	var positions []int64
	var ends []time.Time
	for key, r := range revoked {
		projects, queues, digests = append(projects, key.Queue.Project), append(queues, key.Queue.Name), append(digests, key.Digest)
		positions, ends = append(positions, r.position), append(ends, r.expires)
	}
	if _, err := tx.ExecContext(ctx, `
INSERT INTO revoked_shares (project, queue, digest, position, expires)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::timestamptz[])
ON CONFLICT (project, queue, digest) DO UPDATE SET position = excluded.position, expires = excluded.expires`,
		pgarray.Texts(projects), pgarray.Texts(queues), pgarray.Texts(digests), pgarray.BigInts(positions),
		pgarray.TimesOrNull(ends)); err != nil {
		return fmt.Errorf("write revoked shares: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM revoked_shares WHERE expires <= $1`, last); err != nil {
		return fmt.Errorf("forget revoked shares: %w", err)
	}
	return nil
}

func foldShares(history []eventstore.RecordedEvent) (revoked map[domain.ShareKey]revokedShare, last time.Time) {
	for _, recorded := range history {
		var key domain.ShareKey
		its := revokedShare{position: recorded.Position}
		switch e := recorded.Event.(type) {
		case domain.ShareRevoked:
			key, its.expires = domain.ShareKey{Queue: domain.QueueID{Project: e.Project, Name: e.Queue}, Digest: e.Digest}, e.Expires
		case domain.SharesRevoked:
			key = domain.ShareKey{Queue: domain.QueueID{Project: e.Project, Name: e.Queue}}
		default:
			continue
		}
		if revoked == nil {
			revoked = map[domain.ShareKey]revokedShare{}
		}
		revoked[key], last = its, recorded.RecordedAt
	}
	return revoked, last
}

// RevokedShares finds which signed URLs were taken back.
func (States) RevokedShares(ctx context.Context, tx eventstore.Tx, keys []domain.ShareKey) (map[domain.ShareKey]bool, error) {
	projects, queues, digests := make([]string, len(keys)), make([]string, len(keys)), make([]string, len(keys))
	for i, key := range keys {
		projects[i], queues[i], digests[i] = key.Queue.Project, key.Queue.Name, key.Digest
	}
	rows, err := tx.QueryContext(ctx, `
SELECT r.project, r.queue, r.digest
FROM unnest($1::text[], $2::text[], $3::text[]) AS asked (project, queue, digest)
JOIN revoked_shares r ON r.project = asked.project AND r.queue = asked.queue AND r.digest = asked.digest`,
		pgarray.Texts(projects), pgarray.Texts(queues), pgarray.Texts(digests))
	revoked := make(map[domain.ShareKey]bool, len(keys))
	err = pgrows.Each("load revoked shares", rows, err, func() error {
		var key domain.ShareKey
		if err := rows.Scan(&key.Queue.Project, &key.Queue.Name, &key.Digest); err != nil {
			return err
		}
		revoked[key] = true
		return nil
	})
	return revoked, err
}

// Sharing is what a signed URL of a queue depends on besides its signature.
type Sharing struct {
	Now time.Time
	// AllRevoked is the position of the event that took all of the queue's signed URLs
	// back, the last one if there are several. 0: there is none.
	AllRevoked int64
	// Revoked: the one that was asked about was taken back by itself.
	Revoked bool
}

// Sharing tells what a queue's signed URLs depend on, and whether the one with this
// digest was taken back.
func (v *Views) Sharing(ctx context.Context, id domain.QueueID, digest string) (s Sharing, err error) {
	ctx, cancel := within(ctx)
	defer cancel()
	var all sql.NullInt64
	err = v.DB.QueryRowContext(ctx, `
SELECT coalesce($4::timestamptz, statement_timestamp()),
    (SELECT position FROM revoked_shares WHERE project = $1 AND queue = $2 AND digest = ''),
    EXISTS (SELECT FROM revoked_shares WHERE project = $1 AND queue = $2 AND digest = $3 AND $3 <> '')`,
		id.Project, id.Name, digest, v.now()).Scan(&s.Now, &all, &s.Revoked)
	if err != nil {
		return Sharing{}, fmt.Errorf("read sharing: %w", err)
	}
	s.AllRevoked = all.Int64
	return s, nil
}
