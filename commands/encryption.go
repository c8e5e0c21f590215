package commands

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/sealing"
)

// sealed is what a batch knows of data keys, and what it does to them.
type sealed struct {
	keys *sealing.Keys
	held map[domain.KeyID]*sealing.DataKey // for as long as the batch takes
	// stored are the data keys that there are of queues whose keys were asked for.
	stored    map[domain.QueueID][]domain.KeyID
	made      []*sealing.DataKey
	destroyed []domain.KeyID
	// locked: a message was not handed out, because its key is not held.
	locked bool
}

// key is a data key that is at hand, or nil.
func (s *sealed) key(id domain.KeyID) *sealing.DataKey {
	if k := s.held[id]; k != nil {
		return k
	}
	return s.keys.Known(id)
}

func (s *sealed) holdKeys(keys ...*sealing.DataKey) {
	if s.held == nil {
		s.held = make(map[domain.KeyID]*sealing.DataKey, len(keys))
	}
	for _, k := range keys {
		s.held[k.ID] = k
	}
}

var errCannotSeal = domain.Errorf(domain.Unavailable, "the queue's messages are to be encrypted, and this server has no key for that")

// holds tells whether the key that a queue's messages are sealed with is held. The one that
// is remembered may be of the queue that had the name before.
func (s *sealed) holds(q queueState) bool {
	k := s.held[q.key]
	return k != nil && k.Queue.Number == q.State.Number
}

// seal seals posted messages with their queue's data key. The first ones make it; it is
// kept in the transaction that appends them.
func (s *State) seal(id domain.QueueID, posted domain.MessagesPosted) (domain.MessagesPosted, error) {
	q := s.queues[id]
	k := s.held[q.key]
	if k == nil || k.Queue.Number != posted.Number {
		if !s.keys.CanSeal() {
			return posted, errCannotSeal
		}
		var err error
		if k, err = s.keys.Make(sealing.Queue{Project: id.Project, Name: id.Name, Number: posted.Number}); err != nil {
			return posted, err
		}
		s.holdKeys(k)
		s.made = append(s.made, k)
		q.key = k.ID
		s.queues[id] = q
	}
	return posted.Seal(k.ID, k.Seal), nil
}

// checkOpens refuses to hand out messages that nobody here could open: a pop would lose
// them.
func (s *State) checkOpens(messages []domain.Message) error {
	for _, m := range messages {
		if m.Key != uuid.Nil && s.key(m.Key) == nil {
			s.locked = true
			return domain.Errorf(domain.Unavailable, "the queue's messages are encrypted with a key that this server does not have")
		}
	}
	return nil
}

// recallKeys holds the remembered data keys of queues that are posted to and encrypt. It
// tells whether those are all.
func (s *State) recallKeys(commands []*pending) bool {
	for _, p := range commands {
		if p.needs.Timeless && !s.recallKey(p.needs.Queue) {
			return false
		}
	}
	for _, id := range s.posts {
		if !s.recallKey(id) {
			return false
		}
	}
	return true
}

// recallKey holds the remembered data key of a queue, and tells whether it is held if it
// is needed.
func (s *State) recallKey(id domain.QueueID) bool {
	q := s.queues[id]
	if !q.State.Encrypts() {
		return true
	}
	if k := s.keys.Known(q.key); k != nil {
		s.holdKeys(k)
	}
	return s.holds(q)
}

// loadKeys finds the data keys that the decisions need, and asks the database for those
// alone that are not remembered.
func (e *Executor) loadKeys(ctx context.Context, w *work) error {
	if err := e.loadSealingKeys(ctx, w); err != nil {
		return err
	}
	if err := e.loadOpeningKeys(ctx, w.state); err != nil {
		return err
	}
	for _, p := range w.commands {
		if !p.needs.Keys {
			continue
		}
		keys, err := sealing.List(ctx, e.conn, p.needs.Queue.Project, p.needs.Queue.Name)
		if err != nil {
			return err
		}
		var there []domain.KeyID
		for _, k := range keys {
			if k.DestroyedAt.IsZero() {
				there = append(there, k.ID)
			}
		}
		if w.state.stored == nil {
			w.state.stored = map[domain.QueueID][]domain.KeyID{}
		}
		w.state.stored[p.needs.Queue] = there
	}
	return nil
}

// loadSealingKeys finds the keys of queues that are posted to. A queue that has none yet
// gets one when it is decided to post.
func (e *Executor) loadSealingKeys(ctx context.Context, w *work) error {
	if w.state.recallKeys(w.commands) || !e.Keys.CanSeal() {
		return nil
	}
	missing := map[int64]domain.QueueID{}
	var numbers []int64
	need := func(id domain.QueueID) {
		q := w.state.queues[id]
		if q.State.Encrypts() && !w.state.holds(q) && missing[q.State.Number] == (domain.QueueID{}) {
			missing[q.State.Number] = id
			numbers = append(numbers, q.State.Number)
		}
	}
	for _, p := range w.commands {
		if p.needs.Timeless {
			need(p.needs.Queue)
		}
	}
	for _, id := range w.state.posts {
		need(id)
	}
	found, err := e.Keys.OfQueues(ctx, e.conn, numbers)
	if err != nil {
		return err
	}
	for number, k := range found {
		q := w.state.queues[missing[number]]
		q.key = k.ID
		w.state.queues[missing[number]] = q
		w.state.holdKeys(k)
	}
	return nil
}

// loadOpeningKeys finds the keys of messages that may be handed out.
func (e *Executor) loadOpeningKeys(ctx context.Context, s *State) error {
	missing := s.recallOpeningKeys()
	if len(missing) == 0 {
		return nil
	}
	found, err := e.Keys.Find(ctx, e.conn, missing)
	if err != nil {
		return err
	}
	for _, k := range found {
		s.holdKeys(k)
	}
	return nil
}

// recallOpeningKeys holds the remembered data keys of messages that may be handed out, and
// returns those that are not remembered. Of a queue from which something may be taken those are
// the free messages, and what is free once a claim is given up.
func (s *State) recallOpeningKeys() (missing []domain.KeyID) {
	recall := func(messages []domain.Message) {
		for _, m := range messages {
			if m.Key == uuid.Nil || s.held[m.Key] != nil || slices.Contains(missing, m.Key) {
				continue
			}
			if k := s.keys.Known(m.Key); k != nil {
				s.holdKeys(k)
				continue
			}
			missing = append(missing, m.Key)
		}
	}
	for _, h := range s.hots {
		if h.free != nil {
			recall(h.free.Messages)
		}
	}
	for ref, claim := range s.claims {
		if s.free(ref.Queue) != nil {
			recall(claim.Messages)
		}
	}
	return missing
}

// keepKeys writes what the batch has done to data keys.
func (e *Executor) keepKeys(ctx context.Context, s *State) error {
	if len(s.made) > 0 {
		if err := e.Keys.Keep(ctx, e.conn, s.made); err != nil {
			return err
		}
	}
	if len(s.destroyed) > 0 {
		return sealing.Destroy(ctx, e.conn, s.destroyed)
	}
	return nil
}

// forgetDestroyed forgets what the batch has destroyed. Messages of any queue may have been
// sealed with it.
func (e *Executor) forgetDestroyed(s *State) {
	if len(s.destroyed) > 0 {
		e.forget()
	}
}

// forget forgets everything. A memory that knows no head is not told what others have
// destroyed, so keys are not remembered beyond one.
func (e *Executor) forget() {
	e.memory.forget()
	e.Keys.Forget()
}

// forgetKeys forgets data keys once others may have destroyed some.
func (e *Executor) forgetKeys(tail eventstore.Tail) {
	destroyed := func(t eventstore.TailEvent) bool { return t.Type == (domain.QueueKeysDestroyed{}).EventType() }
	if tail.Lost || slices.ContainsFunc(tail.Events, destroyed) {
		e.Keys.Forget()
	}
}

// DestroyKeys asks for the data keys of a queue to go, and of those that bore its name
// before, so that what was sealed with them can never be read again. The answer is the
// keys that were destroyed.
type DestroyKeys struct {
	Queue domain.QueueID
}

// Needs: the queue's keys.
func (c DestroyKeys) Needs() Needs { return Needs{Queue: c.Queue, Keys: true, Rank: Frees} }

// Decide destroys what there is. The rest of the batch seals nothing with it and hands out
// nothing that it has sealed.
func (c DestroyKeys) Decide(s *State, _ domain.Moment) ([]domain.KeyID, []domain.Event, error) {
	keys := s.stored[c.Queue]
	delete(s.stored, c.Queue) // once in a batch
	s.destroyed = append(s.destroyed, keys...)
	for _, id := range keys {
		delete(s.held, id)
	}
	for _, h := range s.hots {
		if h.free != nil {
			h.free.Messages = slices.DeleteFunc(h.free.Messages, func(m domain.Message) bool { return slices.Contains(keys, m.Key) })
		}
	}
	return keys, domain.DestroyKeys(c.Queue, keys), nil
}
