package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"nabu/internal/postgres"
)

// ways are the ways to a database, and what to call it.
type ways struct {
	app   string // as the role that works with it
	owner string // as the role that migrates
	name  string // for errors: "the database in folder /var/lib/nabu"
	// The settings that say so, for errors; empty: it is the private PostgreSQL.
	appKey, ownerKey string
}

// attaching finds the private PostgreSQL of a running nabu, or starts one.
type attaching func(context.Context, postgres.Config) (*postgres.Server, error)

// withDatabase hands over the ways to the operator's own database or to the private one,
// be it of a running nabu or started for this. It may have no ledger yet.
func withDatabase(c *cobra.Command, environ environment, attach attaching, use func(context.Context, ways) error) (err error) {
	cfg, _, err := loadConfig(c.Flags(), environ)
	if err != nil {
		return err
	}
	if cfg.DatabaseURL != "" {
		return use(c.Context(), cfg.ways())
	}
	server, err := attach(c.Context(), privateConfig(cfg, environ, nil, c.CommandPath()))
	if err != nil {
		return explainNoData(err)
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), cfg.ShutdownTimeout)
		defer cancel()
		err = errors.Join(err, server.Stop(stopping))
	}()
	return use(c.Context(), ways{
		app: server.URL(postgres.App, postgres.Database), owner: server.URL(postgres.Owner, postgres.Database),
		name: "the database in folder " + server.DataDir(),
	})
}

// ways are those to the operator's own database.
func (c config) ways() ways {
	w := ways{
		app: c.DatabaseURL, owner: c.DirectDatabaseURL, name: "database " + postgres.Redact(c.DatabaseURL),
		appKey: "database_url", ownerKey: "direct_database_url",
	}
	if w.owner == w.app { // the default
		w.ownerKey = w.appKey
	}
	return w
}

// named are the ways with a name by which PostgreSQL's own views tell nabus apart (of 63
// bytes, the others are cut off), unless the operator gives them another.
func (w ways) named(cfg config, environ environment) (_ ways, err error) {
	if environ.get("PGAPPNAME") != "" {
		return w, nil
	}
	for _, url := range []*string{&w.app, &w.owner} {
		if *url, err = postgres.WithDefault(*url, "application_name", "nabu "+cfg.Listen); err != nil {
			return w, misconfigured(err)
		}
	}
	return w, nil
}

// explain says by which setting a connection did not come about, or what a role lacks that
// it should have.
func (w ways) explain(key string, err error) error {
	forbidden := postgres.IsForbidden(err)
	if key == "" || !forbidden && !postgres.IsNotConnected(err) {
		return err
	}
	if forbidden && w.ownerKey == w.appKey {
		return misconfigured(fmt.Errorf("the role of database_url may not do this; set direct_database_url to the same database as the role that owns it, such as nabu_owner: %w", err))
	}
	err = fmt.Errorf("%s: %w", key, err)
	if forbidden || postgres.IsMisconfigured(err) {
		return misconfigured(err)
	}
	return err
}

// logIn looks whether both roles are let in. It changes nothing.
func (w ways) logIn(ctx context.Context) error {
	for _, way := range []struct{ key, url string }{{w.ownerKey, w.owner}, {w.appKey, w.app}} {
		db, err := postgres.Open(way.url, 1)
		if err != nil {
			return misconfigured(err)
		}
		if err := errors.Join(db.PingContext(ctx), db.Close()); err != nil {
			return w.explain(way.key, err)
		}
	}
	return nil
}

// explainNoData says what to do where nabu has no data.
func explainNoData(err error) error {
	if _, none := errors.AsType[*postgres.NoDataError](err); none {
		return misconfigured(fmt.Errorf("%w; nabu serve makes one; if it is elsewhere: --data-dir, or --database-url for a PostgreSQL of your own", err))
	}
	return err
}

// withURLs hands over the ways to a database that has a ledger. It makes nothing.
func withURLs(c *cobra.Command, environ environment, use func(context.Context, ways) error) error {
	return withDatabase(c, environ, postgres.Attach, func(ctx context.Context, w ways) error {
		if err := w.mustHaveLedger(ctx); err != nil {
			return err
		}
		return use(ctx, w)
	})
}

// withLedger hands over a pool of the role that works with a database that has a ledger.
func withLedger(c *cobra.Command, environ environment, use func(ctx context.Context, db *sql.DB) error) error {
	return withURLs(c, environ, func(ctx context.Context, w ways) (err error) {
		db, err := postgres.Open(w.app, 2)
		if err != nil {
			return misconfigured(err)
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		return use(ctx, db)
	})
}

func (w ways) mustHaveLedger(ctx context.Context) (err error) {
	db, err := postgres.Open(w.app, 1)
	if err != nil {
		return misconfigured(err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var there bool
	if err := db.QueryRowContext(ctx, `SELECT to_regclass('ledger.events') IS NOT NULL`).Scan(&there); err != nil {
		return w.explain(w.appKey, fmt.Errorf("look for the ledger: %w", err))
	}
	if !there {
		return fmt.Errorf("%s has no ledger yet: nabu serve or nabu migrate up makes it", w.name)
	}
	return nil
}
