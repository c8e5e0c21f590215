package pgtest_test

import (
	"database/sql"
	"testing"

	"nabu/internal/pgtest"
	"nabu/internal/postgres"
	"nabu/migrations"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func pool(t *testing.T, url string) *sql.DB {
	t.Helper()
	db, err := postgres.Open(url, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func run(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

func query(t *testing.T, db *sql.DB, statement string) string {
	t.Helper()
	var value string
	if err := db.QueryRow(statement).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

func TestDatabaseIsMigratedAndHasThreeRoles(t *testing.T) {
	t.Parallel()
	d := pgtest.Open(t)
	for url, want := range map[string]string{
		d.URL():      "nabu_app false",
		d.OwnerURL(): "nabu_owner false",
	} {
		if got := query(t, pool(t, url), `SELECT current_user || ' ' || rolsuper FROM pg_roles WHERE rolname = current_user`); got != want {
			t.Errorf("the role is %s, want %s", got, want)
		}
	}
	if got := query(t, pool(t, d.AdminURL()), `SELECT rolsuper FROM pg_roles WHERE rolname = current_user`); got != "true" {
		t.Error("the superuser is none")
	}
	query(t, d.DB(), `SELECT count(*) FROM events`)
	if _, err := d.DB().Exec(`DELETE FROM events`); err == nil {
		t.Error("the ledger lets events be deleted")
	}
}

func TestDatabasesOfRunningTestsDiffer(t *testing.T) {
	t.Parallel()
	a, b := pgtest.Open(t), pgtest.Open(t)
	if query(t, a.DB(), `SELECT current_database()`) == query(t, b.DB(), `SELECT current_database()`) {
		t.Error("two tests share a database")
	}
}

// Not parallel: the test after this one gets the database that this one gave back.
func TestGivenBack(t *testing.T) {
	const migrationsDone = `SELECT count(*) || ' ' || max(id) FROM ledger.migrations`
	var name, done string
	t.Run("used", func(t *testing.T) {
		d := pgtest.Open(t)
		name, done = query(t, d.DB(), `SELECT current_database()`), query(t, pool(t, d.OwnerURL()), migrationsDone)
		admin := pool(t, d.AdminURL())
		run(t, admin, `UPDATE ledger.migrations SET tstamp = now()`)
		run(t, admin, `DELETE FROM ledger.migrations`)
		tx, err := pool(t, d.URL()).Begin() // left open
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = tx.Rollback() })
		if _, err := tx.Exec(`LOCK TABLE events IN ACCESS SHARE MODE`); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("is as new", func(t *testing.T) {
		d := pgtest.Open(t)
		if got := query(t, d.DB(), `SELECT current_database()`); got != name {
			t.Errorf("got %s, want %s again", got, name)
		}
		if got := query(t, pool(t, d.OwnerURL()), migrationsDone); got != done {
			t.Errorf("migrations are %s, want %s", got, done)
		}
		run(t, d.DB(), `CREATE SCHEMA next`)
	})
	t.Run("with another shape is thrown away", func(t *testing.T) {
		d := pgtest.Open(t)
		if got := query(t, d.DB(), `SELECT current_database()`); got == name {
			t.Errorf("got %s again", got)
		}
		if got := query(t, d.DB(), `SELECT count(*) FROM pg_namespace WHERE nspname = 'next'`); got != "0" {
			t.Error("schema next is left")
		}
		name = query(t, d.DB(), `SELECT current_database()`)
		run(t, d.DB(), `
INSERT INTO claims (queue, id, place, ttl, renewed_at, ends_at, held, places)
SELECT 1, gen_random_uuid(), n, 60, now(), now(), 1, ARRAY[n] FROM generate_series(1, 20000) AS n`)
	})
	t.Run("with dead rows is thrown away", func(t *testing.T) {
		if got := query(t, pgtest.Open(t).DB(), `SELECT current_database()`); got == name {
			t.Errorf("got %s again", got)
		}
	})
}

func TestEmptyDatabaseCanBeMigrated(t *testing.T) {
	t.Parallel()
	d := pgtest.OpenEmpty(t)
	if got := query(t, d.DB(), `SELECT count(*) FROM pg_namespace WHERE nspname IN ('live', 'ledger')`); got != "0" {
		t.Error("it is not empty")
	}
	if err := migrations.Up(t.Context(), d.OwnerURL()); err != nil {
		t.Fatal(err)
	}
	query(t, d.DB(), `SELECT count(*) FROM events`)
}

func TestServerOfItsOwnIsDurable(t *testing.T) {
	t.Parallel()
	s := pgtest.OpenServer(t, map[string]string{"max_connections": "20"})
	db := pool(t, s.URL(postgres.App, postgres.Database))
	got := query(t, db, `SELECT concat_ws(' ', current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes'), current_setting('max_connections'))`)
	if got != "on on on 20" {
		t.Errorf("settings are %s", got)
	}
}
