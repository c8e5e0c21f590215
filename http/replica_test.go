package http

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"nabu/commands"
	"nabu/projections"
)

// The settings of which the contract leaves a choice, in one place.

func withClaimIDs(cfg *Config)  { cfg.DeleteWithClaim = true }
func withChecksums(cfg *Config) { cfg.Checksums = true }

// replicasVariable says over how many servers on one database each test's requests are
// dealt out. Without it there is one.
const replicasVariable = "NABU_TEST_REPLICAS"

// listen begins to serve: each request goes to the next of the replicas.
func (a *api) listen() {
	a.Helper()
	n := 1
	if text := os.Getenv(replicasVariable); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 {
			a.Fatalf("%s must be a number from 1 on, not %q", replicasVariable, text)
		}
	}
	handlers := []http.Handler{a.server.Handler()}
	for len(handlers) < n {
		_, server := a.another(a.executor.Now)
		handlers = append(handlers, server.Handler())
	}
	var turn atomic.Int64
	a.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handlers[int(turn.Add(1)-1)%n].ServeHTTP(w, r)
	}))
}

// alone has every request go to the first server, for tests of what a server says of
// itself.
func (a *api) alone() *api {
	a.Helper()
	a.serve(a.server.Handler())
	return a
}

func (a *api) serve(handler http.Handler) {
	a.Helper()
	listening := httptest.NewServer(handler)
	a.Cleanup(listening.Close)
	a.url = listening.URL
}

// replica starts one more server over the same database with the same clock.
func (a *api) replica(change ...func(*Config)) *api {
	a.Helper()
	return a.replicaBy(a.executor.Now, change...)
}

// replicaBy starts one more server with another clock; nil: the database's.
func (a *api) replicaBy(now func() time.Time, change ...func(*Config)) *api {
	a.Helper()
	b := *a
	b.executor, b.server = a.another(now, change...)
	b.listen()
	return &b
}

// another is one more executor and server over the same database.
func (a *api) another(now func() time.Time, change ...func(*Config)) (*commands.Executor, *Server) {
	a.Helper()
	cfg := a.server.Config
	views := Views(&projections.Views{DB: a.DB(), Now: now})
	if first, is := cfg.Views.(counted); is {
		views = counted{views, first.pages}
	}
	cfg.Views = views
	if a.executor.Keys.CanSeal() {
		withEncryption(testMasters)(&cfg)
	}
	cfg.Registry = nil
	for _, c := range change {
		c(&cfg)
	}
	its := a.executor.Config
	its.Limits, its.Now, its.Keys = cfg.Limits, now, keysOf(cfg)
	executor := commands.NewExecutor(its)
	a.Cleanup(func() {
		if err := executor.Close(context.Background()); err != nil {
			a.Error(err)
		}
	})
	cfg.Executor = executor
	return executor, New(cfg)
}

// sweep takes away what nobody can see any more, and tells whether there was anything.
func (a *api) sweep(ctx context.Context) (swept bool, err error) {
	views := projections.Views{DB: a.DB(), Now: a.executor.Now}
	by, err := views.Clock(ctx)
	if err != nil {
		return false, err
	}
	queues, err := views.Sweepable(ctx, projections.SweepLook[int64]{By: by, Most: 50})
	if err != nil {
		return false, err
	}
	for _, q := range queues {
		more, err := commands.Run(ctx, a.executor, commands.SweepQueue{Queue: q.Queue, Number: q.Number})
		if err != nil {
			return false, err
		}
		swept = swept || more
	}
	return swept, nil
}
