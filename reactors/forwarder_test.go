package reactors_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/compute"
	"nabu/internal/eventually"
	"nabu/reactors"
)

// nova is a compute service that answers what it is told to.
type nova struct {
	mu      sync.Mutex
	fails   []int    // statuses of the next answers
	got     []string // tags of the events that it was told of, in order
	headers []http.Header
	posts   int
}

func (n *nova) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.posts++
	n.headers = append(n.headers, r.Header)
	if len(n.fails) > 0 {
		status := n.fails[0]
		n.fails = n.fails[1:]
		w.WriteHeader(status)
		return
	}
	var request struct{ Events []map[string]any }
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil || r.URL.Path != "/v2.1/os-server-external-events" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	for _, e := range request.Events {
		n.got = append(n.got, fmt.Sprint(e["tag"]))
		e["code"] = 200
		if e["tag"] == "unknown" {
			e["code"] = 404
		}
	}
	text, _ := json.Marshal(request)
	w.WriteHeader(http.StatusMultiStatus)
	_, _ = w.Write(text)
}

func (n *nova) told() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string{}, n.got...)
}

// forwards starts a forwarder on the feed of a house.
func (h *house) forwards(service http.Handler, change func(*reactors.ForwarderConfig)) (stop func()) {
	h.Helper()
	server := httptest.NewServer(service)
	h.Cleanup(server.Close)
	endpoint, err := url.Parse(server.URL + "/v2.1")
	if err != nil {
		h.Fatal(err)
	}
	token := filepath.Join(h.TempDir(), "token")
	if err := os.WriteFile(token, []byte("gAAAA\n"), 0o600); err != nil {
		h.Fatal(err)
	}
	cfg := reactors.ForwarderConfig{
		Executor: h.executor, Views: h.views, Ledger: h.db, TTL: time.Hour, MaxPause: time.Millisecond, Log: slog.New(slog.DiscardHandler),
		Service: &compute.Client{Endpoint: endpoint, TokenFile: token},
		Now:     func() time.Time { h.mu.Lock(); defer h.mu.Unlock(); return h.now },
	}
	if change != nil {
		change(&cfg)
	}
	f := reactors.NewForwarder(cfg)
	feed := eventstore.NewFeed(eventstore.FeedConfig{
		DB: h.direct(), Log: slog.New(slog.DiscardHandler), Poll: time.Millisecond, MaxPause: time.Millisecond, Tries: 1,
		Types: map[string][]string{reactors.ForwarderConsumer: reactors.ForwarderTypes},
		Lead:  map[string]func(context.Context){reactors.ForwarderConsumer: f.Lead},
	})
	messages, err := feed.Subscribe(context.Background(), reactors.ForwarderConsumer)
	if err != nil {
		h.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { react(messages, f) })
	stop = sync.OnceFunc(func() {
		if err := feed.Close(); err != nil {
			h.Error(err)
		}
		running.Wait()
	})
	h.Cleanup(stop)
	return stop
}

func react(messages <-chan *message.Message, f *reactors.Forwarder) {
	for msg := range messages {
		if err := f.React(msg); err != nil {
			eventstore.Refuse(msg, err)
			msg.Nack()
			continue
		}
		msg.Ack()
	}
}

// tell dispatches one request with an event for each tag.
func (h *house) tell(id string, server domain.ServerID, tags ...string) {
	h.Helper()
	var events []domain.ExternalEvent
	for _, tag := range tags {
		events = append(events, domain.ExternalEvent{
			ID: uuid.Must(uuid.NewV7()), Name: "volume-extended", Server: server, Status: "failed", Tag: &tag,
		})
	}
	h.dispatch(id, events)
}

// dispatch has the events of one request forwarded.
func (h *house) dispatch(id string, events []domain.ExternalEvent) {
	h.Helper()
	rules := domain.DefaultEventRules()
	rules.Forward = true
	ctx := commands.WithRequest(h.Context(), commands.Request{Origin: domain.Origin{Project: "p", RequestID: id}})
	cmd := commands.DispatchEvents{Dispatch: domain.Dispatch{RequestID: id, Events: events}, Rules: rules}
	if _, err := commands.Run(ctx, h.executor, cmd); err != nil {
		h.Fatal(err)
	}
}

// outcomes are what was recorded of forwarding.
func (h *house) outcomes() (outcomes []string) {
	h.Helper()
	for e, err := range eventstore.ReadAll(context.Background(), h.db, 0, 1<<62) {
		if err != nil {
			h.Fatal(err)
		}
		if its, ok := e.Event.(domain.ExternalEventsForwarded); ok {
			line := fmt.Sprint(its.Status, " ", its.Error)
			for _, e := range its.Events {
				line += fmt.Sprint(" ", e.Code)
			}
			outcomes = append(outcomes, line)
		}
	}
	return outcomes
}

func (h *house) assignServer() domain.ServerID {
	id := uuid.New()
	run(h, commands.AssignServers{Observations: []domain.Observation{{ID: id, Whereabouts: domain.Whereabouts{Host: "c1"}, Source: "api"}}})
	return id
}

func (h *house) untilOutcomes(n int) []string {
	h.Helper()
	eventually.Holds(h, fmt.Sprintf("%d outcomes", n), func() bool { return len(h.outcomes()) >= n })
	return h.outcomes()
}

// TestEventsAreForwardedInOrder: each request by itself, through failures that pass, with
// the codes that the service gives.
func TestEventsAreForwardedInOrder(t *testing.T) {
	h := newHouse(t)
	n := &nova{fails: []int{503, 401, 429}}
	server, other := h.assignServer(), h.assignServer()
	h.tell("req-1", server, "a", "b")
	h.tell("req-2", other, "unknown", "c")
	h.tell("req-3", server, "d")
	h.forwards(n, nil)
	if diff := cmp.Diff([]string{"207  200", "207  200 200", "207  404 200"}, slices.Sorted(slices.Values(h.untilOutcomes(3)))); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	told := strings.Join(n.told(), " ")
	if !strings.Contains(told, "unknown c") || !strings.Contains(strings.Replace(told, "unknown c ", "", 1), "a b d") {
		t.Errorf("told %s", told)
	}
	h.tell("req-4", server, "e")
	h.untilOutcomes(4)
	if told := n.told(); told[len(told)-1] != "e" || n.posts != 3+4 {
		t.Errorf("told %v in %d requests", told, n.posts)
	}
	last := n.headers[len(n.headers)-1]
	for name, want := range map[string]string{
		"X-Auth-Token": "gAAAA", "OpenStack-API-Version": "compute 2.51", "X-OpenStack-Nova-API-Version": "2.51", "X-OpenStack-Request-ID": "req-4",
	} {
		if got := last.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// TestWhatTheServiceHasTakenIsNotToldAgain when a later request of the slice fails.
func TestWhatTheServiceHasTakenIsNotToldAgain(t *testing.T) {
	h := newHouse(t)
	n := &nova{}
	refused := 0
	server := h.assignServer()
	h.tell("req-1", server, "a")
	h.tell("req-2", server, "b")
	h.forwards(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-OpenStack-Request-ID") == "req-2" && refused < 3 {
			refused++
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		n.ServeHTTP(w, r)
	}), nil)
	h.untilOutcomes(2)
	if diff := cmp.Diff([]string{"a", "b"}, n.told()); diff != "" || refused != 3 {
		t.Errorf("%d refused, told (-want +got):\n%s", refused, diff)
	}
}

// TestEventsThatNobodyWaitsForAreGivenUp: those before and those that are at hand, and what
// the service refuses for good.
func TestEventsThatNobodyWaitsForAreGivenUp(t *testing.T) {
	h := newHouse(t)
	server := h.assignServer()
	h.tell("req-1", server, "old")
	h.advance(2 * time.Hour)
	h.tell("req-2", server, "bad")
	h.tell("req-3", server, "late")
	h.forwards(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), "bad") {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		h.advance(10 * time.Minute) // until it is too late
		w.WriteHeader(http.StatusServiceUnavailable)
	}), nil)
	want := []string{"0 nobody could use the events any more 0", "400 the compute service answered 400 0", "0 the compute service is away: it answered 503 0"}
	if diff := cmp.Diff(want, h.untilOutcomes(3)); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

// TestEventsOfQueuesAreNotForwarded: they were accepted before there was a service.
func TestEventsOfQueuesAreNotForwarded(t *testing.T) {
	h := newHouse(t)
	n := &nova{}
	server := h.assignServer()
	run(h, commands.DispatchEvents{Dispatch: domain.Dispatch{Events: []domain.ExternalEvent{
		{ID: uuid.New(), Name: "network-changed", Server: server, Status: "completed"},
	}}, Rules: domain.DefaultEventRules()})
	h.tell("req-1", server, "a")
	h.forwards(n, nil)
	h.untilOutcomes(1)
	if diff := cmp.Diff([]string{"a"}, n.told()); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// TestAServiceThatIsNotThere is asked again.
func TestAServiceThatIsNotThere(t *testing.T) {
	h := newHouse(t)
	server := h.assignServer()
	h.tell("req-1", server, "a")
	tries := 0
	service := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		if tries > 3 { // before that, something else is at its address
			_, _ = io.WriteString(w, `{"itemNotFound": {"code": 404, "message": "No instances found for any event"}}`)
		}
	})
	h.forwards(service, func(f *reactors.ForwarderConfig) {
		real := f.Service
		f.Service = tellerFunc(func(ctx context.Context, told compute.Told) (compute.Answer, error) {
			if tries++; tries < 3 {
				gone := &compute.Client{Endpoint: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}}
				return gone.Tell(ctx, told)
			}
			return real.Tell(ctx, told)
		})
	})
	if diff := cmp.Diff([]string{"404  0"}, h.untilOutcomes(1)); diff != "" || tries != 4 {
		t.Errorf("after %d tries (-want +got):\n%s", tries, diff)
	}
}

type tellerFunc func(context.Context, compute.Told) (compute.Answer, error)

func (f tellerFunc) Tell(ctx context.Context, told compute.Told) (compute.Answer, error) {
	return f(ctx, told)
}
