package commands_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/projections"
)

// clock stands still until it is moved.
type clock struct{ now time.Time }

func (c *clock) config(cfg *commands.Config) { cfg.Now = func() time.Time { return c.now } }

func claim(queue domain.QueueID, limit int) commands.ClaimMessages {
	return commands.ClaimMessages{Queue: queue, Claiming: domain.Claiming{
		Claim: uuid.New(), Life: domain.ClaimLife{TTL: 60, Grace: 60}, Limit: limit,
	}}
}

func bodies(taken []commands.Taken) string {
	var all []string
	for _, t := range taken {
		all = append(all, t.Body)
	}
	return strings.Join(all, " ")
}

// TestABatchIsOneAfterTheOther: a claim gets what was released and posted in the same
// batch, in the queue's order, and no more than there is.
func TestABatchIsOneAfterTheOther(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	ctx := as(t.Context(), "")
	ids := run(t, e, post(orders, `1`, `2`, `3`))
	held := claim(orders, 2)
	run(t, e, held)

	var first, second, popped []commands.Taken
	for i, err := range h.gathered(e,
		func() (err error) { first, err = commands.Run(ctx, e, claim(orders, 2)); return err },
		func() (err error) { second, err = commands.Run(ctx, e, claim(orders, 2)); return err },
		func() (err error) {
			popped, err = commands.Run(ctx, e, commands.PopMessages{Queue: orders, Limit: 5})
			return err
		},
		poster(ctx, e, post(orders, `4`, `5`)),
		func() error {
			_, err := commands.Run(ctx, e, commands.ReleaseClaim{Queue: orders, Claim: held.Claim})
			return err
		},
		func() error {
			_, err := commands.Run(ctx, e, commands.DeleteMessages{Queue: orders, IDs: ids[2:]})
			return err
		},
	) {
		if err != nil {
			t.Fatalf("command %d: %v", i, err)
		}
	}
	// What a claim released is read again, so its body is not at hand.
	got := []int{len(first), len(second), len(popped)}
	if diff := cmp.Diff([]int{2, 2, 0}, got); diff != "" {
		t.Fatal(diff)
	}
	for i, m := range first {
		if m.ID != ids[i] {
			t.Errorf("the first claim got %s, want %s", m.ID, ids[i])
		}
	}
	if all := bodies(second); all != `4 5` {
		t.Errorf("the second claim got %s", all)
	}
	h.sound()
}

// TestWhatBecomesFreeBelowTheMarkIsFound: a queue whose messages are all taken is not
// walked over again, and yet whatever becomes free there is found: by the end of a
// claim or of a delay, by a release on another replica, and after a sweep has taken
// the ended claims away, on this replica or another.
func TestWhatBecomesFreeBelowTheMarkIsFound(t *testing.T) {
	h := newHouse(t)
	c := &clock{time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	e, other := h.executor(nil, c.config), h.executor(nil, c.config)
	run(t, e, post(orders, `1`, `2`, `3`))
	slow := post(orders, `4`)
	slow.Messages[0].Delay = []byte(`100`)
	run(t, e, commands.ChangeQueue{Queue: orders, Patch: domain.MetadataPatch{{Op: "add", Key: "_default_message_delay", Value: []byte(`1`)}}})
	run(t, e, slow)
	expect := func(what string, e *commands.Executor, want string) domain.ClaimID {
		t.Helper()
		cmd := claim(orders, 20)
		if got := bodies(run(t, e, cmd)); got != want {
			t.Fatalf("%s: got %q, want %q", what, got, want)
		}
		return cmd.Claim
	}
	all := expect("at first", e, `1 2 3`)
	expect("all is taken", e, ``)
	run(t, other, commands.ReleaseClaim{Queue: orders, Claim: all})
	expect("released by another replica", e, `1 2 3`)
	expect("all is taken again", e, ``)
	expect("also for the other", other, ``)
	c.now = c.now.Add(61 * time.Second)
	expect("the claim is over", e, `1 2 3`)
	c.now = c.now.Add(45 * time.Second)
	expect("the delay is over", e, `4`)
	expect("all is taken once more", e, ``)

	number := h.history()[0].Position
	for name, sweeper := range map[string]*commands.Executor{"here": e, "elsewhere": other} {
		c.now = c.now.Add(61 * time.Second) // all claims are over
		expect("before a sweep "+name, other, `1 2 3 4`)
		expect("the mark is at the end", e, ``)
		c.now = c.now.Add(121 * time.Second)
		if swept := run(t, sweeper, commands.SweepQueue{Queue: orders, Number: number}); !swept {
			t.Fatalf("%s there was nothing to sweep", name)
		}
		expect("after a sweep "+name, e, `1 2 3 4`)
	}
	h.sound()
}

// TestLongBodiesAreLeftOut: a batch carries no more bodies than it is allowed to; the
// history has them all.
func TestLongBodiesAreLeftOut(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	for range 40 {
		run(t, e, post(orders, `"`+strings.Repeat("x", 250_000)+`"`))
	}
	taken := run(t, e, claim(orders, 40))
	if len(taken) != 40 {
		t.Fatalf("%d messages", len(taken))
	}
	var places []domain.Place
	for _, m := range taken {
		if m.Body == "" {
			places = append(places, m.Place)
		}
	}
	if len(places) < 5 || len(places) > 35 {
		t.Fatalf("%d of 40 bodies were left out", len(places))
	}
	views := projections.Views{DB: h.db}
	found, err := views.Bodies(t.Context(), places)
	if err != nil {
		t.Fatal(err)
	}
	for _, place := range places {
		if len(found[place]) != 250_002 {
			t.Fatalf("a body of %d bytes", len(found[place]))
		}
	}
}

// markedLoads tells from which place on free messages of each load were looked for.
type markedLoads struct {
	projections.States
	places *[]domain.Place
}

func (l markedLoads) Messages(ctx context.Context, tx eventstore.Tx, needs domain.MessageNeeds, at time.Time) (domain.LoadedMessages, error) {
	for _, free := range needs.Free {
		*l.places = append(*l.places, free.Mark.Place)
	}
	return l.States.Messages(ctx, tx, needs, at)
}

// TestAnotherReplicasSweepLowersTheMark to what its claims held, and no further: nobody has to
// walk over the rest again.
func TestAnotherReplicasSweepLowersTheMark(t *testing.T) {
	h := newHouse(t)
	c := &clock{time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	var places []domain.Place
	e := h.executor(nil, c.config, func(cfg *commands.Config) { cfg.Loader = markedLoads{places: &places} })
	other := h.executor(nil, c.config)
	ids := run(t, e, post(orders, `1`, `2`, `3`, `4`))
	number := h.history()[0].Position
	long := claim(orders, 1)
	long.Life = domain.ClaimLife{TTL: 40_000, Grace: 60}
	deleted, held := claim(orders, 1), claim(orders, 1)
	run(t, e, deleted)
	run(t, e, commands.DeleteMessage{Queue: orders, ID: ids[0], WithClaim: true, Claim: deleted.Claim})
	run(t, e, long)
	sweep := func() {
		t.Helper()
		c.now = c.now.Add(200 * time.Second)
		if !run(t, other, commands.SweepQueue{Queue: orders, Number: number}) {
			t.Fatal("there was nothing to sweep")
		}
	}
	sweep()
	run(t, e, held)
	if place := places[len(places)-1]; place != domain.PostingPlace(ids[2]) {
		t.Errorf("behind the sweep of a claim that holds nothing any more: from place %d on, not %d", place, domain.PostingPlace(ids[2]))
	}
	run(t, e, claim(orders, 1))
	sweep()
	if got := bodies(run(t, e, claim(orders, 5))); got != `3 4` {
		t.Errorf("behind the sweep of two claims that are over: %q", got)
	}
	if place := places[len(places)-1]; place != domain.PostingPlace(ids[2]) {
		t.Errorf("behind that sweep: from place %d on, not %d", place, domain.PostingPlace(ids[2]))
	}
	h.sound()
}
