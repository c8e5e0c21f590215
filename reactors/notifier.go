package reactors

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/webhook"
	"nabu/projections"
)

// NotifierConsumer is the notifier's name as a consumer of the feed.
const NotifierConsumer = "notifier"

// NotifierTypes are the events of the feed that the notifier is told of. What is posted it
// looks for by itself, and only where somebody has subscribed: so posts are not read once
// more for nobody. Dead letters are not notified of, as in Zaqar: they were posted elsewhere.
var NotifierTypes = []string{
	domain.SubscriptionCreated{}.EventType(), domain.SubscriptionUpdated{}.EventType(),
	domain.SubscriptionConfirmed{}.EventType(), domain.SubscriptionUnconfirmed{}.EventType(),
}

// Subscribers tells who is to get what.
type Subscribers interface {
	// SubscribersOf lists the subscribers of queues, SubscribersDue those for whom
	// something has waited long enough, besides some, SubscribersBehind those whose queue
	// has a history that was not looked through for them.
	SubscribersOf(ctx context.Context, queues []domain.QueueID) ([]projections.Subscriber, error)
	SubscribersByID(ctx context.Context, ids []domain.SubscriptionID) ([]projections.Subscriber, error)
	SubscribersDue(ctx context.Context, besides []domain.SubscriptionID, most int) ([]projections.Subscriber, error)
	SubscribersBehind(ctx context.Context) ([]projections.Subscriber, error)
	// DeliveriesDue lists what has waited long enough for one of them.
	DeliveriesDue(ctx context.Context, id domain.SubscriptionID, most int) ([]projections.Waiting, error)
	// Subscribed is the position of the ledger's last event, and whether anybody has
	// subscribed to anything.
	Subscribed(ctx context.Context) (head int64, any bool, err error)
	// QueuesPosted lists the queues that got messages between two positions.
	QueuesPosted(ctx context.Context, after, upto int64) ([]domain.QueueID, error)
}

// Deliverer makes single attempts.
type Deliverer interface {
	// Deliver fails when no attempt was made: with ErrOpen, or because ctx has ended.
	Deliver(ctx context.Context, p Parcel) (webhook.Result, error)
}

// Confirmer writes what a subscriber is owed.
type Confirmer interface {
	// Confirmation is the parcel, or why there can be none.
	Confirmation(ctx context.Context, s projections.Subscriber, owes domain.Confirmation) (Parcel, error)
}

// Delivery is what became of one attempt, for those who count.
type Delivery struct {
	Outcome domain.DeliveryOutcome
	Took    time.Duration
	// Lag is the time from the message's post, or its delay's end, to the beginning of its
	// first attempt; negative: it was not the first.
	Lag time.Duration
}

// NotifierConfig is what a notifier is made of.
type NotifierConfig struct {
	Executor *commands.Executor
	Views    Subscribers
	Ledger   eventstore.Tx // where posts are read
	Deliver  Deliverer
	Confirm  Confirmer
	// Open makes the bodies of a post plain; nil: they are. Those that nobody can read any
	// more are left out.
	Open func(context.Context, domain.MessagesPosted) (domain.MessagesPosted, error)
	// Required: nothing is delivered to a subscriber that has not confirmed.
	Required bool
	Log      *slog.Logger
	Now      func() time.Time // nil: this machine's clock
	Observe  func(Delivery)   // nil: nobody counts
}

// The notifier's pace.
const (
	lookEvery   = 250 * time.Millisecond // for what is due and what others have posted
	searchEvery = 10 * time.Minute       // for whoever was overlooked
	lookRest    = 20 * time.Millisecond  // at least between two looks
	dueBatch    = 1000                   // subscribers of one look
	maxNews     = 50_000                 // positions that one look spans
)

// Notifier delivers messages to subscribers. Of all replicas one is at work: the one whose
// reader is the feed's active one.
type Notifier struct {
	NotifierConfig
	woken chan struct{}
}

// NewNotifier makes a notifier. Lead delivers.
func NewNotifier(cfg NotifierConfig) *Notifier {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Open == nil {
		cfg.Open = func(_ context.Context, e domain.MessagesPosted) (domain.MessagesPosted, error) { return e, nil }
	}
	if cfg.Observe == nil {
		cfg.Observe = func(Delivery) {}
	}
	return &Notifier{NotifierConfig: cfg, woken: make(chan struct{}, 1)}
}

// React is called with each slice of the events in NotifierTypes. What they ask for stands
// in the read model, so nothing has to be done before the checkpoint moves.
func (n *Notifier) React(msg *message.Message) error {
	if _, ok := eventstore.SliceOf(msg); !ok {
		return fmt.Errorf("message %s carries no slice of the ledger", msg.UUID)
	}
	n.Wake()
	return nil
}

// Wake lets the notifier look for news at once. It never blocks.
func (n *Notifier) Wake() {
	select {
	case n.woken <- struct{}{}:
	default: // it will look anyway
	}
}

// Lead delivers until ctx ends. It returns when everything that was attempted is
// reported, as far as that can be done.
func (n *Notifier) Lead(ctx context.Context) {
	sending, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(sendGrace, cut) })()
	r := &round{
		Notifier: n, sending: sending, reads: make(chan struct{}, maxReads),
		workers: map[domain.SubscriptionID]*worker{}, resting: map[domain.SubscriptionID]bool{},
	}
	r.reports = newReports(r)
	reporting, endReports := context.WithCancel(context.WithoutCancel(ctx))
	var reporter sync.WaitGroup
	reporter.Go(func() { r.reports.run(reporting) })
	r.follow(ctx)
	r.working.Wait()
	endReports()
	reporter.Wait()
}

// round is one time of leading.
type round struct {
	*Notifier
	reports *reports
	sending context.Context // ends a moment after leading does
	reads   chan struct{}   // taken by who reads the ledger

	mu      sync.Mutex
	ended   bool
	workers map[domain.SubscriptionID]*worker
	resting map[domain.SubscriptionID]bool // who is left alone for a while
	working sync.WaitGroup

	seen     int64 // up to this position posts have been looked for
	quiet    bool  // nobody has subscribed to anything
	searched time.Time
	missed   atomic.Bool // somebody was overlooked: it is time for a search
}

const (
	maxReads  = 4           // pages of the ledger that are read at a time
	sendGrace = time.Second // for what is under way when leading ends
)

// follow looks for work until ctx ends.
func (r *round) follow(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	pauses := failurePauses(lookEvery)
	for ctx.Err() == nil {
		if err := r.look(ctx); err != nil && ctx.Err() == nil {
			r.Log.Warn("the notifier was interrupted", "error", err)
			pause(ctx, pauses)
			continue
		}
		pauses.Reset()
		rest := time.NewTimer(lookRest)
		select {
		case <-rest.C:
		case <-ctx.Done():
		}
		rest.Stop()
		woken := r.woken
		if r.quiet { // whatever is posted concerns nobody
			woken = nil
		}
		select {
		case <-woken:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
}

// look finds all subscribers for whom there is something to do, and lets them be served.
func (r *round) look(ctx context.Context) error {
	if err := r.lookForNews(ctx); err != nil {
		return err
	}
	if r.quiet {
		return nil
	}
	due, err := r.Views.SubscribersDue(ctx, r.busy(), dueBatch)
	if err != nil {
		return err
	}
	for _, s := range due {
		r.serve(ctx, s, true)
	}
	return nil
}

// busy are those who need not be told that something is due for them: they know, or they
// are left alone for a while.
func (r *round) busy() (ids []domain.SubscriptionID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.resting {
		ids = append(ids, id)
	}
	for id, w := range r.workers {
		if w.due.Load() {
			ids = append(ids, id)
		}
	}
	return ids
}

// lookForNews finds the subscribers of queues that something was posted to. At first, and
// now and then, it looks at all.
func (r *round) lookForNews(ctx context.Context) error {
	head, subscribed, err := r.Views.Subscribed(ctx)
	if err != nil {
		return err
	}
	if r.quiet = !subscribed; r.quiet {
		r.seen = head
		return nil
	}
	if r.missed.Swap(false) || time.Since(r.searched) > searchEvery {
		r.searched = time.Time{}
		behind, err := r.Views.SubscribersBehind(ctx)
		if err != nil {
			return err
		}
		for _, s := range behind {
			r.serve(ctx, s, false)
		}
		r.seen, r.searched = head, time.Now()
		return nil
	}
	for r.seen < head {
		upto := min(head, r.seen+maxNews)
		queues, err := r.Views.QueuesPosted(ctx, r.seen, upto)
		if err != nil {
			return err
		}
		r.seen = upto
		if len(queues) == 0 {
			continue
		}
		subscribers, err := r.Views.SubscribersOf(ctx, queues)
		if err != nil {
			r.missed.Store(true)
			return err
		}
		for _, s := range subscribers {
			r.serve(ctx, s, false)
		}
	}
	return nil
}

// mayHave tells whether a subscriber may get messages.
func (r *round) mayHave(s projections.Subscriber) bool {
	return !r.Required || s.Subscription.Confirmed
}

// start is the place behind which a subscriber's messages begin.
func (r *round) start(s projections.Subscriber) domain.Place {
	if r.Required {
		return max(s.Cursor, s.ConfirmedAt)
	}
	return s.Cursor
}

// serve gives word of a subscriber to its worker, which is made if there is none. due:
// something has waited long enough.
func (r *round) serve(ctx context.Context, s projections.Subscriber, due bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || r.resting[s.ID] {
		return
	}
	w := r.workers[s.ID]
	if w == nil {
		w = &worker{round: r, id: s.ID, word: make(chan projections.Subscriber, 1), version: unknown}
		r.workers[s.ID] = w
		r.reports.begin(s)
		r.working.Go(func() { w.run(ctx) })
	}
	if due {
		w.due.Store(true)
	}
	w.tellOf(s)
}

// inform gives word of a subscriber to its worker, if there is one.
func (r *round) inform(s projections.Subscriber) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w := r.workers[s.ID]; w != nil {
		w.tellOf(s)
	}
}

// share is what a worker may take at a time when all of them may take so much, between two
// bounds.
func (r *round) share(least, most, all int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(least, min(most, all/max(1, len(r.workers))))
}

// rest leaves a subscriber alone for a while, and then looks at it anew.
func (r *round) rest(ctx context.Context, pause time.Duration, id domain.SubscriptionID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	r.resting[id] = true
	r.working.Go(func() {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-timer.C:
			r.mu.Lock()
			delete(r.resting, id)
			r.mu.Unlock()
			r.again(ctx, id)
		case <-ctx.Done():
		}
	})
}

// again looks anew at one subscriber.
func (r *round) again(ctx context.Context, id domain.SubscriptionID) {
	subscribers, err := r.Views.SubscribersByID(ctx, []domain.SubscriptionID{id})
	if err != nil {
		if ctx.Err() == nil {
			r.missed.Store(true)
			r.Log.Warn("a subscriber waits for the next search", "subscription", id, "error", err)
		}
		return
	}
	for _, s := range subscribers {
		r.serve(ctx, s, true)
	}
}
