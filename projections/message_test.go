package projections_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"nabu/commands"
	"nabu/domain"
	"nabu/internal/pgarray"
	"nabu/projections"
)

func TestWhichQueuesHideDelayedMessages(t *testing.T) {
	h := newHouse(t)
	h.create("slow", `{"_default_message_delay": 30}`)
	h.post("slow", "c", plain(`1`))
	list := projections.MessageList{Queue: h.id("slow"), Limit: 10, Echo: true}
	if got := h.list(list); len(got) != 0 {
		t.Errorf("delayed messages are shown: %v", got)
	}
	run(h, commands.ChangeQueue{Queue: h.id("slow"), Patch: domain.MetadataPatch{{Op: "remove", Key: "_default_message_delay"}}})
	if got := h.list(list); len(got) != 1 {
		t.Error("a queue that delays nothing any more hides a message")
	}
	list.DefaultDelay = 5 // the server's
	if got := h.list(list); len(got) != 0 {
		t.Errorf("the server's own delay does not count: %v", got)
	}
	list.DefaultDelay, list.DelayOnAnyQueue = 0, true
	if got := h.list(list); len(got) != 0 {
		t.Errorf("a delay that counts on any queue does not: %v", got)
	}
	list.IncludeDelayed = true
	if got := h.list(list); len(got) != 1 {
		t.Error("a delayed message is not shown to who asks for it")
	}
}

// TestWhatIsAskedOfAQueueCostsTheSame: it does not walk over the claims of all others, also
// where nearly all are one other queue's, nor over the queue's own messages.
func TestWhatIsAskedOfAQueueCostsTheSame(t *testing.T) {
	h := newHouse(t)
	h.create("quiet", `{}`)
	h.create("busy", `{}`)
	h.create("full", `{}`)
	if _, err := h.db.Exec(`
INSERT INTO claims (queue, id, place, ttl, renewed_at, ends_at, held, places)
SELECT (SELECT number FROM queues WHERE name = 'busy'), gen_random_uuid(), n, 3600, $1::timestamptz,
    $1::timestamptz + make_interval(secs => 3600 + n), 1, ARRAY[n]
FROM generate_series(1, 20000) AS n`, h.now); err != nil {
		t.Fatal(err)
	}
	if _, err := h.db.Exec(`
INSERT INTO messages (queue, place, id, client, ttl, created_at, visible_at, expires_at, body)
SELECT CASE WHEN n <= 20000 THEN (SELECT number FROM queues WHERE name = 'full') ELSE 1000 + n % 500 END,
    n * 65536, gen_random_uuid(), 'c', 3600, $1::timestamptz, $1::timestamptz,
    $1::timestamptz + make_interval(secs => 3600), 'x'
FROM generate_series(1::bigint, 30000) AS n`, h.now); err != nil {
		t.Fatal(err)
	}
	if _, err := h.db.Exec(`
INSERT INTO message_counts (queue, after, upto, messages)
SELECT number, 0, 20000 * 65536, 20000 FROM queues WHERE name = 'full'`); err != nil {
		t.Fatal(err)
	}
	if _, err := h.db.Exec(`ANALYZE claims, messages`); err != nil {
		t.Fatal(err)
	}
	var quiet int64
	if err := h.db.QueryRow(`SELECT number FROM queues WHERE name = 'quiet'`).Scan(&quiet); err != nil {
		t.Fatal(err)
	}
	nothing := []int64(nil)
	for name, asked := range map[string]struct {
		statement string
		args      []any
	}{
		"stats": {`SELECT * FROM queue_stats($1, 'quiet', $2)`, []any{h.project, h.now}},
		"stats of many messages": {
			`SELECT total, oldest_at, newest_at FROM queue_stats($1, 'full', $2)`, []any{h.project, h.now},
		},
		"claims": {
			`SELECT * FROM load_messages(NULL, NULL, $1, $2, $2, $3, $2, $3, $2, $2, $3, $4, $5, $5, $6, $7, $8, 1000, 10)`,
			[]any{
				h.now, pgarray.BigInts(nothing), pgarray.UUIDs(nil), pgarray.BigInts([]int64{quiet}), pgarray.BigInts([]int64{0}),
				pgarray.Times([]time.Time{h.now}), pgarray.Ints([]int{10}), pgarray.Ints([]int{0}),
			},
		},
	} {
		for range 10 { // catalogues are read, and plans are made that stay
			h.blocks(asked.statement, asked.args)
		}
		if cost := h.blocks(asked.statement, asked.args); cost > 60 {
			t.Errorf("%s: %d blocks", name, cost)
		}
	}
	if after, known, err := h.views.NextFree(t.Context(), h.id("quiet")); err != nil || known {
		t.Errorf("something is free after %v: %v", after, err)
	}
}

// TestAnEmptiedClaimIsNotWaitedFor: with the last of its messages gone, its end frees nothing.
func TestAnEmptiedClaimIsNotWaitedFor(t *testing.T) {
	h := newHouse(t)
	h.create("q", `{}`)
	ids := h.post("q", "c", plain(`1`), plain(`2`))
	claim := uuid.New()
	run(h, commands.ClaimMessages{Queue: h.id("q"), Claiming: domain.Claiming{
		Claim: claim, Life: domain.ClaimLife{TTL: 60, Grace: 60}, Limit: 2,
	}})
	for i, want := range []time.Duration{60 * time.Second, 60 * time.Second, 0} {
		if i > 0 {
			run(h, commands.DeleteMessage{Queue: h.id("q"), ID: ids[i-1], WithClaim: true, Claim: claim})
		}
		after, known, err := h.views.NextFree(t.Context(), h.id("q"))
		if err != nil || known != (want > 0) || after.Round(time.Second) != want {
			t.Errorf("with %d messages deleted, something is free after %v (known: %t, %v), want %v", i, after, known, err, want)
		}
		if stats, err := h.views.Stats(t.Context(), h.id("q")); err != nil || stats.Claimed != 2-i {
			t.Errorf("with %d messages deleted, %d are claimed: %v", i, stats.Claimed, err)
		}
	}
}
