package commands

import (
	"errors"
	"testing"
	"time"

	"nabu/domain"
)

// stood is a command that has been in line for a while.
func stood(t *testing.T, since time.Duration) *pending {
	return &pending{
		ctx: t.Context(), since: time.Now().Add(-since), done: make(chan struct{}),
		needs: Needs{Queue: domain.QueueID{Project: "p1", Name: "orders"}, Size: 10},
	}
}

func (p *pending) refused(t *testing.T) {
	t.Helper()
	select {
	case <-p.done:
		if !errors.Is(p.err, ErrUnreachable) {
			t.Errorf("it is refused with %v", p.err)
		}
	default:
		t.Error("it has no answer")
	}
}

// TestWhoStoodInLineForTooLongIsRefused, and is not in the batch.
func TestWhoStoodInLineForTooLongIsRefused(t *testing.T) {
	e := &Executor{}
	late, timely := stood(t, longestLine+time.Second), stood(t, longestLine-10*time.Second)
	w := &work{}
	e.take(w, late)
	e.take(w, timely)
	if len(w.commands) != 1 || w.commands[0] != timely || w.bytes != 10 {
		t.Errorf("%d commands of %d bytes are taken", len(w.commands), w.bytes)
	}
	late.refused(t)
}

// TestWhatWasPostponedFailsWithItsBatch: it would have to wait for as long once more. So would what
// has waited for too long already.
func TestWhatWasPostponedFailsWithItsBatch(t *testing.T) {
	e := &Executor{}
	beside, late := stood(t, 0), stood(t, longestLine+time.Second)
	e.postponed = []*pending{beside}
	e.carryOutPostponed(errors.New("no answer"))
	e.postponed = []*pending{late}
	e.carryOutPostponed(nil)
	beside.refused(t)
	late.refused(t)
	if e.postponed != nil {
		t.Errorf("%d are still postponed", len(e.postponed))
	}
}
