package main

import (
	"bytes"
	"context"
	"database/sql"
	"strings"
	"testing"

	"nabu/internal/pgtest"
	"nabu/internal/postgres"
)

// command runs a command on a PostgreSQL with the two roles.
func command(t *testing.T, server *postgres.Server, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := run(context.Background(), append(args, urlsOf(server)...), cleanEnviron(), &out)
	return out.String(), err
}

// schemas lists what anybody made in a database.
func schemas(t *testing.T, db *sql.DB) (names string) {
	t.Helper()
	if err := db.QueryRow(`
SELECT coalesce(string_agg(nspname, ' ' ORDER BY nspname), '') FROM pg_namespace
WHERE nspname NOT LIKE 'pg\_%' AND nspname NOT IN ('information_schema', 'public')`).Scan(&names); err != nil {
		t.Fatal(err)
	}
	return names
}

func TestMigrateStatusOnlyReads(t *testing.T) {
	t.Parallel()
	server := pgtest.OpenServer(t, map[string]string{"fsync": "off"})
	db := adminOf(t, server, postgres.Database)
	out, err := command(t, server, "migrate", "status")
	if err != nil || strings.Count(out, "not yet") != strings.Count(out, "\n")-1 || !strings.Contains(out, "0002_live") {
		t.Errorf("before the first step the status is %v:\n%s", err, out)
	}
	if made := schemas(t, db); made != "" {
		t.Errorf("the status made %s", made)
	}
	if out, err := command(t, server, "migrate", "up"); err != nil || !strings.HasPrefix(out, "4 of 4 steps") {
		t.Fatalf("migrate up: %v, %s", err, out)
	}
	if out, err := command(t, server, "migrate", "status"); err != nil || strings.Contains(out, "not yet") {
		t.Errorf("afterwards the status is %v:\n%s", err, out)
	}
}

// TestAnOlderNabuIsRefused: a schema with steps that this nabu does not know is left alone.
func TestAnOlderNabuIsRefused(t *testing.T) {
	t.Parallel()
	server := pgtest.OpenServer(t, map[string]string{"fsync": "off"})
	if _, err := command(t, server, "migrate", "up"); err != nil {
		t.Fatal(err)
	}
	db := adminOf(t, server, postgres.Database)
	if _, err := db.Exec(`INSERT INTO ledger.migrations (version_id, is_applied) VALUES (4711, true)`); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"serve", "--listen", "127.0.0.1:0"}, {"migrate", "up"}, {"replay"}, {"replay", "--check"}} {
		if _, err := command(t, server, args...); err == nil || exitCode(err) != exitMisconfigured || !strings.Contains(err.Error(), "does not know step 4711") {
			t.Errorf("%v says %v", args, err)
		}
	}
	if out, err := command(t, server, "migrate", "status"); err != nil || !strings.Contains(out, "4711     (of a later nabu)") {
		t.Errorf("the status is %v:\n%s", err, out)
	}
}
