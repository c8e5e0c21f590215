package http

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/tinylib/msgp/msgp"

	"nabu/domain"
)

// talk is a conversation on a WebSocket.
type talk struct {
	*api
	conn   *websocket.Conn
	binary bool
}

// dial opens a WebSocket. It is closed with the test, and its server with it.
func (a *api) dial(path string, binary bool) *talk {
	a.Helper()
	conn, response, err := websocket.Dial(a.Context(), "ws"+strings.TrimPrefix(a.url, "http")+path, nil)
	if err != nil {
		a.Fatal(err)
	}
	if response.StatusCode != http.StatusSwitchingProtocols || response.Header.Get("X-OpenStack-Request-Id") == "" {
		a.Fatalf("handshake: %d %v", response.StatusCode, response.Header)
	}
	conn.SetReadLimit(-1)
	a.Cleanup(func() { _ = conn.CloseNow() })
	return &talk{a, conn, binary}
}

// stopWith ends the server, and so what it has on WebSockets, with the test.
func (a *api) stopWith() *api {
	a.Helper()
	a.alone()
	a.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := a.server.Shutdown(ctx); err != nil {
			a.Error(err)
		}
	})
	return a
}

const oursAndP1 = `"Client-ID": "` + ours + `", "X-Project-ID": "p1"`

// ask sends an action with the usual headers and fails the test if its answer has
// another status or does not repeat the request.
func (w *talk) ask(action, body string, status int) answer {
	w.Helper()
	sent := fmt.Sprintf(`{"action": %q, "headers": {%s}, "body": %s}`, action, oursAndP1, body)
	w.send(sent)
	got := w.receive()
	var whole struct {
		Request, Body json.RawMessage
		Headers       struct{ Status int }
	}
	got.into(&whole)
	if whole.Headers.Status != status {
		w.Fatalf("%s %s: %s, want %d", action, body, got.body, status)
	}
	answer{TB: w.TB, body: string(whole.Request)}.is(strings.TrimSuffix(sent, "}") + `, "api": "v2"}`)
	return answer{TB: w.TB, status: status, body: string(whole.Body)}
}

// send sends a frame that is given as JSON.
func (w *talk) send(text string) {
	w.Helper()
	if !w.binary {
		w.sendRaw(websocket.MessageText, []byte(text))
		return
	}
	packed, err := msgp.AppendIntf(nil, plain(decoded(w.TB, text)))
	if err != nil {
		w.Fatal(err)
	}
	w.sendRaw(websocket.MessageBinary, packed)
}

func (w *talk) sendRaw(kind websocket.MessageType, data []byte) {
	w.Helper()
	if err := w.conn.Write(w.Context(), kind, data); err != nil {
		w.Fatal(err)
	}
}

// plain makes numbers of what the JSON decoder has left as they were.
func plain(value any) any {
	switch its := value.(type) {
	case json.Number:
		if n, err := its.Int64(); err == nil {
			return n
		}
		f, _ := its.Float64()
		return f
	case []any:
		for i := range its {
			its[i] = plain(its[i])
		}
	case map[string]any:
		for name := range its {
			its[name] = plain(its[name])
		}
	}
	return value
}

// receive waits for a frame and returns it as JSON. It has to be in the encoding of the
// conversation.
func (w *talk) receive() answer {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 20*time.Second)
	defer cancel()
	kind, data, err := w.conn.Read(ctx)
	if err != nil {
		w.Fatal(err)
	}
	if (kind == websocket.MessageBinary) != w.binary {
		w.Fatalf("a frame of kind %v: %q", kind, data)
	}
	if w.binary {
		var text bytes.Buffer
		if rest, err := msgp.UnmarshalAsJSON(&text, data); err != nil || len(rest) > 0 {
			w.Fatalf("%x: %v", data, err)
		}
		data = text.Bytes()
	}
	return answer{TB: w.TB, body: string(data)}
}

// closed waits for the end of the connection and states its code.
func (w *talk) closed(want websocket.StatusCode) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 20*time.Second)
	defer cancel()
	_, data, err := w.conn.Read(ctx)
	if err == nil {
		w.Fatalf("came %q instead of the end", data)
	}
	if got := websocket.CloseStatus(err); got != want {
		w.Fatalf("closed with %v, want %v: %v", got, want, err)
	}
}

// refused states what an action was refused with.
func (w *talk) refused(action, body string, status int, text string) {
	w.Helper()
	var said struct{ Exception, Error string }
	w.ask(action, body, status).into(&said)
	if !strings.Contains(said.Exception+said.Error, text) || said.Error == "" {
		w.Fatalf("%s %s: refused with %+v, not with %q", action, body, said, text)
	}
}

// eachEncoding runs a test with JSON and with MessagePack.
func eachEncoding(t *testing.T, test func(t *testing.T, binary bool)) {
	t.Helper()
	for name, binary := range map[string]bool{"JSON": false, "MessagePack": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, binary)
		})
	}
}

func TestWebSocketQueues(t *testing.T) {
	t.Parallel()
	eachEncoding(t, func(t *testing.T, binary bool) {
		a := newAPI(t).stopWith()
		w := a.dial("/v2", binary)
		w.ask("queue_get", `{"queue_name": "q"}`, 200).is(`{}`)
		w.ask("queue_get_stats", `{"queue_name": "q"}`, 404).is(`{"messages": {"claimed": 0, "free": 0, "total": 0}}`)
		w.ask("queue_list", `{}`, 200).is(`{"queues": []}`)
		w.ask("queue_create", `{"queue_name": "q", "metadata": {"a": [1, 2.5]}}`, 201).is(`"Queue q created."`)
		w.ask("queue_create", `{"queue_name": "q", "metadata": {"b": 1}}`, 204)
		w.ask("queue_create", `{"queue_name": "r"}`, 201)
		w.ask("queue_get", `{"queue_name": "q"}`, 200).is(`{"a": [1, 2.5]}`)
		w.ask("queue_list", `{}`, 200).is(`{"queues": [{"name": "q"}, {"name": "r"}]}`)
		w.ask("queue_list", `{"limit": 1, "detailed": true}`, 200).is(
			`{"queues": [{"name": "q", "metadata": {"a": [1, 2.5]}}]}`)
		w.ask("queue_list", `{"marker": "q"}`, 200).is(`{"queues": [{"name": "r"}]}`)
		w.ask("queue_get_stats", `{"queue_name": "q"}`, 200).is(`{"messages": {"claimed": 0, "free": 0, "total": 0}}`)
		ids := a.post("q", ours, `[{"body": 1}]`)
		w.ask("queue_get_stats", `{"queue_name": "q"}`, 200).is(`{"messages": {"claimed": 0, "free": 1, "total": 1,
			"oldest": {"id": "` + ids[0] + `", "age": 0, "created": "2026-03-01T10:00:00Z"},
			"newest": {"id": "` + ids[0] + `", "age": 0, "created": "2026-03-01T10:00:00Z"}}}`)
		w.ask("queue_purge", `{"queue_name": "q", "resource_types": ["subscriptions"]}`, 204).is(`{}`)
		w.ask("queue_get_stats", `{"queue_name": "q"}`, 200).is(a.call("GET", "/v2/queues/q/stats", ``, 200).withIDs().body)
		w.ask("queue_purge", `{"queue_name": "q"}`, 204).is(`{}`)
		a.call("GET", "/v2/queues/q/messages/"+ids[0], ``, 404)
		w.ask("queue_delete", `{"queue_name": "q"}`, 204).is(`"Queue q removed."`)
		w.ask("queue_delete", `{"queue_name": "q"}`, 204)
		w.ask("queue_list", `{}`, 200).is(`{"queues": [{"name": "r"}]}`)
		a.seen = 0
		a.recorded(
			domain.QueueCreated{Project: "p1", Name: "q", Metadata: metadata(t, queueMetadata(binary))},
			domain.QueueCreated{Project: "p1", Name: "r", Metadata: metadata(t, `{}`)},
			domain.MessagesPosted{Project: "p1", Queue: "q", Number: 1, Client: ours, Messages: []domain.PostedMessage{
				{ID: messageID(t, ids[0]), TTL: 3600, Body: `1`}}},
			domain.QueuePurged{Project: "p1", Name: "q", Number: 1},
			domain.QueueDeleted{Project: "p1", Name: "q", Number: 1},
		)

		w.refused("queue_list", `{"limit": 21}`, 400, "limit must be between 1 and 20")
		w.refused("queue_list", `{"limit": "1"}`, 400, "limit must be an integer")
		w.refused("queue_list", `{"detailed": 1}`, 400, "detailed must be true or false")
		w.refused("queue_list", `[]`, 400, "body must be a map")
		w.refused("queue_create", `{"queue_name": "a/b"}`, 400, "queue name")
		w.refused("queue_create", `{"queue_name": 5}`, 400, "queue_name must be a text")
		w.refused("queue_create", `{}`, 400, "body must have queue_name")
		w.refused("queue_create", `{"queue_name": "s", "metadata": []}`, 400, "metadata must be a map")
		w.refused("queue_create", `{"queue_name": "s", "metadata": {"_default_message_ttl": 1}}`, 400, "_default_message_ttl")
		w.refused("queue_create", `{"queue_name": "s", "metadata": {"a": "`+strings.Repeat("a", 65536)+`"}}`, 400, "65536 bytes")
		w.refused("queue_purge", `{"queue_name": "r", "resource_types": ["claims"]}`, 400, "resource_types")
		w.refused("queue_purge", `{"queue_name": "r", "resource_types": "messages"}`, 400, "resource_types must be a list")
		a.recorded()
	})
}

// queueMetadata is what is stored of metadata that came in an encoding: what came as
// JSON stays as it is.
func queueMetadata(binary bool) string {
	if binary {
		return `{"a":[1,2.5]}`
	}
	return `{"a": [1, 2.5]}`
}

// withIDs is stats of HTTP as WebSockets have them.
func (got answer) withIDs() answer {
	got.body = strings.ReplaceAll(got.body, `"href":"/v2/queues/q/messages/`, `"id":"`)
	return got
}

func TestWebSocketMessages(t *testing.T) {
	t.Parallel()
	eachEncoding(t, func(t *testing.T, binary bool) {
		a := newAPI(t).stopWith()
		w := a.dial("/v2/", binary)
		w.ask("message_list", `{"queue_name": "q"}`, 200).is(`{"messages": []}`)
		var posted struct {
			IDs []string `json:"message_ids"`
		}
		w.ask("message_post", `{"queue_name": "q", "messages": [{"ttl": 300, "body": {"job": 17, "at": 1.5}}, {"body": "ü\u0000\n"}, {"body": null}]}`, 201).into(&posted)
		if len(posted.IDs) != 3 {
			t.Fatal(posted)
		}
		item := func(i, ttl int, body string) string {
			return fmt.Sprintf(`{"id": %q, "claim_id": null, "ttl": %d, "age": 0, "body": %s}`, posted.IDs[i], ttl, body)
		}
		first, second, third := item(0, 300, `{"job": 17, "at": 1.5}`), item(1, 3600, `"ü\u0000\n"`), item(2, 3600, `null`)
		w.ask("message_list", `{"queue_name": "q"}`, 200).is(`{"messages": []}`)
		w.ask("message_list", `{"queue_name": "q", "echo": true}`, 200).is(`{"messages": [` + first + `, ` + second + `, ` + third + `]}`)
		w.ask("message_list", `{"queue_name": "q", "echo": true, "limit": 1, "marker": "`+posted.IDs[0]+`"}`, 200).is(`{"messages": [` + second + `]}`)
		w.ask("message_list", `{"queue_name": "q", "echo": true, "marker": "none"}`, 200).is(`{"messages": []}`)
		w.ask("message_get", `{"queue_name": "q", "message_id": "`+posted.IDs[1]+`"}`, 200).is(`{"messages": ` + second + `}`)
		w.ask("message_get_many", `{"queue_name": "q", "message_ids": ["`+posted.IDs[2]+`", "no", "`+posted.IDs[1]+`"]}`, 200).is(`{"messages": [` + second + `, ` + third + `]}`)
		w.ask("message_get_many", `{"queue_name": "q", "message_ids": []}`, 200).is(`{"messages": []}`)
		w.ask("message_delete", `{"queue_name": "q", "message_id": "`+posted.IDs[1]+`"}`, 204).is(`{}`)
		w.ask("message_delete", `{"queue_name": "q", "message_id": "no"}`, 204).is(`{}`)
		w.refused("message_get", `{"queue_name": "q", "message_id": "`+posted.IDs[1]+`"}`, 404, "not in queue q")
		w.ask("message_delete_many", `{"queue_name": "q", "pop": 1}`, 200).is(`{"messages": [` + first + `]}`)
		w.ask("message_delete_many", `{"queue_name": "q", "message_ids": ["`+posted.IDs[2]+`", "no"]}`, 204).is(`{}`)
		w.ask("message_delete_many", `{"queue_name": "q", "pop": 20}`, 200).is(`{"messages": []}`)

		a.call("PUT", "/v2/queues/late", `{"_default_message_delay": 60}`, 201)
		a.history()
		w.ask("message_post", `{"queue_name": "late", "messages": [{"body": 1, "delay": 5}]}`, 201) // no delay, as in Zaqar
		w.ask("message_list", `{"queue_name": "late", "echo": true}`, 200).into(&struct{ Messages [1]any }{})
		a.history()

		many := strings.Repeat(`"x", `, 20) + `"x"`
		for body, text := range map[string]string{
			`{"queue_name": "q"}`:                                                                "body must have messages",
			`{"queue_name": "q", "messages": {}}`:                                                "messages must be a list",
			`{"queue_name": "q", "messages": []}`:                                                "messages must have",
			`{"queue_name": "q", "messages": [1]}`:                                               "must be an object",
			`{"queue_name": "q", "messages": [{"ttl": 60}]}`:                                     "must have a body",
			`{"queue_name": "q", "messages": [{"body": 1, "ttl": 5}]}`:                           "ttl must be between",
			`{"queue_name": "q", "messages": [{"body": "` + strings.Repeat("a", 262144) + `"}]}`: "262144 bytes",
			`{"queue_name": "ü", "messages": [{"body": 1}]}`:                                     "queue name",
		} {
			w.refused("message_post", body, 400, text)
		}
		w.refused("message_list", `{"queue_name": "q", "limit": 0}`, 400, "limit must be between 1 and 20")
		w.refused("message_get_many", `{"queue_name": "q", "message_ids": [`+many+`]}`, 400, "at most 20")
		w.refused("message_get_many", `{"queue_name": "q", "message_ids": [1]}`, 400, "must hold texts")
		w.refused("message_delete", `{"queue_name": "q", "message_ids": ["a"]}`, 400, "body must have message_id")
		w.refused("message_delete_many", `{"queue_name": "q"}`, 400, "either name messages by message_ids or pop")
		w.refused("message_delete_many", `{"queue_name": "q", "pop": 1, "message_ids": ["a"]}`, 400, "either name messages by message_ids or pop")
		w.refused("message_delete_many", `{"queue_name": "q", "pop": 21}`, 400, "pop must be between 1 and 20")
		a.recorded()
	})
}

func TestWebSocketClaims(t *testing.T) {
	t.Parallel()
	eachEncoding(t, func(t *testing.T, binary bool) {
		a := newAPI(t).stopWith()
		w := a.dial("/messaging/ws", binary)
		w.ask("claim_create", `{"queue_name": "q"}`, 204).is(`{"claim_id": null, "messages": []}`)
		ids := a.post("q", theirs, `[{"body": 1, "ttl": 60}, {"body": 2}, {"body": 3}]`)
		var claimed struct {
			Claim    string `json:"claim_id"`
			Messages []json.RawMessage
		}
		w.ask("claim_create", `{"queue_name": "q", "ttl": 100, "grace": 70, "limit": 2}`, 201).into(&claimed)
		claim := `{"queue_name": "q", "claim_id": "` + claimed.Claim + `"}`
		held := fmt.Sprintf(`[{"id": %q, "claim_id": %q, "ttl": 170, "age": 0, "body": 1}, {"id": %q, "claim_id": %q, "ttl": 3600, "age": 0, "body": 2}]`,
			ids[0], claimed.Claim, ids[1], claimed.Claim)
		w.ask("claim_get", claim, 200).is(`{"age": 0, "ttl": 100, "messages": ` + held + `}`)
		w.ask("message_list", `{"queue_name": "q", "include_claimed": true, "limit": 2}`, 200).is(`{"messages": ` + held + `}`)
		a.advance(10 * time.Second)
		w.ask("claim_update", `{"queue_name": "q", "claim_id": "`+claimed.Claim+`", "ttl": 200, "grace": null}`, 204)
		w.ask("claim_get", claim, 200).into(&struct {
			TTL int
		}{})
		w.refused("message_delete", `{"queue_name": "q", "message_id": "`+ids[0]+`"}`, 403, "held by a claim")
		w.refused("message_delete", `{"queue_name": "q", "message_id": "`+ids[2]+`", "claim_id": "no"}`, 400, "does not name a live claim")
		w.ask("message_delete", `{"queue_name": "q", "message_id": "`+ids[0]+`", "claim_id": "`+claimed.Claim+`"}`, 204)
		w.ask("claim_delete", claim, 204)
		w.ask("claim_delete", `{"queue_name": "q", "claim_id": "no"}`, 204)
		w.refused("claim_get", claim, 404, "does not exist")
		w.refused("claim_update", claim, 404, "does not exist")
		w.refused("claim_get", `{"queue_name": "q", "claim_id": "no"}`, 404, "does not exist")
		a.history()
		w.refused("claim_create", `{"queue_name": "q", "limit": 21}`, 400, "limit must be between 1 and 20")
		w.refused("claim_create", `{"queue_name": "q", "ttl": 5}`, 400, "ttl")
		w.refused("claim_create", `{"queue_name": "q", "ttl": "60"}`, 400, "ttl must be an integer")
		w.refused("claim_update", `{"queue_name": "q"}`, 400, "body must have claim_id")
		a.recorded()
	})
}

func TestWebSocketDeletesWithClaims(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withClaimIDs).stopWith()
	w := a.dial("/v2", false)
	ids := a.post("q", theirs, `[{"body": 1}, {"body": 2}]`)
	var claimed struct {
		Claim string `json:"claim_id"`
	}
	w.ask("claim_create", `{"queue_name": "q", "limit": 1}`, 201).into(&claimed)
	w.refused("message_delete_many", `{"queue_name": "q", "message_ids": ["`+ids[0]+`"]}`, 400, "claim_ids")
	w.refused("message_delete_many", `{"queue_name": "q", "pop": 1, "claim_ids": ["`+claimed.Claim+`"]}`, 400, "claim_ids")
	w.refused("message_delete_many", `{"queue_name": "q", "message_ids": ["`+ids[1]+`"], "claim_ids": ["`+claimed.Claim+`"]}`, 403, "none of the claims")
	w.ask("message_delete_many", `{"queue_name": "q", "message_ids": ["`+ids[0]+`"], "claim_ids": ["`+claimed.Claim+`"]}`, 204)
}
