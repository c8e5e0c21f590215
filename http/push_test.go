package http

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"nabu/domain"
	"nabu/internal/eventually"
)

func TestWebSocketSubscriptions(t *testing.T) {
	t.Parallel()
	eachEncoding(t, func(t *testing.T, binary bool) {
		a := newAPI(t).stopWith()
		w := a.dial("/v2", binary)
		var made struct {
			ID string `json:"subscription_id"`
		}
		w.ask("subscription_list", `{"queue_name": "q"}`, 200).is(`{"subscriptions": []}`)
		w.ask("subscription_create", `{"queue_name": "q", "subscriber": "http://a", "ttl": 300, "options": {"x": [1]}}`, 201).into(&made)
		item := `{"id": "` + made.ID + `", "source": "q", "subscriber": "http://a", "ttl": 300, "age": 0, "options": {"x": [1]}, "confirmed": false}`
		w.ask("subscription_list", `{"queue_name": "q"}`, 200).is(`{"subscriptions": [` + item + `]}`)
		w.ask("subscription_list", `{"queue_name": "q", "marker": "`+made.ID+`", "limit": 1}`, 200).is(`{"subscriptions": []}`)
		w.ask("subscription_get", `{"queue_name": "q", "subscription_id": "`+made.ID+`"}`, 200).is(item)
		a.history()
		w.refused("subscription_create", `{"queue_name": "q", "subscriber": "http://a"}`, 409, "already")
		a.recorded()
		a.call("PUT", "/v2/queues/q/subscriptions/"+made.ID+"/confirm", `{"confirmed": true}`, 204)
		a.history()
		w.refused("subscription_create", `{"queue_name": "q", "subscriber": "http://a"}`, 409, "")
		w.refused("subscription_create", `{"queue_name": "q", "subscriber": "gopher://a"}`, 400, "subscriber")
		w.refused("subscription_create", `{"queue_name": "q", "subscriber": "http://b", "ttl": 5}`, 400, "ttl")
		w.refused("subscription_create", `{"queue_name": "q", "subscriber": 5}`, 400, "subscriber must be a text")
		w.refused("subscription_create", `{"queue_name": "r", "ttl": 5}`, 400, "ttl")
		w.refused("subscription_create", `{"queue_name": "r", "options": []}`, 400, "options must be a map")
		w.refused("subscription_create", `{"queue_name": "r", "options": {"a": "`+strings.Repeat("a", maxSubscription)+`"}}`, 400, "bytes")
		w.refused("subscription_get", `{"queue_name": "q", "subscription_id": "no"}`, 404, "does not exist")
		a.recorded()
		w.ask("subscription_delete", `{"queue_name": "q", "subscription_id": "`+made.ID+`"}`, 204)
		w.ask("subscription_delete", `{"queue_name": "q", "subscription_id": "no"}`, 204)
		w.refused("subscription_get", `{"queue_name": "q", "subscription_id": "`+made.ID+`"}`, 404, "does not exist")

		w.ask("subscription_create", `{"queue_name": "q", "subscriber": "http://a"}`, 201)
		w.ask("queue_purge", `{"queue_name": "q"}`, 204)
		w.ask("subscription_list", `{"queue_name": "q"}`, 200).is(`{"subscriptions": []}`)

		var own struct {
			ID string `json:"subscription_id"`
		}
		w.ask("subscription_create", `{"queue_name": "q", "subscriber": "http://a"}`, 201).into(&made)
		w.ask("subscription_create", `{"queue_name": "q"}`, 201).into(&own)
		var page struct{ Subscriptions []struct{ ID string } }
		for _, at := range []struct{ marker, next string }{{"", own.ID}, {own.ID, made.ID}} {
			w.ask("subscription_list", `{"queue_name": "q", "limit": 1, "marker": "`+at.marker+`"}`, 200).into(&page)
			if its := page.Subscriptions; len(its) != 1 || its[0].ID != at.next {
				t.Errorf("behind %q: %v, want %s alone", at.marker, its, at.next)
			}
		}
	})
}

// TestWebSocketPushes: a connection that subscribes itself gets what is posted from then
// on, wherever it is posted, in order and once.
func TestWebSocketPushes(t *testing.T) {
	t.Parallel()
	eachEncoding(t, func(t *testing.T, binary bool) {
		a := newAPI(t).stopWith()
		b := a.replica()
		a.post("q", ours, `[{"body": "before"}]`)
		w := a.dial("/v2", binary)
		var made struct {
			ID string `json:"subscription_id"`
		}
		w.ask("subscription_create", `{"queue_name": "q", "ttl": 300}`, 201).into(&made)
		own := `{"id": "` + made.ID + `", "source": "q", "subscriber": "", "ttl": 300, "age": 0, "options": {}, "confirmed": false}`
		w.ask("subscription_get", `{"queue_name": "q", "subscription_id": "`+made.ID+`"}`, 200).is(own)
		w.ask("subscription_list", `{"queue_name": "q"}`, 200).is(`{"subscriptions": [` + own + `]}`)
		w.ask("subscription_list", `{"queue_name": "q", "marker": "`+made.ID+`"}`, 200).is(`{"subscriptions": []}`)
		w.refused("subscription_create", `{"queue_name": "q"}`, 409, "subscribed to the queue already")

		b.post("q", ours, `[{"body": {"n": [1, "ü"]}, "ttl": 60}, {"body": "`+strings.Repeat("a", 100_000)+`"}]`)
		w.receive().is(`{"body": {"n": [1, "ü"]}, "ttl": 60, "queue_name": "q", "Message_Type": "Notification"}`)
		w.receive().is(`{"body": "` + strings.Repeat("a", 100_000) + `", "ttl": 3600, "queue_name": "q", "Message_Type": "Notification"}`)

		other := a.dial("/v2", !binary)
		other.ask("subscription_create", `{"queue_name": "fresh"}`, 201)
		a.call("DELETE", "/v2/queues/fresh", ``, 204)
		const many = 300
		go func() {
			for i := range many {
				to := []*api{a, b}[i%2]
				to.post("q", theirs, fmt.Sprintf(`[{"body": %d}]`, i))
				to.post("fresh", theirs, fmt.Sprintf(`[{"body": %d}]`, i))
				if i%10 == 0 {
					a.call("DELETE", "/v2/queues/q/messages?pop=20", ``, 200)
				}
			}
		}()
		for i := range many {
			w.receive().is(fmt.Sprintf(`{"body": %d, "ttl": 3600, "queue_name": "q", "Message_Type": "Notification"}`, i))
			other.receive().is(fmt.Sprintf(`{"body": %d, "ttl": 3600, "queue_name": "fresh", "Message_Type": "Notification"}`, i))
		}
		w.ask("subscription_delete", `{"queue_name": "q", "subscription_id": "`+made.ID+`"}`, 204)
		a.post("q", theirs, `[{"body": "unheard"}]`)
		w.ask("subscription_create", `{"queue_name": "q"}`, 201)
		a.post("q", theirs, `[{"body": "heard"}]`)
		w.receive().is(`{"body": "heard", "ttl": 3600, "queue_name": "q", "Message_Type": "Notification"}`)
	})
}

// TestWebSocketPushesInTheLastEncoding: notifications follow the last subscription, not
// the last request.
func TestWebSocketPushesInTheLastEncoding(t *testing.T) {
	t.Parallel()
	a := newAPI(t).stopWith()
	w := a.dial("/v2", true)
	w.ask("subscription_create", `{"queue_name": "q"}`, 201)
	w.binary = false
	w.ask("queue_get", `{"queue_name": "q"}`, 200)
	a.post("q", ours, `[{"body": 1}]`)
	w.binary = true
	w.receive().is(`{"body": 1, "ttl": 3600, "queue_name": "q", "Message_Type": "Notification"}`)
	w.binary = false
	w.ask("subscription_create", `{"queue_name": "r"}`, 201)
	a.post("q", ours, `[{"body": 2}]`)
	w.receive().is(`{"body": 2, "ttl": 3600, "queue_name": "q", "Message_Type": "Notification"}`)
}

// TestWebSocketPushesAfterTheDelay: a message comes when it can be seen, and one that
// never can does not come, whether the queue encrypts or not.
func TestWebSocketPushesAfterTheDelay(t *testing.T) {
	t.Parallel()
	for name, metadata := range map[string]string{
		"plain":     `{"_default_message_delay": 30}`,
		"encrypted": `{"_default_message_delay": 30, "_enable_encrypt_messages": true}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pushesAfterTheDelay(t, metadata)
		})
	}
}

func pushesAfterTheDelay(t *testing.T, metadata string) {
	a := newAPI(t, withEncryption(testMasters)).stopWith()
	a.call("PUT", "/v2/queues/q", metadata, 201)
	w := a.dial("/v2", false)
	w.ask("subscription_create", `{"queue_name": "q"}`, 201)
	a.post("q", ours, `[{"body": "late", "delay": 60}, {"body": "never", "delay": 900, "ttl": 60}, {"body": "early"}, {"body": "now", "delay": 0}]`)
	comes := func(bodies ...string) {
		t.Helper()
		for _, body := range bodies {
			if got := w.receive(); !strings.HasPrefix(got.body, `{"body":"`+body+`"`) {
				t.Fatalf("%s instead of %s", got.body, body)
			}
		}
	}
	comes("now")
	a.advance(29 * time.Second)
	a.post("q", ours, `[{"body": "now", "delay": 0}]`)
	comes("now")
	a.advance(time.Second + time.Millisecond) // each batch has a moment of its own
	a.post("q", ours, `[{"body": "now", "delay": 0}]`)
	comes("early", "now")
	a.advance(30 * time.Second)
	a.post("q", ours, `[{"body": "now", "delay": 0}]`)
	comes("late", "now")
}

// TestWebSocketHoldsFewDelayed: what has to wait is not kept without bounds, and comes in
// order all the same.
func TestWebSocketHoldsFewDelayed(t *testing.T) {
	t.Parallel()
	a := newAPI(t).stopWith()
	a.call("PUT", "/v2/queues/q", `{"_default_message_delay": 30}`, 201)
	w := a.dial("/v2", false)
	w.ask("subscription_create", `{"queue_name": "q"}`, 201)
	const many = 3*maxDelayed/500 + 1
	n := 0
	for range many {
		bodies := make([]string, 500)
		for i := range bodies {
			bodies[i] = `{"body": ` + strconv.Itoa(n) + `}`
			n++
		}
		a.post("q", ours, "["+strings.Join(bodies, ",")+"]")
	}
	a.advance(31 * time.Second)
	a.news.Stir() // the timers do not know this clock
	for i := range n {
		if got := w.receive(); !strings.HasPrefix(got.body, fmt.Sprintf(`{"body":%d,`, i)) {
			t.Fatalf("%s instead of %d", got.body, i)
		}
	}
}

func TestWebSocketSubscriptionsEnd(t *testing.T) {
	t.Parallel()
	a := newAPI(t).stopWith()
	s := newSocket(a.server, httptest.NewRequestWithContext(t.Context(), "GET", "/v2", nil))
	for i := range maxPushes {
		p := &push{id: uuid.New(), queue: domain.QueueID{Project: "p1", Name: fmt.Sprint("q", i)}, ttl: 3600}
		if err := s.pushes.may(p); err != nil {
			t.Fatal(err)
		}
		s.pushes.add(p, false)
	}
	if err := s.pushes.may(&push{queue: domain.QueueID{Project: "p1", Name: "one more"}}); err == nil {
		t.Error("a connection may have any number of subscriptions")
	}
	over := &push{id: uuid.New(), queue: domain.QueueID{Project: "p2", Name: "q"}} // its ttl is over
	s.pushes.add(over, false)
	s.pushes.begin(s, over)
	s.pushes.wait()
	if _, subscribed := s.pushes.of(over.queue); subscribed {
		t.Error("a subscription outlives its ttl")
	}
	s.pushes.leave("p2")
	if !s.pushes.none() {
		t.Error("a subscription outlives who has made it")
	}

	w := a.dial("/v2", false)
	w.ask("subscription_create", `{"queue_name": "q"}`, 201)
	w.send(`{"action": "authenticate", "headers": {"X-Project-ID": "p2", "X-Auth-Token": "any"}}`)
	w.receive()
	a.post("q", ours, `[{"body": "not for p2"}]`)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go func() { _ = a.server.Shutdown(ctx) }()
	w.closed(websocket.StatusGoingAway)
}

// TestWebSocketSubscriptionsOfAll: connections together do not have any number of
// subscriptions, and take nobody's room who waits.
func TestWebSocketSubscriptionsOfAll(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) { cfg.WebSockets.Max = 2 }).alone().stopWith()
	v, w := a.dial("/v2", false), a.dial("/v2", true)
	var first struct {
		ID string `json:"subscription_id"`
	}
	v.ask("subscription_create", `{"queue_name": "q0"}`, 201).into(&first)
	for i := 1; i < 2*pushesEach; i++ {
		w.ask("subscription_create", fmt.Sprintf(`{"queue_name": "q%d"}`, i), 201)
	}
	a.history()
	v.refused("subscription_create", `{"queue_name": "one more"}`, 400, "")
	v.refused("subscription_create", `{"queue_name": "one-more"}`, 503, "too many subscriptions")
	a.recorded()
	v.ask("subscription_delete", `{"queue_name": "q0", "subscription_id": "`+first.ID+`"}`, 204)
	v.ask("subscription_create", `{"queue_name": "one-more"}`, 201)
	v.refused("subscription_create", `{"queue_name": "q0"}`, 503, "too many subscriptions")
	a.readers(0)
	_ = w.conn.CloseNow()
	eventually.Within(t, unnoticed, "one WebSocket that is pushed to", func() bool { return a.server.sockets.pushes.Load() == 1 })
	v.ask("subscription_create", `{"queue_name": "q0"}`, 201)
}

// TestWebSocketSigned: a signature lets a bearer do what it is for, on the messages of
// its queue, without any other identity.
func TestWebSocketSigned(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	b := a.replica(func(cfg *Config) { cfg.Auth = tokens{} }).stopWith()
	u := a.share("q", `{"paths": ["messages"], "methods": ["GET", "POST"]}`)
	claims := a.share("q", `{"paths": ["claims"], "methods": ["GET", "POST"]}`)
	for _, binary := range []bool{false, true} {
		w := b.dial("/v2", binary)
		asks := func(u shared, project, action, body string, status int) {
			t.Helper()
			headers, err := json.Marshal(map[string]any{
				"Client-ID": theirs, "X-Project-ID": project, "URL-Signature": u.Signature, "URL-Expires": u.Expires,
				"URL-Methods": u.Methods, "URL-Paths": u.Paths, "X-Roles": "admin",
			})
			if err != nil {
				t.Fatal(err)
			}
			w.send(fmt.Sprintf(`{"action": %q, "headers": %s, "body": %s}`, action, headers, body))
			got := w.receive()
			var answered struct {
				Body    struct{ Error string }
				Headers struct{ Status int }
			}
			got.into(&answered)
			if answered.Headers.Status != status || strings.Contains(got.body, u.Signature) || status == 403 && answered.Body.Error == "" {
				t.Fatalf("%s %s: %s, want %d", action, body, got.body, status)
			}
		}
		const post = `{"queue_name": "q", "messages": [{"body": 1}]}`
		asks(u, "p1", "message_post", post, 201)
		asks(u, "p1", "message_list", `{"queue_name": "q"}`, 200)
		asks(u, "p1", "message_get", `{"queue_name": "q", "message_id": "no"}`, 404)
		asks(u, "p1", "message_get_many", `{"queue_name": "q", "message_ids": ["no"]}`, 200)
		asks(u, "p1", "message_delete", `{"queue_name": "q", "message_id": "no"}`, 403)
		asks(u, "p1", "message_delete_many", `{"queue_name": "q", "pop": 1}`, 403)
		asks(u, "p1", "queue_get", `{"queue_name": "q"}`, 403)
		asks(u, "p1", "claim_create", `{"queue_name": "q"}`, 403)
		asks(u, "p1", "subscription_create", `{"queue_name": "q"}`, 403)
		asks(u, "p2", "message_post", post, 403)
		asks(u, "p1", "message_post", strings.Replace(post, `"q"`, `"qq"`, 1), 403)
		asks(u, "p1", "message_post", strings.Replace(post, `"q"`, `"q/messages/q"`, 1), 400)
		asks(claims, "p1", "message_post", post, 403)
		forged := u
		forged.Methods = []string{"DELETE", "GET", "POST"}
		asks(forged, "p1", "message_delete", `{"queue_name": "q", "message_id": "no"}`, 403)
		w.refused("message_list", `{"queue_name": "q"}`, 403, "must authenticate")
	}
}
