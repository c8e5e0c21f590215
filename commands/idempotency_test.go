package commands_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"nabu/commands"
	"nabu/domain"
)

func TestIdempotencyKeys(t *testing.T) {
	h := newHouse(t)
	var now time.Time
	clock := func(cfg *commands.Config) { cfg.Now = func() time.Time { return now } }
	now = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	e, other := h.executor(nil, clock), h.executor(nil, clock)
	replays := 0
	hashed := func(project, key string, hash byte) context.Context {
		return commands.WithRequest(t.Context(), commands.Request{
			Origin: domain.Origin{Project: project}, IdempotencyKey: key, RequestHash: [32]byte{hash}, Replayed: func() { replays++ },
		})
	}
	ask := func(e *commands.Executor, ctx context.Context) ([]domain.MessageID, error) {
		return commands.Run(ctx, e, post(orders, `1`))
	}
	first, err := ask(e, hashed("p1", "k", 1))
	if err != nil {
		t.Fatal(err)
	}
	for _, replica := range []*commands.Executor{e, other} {
		again, err := ask(replica, hashed("p1", "k", 1))
		if err != nil || !slices.Equal(again, first) {
			t.Fatalf("asked again: %v, %v; the first answer was %v", again, err, first)
		}
		if _, err := ask(replica, hashed("p1", "k", 2)); refusal(err) != domain.KeyReused {
			t.Fatalf("another request with the key: %v", err)
		}
	}
	if n := len(h.messages()); n != 1 || replays != 2 {
		t.Fatalf("%d messages, %d replays", n, replays)
	}
	for _, ctx := range []context.Context{hashed("p2", "k", 1), hashed("p1", "other", 1)} {
		if ids, err := ask(e, ctx); err != nil || slices.Equal(ids, first) {
			t.Fatalf("another project or key: %v, %v", ids, err)
		}
	}
	// A refusal is no answer to keep.
	if _, err := commands.Run(hashed("p1", "refused", 1), e, post(orders)); refusal(err) != domain.Invalid {
		t.Fatal(err)
	}
	if _, err := ask(e, hashed("p1", "refused", 2)); err != nil {
		t.Fatalf("after a refusal: %v", err)
	}
	now = now.Add(25 * time.Hour)
	if ids, err := ask(e, hashed("p1", "k", 3)); err != nil || slices.Equal(ids, first) {
		t.Fatalf("a day later: %v, %v", ids, err)
	}
	h.sound()
}

func TestAKeyWhoseFirstRequestStillRunsIsRefused(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	errs := h.gathered(e,
		poster(as(t.Context(), "k"), e, post(orders, `1`)),
		func() error {
			_, err := commands.Run(as(t.Context(), "k"), e, post(orders, `1`))
			if refusal(err) != domain.KeyInUse {
				return fmt.Errorf("the second answer is %w", err)
			}
			return poster(as(t.Context(), ""), e, post(orders, `2`))()
		})
	if errs[0] != nil || errs[1] != nil {
		t.Fatal(errs)
	}
}
