package commands

import (
	"context"
	"strings"
	"time"

	"nabu/domain"
	"nabu/eventstore"
)

// Loader reads the states that decisions need, each kind in one round trip however
// many are asked for. It runs in the batch's transaction, after the lock.
type Loader interface {
	// Queues finds queues and the versions of their streams. One that is not there
	// is the zero Queue; its stream may have a version all the same.
	Queues(ctx context.Context, tx eventstore.Tx, ids []domain.QueueID) (map[domain.QueueID]eventstore.Versioned[domain.Queue], error)
	// Messages finds messages that are alive at a time. The others are left out.
	Messages(ctx context.Context, tx eventstore.Tx, refs []domain.MessageRef, at time.Time) (map[domain.MessageRef]domain.Message, error)
}

// State is what a batch's decisions are made on: what was loaded or remembered,
// overlaid with what the batch itself has decided.
type State struct {
	Limits   domain.Limits
	queues   map[domain.QueueID]queueState
	messages map[domain.MessageRef]domain.Message
}

type queueState = eventstore.Versioned[domain.Queue]

func newState(limits domain.Limits) *State {
	return &State{Limits: limits, queues: map[domain.QueueID]queueState{}}
}

// Queue is the queue as it stands now.
func (s *State) Queue(id domain.QueueID) domain.Queue { return s.queues[id].State }

// Message is a message of the queue, or nil when it is not there.
func (s *State) Message(queue domain.QueueID, id domain.MessageID) *domain.Message {
	m, there := s.messages[domain.MessageRef{Queue: queue, ID: id}]
	if !there || m.QueueNumber != s.Queue(queue).Number {
		return nil
	}
	return &m
}

// record overlays the state with an event that the batch decided and gives the
// event its version.
func (s *State) record(position int64, e domain.Event) (version int64) {
	id, isQueue := domain.QueueOfStream(e.Stream())
	if !isQueue {
		panic("commands: no state for stream " + e.Stream())
	}
	q := s.queues[id]
	q.Version++
	q.State.Apply(position, e)
	s.queues[id] = q
	if deleted, ok := e.(domain.MessagesDeleted); ok {
		for _, m := range deleted.Messages {
			delete(s.messages, domain.MessageRef{Queue: id, ID: m.ID})
		}
	}
	return q.Version
}

// memory is what the executor remembers between batches: queues as they stood at a
// head of the ledger. Whoever uses it must see that this is still the head. It is
// bounded; what does not fit is loaded again.
type memory struct {
	head   eventstore.Head
	known  bool // head is one that this process has seen
	queues map[domain.QueueID]queueState
	bytes  int // rough size of the metadata held
}

// Bounds of the memory: queues, and bytes of metadata.
const (
	maxRemembered      = 50_000
	maxRememberedBytes = 32 << 20
)

func newMemory() *memory { return &memory{queues: map[domain.QueueID]queueState{}} }

// recall copies the queues that the commands need into a state, and tells those
// that are not remembered.
func (m *memory) recall(commands []*pending, s *State) (missing []domain.QueueID) {
	for _, p := range commands {
		id := p.needs.Queue
		if _, there := s.queues[id]; there {
			continue
		}
		q, remembered := m.queues[id]
		if remembered {
			s.queues[id] = q
			continue
		}
		s.queues[id] = queueState{}
		missing = append(missing, id)
	}
	return missing
}

// install remembers a state that is committed up to a head.
func (m *memory) install(s *State, head eventstore.Head) {
	m.head, m.known = head, true
	for id, q := range s.queues {
		m.put(id, q)
	}
	for id := range m.queues { // in no order: whatever comes first goes
		if len(m.queues) <= maxRemembered && m.bytes <= maxRememberedBytes {
			break
		}
		m.bytes -= m.queues[id].State.Metadata.Size()
		delete(m.queues, id)
	}
}

func (m *memory) put(id domain.QueueID, q queueState) {
	m.bytes += q.State.Metadata.Size() - m.queues[id].State.Metadata.Size()
	m.queues[id] = q
}

// catchUp brings the memory to the ledger's head by the events that other replicas
// have added, or empties it when that cannot be done.
func (m *memory) catchUp(tail eventstore.Tail) {
	// A memory of the empty ledger has no event whose presence could prove it.
	if !m.known || tail.Lost || m.head.Position == 0 && tail.Head.Position > 0 {
		m.forget()
	}
	for _, e := range tail.Events {
		m.fold(e)
	}
	m.head, m.known = tail.Head, true
}

// fold takes in an event of another replica. What happens to messages moves the
// version only; a queue that was itself changed is loaded again when it is needed.
func (m *memory) fold(e eventstore.TailEvent) {
	id, isQueue := domain.QueueOfStream(e.Stream)
	q, remembered := m.queues[id]
	switch {
	case !isQueue || !remembered:
	case strings.HasPrefix(e.Type, "messages."):
		q.Version = e.Version
		m.queues[id] = q
	default:
		m.bytes -= q.State.Metadata.Size()
		delete(m.queues, id)
	}
}

// provable is the head that a memory belongs to, or the zero Head without a memory.
func (m *memory) provable() eventstore.Head {
	if !m.known {
		return eventstore.Head{}
	}
	return m.head
}

func (m *memory) forget() {
	m.known = false
	m.bytes = 0
	clear(m.queues)
}
