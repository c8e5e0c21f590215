package commands_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"nabu/commands"
	"nabu/domain"
	"nabu/internal/pgtest"
	"nabu/internal/sealing"
	"nabu/projections"
)

// encrypting is the metadata of queues whose messages are encrypted.
var encrypting = domain.Metadata{{Key: domain.EncryptMessagesKey, Value: []byte(`true`)}}

func encryptingLimits() domain.Limits {
	limits := domain.DefaultLimits()
	limits.Encryption = true
	return limits
}

func (h *house) masters() *sealing.Masters {
	h.Helper()
	m, err := sealing.ParseMasters("test MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
	if err != nil {
		h.Fatal(err)
	}
	return m
}

// keysKept states that each key that the history names is kept, as is no other, and
// destroyed if the history says so.
func (h *house) keysKept() {
	h.Helper()
	named := map[domain.KeyID]bool{} // whether it was destroyed
	for _, e := range h.history() {
		switch event := e.Event.(type) {
		case domain.MessagesPosted:
			if named[event.Key] {
				h.Errorf("event %d is sealed with a key that was destroyed before", e.Position)
			}
			if event.Key != uuid.Nil {
				named[event.Key] = false
			}
		case domain.QueueKeysDestroyed:
			for _, key := range event.Keys {
				named[key] = true
			}
		}
	}
	stored, err := sealing.List(context.Background(), h.db, "", "")
	if err != nil {
		h.Fatal(err)
	}
	if len(stored) != len(named) {
		h.Errorf("%d keys are stored, and the history names %d", len(stored), len(named))
	}
	for _, k := range stored {
		if destroyed, known := named[k.ID]; !known || destroyed == k.DestroyedAt.IsZero() {
			h.Errorf("key %s is destroyed at %v; in the history %v, named %v", k.ID, k.DestroyedAt, destroyed, known)
		}
	}
}

// opened are the bodies of taken messages, in plain text.
func (h *house) opened(e *commands.Executor, queue domain.QueueID, taken []commands.Taken) string {
	h.Helper()
	var texts []string
	for _, m := range taken {
		b := []sealing.Body{{Message: m.ID, Key: m.Key, Text: m.Body}}
		if err := projections.OpenBodies(h.Context(), e.Keys, queue.Project, b); err != nil {
			h.Fatal(err)
		}
		texts = append(texts, b[0].Text)
	}
	return strings.Join(texts, " ")
}

// TestEncryptedMessagesTakeTheShortWay: once the queue's key is known, sealing costs no
// round trip, and neither do claims and deletes of what is sealed. Nor does the feature
// cost one where it is not used.
func TestEncryptedMessagesTakeTheShortWay(t *testing.T) {
	h, proxy, db := newProxiedHouse(t)
	e := h.executor(db)
	run(t, e, commands.CreateQueue{Queue: orders, Metadata: encrypting})
	run(t, e, post(orders, `0`)) // makes the key
	run(t, e, post(orders, `1`)) // gets to know it
	run(t, e, claim(orders, 1))  // looks at the queue
	trips := func(what string, work func()) {
		t.Helper()
		before := proxy.Trips()
		work()
		if cost := proxy.Trips() - before; cost != 1 {
			t.Errorf("%s: %d round trips", what, cost)
		}
	}
	for i := 2; i < 20; i++ {
		trips("a post", func() { run(t, e, post(orders, strconv.Itoa(i))) })
	}
	var got []commands.Taken
	taken := claim(orders, 3)
	trips("a claim", func() { got = run(t, e, taken) })
	if text := h.opened(e, orders, got); text != "1 2 3" {
		t.Errorf("the claim has %s", text)
	}
	for _, m := range got {
		trips("a delete", func() {
			run(t, e, commands.DeleteMessage{Queue: orders, ID: m.ID, WithClaim: true, Claim: taken.Claim})
		})
	}
	h.sound()
	h.keysKept()
}

// TestAKeyThatWasForgottenIsLoadedAgain, on both ways.
func TestAKeyThatWasForgottenIsLoadedAgain(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	run(t, e, commands.CreateQueue{Queue: orders, Metadata: encrypting})
	for i := range 4 {
		run(t, e, post(orders, strconv.Itoa(i)))
		e.Keys.Forget()
	}
	var got []commands.Taken
	for range 4 {
		got = append(got, run(t, e, claim(orders, 1))...)
		e.Keys.Forget()
	}
	if text := h.opened(e, orders, got); text != "0 1 2 3" {
		t.Errorf("got %s", text)
	}
	h.sound()
	h.keysKept()
}

// TestWhatIsReleasedOpensInItsOwnBatch, on a replica that knows no key yet: another command of
// the batch gets it.
func TestWhatIsReleasedOpensInItsOwnBatch(t *testing.T) {
	h := newHouse(t)
	ctx := as(t.Context(), "")
	for name, take := range map[string]func(*commands.Executor) ([]commands.Taken, error){
		"claimed": func(e *commands.Executor) ([]commands.Taken, error) { return commands.Run(ctx, e, claim(orders, 1)) },
		"popped": func(e *commands.Executor) ([]commands.Taken, error) {
			return commands.Run(ctx, e, commands.PopMessages{Queue: orders, Limit: 1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := h.executor(nil)
			run(t, e, commands.CreateQueue{Queue: orders, Metadata: encrypting})
			ids := run(t, e, post(orders, `1`))
			its := claim(orders, 1)
			run(t, e, its)
			fresh := h.executor(nil)
			var taken []commands.Taken
			err := errors.Join(h.gathered(fresh,
				func() (err error) { taken, err = take(fresh); return err },
				func() error {
					_, err := commands.Run(ctx, fresh, commands.ReleaseClaim{Queue: orders, Claim: its.Claim})
					return err
				},
			)...)
			if err != nil || len(taken) != 1 || taken[0].ID != ids[0] {
				t.Errorf("got %v, %v", taken, err)
			}
			run(t, e, commands.DeleteQueue{Queue: orders})
		})
	}
	h.keysKept()
}

// TestAQueueMadeAgainKeepsItsKey: the key that is remembered of the queue that had the name
// before is of no use to it, and the one it gets is stored.
func TestAQueueMadeAgainKeepsItsKey(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	var got []commands.Taken
	for range 3 {
		run(t, e, commands.CreateQueue{Queue: orders, Metadata: encrypting})
		run(t, e, post(orders, `0`)) // makes the key
		run(t, e, post(orders, `1`)) // gets to know it
		e.Keys.Forget()
		run(t, e, post(orders, `2`)) // gets to know it again
		got = run(t, e, claim(orders, 3))
		if text := h.opened(e, orders, got); text != "0 1 2" {
			t.Fatalf("got %s", text)
		}
		run(t, e, commands.DeleteQueue{Queue: orders})
	}
	h.sound()
	h.keysKept()
}

// TestOneBatchMakesOneKey: whatever is posted to a queue in the batch that makes it, or
// that makes it encrypt.
func TestOneBatchMakesOneKey(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	ctx := as(t.Context(), "")
	for _, err := range h.gathered(e,
		func() error {
			_, err := commands.Run(ctx, e, commands.CreateQueue{Queue: orders, Metadata: encrypting})
			return err
		},
		poster(ctx, e, post(orders, `1`)), poster(ctx, e, post(orders, `2`)),
	) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range h.gathered(e,
		func() error { _, err := commands.Run(ctx, e, commands.DeleteQueue{Queue: orders}); return err },
		func() error {
			_, err := commands.Run(ctx, e, commands.CreateQueue{Queue: orders, Metadata: encrypting})
			return err
		},
		poster(ctx, e, post(orders, `3`)), poster(ctx, e, post(orders, `4`)),
	) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if text := h.opened(e, orders, run(t, e, claim(orders, 10))); text != "3 4" {
		t.Errorf("got %s", text)
	}
	stored, err := sealing.List(t.Context(), h.db, orders.Project, orders.Name)
	if err != nil || len(stored) != 2 || stored[0].Queue.Number == stored[1].Queue.Number {
		t.Errorf("the two queues of the name have the keys %v, %v", stored, err)
	}
	h.keysKept()
}

// TestADestroyedKeyIsOfNoUseInItsOwnBatch: what follows in the batch that destroys it is
// sealed with another, and what it has sealed is handed out no more, be it free or
// released there.
func TestADestroyedKeyIsOfNoUseInItsOwnBatch(t *testing.T) {
	for name, held := range map[string]int{"free": 0, "released": 2} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			e := h.executor(nil)
			ctx := as(t.Context(), "")
			run(t, e, commands.CreateQueue{Queue: orders, Metadata: encrypting})
			for _, body := range []string{`1`, `2`, `3`} {
				run(t, e, post(orders, body))
			}
			destroy := func() error { _, err := commands.Run(ctx, e, commands.DestroyKeys{Queue: orders}); return err }
			batch := []func() error{destroy}
			if held > 0 {
				its := claim(orders, held)
				run(t, e, its)
				batch = append(batch, func() error {
					_, err := commands.Run(ctx, e, commands.ReleaseClaim{Queue: orders, Claim: its.Claim})
					return err
				})
			}
			var taken []commands.Taken
			batch = append(batch, poster(ctx, e, post(orders, `4`)),
				func() (err error) { taken, err = commands.Run(ctx, e, claim(orders, 10)); return err })
			if err := errors.Join(h.gathered(e, batch...)...); err != nil {
				t.Fatal(err)
			}
			if text := h.opened(e, orders, taken); text != "4" {
				t.Errorf("got %q", text)
			}
			h.sound()
			h.keysKept()
		})
	}
}

// TestADestructionWhoseAnswerIsLostForgetsTheKey, whichever call's answer that is.
func TestADestructionWhoseAnswerIsLostForgetsTheKey(t *testing.T) {
	server := pgtest.Open(t)
	driver, db := openFaulty(t, server.URL())
	h := &house{TB: t, db: server.DB()}
	e := h.executor(db)
	run(t, e, commands.CreateQueue{Queue: orders, Metadata: encrypting})
	for k, reached := 1, true; reached; k++ {
		run(t, e, post(orders, `1`)) // makes the key
		run(t, e, post(orders, `2`)) // gets to know it
		reached = false
		driver.onCall(func(call int) blow {
			if call != k {
				return passes
			}
			reached = true
			return unanswered
		})
		keys := run(t, e, commands.DestroyKeys{Queue: orders})
		driver.onCall(nil)
		if len(keys) != 1 || e.Keys.Known(keys[0]) != nil {
			t.Fatalf("call %d: of %d keys that were destroyed one is known", k, len(keys))
		}
	}
	h.keysKept()
}

// TestReplicasShareAKeyAndItsEnd: two of them post at once and neither makes a key that
// the other has made, nor seals with one that the other has destroyed.
func TestReplicasShareAKeyAndItsEnd(t *testing.T) {
	h := newHouse(t)
	replicas := []*commands.Executor{h.executor(nil), h.executor(nil)}
	run(t, replicas[0], commands.CreateQueue{Queue: orders, Metadata: encrypting})
	for round := range 3 {
		for i := range 4 {
			run(t, replicas[i%2], post(orders, strconv.Itoa(i)))
		}
		for range 3 { // alone, so that it takes the short way
			run(t, replicas[1], post(orders, `5`))
		}
		if text := h.opened(replicas[1], orders, run(t, replicas[1], claim(orders, 2))); text != "0 1" {
			t.Fatalf("round %d: a claim has %s", round, text)
		}
		if keys := run(t, replicas[round%2], commands.DestroyKeys{Queue: orders}); len(keys) != 1 {
			t.Fatalf("round %d: %d keys were destroyed", round, len(keys))
		}
		run(t, replicas[round%2], post(orders, `6`)) // with another key
		if keys := run(t, replicas[round%2], commands.DestroyKeys{Queue: orders}); len(keys) != 1 {
			t.Fatalf("round %d: %d keys were destroyed then", round, len(keys))
		}
		for _, e := range replicas {
			if got := run(t, e, claim(orders, 20)); len(got) != 0 {
				t.Fatalf("round %d: %d messages are handed out that nobody can read", round, len(got))
			}
		}
	}
	h.sound()
	h.keysKept()
}

// TestDeadLettersAreForgottenWithTheirKey: a replica that remembers free messages of the
// dead letter queue hands none out whose key another has destroyed.
func TestDeadLettersAreForgottenWithTheirKey(t *testing.T) {
	h := newHouse(t)
	c := &clock{time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	destroyer, e := h.executor(nil, c.config), h.executor(nil, c.config)
	dead, other := domain.QueueID{Project: "p1", Name: "dead"}, domain.QueueID{Project: "p1", Name: "other"}
	run(t, e, commands.CreateQueue{Queue: orders, Metadata: append(slices.Clone(encrypting),
		domain.Member{Key: domain.MaxClaimCountKey, Value: []byte(`1`)}, domain.Member{Key: domain.DeadLetterQueueKey, Value: []byte(`"dead"`)})})
	run(t, e, post(orders, `1`, `2`, `3`))
	brief := claim(orders, 10)
	brief.Life.TTL = 60
	run(t, e, brief)
	c.now = c.now.Add(61 * time.Second)
	run(t, e, claim(orders, 10)) // they move
	for _, want := range []string{"1", "2"} {
		if text := h.opened(e, dead, run(t, e, claim(dead, 1))); text != want {
			t.Fatalf("a claim of the dead letters has %s, want %s", text, want)
		}
	}
	run(t, destroyer, commands.DestroyKeys{Queue: orders})
	run(t, e, post(other, `1`))
	run(t, e, post(other, `2`)) // alone again
	if got := run(t, e, claim(dead, 10)); len(got) != 0 {
		t.Errorf("%d messages are handed out that nobody can read", len(got))
	}
	h.sound()
	h.keysKept()
}
