package main

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nabu/internal/pgtest"
	"nabu/internal/postgres"
)

// TestServeTellsWhenItsDatabaseIsBack: once, as it tells once that it is away.
func TestServeTellsWhenItsDatabaseIsBack(t *testing.T) {
	t.Parallel()
	server := pgtest.OpenServer(t, map[string]string{"fsync": "off"})
	folder, err := os.MkdirTemp("", "presence") // a test's own may be too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	app, err := url.Parse(server.URL(postgres.App, postgres.Database))
	if err != nil {
		t.Fatal(err)
	}
	query := app.Query()
	socket := filepath.Join(query.Get("host"), ".s.PGSQL.5432")
	way := filepath.Join(folder, ".s.PGSQL.5432")
	query.Set("host", folder)
	app.RawQuery = query.Encode()
	link := func() {
		if err := os.Symlink(socket, way); err != nil {
			t.Fatal(err)
		}
	}
	if err := run(t.Context(), []string{"migrate", "up", "--database-url", server.URL(postgres.Owner, postgres.Database)}, cleanEnviron(), os.Stderr); err != nil {
		t.Fatal(err)
	}

	link()
	r := start(t, "--database-url", app.String())
	r.call("PUT", "/v2/queues/q", "", 201)
	if err := os.Remove(way); err != nil {
		t.Fatal(err)
	}
	if _, err := adminOf(t, server, postgres.Database).Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'nabu_app'`); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		r.call("PUT", "/v2/queues/q", "", 503)
		r.call("GET", "/v2/queues/q", "", 503)
	}
	link()
	r.call("PUT", "/v2/queues/q", "", 204)
	r.end()
	for _, words := range []string{"the database is away", "the database is back"} {
		if n := strings.Count(r.logged(), words); n != 1 {
			t.Errorf("%q stands %d times in the log:\n%s", words, n, r.logged())
		}
	}
}
