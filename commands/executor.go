package commands

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/postgres"
	"nabu/internal/sealing"
)

// Projector writes the read models that clients read right after their own writes.
type Projector interface {
	// Apply writes what recorded events change, in their transaction, with one
	// statement for each kind of change.
	Apply(ctx context.Context, tx eventstore.Tx, events []eventstore.RecordedEvent) error
	// AppendAndApply writes a batch and what it changes in one round trip, if it is
	// made of events it can do that for: otherwise covered is false and nothing was
	// done. It fails with eventstore.ErrStale when the batch's head is not the
	// ledger's. Outside a transaction it commits.
	AppendAndApply(ctx context.Context, tx eventstore.Tx, b *eventstore.Batch) (at time.Time, covered bool, err error)
	// Covers tells whether AppendAndApply can write these events.
	Covers(events []eventstore.NewEvent) bool
}

// Bounds of a batch and of the waiting line, in commands and in bytes. The line has room for
// two rushes of ten thousand; it is over within seconds.
const (
	maxBatch        = 500
	maxBatchBytes   = 4 << 20
	maxWaiting      = 20_000
	maxWaitingBytes = 64 << 20
)

// longestLine is how long a command may stand in line. A batch that gets no answer may take half a
// minute, and who waits for two of them would be hung up on before there is an answer.
const longestLine = 20 * time.Second

// What any request is refused for that may well be made again a little later.
var (
	ErrUnreachable = domain.Errorf(domain.Unavailable, postgres.Unreachable)
	ErrUnwritable  = domain.Errorf(domain.Unavailable, "the database cannot be written to")
	ErrCrowded     = domain.Errorf(domain.Unavailable, "too many requests are waiting")
)

// Config is what an executor is made of.
type Config struct {
	// DB is where the executor gets its one connection from. Batches have no caller's
	// context and no deadline: that the database answers at all is the pool's business
	// (postgres.OpenWriter).
	DB *sql.DB
	// Prepare: the statements that all batches need are prepared, since no pooler gives out
	// the connections of DB by the transaction (postgres.Prepared).
	Prepare bool
	// Ahead is where the messages that the next claims will want are loaded from while batches
	// go on, over one connection; nil: they are loaded when they are wanted.
	Ahead     *sql.DB
	Loader    Loader
	Projector Projector
	Limits    domain.Limits
	// Tasks are the rules of those that claims and pops hand out; without a service
	// project: domain.DefaultTaskRules.
	Tasks domain.TaskRules
	// UserMessages are the rules of those that tell of failures of tasks.
	UserMessages domain.UserMessageRules
	// Keys seal what is posted to queues that encrypt; nil: none does.
	Keys *sealing.Keys
	Log  *slog.Logger
	// Now is the clock of tests; nil: the database's. A clock that stands still is
	// moved on by a microsecond for each batch.
	Now func() time.Time
	// Observe is told of each batch; nil: nobody is.
	Observe func(BatchReport)
	// News is told which queues may have something for those who wait; nil: nobody waits.
	News *News
	// Recent is told of each batch that is committed; nil: nobody here follows the ledger.
	Recent *eventstore.Recent
	// PartitionSize of the ledger, in positions; 0: eventstore.PartitionSize.
	PartitionSize int64
}

// Way is how a batch was written.
type Way string

// The ways.
const (
	ShortWay Way = "short" // decided without the lock, written in one round trip
	LongWay  Way = "long"  // lock, load, decide, write, commit
	NoWay    Way = "none"  // nothing was decided: no flush
)

// BatchReport is what happened to one batch.
type BatchReport struct {
	Way      Way
	Commands int
	Events   int
	Took     time.Duration
	Head     int64 // position of the ledger's head afterwards
	// Posted is how many messages were posted, by queue.
	Posted map[domain.QueueID]int
	Err    error
}

// Executor decides commands in batches. One goroutine does it; another executor,
// in this process or elsewhere, may work on the same ledger.
type Executor struct {
	Config
	line    chan *pending
	stopped chan struct{}

	failing atomic.Pointer[failing] // why the last batch failed; nil: it did not

	mu           sync.Mutex
	closed       bool
	waitingBytes int
	inFlight     map[eventstore.IdempotencyKey]bool

	// Only the executor's goroutine uses what follows.
	conn   *sql.Conn
	tx     eventstore.Tx // conn, or a way to have what all batches need prepared
	memory *memory
	// postponed are claims and pops that the last batch has left out.
	postponed []*pending
	scout     scout
	clock     clock
	alone     bool  // nobody else wrote between the last two batches, as far as is known
	past      int64 // the first position the ledger has no room for; 0: unknown
	// extendAfter: not before this time is the ledger extended again.
	extendAfter time.Time
}

// pending is a command and its caller.
type pending struct {
	ctx     context.Context
	request Request
	needs   Needs
	// decide makes the decision and keeps the answer for the caller.
	decide func(s *State, at domain.Moment) ([]domain.Event, error)
	// answer and restore are the caller's answer as it is kept for its key.
	answer  func() (json.RawMessage, error)
	restore func(json.RawMessage) error

	since time.Time // it stands in line
	// parted: it has left the line, or never will: it was taken, or given up by its caller,
	// whoever was first.
	parted atomic.Bool

	err      error
	answered bool // before it was decided: by what is kept for its key, or refused as coming too late
	done     chan struct{}
}

// NewExecutor starts an executor. Close ends it.
func NewExecutor(cfg Config) *Executor {
	if cfg.PartitionSize == 0 {
		cfg.PartitionSize = eventstore.PartitionSize
	}
	if cfg.Tasks.ServiceProject == "" {
		cfg.Tasks = domain.DefaultTaskRules()
	}
	if cfg.UserMessages.Catalogue == nil {
		cfg.UserMessages = domain.DefaultUserMessageRules()
	}
	e := &Executor{
		Config:   cfg,
		line:     make(chan *pending, maxWaiting),
		stopped:  make(chan struct{}),
		inFlight: map[eventstore.IdempotencyKey]bool{},
		memory:   newMemory(),
	}
	go e.loop()
	return e
}

// Close lets no further command in, decides those that wait, and stops. It waits
// no longer than ctx.
func (e *Executor) Close(ctx context.Context) error {
	e.mu.Lock()
	if !e.closed {
		e.closed = true
		close(e.line)
	}
	e.mu.Unlock()
	select {
	case <-e.stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("drain the commands: %w", ctx.Err())
	}
}

// failing is why a batch failed that those who operate nabu have to look after.
type failing struct {
	reason string
	at     time.Time
}

// failingHolds is how long a failed batch speaks for those to come. Afterwards another has to
// find out, for whoever is not ready may be sent none.
const failingHolds = 30 * time.Second

// Failing tells why the last batch could not be written, for those who operate nabu; empty: it
// was, or that was long ago.
func (e *Executor) Failing() string {
	if f := e.failing.Load(); f != nil && time.Since(f.at) < failingHolds {
		return f.reason
	}
	return ""
}

// Waiting is how many commands wait to be decided.
func (e *Executor) Waiting() int { return len(e.line) }

// Run hands a command to the executor and waits until what it decided is committed.
// It refuses with domain.Unavailable when the waiting line is full, the executor
// is closed or the database cannot be reached; with domain.KeyInUse or
// domain.KeyReused because of the request's idempotency key; or as the decision
// does. When ctx ends while the command waits in line, it is given up, and the error is
// that of ctx. Once it was taken, its answer is waited for whatever becomes of ctx: who has
// stopped listening may still read, and an answer must not say less than what was done.
func Run[R any](ctx context.Context, e *Executor, cmd Command[R]) (R, error) {
	var result, none R
	p := &pending{ctx: ctx, request: requestOf(ctx), needs: cmd.Needs(), done: make(chan struct{})}
	p.decide = func(s *State, at domain.Moment) (events []domain.Event, err error) {
		result, events, err = cmd.Decide(s, at)
		return events, err
	}
	p.answer = func() (json.RawMessage, error) { return json.Marshal(result) }
	p.restore = func(kept json.RawMessage) error { return json.Unmarshal(kept, &result) }
	if err := e.enqueue(p); err != nil {
		return none, err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		if p.parted.CompareAndSwap(false, true) {
			return none, ctx.Err()
		}
		<-p.done
	}
	if p.err != nil {
		return none, p.err
	}
	if p.answered && p.request.Replayed != nil {
		p.request.Replayed()
	}
	return result, nil
}

// enqueue puts a command into the waiting line.
func (e *Executor) enqueue(p *pending) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	key, hasKey := p.key()
	switch {
	case e.closed:
		return domain.Errorf(domain.Unavailable, "the service is stopping")
	case hasKey && e.inFlight[key]:
		return domain.Errorf(domain.KeyInUse, "the first request with this Idempotency-Key is still being carried out")
	case e.waitingBytes+p.needs.Size > maxWaitingBytes && e.waitingBytes > 0:
		return ErrCrowded
	}
	p.since = time.Now()
	select {
	case e.line <- p:
	default:
		return ErrCrowded
	}
	e.waitingBytes += p.needs.Size
	if hasKey {
		e.inFlight[key] = true
	}
	return nil
}

func (p *pending) key() (eventstore.IdempotencyKey, bool) {
	return eventstore.IdempotencyKey{Project: p.request.Origin.Project, Key: p.request.IdempotencyKey},
		p.request.IdempotencyKey != ""
}

// reply gives a command's caller its answer, or why there is none.
func (e *Executor) reply(p *pending, err error) {
	if key, hasKey := p.key(); hasKey {
		e.mu.Lock()
		delete(e.inFlight, key)
		e.mu.Unlock()
	}
	p.err = err
	close(p.done)
}

// loop takes whatever waits and carries it out; while one batch commits, the next
// one gathers.
func (e *Executor) loop() {
	defer close(e.stopped)
	defer e.dropConn()
	defer e.scout.end()
	var own thread
	for first := range e.line {
		w := &work{}
		e.take(w, first)
		e.gather(w)
		var failure error
		if len(w.commands) > 0 {
			failure = e.carryOut(w)
		}
		e.carryOutPostponed(failure)
		own.keep(len(e.line) > 0)
	}
}

// carryOutPostponed carries out what the last batch has left out. If that was not written, nor will
// this be, and its callers have waited for as long as the others.
func (e *Executor) carryOutPostponed(failure error) {
	if e.postponed == nil {
		return
	}
	late := &work{complete: true}
	for _, p := range e.postponed {
		if failure != nil || p.late() {
			e.reply(p, ErrUnreachable)
		} else {
			late.commands = append(late.commands, p)
		}
	}
	e.postponed = nil
	if len(late.commands) > 0 {
		_ = e.carryOut(late)
	}
}

// late tells whether a command has stood in line for too long.
func (p *pending) late() bool { return time.Since(p.since) > longestLine }

// gather adds all commands that wait, up to the bounds of a batch.
func (e *Executor) gather(w *work) {
	for len(w.commands)+len(e.postponed) < maxBatch && w.bytes < maxBatchBytes && len(e.line) > 0 {
		p, open := <-e.line
		if !open {
			break
		}
		e.take(w, p)
	}
	slices.SortStableFunc(w.commands, func(a, b *pending) int { return cmp.Compare(a.needs.Rank, b.needs.Rank) })
	e.postpone(w)
}

// postpone leaves out claims and pops of queues whose rules the batch changes, and all of them when
// it destroys keys: what they need is loaded by the rules that were. They are a batch by themselves
// right behind this one, so nobody can hold them up; both together are no larger than one may be.
func (e *Executor) postpone(w *work) {
	all, queues := false, map[domain.QueueID]bool(nil)
	for _, p := range w.commands {
		all = all || p.needs.Keys
		if p.needs.Unsettles {
			if queues == nil {
				queues = map[domain.QueueID]bool{}
			}
			queues[p.needs.Queue] = true
		}
	}
	if !all && queues == nil {
		return
	}
	w.commands = slices.DeleteFunc(w.commands, func(p *pending) bool {
		late := p.needs.Free > 0 && (all || queues[p.needs.Queue])
		if late {
			e.postponed = append(e.postponed, p)
		}
		return late
	})
}

// take adds the command that is next in line. One whose caller has left is dropped, and one that has
// stood there for too long is refused.
func (e *Executor) take(w *work, p *pending) {
	e.mu.Lock()
	e.waitingBytes -= p.needs.Size
	e.mu.Unlock()
	if err := p.ctx.Err(); err != nil || !p.parted.CompareAndSwap(false, true) {
		e.reply(p, err)
		return
	}
	if p.late() {
		e.reply(p, ErrUnreachable)
		return
	}
	w.bytes += p.needs.Size
	w.commands = append(w.commands, p)
}
