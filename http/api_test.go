package http

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgtest"
	"nabu/internal/signedurl"
	"nabu/projections"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// ours is the Client-ID of tests that do not say another, theirs is another.
const (
	ours   = "9b2f5a5e-03d1-4c55-8f0e-2f6a7c0e11d4"
	theirs = "0c5b1e2f-3a41-4f3e-9d0a-4b1e7c106a52"
)

// clock is the time of a test.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// logged is what was logged.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// api is a server over a database of its own, and a conversation with it.
type api struct {
	testing.TB
	*clock
	*pgtest.Database
	url      string
	executor *commands.Executor
	news     *commands.News
	registry *prometheus.Registry
	server   *Server
	log      *logged
	decided  *atomic.Int64 // commands, by all replicas
	seen     int64         // position up to which the test has looked at the ledger
}

// newAPI starts a server. change, if given, changes its configuration before.
func newAPI(t testing.TB, change ...func(*Config)) *api {
	t.Helper()
	a := &api{
		TB: t, clock: &clock{now: time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)}, Database: pgtest.Open(t),
		registry: prometheus.NewRegistry(), log: &logged{}, news: commands.NewNews(), decided: &atomic.Int64{},
	}
	log := slog.New(slog.NewTextHandler(a.log, nil))
	cfg := Config{
		Views: &projections.Views{DB: a.DB(), Now: a.Now}, Database: a.DB(),
		Limits: domain.DefaultLimits(), Log: log, Registry: a.registry, SigningKey: signedurl.Key("sample-key"),
		Images: Images{Tasks: domain.DefaultTaskRules(), Imports: publicHosts{}},
	}
	for _, c := range change {
		c(&cfg)
	}
	a.executor = commands.NewExecutor(commands.Config{
		DB: a.DB(), Prepare: !pgtest.Pooled(), Loader: projections.States{}, Projector: projections.Inlines{}, Limits: cfg.Limits, Keys: keysOf(cfg),
		Log: log, Now: a.Now, Observe: func(r commands.BatchReport) { a.decided.Add(int64(r.Commands)) },
		News: a.news, Tasks: cfg.Images.Tasks,
	})
	t.Cleanup(func() {
		if err := a.executor.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	cfg.Executor, cfg.News = a.executor, a.news
	a.server = New(cfg)
	a.listen()
	return a
}

// answer is what came back.
type answer struct {
	testing.TB
	status int
	header http.Header
	body   string
}

// call sends a request and fails the test if its answer has another status. Headers
// come in pairs after the usual ones; an empty value takes one away.
func (a *api) call(method, path, body string, status int, headers ...string) answer {
	a.Helper()
	got := a.send(method, path, strings.NewReader(body), headers...)
	if got.status != status {
		a.Fatalf("%s %s: %d, want %d: %s", method, path, got.status, status, got.body)
	}
	return got
}

// client keeps no connections, so none is left behind.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func (a *api) send(method, path string, body io.Reader, headers ...string) answer {
	a.Helper()
	r, err := http.NewRequestWithContext(a.Context(), method, a.url+path, body)
	if err != nil {
		a.Fatal(err)
	}
	r.Header.Set("Client-ID", ours)
	r.Header.Set("X-Project-ID", "p1")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
		}
	}
	response, err := client.Do(r)
	if err != nil {
		a.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		a.Fatal(err)
	}
	got := answer{a.TB, response.StatusCode, response.Header, string(text)}
	if id := got.header.Get("X-OpenStack-Request-Id"); !isPlainUUID(strings.TrimPrefix(id, "req-")) {
		a.Errorf("%s %s: request id %q", method, path, id)
	}
	return got
}

// is compares the answer's body as JSON.
func (got answer) is(want string) answer {
	got.Helper()
	if diff := cmp.Diff(decoded(got.TB, want), decoded(got.TB, got.body)); diff != "" {
		got.Fatalf("answer (-want +got):\n%s", diff)
	}
	return got
}

// is compares a header; empty: it is not there.
func (got answer) has(header, want string) answer {
	got.Helper()
	if value := got.header.Get(header); value != want {
		got.Fatalf("%s is %q, want %q", header, value, want)
	}
	return got
}

// refused compares the title of an error.
func (got answer) refused(title string) answer {
	got.Helper()
	var body struct{ Title, Description string }
	got.into(&body)
	if body.Title != title || body.Description == "" {
		got.Fatalf("refused with %q, want %q: %s", body.Title, title, got.body)
	}
	return got.has("Content-Type", "application/json").has("Vary", "Accept")
}

func (got answer) into(value any) {
	got.Helper()
	if err := json.Unmarshal([]byte(got.body), value); err != nil {
		got.Fatalf("answer %q: %v", got.body, err)
	}
}

func decoded(t testing.TB, text string) any {
	t.Helper()
	var value any
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&value); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return value
}

// history is the events since the test last looked.
func (a *api) history() []eventstore.RecordedEvent {
	a.Helper()
	var events []eventstore.RecordedEvent
	for e, err := range eventstore.ReadAll(a.Context(), a.DB(), a.seen, math.MaxInt64) {
		if err != nil {
			a.Fatal(err)
		}
		events, a.seen = append(events, e), e.Position
	}
	return events
}

// recorded states the facts since the test last looked: these and no others.
func (a *api) recorded(want ...domain.Event) {
	a.Helper()
	var got []domain.Event
	for _, e := range a.history() {
		got = append(got, e.Event)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		a.Fatalf("recorded (-want +got):\n%s", diff)
	}
}

// post posts messages as some client and returns their ids.
func (a *api) post(queue, client, messages string) []string {
	a.Helper()
	var posted struct{ Resources []string }
	a.call("POST", "/v2/queues/"+queue+"/messages", `{"messages": `+messages+`}`, 201, "Client-ID", client).into(&posted)
	ids := []string{}
	for _, resource := range posted.Resources {
		ids = append(ids, resource[strings.LastIndexByte(resource, '/')+1:])
	}
	return ids
}

func metadata(t testing.TB, text string) domain.Metadata {
	t.Helper()
	m, err := domain.ParseMetadata([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func messageID(t testing.TB, text string) domain.MessageID {
	t.Helper()
	id, ok := domain.ParseMessageID(text)
	if !ok {
		t.Fatalf("%q is no message's id", text)
	}
	return id
}
