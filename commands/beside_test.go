package commands_test

import (
	"testing"
	"time"

	"nabu/commands"
	"nabu/domain"
	"nabu/projections"
)

// beside makes a claim and another request one batch, and returns what the claim got.
func (h *house) beside(e *commands.Executor, its commands.ClaimMessages, other func() error) (got []commands.Taken) {
	h.Helper()
	// What gathers them goes the short way then, and leaves what is remembered alone.
	run(h, e, post(domain.QueueID{Project: "p1", Name: "first"}, `0`))
	for _, err := range h.gathered(e,
		func() (err error) { got, err = commands.Run(as(h.Context(), ""), e, its); return err },
		other,
	) {
		if err != nil {
			h.Fatal(err)
		}
	}
	return got
}

// deleting deletes messages, whoever holds them.
func deleting(h *house, e *commands.Executor, ids []domain.MessageID) func() error {
	return func() error {
		_, err := commands.Run(as(h.Context(), ""), e, commands.DeleteMessages{Queue: orders, IDs: ids})
		return err
	}
}

// buries has a queue's messages moved that were claimed so often.
func buries(t *testing.T, e *commands.Executor, often string) {
	t.Helper()
	run(t, e, commands.CreateQueue{Queue: orders})
	run(t, e, commands.ChangeQueue{Queue: orders, Patch: domain.MetadataPatch{
		{Op: "add", Key: "_max_claim_count", Value: []byte(often)}, {Op: "add", Key: "_dead_letter_queue", Value: []byte(`"dead"`)},
	}})
}

// TestAClaimBesideADeletionGetsNothingExpired: a slow worker deletes a message that is free again,
// and the claim beside that has to look further than it would alone.
func TestAClaimBesideADeletionGetsNothingExpired(t *testing.T) {
	for name, swept := range map[string]bool{"before a sweep": false, "after a sweep": true} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			c := &clock{time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
			e := h.executor(nil, c.config)
			three := post(orders, `"held"`, `"lapsed"`, `"expired"`)
			three.Messages[2].TTL = 90
			ids := run(t, e, three)
			run(t, e, claim(orders, 2))
			c.now = c.now.Add(61 * time.Second)
			if got := bodies(run(t, e, claim(orders, 1))); got != `"held"` {
				t.Fatalf("claimed %s", got)
			}
			c.now = c.now.Add(34 * time.Second)
			if swept && !run(t, e, commands.SweepQueue{Queue: orders, Number: h.history()[0].Position}) {
				t.Fatal("nothing was swept")
			}
			if got := h.beside(e, claim(orders, 1), deleting(h, e, ids[1:2])); len(got) > 0 {
				t.Errorf("the claim got %s", bodies(got))
			}
			views := projections.Views{DB: h.db, Now: func() time.Time { return c.now }}
			if stats, err := views.Stats(t.Context(), orders); err != nil || stats.Total != 1 || stats.Claimed != 1 {
				t.Errorf("%d messages, %d claimed, %v", stats.Total, stats.Claimed, err)
			}
		})
	}
}

// TestAClaimBesideADeletionGetsAsMany: what is deleted is made up for.
func TestAClaimBesideADeletionGetsAsMany(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	buries(t, e, `3`)
	ids := run(t, e, post(orders, numbered(100)...))
	for i := range 3 {
		if got := h.beside(e, claim(orders, 10), deleting(h, e, ids[20*i:20*i+10])); len(got) != 10 {
			t.Errorf("the claim got %d", len(got))
		}
	}
}

// TestAClaimBesideAReleaseGetsAsMany: a worker gives up a message for the last time.
func TestAClaimBesideAReleaseGetsAsMany(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	buries(t, e, `1`)
	run(t, e, post(orders, numbered(100)...))
	held := claim(orders, 1)
	run(t, e, held)
	got := h.beside(e, claim(orders, 10), func() error {
		_, err := commands.Run(as(t.Context(), ""), e, commands.ReleaseClaim{Queue: orders, Claim: held.Claim})
		return err
	})
	if len(got) != 10 {
		t.Errorf("the claim got %d", len(got))
	}
	run(t, e, claim(orders, 1))
	for _, recorded := range h.history() {
		if moved, ok := recorded.Event.(domain.MessagesMovedIn); ok && (len(moved.Messages) != 1 || moved.Messages[0].Body != `0`) {
			t.Errorf("moved %+v", moved.Messages)
		} else if ok {
			return
		}
	}
	t.Error("what was given up was never moved")
}

// TestAsManyDeadLettersAsAClaimMovesHideNothing.
func TestAsManyDeadLettersAsAClaimMovesHideNothing(t *testing.T) {
	h := newHouse(t)
	c := &clock{time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	e := h.executor(nil, c.config)
	buries(t, e, `1`)
	run(t, e, post(orders, numbered(domain.MaxDeadLetters)...))
	run(t, e, claim(orders, domain.MaxDeadLetters))
	c.now = c.now.Add(61 * time.Second)
	run(t, e, post(orders, numbered(10)...))
	if got := run(t, e, claim(orders, 5)); len(got) != 5 {
		t.Errorf("the claim got %d", len(got))
	}
}

// TestAClaimEndsWithItsQueue: not even in the batch in which another gets the queue's name.
func TestAClaimEndsWithItsQueue(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	ctx := as(t.Context(), "")
	buries(t, e, `3`)
	run(t, e, post(orders, `1`))
	held := claim(orders, 1)
	run(t, e, held)
	errs := h.gathered(e,
		func() error {
			_, err := commands.Run(ctx, e, commands.RenewClaim{Queue: orders, Claim: held.Claim, Life: held.Life})
			return err
		},
		func() error { _, err := commands.Run(ctx, e, commands.DeleteQueue{Queue: orders}); return err },
		poster(ctx, e, post(orders, `2`)),
	)
	if refusal(errs[0]) != domain.NotFound || errs[1] != nil || errs[2] != nil {
		t.Errorf("answers: %v", errs)
	}
}

// TestASweepIsBounded: however many messages there are between those that have expired, and
// however many have.
func TestASweepIsBounded(t *testing.T) {
	h := newHouse(t)
	c := &clock{time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	e := h.executor(nil, c.config)
	for range 4 {
		many := post(orders, numbered(300)...)
		for i := range many.Messages {
			many.Messages[i].TTL = 100
		}
		many.Messages[0].TTL, many.Messages[1].TTL, many.Messages[299].TTL = 60, 60, 60
		run(t, e, many)
	}
	number := h.history()[0].Position
	sweep := func() (taken, ranges int) {
		before := len(h.messages())
		if !run(t, e, commands.SweepQueue{Queue: orders, Number: number}) {
			return 0, 0
		}
		history := h.history()
		swept := history[len(history)-1].Event.(domain.MessagesSwept)
		return before - len(h.messages()), len(swept.Expired)
	}
	c.now = c.now.Add(61 * time.Second)
	if taken, ranges := sweep(); taken != 12 || ranges != 5 { // the end of one post and the beginning of the next are neighbours
		t.Errorf("swept %d in %d ranges", taken, ranges)
	}
	c.now = c.now.Add(40 * time.Second)
	left := len(h.messages())
	for left > 0 {
		taken, _ := sweep()
		if taken == 0 || taken > 250 {
			t.Fatalf("swept %d of %d", taken, left)
		}
		left -= taken
	}
}
