package commands

import (
	"errors"
	"testing"
	"time"

	"nabu/domain"
)

// TestWhoStoodInLineForTooLongIsRefused, and is not in the batch.
func TestWhoStoodInLineForTooLongIsRefused(t *testing.T) {
	e := &Executor{}
	stood := func(since time.Duration) *pending {
		return &pending{
			ctx: t.Context(), since: time.Now().Add(-since), done: make(chan struct{}),
			needs: Needs{Queue: domain.QueueID{Project: "p1", Name: "orders"}, Size: 10},
		}
	}
	late, timely := stood(longestLine+time.Second), stood(longestLine-10*time.Second)
	w := &work{}
	e.take(w, late)
	e.take(w, timely)
	if len(w.commands) != 1 || w.commands[0] != timely || w.bytes != 10 {
		t.Errorf("%d commands of %d bytes are taken", len(w.commands), w.bytes)
	}
	select {
	case <-late.done:
		if !errors.Is(late.err, ErrUnreachable) {
			t.Errorf("the other is refused with %v", late.err)
		}
	default:
		t.Error("the other has no answer")
	}
}
