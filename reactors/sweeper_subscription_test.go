package reactors_test

import (
	"fmt"
	"testing"
	"time"

	"nabu/commands"
	"nabu/domain"
)

func (h *house) subscribe(name, subscriber string, ttl int) {
	h.Helper()
	run(h, commands.Subscribe{NewSubscription: domain.NewSubscription{Queue: queue(name), Subscriber: subscriber, TTL: ttl}})
}

// subscriptions counts those in the table.
func (h *house) subscriptions() (n int) {
	h.Helper()
	if err := h.db.QueryRow(`SELECT count(*) FROM subscriptions`).Scan(&n); err != nil {
		h.Fatal(err)
	}
	return n
}

func TestExpiredSubscriptionsAreSwept(t *testing.T) {
	h := newHouse(t)
	const many = 120 // more than one look finds
	for i := range many {
		h.subscribe("a", fmt.Sprint("http://a/", i), 100)
	}
	h.subscribe("a", "http://later", 200)
	h.subscribe("b", "http://b", 100)
	run(h, commands.DeleteQueue{Queue: queue("b")})
	h.sweep()
	if n := h.subscriptions(); n != many+2 {
		t.Fatalf("%d subscriptions, before any has expired", n)
	}
	h.advance(101 * time.Second)
	before := h.events()
	h.sweep()
	if n, events := h.subscriptions(), h.events()-before; n != 1 || events != many+1 {
		t.Fatalf("%d subscriptions after %d events", n, events)
	}
	h.sweep()
	if events := h.events() - before; events != many+1 {
		t.Fatalf("a sweep that finds nothing recorded %d events", events-many-1)
	}
}
