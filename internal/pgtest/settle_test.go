package pgtest

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestADatabaseIsSettledWhenItsLastClientHasLeft(t *testing.T) {
	t.Parallel()
	if !Pooled() {
		t.Skip("NABU_TEST_PGBOUNCER names no pgbouncer")
	}
	d := Open(t)
	conn, err := d.DB().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.PingContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := d.server.pooler.settle(impatient, d.name); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a client: %v", err)
	}
	if err := errors.Join(conn.Close(), d.DB().Close(), d.server.pooler.settle(t.Context(), d.name)); err != nil {
		t.Errorf("without: %v", err)
	}
}
