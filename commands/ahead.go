package commands

import (
	"context"
	"database/sql"
	"time"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/postgres"
)

// Free messages run low when there are fewer of them in memory than the next two batches will
// want, if those are like the last one; within these bounds, in messages and in bytes of bodies.
// A load takes about as long as a batch.
const (
	minLow      = 100
	maxLow      = 200
	maxLowBytes = 128 << 10
)

// Bounds of what may come to stand behind them during a load, in messages and in bytes of bodies.
const (
	maxAdded      = maxHotFree
	maxAddedBytes = 256 << 10
)

// maxAheadQueues bounds the queues of a load. The others have their turn when they are claimed from
// again, or load what they want themselves.
const maxAheadQueues = 16

// aheadPause is how long nothing is loaded ahead once that has failed.
const aheadPause = 10 * time.Second

// ahead is what happens behind the known free messages of a queue while those that stand
// there are being loaded. The load may have seen it or not.
type ahead struct {
	added      []domain.Message
	addedBytes int
	// spoiled: what is loaded cannot be used. A message was taken away there, which may have
	// been seen before; or too much has happened.
	spoiled bool
}

func (a *ahead) add(m domain.Message) {
	if a.spoiled {
		return
	}
	a.added = append(a.added, m)
	a.addedBytes += len(m.Body)
	if len(a.added) > maxAdded || a.addedBytes > maxAddedBytes {
		a.spoil()
	}
}

func (a *ahead) spoil() { *a = ahead{spoiled: true} }

// scout loads the free messages that the next claims will want while batches go on, over a
// connection of its own. It does one load at a time.
type scout struct {
	load *load // under way, or not yet taken in; nil: none
	// outdated: the connection may lead elsewhere than the executor's own.
	outdated bool
	// notBefore: nothing is loaded until then, since that has failed (aheadPause).
	notBefore time.Time
	// Only the load that is under way uses what follows.
	conn *sql.Conn
	tx   eventstore.Tx
}

// load is a load of free messages of some queues.
type load struct {
	head   eventstore.Head // of the ledger when it began: what is found must be no older
	needs  []domain.AheadNeed
	at     time.Time
	behind map[domain.QueueID]*ahead
	// found gets what was found; nil: the load failed.
	found chan map[domain.QueueID]domain.FreeMessages
}

// lookAhead begins to load what the next claims will want of the queues that a batch took
// messages from, where they run low.
func (e *Executor) lookAhead(w *work) {
	if e.Ahead == nil || e.scout.load != nil || time.Now().Before(e.scout.notBefore) {
		return
	}
	l := &load{
		head: e.memory.head, at: w.state.now, behind: map[domain.QueueID]*ahead{},
		found: make(chan map[domain.QueueID]domain.FreeMessages, 1),
	}
	for _, need := range w.freeNeeds() {
		h := e.memory.hots[need.Queue]
		if need.MostClaims > 0 || h == nil || !h.runsLow(need.Want) || len(l.needs) == maxAheadQueues {
			continue
		}
		h.free.ahead = &ahead{}
		l.behind[need.Queue] = h.free.ahead
		l.needs = append(l.needs, domain.AheadNeed{Queue: need.Queue, Number: need.Number, From: h.free.Beyond})
	}
	if len(l.needs) == 0 {
		return
	}
	if e.scout.outdated {
		e.scout.drop()
	}
	e.scout.load, e.scout.outdated = l, false
	prepare := e.Prepare
	go func() { l.found <- e.scouted(l, prepare) }()
}

// runsLow tells whether there will soon be too few free messages in memory for batches that
// want so many, while there may be more.
func (h *hotQueue) runsLow(want int) bool {
	if h.free == nil || h.free.Beyond == 0 || h.free.ahead != nil || len(h.free.Messages) >= max(minLow, min(2*want, maxLow)) {
		return false
	}
	_, bytes := h.size()
	return bytes < maxLowBytes
}

// scouted carries a load out. If it fails, whoever wants the messages loads them.
func (e *Executor) scouted(l *load, prepare bool) map[domain.QueueID]domain.FreeMessages {
	ctx, s := context.Background(), &e.scout
	if s.conn == nil {
		conn, err := e.Ahead.Conn(ctx)
		if err != nil {
			e.Log.Warn("cannot load messages ahead", "error", err)
			return nil
		}
		s.conn, s.tx = conn, conn
		if prepare {
			s.tx = postgres.NewPrepared(conn, func(error) {}) // the executor's own says so
		}
	}
	found, err := e.Loader.FreeAhead(ctx, s.tx, l.head, l.needs, l.at)
	if err != nil {
		e.Log.Warn("cannot load messages ahead", "error", err)
		s.drop()
		return nil
	}
	return found
}

// drop throws the connection away.
func (s *scout) drop() {
	if s.conn != nil {
		discard(s.conn)
		s.conn, s.tx = nil, nil
	}
}

// end waits for the load that is under way and gives up the connection.
func (s *scout) end() {
	if s.load != nil {
		<-s.load.found
		s.load = nil
	}
	s.drop()
}

// takeIn remembers what was loaded ahead, once it is there.
func (e *Executor) takeIn() {
	l := e.scout.load
	if l == nil {
		return
	}
	select {
	case found := <-l.found:
		e.scout.load = nil
		if found == nil {
			e.scout.notBefore = time.Now().Add(aheadPause)
		}
		for id, a := range l.behind {
			e.memory.extend(id, a, found)
		}
	default:
	}
}

// extend puts free messages that were found behind those that are known of a queue to them,
// unless these are no more what they were when the load began.
func (m *memory) extend(id domain.QueueID, a *ahead, found map[domain.QueueID]domain.FreeMessages) {
	h := m.hots[id]
	if h == nil || h.free == nil || h.free.ahead != a {
		return
	}
	h.free.ahead = nil
	if free, loaded := found[id]; loaded && !a.spoiled {
		m.dropHot(id)
		h.free.extend(free, a.added)
		m.putHot(id, h)
	}
}

// extend puts to the free messages those that were found behind them, and those that have come
// to stand there meanwhile. When something becomes free by itself is known of the whole queue
// before that.
func (f *freeState) extend(found domain.FreeMessages, added []domain.Message) {
	f.Messages = append(f.Messages, found.Messages...)
	f.Beyond = found.Beyond
	for _, m := range added {
		f.add(m)
	}
}
