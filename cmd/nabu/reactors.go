package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/postgres"
	"nabu/projections"
	"nabu/reactors"
)

// reacting is everything that works from the feed.
type reacting struct {
	feed     *eventstore.Feed
	sweeper  *reactors.Sweeper
	notifier *reactors.Notifier
	bell     *postgres.Bell // nil: other replicas are not told
	router   *message.Router
	end      context.CancelFunc
	running  sync.WaitGroup
}

// reactorPatience is how long a stop waits for a handler that is at work.
const reactorPatience = 5 * time.Second

// feedPace is how often the feed looks for something new, and feedRest for how long it lets
// it gather. Nobody waits for the consumers there are, and a slice costs a flush; but what
// gathers in a second under load is a burst of work that requests would feel.
const (
	feedPace = time.Second
	feedRest = 100 * time.Millisecond
	slowly   = 4 // times as long as a slice takes, consumers rest after it
)

// Bounds of a slice.
const (
	feedEvents = 1000
	feedBytes  = 4 << 20
)

// react starts the reactors. It fails when they cannot subscribe to the feed.
func react(
	ctx context.Context, db *database, executor *commands.Executor, serviceProject string, notifier *reactors.Notifier,
	forwarder *reactors.Forwarder, log *slog.Logger,
) (*reacting, error) {
	pooled, err := isPooled(ctx, db.direct)
	if err != nil {
		return nil, fmt.Errorf("look for a pooler: %w", err)
	}
	router, err := newRouter(log)
	if err != nil {
		return nil, fmt.Errorf("make the reactors' router: %w", err)
	}
	ctx, end := context.WithCancel(context.WithoutCancel(ctx))
	r := &reacting{router: router, end: end, notifier: notifier, feed: newFeed(db, executor.Recent, notifier, forwarder, log)}
	r.sweeper = reactors.NewSweeper(executor, &projections.Views{DB: db.read}, log)
	router.AddConsumerHandler("sweeper", reactors.SweeperConsumer, r.feed, r.sweeper.React)
	router.AddConsumerHandler("notifier", reactors.NotifierConsumer, r.feed, notifier.React)
	if forwarder != nil {
		router.AddConsumerHandler("forwarder", reactors.ForwarderConsumer, r.feed, forwarder.React)
	}
	for _, p := range projections.Async {
		router.AddConsumerHandler(p.Name, p.Name, r.feed, reactors.Projector{Projection: p, DB: db.read}.React)
	}
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	r.running.Go(func() { r.sweeper.Run(ctx) })
	producer := reactors.Producer{
		Executor: executor, News: executor.News, ServiceProject: serviceProject, Rules: executor.UserMessages, Log: log,
	}
	r.running.Go(func() { producer.Run(ctx) })
	if pooled {
		log.Warn("direct_database_url leads through a transaction pooler, so several nabus may work for one consumer, and none hears of the others' events before it looks")
		return r, nil
	}
	r.ringFor(ctx, db.directURL, executor.News, log)
	return r, nil
}

func newRouter(log *slog.Logger) (*message.Router, error) {
	// The router speaks of its handlers' coming and going; that is nobody's business.
	quiet := watermill.NewSlogLoggerWithLevelMapping(log, map[slog.Level]slog.Level{
		slog.LevelInfo: slog.LevelDebug, slog.LevelDebug: slog.LevelDebug - 4,
	})
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: reactorPatience}, quiet)
	if err == nil {
		router.AddMiddleware(tellWhy, middleware.Recoverer)
	}
	return router, err
}

func newFeed(db *database, recent *eventstore.Recent, notifier *reactors.Notifier, forwarder *reactors.Forwarder, log *slog.Logger) *eventstore.Feed {
	leads := map[string]func(context.Context){reactors.NotifierConsumer: notifier.Lead}
	if forwarder != nil {
		leads[reactors.ForwarderConsumer] = forwarder.Lead
	}
	return eventstore.NewFeed(eventstore.FeedConfig{
		DB: db.direct, Log: log, Recent: recent, Poll: feedPace, Rest: feedRest, Pace: slowly, Temporary: passes,
		MaxEvents: feedEvents, MaxBytes: feedBytes,
		Lead: leads,
		// What is to be forwarded stands in a read model.
		From: map[string]eventstore.Start{reactors.ForwarderConsumer: eventstore.AtHead},
		Types: map[string][]string{
			reactors.ForwarderConsumer:    reactors.ForwarderTypes,
			reactors.SweeperConsumer:      reactors.SweeperTypes,
			reactors.NotifierConsumer:     reactors.NotifierTypes,
			projections.MessageIndex.Name: projections.MessageIndexTypes,
		},
	})
}

// start runs the router until ctx ends, and returns when all have subscribed.
func (r *reacting) start(ctx context.Context) error {
	failed := make(chan error, 1)
	r.running.Go(func() { failed <- r.router.Run(ctx) })
	select {
	case <-r.router.Running():
		return nil
	case err := <-failed:
		r.end()
		return errors.Join(fmt.Errorf("start the reactors: %w", err), r.feed.Close())
	}
}

// ringFor lets the feeds and notifiers of several nabus on one database wake each other, and
// those who wait for messages there.
func (r *reacting) ringFor(ctx context.Context, url string, news *commands.News, log *slog.Logger) {
	r.bell = postgres.NewBell(url, func() {
		r.feed.Wake(math.MaxInt64)
		r.notifier.Wake()
		news.Stir()
	}, log)
	r.running.Go(func() {
		if err := r.bell.Run(ctx); err != nil {
			log.Warn("other nabus on the database are not told of new events", "error", err)
		}
	})
}

// wake tells all feeds that the ledger has grown up to a position.
func (r *reacting) wake(head int64) {
	r.feed.Wake(head)
	r.notifier.Wake()
	if r.bell != nil {
		r.bell.Ring()
	}
}

// tellWhy tells the feed why a handler refuses a message. The router only says that it
// does.
func tellWhy(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		produced, err := next(msg)
		if err != nil {
			eventstore.Refuse(msg, err)
		}
		return produced, err
	}
}

// passes tells that an error of a handler has nothing to do with the events.
func passes(err error) bool {
	if refused, ok := errors.AsType[*domain.Error](err); ok {
		return refused.Code == domain.Unavailable
	}
	return postgres.IsUnavailable(err) || postgres.IsConnectionLost(err) || errors.Is(err, eventstore.ErrMoved) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// stop ends the reactors and waits for them.
func (r *reacting) stop() error {
	err := r.router.Close()
	r.end()
	err = errors.Join(err, r.feed.Close())
	r.running.Wait()
	return err
}
