package eventstore_test

import (
	"math"
	"testing"

	"nabu/eventstore"
	"nabu/internal/pgtest"
)

// benchEvents is how many events the ledger has that is read.
const benchEvents = 20_000

// BenchmarkReadLedger reads a ledger of posts as they are stored, and decoded.
func BenchmarkReadLedger(b *testing.B) {
	db := pgtest.Open(b).DB()
	if _, err := db.ExecContext(b.Context(), `
INSERT INTO ledger.events (position, id, batch, stream, version, type, data, bodies, project, actor, request_id, recorded_at)
SELECT n, gen_random_uuid(), gen_random_uuid(), 'queue/bench/builds', n, 'messages.posted.v1',
    ('{"project":"bench","queue":"builds","number":1,"client":"9b2f5a5e-03d1-4c55-8f0e-2f6a7c0e11d4",'
        || '"messages":[{"id":"' || gen_random_uuid() || '","ttl":3600}]}')::json,
    ARRAY['{"n":"' || n || '","text":"' || repeat('x', 230) || '"}'], 'bench', 'user', 'req-' || gen_random_uuid(), now()
FROM generate_series(1, $1) AS n`, benchEvents); err != nil {
		b.Fatal(err)
	}
	b.Run("stored", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			events := 0
			for _, err := range eventstore.ReadStored(b.Context(), db, eventstore.Selection{}) {
				if err != nil {
					b.Fatal(err)
				}
				events++
			}
			if events != benchEvents {
				b.Fatalf("read %d events", events)
			}
		}
	})
	b.Run("decoded", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for _, err := range eventstore.ReadAll(b.Context(), db, 0, math.MaxInt64) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
