package reactors

import (
	"strconv"
	"testing"

	"nabu/domain"
)

// TestWhatWasPostedIsBounded: queues that get a message and no more, under ever new names.
func TestWhatWasPostedIsBounded(t *testing.T) {
	s := &Sweeper{posted: map[domain.QueueID]int{}}
	queue := func(i int) domain.QueueID { return domain.QueueID{Project: "p", Name: "reply-" + strconv.Itoa(i)} }
	for i := range maxPosted + 10 {
		s.Posted(map[domain.QueueID]int{queue(i): 1})
	}
	if n := len(s.posted); n != maxPosted {
		t.Errorf("what was posted is remembered of %d queues", n)
	}
	before := map[domain.QueueID]int{}
	for i := range maxPosted {
		before[queue(-1-i)] = 1
	}
	s.postedBefore(before)
	if n := len(s.posted); n != maxPosted {
		t.Errorf("with what was posted before it is remembered of %d queues", n)
	}
}
