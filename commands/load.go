package commands

import (
	"context"
	"time"

	"nabu/domain"
)

// load fills the state with what the commands need: the queues from memory where they
// are remembered, and the rest of each kind in one round trip if it is needed.
func (e *Executor) load(ctx context.Context, w *work, now time.Time) error {
	w.state = newState(e.Config)
	w.state.now = now
	if err := e.loadQueues(ctx, w, w.queues()); err != nil {
		return err
	}
	if err := e.loadQueues(ctx, w, w.deadLetterQueues()); err != nil {
		return err
	}
	if needs := w.messageNeeds(); !needs.Empty() {
		err := w.loadMessages(needs, func() (domain.LoadedMessages, error) { return e.Loader.Messages(ctx, e.tx, needs, now) })
		if err != nil {
			return err
		}
	}
	// Each looks at what those before it have found.
	for _, load := range []func(context.Context, *work) error{
		e.loadTasks, e.loadPosts, e.loadServers, e.loadSweeps, e.loadSubscriptions, e.loadShares, e.loadKeys, e.loadUserMessages,
		e.findAnswers, e.reserveReported,
	} {
		if err := load(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// queues are those that the commands are about.
func (w *work) queues() []domain.QueueID {
	ids := make([]domain.QueueID, 0, len(w.commands))
	for _, p := range w.commands {
		if p.needs.Queue != (domain.QueueID{}) {
			ids = append(ids, p.needs.Queue)
		}
	}
	return ids
}

// timeless tells whether the time plays no role, nor what has become of messages.
func (w *work) timeless() bool {
	for _, p := range w.commands {
		if !p.needs.Timeless {
			return false
		}
	}
	return true
}

// deadLetterQueues are those that claims of the batch may move messages to.
func (w *work) deadLetterQueues() []domain.QueueID {
	var ids []domain.QueueID
	for _, p := range w.commands {
		if p.needs.Free > 0 {
			if most, target := w.state.Queue(p.needs.Queue).DeadLettering(); most > 0 {
				ids = append(ids, domain.QueueID{Project: p.needs.Queue.Project, Name: target})
			}
		}
	}
	return ids
}

func (e *Executor) loadQueues(ctx context.Context, w *work, ids []domain.QueueID) error {
	missing := e.memory.recall(ids, w.state)
	if len(missing) == 0 {
		return nil
	}
	queues, err := e.Loader.Queues(ctx, e.conn, missing)
	if err != nil {
		return err
	}
	for id, q := range queues {
		w.state.queues[id] = queueState{Versioned: q}
	}
	return nil
}

// loadMessages loads messages, and more of the free ones again where deletions of the batch would
// leave too few: the needs are changed to say so. That comes to an end with what is named.
func (w *work) loadMessages(needs domain.MessageNeeds, load func() (domain.LoadedMessages, error)) error {
	wanted := make([]int, len(needs.Free))
	for i, need := range needs.Free {
		wanted[i] = need.Want
	}
	for more := true; more; {
		loaded, err := load()
		if err != nil {
			return err
		}
		w.state.take(loaded)
		more = false
		named := w.state.namedFree()
		for i := range needs.Free {
			need := &needs.Free[i]
			want := wanted[i] + named[need.Queue]
			if want > need.Want && !w.state.free(need.Queue).offers(want, need.MostClaims) {
				need.Want, more = want, true
			}
		}
	}
	return nil
}

// take puts in messages that were loaded. What was known before of free ones is replaced.
func (s *State) take(loaded domain.LoadedMessages) {
	s.messages, s.live, s.claims = loaded.Named, loaded.Live, loaded.Claims
	for id, found := range loaded.Free {
		s.hot(id).free = &freeState{FreeMessages: found, room: len(found.Messages)}
	}
}

// messageNeeds are all the messages that the commands need. A queue that is not there
// has none.
func (w *work) messageNeeds() domain.MessageNeeds {
	needs := domain.MessageNeeds{Free: w.freeNeeds()}
	for _, p := range w.commands {
		q := w.state.Queue(p.needs.Queue)
		if !q.Exists() {
			continue
		}
		for _, id := range p.needs.Messages {
			needs.Named = append(needs.Named, domain.MessageNeed{
				MessageRef: domain.MessageRef{Queue: p.needs.Queue, ID: id}, Claim: p.needs.Named,
				Number: q.Number, Purged: q.Purged,
			})
		}
		if p.needs.Claim != (domain.ClaimID{}) {
			needs.Claims = append(needs.Claims, domain.ClaimNeed{
				ClaimRef: domain.ClaimRef{Queue: p.needs.Queue, ID: p.needs.Claim}, Number: q.Number, Purged: q.Purged,
			})
		}
	}
	return needs
}

// freeNeeds are the queues whose free messages are needed.
func (w *work) freeNeeds() (needs []domain.FreeNeed) {
	wants := map[domain.QueueID]int{}
	for _, p := range w.commands {
		if p.needs.Free > 0 {
			wants[p.needs.Queue] += p.needs.Free
		}
	}
	for id, want := range wants {
		if q := w.state.queues[id]; q.State.Exists() {
			most, _ := q.State.DeadLettering()
			if w.state.rules.HandsOut(id) {
				want += handOutSpare
			}
			needs = append(needs, domain.FreeNeed{
				Queue: id, Number: q.State.Number, Purged: q.State.Purged, Mark: q.mark, Want: want, MostClaims: most,
			})
		}
	}
	return needs
}
