package bench

import (
	"context"
	"testing"
	"time"

	"nabu/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

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
