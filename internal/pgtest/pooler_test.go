package pgtest_test

import (
	"testing"

	"nabu/internal/pgtest"
)

func TestThePoolerSharesBackends(t *testing.T) {
	t.Parallel()
	if !pgtest.Pooled() {
		t.Skip("NABU_TEST_PGBOUNCER names no pgbouncer")
	}
	db := pgtest.Open(t).DB()
	backends := map[int]bool{}
	const connections = 10 // all a test has
	for range connections {
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		var backend int
		if err := conn.QueryRowContext(t.Context(), `SELECT pg_backend_pid()`).Scan(&backend); err != nil {
			t.Fatal(err)
		}
		backends[backend] = true
	}
	if len(backends) == connections {
		t.Error("each connection has a backend of its own")
	}
}
