package commands

import (
	"context"
	"database/sql"
	"time"

	"nabu/domain"
	"nabu/eventstore"
)

// load fills the state with what the commands need: the queues from memory where they
// are remembered, and each kind of other state in one round trip if it is needed.
// Where messages were loaded ahead, the queues were known as well.
func (e *Executor) load(ctx context.Context, w *work, a *ahead, now time.Time) error {
	if a != nil {
		w.state = a.state
		w.state.now = now
		w.state.take(a.loaded)
	} else {
		w.state = newState(e.Limits)
		w.state.now = now
		if err := e.loadQueues(ctx, w, w.queues()); err != nil {
			return err
		}
		if err := e.loadQueues(ctx, w, w.deadLetterQueues()); err != nil {
			return err
		}
		if err := e.loadMessages(ctx, w, now); err != nil {
			return err
		}
	}
	if err := e.loadClaims(ctx, w, now); err != nil {
		return err
	}
	if err := e.loadSweeps(ctx, w, now); err != nil {
		return err
	}
	return e.findAnswers(ctx, w, now)
}

// ahead is what a batch has loaded in the round trip that takes the lock.
type ahead struct {
	state     *State
	loaded    domain.LoadedMessages
	statement string
	scan      func(*sql.Rows) error
}

// lookAhead prepares to load messages together with the lock, if memory holds the
// queues that they are to be found by. That is of use only if memory turns out to be up
// to date, which is likely while nobody else writes.
func (e *Executor) lookAhead(w *work) *ahead {
	if w.complete || !e.memory.known || !e.alone {
		return nil
	}
	e.gather(w)
	w.state = newState(e.Limits)
	if len(e.memory.recall(w.queues(), w.state)) > 0 || len(e.memory.recall(w.deadLetterQueues(), w.state)) > 0 {
		return nil
	}
	needs, free := w.messageNeeds(), w.freeNeeds()
	if len(needs)+len(free) == 0 {
		return nil
	}
	at := eventstore.BatchTime
	if e.Now != nil {
		at = "'" + after(e.memory.head, e.Now()).Format(time.RFC3339Nano) + "'"
	}
	a := &ahead{state: w.state}
	a.statement, a.scan = e.Loader.MessagesAhead(needs, free, at, &a.loaded)
	return a
}

// queues are those that the commands are about.
func (w *work) queues() []domain.QueueID {
	ids := make([]domain.QueueID, len(w.commands))
	for i, p := range w.commands {
		ids[i] = p.needs.Queue
	}
	return ids
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

// loadMessages finds the messages that are asked for by name, and the free ones, for
// all claims and pops of the batch together.
func (e *Executor) loadMessages(ctx context.Context, w *work, now time.Time) error {
	needs, free := w.messageNeeds(), w.freeNeeds()
	if len(needs)+len(free) == 0 {
		return nil
	}
	loaded, err := e.Loader.Messages(ctx, e.conn, needs, free, now)
	if err != nil {
		return err
	}
	w.state.take(loaded)
	return nil
}

// take puts in messages that were loaded.
func (s *State) take(loaded domain.LoadedMessages) {
	s.messages, s.live = loaded.Messages, loaded.Live
	for id, found := range loaded.Free {
		s.free[id].FreeMessages = found
	}
}

func (w *work) messageNeeds() (needs []domain.MessageNeed) {
	for _, p := range w.commands {
		q := w.state.Queue(p.needs.Queue)
		if !q.Exists() {
			continue
		}
		for _, id := range p.needs.Messages {
			needs = append(needs, domain.MessageNeed{
				MessageRef: domain.MessageRef{Queue: p.needs.Queue, ID: id}, Claim: p.needs.Named,
				Number: q.Number, Purged: q.Purged,
			})
		}
	}
	return needs
}

// freeNeeds are the queues whose free messages are needed. One that is not there has
// none.
func (w *work) freeNeeds() (needs []domain.FreeNeed) {
	wants := map[domain.QueueID]int{}
	for _, p := range w.commands {
		if p.needs.Free > 0 {
			wants[p.needs.Queue] += p.needs.Free
		}
	}
	w.state.free = make(map[domain.QueueID]*freeState, len(wants))
	for id, want := range wants {
		w.state.free[id] = &freeState{}
		if q := w.state.queues[id]; q.State.Exists() {
			most, _ := q.State.DeadLettering()
			needs = append(needs, domain.FreeNeed{
				Queue: id, Number: q.State.Number, Purged: q.State.Purged, Mark: q.mark, Want: want, MostClaims: most,
			})
		}
	}
	return needs
}

func (e *Executor) loadClaims(ctx context.Context, w *work, now time.Time) (err error) {
	var refs []domain.ClaimRef
	for _, p := range w.commands {
		if p.needs.Claim != (domain.ClaimID{}) {
			refs = append(refs, domain.ClaimRef{Queue: p.needs.Queue, ID: p.needs.Claim})
		}
	}
	if len(refs) > 0 {
		w.state.claims, err = e.Loader.Claims(ctx, e.conn, refs, now)
	}
	return err
}
