package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"nabu/internal/pgtest"
	"nabu/internal/postgres"
	"nabu/projections"
)

// TestReadModelsOfAnotherNabuAreMadeAnewFirst: with tables that another statement made, nabu says
// what to do instead of serving, and after a replay it serves. One that serves already is no
// longer ready.
func TestReadModelsOfAnotherNabuAreMadeAnewFirst(t *testing.T) {
	t.Parallel()
	server := pgtest.OpenServer(t, map[string]string{"fsync": "off"})
	if _, err := command(t, server, "migrate", "up"); err != nil {
		t.Fatal(err)
	}
	r := start(t, urlsOf(server)...)
	r.call("PUT", "/v2/queues/q", "", 201)
	r.call("GET", "/readyz", "", 200)

	db := adminOf(t, server, postgres.Database)
	if _, err := db.Exec(`
DO $$
BEGIN
    EXECUTE format('COMMENT ON SCHEMA live IS %L', ((obj_description('live'::regnamespace, 'pg_namespace')::jsonb || '{"tasks": "other"}'::jsonb) - 'shares'::text)::text);
END
$$`); err != nil {
		t.Fatal(err)
	}
	const says = "shares, tasks were made by another nabu and may not fit this one: nabu replay makes them anew"
	r.mustShow(r.call("GET", "/readyz", "", 503), says)
	r.end()
	args := append([]string{"serve", "--listen", "127.0.0.1:0"}, urlsOf(server)...)
	if err := run(context.Background(), args, cleanEnviron(), os.Stderr); exitCode(err) != exitMisconfigured || !strings.Contains(err.Error(), says) {
		t.Errorf("serve: %v", err)
	}
	if out, err := command(t, server, "migrate", "up"); exitCode(err) != exitMisconfigured || !strings.Contains(err.Error(), says) {
		t.Errorf("migrate up: %v, %s", err, out)
	}
	if out, err := command(t, server, "migrate", "status"); err != nil || !strings.Contains(out, "to be made anew by nabu replay: shares, tasks") {
		t.Errorf("migrate status: %v, %s", err, out)
	}
	if _, err := command(t, server, "replay", "tasks"); err != nil {
		t.Fatal(err)
	}
	if stale, is := errors.AsType[*projections.StaleError](projections.CheckFit(t.Context(), db)); !is || strings.Join(stale.Projections, " ") != "shares" {
		t.Errorf("after a replay of tasks: %v", stale)
	}
	if _, err := command(t, server, "replay"); err != nil {
		t.Fatal(err)
	}
	r = start(t, urlsOf(server)...)
	r.call("GET", "/v2/queues/q", "", 200)
	r.call("GET", "/readyz", "", 200)
	r.end()
}
