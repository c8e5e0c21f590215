package commands

import (
	"context"
	"maps"
	"slices"
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
	// Messages finds the messages and claims that are alive at a time, and the oldest
	// free messages of queues.
	Messages(ctx context.Context, tx eventstore.Tx, needs domain.MessageNeeds, at time.Time) (domain.LoadedMessages, error)
	// FreeAhead finds what is free at a time from a place of each queue on. It needs no lock, but
	// fails when it does not see a head of the ledger.
	FreeAhead(ctx context.Context, tx eventstore.Tx, head eventstore.Head, needs []domain.AheadNeed, at time.Time) (
		map[domain.QueueID]domain.FreeMessages, error)
	// Peek does what Messages does, without the lock, and tells the time of a batch that is made on
	// it: by a clock, or by the database's if that is zero. It fails with
	// eventstore.ErrStale when the ledger's head is another.
	Peek(ctx context.Context, tx eventstore.Tx, head eventstore.Head, clock time.Time, needs domain.MessageNeeds) (
		loaded domain.LoadedMessages, now time.Time, err error)
	// Sweeps finds what can be swept of queues, by their numbers, at a time.
	Sweeps(ctx context.Context, tx eventstore.Tx, numbers []int64, at time.Time) (map[int64]domain.Sweepable, error)
	// Subscriptions finds subscriptions, expired ones as well, and the versions of their
	// streams.
	Subscriptions(ctx context.Context, tx eventstore.Tx, needs []domain.SubscriptionNeed) ([]eventstore.Versioned[domain.Subscription], error)
	// RevokedShares finds which signed URLs were taken back.
	RevokedShares(ctx context.Context, tx eventstore.Tx, keys []domain.ShareKey) (map[domain.ShareKey]bool, error)
	// Tasks finds tasks by id, and by the message that hands them out, expired ones as well,
	// and the versions of their streams. What is large of the others is not loaded.
	Tasks(ctx context.Context, tx eventstore.Tx, ids []domain.TaskID, handed []domain.MessageID) (
		map[domain.TaskID]eventstore.Versioned[domain.Task], error)
	// UserMessages finds the user messages that ids stand for, in whatever project, deleted
	// ones as well; and of those that have expired, that they have, in the projects that are
	// asked about. With each is the version of its stream.
	UserMessages(ctx context.Context, tx eventstore.Tx, refs []domain.UserMessageRef) (
		map[domain.UserMessageRef]eventstore.Versioned[domain.UserMessage], error)
	// Servers finds what is known of servers, forgotten ones as well, and the versions of
	// their streams: of all that are asked for.
	Servers(ctx context.Context, tx eventstore.Tx, ids []domain.ServerID) (map[domain.ServerID]eventstore.Versioned[domain.Server], error)
}

// State is what a batch's decisions are made on: what was loaded or remembered,
// overlaid with what the batch itself has decided.
type State struct {
	Limits   domain.Limits
	queues   map[domain.QueueID]queueState
	messages map[domain.MessageRef]domain.Message
	claims   map[domain.ClaimRef]domain.Claim
	// live are claims that were named with messages and are live.
	live   map[domain.ClaimRef]bool
	hots   map[domain.QueueID]*hotQueue
	sweeps map[int64]domain.Sweepable
	// subscriptions are those that were loaded or made.
	subscriptions map[domain.SubscriptionRef]eventstore.Versioned[domain.Subscription]
	// manySubscribed are queues to which there may be more subscriptions than were asked for.
	manySubscribed map[domain.QueueID]bool
	// revoked are signed URLs that were asked about and have been taken back.
	revoked map[domain.ShareKey]bool
	// userMessages are those that were asked about, or recorded.
	userMessages map[domain.UserMessageRef]eventstore.Versioned[domain.UserMessage]
	// holders are the projects of those that their ids stand for.
	holders   map[domain.UserMessageID]string
	userRules domain.UserMessageRules
	now       time.Time // of the batch; zero where nobody asks
	tasking
	watching
	sealed
}

// queueState is a queue, its stream's version, and what is remembered of it.
type queueState struct {
	eventstore.Versioned[domain.Queue]
	mark domain.Mark
	key  domain.KeyID // that seals what is posted to it, if it encrypts; zero: not known
}

func newState(cfg Config) *State {
	return &State{
		Limits: cfg.Limits, tasking: tasking{rules: cfg.Tasks}, userRules: cfg.UserMessages, sealed: sealed{keys: cfg.Keys},
		queues: map[domain.QueueID]queueState{}, hots: map[domain.QueueID]*hotQueue{},
	}
}

// Queue is the queue as it stands now.
func (s *State) Queue(id domain.QueueID) domain.Queue { return s.queues[id].State }

// there tells whether a message that was loaded is still in its queue, and its key is not
// destroyed.
func (s *State) there(queue domain.QueueID, m domain.Message) bool {
	q := s.Queue(queue)
	return m.QueueNumber == q.Number && m.Place > q.Purged && !slices.Contains(s.destroyed, m.Key)
}

// Message is a message of the queue, or nil when it is not there.
func (s *State) Message(queue domain.QueueID, id domain.MessageID) *domain.Message {
	m, found := s.messages[domain.MessageRef{Queue: queue, ID: id}]
	if !found || !s.there(queue, m) {
		return nil
	}
	return &m
}

// Claim is a live claim of the queue with the messages that it still holds, or nil
// when there is none.
func (s *State) Claim(queue domain.QueueID, id domain.ClaimID) *domain.Claim {
	claim, found := s.claims[domain.ClaimRef{Queue: queue, ID: id}]
	if !found || !s.Queue(queue).Exists() {
		return nil
	}
	claim.Messages = slices.DeleteFunc(slices.Clone(claim.Messages), func(m domain.Message) bool { return !s.there(queue, m) })
	return &claim
}

// Live tells whether a claim that was named with a message is live in the queue.
func (s *State) Live(queue domain.QueueID, id domain.ClaimID) bool {
	return s.live[domain.ClaimRef{Queue: queue, ID: id}]
}

// Free are the oldest free messages of the queue, in its order.
func (s *State) Free(queue domain.QueueID) []domain.Message {
	if free := s.free(queue); free != nil {
		return free.Messages
	}
	return nil
}

// free is what is known of the free messages of the queue; nil: nothing.
func (s *State) free(queue domain.QueueID) *freeState {
	if h := s.hots[queue]; h != nil {
		return h.free
	}
	return nil
}

// record overlays the state with an event that the batch decided and gives the
// event its version.
func (s *State) record(position int64, e domain.Event) (version int64) {
	stream := e.Stream()
	if id, isQueue := domain.QueueOfStream(stream); isQueue {
		return s.recordQueue(id, position, e)
	}
	if id, isTask := domain.TaskOfStream(stream); isTask {
		return s.recordTask(id, e)
	}
	if ref, isUserMessage := domain.UserMessageOfStream(stream); isUserMessage {
		return s.recordUserMessage(ref, e)
	}
	if id, isServer := domain.ServerOfStream(stream); isServer {
		return s.recordServer(id, e)
	}
	if ref, isSubscription := domain.SubscriptionOfStream(stream); isSubscription {
		return s.recordSubscription(ref, e)
	}
	panic("commands: no state for stream " + stream)
}

// recordQueue overlays a queue, its messages and its claims with an event and gives the
// event its version.
func (s *State) recordQueue(id domain.QueueID, position int64, e domain.Event) (version int64) {
	q := s.queues[id]
	q.Version++
	q.State.Apply(position, e)
	if swept, ok := e.(domain.MessagesSwept); ok && swept.Lowest > 0 {
		q.mark.Place = min(q.mark.Place, swept.Lowest) // what those claims held is found no more by their end
	}
	s.queues[id] = q
	s.recordFree(id, position, e)
	s.recordMessages(id, e)
	return q.Version
}

// recordFree overlays the free messages that are known.
func (s *State) recordFree(queue domain.QueueID, position int64, e domain.Event) {
	free := s.free(queue)
	if free == nil {
		return
	}
	if _, posted := e.(domain.MessagesPosted); posted && s.now.IsZero() {
		s.hots[queue].free = nil // when they were posted is not known yet
		return
	}
	taken := free.record(position, e, s.now)
	switch e := e.(type) {
	case domain.MessagesClaimed:
		s.hold(queue, e, taken)
	case domain.ClaimReleased:
		free.release(s.Claim(queue, e.Claim))
	}
}

// recordMessages overlays the messages and claims that were loaded by name.
func (s *State) recordMessages(queue domain.QueueID, e domain.Event) {
	switch e := e.(type) {
	case domain.QueueDeleted: // what comes under its name is another
		maps.DeleteFunc(s.claims, func(ref domain.ClaimRef, _ domain.Claim) bool { return ref.Queue == queue })
		maps.DeleteFunc(s.live, func(ref domain.ClaimRef, _ bool) bool { return ref.Queue == queue })
	case domain.MessagesDeleted:
		s.loosen(queue, len(e.Messages), func(i int) domain.MessageID { return e.Messages[i].ID })
		for _, m := range e.Messages {
			delete(s.messages, domain.MessageRef{Queue: queue, ID: m.ID})
			if m.Claim != nil {
				s.letGo(domain.ClaimRef{Queue: queue, ID: *m.Claim}, m.Place)
			}
		}
	case domain.MessagesPopped:
		s.loosen(queue, len(e.Messages), func(i int) domain.MessageID { return e.Messages[i].ID })
	case domain.MessagesMovedOut:
		s.loosen(queue, len(e.Messages), func(i int) domain.MessageID { return e.Messages[i].ID })
	case domain.ClaimRenewed:
		s.loosen(queue, len(e.Messages), func(i int) domain.MessageID { return e.Messages[i].ID })
		ref := domain.ClaimRef{Queue: queue, ID: e.Claim}
		life := domain.ClaimLife{TTL: e.TTL, Grace: e.Grace}
		claim := s.claims[ref]
		claim.Messages = slices.Clone(claim.Messages)
		for i := range claim.Messages {
			life.Hold(&claim.Messages[i], e.Claim, s.now)
		}
		s.claims[ref] = claim
	case domain.ClaimReleased:
		s.loosen(queue, len(e.Messages), func(i int) domain.MessageID { return e.Messages[i].ID })
		ref := domain.ClaimRef{Queue: queue, ID: e.Claim}
		delete(s.claims, ref)
		delete(s.live, ref)
		for _, at := range e.Messages {
			ref := domain.MessageRef{Queue: queue, ID: at.ID}
			if m, loaded := s.messages[ref]; loaded {
				m.Claim, m.ClaimEnds = domain.ClaimID{}, time.Time{}
				s.messages[ref] = m
			}
		}
	}
}

// letGo takes a message out of a claim that was loaded.
func (s *State) letGo(ref domain.ClaimRef, place domain.Place) {
	claim, loaded := s.claims[ref]
	if !loaded {
		return
	}
	claim.Messages = slices.DeleteFunc(slices.Clone(claim.Messages), func(m domain.Message) bool { return m.Place == place })
	s.claims[ref] = claim
}

// memory is what the executor remembers between batches: queues as they stood at a
// head of the ledger. Whoever uses it must see that this is still the head. It is
// bounded; what does not fit is loaded again.
type memory struct {
	head   eventstore.Head
	known  bool // head is one that this process has seen
	queues map[domain.QueueID]queueState
	bytes  int // rough size of the metadata held

	// swept are marks that other replicas' sweeps have taken away, and the sweeps.
	swept map[domain.QueueID]*sweptMark

	hots                  map[domain.QueueID]*hotQueue // of queues that are in queues
	hotMessages, hotBytes int
}

// Bounds of the memory: queues, and bytes of metadata.
const (
	maxRemembered      = 50_000
	maxRememberedBytes = 32 << 20
)

func newMemory() *memory {
	return &memory{
		queues: map[domain.QueueID]queueState{}, swept: map[domain.QueueID]*sweptMark{}, hots: map[domain.QueueID]*hotQueue{},
	}
}

// recall copies queues into a state, moves what is known of their messages there, and
// tells those that are not remembered.
func (m *memory) recall(ids []domain.QueueID, s *State) (missing []domain.QueueID) {
	for _, id := range ids {
		if _, there := s.queues[id]; there {
			continue
		}
		q, remembered := m.queues[id]
		s.queues[id] = q
		m.takeHot(id, s)
		if !remembered {
			missing = append(missing, id)
		}
	}
	return missing
}

// install remembers a state that is committed up to a head.
func (m *memory) install(s *State, head eventstore.Head) {
	m.head, m.known = head, true
	now := s.now
	if now.IsZero() {
		now = head.Time
	}
	for id, q := range s.queues {
		if h := s.hots[id]; h != nil {
			if h.free != nil && !h.free.knownAt(now) {
				h.free = nil
			}
			if h.free != nil {
				q.mark = domain.Mark{Place: h.free.low(head.Position), Since: now}
			}
			m.putHot(id, h)
		}
		m.put(id, q)
	}
	for id := range m.queues { // in no order: whatever comes first goes
		if len(m.queues) <= maxRemembered && m.bytes <= maxRememberedBytes {
			break
		}
		m.drop(id)
	}
}

// drop forgets a queue, and with it what is remembered of its messages: that has no other bound on
// the number of queues.
func (m *memory) drop(id domain.QueueID) {
	m.dropHot(id)
	m.bytes -= m.queues[id].State.Metadata.Size()
	delete(m.queues, id)
}

func (m *memory) put(id domain.QueueID, q queueState) {
	m.bytes += q.State.Metadata.Size() - m.queues[id].State.Metadata.Size()
	m.queues[id] = q
}

// catchUp brings the memory to the ledger's head by the events that other replicas
// have added, or empties it when that cannot be done.
func (m *memory) catchUp(tail eventstore.Tail) {
	clear(m.swept)
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
// version only; a queue that was itself changed is loaded again when it is needed, and
// so is every queue once the read models were made anew: what was remembered of them may
// have been wrong. Messages whose key was destroyed may be remembered of any queue.
func (m *memory) fold(e eventstore.TailEvent) {
	if e.Type == (domain.ReadModelsRebuilt{}).EventType() || e.Type == (domain.QueueKeysDestroyed{}).EventType() {
		m.forget()
		return
	}
	id, isQueue := domain.QueueOfStream(e.Stream)
	q, remembered := m.queues[id]
	m.dropHot(id)
	switch {
	case !isQueue || !remembered:
	case e.Type == (domain.MessagesSwept{}).EventType():
		m.sweptAway(id, q.mark, e.Position)
		q.Version, q.mark = e.Version, domain.Mark{} // the ends of claims are swept away
		m.queues[id] = q
	case strings.HasPrefix(e.Type, "messages."), strings.HasPrefix(e.Type, "claim."):
		q.Version = e.Version
		m.queues[id] = q
	default:
		m.drop(id)
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
	m.forgetHots()
}
