package http

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"nabu/commands"
	"nabu/domain"
	"nabu/internal/postgres"
)

func TestVersions(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	for path, link := range map[string]string{"/": "/v2/", "/messaging": "v2/", "/messaging/": "v2/"} {
		a.call("GET", path, ``, 300, "Client-ID", "", "X-Project-Id", "").has("Content-Type", "application/json").is(`{"versions": [{
			"id": "2", "status": "CURRENT", "updated": "2014-9-24T04:06:47Z",
			"media-types": [{"base": "application/json", "type": "application/vnd.openstack.messaging-v2+json"}],
			"links": [{"href": "` + link + `", "rel": "self"}]}]}`)
	}
}

// What the home document says of methods is what the routes answer.
func TestHome(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	got := a.call("GET", "/v2/", ``, 200).has("Content-Type", "application/json-home").has("Cache-Control", "max-age=86400")
	a.call("GET", "/v2", ``, 200).is(got.body)
	a.call("GET", "/v2/", ``, 400, "Client-ID", "").refused("Missing header value")
	var document struct {
		Resources map[string]struct {
			Template string            `json:"href-template"`
			Vars     map[string]string `json:"href-vars"`
			Hints    struct{ Allow []string }
		}
	}
	got.into(&document)
	for _, rel := range []string{"queues", "queue", "messages", "post_messages", "messages_delete", "message_delete", "message_get", "ping",
		"subscriptions_get", "subscriptions_post", "subscription", "subscription_patch"} {
		if _, there := document.Resources["rel/"+rel]; !there {
			t.Errorf("no relation %s", rel)
		}
	}
	for rel, r := range document.Resources {
		path, _, _ := strings.Cut(r.Template, "{?")
		path = strings.NewReplacer("{queue_name}", "q", "{message_id}", "m", "{claim_id}", "c", "{subscription_id}", "s").Replace(path)
		allow := strings.Split(a.call("OPTIONS", path, ``, 200).header.Get("Allow"), ", ")
		for _, method := range r.Hints.Allow {
			if !slices.Contains(allow, method) {
				t.Errorf("%s: %s %s is not routed", rel, method, path)
			}
		}
		for name := range r.Vars {
			if !strings.Contains(r.Template, name) {
				t.Errorf("%s: %s is not in %s", rel, name, r.Template)
			}
		}
	}
}

// switched is a database that can be away.
type switched struct{ away atomic.Bool }

func (s *switched) PingContext(context.Context) error {
	if s.away.Load() {
		return errors.New("away")
	}
	return nil
}

func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	db := &switched{}
	a := newAPI(t, func(cfg *Config) { cfg.Database = db })
	bare := []string{"Client-ID", "", "X-Project-Id", ""}
	a.call("GET", "/v2/ping", ``, 204)
	a.call("GET", "/readyz", ``, 200, bare...).is(`{"ready": true, "reason": ""}`)
	a.call("GET", "/healthcheck", ``, 200, bare...).has("Content-Type", "text/plain; charset=UTF-8")

	db.away.Store(true)
	a.call("GET", "/v2/ping", ``, 503).refused("Service temporarily unavailable").has("Retry-After", "1")
	a.call("HEAD", "/v2/ping", ``, 204)
	a.call("GET", "/healthz", ``, 200, bare...).is(`{"alive": true}`)
	a.call("GET", "/readyz", ``, 503, bare...).is(`{"ready": false, "reason": "the database cannot be reached"}`)
	a.call("GET", "/healthcheck", ``, 503, bare...)
	a.call("HEAD", "/readyz", ``, 503, bare...)
	a.call("POST", "/healthz", ``, 405, bare...).is(`{"title": "405 Method Not Allowed"}`)
}

// loginRefused is a database that refuses the login.
type loginRefused struct{}

func (loginRefused) PingContext(context.Context) error { return &pq.Error{Code: "28P01"} }

// TestReadinessNamesWhatIsWrongWithTheDatabase, to those who operate nabu; clients are told less.
func TestReadinessNamesWhatIsWrongWithTheDatabase(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) { cfg.Database = loginRefused{} })
	bare := []string{"Client-ID", "", "X-Project-Id", ""}
	if its := a.call("GET", "/readyz", ``, 503, bare...); !strings.Contains(its.body, "refuses nabu's login") {
		t.Errorf("not ready because %s", its.body)
	}
	a.call("GET", "/v2/ping", ``, 503).refused("Service temporarily unavailable")
	for _, code := range []pqerror.Code{"53100", "28P01", "42P01"} {
		if read := failure(&pq.Error{Code: code}, ""); read.status != 503 || read.description != postgres.Unreachable {
			t.Errorf("after %s a client is told %v", code, read)
		}
	}
}

// TestOneTextForADatabaseThatIsAway, whether a request has read or written.
func TestOneTextForADatabaseThatIsAway(t *testing.T) {
	t.Parallel()
	read := failure(&net.OpError{Op: "dial", Err: errors.New("refused")}, "")
	written, _ := asProblem(commands.ErrUnreachable)
	if *read != *written || read.status != 503 {
		t.Errorf("who reads is told %v, who writes %v", read, written)
	}
}

type operationAnswer struct {
	Reachable  bool                       `json:"storage_reachable"`
	Operations map[string]operationStatus `json:"operation_status"`
}

func TestHealth(t *testing.T) {
	t.Parallel()
	db := &switched{}
	a := newAPI(t, func(cfg *Config) { cfg.Database = db }).alone()
	a.call("GET", "/v2/health", ``, 403, "X-Roles", "member, reader").refused("Not authorized")

	var health operationAnswer
	a.call("GET", "/v2/health", ``, 200).into(&health)
	if !health.Reachable || len(health.Operations) != 8 || health.Operations["claim_messages"] != (operationStatus{Succeeded: true}) {
		t.Fatalf("at first: %+v", health)
	}
	a.call("PUT", "/v2/queues/q", ``, 201)
	a.server.operations["delete_queue"].record(http.StatusServiceUnavailable, 1, "req-"+ours)
	db.away.Store(true)
	a.call("GET", "/v2/health", ``, 200, "X-Roles", "reader,ADMIN").into(&health)
	created, deleted := health.Operations["create_queue"], health.Operations["delete_queue"]
	if health.Reachable || !created.Succeeded || created.Seconds <= 0 || health.Operations["claim_messages"].Succeeded {
		t.Fatalf("with the database away: %+v", health)
	}
	if deleted.Succeeded || deleted.Ref == nil || *deleted.Ref != ours {
		t.Fatalf("a failed operation: %+v", deleted)
	}
}

func TestMetricsRoute(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) {
		cfg.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("metrics")) })
	})
	if got := a.call("GET", "/metrics", ``, 200, "Client-ID", ""); got.body != "metrics" {
		t.Fatal(got.body)
	}
}

// A server that is told to stop says that it is not ready, and finishes what it has
// begun.
func TestShutdown(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- a.server.Serve(listener) }()
	// A request of which only a part has come in.
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const body = `{"messages": [{"body": 1}]}`
	if _, err := conn.Write([]byte("POST /v2/queues/q/messages HTTP/1.1\r\nHost: x\r\nClient-ID: " + ours +
		"\r\nX-Project-ID: p1\r\nExpect: 100-continue\r\nContent-Length: 27\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 1024)
	if n, err := conn.Read(answer); err != nil || !strings.Contains(string(answer[:n]), "100 Continue") {
		t.Fatalf("%s, %v", answer[:n], err)
	}
	stopped := make(chan error)
	go func() { stopped <- a.server.Shutdown(context.Background()) }()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	a.call("GET", "/readyz", ``, 503).is(`{"ready": false, "reason": "the server is stopping"}`)
	if _, err := conn.Write([]byte(body)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(answer); err != nil || !strings.Contains(string(answer[:n]), "201 Created") {
		t.Fatalf("%s, %v", answer[:n], err)
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
}

// The baseline answers as the server does.
func TestBaseline(t *testing.T) {
	t.Parallel()
	baseline := httptest.NewServer(Baseline(domain.DefaultLimits()))
	t.Cleanup(baseline.Close)
	ask := func(body string) answer {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "POST", baseline.URL+"/v2/queues/q/messages", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer{t, response.StatusCode, response.Header, string(text)}
	}
	got := ask(`{"messages": [{"body": 1}, {"body": 2}]}`)
	var posted struct{ Resources []string }
	got.into(&posted)
	if got.status != 201 || len(posted.Resources) != 2 || !strings.HasPrefix(posted.Resources[0], "/v2/queues/q/messages/") {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if got := ask(`{}`); got.status != 400 {
		t.Fatalf("%d %s", got.status, got.body)
	}
}
