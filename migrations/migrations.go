// Package migrations brings a database to the schema that this nabu works with, in
// the order in which the schema grew. A migration that was released never changes.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"

	"nabu/internal/postgres"
	"nabu/projections"
)

//go:embed *.sql
var files embed.FS

// liveStep is the name of the step that makes the read models.
const liveStep = "0002_live"

// versionTable is where goose notes what it has done.
const versionTable = "ledger.migrations"

// Migration is one step of the schema and when it was taken.
type Migration struct {
	Version   int64
	Name      string
	AppliedAt time.Time // zero: not yet
}

// Up takes all steps that are missing. Several may call it at once: one does the
// work, the others wait for it. The URL must lead to the database directly, not
// through a transaction pooler, as the role that owns the database or may create
// schemas in it. Each time the roles get what a restored dump lacks.
func Up(ctx context.Context, url string) error {
	return with(ctx, url, func(db *sql.DB, provider *goose.Provider) error {
		if _, err := provider.Up(ctx); err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		return settle(ctx, db)
	})
}

// Status lists all steps in order.
func Status(ctx context.Context, url string) ([]Migration, error) {
	var steps []Migration
	err := with(ctx, url, func(_ *sql.DB, provider *goose.Provider) error {
		all, err := provider.Status(ctx)
		if err != nil {
			return fmt.Errorf("migration status: %w", err)
		}
		for _, s := range all {
			name := s.Source.Path
			if name == "" { // a step in Go, of which there is one
				name = liveStep
			}
			steps = append(steps, Migration{s.Source.Version, name, s.AppliedAt})
		}
		return nil
	})
	return steps, err
}

func with(ctx context.Context, url string, do func(*sql.DB, *goose.Provider) error) (err error) {
	db, err := postgres.Open(url, 3)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	// goose keeps its own table inside the ledger's schema, so that has to be there
	// first. Two at once may both find it missing.
	if _, err := db.ExecContext(ctx, `
DO $$
BEGIN
    PERFORM pg_advisory_xact_lock(7881299347898369);
    CREATE SCHEMA IF NOT EXISTS ledger;
END
$$`); err != nil {
		return fmt.Errorf("create schema ledger: %w", err)
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return fmt.Errorf("migration lock: %w", err)
	}
	store, err := database.NewStore(database.DialectPostgres, versionTable)
	if err != nil {
		return fmt.Errorf("migration store: %w", err)
	}
	provider, err := goose.NewProvider("", db, files,
		goose.WithStore(store), goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true),
		goose.WithGoMigrations(goose.NewGoMigration(2, &goose.GoFunc{RunTx: createLive}, nil)))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	return do(db, provider)
}

// createLive makes the schema of the live read models. Where there are two roles, the
// one that migrates being a member of nabu_app, it belongs to that one, which later
// builds copies beside it and swaps them.
func createLive(ctx context.Context, tx *sql.Tx) error {
	var appRole bool
	if err := tx.QueryRowContext(ctx, `
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'nabu_app' AND rolname <> current_user
    AND pg_has_role(current_user, oid, 'MEMBER'))`).Scan(&appRole); err != nil {
		return fmt.Errorf("look for role nabu_app: %w", err)
	}
	statements := []string{`CREATE SCHEMA live`, `SET LOCAL search_path = live`}
	if appRole {
		statements = []string{`CREATE SCHEMA live AUTHORIZATION nabu_app`, `SET LOCAL ROLE nabu_app`, `SET LOCAL search_path = live`}
	}
	for _, statement := range statements {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("create schema live: %w", err)
		}
	}
	if err := projections.Create(ctx, tx); err != nil {
		return err
	}
	// goose writes its own table afterwards, as the role it came with.
	for _, statement := range []string{`RESET ROLE`, `RESET search_path`} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("create schema live: %w", err)
		}
	}
	return nil
}

// settle gives the roles what stands outside of the schemas, and so in no dump of the
// database: nabu_app may make the schemas of rebuilt read models, or the one role there
// is finds the live ones. Several may call it at once.
func settle(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, `
DO $$
BEGIN
    PERFORM pg_advisory_xact_lock(7881299347898369);
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'nabu_app' AND rolname <> current_user
            AND pg_has_role(current_user, oid, 'MEMBER')) THEN
        IF NOT has_database_privilege('nabu_app', current_database(), 'CREATE')
                AND has_database_privilege(current_database(), 'CREATE WITH GRANT OPTION') THEN
            EXECUTE format('GRANT CREATE ON DATABASE %I TO nabu_app', current_database());
        END IF;
    ELSIF NOT current_schemas(false) @> ARRAY['live', 'ledger']::name[] THEN
        EXECUTE format('ALTER ROLE CURRENT_USER IN DATABASE %I SET search_path = live, ledger', current_database());
    END IF;
END
$$`)
	if err != nil {
		return fmt.Errorf("settle the roles' rights: %w", err)
	}
	return nil
}
