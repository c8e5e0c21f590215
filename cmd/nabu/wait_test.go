package main

import (
	"testing"
	"time"

	"nabu/internal/pgtest"
	"nabu/internal/postgres"
)

// TestWhatOneReplicaPostsTheOtherHandsOut: who waits at one nabu is told of what another
// one on the same database commits, long before the time is over.
func TestWhatOneReplicaPostsTheOtherHandsOut(t *testing.T) {
	t.Parallel()
	server := pgtest.OpenServer(t, map[string]string{"fsync": "off"})
	app, owner := server.URL(postgres.App, postgres.Database), server.URL(postgres.Owner, postgres.Database)
	one := start(t, "--database-url", app, "--direct-database-url", owner, "--max-wait", "300")
	two := start(t, "--database-url", app, "--direct-database-url", owner, "--max-wait", "300")
	waits := func(method, path string, status int) <-chan string {
		answer := make(chan string, 1)
		go func() {
			defer close(answer) // also when the call ends this goroutine
			answer <- two.call(method, path, "", status)
		}()
		two.awaitMetric("nabu_requests_waiting 1")
		return answer
	}
	began := time.Now()
	page := waits("GET", "/v2/queues/q/messages?wait=300&echo=true", 200)
	one.call("POST", "/v2/queues/q/messages", `{"messages": [{"body": "first"}]}`, 201)
	two.mustShow(<-page, `"first"`)
	one.call("DELETE", "/v2/queues/q/messages?pop=1", "", 200)
	claim := waits("POST", "/v2/queues/q/claims?wait=300", 201)
	one.call("POST", "/v2/queues/q/messages", `{"messages": [{"body": "second"}]}`, 201)
	two.mustShow(<-claim, `"second"`)
	if took := time.Since(began); took > time.Minute {
		t.Errorf("told after %s", took)
	}
	waits("POST", "/v2/queues/q/claims?wait=300", 204)
	two.end() // at once, whoever waits
	one.end()
}
