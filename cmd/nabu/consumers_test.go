package main

import (
	"encoding/json"
	"strings"
	"testing"

	"nabu/internal/eventually"
	"nabu/internal/postgres"
)

// TestAnEventThatAConsumerRefusesIsParkedAndRetried: from the handler's error to the list,
// and back.
func TestAnEventThatAConsumerRefusesIsParkedAndRetried(t *testing.T) {
	t.Parallel()
	data := newDataDir(t)
	r := start(t, "--data-dir", data)
	server, err := postgres.Attach(t.Context(), postgres.Config{DataDir: data, Program: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Stop(t.Context()) }()
	db, err := postgres.Open(server.URL(postgres.App, postgres.Database), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.Exec(`ALTER TABLE live.message_events ADD CONSTRAINT picky CHECK (recorded_from > 0 OR 3 <> ALL (positions))`); err != nil {
		t.Fatal(err)
	}
	popped := func(queue string) (id string) { // positions 1 to 3, then 4 to 6
		t.Helper()
		r.call("POST", "/v2/queues/"+queue+"/messages", `{"messages": [{"body": 1}, {"body": 2}]}`, 201)
		var answer struct{ Messages []struct{ ID string } }
		if err := json.Unmarshal([]byte(r.call("DELETE", "/v2/queues/"+queue+"/messages?pop=1", "", 200)), &answer); err != nil {
			t.Fatal(err)
		}
		return answer.Messages[0].ID
	}
	bad, good := popped("bad"), popped("good")
	r.call("DELETE", "/v2/queues/bad/messages?pop=1", "", 200) // 7 waits behind 3
	r.awaitMetric(`nabu_consumer_parked_events{consumer="message-index"} 2`)
	r.awaitMetric(`nabu_consumer_lag_events{consumer="message-index"} 0`)
	r.mustShow(show(t, data, "consumers", "list"), "queue/p1/bad", `violates check constraint "picky"`, "10 times", "waits behind another")
	r.mustShow(show(t, data, "consumers", "list", "-o", "json"), `"position": 3`, `"error": null`)
	r.mustShow(r.logged(), "an event is parked, with what follows on its stream", "picky")
	story := func(id, positions string) {
		t.Helper()
		got := ""
		for line := range strings.Lines(show(t, data, "events", "--message", id)) {
			position, _, _ := strings.Cut(strings.TrimPrefix(line, `{"position":`), ",")
			got += position + " "
		}
		if got != positions {
			t.Errorf("the story of %s is %s, want %s", id, got, positions)
		}
	}
	story(good, "5 6 ")
	story(bad, "2 ")
	if _, err := db.Exec(`ALTER TABLE live.message_events DROP CONSTRAINT picky`); err != nil {
		t.Fatal(err)
	}
	r.mustShow(show(t, data, "consumers", "retry", "message-index", "3"), "2 events will be delivered again")
	r.awaitMetric(`nabu_consumer_parked_events{consumer="message-index"} 0`)
	story(bad, "2 3 ")
	r.end()
}

// awaitMetric waits until a metric has a value.
func (r *running) awaitMetric(line string) {
	r.t.Helper()
	eventually.Holds(r.t, line, func() bool { return strings.Contains(r.call("GET", "/metrics", "", 200), line+"\n") })
}
