package http

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"nabu/domain"
)

// FuzzRequest sends whole requests. None is answered as nabu's own failure, what is
// refused changes nothing, and what is done is done whole.
func FuzzRequest(f *testing.F) {
	const messages = "/v2/queues/q/messages"
	for _, seed := range []struct{ method, target, headers, body string }{
		{"PUT", "/v2/queues/q", "", `{"a": 1, "_default_message_delay": 5}`},
		{"PUT", "/v2/queues/q", "", "{\"\x00\": \"\\u0000\", \"\\u0000\": 5, \"\\ud800\": \"\\ud800\"}"},
		{"PATCH", "/v2/queues/q", "Content-Type: " + patchType, `[{"op": "add", "path": "/metadata/a", "value": {"b": []}}]`},
		{"PATCH", "/v2/queues/q", "Content-Type: " + patchType, `[{"op": "remove", "path": "/metadata/a\u0000"}]`},
		{"DELETE", "/v2/queues/q", "", ``},
		{"GET", "/v2/queues?limit=2&a=%00&name=%ff&marker=%zz&detailed=True&with_count=1", "", ``},
		{"GET", "/v2/queues?99999999999999999999=99999999999999999999&%5C=%22", "", ``},
		{"POST", messages, "Idempotency-Key: k", `{"messages": [{"body": "\ud800\u0000", "ttl": 60, "delay": 1}, {"body": 1e999}]}`},
		{"POST", messages, "X-User-Id: \xff\nX-Project-Id: p\xff", `{"messages": [{"body": [[[[]]]]}]}`},
		{"POST", messages, "Client-ID: urn:uuid:" + ours, "{\"messages\": [{\"body\": \"\x1e\"}]}"},
		{"GET", messages + "?marker=9223372036854775807&limit=20&echo=1", "", ``},
		{"GET", messages + "?ids=a,b,&ids=00000000-0004-8000-916a-741ef947a175", "", ``},
		{"DELETE", messages + "?ids=00000000-0004-8000-916a-741ef947a175", "", ``},
		{"DELETE", messages + "/00000000-0004-8000-916a-741ef947a175?claim_id=%27", "", ``},
		{"GET", "/messaging/v2/queues/a%2Fb/messages/%2e%2e", "X-OpenStack-Request-ID: req-" + ours, ``},
		{"OPTIONS", "/v2/health", "X-Roles: ,", ``},
		{"POST", "/healthz", "", ``},
	} {
		f.Add(seed.method, seed.target, seed.headers, seed.body)
	}
	a := newAPI(f)
	f.Fuzz(func(t *testing.T, method, target, headers, body string) {
		a.TB = t
		r, ok := fuzzedRequest(method, target, headers, body)
		if !ok {
			return
		}
		w := httptest.NewRecorder()
		a.server.Handler().ServeHTTP(w, r)
		if w.Code >= 500 && w.Code != http.StatusNotImplemented {
			t.Fatalf("%s %q: %d %s\n%s", method, target, w.Code, w.Body, a.log)
		}
		if text := w.Body.String(); w.Header().Get("Content-Type") == "application/json" && text != "" {
			decoded(t, text)
		}
		a.wholeOrNothing(r, w)
	})
}

// fuzzedRequest is the request, if a client can send it at all.
func fuzzedRequest(method, target, headers, body string) (*http.Request, bool) {
	text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\n", method, target)
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text + "\r\n")))
	if err != nil {
		return nil, false
	}
	r.Header.Set("Client-ID", ours)
	r.Header.Set("X-Project-ID", "p1")
	for line := range strings.SplitSeq(headers, "\n") {
		name, value, _ := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); name == "" || strings.ContainsAny(value, "\r\x00") {
			continue
		}
		r.Header.Set(name, strings.TrimSpace(value))
	}
	sent := httptest.NewRequestWithContext(context.Background(), "POST", "/", strings.NewReader(body))
	r.Body, r.ContentLength = sent.Body, sent.ContentLength
	return r, true
}

// wholeOrNothing compares what was recorded with what the answer says.
func (a *api) wholeOrNothing(r *http.Request, w *httptest.ResponseRecorder) {
	a.Helper()
	events := a.history()
	if len(events) == 0 {
		if r.Method == "POST" && w.Code == 201 && r.Header.Get("Idempotency-Key") == "" {
			a.Fatal("acknowledged and not recorded")
		}
		return
	}
	if w.Code >= 400 {
		a.Fatalf("refused with %d and recorded %v", w.Code, events)
	}
	posted, isPost := events[len(events)-1].Event.(domain.MessagesPosted)
	if (r.Method == "POST") != isPost || !isPost && len(events) != 1 {
		a.Fatalf("%s %s recorded %v", r.Method, r.URL, events)
	}
	if named := strings.Count(w.Body.String(), "/v2/queues/"); isPost && named != len(posted.Messages) {
		a.Fatalf("%d messages recorded, %d named: %s", len(posted.Messages), named, w.Body)
	}
}
