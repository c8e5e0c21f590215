package commands

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"

	"nabu/domain"
)

// maxReaders are let in who wait; who comes then is not told of anything. Followers are
// let in besides.
const maxReaders = 10_000

// News tells those who wait for a queue, or for user messages, that there may be something
// for them. It knows what this process commits, the moments at which something becomes free
// by itself as far as they were seen, and by Stir that another process has committed
// something. Nothing is ever promised: who is told has to look. But nothing is missed by who
// asks to be told first and looks then.
//
// Listeners all hear of everything. Those who are to take something stand in a line: of
// them as many are called as there is something for, the first in the line first.
type News struct {
	// Without any of these a commit costs nothing here.
	readers   atomic.Int64
	followers atomic.Int64

	mu     sync.Mutex
	queues map[domain.QueueID]*audience
	// projects are those who wait for user messages, by project.
	projects map[string]map[listener]struct{}
}

// NewNews is without readers.
func NewNews() *News {
	return &News{queues: map[domain.QueueID]*audience{}, projects: map[string]map[listener]struct{}{}}
}

// Readers is how many wait, in line or as listeners; followers do not count.
func (n *News) Readers() int { return int(n.readers.Load()) }

// audience is everybody who waits for one queue.
type audience struct {
	line      *list.List // of *Turn, in the order of arrival
	listeners map[listener]struct{}
	due       time.Time // when something becomes free by itself; zero: not known to
	timer     *time.Timer
}

// listener has room for one word: who has not looked since is about to.
type listener chan struct{}

func newListener() listener { return make(listener, 1) }

// hear never blocks.
func (l listener) hear() {
	select {
	case l <- struct{}{}:
	default:
	}
}

// letIn counts one more who waits, unless there are too many.
func (n *News) letIn() bool {
	if n.readers.Add(1) > maxReaders {
		n.readers.Add(-1)
		return false
	}
	return true
}

// Listen tells by a channel that a queue may have something new, be it a message that was
// posted or one that is free again, until it is cancelled. If there are too many readers,
// nothing is ever told, and ok is false.
func (n *News) Listen(queue domain.QueueID) (heard <-chan struct{}, cancel func(), ok bool) {
	if !n.letIn() {
		return nil, func() {}, false
	}
	heard, cancel = n.listen(queue, &n.readers)
	return heard, cancel, true
}

// Follow is Listen for those of whom somebody else sees to it that there are not too many.
// They take nobody's room who waits.
func (n *News) Follow(queue domain.QueueID) (heard <-chan struct{}, cancel func()) {
	n.followers.Add(1)
	return n.listen(queue, &n.followers)
}

func (n *News) listen(queue domain.QueueID, counted *atomic.Int64) (heard <-chan struct{}, cancel func()) {
	l := newListener()
	n.enter(queue, func(a *audience) { a.listeners[l] = struct{}{} })
	return l, sync.OnceFunc(func() {
		n.leave(queue, func(a *audience) { delete(a.listeners, l) })
		counted.Add(-1)
	})
}

// nobody tells that there is nobody to be told of anything.
func (n *News) nobody() bool { return n.readers.Load() == 0 && n.followers.Load() == 0 }

// Expect lets a queue's readers be told after a while: something becomes free then.
func (n *News) Expect(queue domain.QueueID, after time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a := n.queues[queue]; a != nil {
		n.expect(queue, a, after)
	}
}

// Stir says that any queue may have something, and nobody knows which.
func (n *News) Stir() {
	if n.nobody() {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.queues {
		a.tell()
		a.call(1, true)
	}
	for _, listeners := range n.projects {
		for l := range listeners {
			l.hear()
		}
	}
}

// enter lets somebody in who has been counted.
func (n *News) enter(queue domain.QueueID, join func(*audience)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.queues[queue]
	if a == nil {
		a = &audience{line: list.New(), listeners: map[listener]struct{}{}}
		n.queues[queue] = a
	}
	join(a)
}

// leave lets somebody go, who is to be counted out afterwards. The last one takes the audience along.
func (n *News) leave(queue domain.QueueID, part func(*audience)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.queues[queue]
	part(a)
	if a.line.Len() == 0 && len(a.listeners) == 0 {
		if a.timer != nil {
			a.timer.Stop()
		}
		delete(n.queues, queue)
	}
}

// expect has the queue's readers told at the earliest moment of all that are expected.
func (n *News) expect(queue domain.QueueID, a *audience, after time.Duration) {
	due := time.Now().Add(max(after, 0) + time.Millisecond) // rather late than in vain
	if !a.due.IsZero() && !due.Before(a.due) {
		return
	}
	if a.timer != nil {
		a.timer.Stop()
	}
	a.due = due
	a.timer = time.AfterFunc(time.Until(due), func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.queues[queue] == a && a.due.Equal(due) {
			a.due = time.Time{}
			a.tell()
			a.call(1, true)
		}
	})
}

// tell lets all listeners hear.
func (a *audience) tell() {
	for l := range a.listeners {
		l.hear()
	}
}

// told takes in what a batch has committed, or has found while it decided nothing.
func (n *News) told(w *work) {
	if n == nil || n.nobody() {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range w.batch.Events {
		if queue, ofQueue := domain.QueueOfStream(e.Event.Stream()); ofQueue {
			if a := n.queues[queue]; a != nil {
				n.happened(queue, a, e.Event)
			}
		}
		if recorded, isUserMessage := e.Event.(domain.UserMessageRecorded); isUserMessage {
			n.userMessageRecorded(recorded)
		}
	}
	for _, queue := range w.state.unfinished {
		if a := n.queues[queue]; a != nil {
			a.call(1, true)
		}
	}
	for queue, h := range w.state.hots {
		if h.free == nil || h.free.Until.IsZero() || w.state.now.IsZero() {
			continue
		}
		if a := n.queues[queue]; a != nil {
			n.expect(queue, a, h.free.Until.Sub(w.state.now))
		}
	}
}

// happened tells a queue's audience of an event.
func (n *News) happened(queue domain.QueueID, a *audience, e domain.Event) {
	free, unsure := 0, false
	switch e := e.(type) {
	case domain.MessagesPosted:
		for _, m := range e.Messages {
			if m.Delay == 0 {
				free++
			} else {
				n.expect(queue, a, time.Duration(m.Delay)*time.Second)
			}
		}
	case domain.MessagesMovedIn:
		free = len(e.Messages)
	case domain.ClaimReleased:
		free = len(e.Messages)
	case domain.MessagesMovedOut: // perhaps in place of what is behind them
		free, unsure = 1, true
	case domain.MessagesClaimed:
		n.expect(queue, a, domain.ClaimLife{TTL: e.TTL, Grace: e.Grace}.Lasts())
		return
	case domain.ClaimRenewed:
		n.expect(queue, a, domain.ClaimLife{TTL: e.TTL, Grace: e.Grace}.Lasts())
		return
	case domain.MessagesDeleted, domain.MessagesPopped, domain.MessagesSwept:
		return
	}
	a.tell()
	if free > 0 {
		a.call(free, unsure)
	}
}
