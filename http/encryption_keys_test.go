package http

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"nabu/commands"
	"nabu/domain"
	"nabu/internal/sealing"
	"nabu/projections"
)

// destroyKeys destroys a queue's keys, as another replica does that has no master key.
func (a *api) destroyKeys(queue string) []domain.KeyID {
	a.Helper()
	return a.destroyKeysOf(domain.QueueID{Project: "p1", Name: queue})
}

func (a *api) destroyKeysOf(queue domain.QueueID) []domain.KeyID {
	a.Helper()
	cfg := a.executor.Config
	cfg.Keys = nil
	other := commands.NewExecutor(cfg)
	defer func() { _ = other.Close(context.Background()) }()
	keys, err := commands.Run(a.Context(), other, commands.DestroyKeys{Queue: queue})
	if err != nil {
		a.Fatal(err)
	}
	return keys
}

// TestDestroyedKeys: what was sealed with them is gone for every client of every replica,
// wherever it stands; the rest stays, and the queue goes on.
func TestDestroyedKeys(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withEncryption(testMasters))
	b := a.replica()
	a.post("q", ours, `[{"body": "plain"}]`)
	a.call("PATCH", "/v2/queues/q", `[{"op": "add", "path": "/metadata/_enable_encrypt_messages", "value": true},
		{"op": "add", "path": "/metadata/_max_claim_count", "value": 1}, {"op": "add", "path": "/metadata/_dead_letter_queue", "value": "dead"}]`, 200,
		"Content-Type", patchType)
	a.call("DELETE", "/v2/queues/q/messages?pop=1", "", 200)
	dead := a.post("q", ours, `[{"body": "dead"}]`)[0]
	a.call("POST", "/v2/queues/q/claims", `{"ttl": 60, "grace": 60}`, 201)
	a.advance(61 * time.Second)
	ids := a.post("q", ours, `[{"body": "held"}, {"body": "free"}, {"body": "loose"}]`)
	claim := a.call("POST", "/v2/queues/q/claims?limit=1", "", 201)
	if claim.bodies() != `"held"` {
		t.Fatalf("the claim has %s", claim.bodies())
	}
	a.post("dead", ours, `[{"body": "well"}]`)
	b.call("POST", "/v2/queues/q/claims?limit=1", `{"ttl": 60, "grace": 60}`, 201) // so that b remembers
	a.advance(61 * time.Second)
	a.history()

	keys := a.destroyKeys("q")
	if len(keys) != 1 {
		t.Fatalf("%d keys were destroyed", len(keys))
	}
	a.recorded(domain.QueueKeysDestroyed{Project: "p1", Name: "q", Keys: keys})
	for _, r := range []*api{a, b} {
		r.call("GET", "/v2/queues/q/messages/"+ids[1], "", 404)
		r.call("GET", "/v2/queues/q/messages?ids="+ids[0]+","+ids[1], "", 404)
		r.call("GET", "/v2/queues/q/messages?echo=true&include_claimed=true", "", 200).is(`{"messages": [], "links": []}`)
		r.call("GET", "/v2/queues/dead/messages/"+dead, "", 404)
		if got := r.call("GET", "/v2/queues/dead/messages?echo=true", "", 200).bodies(); got != `"well"` {
			t.Errorf("the dead letter queue has %s", got)
		}
		r.call("POST", "/v2/queues/q/claims", "", 204)
		r.call("DELETE", "/v2/queues/q/messages?pop=1", "", 200).is(`{"messages": []}`)
		if got := r.call("GET", claim.header.Get("Location"), "", 200).bodies(); got != "" {
			t.Errorf("the claim has %s", got)
		}
	}
	if again := a.destroyKeys("q"); len(again) != 0 {
		t.Errorf("%d keys were destroyed once more", len(again))
	}
	id := b.post("q", ours, `[{"body": "new"}]`)[0]
	a.reads("q", id, `"new"`)
	checked(t, a)

	a.clearUnreadable(keys)
	if n := a.count(`SELECT count(*) FROM messages WHERE key = $1`, keys[0].String()); n != 0 {
		t.Errorf("%d messages are left", n)
	}
	checked(t, a)
}

// TestReadersHaveTheRightKeyOrNone: a server with another master key, or with none, shows
// and takes nothing, and can go on when it has the right one.
func TestReadersHaveTheRightKeyOrNone(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withEncryption(testMasters))
	a.call("PUT", "/v2/queues/q", encrypting, 201)
	id := a.post("q", ours, `[{"body": "mine"}]`)[0]
	none := a.replica(func(cfg *Config) {
		cfg.Views = &projections.Views{DB: a.DB(), Now: a.Now}
		cfg.Limits.Encryption = false
	}).alone()
	for name, r := range map[string]*api{"no key": none, "another key": a.replica(withEncryption(wrongMasters)).alone()} {
		for _, path := range []string{"/messages?echo=true", "/messages?ids=" + id, "/messages/" + id} {
			if got := r.send("GET", "/v2/queues/q"+path, strings.NewReader("")); got.status != 503 {
				t.Errorf("%s: GET %s: %d %s", name, path, got.status, got.body)
			}
		}
		r.call("POST", "/v2/queues/q/claims", "", 503)
		r.call("DELETE", "/v2/queues/q/messages?pop=1", "", 503)
	}
	none.call("POST", "/v2/queues/q/messages", `{"messages": [{"body": "theirs"}]}`, 503)
	a.reads("q", id, `"mine"`)
}

// TestRotationWhileServing: master keys change under two replicas that go on posting and
// reading, and the old one is of no use afterwards.
func TestRotationWhileServing(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withEncryption(testMasters+"\n"+newMaster)).alone() // first everybody gets to know it
	b := a.replica(withEncryption(rotatedMasters)).alone()
	a.call("PUT", "/v2/queues/q", encrypting, 201)
	var want []string
	post := func(r *api) {
		body := fmt.Sprintf(`"%d"`, len(want))
		want = append(want, body)
		r.post("q", ours, `[{"body": `+body+`}]`)
	}
	post(a)
	post(b)
	masters, err := sealing.ParseMasters(rotatedMasters)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := sealing.Rotate(t.Context(), a.DB(), masters); err != nil || n != 1 {
		t.Fatalf("%d keys were rotated: %v", n, err)
	}
	post(a)
	post(b)
	keysOf(b.server.Config).Forget()
	post(b)
	c := a.replica(withEncryption(newMaster)).alone() // without the old one
	post(c)
	for name, r := range map[string]*api{"a": a, "b": b, "c": c} {
		if got := r.call("GET", "/v2/queues/q/messages?echo=true", "", 200).bodies(); got != strings.Join(want, "|") {
			t.Errorf("%s reads %s, want %s", name, got, strings.Join(want, "|"))
		}
	}
	if n, err := sealing.Rotate(t.Context(), a.DB(), masters); err != nil || n != 0 {
		t.Errorf("%d keys were rotated once more: %v", n, err)
	}
	if n := a.count(`SELECT count(*) FROM secrets.data_keys`); n != 1 {
		t.Errorf("there are %d data keys", n)
	}
	old, err := sealing.ParseMasters(testMasters)
	if err != nil {
		t.Fatal(err)
	}
	if err := sealing.Check(t.Context(), a.DB(), old); err == nil || !strings.Contains(err.Error(), "test-2") {
		t.Errorf("a check without the new master key says %v", err)
	}
	if err := sealing.Check(t.Context(), a.DB(), masters); err != nil {
		t.Error(err)
	}
}

// TestAQueueMadeAgainHasAnotherKey, and what was sealed before stays sealed with the old
// one.
func TestAQueueMadeAgainHasAnotherKey(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withEncryption(testMasters))
	for range 2 {
		a.call("PUT", "/v2/queues/q", encrypting, 201)
		a.post("q", ours, `[{"body": 1}]`)
		a.call("DELETE", "/v2/queues/q", "", 204)
	}
	if n := a.count(`SELECT count(DISTINCT number) FROM secrets.data_keys WHERE project = 'p1' AND queue = 'q'`); n != 2 {
		t.Errorf("%d numbers have keys, not 2", n)
	}
	if keys := a.destroyKeys("q"); len(keys) != 2 {
		t.Errorf("%d keys were destroyed, not 2", len(keys))
	}
}

// TestKeysStayWithTheirMessages where messages that came before them are left out of a
// slice of history.
func TestKeysStayWithTheirMessages(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withEncryption(testMasters))
	a.call("PUT", "/v2/queues/secret", encrypting, 201)
	for range 3 {
		a.post("open", ours, `[{"body": 1}, {"body": 2}]`)
		a.post("secret", ours, `[{"body": 3}, {"body": 4}]`)
	}
	for _, queue := range []string{"open", "secret"} {
		a.call("DELETE", "/v2/queues/"+queue+"/messages?pop=3", "", 200)
	}
	checked(t, a)
	if err := (projections.Rebuilding{DB: a.DB(), Projections: projections.Inline}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	checked(t, a)
	if got := a.call("GET", "/v2/queues/secret/messages?echo=true", "", 200).bodies(); got != "4|3|4" {
		t.Errorf("after a rebuild the queue has %s", got)
	}
}
