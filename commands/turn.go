package commands

import (
	"container/list"

	"nabu/domain"
)

// Turn is a place in the line of those who wait to take something out of a queue. It
// belongs to one goroutine. It begins with a look: whoever holds it looks, waits to be
// called, looks again, and leaves at last. It keeps its place until then.
type Turn struct {
	news   *News
	queue  domain.QueueID
	wants  int
	called listener

	// Under the lock of the news.
	at    *list.Element
	state turnState
	// missed: something was told while it looked.
	missed bool
	// passOn: it was called for something whose size is not known. If it gets as much as
	// it wants, there may be more for the next one.
	passOn bool
}

type turnState int

const (
	looking turnState = iota
	standing
	summoned // and has not looked yet
)

// Line takes the last place in a queue's line, for somebody who wants so many messages at
// most. It is to be left. If there are too many readers, ok is false and there is no place.
func (n *News) Line(queue domain.QueueID, wants int) (t *Turn, ok bool) {
	if !n.letIn() {
		return nil, false
	}
	t = &Turn{news: n, queue: queue, wants: wants, called: newListener()}
	n.enter(queue, func(a *audience) { t.at = a.line.PushBack(t) })
	return t, true
}

// Wait is called after a look that has found nothing. What it returns gets something when
// it is time for the next one. Look is to be called before that.
func (t *Turn) Wait() <-chan struct{} {
	t.news.mu.Lock()
	defer t.news.mu.Unlock()
	t.state = standing
	if t.missed {
		t.summon()
	}
	return t.called
}

// Look is called before each look but the first.
func (t *Turn) Look() {
	t.news.mu.Lock()
	defer t.news.mu.Unlock()
	t.state, t.missed = looking, false
	select {
	case <-t.called: // nobody has waited for it to the end
	default:
	}
}

// Leave gives the place up, with so many messages in hand. What it was called for and did
// not take is for the next one: looked is whether the last look came to an end.
func (t *Turn) Leave(got int, looked bool) {
	defer t.news.readers.Add(-1)
	t.news.leave(t.queue, func(a *audience) {
		a.line.Remove(t.at)
		switch {
		case t.state == summoned, !looked:
			a.call(t.wants, true)
		case t.passOn && got >= t.wants:
			a.call(1, true)
		}
	})
}

func (t *Turn) summon() {
	t.state = summoned
	t.called.hear()
}

// call calls as many of the line, from its beginning, as so many messages are enough for.
// Those that were called before and have not looked yet will look at these as well, but
// have others to take. One that looks just now may have looked too early, and does it
// again if it finds nothing.
func (a *audience) call(messages int, unsure bool) {
	for at := a.line.Front(); at != nil && messages > 0; at = at.Next() {
		t := at.Value.(*Turn)
		switch t.state {
		case looking:
			t.missed, t.passOn = true, t.passOn || unsure
		case standing:
			t.passOn = unsure
			t.summon()
			messages -= t.wants
		}
	}
}
