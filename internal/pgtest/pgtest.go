// Package pgtest gives each test a migrated PostgreSQL database that no other running
// test uses. A package that uses it has TestMain call Main. It must never be used
// outside of tests: it deletes everything in the databases that it hands out.
package pgtest

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"nabu/internal/postgres"
)

// maxConns is how many connections a test's pool may have.
const maxConns = 10

// Database is one test's own.
type Database struct {
	server *server
	name   string
	db     *sql.DB
}

// Main runs a package's tests, stops the server that they shared and ends the
// process. Goroutines that are left behind count as a failure.
func Main(m *testing.M) {
	code := m.Run()
	if err := common.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = 1
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// Open hands out a migrated and empty database until the end of the test, when it is
// emptied for the next.
func Open(t testing.TB) *Database {
	t.Helper()
	s := common.open(t)
	slot, err := s.take(context.Background())
	if err != nil {
		t.Fatal("pgtest:", err)
	}
	t.Cleanup(func() {
		if err := s.giveBack(context.Background(), slot); err != nil {
			t.Error("pgtest:", err)
		}
	})
	return s.database(t, slot.name)
}

// OpenEmpty hands out a database in which no migration has run. It is dropped at the
// end of the test.
func OpenEmpty(t testing.TB) *Database {
	t.Helper()
	s := common.open(t)
	name := s.nextName()
	if err := postgres.CreateDatabase(context.Background(), s.admin, name, ""); err != nil {
		t.Fatal("pgtest:", err)
	}
	t.Cleanup(func() {
		if err := s.drop(context.Background(), name); err != nil {
			t.Error("pgtest:", err)
		}
	})
	return s.database(t, name)
}

// OpenServer starts a server for this test alone, as durable as in earnest, and stops
// it at the end of the test. No migration has run in its database.
func OpenServer(t testing.TB, settings map[string]string) *postgres.Server {
	t.Helper()
	dir, err := newFolder()
	if err != nil {
		t.Fatal("pgtest:", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s, err := postgres.Start(context.Background(), postgres.Config{
		DataDir:  filepath.Join(dir, "data"),
		Program:  "a test",
		Settings: settings,
	})
	if err != nil {
		t.Fatal("pgtest:", err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error("pgtest:", err)
		}
	})
	return s
}

// URL is the database for the role that serves.
func (d *Database) URL() string { return d.server.url(postgres.App, d.name) }

// OwnerURL is the database for the role that migrates.
func (d *Database) OwnerURL() string { return d.server.url(postgres.Owner, d.name) }

// AdminURL is the database for the superuser.
func (d *Database) AdminURL() string { return d.server.url(postgres.Admin, d.name) }

// DB is a pool for the role that serves, through the pooler if there is one. It is closed
// at the end of the test.
func (d *Database) DB() *sql.DB { return d.db }

func (s *server) database(t testing.TB, name string) *Database {
	t.Helper()
	d := &Database{server: s, name: name}
	url := d.URL()
	var err error
	if s.pooler != nil {
		if url, err = s.pooler.url(url); err != nil {
			t.Fatal("pgtest:", err)
		}
	}
	db, err := postgres.Open(url, maxConns)
	if err != nil {
		t.Fatal("pgtest:", err)
	}
	t.Cleanup(func() { _ = db.Close() })
	d.db = db
	return d
}
