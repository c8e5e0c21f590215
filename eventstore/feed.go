package eventstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/cenkalti/backoff/v5"
)

// FeedConfig is what a feed is made of.
type FeedConfig struct {
	// DB is where each reader takes a connection for itself, and keeps it while it is
	// the active one of its consumer. It needs room for one connection for each consumer
	// and one more. It must lead to PostgreSQL directly: through a pooler that gives out
	// connections by the transaction, several readers would be active at once.
	DB  *sql.DB
	Log *slog.Logger
	// From says where a consumer begins when it subscribes for the first time ever. Those
	// that are not named begin with the first event.
	From map[string]Start
	// Types are the types of events that a consumer wants; PostgreSQL passes over the
	// others. Consumers that are not named get all.
	Types map[string][]string
	// Poll is how often an idle reader looks for events, and how often one that is not
	// active tries to become so; 0: DefaultPoll. Wake shortens the first wait, not the
	// second.
	Poll time.Duration
	// Rest is how long a reader that has read all leaves the database alone at least,
	// however often it is woken; 0: DefaultRest.
	Rest time.Duration
	// MaxPause bounds the pauses before a slice is delivered again after a Nack and before
	// the database is asked again after a failure; 0: DefaultMaxPause. They begin with
	// MinPause, unless MaxPause is less, each is half as long again as the one before, and
	// chance makes each up to half longer or shorter.
	MaxPause time.Duration
	// Drain is how long the handling of a message may go on after the end of its
	// reader, before its context ends; 0: DefaultDrain.
	Drain time.Duration
	// MaxEvents bounds a slice; 0: SliceEvents.
	MaxEvents int
	// MaxBytes bounds the data and bodies of a slice's events without its last one, so
	// that any event fits; 0: SliceBytes.
	MaxBytes int
}

// What a feed is made of when nothing else is said.
const (
	DefaultPoll     = 500 * time.Millisecond
	DefaultRest     = 20 * time.Millisecond
	MinPause        = 50 * time.Millisecond
	DefaultMaxPause = 30 * time.Second
	DefaultDrain    = 5 * time.Second
	SliceEvents     = 500
	SliceBytes      = 1 << 20
)

// Feed is the ledger as a Subscriber of watermill. A topic is the name of a consumer,
// and each message is a slice of the history after that consumer's checkpoint.
type Feed struct {
	FeedConfig

	mu      sync.Mutex
	closed  bool
	readers map[*reader]context.CancelFunc
	running sync.WaitGroup
}

var _ message.Subscriber = (*Feed)(nil)

// NewFeed makes a feed. Close ends it.
func NewFeed(cfg FeedConfig) *Feed {
	orDefault(&cfg.Poll, DefaultPoll)
	orDefault(&cfg.Rest, DefaultRest)
	orDefault(&cfg.MaxPause, DefaultMaxPause)
	orDefault(&cfg.Drain, DefaultDrain)
	orDefault(&cfg.MaxEvents, SliceEvents)
	orDefault(&cfg.MaxBytes, SliceBytes)
	return &Feed{FeedConfig: cfg, readers: map[*reader]context.CancelFunc{}}
}

func orDefault[N int | time.Duration](setting *N, value N) {
	if *setting == 0 {
		*setting = value
	}
}

// Slice is a piece of the history as one message carries it.
type Slice struct {
	Consumer string `json:"consumer"`
	From     int64  `json:"from"` // the checkpoint before the slice
	To       int64  `json:"to"`   // the checkpoint after it
	// Events are all with From < position <= To that the consumer wants, in order, at
	// least one. They are not to be changed: another delivery may carry the same.
	Events []RecordedEvent `json:"-"`
}

type sliceKey struct{}

// SliceOf is the slice that a message of a feed carries in its context; false for any
// other message, and for a copy without the context.
func SliceOf(msg *message.Message) (Slice, bool) {
	slice, ok := msg.Context().Value(sliceKey{}).(Slice)
	return slice, ok
}

// ErrFeedClosed: nobody can subscribe to a feed that was closed.
var ErrFeedClosed = errors.New("the feed is closed")

// Subscribe delivers the history after a consumer's checkpoint, slice by slice, in
// order and without a gap, until ctx ends or the feed is closed; then the channel is
// closed. A consumer without a checkpoint gets it before Subscribe returns, which is
// when Subscribe fails if the database cannot be reached; later failures are logged, and
// the reader tries again.
//
// One message is outstanding at a time. Its payload is the slice as JSON, without the
// events; SliceOf has them. Ack moves the checkpoint to the slice's end, if it is still
// at its beginning. Otherwise somebody else has moved it, such as a handler by
// MoveCheckpoint in its own transaction, and the feed goes on from where it is. Nack
// delivers the same slice again after a pause, unless the checkpoint has moved. So each
// event is delivered at least once, and again only when it was not acknowledged, when
// the Ack could not be written down, or when somebody sends the consumer back.
//
// Of all readers of one consumer, in whatever process, one is active: the one whose
// session holds the consumer's lock. If it loses its connection, another may become
// active and get a slice that is still being handled here; only one of them moves the
// checkpoint.
//
// A message's context carries the values of ctx and ends with Ack, with Nack, or a
// while (Drain) after ctx.
func (f *Feed) Subscribe(ctx context.Context, consumer string) (<-chan *message.Message, error) {
	if err := register(ctx, f.DB, consumer, f.From[consumer]); err != nil {
		return nil, err
	}
	r := &reader{
		feed: f, consumer: consumer,
		out: make(chan *message.Message), wake: make(chan int64, 1), pauses: f.pauses(),
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, ErrFeedClosed
	}
	ctx, f.readers[r] = context.WithCancel(ctx)
	f.running.Go(func() {
		defer f.forget(r)
		r.run(ctx)
	})
	return r.out, nil
}

func (f *Feed) pauses() *backoff.ExponentialBackOff {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval = min(MinPause, f.MaxPause)
	pauses.MaxInterval = f.MaxPause
	return pauses
}

func (f *Feed) forget(r *reader) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readers[r]()
	delete(f.readers, r)
}

// Wake tells the feed that the ledger has committed events up to a position, so that
// idle readers do not wait for their next poll. It never blocks, and of many calls
// while a reader is busy that reader sees the highest.
func (f *Feed) Wake(head int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for r := range f.readers {
		r.tell(head)
	}
}

// Close ends all readers and waits for them: for messages that are being handled no
// longer than Drain, and then for a few seconds at most to write down what was
// acknowledged. It may be called again, and always returns nil.
func (f *Feed) Close() error {
	f.mu.Lock()
	f.closed = true
	for _, end := range f.readers {
		end()
	}
	f.mu.Unlock()
	f.running.Wait()
	return nil
}

// reader is what one call of Subscribe has begun.
type reader struct {
	feed     *Feed
	consumer string
	out      chan *message.Message
	wake     chan int64 // the highest head that was told since the last look
	pauses   *backoff.ExponentialBackOff

	// Behind the checkpoint passedFrom nothing is wanted up to passed. That is written
	// down only now and then.
	passedFrom, passed int64
}

// tell leaves word of a head.
func (r *reader) tell(head int64) {
	for {
		select {
		case r.wake <- head:
			return
		case earlier := <-r.wake:
			head = max(head, earlier)
		}
	}
}

// run reads until ctx ends. Where another reader is active, or the database fails, it
// tries again later.
func (r *reader) run(ctx context.Context) {
	defer close(r.out)
	for ctx.Err() == nil {
		pause := r.feed.Poll
		if err := r.follow(ctx); err != nil && ctx.Err() == nil {
			r.feed.Log.Warn("the feed of a consumer was interrupted", "consumer", r.consumer, "error", err)
			pause = r.pauses.NextBackOff()
		}
		_ = sleep(ctx, pause)
	}
}

// follow delivers the history for as long as this reader is the active one and nothing
// fails. It returns nil when another one is.
func (r *reader) follow(ctx context.Context) error {
	conn, err := r.feed.DB.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	held, err := lockConsumer(ctx, conn, r.consumer)
	if err != nil || !held {
		return errors.Join(err, conn.Close())
	}
	defer unlockConsumer(conn, r.consumer)
	// Who takes a consumer's checkpoint away lets it begin anew.
	if err := register(ctx, conn, r.consumer, r.feed.From[r.consumer]); err != nil {
		return err
	}
	for {
		at, head, err := look(ctx, conn, r.consumer)
		if err != nil {
			return err
		}
		for at < head && ctx.Err() == nil {
			if at, err = r.advance(ctx, conn, at, head); err != nil {
				return err
			}
		}
		r.pauses.Reset() // all is read, nothing fails
		if err := sleep(ctx, min(r.feed.Rest, r.feed.Poll)); err != nil {
			return err
		}
		if err := r.await(ctx, at); err != nil {
			return err
		}
	}
}

// await waits until there may be something after a position.
func (r *reader) await(ctx context.Context, at int64) error {
	poll := time.NewTimer(r.feed.Poll)
	defer poll.Stop()
	for {
		select {
		case head := <-r.wake:
			if head > at {
				return nil
			}
		case <-poll.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// advance delivers the slice after a position until it is acknowledged or the
// checkpoint has moved, and returns where to go on.
func (r *reader) advance(ctx context.Context, conn *sql.Conn, at, head int64) (int64, error) {
	slice, err := r.read(ctx, conn, at, head)
	if err != nil {
		return 0, err
	}
	if len(slice.Events) == 0 {
		return r.pass(ctx, conn, slice)
	}
	for at == slice.From {
		acked, err := r.deliver(ctx, slice)
		if err != nil {
			return 0, err
		}
		if acked {
			r.pauses.Reset()
			return r.settle(ctx, conn, slice)
		}
		if err := sleep(ctx, r.pauses.NextBackOff()); err != nil {
			return 0, err
		}
		if at, _, err = look(ctx, conn, r.consumer); err != nil {
			return 0, err
		}
	}
	return at, nil
}

// read reads the slice after a position. It has no events where none are wanted.
func (r *reader) read(ctx context.Context, conn *sql.Conn, at, head int64) (Slice, error) {
	slice := Slice{Consumer: r.consumer, From: at}
	var err error
	if types := r.feed.Types[r.consumer]; types != nil {
		if r.passedFrom != at || r.passed > head {
			r.passed = at
		}
		slice.Events, slice.To, err = readSliceOf(ctx, conn, r.passed, head, r.feed.MaxEvents, r.feed.MaxBytes, types)
		return slice, err
	}
	slice.Events, slice.To, err = readSlice(ctx, conn, at, head, r.feed.MaxEvents, r.feed.MaxBytes)
	return slice, err
}

// maxUnwritten is how many events that nobody wants are passed before that is written
// down.
const maxUnwritten = 10_000

// pass goes on behind events that the consumer does not want.
func (r *reader) pass(ctx context.Context, conn *sql.Conn, slice Slice) (int64, error) {
	if slice.To-slice.From >= maxUnwritten {
		return r.settle(ctx, conn, slice)
	}
	r.passedFrom, r.passed = slice.From, slice.To
	return slice.To, nil
}

// deliver hands a slice over and waits for the answer. It fails only when ctx ends
// before the answer has come, for which it then waits a while.
func (r *reader) deliver(ctx context.Context, slice Slice) (acked bool, err error) {
	payload, err := json.Marshal(slice)
	if err != nil {
		return false, fmt.Errorf("encode a slice: %w", err)
	}
	msgCtx, end := context.WithCancel(context.WithValue(context.WithoutCancel(ctx), sliceKey{}, slice))
	defer end()
	msg := message.NewMessageWithContext(msgCtx, fmt.Sprintf("%s/%d-%d", slice.Consumer, slice.From, slice.To), payload)
	if ctx.Err() != nil { // select would choose by chance
		return false, ctx.Err()
	}
	select {
	case r.out <- msg:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	select {
	case <-msg.Acked():
		return true, nil
	case <-msg.Nacked():
		return false, nil
	case <-ctx.Done():
	}
	drain := time.NewTimer(r.feed.Drain)
	defer drain.Stop()
	select {
	case <-msg.Acked():
		return true, nil
	case <-msg.Nacked():
	case <-drain.C:
	}
	return false, ctx.Err()
}

// settleTime bounds each try to write a checkpoint down.
const settleTime = 3 * time.Second

// settle writes down that a slice was handled, and returns where to go on. What is
// done is done: it is written down also when the reader is about to end, and through
// another connection when its own is lost.
func (r *reader) settle(ctx context.Context, conn *sql.Conn, slice Slice) (int64, error) {
	ctx = context.WithoutCancel(ctx)
	err := r.move(ctx, conn, slice)
	if err != nil && !errors.Is(err, ErrMoved) {
		err = r.move(ctx, r.feed.DB, slice)
	}
	if !errors.Is(err, ErrMoved) {
		return slice.To, err
	}
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	at, _, err := look(ctx, conn, r.consumer)
	if err == nil && at != slice.To {
		r.feed.Log.Info("somebody else has moved the checkpoint of a consumer",
			"consumer", r.consumer, "from", slice.From, "to", at)
	}
	return at, err
}

func (r *reader) move(ctx context.Context, tx Tx, slice Slice) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	return MoveCheckpoint(ctx, tx, r.consumer, slice.From, slice.To)
}

// sleep waits for a time. It fails when ctx ends first.
func sleep(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
