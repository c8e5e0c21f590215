package commands

import (
	"maps"
	"time"

	"nabu/domain"
)

// hotQueue is what the executor remembers of a queue's messages: those that a claim or
// a deletion will want next. A batch takes it out of the memory and works on it; only a
// batch that is committed puts it back.
type hotQueue struct {
	free *freeState // nil: unknown
	held map[domain.MessageID]domain.Message
	room int // of held: for so many at least
}

// Bounds of what is remembered: of one queue, and of all.
const (
	maxHotFree  = 500
	maxHotHeld  = 5_000
	maxHot      = 30_000
	maxHotBytes = 16 << 20 // of bodies
)

// size is how many messages there are, and roughly the bytes of their bodies.
func (h *hotQueue) size() (messages, bytes int) {
	if h == nil {
		return 0, 0
	}
	messages = len(h.held)
	if h.free != nil {
		messages += len(h.free.Messages)
		for _, m := range h.free.Messages {
			bytes += len(m.Body)
		}
	}
	return messages, bytes
}

// shrink gives up room for messages of which few are left: nothing else counts that.
func (h *hotQueue) shrink() {
	if f := h.free; f != nil {
		if f.room = max(f.room, len(f.Messages)); len(f.Messages) <= f.room/4 {
			f.Messages = append([]domain.Message(nil), f.Messages...)
			f.room = len(f.Messages)
		}
	}
	if h.room = max(h.room, len(h.held)); len(h.held) <= h.room/4 {
		var left map[domain.MessageID]domain.Message
		if len(h.held) > 0 {
			left = make(map[domain.MessageID]domain.Message, len(h.held))
			maps.Copy(left, h.held)
		}
		h.held, h.room = left, len(left)
	}
}

// hot is what is remembered of the queue's messages, for writing.
func (s *State) hot(queue domain.QueueID) *hotQueue {
	h := s.hots[queue]
	if h == nil {
		h = &hotQueue{}
		s.hots[queue] = h
	}
	return h
}

// hold remembers messages that a claim got hold of.
func (s *State) hold(queue domain.QueueID, e domain.MessagesClaimed, taken []domain.Message) {
	h := s.hot(queue)
	if h.held == nil || len(h.held)+len(taken) > maxHotHeld {
		h.held, h.room = make(map[domain.MessageID]domain.Message, len(taken)), 0
	}
	life := domain.ClaimLife{TTL: e.TTL, Grace: e.Grace}
	for _, m := range taken {
		life.Hold(&m, e.Claim, s.now)
		if e.Counted {
			m.ClaimCount++
		}
		m.Body = ""
		h.held[m.ID] = m
	}
	h.room = max(h.room, len(h.held))
}

// loosen forgets messages that are held otherwise now, or not at all.
func (s *State) loosen(queue domain.QueueID, n int, id func(int) domain.MessageID) {
	if h := s.hots[queue]; h != nil {
		for i := range n {
			delete(h.held, id(i))
		}
	}
}

// serve puts in what the commands need of messages at a time, if all of that is
// remembered.
func (s *State) serve(commands []*pending, now time.Time) bool {
	s.messages, s.live = map[domain.MessageRef]domain.Message{}, map[domain.ClaimRef]bool{}
	wants := map[domain.QueueID]int{}
	for _, p := range commands {
		n := p.needs
		if n.Claim != (domain.ClaimID{}) {
			return false
		}
		if !s.Queue(n.Queue).Exists() {
			continue
		}
		if len(n.Messages) > 0 && !s.serveNamed(n, now) {
			return false
		}
		if n.Free > 0 {
			wants[n.Queue] += n.Free
		}
	}
	if len(wants) > 0 {
		named := s.namedFree()
		for queue, want := range wants {
			if most, _ := s.Queue(queue).DeadLettering(); most > 0 || !s.free(queue).serves(want+named[queue], now) {
				return false
			}
		}
	}
	s.now = now
	return true
}

// serveNamed finds messages by name. It is sure of those alone that are alive and, if a
// claim is named with them, held by that.
func (s *State) serveNamed(n Needs, now time.Time) bool {
	h := s.hots[n.Queue]
	if h == nil {
		return false
	}
	for _, id := range n.Messages {
		m, remembered := h.held[id]
		if !remembered || !m.Expires.After(now) {
			return false
		}
		if n.Named != (domain.ClaimID{}) {
			if m.Claim != n.Named || !m.ClaimEnds.After(now) {
				return false
			}
			s.live[domain.ClaimRef{Queue: n.Queue, ID: n.Named}] = true
		}
		s.messages[domain.MessageRef{Queue: n.Queue, ID: id}] = m
	}
	return true
}

// takeHot moves what is remembered of a queue's messages into a state.
func (m *memory) takeHot(id domain.QueueID, s *State) {
	h := m.hots[id]
	if h == nil {
		return
	}
	m.dropHot(id)
	s.hots[id] = h
}

func (m *memory) dropHot(id domain.QueueID) {
	messages, bytes := m.hots[id].size()
	m.hotMessages -= messages
	m.hotBytes -= bytes
	delete(m.hots, id)
}

func (m *memory) forgetHots() {
	m.hotMessages, m.hotBytes = 0, 0
	clear(m.hots)
}

// putHot takes back what a batch has made of a queue's messages. If there is too much of
// all, others are forgotten.
func (m *memory) putHot(id domain.QueueID, h *hotQueue) {
	if h.free != nil {
		h.free.trim(maxHotFree)
	}
	h.shrink()
	m.dropHot(id)
	m.hots[id] = h
	messages, bytes := h.size()
	m.hotMessages += messages
	m.hotBytes += bytes
	for other := range m.hots { // in no order: whatever comes first goes
		if m.hotMessages <= maxHot && m.hotBytes <= maxHotBytes {
			break
		}
		m.dropHot(other)
	}
}
