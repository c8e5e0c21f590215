package http

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nabu/domain"
	"nabu/internal/eventually"
	"nabu/projections"
)

func TestHeaders(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	long := strings.Repeat("ü", 257)
	tests := []struct {
		name    string
		headers []string
		status  int
		title   string
	}{
		{"no Client-ID", []string{"Client-ID", ""}, 400, "Missing header value"},
		{"a Client-ID that is no UUID", []string{"Client-ID", "me"}, 400, "Wrong UUID value"},
		{"a long text as Client-ID", []string{"Client-ID", "somebody-with-a-name"}, 400, "Wrong UUID value"},
		{"no dashes", []string{"Client-ID", "9b2f5a5e03d14c558f0e2f6a7c0e11d4"}, 200, ""},
		{"upper case", []string{"Client-ID", strings.ToUpper(ours)}, 200, ""},
		{"no project", []string{"X-Project-Id", ""}, 400, "Project-Id Missing"},
		{"an empty project", []string{"X-Project-Id", " "}, 400, "Empty project header not allowed"},
		{"a long project", []string{"X-Project-Id", long}, 400, "Invalid queue identification"},
		{"a project that just fits", []string{"X-Project-Id", long[2:]}, 200, ""},
		{"a project that is no text", []string{"X-Project-Id", "\xff"}, 400, "Invalid queue identification"},
		{"a user that is no text", []string{"X-User-Id", "\xff"}, 400, "Invalid header value"},
		{"any Accept", []string{"Accept", "*/*"}, 200, ""},
		{"an Accept with JSON in it", []string{"Accept", "text/html, application/*;q=0.2"}, 200, ""},
		{"an Accept that prefers other things", []string{"Accept", "text/html;q=0.9, application/json;charset=utf-8;q=0.1"}, 200, ""},
		{"a form without a body", []string{"Content-Type", "application/x-www-form-urlencoded"}, 200, ""},
		{"text", []string{"Content-Type", "text/plain"}, 200, ""},
		{"an Extra-Spec", []string{"Extra-Spec", "nosuch:x"}, 200, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := a.call("GET", "/v2/queues/q", ``, test.status, test.headers...)
			if test.title != "" {
				got.refused(test.title)
			}
		})
	}
	for _, accept := range []string{"text/html", "application/json;q=0", "application/json;q=0.0, */*", "application/xml, text/*"} {
		if got := a.call("GET", "/v2/queues/q", ``, 406, "Accept", accept); got.body != "" {
			t.Errorf("a body where none is acceptable: %s", got.body)
		}
	}
	a.call("PUT", "/v2/queues/q", `a=b`, 400, "Content-Type", "application/X-www-form-urlencoded; charset=UTF-8").refused("Invalid Content-Type")
	a.recorded()
}

// A request that does everything wrong is told of one thing after the other.
func TestOrderOfChecks(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	wrong := []string{"Content-Type", "application/x-www-form-urlencoded", "Accept", "text/html", "Client-ID", "", "X-Project-Id", "", "X-Roles", "nobody"}
	right := []string{"Content-Type", "text/plain", "Accept", "*/*", "Client-ID", ours, "X-Project-Id", "p1", "X-Roles", "Admin"}
	expect := func(method, path string, corrected, status int, title string) {
		t.Helper()
		headers := append(slices.Clone(right[:corrected*2]), wrong[corrected*2:]...)
		got := a.call(method, path, `x`, status, headers...)
		if title != "" && !strings.Contains(got.body, `"title":"`+title+`"`) {
			t.Errorf("%s %s with %d headers right: %s", method, path, corrected, got.body)
		}
	}
	expect("POST", "/v2/queues/a@b", 0, 400, "Invalid Content-Type")
	expect("POST", "/v2/queues/a@b", 1, 406, "")
	expect("POST", "/v2/queues/a@b", 2, 400, "Missing header value")
	expect("POST", "/v2/queues/a@b", 3, 400, "Project-Id Missing")
	expect("POST", "/v2/queues/a@b", 4, 400, "Invalid queue identification")
	expect("POST", "/v2/queues/ab", 4, 405, "405 Method Not Allowed")
	expect("PUT", "/v2/queues/ab", 4, 400, "Invalid request body")
	expect("GET", "/v2/health", 4, 403, "Not authorized")
	expect("GET", "/v2/health", 5, 200, "")
	expect("POST", "/v2/nothing", 0, 404, "404 Not Found")
}

// Pools, flavors and topics are left out: there is nothing, whatever is asked.
func TestWhatIsLeftOut(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	for _, path := range []string{
		"/v2/pools", "/v2/pools/p", "/v2/flavors", "/v2/flavors/f", "/v2/topics", "/v2/topics/t", "/v2/topics/t/stats",
		"/v2/topics/t/purge", "/v2/topics/t/messages", "/v2/topics/t/messages/m", "/v2/topics/t/subscriptions",
	} {
		for _, prefix := range []string{"", messagingPrefix} {
			for _, method := range []string{"GET", "PUT", "POST", "PATCH", "DELETE"} {
				a.call(method, prefix+path, `{}`, 404).is(`{"title": "404 Not Found"}`)
			}
		}
	}
	a.recorded()
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	tests := []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/v2", 200, ""},
		{"GET", "/v2/", 200, ""},
		{"GET", "/v2//", 404, ""},
		{"GET", "//v2/", 404, ""},
		{"GET", "/v2/ping", 204, ""},
		{"HEAD", "/v2/ping", 204, ""},
		{"GET", "/v2/ping/", 404, ""},
		{"GET", "/v2/queues/", 400, ""},
		{"POST", "/v2/queues/", 400, ""},
		{"GET", "/v2/queues//messages", 400, ""},
		{"GET", "/v2/queues/q/", 404, ""},
		{"GET", "/v2/queues/q/nothing", 404, ""},
		{"GET", "/v2/queues/%71", 200, ""},
		{"GET", "/v2/%71ueues/%71", 200, ""},
		{"GET", "/v2/queues%2Fq", 404, ""},
		{"GET", "/v2/queues/q/messages/m/", 404, ""},
		{"POST", "/v2/queues/q/messages/m/x", 404, ""},
		{"GET", "/v1/queues", 404, ""},
		{"GET", "/v2/pools", 404, ""},
		{"GET", "/v2/topics", 404, ""},
		{"POST", "/", 405, "GET, OPTIONS"},
		{"POST", "/v2/queues", 405, "GET, OPTIONS"},
		{"HEAD", "/v2/queues", 405, "GET, OPTIONS"},
		{"PROPFIND", "/v2/queues", 405, "GET, OPTIONS"},
		{"POST", "/v2/queues/q", 405, "DELETE, GET, HEAD, PATCH, PUT, OPTIONS"},
		{"PUT", "/v2/queues/q/messages", 405, "DELETE, GET, POST, OPTIONS"},
		{"POST", "/v2/queues/q/messages/m", 405, "DELETE, GET, OPTIONS"},
		{"DELETE", "/v2/ping", 405, "GET, HEAD, OPTIONS"},
		{"OPTIONS", "/v2/queues", 200, "GET, OPTIONS"},
		{"OPTIONS", "/v2/queues/q/messages", 200, "DELETE, GET, POST, OPTIONS"},
		{"OPTIONS", "/v2/nothing", 404, ""},
	}
	for _, test := range tests {
		for _, prefix := range []string{"", "/messaging"} {
			if prefix != "" && strings.HasPrefix(test.path, "//") {
				continue
			}
			got := a.call(test.method, prefix+test.path, ``, test.status).has("Allow", test.allow)
			switch {
			case test.method == "HEAD" || test.status == 200 && test.method != "GET":
				if got.body != "" {
					t.Errorf("%s %s has a body: %s", test.method, test.path, got.body)
				}
			case test.status == 404:
				got.is(`{"title": "404 Not Found"}`).has("Vary", "Accept")
			case test.status == 405:
				got.is(`{"title": "405 Method Not Allowed"}`)
			}
		}
	}
	for _, path := range []string{"/messaging/messaging/v2/ping", "/messagingv2/ping", "/messaging/healthz", "/metrics"} {
		a.call("GET", path, ``, 404)
	}
	a.recorded()
}

// Under the prefix everything is as at the root, and no link carries it.
func TestPrefix(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.call("PUT", "/messaging/v2/queues/q", ``, 201).has("Location", "/v2/queues/q")
	got := a.call("POST", "/messaging/v2/queues/q/messages", `{"messages": [{"body": 1}]}`, 201)
	if !strings.HasPrefix(got.header.Get("Location"), "/v2/queues/q/messages?ids=") || strings.Contains(got.body, "messaging") {
		t.Fatal(got)
	}
	for _, path := range []string{"/messaging/v2/queues?detailed=true", "/messaging/v2/queues/q/messages?echo=true", "/messaging", "/messaging/"} {
		if got := a.send("GET", path, nil); strings.Contains(got.body, `/messaging`) || got.status >= 400 {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
}

func TestAnyClientID(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) { cfg.AnyClientID = true })
	for id, status := range map[string]int{
		"uid=jim,ou=people": 200, "ten-letter": 200, "too-short": 400, strings.Repeat("x", 36): 200, strings.Repeat("x", 37): 400, strings.Repeat("é", 36): 200, strings.Repeat("é", 9): 400, "\xff\xfe\xfd\xfc\xff\xfe\xfd\xfc\xff\xfe": 400,
	} {
		a.call("GET", "/v2/queues", ``, status, "Client-ID", id)
	}
	a.post("q", "uid=jim,ou=people", `[{"body": 1}]`)
	a.post("q", ours, `[{"body": 2}]`)
	got := a.call("GET", "/v2/queues/q/messages", ``, 200, "Client-ID", "{"+strings.ToUpper(strings.ReplaceAll(ours, "-", ""))+"}")
	if ids := messageIDs(got); len(ids) != 1 || !strings.Contains(got.body, `"body":1`) {
		t.Fatal(got.body)
	}
}

func TestOriginOfEvents(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	const global = "req-1a7f3c55-9e02-4d6b-a1c4-52d0f6b7e813"
	got := a.call("PUT", "/v2/queues/q", ``, 201, "X-User-Id", "u1", "X-OpenStack-Request-ID", global)
	id := got.header.Get("X-OpenStack-Request-Id")
	if id == global {
		t.Fatal("the caller's request id took the place of nabu's own")
	}
	want := domain.Origin{Project: "p1", Actor: "u1", RequestID: id, GlobalRequestID: global, CorrelationID: global}
	if diff := cmp.Diff(want, a.history()[0].Origin); diff != "" {
		t.Fatal(diff)
	}
	got = a.call("DELETE", "/v2/queues/q", ``, 204, "X-OpenStack-Request-ID", "req-nonsense")
	id = got.header.Get("X-OpenStack-Request-Id")
	if diff := cmp.Diff(domain.Origin{Project: "p1", RequestID: id, CorrelationID: id}, a.history()[0].Origin); diff != "" {
		t.Fatal(diff)
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	const path, body, key = "/v2/queues/q/messages", `{"messages": [{"body": 1}]}`, "Idempotency-Key"
	const replayed = "Idempotency-Replayed"
	first := a.call("POST", path, body, 201, key, "k1").has(replayed, "")
	if len(a.history()) != 2 {
		t.Fatal("nothing was posted")
	}
	again := a.call("POST", "/messaging"+path, body, 201, key, "k1", "Client-ID", theirs)
	if again.body != first.body {
		t.Fatalf("another answer: %s, before %s", again.body, first.body)
	}
	again.has("Location", first.header.Get("Location")).has(replayed, "true")
	a.call("POST", path, body+" ", 422, key, "k1").has(replayed, "").refused("Idempotency key reused")
	a.call("POST", path+"?x", body, 422, key, "k1")
	a.call("POST", "/v2/queues/r/messages", body, 422, key, "k1")
	a.recorded()
	a.call("POST", path, body, 201, key, "k1", "X-Project-Id", "p2")
	a.call("POST", path, body, 201, key, "k2").has(replayed, "")
	a.call("POST", path, body, 201)
	a.call("POST", path, body, 201)
	a.call("POST", path, body, 201, key, strings.Repeat("~", 255))
	a.history()
	for _, bad := range []string{" ", "a b", "ü", strings.Repeat("x", 256)} {
		got := a.call("POST", path, body, 400, key, bad).refused("Invalid header value")
		if !strings.Contains(got.body, key) {
			t.Errorf("the header is not named: %s", got.body)
		}
	}
	a.recorded()
	a.call("PUT", "/v2/queues/other", ``, 201, key, " ") // only a POST has use for it, and a pop
}

// A pop is not the same when it is done twice, so it has a key as a POST has.
func TestIdempotencyKeyOfAPop(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	const path, key = "/v2/queues/q/messages", "Idempotency-Key"
	a.post("q", theirs, `[{"body": 1}, {"body": 2}, {"body": 3}, {"body": 4}]`)
	first := a.call("DELETE", path+"?pop=2", ``, 200, key, "k1")
	a.history()
	a.advance(10 * time.Second)
	for name, test := range map[string]struct {
		method, path, body, key string
		status                  int
	}{
		"again":                   {"DELETE", path + "?pop=2", ``, "k1", 200},
		"again, under /messaging": {"DELETE", "/messaging" + path + "?pop=2", ``, "k1", 200},
		"more":                    {"DELETE", path + "?pop=3", ``, "k1", 422},
		"of another queue":        {"DELETE", "/v2/queues/r/messages?pop=2", ``, "k1", 422},
		"a post":                  {"POST", path, `{"messages": [{"body": 5}]}`, "k1", 422},
		"no key":                  {"DELETE", path + "?pop=2", ``, "a b", 400},
	} {
		got := a.call(test.method, test.path, test.body, test.status, key, test.key)
		if test.status == 200 && got.has("Idempotency-Replayed", "true").body != first.body {
			t.Errorf("%s: %s, before %s", name, got.body, first.body)
		}
	}
	a.recorded()
	var rest struct{ Messages []struct{ Body int } }
	a.call("DELETE", path+"?pop=2", ``, 200, key, "k2").into(&rest)
	if len(rest.Messages) != 2 || rest.Messages[0].Body != 3 {
		t.Errorf("another key got %v", rest)
	}
	a.call("DELETE", path+"?pop=2", ``, 200, key, "k3").is(`{"messages": []}`)
	a.post("q", theirs, `[{"body": 5}]`)
	a.call("DELETE", path+"?pop=2", ``, 200, key, "k3").is(`{"messages": []}`).has("Idempotency-Replayed", "true") // as it was answered
}

// brokenViews fail in a way of their own.
type brokenViews struct {
	*projections.Views
	fail func() error
}

func (v brokenViews) Queue(_ context.Context, _ domain.QueueID) (domain.Metadata, bool, error) {
	return nil, false, v.fail()
}

func TestFailures(t *testing.T) {
	t.Parallel()
	var fail func() error
	a := newAPI(t, func(cfg *Config) {
		cfg.Views = brokenViews{cfg.Views.(*projections.Views), func() error { return fail() }}
	}).alone()

	fail = func() error { return errors.New("the secret text") }
	got := a.call("GET", "/v2/queues/q", ``, 500).refused("Internal server error")
	id := got.header.Get("X-OpenStack-Request-Id")
	if strings.Contains(got.body, "secret") || !strings.Contains(got.body, id) {
		t.Errorf("answer: %s", got.body)
	}
	if log := a.log.String(); strings.Count(log, "secret") != 1 || !strings.Contains(log, id) {
		t.Errorf("log: %s", log)
	}

	fail = func() error { panic("the secret panic") }
	got = a.call("GET", "/v2/queues/q", ``, 500).refused("Internal server error")
	if log := a.log.String(); strings.Contains(got.body, "secret") || !strings.Contains(log, "secret panic") || !strings.Contains(log, "zaqar_test.go") {
		t.Errorf("answer: %s, log: %s", got.body, log)
	}

	fail = func() error { return sql.ErrConnDone }
	a.call("GET", "/v2/queues/q", ``, 503).refused("Service temporarily unavailable").has("Retry-After", "1")

	for code, want := range map[domain.Code]zaqarStatus{
		domain.Conflict:    {409, "Resource conflict"},
		domain.NotHeld:     {400, "Unable to delete"},
		domain.KeyReused:   {422, "Idempotency key reused"},
		domain.KeyInUse:    {409, "Idempotency key in use"},
		domain.Unavailable: {503, "Service temporarily unavailable"},
		domain.Internal:    {500, "Internal server error"},
	} {
		fail = func() error { return fmt.Errorf("while asking: %w", domain.Errorf(code, "the text for %s", code)) }
		got := a.call("GET", "/v2/queues/q", ``, want.status).refused(want.title)
		if strings.Contains(got.body, "the text") == (code == domain.Internal) {
			t.Errorf("%s: %s", code, got.body)
		}
	}
}

// A client that has left is no failure of nabu's.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	ctx, leave := context.WithCancel(t.Context())
	leave()
	for _, target := range []struct{ method, path string }{{"GET", "/v2/queues"}, {"DELETE", "/v2/queues/q"}} {
		r := httptest.NewRequestWithContext(ctx, target.method, target.path, nil)
		r.Header.Set("Client-ID", ours)
		r.Header.Set("X-Project-ID", "p1")
		w := httptest.NewRecorder()
		a.server.Handler().ServeHTTP(w, r)
		if w.Code != statusClientLeft || a.log.String() != "" {
			t.Errorf("%v: %d, log: %s", target, w.Code, a.log)
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	a := newAPI(t).alone()
	a.call("PUT", "/v2/queues/a", ``, 201)
	a.call("PUT", "/messaging/v2/queues/b", ``, 201)
	a.call("PUT", "/v2/queues/", ``, 400)
	a.call("GET", "/v2/nothing", ``, 404)
	a.call("BREW", "/v2/queues", ``, 405)
	families, err := a.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "nabu_http_requests_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := []string{}
			for _, label := range m.GetLabel() { // sorted by name
				labels = append(labels, label.GetValue())
			}
			got[strings.Join(labels, " ")] = m.GetCounter().GetValue()
		}
	}
	want := map[string]float64{
		"PUT /v2/queues/:queue 201": 2, "PUT /v2/queues/:queue 400": 1, "other other 404": 1, "other other 405": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

// TestTheRequestLogNamesTheCaller, in each API, and without a project that cannot be one.
func TestTheRequestLogNamesTheCaller(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) { cfg.LogRequests = true })
	for _, path := range []string{"/v2/queues", "/v2/tasks", "/v3/p1/messages", "/v2.1/os-server-hosts"} {
		id := a.send("GET", path, nil, "X-User-Id", "ann").header.Get("X-OpenStack-Request-Id")
		eventually.Holds(t, "the caller is in the log", func() bool { return strings.Contains(a.log.String(), "request_id="+id+" project=p1 user=ann ") })
	}
	long := strings.Repeat("x", 300)
	a.call("GET", "/v2/queues", ``, 400, "X-Project-Id", long)
	a.call("GET", "/v2.1/nothing/here", ``, 404)
	eventually.Holds(t, "both refused requests are in the log without a caller", func() bool { return strings.Count(a.log.String(), ` project="" user=""`) == 2 })
	if strings.Contains(a.log.String(), long) {
		t.Errorf("log: %s", a.log)
	}
	w := a.dial("/v2", false)
	w.ask("queue_list", `{}`, 200)
	eventually.Holds(t, "the WebSocket's caller is in the log", func() bool { return strings.Contains(a.log.String(), " project=p1 user=\"\" action=queue_list ") })
}

func TestRequestLog(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) { cfg.LogRequests = true })
	got := a.call("GET", "/v2/queues/q", ``, 200, "X-Auth-Token", "secret")
	a.call("GET", "/healthz", ``, 200)
	if log := a.log.String(); strings.Contains(log, "healthz") || !strings.Contains(log, " seconds=0.") {
		t.Errorf("log: %s", log)
	}
	if log := a.log.String(); !strings.Contains(log, got.header.Get("X-OpenStack-Request-Id")) || !strings.Contains(log, "status=200") || strings.Contains(log, "secret") {
		t.Fatalf("log: %s", log)
	}
}
