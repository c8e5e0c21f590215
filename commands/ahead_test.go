package commands_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/projections"
)

func numbered(n int) (bodies []string) {
	for i := range n {
		bodies = append(bodies, strconv.Itoa(i))
	}
	return bodies
}

// TestClaimsDoNotWaitForTheNextMessages: what the next claims will want is loaded while batches
// go on, so that of claims one after the other the first alone loads anything.
func TestClaimsDoNotWaitForTheNextMessages(t *testing.T) {
	t.Parallel()
	h, proxy, db := newProxiedHouse(t)
	e := h.executor(db, func(cfg *commands.Config) { cfg.Ahead = h.db })
	texts := numbered(1001)
	run(t, e, post(orders, texts...))
	run(t, e, claim(orders, 1))
	loads := 0
	for i := 1; i < len(texts); i += 10 {
		before := proxy.Trips()
		got := run(t, e, claim(orders, 10))
		if cost := proxy.Trips() - before; cost != 1 {
			t.Errorf("the claim of message %d: %d round trips", i, cost)
		}
		for j, m := range got {
			if m.Body != texts[i+j] {
				t.Fatalf("message %d is %s", i+j, m.Body)
			}
		}
		if e.LoadsAhead() {
			until(t, "the next messages are there", e.LoadedAhead)
			loads++
		}
	}
	if got := run(t, e, claim(orders, 10)); len(got) > 0 || loads < 4 {
		t.Errorf("after all messages %d others, and %d loads", len(got), loads)
	}
	h.sound()
}

// aheadLoader is a loader whose loads ahead are given to a test before they end.
type aheadLoader struct {
	projections.States
	loaded func() error
}

func (l aheadLoader) Messages(ctx context.Context, tx eventstore.Tx, needs domain.MessageNeeds, at time.Time) (domain.LoadedMessages, error) {
	loaded, err := l.States.Messages(ctx, tx, needs, at)
	if len(needs.Free) > 0 && needs.Free[0].Behind > 0 {
		err = errors.Join(err, l.loaded())
	}
	return loaded, err
}

// TestALoadAheadMayFail: then the messages are loaded when they are wanted, and the next load
// is tried all the same.
func TestALoadAheadMayFail(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	tries := 0
	fails := aheadLoader{loaded: func() error { tries++; return errors.New("it fails") }}
	e := h.executor(nil, func(cfg *commands.Config) { cfg.Ahead, cfg.Loader = h.db, fails })
	texts := numbered(1000)
	run(t, e, post(orders, texts...))
	for i := 0; i < len(texts); i += 20 {
		for j, m := range run(t, e, claim(orders, 20)) {
			if m.Body != texts[i+j] {
				t.Fatalf("message %d is %s", i+j, m.Body)
			}
		}
		if e.LoadsAhead() {
			until(t, "the load has failed", e.LoadedAhead)
		}
	}
	if tries < 4 {
		t.Errorf("%d loads were tried", tries)
	}
	if open := h.db.Stats().InUse; open > 1 {
		t.Errorf("%d connections are in use, the executor's and others", open)
	}
	h.sound()
}

// aheadModel is a queue whose messages are loaded ahead, by loads that end when the test says so.
type aheadModel struct {
	*house
	*rapid.T
	e, other *commands.Executor
	queue    domain.QueueID
	goes     chan struct{}
	claims   []domain.ClaimID
	free     []domain.MessageID // at the last look
	clock    *clock
}

// look asks the table which messages are free, in their order.
func (m *aheadModel) look() {
	rows, err := m.db.Query(`
SELECT m.id FROM messages m JOIN queues q ON q.number = m.queue
WHERE q.project = $1 AND q.name = $2 AND NOT q.deleted AND m.place > q.purged
    AND m.visible_at <= $3 AND m.expires_at > $3 AND (m.claim_ends IS NULL OR m.claim_ends <= $3)
ORDER BY m.place`, m.queue.Project, m.queue.Name, m.clock.now)
	if err != nil {
		m.T.Fatal(err)
	}
	defer rows.Close()
	m.free = nil
	for rows.Next() {
		var id domain.MessageID
		if err := rows.Scan(&id); err != nil {
			m.T.Fatal(err)
		}
		m.free = append(m.free, id)
	}
	if err := rows.Err(); err != nil {
		m.T.Fatal(err)
	}
}

// do carries a command out, a second after the one before.
func do[R any](m *aheadModel, e *commands.Executor, cmd commands.Command[R]) R {
	m.clock.now = m.clock.now.Add(time.Second)
	m.look()
	result, err := commands.Run(as(context.Background(), ""), e, cmd)
	if err != nil {
		m.T.Fatalf("%T: %v", cmd, err)
	}
	return result
}

func (m *aheadModel) got(taken []commands.Taken, want int) {
	ids := []domain.MessageID{}
	for _, t := range taken {
		ids = append(ids, t.ID)
	}
	if diff := cmp.Diff(m.free[:min(want, len(m.free))], ids); diff != "" && len(m.free)+len(ids) > 0 {
		m.T.Fatalf("of %d free messages other ones were handed out (-want +got):\n%s", len(m.free), diff)
	}
}

func (m *aheadModel) claim(n int) {
	cmd := claim(m.queue, n)
	cmd.Life.TTL = rapid.IntRange(60, 90).Draw(m.T, "ttl")
	m.got(do(m, m.e, cmd), n)
	m.claims = append(m.claims, cmd.Claim)
}

// end lets the load that is under way end.
func (m *aheadModel) end() {
	if m.e.LoadsAhead() && !m.e.LoadedAhead() {
		m.goes <- struct{}{}
		until(m.house, "what was loaded is there", m.e.LoadedAhead)
	}
}

func (m *aheadModel) post(e *commands.Executor, least, most int) {
	p := post(m.queue, numbered(rapid.IntRange(least, most).Draw(m.T, "posted"))...)
	p.Messages[0].Delay = fmt.Appendf(nil, "%d", rapid.SampledFrom([]int{0, 0, 0, 3}).Draw(m.T, "delay"))
	do(m, e, p)
}

func (m *aheadModel) actions() map[string]func(*rapid.T) {
	one := func(from int, what string) (int, bool) {
		if from == 0 {
			return 0, false
		}
		return rapid.IntRange(0, from-1).Draw(m.T, what), true
	}
	return map[string]func(*rapid.T){
		"claim":          func(*rapid.T) { m.claim(rapid.IntRange(1, 20).Draw(m.T, "claimed")) },
		"claim more":     func(*rapid.T) { m.claim(20) },
		"a load ends":    func(*rapid.T) { m.end() },
		"post":           func(*rapid.T) { m.post(m.e, 1, 150) },
		"post a few":     func(*rapid.T) { m.post(m.e, 1, 5) },
		"post elsewhere": func(*rapid.T) { m.post(m.other, 1, 5) },
		"pop": func(*rapid.T) {
			n := rapid.IntRange(1, 10).Draw(m.T, "popped")
			m.got(do(m, m.e, commands.PopMessages{Queue: m.queue, Limit: n}), n)
		},
		"delete": func(*rapid.T) {
			m.look()
			if i, some := one(len(m.free), "deleted"); some {
				do(m, m.e, commands.DeleteMessage{Queue: m.queue, ID: m.free[i]})
			}
		},
		"release": func(*rapid.T) {
			if i, some := one(len(m.claims), "released"); some {
				do(m, m.e, commands.ReleaseClaim{Queue: m.queue, Claim: m.claims[i]})
				m.claims = slices.Delete(m.claims, i, i+1)
			}
		},
		"time passes": func(*rapid.T) { m.clock.now = m.clock.now.Add(20 * time.Second) },
		"purge": func(*rapid.T) {
			if rapid.IntRange(0, 9).Draw(m.T, "purge") == 0 {
				do(m, m.e, commands.PurgeQueue{Queue: m.queue, Messages: true})
				m.post(m.e, 200, 400)
			}
		},
	}
}

// TestLoadsAheadMissNothing: whatever happens while messages are loaded ahead, claims and pops
// hand out the first that are free, as the table has them.
func TestLoadsAheadMissNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	c := &clock{time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	goes := make(chan struct{})
	var loads atomic.Int64
	gated := aheadLoader{loaded: func() error { loads.Add(1); <-goes; return nil }}
	delays := func(cfg *commands.Config) { cfg.Limits.DelayOnAnyQueue = true }
	e := h.executor(nil, c.config, delays, func(cfg *commands.Config) { cfg.Ahead, cfg.Loader = h.db, gated })
	other := h.executor(nil, c.config, delays)
	sequences := 0
	rapid.Check(t, func(rt *rapid.T) {
		sequences++
		queue := domain.QueueID{Project: "p1", Name: "q" + strconv.Itoa(sequences)}
		m := &aheadModel{house: h, T: rt, e: e, other: other, queue: queue, goes: goes, clock: c}
		do(m, e, commands.CreateQueue{Queue: queue})
		do(m, e, post(queue, numbered(rapid.IntRange(300, 400).Draw(rt, "messages"))...))
		defer m.end()
		for !e.LoadsAhead() {
			m.claim(20)
		}
		rt.Repeat(m.actions())
		m.end()
		for m.claim(20); len(m.free) > 0; m.claim(20) {
			m.end()
		}
	})
	t.Logf("%d sequences, %d loads ahead", sequences, loads.Load())
	if loads.Load() < int64(sequences) {
		t.Error("too little was loaded ahead")
	}
	h.sound()
}
