package commands_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/eventually"
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
	c := &clock{time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)} // the database's would be asked for once a second
	e := h.executor(db, c.config, func(cfg *commands.Config) { cfg.Ahead = h.db })
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
			eventually.Holds(t, "the next messages are there", e.LoadedAhead)
			loads++
		}
	}
	if got := run(t, e, claim(orders, 10)); len(got) > 0 || loads < 4 {
		t.Errorf("after all messages %d others, and %d loads", len(got), loads)
	}
	h.sound()
}

// aheadLoader is a loader whose loads ahead are shown to a test before and after they look.
type aheadLoader struct {
	projections.States
	before, after func() error
}

func (l aheadLoader) FreeAhead(
	ctx context.Context, tx eventstore.Tx, head eventstore.Head, needs []domain.AheadNeed, at time.Time,
) (map[domain.QueueID]domain.FreeMessages, error) {
	if err := l.before(); err != nil {
		return nil, err
	}
	found, err := l.States.FreeAhead(ctx, tx, head, needs, at)
	return found, errors.Join(err, l.after())
}

// TestALoadAheadMayFail: then the messages are loaded when they are wanted, and for a while
// nothing is tried again.
func TestALoadAheadMayFail(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	tries := 0
	fails := aheadLoader{before: func() error { tries++; return errors.New("it fails") }}
	e := h.executor(nil, func(cfg *commands.Config) { cfg.Ahead, cfg.Loader = h.db, fails })
	texts := numbered(2000)
	run(t, e, post(orders, texts...))
	for i := 0; i < len(texts); i += 20 {
		for j, m := range run(t, e, claim(orders, 20)) {
			if m.Body != texts[i+j] {
				t.Fatalf("message %d is %s", i+j, m.Body)
			}
		}
		if e.LoadsAhead() {
			eventually.Holds(t, "the load has failed", e.LoadedAhead)
		}
	}
	if tries == 0 || tries > 4 {
		t.Errorf("%d loads were tried", tries)
	}
	if open := h.db.Stats().InUse; open > 1 {
		t.Errorf("%d connections are in use, the executor's and others", open)
	}
	h.sound()
}

// aheadModel is a queue whose messages are loaded ahead, by loads that look and end when the test
// says so.
type aheadModel struct {
	*house
	rapid.TB
	e, other *commands.Executor
	queue    domain.QueueID
	clock    *clock
	goes     chan struct{}
	over     chan struct{} // closed when the test is: whatever waits goes on
	loads    atomic.Int64
	looked   bool // the load that is under way
	claims   []domain.ClaimID
	free     []domain.MessageID // at the last look
}

func newAheadModel(t *testing.T) *aheadModel {
	m := newGatedModel(t, newHouse(t))
	m.e = m.executor(nil, m.clock.config, delays, func(cfg *commands.Config) { cfg.Ahead, cfg.Loader = m.db, m.gated() })
	m.other = m.executor(nil, m.clock.config, delays)
	t.Cleanup(func() { close(m.over) }) // before the executor is closed, which waits for its load
	return m
}

// newGatedModel is a model without executors.
func newGatedModel(t *testing.T, h *house) *aheadModel {
	return &aheadModel{
		house: h, TB: t, queue: orders, goes: make(chan struct{}), over: make(chan struct{}),
		clock: &clock{time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)},
	}
}

func delays(cfg *commands.Config) { cfg.Limits.DelayOnAnyQueue = true }

// gated is the loader of the executor whose loads ahead go on by goOn.
func (m *aheadModel) gated() aheadLoader {
	wait := func() {
		select {
		case <-m.goes:
		case <-m.over:
		}
	}
	tell := func() {
		select {
		case m.goes <- struct{}{}:
		case <-m.over:
		}
	}
	return aheadLoader{
		before: func() error { m.loads.Add(1); wait(); return nil },
		after:  func() error { tell(); wait(); return nil },
	}
}

// look asks the table which messages are free, in their order.
func (m *aheadModel) look() {
	rows, err := m.db.Query(`
SELECT m.id FROM messages m JOIN queues q ON q.number = m.queue
WHERE q.project = $1 AND q.name = $2 AND NOT q.deleted AND m.place > q.purged
    AND m.visible_at <= $3 AND m.expires_at > $3 AND (m.claim_ends IS NULL OR m.claim_ends <= $3)
ORDER BY m.place`, m.queue.Project, m.queue.Name, m.clock.now)
	if err != nil {
		m.TB.Fatal(err)
	}
	defer rows.Close()
	m.free = nil
	for rows.Next() {
		var id domain.MessageID
		if err := rows.Scan(&id); err != nil {
			m.TB.Fatal(err)
		}
		m.free = append(m.free, id)
	}
	if err := rows.Err(); err != nil {
		m.TB.Fatal(err)
	}
}

// do carries a command out, a second after the one before.
func do[R any](m *aheadModel, e *commands.Executor, cmd commands.Command[R]) R {
	m.clock.now = m.clock.now.Add(time.Second)
	m.look()
	result, err := commands.Run(as(context.Background(), ""), e, cmd)
	if err != nil {
		m.TB.Fatalf("%T: %v", cmd, err)
	}
	return result
}

func (m *aheadModel) got(taken []commands.Taken, want int) {
	ids := []domain.MessageID{}
	for _, t := range taken {
		ids = append(ids, t.ID)
	}
	if diff := cmp.Diff(m.free[:min(want, len(m.free))], ids); diff != "" && len(m.free)+len(ids) > 0 {
		m.TB.Fatalf("of %d free messages other ones were handed out (-want +got):\n%s", len(m.free), diff)
	}
}

func (m *aheadModel) claim(n, ttl int) {
	cmd := claim(m.queue, n)
	cmd.Life.TTL = ttl
	m.got(do(m, m.e, cmd), n)
	m.claims = append(m.claims, cmd.Claim)
}

func (m *aheadModel) release(i int) {
	do(m, m.e, commands.ReleaseClaim{Queue: m.queue, Claim: m.claims[i]})
	m.claims = slices.Delete(m.claims, i, i+1)
}

// goOn lets the load that is under way look, or end.
func (m *aheadModel) goOn() {
	switch {
	case !m.e.LoadsAhead() || m.e.LoadedAhead():
	case !m.looked:
		m.goes <- struct{}{}
		<-m.goes
		m.looked = true
	default:
		m.goes <- struct{}{}
		eventually.Holds(m.house, "what was loaded is there", m.e.LoadedAhead)
		m.looked = false
	}
}

// begin claims until a load is under way.
func (m *aheadModel) begin() {
	for !m.e.LoadsAhead() || m.e.LoadedAhead() {
		m.claim(20, 3000)
	}
}

func (m *aheadModel) end() {
	for m.e.LoadsAhead() && !m.e.LoadedAhead() {
		m.goOn()
	}
}

// drain claims all there is.
func (m *aheadModel) drain() {
	m.end()
	for m.claim(20, 3000); len(m.free) > 0; m.claim(20, 3000) {
		m.end()
	}
}

// TestWhatHappensBehindIsSeen: what happens behind the messages that are known, before a load
// looks there or after, is done to what the load finds.
func TestWhatHappensBehindIsSeen(t *testing.T) {
	t.Parallel()
	for name, happens := range map[string]func(m *aheadModel){
		"nothing": func(*aheadModel) {},
		"a deletion": func(m *aheadModel) {
			m.look()
			do(m, m.e, commands.DeleteMessage{Queue: m.queue, ID: m.free[len(m.free)-5]})
		},
		"a post": func(m *aheadModel) { do(m, m.e, post(m.queue, numbered(3)...)) },
		"many posts": func(m *aheadModel) {
			for range 3 {
				do(m, m.e, post(m.queue, numbered(200)...))
			}
		},
		"long posts": func(m *aheadModel) {
			for range 3 {
				do(m, m.e, post(m.queue, strings.Repeat("1", 100<<10)))
			}
		},
		"a purge": func(m *aheadModel) {
			do(m, m.e, commands.PurgeQueue{Queue: m.queue, Messages: true})
			do(m, m.e, post(m.queue, numbered(300)...))
		},
		"another queue of the name": func(m *aheadModel) {
			do(m, m.e, commands.DeleteQueue{Queue: m.queue})
			do(m, m.e, post(m.queue, numbered(300)...))
		},
		"another replica's post": func(m *aheadModel) { do(m, m.other, post(m.queue, numbered(3)...)) },
		"releases of all claims": func(m *aheadModel) {
			for len(m.claims) > 0 {
				m.release(0)
			}
		},
	} {
		for when, early := range map[string]bool{"before it is looked": true, "after it was looked": false} {
			t.Run(name+" "+when, func(t *testing.T) {
				t.Parallel()
				m := newAheadModel(t)
				do(m, m.e, post(m.queue, numbered(900)...))
				for range 3 {
					m.begin()
					m.end()
				}
				m.begin() // the load that comes to the end
				if !early {
					m.goOn()
				}
				happens(m)
				m.drain()
				m.sound()
			})
		}
	}
}

func (m *aheadModel) actions() map[string]func(*rapid.T) {
	postSome := func(rt *rapid.T, e *commands.Executor, least, most int) {
		p := post(m.queue, numbered(rapid.IntRange(least, most).Draw(rt, "posted"))...)
		p.Messages[0].Delay = fmt.Appendf(nil, "%d", rapid.SampledFrom([]int{0, 0, 0, 3}).Draw(rt, "delay"))
		do(m, e, p)
	}
	return map[string]func(*rapid.T){
		"claim": func(rt *rapid.T) {
			m.claim(rapid.IntRange(1, 20).Draw(rt, "claimed"), rapid.IntRange(60, 90).Draw(rt, "ttl"))
		},
		"claim more":     func(*rapid.T) { m.claim(20, 60) },
		"a load goes on": func(*rapid.T) { m.goOn() },
		"post":           func(rt *rapid.T) { postSome(rt, m.e, 1, 150) },
		"post a few":     func(rt *rapid.T) { postSome(rt, m.e, 1, 5) },
		"post elsewhere": func(rt *rapid.T) { postSome(rt, m.other, 1, 5) },
		"pop": func(rt *rapid.T) {
			n := rapid.IntRange(1, 10).Draw(rt, "popped")
			m.got(do(m, m.e, commands.PopMessages{Queue: m.queue, Limit: n}), n)
		},
		"delete": func(rt *rapid.T) {
			if m.look(); len(m.free) > 0 {
				i := rapid.IntRange(0, len(m.free)-1).Draw(rt, "deleted from the end")
				do(m, m.e, commands.DeleteMessage{Queue: m.queue, ID: m.free[len(m.free)-1-i]})
			}
		},
		"release": func(rt *rapid.T) {
			if len(m.claims) > 0 {
				m.release(rapid.IntRange(0, len(m.claims)-1).Draw(rt, "released"))
			}
		},
		"time passes": func(*rapid.T) { m.clock.now = m.clock.now.Add(20 * time.Second) },
		"purge": func(rt *rapid.T) {
			if rapid.IntRange(0, 5).Draw(rt, "purge") == 0 {
				do(m, m.e, commands.PurgeQueue{Queue: m.queue, Messages: true})
				postSome(rt, m.e, 200, 400)
			}
		},
	}
}

// TestLoadsAheadMissNothing: whatever happens while messages are loaded ahead, claims and pops
// hand out the first that are free, as the table has them.
func TestLoadsAheadMissNothing(t *testing.T) {
	t.Parallel()
	m := newAheadModel(t)
	sequences := 0
	rapid.Check(t, func(rt *rapid.T) {
		sequences++
		m.TB, m.queue, m.claims = rt, domain.QueueID{Project: "p1", Name: "q" + strconv.Itoa(sequences)}, nil
		do(m, m.e, post(m.queue, numbered(rapid.IntRange(300, 400).Draw(rt, "messages"))...))
		defer m.end()
		m.begin()
		rt.Repeat(m.actions())
		m.drain()
	})
	t.Logf("%d sequences, %d loads ahead", sequences, m.loads.Load())
	m.sound()
}
