package http

import (
	"context"
	"net/http/httptest"

	"nabu/commands"
	"nabu/projections"
)

// The settings of which the contract leaves a choice, in one place.

func withClaimIDs(cfg *Config)  { cfg.DeleteWithClaim = true }
func withChecksums(cfg *Config) { cfg.Checksums = true }

// replica starts one more server over the same database with the same clock.
func (a *api) replica(change ...func(*Config)) *api {
	a.Helper()
	b := *a
	cfg := a.server.Config
	cfg.Views = &projections.Views{DB: a.DB(), Now: a.executor.Now}
	cfg.Registry = nil
	for _, c := range change {
		c(&cfg)
	}
	its := a.executor.Config
	its.Limits = cfg.Limits
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
