package eventstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
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
	// Recent is what this process has just appended, which is not read back; nil: all is.
	Recent *Recent
	// From says where a consumer begins when it subscribes for the first time ever. Those
	// that are not named begin with the first event.
	From map[string]Start
	// Types are the types of events that a consumer wants; PostgreSQL passes over the
	// others. Consumers that are not named get all.
	Types map[string][]string
	// Lead is called when a reader becomes the active one of its consumer, with a context
	// that ends when it no longer is; the reader then waits for Lead to return before
	// another can be active. It is for work that one of all replicas does.
	Lead map[string]func(context.Context)
	// Poll is how often an idle reader looks for events, and how often one that is not
	// active tries to become so; 0: DefaultPoll. Chance makes each wait up to a quarter
	// longer or shorter, so that replicas do not all ask at once. Wake shortens the first
	// wait, not the second.
	Poll time.Duration
	// Rest is how long a reader that has read all leaves the database alone at least,
	// however often it is woken; 0: DefaultRest.
	Rest time.Duration
	// Pace is how many times as long as a slice took its reader rests after it, so that
	// requests get most of the machine however far behind a consumer is; 0: no time.
	Pace int
	// Tries is how often a slice is delivered that is refused each time. Then it is halved,
	// and each half is delivered once, down to the one event at fault; that one is delivered
	// so often again and then parked. 0: DefaultTries.
	Tries int
	// Temporary tells of the error behind a refusal that it will pass, as when the database
	// is away: such a refusal is not counted among the tries. nil: none will.
	Temporary func(error) bool
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
	DefaultTries    = 10 // within four seconds or so
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
	cfg.Poll = cmp.Or(cfg.Poll, DefaultPoll)
	cfg.Rest = cmp.Or(cfg.Rest, DefaultRest)
	cfg.Tries = cmp.Or(cfg.Tries, DefaultTries)
	cfg.MaxPause = cmp.Or(cfg.MaxPause, DefaultMaxPause)
	cfg.Drain = cmp.Or(cfg.Drain, DefaultDrain)
	cfg.MaxEvents = cmp.Or(cfg.MaxEvents, SliceEvents)
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, SliceBytes)
	return &Feed{FeedConfig: cfg, readers: map[*reader]context.CancelFunc{}}
}

// Slice is a piece of the history as one message carries it.
type Slice struct {
	Consumer string `json:"consumer"`
	From     int64  `json:"from"` // the checkpoint before the slice
	To       int64  `json:"to"`   // the checkpoint after it
	// Parked: these events were parked, and are delivered again because somebody asked
	// for it. They lie behind the checkpoint, which they do not move.
	Parked bool `json:"parked,omitempty"`
	// Events are all with From < position <= To that the consumer wants, without those
	// that are parked, in order, at least one. They are not to be changed: another
	// delivery may carry the same.
	Events []RecordedEvent `json:"-"`
}

type deliveryKey struct{}

// delivery is what a message of a feed carries in its context.
type delivery struct {
	slice   Slice
	refusal atomic.Pointer[error]
}

func deliveryOf(msg *message.Message) *delivery {
	d, _ := msg.Context().Value(deliveryKey{}).(*delivery)
	return d
}

// SliceOf is the slice that a message of a feed carries in its context; false for any
// other message, and for a copy without the context.
func SliceOf(msg *message.Message) (Slice, bool) {
	d := deliveryOf(msg)
	if d == nil {
		return Slice{}, false
	}
	return d.slice, true
}

// Refuse tells the feed why a message is about to be refused: a Nack alone cannot. It
// does nothing for a message that carries no slice.
func Refuse(msg *message.Message, why error) {
	if d := deliveryOf(msg); d != nil {
		d.refusal.Store(&why)
	}
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
// Slice.Settle in its own transaction, and the feed goes on from where it is. Nack
// delivers the same slice again after a pause, unless the checkpoint has moved. So each
// event is delivered at least once, and again only when it was not acknowledged, when
// the Ack could not be written down, or when somebody sends the consumer back.
//
// What is refused too often (Tries) is parked, and with it whatever follows on the same
// stream, so that each stream is handled in order; the rest of the history goes on.
// Retry has what is parked delivered again, Skip leaves an event out.
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
