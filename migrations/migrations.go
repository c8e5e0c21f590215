// Package migrations brings a database to the schema that this nabu works with, in
// the order in which the schema grew. A migration that was released never changes.
package migrations

import (
	"cmp"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"

	"nabu/internal/postgres"
	"nabu/projections"
)

//go:embed *.sql
var files embed.FS

// LiveStep is the name of the step that makes the read models.
const LiveStep = "0002_live"

// versionTable is where goose notes what it has done.
const versionTable = "ledger.migrations"

// Migration is one step of the schema and when it was taken.
type Migration struct {
	Version   int64
	Name      string    // empty: this nabu does not know the step
	AppliedAt time.Time // zero: not yet
}

// UnknownError says that the schema has steps that a later nabu took.
type UnknownError struct{ Versions []int64 }

func (e *UnknownError) Error() string {
	steps := make([]string, len(e.Versions))
	for i, v := range e.Versions {
		steps[i] = fmt.Sprintf("%04d", v)
	}
	return "a later nabu has changed this database's schema; this one does not know step " + strings.Join(steps, ", ") +
		" and changes nothing: run that nabu, or restore a dump from before"
}

// Up takes all steps that are missing. Several may call it at once: one does the
// work, the others wait for it. The URL must lead to the database directly, not
// through a transaction pooler, as the role that owns the database or may create
// schemas in it. Each time the roles get what a restored dump lacks. Where the schema
// has steps that this nabu does not know, it changes nothing and fails with an
// UnknownError. Read models that another nabu has made it leaves as they are, takes the steps,
// and fails with a projections.StaleError.
func Up(ctx context.Context, url string) error {
	return with(url, func(db *sql.DB, provider *goose.Provider) error {
		if err := checkKnown(ctx, db, provider); err != nil {
			return err
		}
		if err := makeSchema(ctx, db); err != nil {
			return err
		}
		if _, err := provider.Up(ctx); err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		if err := settle(ctx, db); err != nil {
			return err
		}
		return projections.CheckFit(ctx, db)
	})
}

// CheckFit fails with a projections.StaleError where the read models were made by another
// nabu. It only reads.
func CheckFit(ctx context.Context, url string) error {
	return with(url, func(db *sql.DB, _ *goose.Provider) error { return projections.CheckFit(ctx, db) })
}

// Status lists all steps in order, those that this nabu does not know as well. It only
// reads.
func Status(ctx context.Context, url string) (steps []Migration, err error) {
	err = with(url, func(db *sql.DB, provider *goose.Provider) error {
		steps, err = status(ctx, db, provider)
		return err
	})
	return steps, err
}

// CheckKnown fails with an UnknownError where the schema has steps that this nabu does
// not know. It only reads.
func CheckKnown(ctx context.Context, url string) error {
	return with(url, func(db *sql.DB, provider *goose.Provider) error { return checkKnown(ctx, db, provider) })
}

func checkKnown(ctx context.Context, db *sql.DB, provider *goose.Provider) error {
	steps, err := status(ctx, db, provider)
	if err != nil {
		return err
	}
	var unknown []int64
	for _, step := range steps {
		if step.Name == "" {
			unknown = append(unknown, step.Version)
		}
	}
	if unknown != nil {
		return &UnknownError{unknown}
	}
	return nil
}

// status reads goose's table by itself: goose would make it where it is missing.
func status(ctx context.Context, db *sql.DB, provider *goose.Provider) (steps []Migration, err error) {
	taken, err := takenSteps(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("migration status: %w", err)
	}
	for _, source := range provider.ListSources() {
		name := source.Path
		if name == "" { // a step in Go, of which there is one
			name = LiveStep
		}
		steps = append(steps, Migration{source.Version, name, taken[source.Version]})
		delete(taken, source.Version)
	}
	for version, at := range taken {
		steps = append(steps, Migration{Version: version, AppliedAt: at})
	}
	slices.SortFunc(steps, func(a, b Migration) int { return cmp.Compare(a.Version, b.Version) })
	return steps, nil
}

// takenSteps tells when each step was taken, by its version.
func takenSteps(ctx context.Context, db *sql.DB) (taken map[int64]time.Time, err error) {
	var begun bool
	if err := db.QueryRowContext(ctx, `SELECT to_regclass('`+versionTable+`') IS NOT NULL`).Scan(&begun); err != nil || !begun {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, `
SELECT version_id, max(tstamp) AT TIME ZONE current_setting('TimeZone') FROM `+versionTable+`
WHERE is_applied AND version_id > 0 GROUP BY version_id`)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	taken = map[int64]time.Time{}
	for rows.Next() {
		var version int64
		var at time.Time
		if err := rows.Scan(&version, &at); err != nil {
			return nil, err
		}
		taken[version] = at
	}
	return taken, rows.Err()
}

func with(url string, do func(*sql.DB, *goose.Provider) error) (err error) {
	db, err := postgres.Open(url, 3)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
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

// makeSchema makes the ledger's schema: goose keeps its own table inside, so it has to be
// there first. Two at once may both find it missing.
func makeSchema(ctx context.Context, db *sql.DB) error {
	if _, err := db.ExecContext(ctx, `
DO $$
BEGIN
    PERFORM pg_advisory_xact_lock(7881299347898369);
    CREATE SCHEMA IF NOT EXISTS ledger;
END
$$`); err != nil {
		return fmt.Errorf("create schema ledger: %w", err)
	}
	return nil
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
	if err := projections.Sign(ctx, tx, projections.All); err != nil {
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
