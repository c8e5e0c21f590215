package bench

import (
	"context"
	"testing"
	"time"

	"nabu/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestSkipLockedClaimsAndDeletes(t *testing.T) {
	l := SkipLockedLoad{
		DatabaseURL: pgtest.OpenEmpty(t).OwnerURL(), Connections: 4, Body: 100, Duration: 300 * time.Millisecond,
	}
	for name, program := range map[string]string{"lib/pq": "", "pgbench": findPgbench(nil)} {
		if name == "pgbench" && program == "" {
			continue // not on this machine
		}
		l.Pgbench = program
		m, err := l.Run(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if m.Requests == 0 || m.Messages < 4*m.Requests || m.Messages > 6*m.Requests {
			t.Errorf("%s: %d statements took %d messages, not about five each", name, m.Requests, m.Messages)
		}
	}
}

func TestSnapshotsAreHeldUntilTheyAreReleased(t *testing.T) {
	db := pgtest.OpenEmpty(t)
	held := func() bool {
		var n int
		if err := db.DB().QueryRow(`
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND state = 'idle in transaction' AND backend_xmin IS NOT NULL`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 1
	}
	ctx, release := context.WithTimeout(t.Context(), 30*time.Second)
	defer release()
	over := make(chan error, 1)
	go func() { over <- snapshot{db.URL(), 0, time.Hour}.hold(ctx) }()
	for !held() && ctx.Err() == nil {
		pause(ctx, 10*time.Millisecond)
	}
	if ctx.Err() != nil {
		t.Error("the snapshot was not opened")
	}
	release()
	if err := <-over; err != nil {
		t.Error(err)
	}
	if held() {
		t.Error("the snapshot is still there")
	}
}

func TestPgbenchsReportIsRead(t *testing.T) {
	m, err := readPgbench(`pgbench (15.18)
transaction type: /tmp/x.sql
number of clients: 32
number of transactions actually processed: 2603
number of failed transactions: 0 (0.000%)
latency average = 12.294 ms
tps = 2602.869 (without initial connection time)
`)
	if err != nil || m.Messages != 26030 || m.Requests != 5206 || m.Took.Round(time.Millisecond) != time.Second {
		t.Errorf("read %+v, error %v", m, err)
	}
	if _, err := readPgbench("tps = 0.0"); err == nil {
		t.Error("a report without figures was read")
	}
}
