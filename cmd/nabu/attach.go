package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"nabu/internal/postgres"
)

// withURLs hands over the ways to the database as the role that works with it and as the
// one that migrates: the operator's own, or the private one, be it of a running nabu or
// started for this.
func withURLs(c *cobra.Command, environ environment, use func(ctx context.Context, app, owner string) error) (err error) {
	cfg, _, err := loadConfig(c.Flags(), environ)
	if err != nil {
		return err
	}
	if cfg.DatabaseURL != "" {
		return use(c.Context(), cfg.DatabaseURL, cfg.DirectDatabaseURL)
	}
	server, err := postgres.Attach(c.Context(), privateConfig(cfg, environ, nil, c.CommandPath()))
	if err != nil {
		return err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), cfg.ShutdownTimeout)
		defer cancel()
		err = errors.Join(err, server.Stop(stopping))
	}()
	return use(c.Context(), server.URL(postgres.App, postgres.Database), server.URL(postgres.Owner, postgres.Database))
}

// withOwner hands over a way to the database as the role that migrates.
func withOwner(c *cobra.Command, environ environment, use func(ctx context.Context, url string) error) error {
	return withURLs(c, environ, func(ctx context.Context, _, owner string) error { return use(ctx, owner) })
}

// withLedger hands over a pool of the role that works with the database, which must have
// a ledger.
func withLedger(c *cobra.Command, environ environment, use func(ctx context.Context, db *sql.DB) error) error {
	return withURLs(c, environ, func(ctx context.Context, app, _ string) (err error) {
		db, err := postgres.Open(app, 2)
		if err != nil {
			return misconfigured(err)
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		var there bool
		if err := db.QueryRowContext(ctx, `SELECT to_regclass('ledger.events') IS NOT NULL`).Scan(&there); err != nil {
			return fmt.Errorf("look for the ledger: %w", err)
		}
		if !there {
			return errors.New("this database has no ledger yet: nabu serve or nabu migrate up makes it")
		}
		return use(ctx, db)
	})
}
