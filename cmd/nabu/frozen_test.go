package main

import (
	"os"
	"sync"
	"testing"
	"time"

	"nabu/internal/pgtest"
	"nabu/internal/postgres"
)

// TestAFrozenDatabaseHoldsNobodyForEver: while PostgreSQL is silent and its connections stay
// open, reads are refused, /readyz says no, and /metrics shows what nabu knows by itself.
func TestAFrozenDatabaseHoldsNobodyForEver(t *testing.T) {
	t.Parallel()
	server := pgtest.OpenServer(t, map[string]string{"fsync": "off"})
	if err := run(t.Context(), []string{"migrate", "up", "--database-url", server.URL(postgres.Owner, postgres.Database)}, cleanEnviron(), os.Stderr); err != nil {
		t.Fatal(err)
	}
	network := networkBefore(t, server.URL(postgres.App, postgres.Database))
	host, port := network.Host()
	app, err := postgres.With(server.URL(postgres.App, postgres.Database), map[string]string{"host": host, "port": port})
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, "--database-url", app)
	r.call("PUT", "/v2/queues/q", "", 201)
	r.call("GET", "/v2/queues/q", "", 200)

	network.Stall()
	defer network.Flow()
	var asking sync.WaitGroup
	for _, path := range []string{"/v2/queues", "/v2/queues/q", "/v2/queues/q/messages", "/readyz"} {
		asking.Go(func() { r.call("GET", path, "", 503) })
	}
	asking.Go(func() {
		r.mustShow(r.call("GET", "/metrics", "", 200), "nabu_commands_waiting", "nabu_database_up 0")
	})
	answered := make(chan struct{})
	go func() { asking.Wait(); close(answered) }()
	select {
	case <-answered:
	case <-time.After(time.Minute):
		network.Flow()
		t.Fatal("nabu waits for as long as its database is frozen")
	}
	network.Flow()
	r.call("PUT", "/v2/queues/q", "", 204)
	r.call("GET", "/v2/queues/q", "", 200)
	r.mustShow(r.call("GET", "/metrics", "", 200), "nabu_consumer_lag_events", "nabu_database_up 1")
	r.end()
}
