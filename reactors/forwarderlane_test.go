package reactors_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/compute"
	"nabu/internal/eventually"
	"nabu/projections"
	"nabu/reactors"
)

// tellMany dispatches one request with an event of each server.
func (h *house) tellMany(id, tag string, servers ...domain.ServerID) {
	h.Helper()
	var events []domain.ExternalEvent
	for _, server := range servers {
		events = append(events, domain.ExternalEvent{
			ID: uuid.Must(uuid.NewV7()), Name: "network-changed", Server: server, Status: "completed", Tag: &tag,
		})
	}
	h.dispatch(id, events)
}

// fussy is a compute service that has something against some requests.
type fussy struct {
	nova
	// against is what it answers to the tags of a request; 0: it takes it.
	against func(servers, tags []string) int
}

func (f *fussy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var request struct {
		Events []struct {
			Server string `json:"server_uuid"`
			Tag    string
		}
	}
	if err := json.Unmarshal(body, &request); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	var servers, tags []string
	for _, e := range request.Events {
		servers, tags = append(servers, e.Server), append(tags, e.Tag)
	}
	if status := f.against(servers, tags); status != 0 {
		w.WriteHeader(status)
		return
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	f.nova.ServeHTTP(w, r)
}

// noneOwed waits until nothing is to be forwarded, and checks the read model of that.
func (h *house) noneOwed() {
	h.Helper()
	eventually.Holds(h, "nothing is to be forwarded", func() bool {
		n, _, err := h.views.WaitingForwards(context.Background())
		return err == nil && n == 0
	})
	err := projections.Checking{DB: h.direct(), Projections: []projections.Projection{projections.Forwards}, Found: func(d projections.Difference) error {
		h.Errorf("differs: %+v", d)
		return nil
	}}.Run(h.Context())
	if err != nil {
		h.Error(err)
	}
}

// TestAServerThatFailsHoldsBackNoOther: neither those of later requests nor those of its own,
// and its own events come in order at last, however many they are.
func TestAServerThatFailsHoldsBackNoOther(t *testing.T) {
	h := newHouse(t)
	bad, good := h.assignServer(), h.assignServer()
	var mu sync.Mutex
	mended := false
	f := &fussy{against: func(servers, _ []string) int {
		mu.Lock()
		defer mu.Unlock()
		for _, server := range servers {
			if server == bad.String() && !mended {
				return 500
			}
		}
		return 0
	}}
	const many = 230 // more than wait in memory
	var want []string
	for i := range many {
		tag := fmt.Sprint(i)
		want = append(want, tag)
		h.tellMany("req-"+tag, tag, bad)
	}
	h.tellMany("req-both", "both", bad, good)
	h.forwards(f, nil)
	h.tellMany("req-good", "good", good)
	eventually.Holds(t, "the other server's events are told", func() bool { return len(f.told()) == 2 })
	mu.Lock()
	mended = true
	mu.Unlock()
	h.tellMany("req-last", "last", bad)
	h.noneOwed()
	want = append([]string{"both", "good"}, append(want, "both", "last")...)
	if diff := cmp.Diff(want, f.told()); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// TestOneEventThatIsRefusedIsTheOnlyOne of its request that the service does not get.
func TestOneEventThatIsRefusedIsTheOnlyOne(t *testing.T) {
	h := newHouse(t)
	server := h.assignServer()
	f := &fussy{against: func(_, tags []string) int {
		for _, tag := range tags {
			if tag == "bad" {
				return 400
			}
		}
		return 0
	}}
	h.tell("req-1", server, "a", "b", "bad", "c", "d")
	h.forwards(f, nil)
	if diff := cmp.Diff([]string{"400 the compute service answered 400 200 200 0 200 200"}, h.untilOutcomes(1)); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a", "b", "c", "d"}, f.told()); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// TestWhatIsToldIsNoLongerThanWhatWasSaid: the service takes as much as from a client, and no
// more. What it finds too large all the same it gets in parts.
func TestWhatIsToldIsNoLongerThanWhatWasSaid(t *testing.T) {
	h := newHouse(t)
	server := h.assignServer()
	var mu sync.Mutex
	var longest, parts int
	service := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if longest = max(longest, len(body)); len(body) > 300 {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		parts++
		_, _ = fmt.Fprintf(w, `{"events": [%s]}`, strings.TrimSuffix(strings.Repeat(`{"code": 200},`, strings.Count(string(body), "server_uuid")), ","))
	})
	h.tellMany("req-1", "<&>", server, server, server, server, server, server)
	h.forwards(service, nil)
	h.noneOwed()
	said := len(`{"events":[]}`+"\n") + 6*len(`{"name":"network-changed","server_uuid":"`+server.String()+`","tag":"<&>"},`) - 1
	if longest != said || parts < 2 {
		t.Errorf("%d bytes at most in %d parts, want %d", longest, parts, said)
	}
	if diff := cmp.Diff([]string{"200  200 200 200 200 200 200"}, h.outcomes()); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

// TestNothingIsLostWhenTheForwarderIsCutOff in the middle of a request: the next one tells
// of it, and of what waited behind it.
func TestNothingIsLostWhenTheForwarderIsCutOff(t *testing.T) {
	h := newHouse(t)
	slow, other := h.assignServer(), h.assignServer()
	hangs := tellerFunc(func(ctx context.Context, told compute.Told) (a compute.Answer, err error) {
		if told.Events[0].Server == slow.String() {
			<-ctx.Done()
			return a, ctx.Err()
		}
		return compute.Answer{Status: 200, Codes: make([]int, len(told.Events))}, nil
	})
	stop := h.forwards(http.NotFoundHandler(), func(cfg *reactors.ForwarderConfig) { cfg.Service = hangs })
	h.tell("req-1", slow, "a")
	h.tell("req-2", slow, "b")
	h.tell("req-3", other, "c")
	h.untilOutcomes(1) // the other goes on
	stop()
	n := &nova{}
	h.forwards(n, nil)
	h.noneOwed()
	if diff := cmp.Diff([]string{"a", "b"}, n.told()); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// TestAServiceOfMoods: whatever it answers, each server's events come in order, and all.
func TestAServiceOfMoods(t *testing.T) {
	h := newHouse(t)
	var servers []domain.ServerID
	want := map[string][]string{}
	for range 12 {
		servers = append(servers, h.assignServer())
	}
	var mu sync.Mutex
	got := map[string][]string{}
	moods := tellerFunc(func(_ context.Context, told compute.Told) (a compute.Answer, err error) {
		mu.Lock()
		defer mu.Unlock()
		switch rand.IntN(6) {
		case 0:
			return compute.Answer{Status: 500}, nil
		case 1:
			return compute.Answer{Status: 401}, nil
		case 2:
			return a, io.ErrUnexpectedEOF
		}
		for _, e := range told.Events {
			got[e.Server] = append(got[e.Server], *e.Tag)
		}
		return compute.Answer{Status: 200, Codes: make([]int, len(told.Events))}, nil
	})
	h.forwards(http.NotFoundHandler(), func(cfg *reactors.ForwarderConfig) { cfg.Service, cfg.AtOnce = moods, 3 })
	for i := range 60 {
		tag := fmt.Sprint(i)
		from := rand.IntN(len(servers))
		some := servers[from : from+1+rand.IntN(len(servers)-from)]
		for _, server := range some {
			want[server.String()] = append(want[server.String()], tag)
		}
		h.tellMany("req-"+tag, tag, some...)
	}
	h.noneOwed()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// TestWhatWasForwardedHasItsCause: each outcome bears the request and the event that
// accepted it.
func TestWhatWasForwardedHasItsCause(t *testing.T) {
	h := newHouse(t)
	one, two := h.assignServer(), h.assignServer()
	h.tellMany("req-1", "a", one, two)
	h.advance(2 * 3600e9) // too late for all of them at once
	h.tellMany("req-2", "b", one)
	h.forwards(&nova{}, nil)
	h.noneOwed()
	accepted := map[uuid.UUID]eventstore.RecordedEvent{}
	n := 0
	for e, err := range eventstore.ReadAll(t.Context(), h.db, 0, 1<<62) {
		if err != nil {
			t.Fatal(err)
		}
		switch its := e.Event.(type) {
		case domain.ExternalEventsAccepted:
			accepted[e.ID] = e
		case domain.ExternalEventsForwarded:
			n++
			cause := accepted[e.Origin.CausationID]
			if cause.Event == nil || cause.Event.Stream() != its.Stream() || cause.Origin.RequestID != e.Origin.RequestID {
				t.Errorf("%+v of %+v is because of %+v", its, e.Origin, cause)
			}
		}
	}
	if n != 3 {
		t.Errorf("%d outcomes", n)
	}
}
