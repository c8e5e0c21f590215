package reactors_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"nabu/commands"
	"nabu/domain"
)

// TestACursorInTheMiddleOfAPost: of a post that was delivered in part the rest is.
func TestACursorInTheMiddleOfAPost(t *testing.T) {
	h, r := newHouse(t), newReceiver(t)
	id := h.subscriber("q", r.URL+"/a", "")
	ids := h.postBodies("q", `1`, `2`, `3`)
	versions := run(h, commands.ReportDeliveries{Queue: queue("q"), Reports: []commands.DeliveryReport{
		{Subscription: id, Version: 1, Cursor: domain.PostingPlace(ids[0])},
	}})
	if versions[0] != 2 {
		t.Fatalf("the version is %d", versions[0])
	}
	h.notifier(nil)
	h.eventually("the rest comes", func() bool { return len(r.got("/a")) >= 2 })
	if got := r.bodies("/a"); !slices.Equal(got, []string{`2`, `3`}) {
		t.Errorf("%v", got)
	}
}

// TestWhoWantsNothingIsLeftAlone: what waits for a subscriber is given up when it wants
// nothing any more.
func TestWhoWantsNothingIsLeftAlone(t *testing.T) {
	h, r := newHouse(t), newReceiver(t)
	r.answer = func(c call, w http.ResponseWriter, _ *http.Request) {
		if strings.Contains(c.body, `"Notification"`) {
			w.WriteHeader(500)
		}
	}
	id := h.subscriber("q", r.URL+"/a", "")
	n, _ := h.notifier(nil)
	h.postBodies("q", `1`)
	h.eventually("it waits", func() bool { return h.waiting() == 1 && len(h.attempts(id)) == 4 })
	run(h, commands.ConfirmSubscription{Queue: queue("q"), ID: id, Rules: domain.SubscriptionRules{Types: domain.SubscriberTypes, Confirm: true}})
	if n := h.waiting(); n != 1 { // what it is owed itself
		t.Errorf("%d wait", n)
	}
	h.advance(time.Second) // events are a bit later than the clock that stands still
	n.Wake()
	h.eventually("it is told", func() bool { return len(r.got("/a")) == 5 })
	h.sound()
}
