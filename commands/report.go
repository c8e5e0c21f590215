package commands

import (
	"context"
	"errors"
	"time"

	"nabu/eventstore"
)

// reserveReported makes sure that what commands report of the feed has not been settled by
// anybody else, and lets nobody settle it until the transaction ends. A command that
// comes too late is refused with eventstore.ErrMoved and not decided.
func (e *Executor) reserveReported(ctx context.Context, w *work) error {
	reserved := map[string]bool{}
	for _, p := range w.commands {
		if p.request.Handled == nil || p.answered {
			continue
		}
		slice := *p.request.Handled
		err := error(eventstore.ErrMoved) // of one consumer one slice is outstanding
		if !reserved[slice.Consumer] {
			err = slice.Reserve(ctx, e.conn)
		}
		if errors.Is(err, eventstore.ErrMoved) {
			p.answered, p.err = true, err
			continue
		}
		if err != nil {
			return err
		}
		reserved[slice.Consumer] = true
	}
	return nil
}

// keep writes what a batch leaves behind besides its events, and tells whether there is
// something.
func (e *Executor) keep(ctx context.Context, w *work, now time.Time) (bool, error) {
	if err := e.keepKeys(ctx, w.state); err != nil {
		return false, err
	}
	kept, err := e.keepAnswers(ctx, w, now)
	if err != nil {
		return false, err
	}
	settled, err := e.settleReported(ctx, w)
	return kept || settled, err
}

// settleReported settles what the commands report that were not refused.
func (e *Executor) settleReported(ctx context.Context, w *work) (settled bool, err error) {
	for _, p := range w.commands {
		if p.request.Handled == nil || p.answered || p.err != nil {
			continue
		}
		if err := p.request.Handled.Settle(ctx, e.conn); err != nil {
			return false, err
		}
		settled = true
	}
	return settled, nil
}
