package commands

import (
	"context"
	"crypto/subtle"
	"fmt"
	"time"

	"nabu/domain"
	"nabu/eventstore"
)

// findAnswers answers commands whose idempotency key has been answered before.
func (e *Executor) findAnswers(ctx context.Context, w *work) error {
	var keys []eventstore.IdempotencyKey
	for _, p := range w.commands {
		p.answered = false
		if key, hasKey := p.key(); hasKey {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	found, err := eventstore.FindAnswers(ctx, e.conn, keys, w.state.now)
	if err != nil {
		return err
	}
	for _, p := range w.commands {
		key, hasKey := p.key()
		kept, known := found[key]
		if !hasKey || !known {
			continue
		}
		p.answered = true
		if subtle.ConstantTimeCompare(kept.RequestHash, p.request.RequestHash[:]) == 1 {
			p.err = p.restore(kept.Result)
		} else {
			p.err = domain.Errorf(domain.KeyReused, "this Idempotency-Key was used with another request")
		}
	}
	return nil
}

// keepAnswers stores the answers of carried-out commands that came with a key.
func (e *Executor) keepAnswers(ctx context.Context, w *work, now time.Time) (kept bool, err error) {
	var answers []eventstore.KeptAnswer
	for _, p := range w.commands {
		key, hasKey := p.key()
		if !hasKey || p.answered || p.err != nil {
			continue
		}
		result, err := p.answer()
		if err != nil {
			return false, fmt.Errorf("keep an answer: %w", err)
		}
		if p.request.passing && string(result) == "[]" {
			continue
		}
		answers = append(answers, eventstore.KeptAnswer{
			IdempotencyKey: key, RequestHash: p.request.RequestHash[:], Result: result,
		})
	}
	if len(answers) == 0 {
		return false, nil
	}
	return true, eventstore.KeepAnswers(ctx, e.conn, answers, now)
}
