package eventstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgtest"
	"nabu/internal/postgres"
	"nabu/projections"
)

// TestEveryConsumerSeesEachPositionOnceAndInOrder: while two executors append, some of
// whose batches decide nothing and are rolled back, consumers with slices of several
// sizes read along. They refuse slices, they are stopped and begun again, some move
// their checkpoint themselves. Each must have handled each position once, in order.
func TestEveryConsumerSeesEachPositionOnceAndInOrder(t *testing.T) {
	t.Parallel()
	database := pgtest.Open(t)
	db, err := postgres.Open(database.URL(), 20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	written := make(chan struct{})
	var readers sync.WaitGroup
	for i, size := range []int{1, 3, 50, 500} {
		readers.Go(func() {
			random := rand.New(rand.NewPCG(uint64(size), 1))
			erratic{name: fmt.Sprint("consumer-", size), size: size, alone: i%2 == 1, random: random}.read(t, db, written)
		})
	}
	var writers sync.WaitGroup
	for replica := range 2 {
		e := commands.NewExecutor(commands.Config{
			DB: db, Prepare: !pgtest.Pooled(), Loader: projections.States{}, Projector: projections.Inlines{},
			Limits: domain.DefaultLimits(), Log: slog.New(slog.DiscardHandler),
		})
		t.Cleanup(func() { _ = e.Close(context.Background()) })
		for client := range 4 {
			writers.Go(func() { makeQueues(t, e, fmt.Sprint(replica, "-", client)) })
		}
	}
	writers.Wait()
	close(written)
	readers.Wait()
}

// makeQueues writes fifty queues, and asks for some of them in vain in between.
func makeQueues(t *testing.T, e *commands.Executor, prefix string) {
	for i := range 50 {
		create := commands.CreateQueue{Queue: domain.QueueID{Project: "p", Name: fmt.Sprint(prefix, "-", i-i%5/4)}}
		if _, err := commands.Run(t.Context(), e, create); err != nil {
			t.Errorf("create a queue: %v", err)
			return
		}
	}
}

// erratic is a consumer that fails often.
type erratic struct {
	name   string
	size   int
	alone  bool // it moves its checkpoint itself
	random *rand.Rand
}

// read reads until the writers are done and nothing is left.
func (c erratic) read(t *testing.T, db *sql.DB, written <-chan struct{}) {
	at, last := int64(0), int64(-1)
	for at != last {
		f := newFeed(t, db, func(cfg *eventstore.FeedConfig) { cfg.MaxEvents = c.size })
		messages, err := f.Subscribe(t.Context(), c.name)
		if err != nil {
			t.Error(err)
			return
		}
		for more := true; more && at != last; {
			select {
			case msg := <-messages:
				at, more = c.handle(t, db, msg, at)
			case <-written:
				written = nil
				head, err := eventstore.ReadHead(t.Context(), db)
				if err != nil || head.Position == 0 {
					t.Errorf("head %+v, %v", head, err)
					return
				}
				last = head.Position
			case <-time.After(atLast):
				t.Errorf("%s gets nothing after %d", c.name, at)
				return
			}
		}
		_ = f.Close()
	}
}

// handle handles a slice or not, and tells whether to go on with this feed.
func (c erratic) handle(t *testing.T, db *sql.DB, msg *message.Message, at int64) (int64, bool) {
	slice := sliceOf(t, msg)
	if slice.From != at || len(slice.Events) > c.size {
		t.Errorf("%s has handled all up to %d and gets %d to %d", c.name, at, slice.From, slice.To)
	}
	switch c.random.IntN(10) {
	case 0:
		msg.Nack()
		return at, true
	case 1: // it crashes
		return at, false
	}
	if c.alone {
		if err := eventstore.MoveCheckpoint(t.Context(), db, c.name, slice.From, slice.To); err != nil {
			t.Error(err)
		}
		if c.random.IntN(2) == 0 { // it fails after its commit
			msg.Nack()
			return slice.To, true
		}
	}
	msg.Ack()
	return slice.To, c.random.IntN(20) > 0
}
