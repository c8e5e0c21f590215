package commands_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/lib/pq"

	"nabu/commands"
	"nabu/domain"
)

func subscribe(queue domain.QueueID, subscriber string) commands.Subscribe {
	return commands.Subscribe{
		NewSubscription: domain.NewSubscription{Queue: queue, Subscriber: subscriber, Salt: rand.Uint64()},
		Rules:           domain.SubscriptionRules{Types: domain.SubscriberTypes},
	}
}

// subscribers are those in the table, sorted.
func (h *house) subscribers() (all []string) {
	h.Helper()
	if err := h.db.QueryRow(`SELECT array_agg(subscriber ORDER BY subscriber) FROM subscriptions`).Scan((*pq.StringArray)(&all)); err != nil {
		h.Fatal(err)
	}
	return all
}

func giver[R any](ctx context.Context, e *commands.Executor, cmd commands.Command[R], result *R) func() error {
	return func() (err error) {
		*result, err = commands.Run(ctx, e, cmd)
		return err
	}
}

// Commands of one batch see what the ones before them have done to subscriptions.
func TestSubscriptionsWithinABatch(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	q := domain.QueueID{Project: "p1", Name: "q"}
	ctx := as(t.Context(), "")
	old := run(t, e, subscribe(q, "http://a"))
	kept := run(t, e, subscribe(q, "http://k"))

	ids := make([]domain.SubscriptionID, 4)
	var changed, confirmed, deleted bool
	errs := h.gathered(e,
		giver(ctx, e, commands.ChangeSubscription{Queue: q, ID: kept, Change: domain.SubscriptionChange{Subscriber: "http://b"}}, &changed),
		giver(ctx, e, subscribe(q, "http://k"), &ids[0]), // nobody's any more
		giver(ctx, e, subscribe(q, "http://a"), &ids[1]), // deleted before, as deletes go first
		giver(ctx, e, subscribe(q, "http://a"), &ids[2]), // the same
		giver(ctx, e, subscribe(q, "http://b"), &ids[3]), // kept's
		giver(ctx, e, commands.ConfirmSubscription{Queue: q, ID: kept, Confirmed: true}, &confirmed),
		giver(ctx, e, subscribe(q, "http://b"), new(domain.SubscriptionID)),
		giver(ctx, e, commands.DeleteSubscription{Queue: q, ID: old}, &deleted),
	)
	want := []domain.Code{"", "", "", "", "", "", domain.Conflict, ""}
	for i, err := range errs {
		if refusal(err) != want[i] || err != nil && want[i] == "" {
			t.Errorf("command %d: %v, want %q", i+1, err, want[i])
		}
	}
	if !changed || !confirmed || !deleted {
		t.Errorf("changed %v, confirmed %v, deleted %v", changed, confirmed, deleted)
	}
	if ids[1] == old || ids[1] != ids[2] || ids[3] != kept || ids[0] == kept || ids[0] == ids[1] {
		t.Errorf("the ids are %v, after %v and %v", ids, old, kept)
	}
	h.ordered()
	if diff := cmp.Diff([]string{"http://a", "http://b", "http://k"}, h.subscribers()); diff != "" {
		t.Errorf("subscribers (-want +got):\n%s", diff)
	}
}

// Two purges at once are both done only when nothing is left.
func TestPurgesOfManySubscriptions(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	q := domain.QueueID{Project: "p1", Name: "q"}
	const many = 150 // more than one purge takes
	cmds := make([]func() error, many)
	for i := range cmds {
		cmds[i] = giver(as(t.Context(), ""), e, subscribe(q, fmt.Sprint("http://h/", i)), new(domain.SubscriptionID))
	}
	for _, err := range h.gathered(e, cmds...) {
		if err != nil {
			t.Fatal(err)
		}
	}
	purge := commands.PurgeQueue{Queue: q, Subscriptions: true}
	var purged [2]commands.Purged
	for _, err := range h.gathered(e, giver(as(t.Context(), ""), e, purge, &purged[0]), giver(as(t.Context(), ""), e, purge, &purged[1])) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if !purged[0].More || !purged[1].More {
		t.Fatalf("done already: %+v", purged)
	}
	run(t, e, subscribe(q, "http://later"))
	purge.Upto = purged[0].Upto
	if last := run(t, e, purge); last.More {
		t.Fatal("there is still more")
	}
	if diff := cmp.Diff([]string{"http://later"}, h.subscribers()); diff != "" {
		t.Fatalf("left over (-want +got):\n%s", diff)
	}
	h.ordered()
}

// What has expired stays in the table until it is swept, and no longer.
func TestSweepSubscriptions(t *testing.T) {
	h := newHouse(t)
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	e := h.executor(nil, func(cfg *commands.Config) { cfg.Now = func() time.Time { return now } })
	q := domain.QueueID{Project: "p1", Name: "q"}
	short, long := subscribe(q, "http://short"), subscribe(q, "http://long")
	short.TTL, long.TTL = 60, 90
	ids := []domain.SubscriptionID{run(t, e, short), run(t, e, long)}
	sweep := commands.SweepSubscriptions{Queue: q, IDs: ids}
	if run(t, e, sweep) {
		t.Error("swept what is alive")
	}
	now = now.Add(61 * time.Second)
	if !run(t, e, sweep) || run(t, e, sweep) {
		t.Error("what has expired was not swept once")
	}
	if diff := cmp.Diff([]string{"http://long"}, h.subscribers()); diff != "" {
		t.Errorf("left over (-want +got):\n%s", diff)
	}
}
