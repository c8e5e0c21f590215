package commands_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/projections"
)

var eventRules = domain.DefaultEventRules()

func queueOf(host string) domain.QueueID { return eventRules.QueueOf(host) }

func observed(id domain.ServerID, w domain.Whereabouts) commands.AssignServers {
	return commands.AssignServers{Observations: []domain.Observation{{ID: id, Whereabouts: w, Source: "api"}}}
}

func dispatch(events ...domain.ExternalEvent) commands.DispatchEvents {
	return commands.DispatchEvents{Dispatch: domain.Dispatch{Events: events, RequestID: "req-1"}, Rules: eventRules}
}

func changed(server domain.ServerID) domain.ExternalEvent {
	return domain.ExternalEvent{ID: uuid.Must(uuid.NewV7()), Name: "network-changed", Server: server, Status: "completed"}
}

// runner is a command that puts its answer somewhere.
func runner[R any](h *house, e *commands.Executor, cmd commands.Command[R], into *R) func() error {
	return func() (err error) {
		*into, err = commands.Run(as(h.Context(), ""), e, cmd)
		return err
	}
}

func TestEventsReachTheQueuesOfTheirHosts(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	here, nowhere := uuid.New(), uuid.New()
	run(t, e, observed(here, domain.Whereabouts{Host: "c1", SourceHost: "c1", DestHost: "c2"}))
	before := h.head()
	codes := run(t, e, dispatch(changed(here), changed(nowhere), changed(here)))
	if diff := cmp.Diff([]domain.EventCode{200, 404, 200}, codes); diff != "" {
		t.Errorf("codes (-want +got):\n%s", diff)
	}
	h.expectKinds(before, "external-events.accepted", "external-events.rejected",
		"queue.created", "messages.posted", "queue.created", "messages.posted")
	accepted := h.historyAfter(before)[0].Event.(domain.ExternalEventsAccepted)
	for place, host := range []string{"c1", "c2"} {
		claimed := run(t, e, claimTasks(queueOf(host), 5))
		if len(claimed) != 2 || claimed[0].ID != accepted.Events[0].Copies[place] || claimed[1].ID != accepted.Events[1].Copies[place] {
			t.Errorf("%s got %+v, accepted was %+v", host, claimed, accepted.Events)
		}
	}
	history := h.historyAfter(before)[:6]
	for i, recorded := range history {
		cause := uuid.Nil
		if i > 1 { // the queues and the posts
			cause = history[0].ID
		}
		if recorded.Origin.CausationID != cause {
			t.Errorf("%s is because of %s, not %s", recorded.Event.EventType(), recorded.Origin.CausationID, cause)
		}
	}
	if report := h.lastReport(); report.Way == commands.NoWay {
		t.Errorf("the last batch was %+v", report)
	}
	// The server's stream goes on where it was, also that of one nobody has ever seen.
	run(t, e, observed(nowhere, domain.Whereabouts{Host: "c3"}))
	run(t, e, commands.ForgetServer{ID: nowhere, Source: "api"})
	if codes := run(t, e, dispatch(changed(nowhere))); codes[0] != 404 {
		t.Errorf("an event of a forgotten server: %d", codes[0])
	}
	if _, err := commands.Run(as(t.Context(), ""), e, commands.ForgetServer{ID: nowhere}); refusal(err) != domain.NotFound {
		t.Errorf("forget it again: %v", err)
	}
	h.sound()
}

// TestAHostThatIsNewInTheBatch: its queue is loaded for the events behind it, however it
// stands.
func TestAHostThatIsNewInTheBatch(t *testing.T) {
	h := newHouse(t)
	run(t, h.executor(nil), post(queueOf("c2"), `0`)) // another replica knows that queue
	e := h.executor(nil)
	server := uuid.New()
	run(t, e, observed(server, domain.Whereabouts{Host: "c1"}))
	var assigned []domain.Server
	var codes []domain.EventCode
	errs := h.gathered(e,
		runner(h, e, observed(server, domain.Whereabouts{Host: "c2"}), &assigned),
		runner(h, e, dispatch(changed(server)), &codes))
	if errs[0] != nil || errs[1] != nil || len(codes) != 1 || codes[0] != 200 || assigned[0].Host != "c2" {
		t.Fatalf("%v %v %v", errs, codes, assigned)
	}
	if taken := run(t, e, claimTasks(queueOf("c2"), 5)); len(taken) != 2 {
		t.Errorf("the host got %+v", taken)
	}
	h.sound()
}

// TestEventsPayNothingForOtherServers: what a batch says of where other servers are loads no
// queue for the events in it.
func TestEventsPayNothingForOtherServers(t *testing.T) {
	h := newHouse(t)
	asked := &askedForQueues{}
	e := h.executor(nil, func(cfg *commands.Config) { cfg.Loader = asked })
	server := uuid.New()
	run(t, e, observed(server, domain.Whereabouts{Host: "c1"}))
	seed := commands.AssignServers{}
	for i := range 100 {
		seed.Observations = append(seed.Observations, domain.Observation{
			ID: uuid.New(), Whereabouts: domain.Whereabouts{Host: fmt.Sprintf("other%d", i)}, Source: "api",
		})
	}
	var assigned []domain.Server
	var codes []domain.EventCode
	errs := h.gathered(e, runner(h, e, seed, &assigned), runner(h, e, dispatch(changed(server)), &codes))
	if errs[0] != nil || errs[1] != nil || len(codes) != 1 || codes[0] != 200 || len(assigned) != 100 {
		t.Fatalf("%v %v, %d assigned", errs, codes, len(assigned))
	}
	if !asked.queues["nova-events.c1"] || asked.queues["nova-events.other7"] {
		t.Errorf("loaded the queues %v", asked.queues)
	}
	h.sound()
}

// askedForQueues keeps which queues are loaded.
type askedForQueues struct {
	projections.States
	queues map[string]bool // by the executor's goroutine; read while that has nothing to do
}

func (l *askedForQueues) Queues(
	ctx context.Context, tx eventstore.Tx, ids []domain.QueueID,
) (map[domain.QueueID]eventstore.Versioned[domain.Queue], error) {
	if l.queues == nil {
		l.queues = map[string]bool{}
	}
	for _, id := range ids {
		l.queues[id.Name] = true
	}
	return l.States.Queues(ctx, tx, ids)
}

// TestEventsInQueuesThatEncrypt are sealed like any message.
func TestEventsInQueuesThatEncrypt(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	run(t, e, commands.CreateQueue{Queue: queueOf("c1"), Metadata: encrypting})
	server := uuid.New()
	run(t, e, observed(server, domain.Whereabouts{Host: "c1", DestHost: "c2"}))
	before := h.head()
	run(t, e, dispatch(changed(server)))
	for _, recorded := range h.historyAfter(before) {
		if posted, ok := recorded.Event.(domain.MessagesPosted); ok && (posted.Key != domain.KeyID{}) != (posted.Queue == "nova-events.c1") {
			t.Errorf("posted to %s with the key %s", posted.Queue, posted.Key)
		}
	}
	claimed := run(t, e, claimTasks(queueOf("c1"), 5))
	var body struct{ Host string }
	if err := json.Unmarshal([]byte(h.opened(e, queueOf("c1"), claimed)), &body); err != nil || body.Host != "c1" {
		t.Errorf("the host reads %+v: %v", body, err)
	}
}

// TestTheSameEventsWithTheSameKey are dispatched once.
func TestTheSameEventsWithTheSameKey(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	cmd := dispatch(changed(uuid.New()))
	for range 2 {
		if codes, err := commands.Run(as(t.Context(), "k1"), e, cmd); err != nil || len(codes) != 1 || codes[0] != 404 {
			t.Fatalf("%v %v", codes, err)
		}
	}
	h.expectKinds(0, "external-events.rejected")
}

// TestARejectedEventBecomesAUserMessage in the same batch.
func TestARejectedEventBecomesAUserMessage(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	cmd := dispatch(changed(uuid.New()))
	volume := uuid.NewString()
	cmd.Events[0].Name, cmd.Events[0].Tag, cmd.Project, cmd.Rules.ToMessages = "volume-extended", &volume, "p1", true
	run(t, e, cmd)
	h.expectKinds(0, "external-events.rejected", "user-message.recorded")
	h.ordered()
}

// TestALargeRequestIsOneBatch: as many events as fit a request of Nova's, each of another
// server on three hosts of its own.
func TestALargeRequestIsOneBatch(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	const many = 1500
	var seen commands.AssignServers
	var events []domain.ExternalEvent
	for i := range many {
		id := uuid.New()
		w := domain.Whereabouts{Host: fmt.Sprintf("a%d", i), SourceHost: fmt.Sprintf("b%d", i), DestHost: fmt.Sprintf("c%d", i)}
		seen.Observations = append(seen.Observations, domain.Observation{ID: id, Whereabouts: w, Source: "api"})
		events = append(events, changed(id))
	}
	run(t, e, seen)
	before := h.head()
	for _, code := range run(t, e, dispatch(events...)) {
		if code != 200 {
			t.Fatalf("answered %d", code)
		}
	}
	if report := h.lastReport(); report.Commands != 1 || report.Events != many*7 || h.head() != before+many*7 {
		t.Errorf("the batch was %+v", report)
	}
	h.ordered()
}

// TestEventsAgainstAModel: whatever is seen, forgotten and told in whatever batches, each
// event gets its code, and each host its copies, in order and with its role.
func TestEventsAgainstAModel(t *testing.T) {
	h := newHouse(t)
	watch := &handClock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	e := h.executor(nil, func(cfg *commands.Config) { cfg.Now = watch.Now })
	rapid.Check(t, func(rt *rapid.T) {
		w := &eventWalk{house: h, e: e, rt: rt, watch: watch, from: h.head(), servers: map[domain.ServerID]*modelServer{}, want: map[string][]string{}}
		for range 5 {
			id := uuid.New()
			w.ids, w.servers[id] = append(w.ids, id), &modelServer{}
		}
		for range rapid.IntRange(3, 15).Draw(rt, "batches") {
			w.batch()
		}
		w.check()
	})
	h.ordered()
	err := projections.Checking{DB: h.db, Projections: projections.Inline, Found: func(d projections.Difference) error {
		t.Errorf("differs: %+v", d)
		return nil
	}}.Run(t.Context())
	if err != nil {
		t.Error(err)
	}
}

type handClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// modelServer is a server as somebody keeps it on paper.
type modelServer struct {
	current, from, to string
	known             bool
	seen              time.Time
}

type eventWalk struct {
	*house
	e       *commands.Executor
	rt      *rapid.T
	watch   *handClock
	from    int64
	ids     []domain.ServerID
	servers map[domain.ServerID]*modelServer
	want    map[string][]string // what the hosts' queues get
}

// batch runs a few commands that are decided together: first what forgets, then the others
// in their order.
func (w *eventWalk) batch() {
	w.watch.mu.Lock()
	w.watch.now = w.watch.now.Add(10 * time.Second)
	now := w.watch.now
	w.watch.mu.Unlock()
	var at time.Time // of the batch
	var cmds, frees, adds []func() error
	var checks []func()
	for range rapid.IntRange(1, 4).Draw(w.rt, "commands") {
		id := rapid.SampledFrom(w.ids).Draw(w.rt, "server")
		switch rapid.SampledFrom([]string{"observe", "observe", "dispatch", "dispatch", "forget"}).Draw(w.rt, "command") {
		case "observe":
			o := w.observation(id, now)
			var got []domain.Server
			cmds = append(cmds, runner(w.house, w.e, commands.AssignServers{Observations: []domain.Observation{o}}, &got))
			adds = append(adds, func() error { w.servers[id].observe(o, at); return nil })
		case "dispatch":
			d := dispatch(w.events()...)
			got := new([]domain.EventCode)
			var want []domain.EventCode
			cmds = append(cmds, runner(w.house, w.e, d, got))
			adds = append(adds, func() error { want = w.tell(d.Events); return nil })
			checks = append(checks, func() {
				if diff := cmp.Diff(want, *got); diff != "" {
					w.rt.Fatalf("codes (-want +got):\n%s", diff)
				}
			})
		case "forget":
			var none struct{}
			cmds = append(cmds, runner(w.house, w.e, commands.ForgetServer{ID: id, Source: "api"}, &none))
			frees = append(frees, func() error { w.servers[id].forget(at); return nil })
		}
	}
	for _, err := range w.gathered(w.e, cmds...) {
		if err != nil && refusal(err) != domain.NotFound {
			w.rt.Fatal(err)
		}
	}
	at = w.historyAfter(w.head() - 1)[0].RecordedAt
	for _, step := range append(frees, adds...) {
		_ = step()
	}
	for _, check := range checks {
		check()
	}
}

func (w *eventWalk) observation(id domain.ServerID, now time.Time) domain.Observation {
	host := rapid.SampledFrom([]string{"", "c1", "c2", "c3", "an odd host"})
	o := domain.Observation{ID: id, Source: "api", Whereabouts: domain.Whereabouts{
		Host: host.Draw(w.rt, "host"), SourceHost: host.Draw(w.rt, "source"), DestHost: host.Draw(w.rt, "destination"),
	}}
	if ago := rapid.IntRange(-1, 25).Draw(w.rt, "ago"); ago >= 0 {
		o.At = now.Add(-time.Duration(ago) * time.Second)
	}
	return o
}

func (w *eventWalk) events() (events []domain.ExternalEvent) {
	for range rapid.IntRange(1, 12).Draw(w.rt, "events") {
		e := changed(rapid.SampledFrom(w.ids).Draw(w.rt, "of"))
		e.Name = rapid.SampledFrom(domain.ExternalEventNames).Draw(w.rt, "name").Name
		if tag := rapid.SampledFrom([]string{"-", "", "t"}).Draw(w.rt, "tag"); tag != "-" {
			e.Tag = &tag
		}
		events = append(events, e)
	}
	return events
}

func (m *modelServer) observe(o domain.Observation, now time.Time) {
	if o.At.IsZero() {
		o.At = now
	}
	if !o.At.Before(m.seen) {
		*m = modelServer{o.Host, o.SourceHost, o.DestHost, true, o.At}
	}
}

func (m *modelServer) forget(now time.Time) {
	if m.known {
		*m = modelServer{seen: now}
	}
}

// tell answers events, and notes what the queues get.
func (w *eventWalk) tell(events []domain.ExternalEvent) (codes []domain.EventCode) {
	needsTag := map[string]bool{"volume-extended": true, "power-update": true, "accelerator-request-bound": true}
	for _, e := range events {
		m := w.servers[e.Server]
		switch {
		case !m.known:
			codes = append(codes, 404)
		case needsTag[e.Name] && e.Tag == nil:
			codes = append(codes, 400)
		case m.current+m.from+m.to == "":
			codes = append(codes, 422)
		default:
			codes = append(codes, 200)
			told := map[string]bool{"": true}
			for _, to := range [][2]string{{m.current, "current"}, {m.from, "source"}, {m.to, "destination"}} {
				if host, role := to[0], to[1]; !told[host] {
					told[host] = true
					queue := domain.HostQueue(host)
					w.want[queue] = append(w.want[queue], fmt.Sprint("evt-", e.ID, " ", e.Server, " ", e.Name, " ", host, " ", role, " ", tagOf(e.Tag)))
				}
			}
		}
	}
	return codes
}

func tagOf(tag *string) string {
	if tag == nil {
		return "none"
	}
	return "'" + *tag + "'"
}

// check compares what the queues have got with what was noted, and the rows with the paper.
func (w *eventWalk) check() {
	got := map[string][]string{}
	for _, recorded := range w.historyAfter(w.from) {
		posted, ok := recorded.Event.(domain.MessagesPosted)
		if !ok || posted.Project != "service" {
			continue
		}
		for _, m := range posted.Messages {
			var body struct {
				ID, Name, Host, Role string
				Server               string `json:"server_uuid"`
				Tag                  *string
			}
			if err := json.Unmarshal([]byte(m.Body), &body); err != nil {
				w.rt.Fatal(err)
			}
			got[posted.Queue] = append(got[posted.Queue], fmt.Sprint(body.ID, " ", body.Server, " ", body.Name, " ", body.Host, " ", body.Role, " ", tagOf(body.Tag)))
		}
	}
	if diff := cmp.Diff(w.want, got); diff != "" {
		w.rt.Fatalf("copies (-want +got):\n%s", diff)
	}
	views := &projections.Views{DB: w.db}
	for id, m := range w.servers {
		s, exists, err := views.Server(w.Context(), id)
		if err != nil || exists != m.known || exists && (s.Host != m.current || s.SourceHost != m.from || s.DestHost != m.to || !s.ObservedAt.Equal(m.seen)) {
			w.rt.Fatalf("on paper %+v, in the table %+v %v %v", m, s, exists, err)
		}
	}
}

// TestTripsOfEvents: two for the servers and the queues of their hosts, the second one only
// while the queues are not known; and none for batches without events.
func TestTripsOfEvents(t *testing.T) {
	h, proxy, db := newProxiedHouse(t)
	e := h.executor(db)
	server := uuid.New()
	trips := func(work func()) int64 {
		before := proxy.Trips()
		work()
		return int64(proxy.Trips() - before)
	}
	run(t, e, observed(server, domain.Whereabouts{Host: "c1", DestHost: "c2"}))
	write := func() { run(t, e, post(domain.QueueID{Project: "p1", Name: uuid.NewString()}, `0`)) }
	write()
	plain := trips(write) // loads a queue, and makes it
	tell := func() { run(t, e, dispatch(changed(server))) }
	if first, again := trips(tell), trips(tell); first != plain+1 || again != plain-1 {
		t.Errorf("%d trips for events, then %d, with %d for a post to a new queue", first, again, plain)
	}
}
