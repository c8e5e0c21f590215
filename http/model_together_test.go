package http

import (
	"cmp"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"nabu/eventstore"
	"nabu/internal/eventually"
)

// parked is a request that is drawn, and neither sent nor answered yet.
type parked struct {
	name                       queueName
	kind                       string
	client, method, path, body string

	yield  func(*parked) bool
	resume func() (*parked, bool)
	got    heard // for when it is resumed
}

// sendLater hands a request to whoever drew it, and comes back with its answer.
func (p *parked) sendLater(name queueName, client, method, path, body string) heard {
	p.name, p.client, p.method, p.path, p.body = name, client, method, path, body
	p.yield(p)
	return p.got
}

// togetherKinds are the requests that are sent together.
var togetherKinds = []string{"claim", "claim", "claim", "delete", "delete", "delete all", "post", "pop", "release", "release", "renew"}

// together sends several requests that nabu decides in one batch, and asks the model in the order
// in which it does.
func (m *machine) together(name queueName) {
	replica := m.at()
	var requests []*parked
	for range 2 + m.pick("requests", 4) {
		p := &parked{kind: sampled(m, "request", togetherKinds...)}
		p.resume, _ = iter.Pull(func(yield func(*parked) bool) {
			p.yield = yield
			m.kinds()[p.kind].send(name)
		})
		m.parking, m.kind = p, p.kind
		p.resume()
		m.parking = nil
		requests = append(requests, p)
	}
	m.steps += len(requests) - 1
	m.sendAll(replica, requests)
	slices.SortStableFunc(requests, func(a, b *parked) int { return cmp.Compare(m.rank(a), m.rank(b)) })
	for _, p := range requests {
		m.kind = p.kind
		m.told(p.name, p.got, p.body)
		p.resume()
	}
}

// rank says when a request is decided among others.
func (m *machine) rank(p *parked) int {
	its := m.world.queue(p.name)
	switch p.kind {
	case "post":
		return 1
	case "claim", "pop":
		if m.world.queues[p.name] == nil { // what a batch posts to a queue that it makes is found by the next
			return 0
		}
		return 2
	case "release", "renew":
		if target, _ := its.metadata["_dead_letter_queue"].(string); target != "" && its.number("_max_claim_count") > 0 {
			return 3
		}
	}
	return 0
}

// sendAll sends requests one after the other while nobody can write, and lets them be decided.
func (m *machine) sendAll(replica *api, requests []*parked) {
	ctx := replica.Context()
	conn, err := replica.DB().Conn(ctx)
	if err != nil {
		m.Fatal(err)
	}
	defer conn.Close()
	if _, err := eventstore.Begin(ctx, conn, eventstore.Head{}); err != nil {
		m.Fatal(err)
	}
	if _, err := conn.ExecContext(ctx, `SET LOCAL idle_in_transaction_session_timeout = 0`); err != nil {
		m.Fatal(err)
	}
	var sending sync.WaitGroup
	sending.Go(func() { // keeps the executor busy
		_, err := ask(m.client, replica.url, "busy", ours, "POST", "/v2/queues/busy/messages", `{"messages": [{"body": 1}]}`)
		if err != nil {
			replica.Error(err)
		}
	})
	eventually.Holds(replica, "the executor waits for the lock", func() bool { return replica.waitsForLock() })
	for _, p := range requests {
		var answered atomic.Bool
		before := replica.executor.Waiting()
		sending.Go(func() {
			defer answered.Store(true)
			got, err := ask(m.client, replica.url, p.name.project, p.client, p.method, p.path, p.body)
			if err != nil {
				replica.Error(err)
			}
			p.got = got
		})
		eventually.Holds(replica, "the request waits, or needs no batch", func() bool {
			return replica.executor.Waiting() > before || answered.Load()
		})
	}
	if _, err := conn.ExecContext(ctx, `ROLLBACK`); err != nil {
		m.Fatal(err)
	}
	sending.Wait()
}

// waitsForLock tells whether a session waits for the ledger's lock.
func (a *api) waitsForLock() (waits bool) {
	a.Helper()
	if err := a.DB().QueryRow(`
SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
    WHERE l.locktype = 'advisory' AND NOT l.granted AND d.datname = current_database())`).Scan(&waits); err != nil {
		a.Fatal(err)
	}
	return waits
}
