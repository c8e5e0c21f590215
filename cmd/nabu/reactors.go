package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"nabu/commands"
	"nabu/eventstore"
	"nabu/projections"
	"nabu/reactors"
)

// reacting is everything that works from the feed.
type reacting struct {
	feed    *eventstore.Feed
	sweeper *reactors.Sweeper
	router  *message.Router
	end     context.CancelFunc
	running sync.WaitGroup
}

// reactorPatience is how long a stop waits for a handler that is at work.
const reactorPatience = 5 * time.Second

// feedPace is how often the feed looks for something new.
const feedPace = time.Second

// react starts the reactors. It fails when they cannot subscribe to the feed.
func react(ctx context.Context, db *database, executor *commands.Executor, log *slog.Logger) (*reacting, error) {
	// The router speaks of its handlers' coming and going; that is nobody's business.
	quiet := watermill.NewSlogLoggerWithLevelMapping(log, map[slog.Level]slog.Level{
		slog.LevelInfo: slog.LevelDebug, slog.LevelDebug: slog.LevelDebug - 4,
	})
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: reactorPatience}, quiet)
	if err != nil {
		return nil, fmt.Errorf("make the reactors' router: %w", err)
	}
	router.AddMiddleware(middleware.Recoverer)
	ctx, end := context.WithCancel(context.WithoutCancel(ctx))
	r := &reacting{router: router, end: end, feed: eventstore.NewFeed(eventstore.FeedConfig{
		DB: db.direct, Log: log, Poll: feedPace, Rest: feedPace, // nobody waits for the sweeper
		Types: map[string][]string{reactors.SweeperConsumer: reactors.SweeperTypes},
	})}
	r.sweeper = reactors.NewSweeper(executor, &projections.Views{DB: db.read}, log)
	router.AddConsumerHandler("sweeper", reactors.SweeperConsumer, r.feed, r.sweeper.React)

	failed := make(chan error, 1)
	r.running.Go(func() { failed <- router.Run(ctx) })
	select {
	case <-router.Running():
	case err := <-failed:
		end()
		return nil, errors.Join(fmt.Errorf("start the reactors: %w", err), r.feed.Close())
	}
	r.running.Go(func() { r.sweeper.Run(ctx) })
	return r, nil
}

// stop ends the reactors and waits for them.
func (r *reacting) stop() error {
	err := r.router.Close()
	r.end()
	err = errors.Join(err, r.feed.Close())
	r.running.Wait()
	return err
}
