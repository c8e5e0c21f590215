package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nabu/domain"
)

// show runs a command beside a running nabu and returns what it shows.
func show(t *testing.T, data string, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), append(args, "--data-dir", data), cleanEnviron(), &out); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return out.String()
}

// showWith returns what a command shows, and what it says beside that.
func showWith(t *testing.T, data string, args ...string) (shown, said string) {
	t.Helper()
	var out, beside bytes.Buffer
	root := newRoot(cleanEnviron())
	root.SetArgs(append(args, "--data-dir", data))
	root.SetOut(&out)
	root.SetErr(&beside)
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return out.String(), beside.String()
}

// shownPositions are those of JSON lines.
func shownPositions(t *testing.T, lines string) []int64 {
	t.Helper()
	positions := []int64{}
	for line := range strings.Lines(lines) {
		var e shownEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		positions = append(positions, e.Position)
	}
	return positions
}

func TestEventsAndConsumersOfARunningNabu(t *testing.T) {
	t.Parallel()
	data := newDataDir(t)
	r := start(t, "--data-dir", data)
	for i := range 3 { // positions 1 to 4
		r.call("POST", "/v2/queues/orders/messages", fmt.Sprintf(`{"messages": [{"body": {"n": %d, "t": "\u0007<b>"}}]}`, i), 201)
	}
	const global = "req-5b1c6a5e-6f0e-4a3b-8f5d-2f8e8a7a3c11"
	r.ask("PUT", "/v2/queues/bills", `{"colour": "red"}`, 201, "X-Openstack-Request-Id", global, "X-User-Id", "ann") // 5
	popped := r.call("DELETE", "/v2/queues/orders/messages?pop=1", "", 200)

	if out, said := showWith(t, data, "events", "--stream", "queue/p1/ordres"); out != "" || said != "There is no stream queue/p1/ordres yet.\n" {
		t.Errorf("of a stream that is not there it shows %q and says %q", out, said)
	}
	if _, said := showWith(t, data, "events", "--stream", "queue/p1/orders"); said != "" {
		t.Errorf("of a stream that is there it says %q", said)
	}
	for want, args := range map[string][]string{
		"There is no such event in the project nosuch.\n":                    {"--project", "nosuch"},
		"There is no such event of the request req-zzz.\n":                   {"--request", "req-zzz", "-o", "table"},
		"There is no such event in the project p1 of the request req-zzz.\n": {"--project", "p1", "--request", "req-zzz"},
		"There is no such event.\n":                                          {"--type", "task.created.v1"},
	} {
		if out, said := showWith(t, data, append([]string{"events"}, args...)...); out != "" || said != want {
			t.Errorf("%v shows %q and says %q", args, out, said)
		}
	}
	var first shownEvent
	if err := json.Unmarshal([]byte(show(t, data, "events", "--limit", "1")), &first); err != nil || first.RequestID == "" {
		t.Fatalf("%+v, %v", first, err)
	}
	var fifth shownEvent
	if err := json.Unmarshal([]byte(show(t, data, "events", "--from", "5", "--to", "5")), &fifth); err != nil {
		t.Fatal(err)
	}
	at5 := fifth.RecordedAt.Format(time.RFC3339Nano)
	for name, test := range map[string]struct {
		args []string
		want []int64
	}{
		"all":              {nil, []int64{1, 2, 3, 4, 5, 6}},
		"from":             {[]string{"--from", "5"}, []int64{5, 6}},
		"from the end":     {[]string{"--from=-2"}, []int64{5, 6}},
		"up to":            {[]string{"--from", "2", "--to", "3"}, []int64{2, 3}},
		"some":             {[]string{"--limit", "2"}, []int64{1, 2}},
		"a stream":         {[]string{"--stream", "queue/p1/bills"}, []int64{5}},
		"part of a stream": {[]string{"--stream", "queue/p1/orders", "--from", "3", "--limit", "2"}, []int64{3, 4}},
		"a project":        {[]string{"--project", "p1", "--from", "4"}, []int64{4, 5, 6}},
		"another project":  {[]string{"--project", "p2"}, []int64{}},
		"types":            {[]string{"--type", "queue.created.v1,messages.popped.v1"}, []int64{1, 5, 6}},
		"a request":        {[]string{"--request", first.RequestID}, []int64{1, 2}},
		"a user":           {[]string{"--actor", "ann"}, []int64{5}},
		"a user's stream":  {[]string{"--actor", "ann", "--stream", "queue/p1/orders"}, []int64{}},
		"since a time":     {[]string{"--since", at5}, []int64{5, 6}},
		"until a time":     {[]string{"--until", at5}, []int64{1, 2, 3, 4}},
		"between":          {[]string{"--since", first.RecordedAt.Format(time.RFC3339Nano), "--until", at5, "--from", "3"}, []int64{3, 4}},
		"some of between":  {[]string{"--until", at5, "--to", "2"}, []int64{1, 2}},
		"a stream since":   {[]string{"--since", at5, "--stream", "queue/p1/orders"}, []int64{6}},
		"for some time":    {[]string{"--since", "1h"}, []int64{1, 2, 3, 4, 5, 6}},
		"before all":       {[]string{"--until", "1h"}, []int64{}},
		"since ever":       {[]string{"--since", "0001-01-01T00:00:00Z"}, []int64{1, 2, 3, 4, 5, 6}},
		"after all":        {[]string{"--since", "2200-01-01T00:00:00+01:00"}, []int64{}},
		"a global request": {[]string{"--request", global, "--project", "p1"}, []int64{5}},
		"of a stream":      {[]string{"--request", first.RequestID, "--stream", "queue/p1/bills"}, []int64{}},
		"no request":       {[]string{"--request", "req-"}, []int64{}},
		"a stream's type":  {[]string{"--stream", "queue/p1/orders", "--type", "queue.created.v1"}, []int64{1}},
	} {
		if got := shownPositions(t, show(t, data, append([]string{"events"}, test.args...)...)); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
	r.mustShow(show(t, data, "events", "--from", "2", "--to", "2"), `"type":"messages.posted.v1"`, `"stream":"queue/p1/orders"`,
		`"bodies":["{\"n\": 0, \"t\": \"\\u0007<b>\"}"]`, `"request_id":"req-`, `"version":2`)
	r.mustShow(show(t, data, "events", "-o", "table"), "       2  20", "messages.posted.v1", `1 message: {"n": 0, "t": "\u0007<b>"} from client`, `{"colour":"red"}`)

	var answer struct{ Messages []struct{ ID string } }
	if err := json.Unmarshal([]byte(popped), &answer); err != nil || len(answer.Messages) != 1 {
		t.Fatalf("%s: %v", popped, err)
	}
	if got := shownPositions(t, show(t, data, "events", "--message", answer.Messages[0].ID)); !slices.Equal(got, []int64{2, 6}) {
		t.Errorf("the story of a message is %v", got)
	}
	r.mustShow(show(t, data, "consumers", "list"), "consumer", "message-index", "sweeper")
	r.mustShow(show(t, data, "consumers", "list", "-o", "json"), `"name": "message-index"`, `"lag_events"`, `"parked": []`)
	r.mustShow(show(t, data, "consumers", "retry", "sweeper"), "0 events")
	r.mustShow(r.call("GET", "/metrics", "", 200), `nabu_consumer_lag_events{consumer="message-index"}`,
		`nabu_consumer_lag_seconds{consumer="sweeper"}`, `nabu_consumer_parked_events{consumer="sweeper"} 0`)
	for code, args := range map[domain.Code][]string{
		domain.NotFound: {"consumers", "skip", "sweeper", "1", "--reason", "no use"},
	} {
		err := run(t.Context(), append(args, "--data-dir", data), cleanEnviron(), io.Discard)
		if refused, ok := errors.AsType[*domain.Error](err); !ok || refused.Code != code {
			t.Errorf("%v: %v", args, err)
		}
	}
	tail(t, r, data)
	r.end()
	tamper(t, data, `UPDATE ledger.consumers SET position = 1 WHERE name = 'message-index'`)
	if shown, said := showWith(t, data, "events", "--message", answer.Messages[0].ID); len(shownPositions(t, shown)) == 0 || !strings.Contains(said, "events behind") {
		t.Errorf("of an index that stands still it is said %q, beside %s", said, shown)
	}
}

// tail follows the history while it grows.
func tail(t *testing.T, r *running, data string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	var tailing sync.WaitGroup
	tailing.Go(func() {
		if err := run(ctx, []string{"events", "--follow", "--type", "queue.created.v1", "--data-dir", data}, cleanEnviron(), write); err != nil {
			t.Errorf("the tail ended with %v", err)
		}
		_ = write.Close()
	})
	lines := make(chan string)
	tailing.Go(func() {
		defer close(lines)
		for scan := bufio.NewScanner(read); scan.Scan(); {
			lines <- scan.Text()
		}
	})
	for i, want := range []string{"orders", "bills", "more"} {
		if i == 2 {
			r.call("PUT", "/v2/queues/more", "", 201)
		}
		select {
		case line := <-lines:
			r.mustShow(line, "queue/p1/"+want)
		case <-time.After(30 * time.Second):
			t.Errorf("%s is not shown", want)
		}
	}
	cancel()
	for range lines {
		t.Error("more is shown")
	}
	tailing.Wait()
}

func TestEventsAndConsumersRefuseWrongUse(t *testing.T) {
	t.Parallel()
	for says, args := range map[string][]string{
		"did you mean queue.created.v1?": {"events", "--type", "queue.created"},
		"do not go together":             {"events", "--message", "x", "--follow"},
		"--since do not go together":     {"events", "--message", "x", "--since", "1h"},
		"--until do not go together":     {"events", "--follow", "--until", "1h"},
		"how long ago it was":            {"events", "--since", "yesterday"},
		"such as 15m":                    {"events", "--until", "-5m"},
		"is no id of a message":          {"events", "--message", "x"},
		`"orders" is no stream`:          {"events", "--stream", "orders"},
		`"2ba979c8" is the beginning of`: {"events", "--request", "2ba979c8"},
		"must not be below zero":         {"events", "--limit", "-1"},
		"retry NAME [POSITION]":          {"consumers", "retry"},
		"not \"x\"":                      {"consumers", "retry", "sweeper", "x"},
		"skip NAME POSITION":             {"consumers", "skip", "sweeper"},
		"--reason":                       {"consumers", "skip", "sweeper", "1"},
		"did you mean list?":             {"consumers", "lst"},
	} {
		err := run(t.Context(), args, cleanEnviron(), io.Discard)
		if exitCode(err) != exitUsage || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestLinesOfEventsAreCutAndClean(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		width      int
		line, want string
	}{{0, "abcdef", "abcdef"}, {6, "abcdef", "abcdef"}, {4, "abcdef", "abc…"}, {3, "äöüß", "äö…"}} {
		if got := cutTo(test.width, test.line); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
	if got := oneLine("a\x1b[2Jb\nc\u202ed é"); got != "a [2Jb c d é" {
		t.Errorf("%q", got)
	}
}
