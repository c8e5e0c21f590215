package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"nabu/internal/postgres"
	"nabu/migrations"
)

// database is PostgreSQL as the service uses it: a connection to write with, and
// the others to read with.
type database struct {
	private *postgres.Server // nil: the operator's own
	write   *sql.DB
	ahead   *sql.DB // loads what the next writes will want
	read    *sql.DB
	direct  *sql.DB // around a pooler, for the feed's readers
	// directURL is where direct leads.
	directURL string
	// pooled: a transaction pooler stands before the others.
	pooled bool
}

// writeConnections is one to write, and one to load what the next writes will want.
// directConnections is one for each consumer of the feed, and one more. bellConnections
// are those by which nabus on one database wake each other.
const (
	writeConnections  = 2
	directConnections = 4
	bellConnections   = 2
)

// lockPatience is how long to wait for another nabu that holds the data folder.
const lockPatience = 10 * time.Second

// answerPatience is how long the database may leave a statement without an answer. A
// batch's wait for the ledger's lock is bounded before that, by five seconds, and so is
// what a view may take. What takes longer (steps of the schema, rebuilds) has pools of its
// own.
const answerPatience = 10 * time.Second

// openDatabase finds or starts PostgreSQL, brings its schema up to date and opens
// the pools.
func openDatabase(ctx context.Context, cfg config, environ environment, log *slog.Logger) (_ *database, err error) {
	d := &database{}
	defer func() {
		if err != nil {
			stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.ShutdownTimeout)
			defer cancel()
			err = errors.Join(err, d.close(stopping))
		}
	}()
	w := cfg.ways()
	if w.app == "" {
		if d.private, err = startPrivate(ctx, cfg, environ, log); err != nil {
			return d, err
		}
		w = ways{app: d.private.URL(postgres.App, postgres.Database), owner: d.private.URL(postgres.Owner, postgres.Database)}
	} else {
		log.Info("using PostgreSQL", "database", postgres.Redact(w.app))
	}
	if w, err = w.named(cfg, environ); err != nil {
		return d, err
	}
	// Before the first step of the schema, so that a start that must fail changes nothing.
	if err := w.logIn(ctx); err != nil {
		return d, err
	}
	if err := migrations.Up(ctx, w.owner); err != nil {
		return d, w.explain(w.ownerKey, err)
	}
	if err := d.openPools(w, cfg, log); err != nil {
		return d, misconfigured(err)
	}
	d.pooled, err = inspect(ctx, d.read, log)
	return d, w.explain(w.appKey, err)
}

// openPools opens the pools. A way around a pooler can be there while the pooler is away, so
// each way has a presence of its own.
func (d *database) openPools(w ways, cfg config, log *slog.Logger) (err error) {
	presence := postgres.NewPresence(w.app, log)
	if d.write, err = presence.OpenWriter(answerPatience); err != nil {
		return err
	}
	if d.ahead, err = presence.OpenWriter(answerPatience); err != nil {
		return err
	}
	others := writeConnections + directConnections + bellConnections
	if d.read, err = presence.OpenImpatient(cfg.MaxConnections-others, answerPatience); err != nil {
		return err
	}
	d.directURL = w.app
	if cfg.DirectDatabaseURL != "" {
		d.directURL = w.owner
		presence = postgres.NewPresence(d.directURL, log)
	}
	d.direct, err = presence.OpenImpatient(directConnections, answerPatience)
	return err
}

// startPrivate starts a PostgreSQL of nabu's own.
func startPrivate(ctx context.Context, cfg config, environ environment, log *slog.Logger) (*postgres.Server, error) {
	if cfg.Env == production && !cfg.AllowPrivatePostgres {
		return nil, misconfigured(errors.New("env is production, which wants a PostgreSQL that is looked after: set database_url, or allow a private one with allow_private_postgres"))
	}
	log.Info("no database_url is set: using a private PostgreSQL",
		"data_dir", cfg.DataDir, "to_use_your_own", "nabu serve --database-url postgres://user@host/database")
	return postgres.Start(ctx, privateConfig(cfg, environ, log, "nabu serve"))
}

func privateConfig(cfg config, environ environment, log *slog.Logger, program string) postgres.Config {
	return postgres.Config{
		DataDir: cfg.DataDir, BinDir: cfg.PGBin, RuntimeDir: environ.get("XDG_RUNTIME_DIR"),
		Log: log, Program: program, WaitLock: lockPatience,
	}
}

// lost is closed when the private PostgreSQL ended by itself.
func (d *database) lost() <-chan struct{} {
	if d.private == nil {
		return nil
	}
	return d.private.Done()
}

// close ends all connections and the private PostgreSQL.
func (d *database) close(ctx context.Context) error {
	var problems []error
	for _, pool := range []*sql.DB{d.write, d.ahead, d.read, d.direct} {
		if pool != nil {
			problems = append(problems, pool.Close())
		}
	}
	if d.private != nil {
		problems = append(problems, d.private.Stop(ctx))
	}
	return errors.Join(problems...)
}

// inspect refuses a database in which the read models would not be found, and warns
// of what weakens nabu's promises. It tells whether a transaction pooler stands before it.
func inspect(ctx context.Context, db *sql.DB, log *slog.Logger) (pooled bool, err error) {
	var role, name, path, encoding, isolation string
	var finds, owns bool
	err = db.QueryRowContext(ctx, `
SELECT current_user, current_database(), current_setting('search_path'),
    current_setting('server_encoding'), current_setting('default_transaction_isolation'),
    current_schemas(false) @> ARRAY['live', 'ledger']::name[],
    pg_has_role(current_user, relowner, 'MEMBER')
FROM pg_class WHERE oid = 'ledger.events'::regclass`).Scan(&role, &name, &path, &encoding, &isolation, &finds, &owns)
	if err != nil {
		return false, fmt.Errorf("look at the database: %w", err)
	}
	if encoding != "UTF8" {
		return false, misconfigured(fmt.Errorf("database %s is encoded in %s; nabu needs UTF8", name, encoding))
	}
	if isolation != "read committed" {
		return false, misconfigured(fmt.Errorf("default_transaction_isolation is %q for role %s in database %s; nabu needs read committed", isolation, role, name))
	}
	if !finds {
		return false, misconfigured(fmt.Errorf(`role %[1]s does not look for tables in the schemas live and ledger; its search_path is %[3]s. Tell it to, and let a pooler connect anew:
  ALTER ROLE %[1]q IN DATABASE %[2]q SET search_path = live, ledger;
  GRANT USAGE ON SCHEMA live, ledger, secrets TO %[1]q;`, role, name, path))
	}
	if owns {
		log.Warn("only triggers keep the ledger append-only, for the role that nabu works with could remove them; use two roles, nabu_owner in direct_database_url and nabu_app in database_url", "role", role)
	}
	if pooled, err = isPooled(ctx, db); err != nil {
		return false, fmt.Errorf("look for a pooler: %w", err)
	}
	if pooled {
		log.Warn("database_url leads through a transaction pooler, which is fine if direct_database_url leads around it")
	}
	return pooled, nil
}

// isPooled tells whether a connection changes its backend from one statement to the
// next. A pooler that is idle would always give the same one, so another connection
// takes that away for a moment.
func isPooled(ctx context.Context, db *sql.DB) (bool, error) {
	other, err := db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = other.Rollback() }()
	if _, err := backend(ctx, other); err != nil {
		return false, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	first, err := backend(ctx, conn)
	if err != nil {
		return false, err
	}
	if err := other.Rollback(); err != nil {
		return false, err
	}
	for range 3 {
		if next, err := backend(ctx, conn); err != nil || next != first {
			return err == nil, err
		}
	}
	return false, nil
}

func backend(ctx context.Context, on interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}) (pid int, err error) {
	err = on.QueryRowContext(ctx, `SELECT pg_backend_pid()`).Scan(&pid)
	return pid, err
}
