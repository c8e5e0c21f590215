package reactors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/cenkalti/backoff/v5"
	"github.com/sony/gobreaker/v2"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/compute"
	"nabu/projections"
)

// ForwarderConsumer is the forwarder's name as a consumer of the feed.
const ForwarderConsumer = "forwarder"

// ForwarderTypes are the events that another compute service may be to get.
var ForwarderTypes = []string{domain.ExternalEventsAccepted{}.EventType()}

// ComputeService is told of external events.
type ComputeService interface {
	// Tell fails when there is no answer; with compute.ErrAway when nobody was asked.
	Tell(ctx context.Context, told compute.Told) (compute.Answer, error)
}

// Forwards tells what another compute service is to get.
type Forwards interface {
	// Forwards lists it behind a position, in order; ForwardsOf, that of one server.
	Forwards(ctx context.Context, after int64, most int) ([]projections.Forward, error)
	ForwardsOf(ctx context.Context, server domain.ServerID, after int64, most int) ([]projections.Forward, error)
}

// ForwarderConfig is what a forwarder is made of.
type ForwarderConfig struct {
	Executor *commands.Executor
	Views    Forwards
	Ledger   eventstore.Tx // where the events are read
	Service  ComputeService
	TTL      time.Duration // for how long an event is of use
	AtOnce   int           // requests under way; 0: DefaultPerHost
	// MaxPause bounds the pauses before something is told again; 0: eventstore.DefaultMaxPause.
	MaxPause time.Duration
	Log      *slog.Logger
	Now      func() time.Time // nil: this machine's clock
}

// Forwarder tells another compute service of the external events that were accepted for it:
// those of one request together, those of one server in the order of the history. What is
// owed stands in a read model until the history says what has become of it, so nothing is
// lost however nabu ends, and no checkpoint waits for anything. What the service does not
// get is told again, with pauses, until nobody can be waiting for it any more, and holds
// back what is of the same servers only. After a crash the service may be told of the same
// once more. Of all replicas one is at work: the one whose reader is the feed's active one.
type Forwarder struct {
	ForwarderConfig
	woken chan struct{}
}

// NewForwarder makes a forwarder. Lead forwards.
func NewForwarder(cfg ForwarderConfig) *Forwarder {
	if cfg.AtOnce == 0 {
		cfg.AtOnce = DefaultPerHost
	}
	if cfg.MaxPause == 0 {
		cfg.MaxPause = eventstore.DefaultMaxPause
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Forwarder{ForwarderConfig: cfg, woken: make(chan struct{}, 1)}
}

// React is called with each slice of the events in ForwarderTypes. What they ask for stands
// in the read model, so nothing has to be done before the checkpoint moves.
func (f *Forwarder) React(msg *message.Message) error {
	if _, ok := eventstore.SliceOf(msg); !ok {
		return fmt.Errorf("message %s carries no slice of the ledger", msg.UUID)
	}
	select {
	case f.woken <- struct{}{}:
	default: // it will look anyway
	}
	return nil
}

// The forwarder's pace, and bounds of what it holds in memory.
const (
	forwardEvery  = time.Second // it looks though it has heard nothing
	forwardPage   = 100         // rows of a look
	maxForwarding = 10_000      // servers
	forwardLane   = 100         // rows of each that wait behind another
)

// Lead forwards until ctx ends. It returns when what was told is reported, as far as that can
// be done.
func (f *Forwarder) Lead(ctx context.Context) {
	sending, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(sendGrace, cut) })()
	r := &forwarding{
		Forwarder: f, sending: sending, line: newLine(ForwarderConsumer, f.AtOnce), lanes: map[domain.ServerID]*forwardQueue{},
	}
	defer r.working.Wait()
	tick := time.NewTicker(forwardEvery)
	defer tick.Stop()
	pauses := failurePauses(forwardEvery)
	for {
		if err := r.look(ctx); err != nil && ctx.Err() == nil {
			f.Log.Warn("the forwarder was interrupted", "error", err)
			pause(ctx, pauses)
			continue
		}
		pauses.Reset()
		select {
		case <-f.woken:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// forwarding is one time of leading.
type forwarding struct {
	*Forwarder
	*line
	sending context.Context // ends a moment after leading does
	working sync.WaitGroup
	seen    int64 // up to this position all that is owed was looked at

	mu    sync.Mutex
	lanes map[domain.ServerID]*forwardQueue // of servers of which something is under way
}

// forwardQueue is what is owed of a server behind what is under way.
type forwardQueue struct {
	waiting []projections.Forward
	last    int64 // position of the last one that has left the queue
	more    bool  // behind what waits there is more, in the read model
}

// look begins to tell of what is new. While the service is not there that waits in the read
// model, but for what nobody can use any more.
func (r *forwarding) look(ctx context.Context) error {
	for ctx.Err() == nil {
		page, err := r.Views.Forwards(ctx, r.seen, forwardPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for len(page) > 0 {
			request := page[:r.together(page)]
			if !r.late(request[0]) && r.waits() {
				return nil
			}
			page, r.seen = page[len(request):], request[len(request)-1].Position
			free := r.take(request)
			if len(free) == 0 {
				continue
			}
			leave, err := r.enter(ctx, false)
			if err != nil {
				return err
			}
			r.working.Go(func() { r.begin(ctx, free, leave) })
		}
	}
	return nil
}

// together is how many of a page, from its beginning, are told of at once: those of one
// request, or all that it is too late for.
func (r *forwarding) together(page []projections.Forward) (n int) {
	late := r.late(page[0])
	for n = 1; n < len(page); n++ {
		next := page[n]
		if late && r.late(next) || next.RequestID != "" && next.RequestID == page[0].RequestID {
			continue
		}
		break
	}
	return n
}

// waits tells whether it is no time to begin with something new: too much is under way, or the
// service does not answer, and something under way will find out when it does.
func (r *forwarding) waits() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	state := r.breaker.State()
	return len(r.lanes) >= maxForwarding || state == gobreaker.StateOpen || state == gobreaker.StateHalfOpen && len(r.lanes) > 0
}

// late tells whether nobody can be waiting for the events any more.
func (r *forwarding) late(owed projections.Forward) bool {
	return !r.Now().Before(owed.AcceptedAt.Add(r.TTL))
}

// take picks those of whose servers nothing is under way. From now on it is; the others wait.
func (r *forwarding) take(request []projections.Forward) (free []projections.Forward) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, owed := range request {
		its := r.lanes[owed.Server]
		switch {
		case its == nil:
			r.lanes[owed.Server] = &forwardQueue{last: owed.Position}
			free = append(free, owed)
		case its.more || len(its.waiting) >= forwardLane:
			its.more = true
		default:
			its.waiting = append(its.waiting, owed)
		}
	}
	return free
}

// begin tells of a request about servers of which nothing else is under way, and then of
// what has come to wait behind it. As long as the service is away it is told of the whole;
// what it does not get for another reason is told for each server by itself, so that one
// cannot hold back the others.
func (r *forwarding) begin(ctx context.Context, request []projections.Forward, leave func()) {
	failure := r.attempt(ctx, request, nil, leave)
	for pauses := r.pauses(); errors.Is(failure, compute.ErrAway); {
		if failure = r.again(ctx, pauses, request, failure); ctx.Err() != nil {
			return
		}
	}
	for _, owed := range request[1:] {
		r.working.Go(func() { r.follow(ctx, owed, failure) })
	}
	r.follow(ctx, request[0], failure)
}

// follow tells of a server until nothing is owed of it. Failure is why the first has to be
// told again; nil: it was told.
func (r *forwarding) follow(ctx context.Context, owed projections.Forward, failure error) {
	pauses := r.pauses()
	for ctx.Err() == nil {
		if failure != nil {
			failure = r.again(ctx, pauses, []projections.Forward{owed}, failure)
			continue
		}
		pauses.Reset()
		next, more, err := r.next(ctx, owed.Server)
		switch {
		case err != nil:
			r.Log.Warn("the forwarder was interrupted", "server", owed.Server, "error", err)
			pause(ctx, pauses)
		case !more:
			return
		default:
			owed = next
			if leave, err := r.enter(ctx, false); err == nil {
				failure = r.attempt(ctx, []projections.Forward{owed}, nil, leave)
			}
		}
	}
}

// again makes another attempt after a pause.
func (r *forwarding) again(ctx context.Context, pauses *backoff.ExponentialBackOff, request []projections.Forward, failure error) error {
	pause(ctx, pauses)
	leave, err := r.enter(ctx, true)
	if err != nil {
		return failure
	}
	return r.attempt(ctx, request, failure, leave)
}

func (r *forwarding) pauses() *backoff.ExponentialBackOff {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = min(eventstore.MinPause, r.MaxPause), r.MaxPause
	return pauses
}

// next is what comes next of a server. When there is nothing, nothing is under way any more.
func (r *forwarding) next(ctx context.Context, server domain.ServerID) (owed projections.Forward, more bool, err error) {
	if err := r.refill(ctx, server); err != nil {
		return owed, false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	its := r.lanes[server]
	if len(its.waiting) == 0 {
		delete(r.lanes, server)
		return owed, false, nil
	}
	owed, its.waiting = its.waiting[0], its.waiting[1:]
	its.last = owed.Position
	return owed, true, nil
}

// refill reads on of a server of which more is owed than waits in memory. What comes
// meanwhile is either read, or lies behind it and waits in memory already.
func (r *forwarding) refill(ctx context.Context, server domain.ServerID) error {
	r.mu.Lock()
	its := r.lanes[server]
	wanted := its.more && len(its.waiting) == 0
	after := its.last
	if wanted {
		its.more = false
	}
	r.mu.Unlock()
	if !wanted {
		return nil
	}
	page, err := r.Views.ForwardsOf(ctx, server, after, forwardLane)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil:
		its.waiting, its.more = nil, true
		return err
	case len(page) == forwardLane:
		its.waiting, its.more = page, true
	case len(page) > 0:
		for _, owed := range its.waiting {
			if owed.Position > page[len(page)-1].Position {
				page = append(page, owed)
			}
		}
		its.waiting = page
	}
	return nil
}
