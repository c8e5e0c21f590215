package reactors_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/projections"
)

// busyViews has a message expire with each look at queues, up to so many.
type busyViews struct {
	*projections.Views
	h     *house
	looks int
	seen  func() // at each look
}

const manyLooks = 30

func (v *busyViews) Sweepable(ctx context.Context, look projections.SweepLook[int64]) ([]projections.SweepableQueue, error) {
	if v.looks++; v.looks < manyLooks {
		v.h.post(fmt.Sprint("busy", v.looks%2), 1, 60)
		v.h.advance(61 * time.Second)
	}
	if v.seen != nil {
		v.seen()
	}
	return v.Views.Sweepable(ctx, look)
}

// TestASweepEnds although something ends by time all the while it sweeps.
func TestASweepEnds(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.post("busy0", 1, 60)
	h.subscribe("s", "http://s", 60)
	h.advance(61 * time.Second)
	views := &busyViews{Views: h.views, h: h}
	h.sweeper.Views = views
	h.sweep()
	if views.looks >= manyLooks {
		t.Errorf("it looked %d times at queues", views.looks)
	}
	if n := h.subscriptions(); n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
	if _, messages, _, _ := h.rows(); messages > views.looks {
		t.Errorf("%d messages are left", messages)
	}
}

// TestWhatEndsMeanwhileIsForTheNextPass, which comes soon however much there is of something else.
func TestWhatEndsMeanwhileIsForTheNextPass(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.sweeper.Pass = 0 // one round
	h.post("a", 2000, 60)
	h.subscribe("s", "http://s", 120)
	run(h, commands.DeleteQueue{Queue: queue("a")})
	views := &busyViews{Views: h.views, h: h, looks: manyLooks}
	views.seen = func() {
		if views.looks == manyLooks+2 {
			h.advance(121 * time.Second)
		}
		if views.looks == manyLooks+4 && h.subscriptions() != 0 {
			t.Error("a subscription that expired two looks before is not swept")
		}
	}
	h.sweeper.Views = views
	h.sweep()
	if _, messages, _, _ := h.rows(); messages != 0 || h.subscriptions() != 0 || views.looks < manyLooks+6 {
		t.Errorf("%d messages and %d subscriptions are left after %d looks", messages, h.subscriptions(), views.looks-manyLooks)
	}
}

// TestKindsAreSweptInTurn: much of one does not have others wait until it is done, nor a count.
func TestKindsAreSweptInTurn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.post("a", 1500, 60)
	h.post("b", 1000, 3600)
	h.subscribe("s", "http://s", 60)
	run(h, commands.DeleteQueue{Queue: queue("a")})
	h.advance(61 * time.Second)
	h.sweep()
	var order []string
	for e, err := range eventstore.ReadAll(t.Context(), h.db, 0, 1<<62) {
		if err != nil {
			t.Fatal(err)
		}
		switch e := e.Event.(type) {
		case domain.MessagesSwept:
			if e.Counted > 0 {
				order = append(order, "count")
			} else {
				order = append(order, "queue")
			}
		case domain.SubscriptionSwept:
			order = append(order, "subscription")
		}
	}
	last := len(order) - 1
	if n := slices.Index(order, "subscription"); n < 0 || n > 1 {
		t.Errorf("a subscription is not swept behind the first look at queues: %v", order)
	}
	if n := slices.Index(order, "count"); n < 0 || n > 2 || last < 6 {
		t.Errorf("a count is not moved on behind the first looks: %v", order)
	}
}
