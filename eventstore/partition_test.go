package eventstore_test

import (
	"testing"

	"nabu/eventstore"
	"nabu/internal/pgrows"
	"nabu/internal/pgtest"
)

// TestPartitionsAreFrozenSoonAndSlowly: all at once would be a page of WAL for each page, and nobody
// could commit beside it.
func TestPartitionsAreFrozenSoonAndSlowly(t *testing.T) {
	ctx, db := t.Context(), pgtest.Open(t).DB()
	if _, err := eventstore.Extend(ctx, db, eventstore.PartitionSize+1, eventstore.PartitionSize); err != nil {
		t.Fatal(err)
	}
	const want = "autovacuum_freeze_min_age=0 autovacuum_vacuum_cost_delay=2 autovacuum_vacuum_cost_limit=200 " +
		"autovacuum_vacuum_insert_scale_factor=0.02 autovacuum_vacuum_insert_threshold=10000"
	rows, err := db.Query(`
		SELECT p.inhrelid::regclass::text, c.relkind, coalesce((SELECT string_agg(o, ' ' ORDER BY o) FROM unnest(c.reloptions) o), '')
		FROM pg_inherits p JOIN pg_class t ON t.oid = p.inhrelid JOIN pg_class c ON c.oid IN (t.oid, t.reltoastrelid)
		WHERE p.inhparent = 'ledger.events'::regclass`)
	seen := 0
	err = pgrows.Each("read the partitions' options", rows, err, func() error {
		seen++
		var partition, kind, options string
		err := rows.Scan(&partition, &kind, &options)
		if options != want {
			t.Errorf("%s (%s) has %q, want %s", partition, kind, options, want)
		}
		return err
	})
	if err != nil || seen != 4 {
		t.Errorf("two partitions and their TOAST were expected, not %d (%v)", seen, err)
	}
}
