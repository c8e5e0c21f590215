package eventstore_test

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"testing"
	"time"

	"nabu/eventstore"
	"nabu/internal/pgtest"
	"nabu/internal/postgres"
)

// ringing makes a feed that polls next to never, and a bell that wakes it.
func ringing(t *testing.T, database *pgtest.Database, url string) (*eventstore.Feed, *postgres.Bell, <-chan struct{}) {
	t.Helper()
	f := newFeed(t, database.DB(), func(cfg *eventstore.FeedConfig) { cfg.Poll, cfg.Rest = time.Hour, time.Millisecond })
	heard := make(chan struct{}, 1)
	bell := postgres.NewBell(url, func() {
		f.Wake(math.MaxInt64)
		select {
		case heard <- struct{}{}:
		default:
		}
	}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := bell.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	waitFor(t, heard) // it listens
	return f, bell, heard
}

func waitFor(t *testing.T, heard <-chan struct{}) {
	t.Helper()
	select {
	case <-heard:
	case <-time.After(atLast):
		t.Fatal("nothing is heard")
	}
}

// TestAnAppendOnOneReplicaWakesTheOther: by a notification, long before a poll would. A
// bell does not hear itself.
func TestAnAppendOnOneReplicaWakesTheOther(t *testing.T) {
	t.Parallel()
	database := pgtest.Open(t)
	_, bell, own := ringing(t, database, database.URL())
	other, otherBell, _ := ringing(t, database, database.URL())
	messages := subscribe(t, other, "notifier")
	for i := range int64(3) {
		appendEvents(t, database.DB(), 1)
		bell.Ring()
		wantNext(t, messages, i, i+1)
	}
	select {
	case <-own:
		t.Error("a bell hears itself")
	default:
	}
	otherBell.Ring()
	waitFor(t, own)
}

// TestABellThatWasDeafCalls: what rang while its connection was away is looked for as
// soon as it is back.
func TestABellThatWasDeafCalls(t *testing.T) {
	t.Parallel()
	database := pgtest.Open(t)
	f, _, _ := ringing(t, database, database.URL())
	appendEvents(t, database.DB(), 1)
	messages := subscribe(t, f, "notifier")
	wantNext(t, messages, 0, 1)
	appendEvents(t, database.DB(), 1)
	// Nobody rings: ending the session that listens is all that happens.
	if _, err := database.DB().Exec(`
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND query = 'LISTEN "nabu_feed"'`); err != nil {
		t.Fatal(err)
	}
	wantNext(t, messages, 1, 2)
}
