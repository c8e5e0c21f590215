package projections_test

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"nabu/internal/pgarray"
	"nabu/internal/pgrows"
)

// TestRowsAreFoundByTheirKeys: who looks for a claim by its id, for a message by its place, or for
// what has ended or expired in a queue, does not walk over what else the queue has, nor over all,
// also by a plan that was made when there was nothing, or next to nothing.
func TestRowsAreFoundByTheirKeys(t *testing.T) {
	h := newHouse(t)
	p := newPlanned(h)
	if _, err := h.db.Exec(`INSERT INTO message_counts (queue, after, upto, messages) VALUES ($1, 0, 10000, 5000)`, p.queue); err != nil {
		t.Fatal(err)
	}
	const others = `DELETE FROM queues WHERE name <> 'busy'; `
	for _, before := range []string{
		``,
		others + `TRUNCATE claims, messages; ANALYZE claims, messages, queues`,
		others + `DELETE FROM claims; DELETE FROM messages; ANALYZE claims, messages, queues`,
		others + `DELETE FROM claims; DELETE FROM messages; VACUUM ANALYZE claims; VACUUM ANALYZE messages; VACUUM ANALYZE queues`,
		`DELETE FROM claims WHERE place > 2; DELETE FROM messages WHERE place > 2; UPDATE messages SET place = 1; ` +
			`VACUUM ANALYZE claims; VACUUM ANALYZE messages; ` + others + `VACUUM ANALYZE queues`,
	} {
		for statement := range strings.SplitSeq(before, "; ") {
			if _, err := h.db.Exec(statement); err != nil {
				t.Fatal(err)
			}
		}
		asked := p.asked()
		for _, ask := range asked {
			ask() // the plan is made, and stays
		}
		p.fill()
		for name, ask := range asked {
			ask() // pages are read
			if cost := ask(); cost > 60 {
				t.Errorf("%s after %s: %d blocks", name, before, cost)
			}
		}
	}
}

// planned asks the functions that keep their plans about the claims and messages of a queue.
type planned struct {
	*house
	queue          int64
	claim, message uuid.UUID // those in the middle: the claim that is live, and its message
}

// newPlanned makes the queue.
func newPlanned(h *house) *planned {
	h.Helper()
	h.create("busy", `{}`)
	p := &planned{house: h, claim: uuid.New(), message: uuid.New()}
	if err := h.db.QueryRow(`SELECT number FROM queues WHERE name = 'busy'`).Scan(&p.queue); err != nil {
		h.Fatal(err)
	}
	return p
}

// fill puts in other queues, claims that are over, others that are live and hold nothing any more,
// and messages: of a hundred one is delayed, and one was moved.
func (p *planned) fill() {
	p.Helper()
	for statement, args := range map[string][]any{
		`
INSERT INTO queues (number, project, name, metadata, labels, default_delay)
SELECT 1000000 + n, 'p', 'other' || n, '{}', '{}', 0 FROM generate_series(2, 5000) AS n`: nil,
		`
INSERT INTO claims (queue, id, place, ttl, renewed_at, ends_at, held, places)
SELECT $2, CASE n WHEN 2500 THEN $3 ELSE gen_random_uuid() END, n, 3600, $1::timestamptz,
    $1::timestamptz + make_interval(secs => CASE n WHEN 2500 THEN 3600 ELSE -3600 - n END), 1, ARRAY[n]
FROM generate_series(2, 5000) AS n`: {p.now, p.queue, p.claim},
		`
INSERT INTO claims (queue, id, place, ttl, renewed_at, ends_at, held, places)
SELECT $2, gen_random_uuid(), n, 3600, $1::timestamptz, $1::timestamptz + make_interval(secs => n), 0, ARRAY[n]
FROM generate_series(5001, 10000) AS n`: {p.now, p.queue},
		`
INSERT INTO messages (queue, place, id, client, ttl, created_at, visible_at, expires_at, claim, claim_ends, moved, body)
SELECT $2, n, CASE n WHEN 2500 THEN $4 ELSE gen_random_uuid() END, 'c', 3600, $1::timestamptz,
    $1::timestamptz + make_interval(secs => CASE n % 100 WHEN 1 THEN 3600 ELSE 0 END),
    $1::timestamptz + make_interval(secs => 3600 + n), CASE n WHEN 2500 THEN $3::uuid END, NULL, n % 100 = 2, 'x'
FROM generate_series(2, 5000) AS n`: {p.now, p.queue, p.claim, p.message},
	} {
		if _, err := p.db.Exec(statement, args...); err != nil {
			p.Fatal(err)
		}
	}
}

// asked are questions, and changes, that each concern one claim or message, or next to none.
func (p *planned) asked() map[string]func() int {
	none := `'{}'`
	nones := func(n int) string { return strings.TrimSuffix(strings.Repeat(none+", ", n), ", ") }
	queue, now := pgarray.BigInts([]int64{p.queue}), p.now
	ask := func(statement string, args ...any) func() int {
		return func() int { return p.blocks(statement, args) }
	}
	load := func(named, claims, free string, args ...any) func() int {
		return ask(`SELECT * FROM load_messages(NULL, NULL, $1, `+named+`, `+claims+`, `+free+`, 1000, 10)`, append([]any{now}, args...)...)
	}
	change := func(before int, words string, after int, args ...any) func() int {
		all := []string{nones(before), words, nones(after)}
		return ask(`SELECT write_messages(`+strings.Join(slices.DeleteFunc(all, func(s string) bool { return s == "" }), ", ")+`)`, args...)
	}
	return map[string]func() int{
		"a claim is loaded":   load(nones(5), `$2, '{0}', ARRAY[$3::uuid]`, nones(6), queue, p.claim),
		"a message is loaded": load(`$2, '{0}', ARRAY[$3::uuid], '{2500}', ARRAY[$4::uuid]`, nones(3), nones(6), queue, p.message, p.claim),
		"one that is gone":    load(`$2, '{0}', ARRAY[$3::uuid], '{6000}', ARRAY[$3::uuid]`, nones(3), nones(6), queue, uuid.New()),
		"first free":          load(nones(5), nones(3), `$2, '{0}', '{0}', ARRAY[$1::timestamptz], '{10}', '{0}'`, queue),
		"free behind a mark":  load(nones(5), nones(3), `$2, '{0}', '{6000}', ARRAY[$1::timestamptz], '{10}', '{5}'`, queue),
		"a claim changes":     change(34, `$1, '{0}', '{NULL}', '{NULL}', '{0}', '{0}', ARRAY[$2]`, 2, queue, "{"+p.claim.String()+"}"),
		"messages are held":   change(18, `$1, ARRAY[$2::uuid], '{NULL}', '{0}', '{0}', '{NULL}', ARRAY['{2500}']`, 18, queue, p.claim),
		"messages go":         change(41, `$1, ARRAY['{2501}']`, 0, queue),
		"free ahead": ask(`SELECT * FROM free_ahead($1, (SELECT id FROM ledger.events WHERE position = $1), $2, '{2400}', $3, 10, 1000)`,
			1, queue, now),
		"sweeps":    ask(`SELECT * FROM load_sweeps($1, $2, 10, 60, 100000, 10)`, queue, now),
		"stats":     ask(`SELECT * FROM queue_stats($1, 'busy', $2)`, p.project, now),
		"next free": ask(`SELECT next_free($1, $2)`, p.queue, now),
	}
}

// TestClaimsThatWereEmptiedAreNotWalkedOver: while somebody holds an old snapshot, their entries
// among those that hold messages stay in the index.
func TestClaimsThatWereEmptiedAreNotWalkedOver(t *testing.T) {
	h := newHouse(t)
	p := newPlanned(h)
	if _, err := h.db.Exec(`
INSERT INTO claims (queue, id, place, ttl, renewed_at, ends_at, held, places)
SELECT $2, gen_random_uuid(), n, 3600, $1::timestamptz, $1::timestamptz + make_interval(secs => 60 + n), 1, ARRAY[n]
FROM generate_series(1, 20000) AS n`, p.now, p.queue); err != nil {
		t.Fatal(err)
	}
	before, err := h.db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = before.Rollback() }()
	held := 0
	if err := before.QueryRow(`SELECT sum(held) FROM claims`).Scan(&held); err != nil || held != 20000 {
		t.Fatalf("%d messages are held: %v", held, err)
	}
	if _, err := h.db.Exec(`UPDATE claims SET held = 0 WHERE place < 20000`); err != nil {
		t.Fatal(err)
	}
	for name, ask := range map[string]func() int{
		"first free": p.asked()["first free"],
		"next free":  p.asked()["next free"],
	} {
		ask() // pages are read
		if cost := ask(); cost > 200 {
			t.Errorf("%s: %d blocks", name, cost)
		}
	}
	if after, known, err := h.views.NextFree(t.Context(), h.id("busy")); err != nil || !known || after > 111*time.Second {
		t.Errorf("something is free after %v (known: %t): %v", after, known, err)
	}
	if _, err := h.db.Exec(`DELETE FROM claims WHERE held = 0 AND place > 49`); err != nil {
		t.Fatal(err)
	}
	if after, known, err := h.views.NextFree(t.Context(), h.id("busy")); err != nil || !known || after < 20000*time.Second {
		t.Errorf("with 49 emptied claims, something is free after %v (known: %t): %v", after, known, err)
	}
}

// TestPlansThatAreKeptAreNotCompiled: a plan that knows no bounds is believed to cost a lot, and to
// have it compiled takes a hundred times as long as to follow it. A private PostgreSQL never does.
func TestPlansThatAreKeptAreNotCompiled(t *testing.T) {
	h := newHouse(t)
	rows, err := h.db.Query(`SELECT proname, 'jit=off' = ANY (proconfig) FROM pg_proc
		WHERE pronamespace = 'live'::regnamespace AND 'plan_cache_mode=force_generic_plan' = ANY (proconfig)`)
	seen := 0
	err = pgrows.Each("read functions", rows, err, func() error {
		var name string
		var off bool
		seen++
		if err := rows.Scan(&name, &off); err != nil || off {
			return err
		}
		t.Errorf("%s may be compiled", name)
		return nil
	})
	if err != nil || seen < 6 {
		t.Errorf("%d functions keep their plans: %v", seen, err)
	}
}

// TestAVacuumStopsNobody: to give room back it would keep everybody out of the table.
func TestAVacuumStopsNobody(t *testing.T) {
	h := newHouse(t)
	p := &planned{house: h, queue: 1, claim: uuid.New(), message: uuid.New()}
	p.fill()
	for _, table := range []string{"messages", "claims"} {
		size := func() (bytes int64) {
			if err := h.db.QueryRow(`SELECT pg_relation_size($1::regclass)`, table).Scan(&bytes); err != nil {
				t.Fatal(err)
			}
			return bytes
		}
		before := size()
		for _, statement := range []string{`DELETE FROM ` + table, `VACUUM ` + table} {
			if _, err := h.db.Exec(statement); err != nil {
				t.Fatal(err)
			}
		}
		if after := size(); after != before {
			t.Errorf("%s had %d bytes, and has %d", table, before, after)
		}
	}
}

// TestTOASTHasTheOptionsOfItsTable: with an option of its own it takes over none of the table's.
func TestTOASTHasTheOptionsOfItsTable(t *testing.T) {
	h := newHouse(t)
	const options = `coalesce((SELECT string_agg(o, ' ' ORDER BY o) FROM unnest(%s.reloptions) o
		WHERE o LIKE 'autovacuum%%' OR o LIKE 'vacuum%%'), '')`
	rows, err := h.db.Query(`SELECT c.relname, ` + fmt.Sprintf(options, "c") + `, ` + fmt.Sprintf(options, "t") + `
		FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid
		WHERE c.relnamespace = 'live'::regnamespace AND t.reloptions IS NOT NULL`)
	seen := 0
	err = pgrows.Each("read the tables' options", rows, err, func() error {
		seen++
		var table, its, toasts string
		err := rows.Scan(&table, &its, &toasts)
		if its != toasts {
			t.Errorf("%s has %q, its TOAST %q", table, its, toasts)
		}
		return err
	})
	if err != nil || seen == 0 {
		t.Errorf("%d tables have TOAST with options (%v)", seen, err)
	}
}
