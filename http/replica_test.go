package http

import (
	"context"
	"net/http/httptest"
	"time"

	"nabu/commands"
	"nabu/projections"
)

// The settings of which the contract leaves a choice, in one place.

func withClaimIDs(cfg *Config)  { cfg.DeleteWithClaim = true }
func withChecksums(cfg *Config) { cfg.Checksums = true }

// replica starts one more server over the same database with the same clock.
func (a *api) replica(change ...func(*Config)) *api {
	a.Helper()
	return a.replicaBy(a.executor.Now, change...)
}

// replicaBy starts one more server with another clock; nil: the database's.
func (a *api) replicaBy(now func() time.Time, change ...func(*Config)) *api {
	a.Helper()
	b := *a
	cfg := a.server.Config
	cfg.Views = &projections.Views{DB: a.DB(), Now: now}
	cfg.Registry = nil
	for _, c := range change {
		c(&cfg)
	}
	its := a.executor.Config
	its.Limits, its.Now = cfg.Limits, now
	b.executor = commands.NewExecutor(its)
	a.Cleanup(func() {
		if err := b.executor.Close(context.Background()); err != nil {
			a.Error(err)
		}
	})
	cfg.Executor = b.executor
	b.server = New(cfg)
	listening := httptest.NewServer(b.server.Handler())
	a.Cleanup(listening.Close)
	b.url = listening.URL
	return &b
}

// sweep takes away what nobody can see any more, and tells whether there was anything.
func (a *api) sweep(ctx context.Context) (swept bool, err error) {
	views := projections.Views{DB: a.DB(), Now: a.executor.Now}
	queues, err := views.Sweepable(ctx, 50)
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
