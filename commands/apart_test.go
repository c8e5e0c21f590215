package commands_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/projections"
)

// changing changes one value of the metadata of orders.
func changing(h *house, e *commands.Executor, key, value string) func() error {
	return func() error {
		_, err := commands.Run(as(h.Context(), ""), e, commands.ChangeQueue{Queue: orders, Patch: domain.MetadataPatch{
			{Op: "add", Key: key, Value: []byte(value)},
		}})
		return err
	}
}

// TestAClaimBesideAChangeOfItsQueue goes by the rules as they are then: it is decided behind the
// change, and gets what there is.
func TestAClaimBesideAChangeOfItsQueue(t *testing.T) {
	for name, exists := range map[string]bool{"dead letters to a queue that was deleted": false, "dead letters to a queue that is there": true} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			c := &clock{time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
			e := h.executor(nil, c.config)
			other := domain.QueueID{Project: "p1", Name: "other"}
			run(t, e, post(other, `1`, `2`))
			run(t, e, commands.DeleteMessages{Queue: other, IDs: run(t, e, post(other, `3`))})
			if !exists {
				run(t, e, commands.DeleteQueue{Queue: other})
			}
			buries(t, e, `1`)
			run(t, e, post(orders, `"worn"`, `"fresh"`))
			run(t, e, claim(orders, 1))
			c.now = c.now.Add(61 * time.Second)
			replica := h.executor(nil, c.config) // that has not heard of the other queue
			if got := bodies(h.beside(replica, claim(orders, 1), changing(h, replica, "_dead_letter_queue", `"other"`))); got != `"fresh"` {
				t.Errorf("the claim got %s", got)
			}
			h.sound()
		})
	}
	t.Run("a lower count", func(t *testing.T) {
		h := newHouse(t)
		c := &clock{time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
		e := h.executor(nil, c.config)
		buries(t, e, `5`)
		run(t, e, post(orders, numbered(100)...))
		run(t, e, claim(orders, 20))
		c.now = c.now.Add(61 * time.Second)
		if got := h.beside(e, claim(orders, 10), changing(h, e, "_max_claim_count", `1`)); len(got) != 10 {
			t.Errorf("the claim got %d of 80 messages that were never claimed", len(got))
		}
		h.sound()
	})
	t.Run("keys that are destroyed", func(t *testing.T) {
		h := newHouse(t)
		e := h.executor(nil)
		run(t, e, commands.CreateQueue{Queue: orders})
		if err := changing(h, e, "_enable_encrypt_messages", `true`)(); err != nil {
			t.Fatal(err)
		}
		run(t, e, post(orders, numbered(300)...))
		if err := changing(h, e, "_enable_encrypt_messages", `false`)(); err != nil {
			t.Fatal(err)
		}
		run(t, e, post(orders, numbered(10)...))
		got := h.beside(e, claim(orders, 10), func() error {
			_, err := commands.Run(as(h.Context(), ""), e, commands.DestroyKeys{Queue: orders})
			return err
		})
		if len(got) != 10 {
			t.Errorf("the claim got %d of 10 messages whose key was not destroyed", len(got))
		}
		h.sound()
	})
}

// sweepless cannot find what there is to sweep.
type sweepless struct{ projections.States }

var errSweepless = errors.New("the rows of the queue are damaged")

func (sweepless) Sweeps(context.Context, eventstore.Tx, []int64, time.Time) (map[int64]domain.Sweepable, error) {
	return nil, errSweepless
}

// TestHouseworkThatFailsTakesNobodyWithIt who shares its batch.
func TestHouseworkThatFailsTakesNobodyWithIt(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil, func(cfg *commands.Config) { cfg.Loader = sweepless{} })
	run(t, e, post(orders, `1`))
	number := h.history()[0].Position
	errs := h.gathered(e,
		func() error {
			_, err := commands.Run(as(h.Context(), ""), e, commands.SweepQueue{Queue: orders, Number: number})
			return err
		},
		poster(as(h.Context(), ""), e, post(orders, `2`)),
	)
	if !errors.Is(errs[0], commands.ErrUnreachable) {
		t.Errorf("the sweep that fails: %v", errs[0])
	}
	if errs[1] != nil {
		t.Errorf("the post beside it: %v", errs[1])
	}
	if got := bodies(run(t, e, claim(orders, 5))); got != `1 2` {
		t.Errorf("the queue holds %s", got)
	}
	h.sound()
}
