package http

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// askWithKey is ask with an Idempotency-Key, written as JSON. The answer is what comes
// besides the request.
func (w *talk) askWithKey(key, action, body string, status int) answer {
	w.Helper()
	w.send(fmt.Sprintf(`{"action": %q, "headers": {%s, "Idempotency-Key": %s}, "body": %s}`, action, oursAndP1, key, body))
	got := w.receive()
	var whole struct {
		Body    json.RawMessage
		Headers struct {
			Status   int
			Replayed string `json:"Idempotency-Replayed"`
		}
	}
	if got.into(&whole); whole.Headers.Status != status {
		w.Fatalf("%s %s with the key %s: %s, want %d", action, body, key, got.body, status)
	}
	return answer{TB: w.TB, status: status, header: http.Header{headerReplayed: {whole.Headers.Replayed}}, body: string(whole.Body)}
}

func TestWebSocketIdempotencyKey(t *testing.T) {
	t.Parallel()
	eachEncoding(t, func(t *testing.T, binary bool) {
		a := newAPI(t).stopWith()
		w := a.dial("/messaging/ws", binary)
		const post = `{"queue_name": "q", "messages": [{"body": 1}, {"body": 2}, {"body": 3}]}`
		for n, test := range []struct {
			action, body string
			status       int
			other        string // a body that makes it another request
		}{
			{"message_post", post, 201, `{"queue_name": "q", "messages": [{"body": 1}]}`},
			{"claim_create", `{"queue_name": "q", "limit": 1}`, 201, `{"queue_name": "q", "limit": 2}`},
			{"message_delete_many", `{"queue_name": "q", "pop": 1}`, 200, `{"queue_name": "q", "pop": 2}`},
			{"subscription_create", `{"queue_name": "q", "subscriber": "http://a"}`, 201, `{"queue_name": "q", "subscriber": "http://b"}`},
			{"queue_purge", `{"queue_name": "q", "resource_types": ["messages"]}`, 204, `{"queue_name": "r"}`},
		} {
			key := fmt.Sprintf(`"key-%d"`, n)
			first := w.askWithKey(key, test.action, test.body, test.status).has(headerReplayed, "")
			if len(a.history()) == 0 {
				t.Errorf("%s changes nothing", test.action)
			}
			for _, connection := range []*talk{w, a.dial("/v2", binary)} {
				again := connection.askWithKey(key, test.action, test.body, test.status).has(headerReplayed, "true")
				if again.body != first.body {
					t.Errorf("%s: %s, before %s", test.action, again.body, first.body)
				}
			}
			if got := w.askWithKey(key, test.action, test.other, 422); !strings.Contains(got.body, "Idempotency-Key") {
				t.Errorf("%s: %s", test.action, got.body)
			}
			w.askWithKey(key, "message_post", strings.Replace(post, `"q"`, `"other"`, 1), 422)
			a.recorded()
		}
		w.askWithKey(`"key-1"`, "claim_create", `{"limit":1,   "queue_name": "q"}`, 201).has(headerReplayed, "true") // in another order
		a.call("POST", "/v2/queues/q/messages", `{"messages": [{"body": 1}]}`, 422, "Idempotency-Key", "key-0")
		for _, bad := range []string{`""`, `"a b"`, `"` + strings.Repeat("x", 256) + `"`, `5`, `null`, `{}`} {
			if got := w.askWithKey(bad, "message_post", post, 400); !strings.Contains(got.body, "Idempotency-Key must") {
				t.Errorf("the key %s: %s", bad, got.body)
			}
		}
		a.recorded()

		// The connection's own subscription is made anew, whatever the key.
		own := w.askWithKey(`"own"`, "subscription_create", `{"queue_name": "q"}`, 201)
		other := a.dial("/v2", binary).askWithKey(`"own"`, "subscription_create", `{"queue_name": "q"}`, 201)
		if own.body == other.body {
			t.Errorf("two connections have one subscription: %s", own.body)
		}
	})
}

// TestWebSocketRefusesToWait: a wait that was ignored would look like an empty queue.
func TestWebSocketRefusesToWait(t *testing.T) {
	t.Parallel()
	eachEncoding(t, func(t *testing.T, binary bool) {
		a := newAPI(t).stopWith()
		w := a.dial("/v2", binary)
		a.post("q", theirs, `[{"body": 1}]`)
		a.history()
		for _, wait := range []string{`1`, `0`, `"1"`} {
			w.refused("claim_create", `{"queue_name": "q", "wait": `+wait+`}`, 400, "wait is not for WebSockets")
			w.refused("message_list", `{"queue_name": "q", "wait": `+wait+`}`, 400, "wait is not for WebSockets")
		}
		a.recorded()
	})
}

// What a frame is compared by is remembered with its key, so it stays as it is byte for byte.
func TestAppendSorted(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{}`: `{}`, `[ ]`: `[]`, `"\u0061"`: `"\u0061"`, `-0.50`: `-0.50`, `null`: `null`,
		`{"b" : [1 , {"d": 2, "c": "}"}], "a": { } , "\u0062": true}`: `{"a":{},"b":[1,{"c":"}","d":2,},],"b":true,}`,
		`[[["a, b"] ], [], {"\"": {}}]`:                               `[[["a, b",],],[],{"\"":{},},]`,
	} {
		if got := string(appendSorted(nil, body)); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
}
