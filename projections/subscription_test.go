package projections_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"nabu/commands"
	"nabu/domain"
	"nabu/projections"
)

func (w *walk) subscriber() string {
	return rapid.SampledFrom([]string{"http://a", "http://b", "http://c"}).Draw(w.T, "subscriber")
}

func (w *walk) rules() domain.SubscriptionRules {
	return domain.SubscriptionRules{Types: domain.SubscriberTypes, Confirm: rapid.Bool().Draw(w.T, "confirm")}
}

func (w *walk) subscribe(queue domain.QueueID) {
	id, err := commands.Run(w.request(), w.executor, commands.Subscribe{
		NewSubscription: domain.NewSubscription{
			Queue: queue, Subscriber: w.subscriber(), TTL: 60 * rapid.IntRange(1, 10).Draw(w.T, "ttl"), Salt: rand.Uint64(),
		},
		Rules: w.rules(),
	})
	if err == nil {
		w.subscribed = append(w.subscribed, id)
	}
}

// changeSubscription does something with a subscription, which may be one to the other
// queue, or gone.
func (w *walk) changeSubscription(queue domain.QueueID, id domain.SubscriptionID) {
	switch rapid.SampledFrom([]string{"change", "change", "confirm", "delete"}).Draw(w.T, "what") {
	case "change":
		change := domain.SubscriptionChange{Options: `{"a": 1}`}
		if rapid.Bool().Draw(w.T, "another") {
			change.Subscriber = w.subscriber()
		}
		if rapid.Bool().Draw(w.T, "longer") {
			change.TTL = 100
		}
		_, _ = commands.Run(w.request(), w.executor, commands.ChangeSubscription{Queue: queue, ID: id, Change: change, Rules: w.rules()})
	case "confirm":
		word := rapid.Bool().Draw(w.T, "word")
		_, _ = commands.Run(w.request(), w.executor, commands.ConfirmSubscription{Queue: queue, ID: id, Confirmed: word, Rules: w.rules()})
	case "delete":
		run(w.house, commands.DeleteSubscription{Queue: queue, ID: id})
	}
}

func (h *house) subscribe(queue, subscriber string, ttl int) domain.SubscriptionID {
	h.Helper()
	return run(h, commands.Subscribe{
		NewSubscription: domain.NewSubscription{Queue: h.id(queue), Subscriber: subscriber, TTL: ttl, Salt: rand.Uint64()},
		Rules:           domain.SubscriptionRules{Types: domain.SubscriberTypes},
	})
}

func TestSubscriptionsAreListedAsTheyWereMade(t *testing.T) {
	h := newHouse(t)
	made := map[string]domain.SubscriptionID{}
	for i, subscriber := range []string{"http://c", "http://a", "http://b"} {
		made[subscriber] = h.subscribe("q", subscriber, 60*(3-i))
	}
	h.subscribe("r", "http://a", 60)
	list := func(list projections.SubscriptionList) []string {
		t.Helper()
		page, err := h.views.Subscriptions(t.Context(), list)
		if err != nil {
			t.Fatal(err)
		}
		subscribers := []string{}
		for _, s := range page {
			subscribers = append(subscribers, s.Subscriber)
		}
		return subscribers
	}
	all := projections.SubscriptionList{Queue: h.id("q"), Limit: 10}
	for name, test := range map[string]struct {
		list projections.SubscriptionList
		want []string
	}{
		"all":                     {all, []string{"http://c", "http://a", "http://b"}},
		"a page":                  {projections.SubscriptionList{Queue: h.id("q"), Limit: 2}, []string{"http://c", "http://a"}},
		"the next":                {projections.SubscriptionList{Queue: h.id("q"), Limit: 2, After: made["http://a"]}, []string{"http://b"}},
		"behind the last":         {projections.SubscriptionList{Queue: h.id("q"), Limit: 2, After: made["http://b"]}, []string{}},
		"another project's queue": {projections.SubscriptionList{Queue: domain.QueueID{Project: "other", Name: "q"}, Limit: 2}, []string{}},
	} {
		if diff := cmp.Diff(test.want, list(test.list)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	h.now = h.now.Add(119 * time.Second)
	if diff := cmp.Diff([]string{"http://c", "http://a"}, list(all)); diff != "" {
		t.Errorf("when one has expired (-want +got):\n%s", diff)
	}
	its, exists, err := h.views.Subscription(t.Context(), h.id("q"), made["http://a"])
	if err != nil || !exists || its.Age != 118 && its.Age != 119 || its.TTL != 120 {
		t.Errorf("one: %+v, %v, %v", its, exists, err)
	}
	if _, exists, err := h.views.Subscription(t.Context(), h.id("q"), made["http://b"]); err != nil || exists {
		t.Errorf("one that has expired: %v, %v", exists, err)
	}
}

// Within a slice of history subscriptions may trade their subscribers, although no two
// ever have the same.
func TestSubscribersAreTradedWithinASlice(t *testing.T) {
	h := newHouse(t)
	one, other := h.subscribe("q", "http://a", 60), h.subscribe("q", "http://b", 60)
	for _, step := range []struct {
		id         domain.SubscriptionID
		subscriber string
	}{{one, "http://c"}, {other, "http://a"}, {one, "http://b"}} {
		run(h, commands.ChangeSubscription{
			Queue: h.id("q"), ID: step.id, Change: domain.SubscriptionChange{Subscriber: step.subscriber},
		})
	}
	const made = 3 // events: the queue and both subscriptions
	if diff := cmp.Diff(h.rows(h.db), h.fold(made)); diff != "" {
		t.Errorf("(-live +folded):\n%s", diff)
	}
}
