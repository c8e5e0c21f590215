package commands

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"nabu/domain"
)

var waited = domain.QueueID{Project: "p1", Name: "waited"}

// posted tells of so many messages that a batch of this process has posted.
func (n *News) posted(messages int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a := n.queues[waited]; a != nil {
		n.happened(waited, a, domain.MessagesPosted{Messages: make([]domain.PostedMessage, messages)})
	}
}

// waiting is a line of turns that have looked in vain.
func waiting(t *testing.T, n *News, wants ...int) (turns []*Turn) {
	t.Helper()
	for _, w := range wants {
		turn, ok := n.Line(waited, w)
		if !ok {
			t.Fatal("no place in the line")
		}
		turn.Wait()
		turns = append(turns, turn)
	}
	return turns
}

func called(turns []*Turn) (which []int) {
	for i, turn := range turns {
		if len(turn.called) > 0 {
			which = append(which, i)
		}
	}
	return which
}

// As few are called as there is something for, in the order of arrival.
func TestTheFirstInTheLineAreCalled(t *testing.T) {
	tests := map[string]struct {
		wants []int
		tell  func(n *News)
		want  []int
	}{
		"one message":                    {[]int{1, 1, 1}, func(n *News) { n.posted(1) }, []int{0}},
		"two at once":                    {[]int{1, 1, 1}, func(n *News) { n.posted(2) }, []int{0, 1}},
		"one after the other":            {[]int{1, 1, 1}, func(n *News) { n.posted(1); n.posted(1) }, []int{0, 1}},
		"as many as the first one takes": {[]int{10, 1}, func(n *News) { n.posted(10) }, []int{0}},
		"one more":                       {[]int{10, 1, 1}, func(n *News) { n.posted(11) }, []int{0, 1}},
		"more than all want":             {[]int{1, 1}, func(n *News) { n.posted(100) }, []int{0, 1}},
		"nobody knows what":              {[]int{1, 1, 1}, func(n *News) { n.Stir() }, []int{0}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			n := NewNews()
			turns := waiting(t, n, test.wants...)
			test.tell(n)
			if diff := cmp.Diff(test.want, called(turns)); diff != "" {
				t.Fatal(diff)
			}
			for _, turn := range turns {
				turn.Leave(0, true)
			}
			if n.Readers() != 0 || len(n.queues) != 0 {
				t.Errorf("%d readers, %d queues are left", n.Readers(), len(n.queues))
			}
		})
	}
}

// Who was called and found nothing has kept its place.
func TestAPlaceIsKept(t *testing.T) {
	n := NewNews()
	turns := waiting(t, n, 1, 1)
	n.posted(1)
	turns[0].Look() // somebody else was faster
	turns[0].Wait()
	n.posted(1)
	if diff := cmp.Diff([]int{0}, called(turns)); diff != "" {
		t.Fatal(diff)
	}
}

// patron is somebody in the line of the model.
type patron struct {
	*Turn
	called <-chan struct{}
	got    int // of a look whose answer is under way; -1: none is
}

// TestNoCallIsLost: whatever order things happen in, in the end nobody waits while there is
// something to be had.
func TestNoCallIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, there := NewNews(), 0
		var looking, answered, standing []*patron
		draw := func(from *[]*patron) *patron {
			i := rapid.IntRange(0, len(*from)-1).Draw(t, "who")
			p := (*from)[i]
			*from = append((*from)[:i:i], (*from)[i+1:]...)
			return p
		}
		look := func(p *patron) { // the moment of its decision
			p.got = min(p.wants, there)
			there -= p.got
			answered = append(answered, p)
		}
		answer := func(p *patron) {
			if p.got > 0 {
				p.Leave(p.got, true)
				return
			}
			p.called = p.Wait()
			standing = append(standing, p)
		}
		wake := func() (woken bool) {
			for i, p := range standing {
				select {
				case <-p.called:
					p.Look()
					looking, standing = append(looking, p), append(standing[:i:i], standing[i+1:]...)
					return true
				default:
				}
			}
			return false
		}
		actions := map[string]func(*rapid.T){
			"arrive": func(t *rapid.T) {
				turn, _ := n.Line(waited, rapid.IntRange(1, 2).Draw(t, "wants"))
				p := &patron{Turn: turn}
				if rapid.Bool().Draw(t, "slowly") {
					looking = append(looking, p)
					return
				}
				p.got = min(p.wants, there)
				there -= p.got
				answer(p)
			},
			"post": func(t *rapid.T) {
				k := rapid.IntRange(1, 4).Draw(t, "messages")
				there += k
				n.posted(k)
			},
			"post elsewhere": func(t *rapid.T) {
				there += rapid.IntRange(0, 4).Draw(t, "messages")
				n.Stir()
			},
			"barge": func(t *rapid.T) { there -= min(there, rapid.IntRange(1, 3).Draw(t, "messages")) },
			"look": func(t *rapid.T) {
				if len(looking) > 0 {
					look(draw(&looking))
				}
			},
			"answer": func(t *rapid.T) {
				if len(answered) > 0 {
					answer(draw(&answered))
				}
			},
			"wake": func(*rapid.T) { wake() },
			"give up": func(t *rapid.T) {
				if len(standing) > 0 {
					draw(&standing).Leave(0, true)
				}
			},
			"be cut off": func(t *rapid.T) { // it never learns what it got
				if len(looking) > 0 {
					draw(&looking).Leave(0, false)
				}
			},
		}
		names := slices.Sorted(maps.Keys(actions))
		for range rapid.IntRange(10, 12).Draw(t, "rounds") * 8 {
			actions[rapid.SampledFrom(append(names, "arrive", "arrive", "arrive", "look", "look", "answer", "answer", "wake")).Draw(t, "action")](t)
		}
		if rapid.Bool().Draw(t, "some at last") {
			actions["post elsewhere"](t)
		}
		for len(looking)+len(answered) > 0 || wake() {
			if len(looking) > 0 {
				look(draw(&looking))
			}
			if len(answered) > 0 {
				answer(draw(&answered))
			}
		}
		if there > 0 && len(standing) > 0 {
			t.Fatalf("%d wait while there are %d messages", len(standing), there)
		}
		for _, p := range standing {
			p.Leave(0, true)
		}
		if n.Readers() != 0 || len(n.queues) != 0 {
			t.Fatalf("%d readers, %d queues are left", n.Readers(), len(n.queues))
		}
	})
}

// What somebody was called for and does not take is for the next one.
func TestACallIsPassedOn(t *testing.T) {
	tests := map[string]struct {
		tell func(n *News)
		then func(first *Turn)
		want []int // of those behind the first one
	}{
		"called, and gone":              {func(n *News) { n.posted(1) }, func(first *Turn) { first.Leave(0, true) }, []int{0}},
		"looked in vain, and gone":      {func(n *News) { n.posted(1) }, func(first *Turn) { first.Look(); first.Leave(0, true) }, nil},
		"cut off in its look":           {func(n *News) { n.posted(1) }, func(first *Turn) { first.Look(); first.Leave(0, false) }, []int{0}},
		"served":                        {func(n *News) { n.posted(1) }, func(first *Turn) { first.Look(); first.Leave(1, true) }, nil},
		"served, perhaps there is more": {func(n *News) { n.Stir() }, func(first *Turn) { first.Look(); first.Leave(1, true) }, []int{0}},
		"nothing after all":             {func(n *News) { n.Stir() }, func(first *Turn) { first.Look(); first.Leave(0, true) }, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			n := NewNews()
			turns := waiting(t, n, 1, 1, 1)
			test.tell(n)
			test.then(turns[0])
			if diff := cmp.Diff(test.want, called(turns[1:])); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}
