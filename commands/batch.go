package commands

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/postgres"
)

// work is a set of commands on its way into the ledger.
type work struct {
	commands []*pending
	bytes    int
	// complete: this is another try, or was left out of the last batch. No command is added, and it
	// goes the long way.
	complete bool
	// Of the last try: what was decided, and on what.
	state *State
	batch eventstore.Batch
	// uncertain: the last try was cut off when its batch may have been committed.
	uncertain bool
}

// carryOut brings commands into the ledger and answers their callers. If the
// database refuses the data, the batch is decided again in halves, until the one
// bad command stands alone. After any other failure it is tried whole once more, or, if it may
// be that what no client waits for has failed, that by itself and behind the rest. It returns why
// the commands could not be brought there, if it is not about one of them.
func (e *Executor) carryOut(w *work) (failure error) {
	began := time.Now()
	way, err := e.try(w)
	if err != nil && !postgres.IsBadData(err) {
		e.Log.Warn("batch failed, trying once more", "commands", len(w.commands), "reason", postgres.Reason(err), "error", err)
		w.complete = true
		e.freeLock(err)
		if clients, housework := w.apart(err); housework != nil {
			failure = e.carryOut(clients)
			_ = e.carryOut(housework)
			return failure
		}
		way, err = e.try(w)
	}
	if e.Observe != nil {
		e.Observe(BatchReport{
			Way: way, Commands: len(w.commands), Events: len(w.batch.Events),
			Took: time.Since(began), Head: e.memory.head.Position, Posted: w.posted(err), Err: err,
		})
	}
	switch {
	case err == nil:
		e.failing.Store(nil)
		e.News.told(w)
		for _, p := range w.commands {
			e.reply(p, p.err)
		}
	case postgres.IsBadData(err) && len(w.commands) > 1:
		half := len(w.commands) / 2
		return errors.Join(
			e.carryOut(&work{commands: w.commands[:half], complete: true}),
			e.carryOut(&work{commands: w.commands[half:], complete: true}),
		)
	case postgres.IsBadData(err):
		e.Log.Error("the database refuses a command's data", "error", err, "request_id", w.commands[0].request.Origin.RequestID)
		refused := domain.Errorf(domain.Invalid, "the request holds data that cannot be stored")
		if postgres.IsConstraint(err) { // no client can break one: that is nabu's fault
			refused = domain.Errorf(domain.Internal, "the ledger refuses what was decided")
		}
		e.reply(w.commands[0], refused)
	default:
		reason, answer := postgres.Reason(err), ErrUnreachable
		if postgres.NeedsOperator(err) {
			e.failing.Store(&failing{reason, time.Now()})
			if !postgres.IsLoginRefused(err) {
				answer = ErrUnwritable
			}
		}
		e.Log.Error("batch failed", "commands", len(w.commands), "reason", reason, "error", err)
		for _, p := range w.commands {
			e.reply(p, answer)
		}
		return err
	}
	return nil
}

// apart are the commands for which clients wait, and the others, each to be tried again. housework is
// nil where that does not help: all are of one sort, the server has not refused anything but is away, or
// the batch may have been committed.
func (w *work) apart(failure error) (clients, housework *work) {
	if w.uncertain || postgres.IsConnectionLost(failure) || postgres.IsNotConnected(failure) {
		return nil, nil
	}
	clients, housework = &work{complete: true}, &work{complete: true}
	for _, p := range w.commands {
		its := clients
		if p.needs.Housework {
			its = housework
		}
		its.commands = append(its.commands, p)
	}
	if len(clients.commands) == 0 || len(housework.commands) == 0 {
		return nil, nil
	}
	return clients, housework
}

// posted counts the messages that the batch has posted, unless it failed.
func (w *work) posted(failure error) map[domain.QueueID]int {
	if failure != nil {
		return nil
	}
	var counts map[domain.QueueID]int
	for _, e := range w.batch.Events {
		if posted, ok := e.Event.(domain.MessagesPosted); ok {
			if counts == nil {
				counts = map[domain.QueueID]int{}
			}
			counts[domain.QueueID{Project: posted.Project, Name: posted.Queue}] += len(posted.Messages)
		}
	}
	return counts
}

// stuckAfter is how long a holder of the lock may wait for its client before another
// replica ends it. Its own limits come first, but PostgreSQL does not apply them while
// it waits for the rest of a message.
const stuckAfter = 4 * time.Second

// freeLock ends the session that holds the ledger's lock when a batch has waited for
// it in vain and the session waits for a client that has gone silent.
func (e *Executor) freeLock(failure error) {
	if !postgres.IsUnavailable(failure) || postgres.IsConnectionLost(failure) {
		return
	}
	ended, err := eventstore.FreeLock(context.Background(), e.DB, stuckAfter)
	if err != nil {
		e.Log.Error("cannot look who holds the ledger's lock", "error", err)
	} else if ended > 0 {
		e.Log.Warn("ended a session that held the ledger's lock and had gone silent")
	}
}

// try carries the work out once, the short way where that can be. On failure
// nothing of it is in memory, and nothing in the ledger unless w.uncertain.
func (e *Executor) try(w *work) (Way, error) {
	ctx := context.Background() // a caller that goes away takes nobody with it
	if err := e.connect(ctx); err != nil {
		return NoWay, err
	}
	e.takeIn()
	if !w.complete && e.mayGoShort(w) {
		way, done, err := e.goShort(ctx, w)
		if done {
			return way, nil
		}
		if err != nil {
			return way, e.failed(err)
		}
	}
	way, err := e.goLong(ctx, w)
	if err != nil {
		return way, e.failed(err)
	}
	return way, nil
}

// connect makes sure of the executor's own connection and of room in the ledger.
func (e *Executor) connect(ctx context.Context) error {
	if err := e.dial(ctx); err != nil {
		return err
	}
	if err := e.makeRoom(ctx); err != nil {
		return e.failed(err)
	}
	return nil
}

func (e *Executor) dial(ctx context.Context) error {
	if e.conn != nil {
		return nil
	}
	conn, err := e.DB.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	e.conn, e.tx = conn, conn
	if e.Prepare {
		e.tx = postgres.NewPrepared(conn, e.unprepared)
	}
	return nil
}

// unprepared has statements sent as they are from now on.
func (e *Executor) unprepared(why error) {
	e.Prepare = false
	e.Log.Warn("PostgreSQL does not keep prepared statements from one request to the next, so a transaction pooler seems to stand before it; none are used from now on", "error", why)
}

// extendPause is how long to leave alone a ledger that could not be extended while
// it has room.
const extendPause = 10 * time.Second

// makeRoom makes partitions of the ledger half a partition ahead of the head.
// Every replica does it before it writes, so there is room also for one that has
// long been idle and believes in an old head.
func (e *Executor) makeRoom(ctx context.Context) (err error) {
	head := e.memory.head.Position
	if e.past == 0 {
		if head, e.past, err = eventstore.Room(ctx, e.conn); err != nil {
			return err
		}
	}
	hasRoom := head+2*maxBatch < e.past
	if head+e.PartitionSize/2 < e.past || hasRoom && time.Now().Before(e.extendAfter) {
		return nil
	}
	past, err := eventstore.Extend(ctx, e.conn, head+e.PartitionSize/2, e.PartitionSize)
	if err == nil {
		e.past = past
		return nil
	}
	if !hasRoom || postgres.IsConnectionLost(err) {
		return err
	}
	e.Log.Error("cannot extend the ledger, there is room left", "head", head, "room until", e.past, "error", err)
	e.extendAfter = time.Now().Add(extendPause)
	return nil
}

// failed throws the connection away, whatever state it is in: PostgreSQL rolls back
// what it leaves behind.
func (e *Executor) failed(err error) error {
	e.dropConn()
	return err
}

func (e *Executor) dropConn() {
	if e.conn == nil {
		return
	}
	discard(e.conn)
	e.conn, e.tx = nil, nil
	e.distrust()
}

// distrust has nothing used that may be of another server than the one that comes next. That may
// have fewer partitions; and what was loaded ahead, over the scout's connection, may have seen
// events that it never got: as long as it goes on from the same head, nothing else tells.
func (e *Executor) distrust() {
	e.past = 0
	e.scout.outdated = true
	e.memory.forgetHots()
}

// discard takes a connection out of its pool.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(c any) error {
		_ = c.(driver.Conn).Close() // before database/sql says goodbye to each prepared statement
		return driver.ErrBadConn
	})
	_ = conn.Close()
}

// decide makes the decisions one after the other, each on what the ones before it
// have made of the state. now is also the time that is given to the ledger; zero: it
// takes its own.
func (e *Executor) decide(w *work, head eventstore.Head, now time.Time) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make batch id: %w", err)
	}
	w.batch = eventstore.Batch{ID: id, Head: head, Now: now}
	w.orderReleases()
	position := head.Position + 1
	for _, p := range w.commands {
		if p.answered {
			continue
		}
		var events []domain.Event
		events, p.err = e.decideOne(p, w.state, domain.Moment{Position: position, Time: now})
		if p.err != nil {
			continue
		}
		var causes []int
		if len(events) > 1 {
			causes = domain.Causes(events)
		}
		first := len(w.batch.Events)
		for i, event := range events {
			recorded := eventstore.NewEvent{Event: event, Origin: w.state.originOf(event, p.request.Origin)}
			if causes != nil && causes[i] >= 0 {
				recorded.Origin, recorded.CausedBefore = w.batch.Events[first+causes[i]].Origin, i-causes[i]
			}
			recorded.Version = w.state.record(position, event)
			w.batch.Events = append(w.batch.Events, recorded)
			position++
		}
	}
	return nil
}

// orderReleases has claims given up last in queues with a dead letter queue. What they free
// might have to be moved by a claim, and its body is not at hand.
func (w *work) orderReleases() {
	last := func(p *pending) int {
		if p.needs.Claim == (domain.ClaimID{}) {
			return 0
		}
		if most, _ := w.state.Queue(p.needs.Queue).DeadLettering(); most == 0 {
			return 0
		}
		return 1
	}
	if slices.ContainsFunc(w.commands, func(p *pending) bool { return last(p) > 0 }) {
		slices.SortStableFunc(w.commands, func(a, b *pending) int { return cmp.Compare(last(a), last(b)) })
	}
}

// decideOne makes one decision. A decision that panics concerns its command only.
func (e *Executor) decideOne(p *pending, s *State, at domain.Moment) (events []domain.Event, err error) {
	defer func() {
		if problem := recover(); problem != nil {
			e.Log.Error("a decision panicked", "panic", problem, "stack", string(debug.Stack()))
			events, err = nil, domain.Errorf(domain.Internal, "a decision panicked")
		}
	}()
	return p.decide(s, at)
}
