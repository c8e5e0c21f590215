package commands

import (
	"context"

	"nabu/domain"
)

// RevokeShare asks for one signed URL of a queue to be worth nothing any more. The answer
// tells whether it was worth something.
type RevokeShare struct {
	domain.Share
}

// Needs: the queue, and whether the URL was taken back before.
func (c RevokeShare) Needs() Needs { return Needs{Queue: c.Queue, Share: c.Digest, Rank: Adds} }

// Decide takes the URL back unless that is done.
func (c RevokeShare) Decide(s *State, at domain.Moment) (revoked bool, events []domain.Event, err error) {
	events = c.Revoke(s.revoked[c.Key()], at.Time)
	if len(events) > 0 {
		s.revoked[c.Key()] = true // once in a batch
	}
	return len(events) > 0, events, nil
}

// RevokeShares asks for all signed URLs of a queue that there are to be worth nothing any
// more. Those that are made later are.
type RevokeShares struct {
	Queue domain.QueueID
}

// Needs: the queue.
func (c RevokeShares) Needs() Needs { return Needs{Queue: c.Queue, Rank: Adds} }

// Decide takes them all back.
func (c RevokeShares) Decide(*State, domain.Moment) (done struct{}, events []domain.Event, err error) {
	return done, domain.RevokeShares(c.Queue), nil
}

func (e *Executor) loadShares(ctx context.Context, w *work) (err error) {
	var keys []domain.ShareKey
	for _, p := range w.commands {
		if p.needs.Share != "" {
			keys = append(keys, domain.ShareKey{Queue: p.needs.Queue, Digest: p.needs.Share})
		}
	}
	if len(keys) > 0 {
		w.state.revoked, err = e.Loader.RevokedShares(ctx, e.conn, keys)
	}
	return err
}
