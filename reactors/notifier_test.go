package reactors_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/eventually"
	"nabu/internal/signedurl"
	"nabu/internal/webhook"
	"nabu/projections"
	"nabu/reactors"
)

// call is a call that a receiver got.
type call struct {
	path, body, message string
	attempt             int
	header              http.Header
}

// receiver is a server that subscribers have, with as many paths as there are subscribers.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	calls  []call
	answer func(c call, w http.ResponseWriter, r *http.Request) // nil: 200
}

func newReceiver(t testing.TB) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		attempt, _ := strconv.Atoi(req.Header.Get("X-Nabu-Attempt"))
		c := call{req.URL.Path, string(body), req.Header.Get("X-Nabu-Message-Id"), attempt, req.Header}
		r.mu.Lock()
		answer := r.answer
		r.calls = append(r.calls, c)
		r.mu.Unlock()
		if answer != nil {
			answer(c, w, req)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// got are the calls of a path.
func (r *receiver) got(path string) (calls []call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.calls {
		if c.path == path {
			calls = append(calls, c)
		}
	}
	return calls
}

func (r *receiver) bodies(path string) (bodies []string) {
	for _, c := range r.got(path) {
		var its struct {
			Body json.RawMessage `json:"body"`
		}
		_ = json.Unmarshal([]byte(c.body), &its)
		bodies = append(bodies, string(its.Body))
	}
	return bodies
}

func (h *house) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

var testKey = signedurl.Key("a key for tests")

// notifier starts one, and returns how to end it.
func (h *house) notifier(change func(*reactors.NotifierConfig)) (n *reactors.Notifier, end func()) {
	h.Helper()
	sender := webhook.New(webhook.Config{AllowLoopback: true, Timeout: time.Second})
	cfg := reactors.NotifierConfig{
		Executor: h.executor, Views: h.views, Ledger: h.db, Deliver: &reactors.Postman{Webhooks: sender, PerHost: 60},
		Confirm: reactors.Confirmations{Key: testKey}, Log: slog.New(slog.DiscardHandler), Now: h.clock,
	}
	if change != nil {
		change(&cfg)
	}
	n = reactors.NewNotifier(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var leading sync.WaitGroup
	leading.Go(func() { n.Lead(ctx) })
	end = sync.OnceFunc(func() {
		cancel()
		leading.Wait()
		sender.Close()
	})
	h.Cleanup(end)
	return n, end
}

func (h *house) subscriber(name, address, options string) domain.SubscriptionID {
	h.Helper()
	return run(h, commands.Subscribe{
		NewSubscription: domain.NewSubscription{Queue: queue(name), Subscriber: address, TTL: 100_000, Options: options, Salt: rand.Uint64()},
		Rules:           domain.SubscriptionRules{Types: domain.SubscriberTypes},
	})
}

func (h *house) postBodies(name string, bodies ...string) []domain.MessageID {
	h.Helper()
	p := domain.Post{Queue: queue(name), Client: "c", Size: 10, Salts: make([]uint64, len(bodies))}
	for _, body := range bodies {
		p.Messages = append(p.Messages, domain.NewMessage{TTL: 3600, Body: body})
	}
	return run(h, commands.PostMessages{Post: p})
}

// attempts are all that the ledger has of a subscription.
func (h *house) attempts(id domain.SubscriptionID) (attempts []domain.DeliveryAttempt) {
	h.Helper()
	for e, err := range eventstore.ReadStream(h.Context(), h.db, domain.SubscriptionRef{Project: "p", ID: id}.Stream(), 0) {
		if err != nil {
			h.Fatal(err)
		}
		if its, ok := e.Event.(domain.DeliveriesAttempted); ok {
			attempts = append(attempts, its.Attempts...)
		}
	}
	return attempts
}

func (h *house) waiting() int {
	h.Helper()
	n, _, err := h.views.WaitingDeliveries(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	return n
}

// sound wants the read models to be what the ledger says.
func (h *house) sound() {
	h.Helper()
	found := 0
	err := projections.Checking{DB: h.direct(), Found: func(d projections.Difference) error {
		found++
		h.Errorf("%+v", d)
		return nil
	}}.Run(h.Context())
	if err != nil || found > 0 {
		h.Errorf("%d differences, %v", found, err)
	}
}

// TestMessagesAreDelivered in Zaqar's form and in order, those from before the
// subscription not, and one event tells of many.
func TestMessagesAreDelivered(t *testing.T) {
	h, r := newHouse(t), newReceiver(t)
	h.postBodies("q", `"before"`)
	plain := h.subscriber("q", r.URL+"/plain", "")
	h.subscriber("q", r.URL+"/data", `{"post_data": "{\"x\": \"$zaqar_message$\", \"y\": 1}", "post_headers": {"X-Token": "t", "Content-Type": "text/x"}}`)
	h.subscriber("q", r.URL+"/some", `{"filter_policies": {"n": [{"range": {"gte": 2}}]}}`)
	n, end := h.notifier(nil)
	ids := h.postBodies("q", `{"n": 1}`, `{"n": 2,  "raw": 1.50}`)
	n.Wake()
	eventually.Holds(h, "all is delivered", func() bool { return len(r.got("/plain")) == 2 && len(r.got("/data")) == 2 && len(r.got("/some")) == 1 })
	end()
	got := r.got("/plain")
	if want := `{"ttl": 3600, "body": {"n": 2,  "raw": 1.50}, "Message_Type": "Notification", "queue_name": "q"}`; got[1].body != want {
		t.Errorf("got %s, want %s", got[1].body, want)
	}
	position, _ := domain.PostingPlace(ids[1]).Parts()
	if got[0].message != ids[0].String() || got[1].message != ids[1].String() || got[1].attempt != 1 ||
		got[1].header.Get("X-Nabu-Position") != strconv.FormatInt(position, 10) || got[1].header.Get("Content-Type") != "application/json" {
		t.Errorf("%+v", got)
	}
	data := r.got("/data")[0]
	if want := `{"x": {"ttl": 3600, "body": {"n": 1}, "Message_Type": "Notification", "queue_name": "q"}, "y": 1}`; data.body != want ||
		data.header.Get("X-Token") != "t" || data.header.Get("Content-Type") != "text/x" {
		t.Errorf("%+v", data)
	}
	if attempts := h.attempts(plain); len(attempts) != 2 || attempts[1].Outcome != domain.DeliveryDelivered || attempts[1].Status != 200 {
		t.Errorf("%+v", attempts)
	}
	if n := h.waiting(); n != 0 {
		t.Errorf("%d deliveries wait", n)
	}
	h.sound()
}

// TestARestartGoesOn where the last one stopped: nothing twice, nothing left out.
func TestARestartGoesOn(t *testing.T) {
	h, r := newHouse(t), newReceiver(t)
	h.subscriber("q", r.URL+"/a", "")
	var want []string
	for i := range 5 {
		_, end := h.notifier(nil)
		for range 30 {
			body := strconv.Itoa(len(want))
			want = append(want, body)
			h.postBodies("q", body)
		}
		if i%2 == 0 { // of the other times it is ended in the middle
			eventually.Holds(h, "all is delivered", func() bool { return len(r.got("/a")) >= len(want) })
		}
		end()
		h.postBodies("q", strconv.Itoa(len(want))) // while nobody is there
		want = append(want, strconv.Itoa(len(want)))
	}
	h.notifier(nil)
	eventually.Holds(h, "all is delivered", func() bool { return len(r.got("/a")) >= len(want) })
	if got := r.bodies("/a"); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

// TestTheSchedule: immediate attempts first, then the policy's delays, while the next
// message goes; then the notification is dropped.
func TestTheSchedule(t *testing.T) {
	h, r := newHouse(t), newReceiver(t)
	r.answer = func(c call, w http.ResponseWriter, _ *http.Request) {
		if strings.Contains(c.body, `"bad"`) {
			w.WriteHeader(500)
		}
	}
	const options = `{"_retry_policy": {"retries_with_no_delay": 2, "minimum_delay_retries": 1, "minimum_delay": 5, "maximum_delay": 17, "maximum_delay_retries": 1}}`
	id := h.subscriber("q", r.URL+"/a", options)
	h.notifier(nil)
	ids := h.postBodies("q", `"bad"`, `"good"`)
	started := h.clock()
	eventually.Holds(h, "the next goes", func() bool { return len(r.got("/a")) == 4 && len(h.attempts(id)) == 4 })
	if got := r.bodies("/a"); !slices.Equal(got, []string{`"bad"`, `"bad"`, `"bad"`, `"good"`}) {
		t.Fatalf("%v", got)
	}
	policy := domain.EffectiveRetryPolicy(nil, options)
	due := time.Duration(0)
	for retry := 3; ; retry++ {
		delay, ok := policy.Delay(retry)
		if !ok {
			break
		}
		h.advance(delay - time.Millisecond)
		before := len(r.got("/a"))
		h.advance(time.Millisecond)
		due += delay
		eventually.Holds(h, fmt.Sprintf("retry %d is made", retry), func() bool { return len(h.attempts(id)) == retry+2 })
		if n := len(r.got("/a")); n != before+1 {
			t.Errorf("%d calls for retry %d", n-before, retry)
		}
	}
	attempts := slices.DeleteFunc(h.attempts(id), func(a domain.DeliveryAttempt) bool { return a.Message != ids[0] })
	last := attempts[len(attempts)-1]
	if len(attempts) != policy.Retries()+1 || last.Outcome != domain.DeliveryDropped || last.Started.Sub(started).Round(time.Second) != due {
		t.Errorf("%d attempts, the last %s after the first, %+v", len(attempts), last.Started.Sub(started), last)
	}
	for i, a := range attempts {
		if a.Number != i+1 || a.Status != 500 {
			t.Errorf("attempt %d: %+v", i+1, a)
		}
	}
	eventually.Holds(h, "nothing waits", func() bool { return h.waiting() == 0 })
	h.sound()
}

// TestAnswersThatAreFinalOrNot: 4xx ends it, 429 says when to come back.
func TestAnswersThatAreFinalOrNot(t *testing.T) {
	h, r := newHouse(t), newReceiver(t)
	r.answer = func(c call, w http.ResponseWriter, _ *http.Request) {
		switch {
		case c.path == "/gone":
			w.WriteHeader(410)
		case c.attempt == 1:
			w.Header().Set("Retry-After", "40")
			w.WriteHeader(429)
		}
	}
	gone, busy := h.subscriber("q", r.URL+"/gone", ""), h.subscriber("q", r.URL+"/busy", "")
	h.notifier(nil)
	h.postBodies("q", `1`)
	eventually.Holds(h, "both have answered", func() bool { return len(h.attempts(gone)) == 1 && len(h.attempts(busy)) == 1 })
	if a := h.attempts(gone)[0]; a.Outcome != domain.DeliveryDropped || a.Status != 410 {
		t.Errorf("%+v", a)
	}
	first := h.attempts(busy)[0]
	if first.Outcome != domain.DeliveryRetry || first.Due.Sub(h.clock()).Round(time.Second) != 40*time.Second {
		t.Errorf("%+v", first)
	}
	h.advance(41 * time.Second)
	eventually.Holds(h, "it is tried again", func() bool { return len(h.attempts(busy)) == 2 })
	if a := h.attempts(busy)[1]; a.Outcome != domain.DeliveryDelivered || a.Number != 2 {
		t.Errorf("%+v", a)
	}
}

// TestDelayedAndExpired: a delayed message is delivered after its delay, an expired one
// not, a deleted one is.
func TestDelayedAndExpired(t *testing.T) {
	h, r := newHouse(t), newReceiver(t)
	metadata, err := domain.ParseMetadata([]byte(`{"_default_message_delay": 30}`))
	if err != nil {
		t.Fatal(err)
	}
	run(h, commands.CreateQueue{Queue: queue("late"), Metadata: metadata})
	late := h.subscriber("late", r.URL+"/late", "")
	h.subscriber("q", r.URL+"/q", "")
	h.post("q", 1, 60)
	h.advance(61 * time.Second)
	deleted := h.postBodies("q", `"deleted"`)
	run(h, commands.DeleteMessage{Queue: queue("q"), ID: deleted[0]})
	h.postBodies("late", `"late"`)
	h.notifier(nil)
	eventually.Holds(h, "the deleted one comes, and the late one waits", func() bool { return len(r.got("/q")) == 1 && len(h.attempts(late)) == 1 })
	if got := r.bodies("/q"); got[0] != `"deleted"` || h.attempts(late)[0].Outcome != domain.DeliveryDelayed || len(r.got("/late")) > 0 {
		t.Fatalf("%v %+v", got, h.attempts(late))
	}
	h.advance(31 * time.Second)
	eventually.Holds(h, "the late one comes", func() bool { return len(h.attempts(late)) == 2 })
	if got := r.got("/late"); len(got) != 1 || got[0].attempt != 1 || !strings.Contains(got[0].body, `"body": "late", "delay": 30, "Message_Type"`) {
		t.Errorf("%+v", got)
	}
	h.sound()
}

// TestConfirmation: asked first, delivered to from the word on, and told when it is over.
func TestConfirmation(t *testing.T) {
	h, r := newHouse(t), newReceiver(t)
	rules := domain.SubscriptionRules{Types: domain.SubscriberTypes, Confirm: true}
	id := run(h, commands.Subscribe{
		NewSubscription: domain.NewSubscription{Queue: queue("q"), Subscriber: r.URL + "/a", TTL: 3600}, Rules: rules,
	})
	n, _ := h.notifier(func(cfg *reactors.NotifierConfig) {
		cfg.Required = true
		cfg.Confirm = reactors.Confirmations{Key: testKey, Endpoint: "https://nabu.example.net/"}
	})
	h.postBodies("q", `"too early"`)
	eventually.Holds(h, "it is asked", func() bool { return len(r.got("/a")) == 1 && h.waiting() == 0 })
	var asked map[string]any
	if err := json.Unmarshal([]byte(r.got("/a")[0].body), &asked); err != nil {
		t.Fatal(err)
	}
	path := "/v2/queues/q/subscriptions/" + id.String() + "/confirm"
	expires, _ := signedurl.ParseExpires(asked["URL-Expires"].(string))
	grant := signedurl.Grant{Paths: []string{path}, Methods: []string{"PUT"}, Project: "p", Expires: expires}
	if asked["Message_Type"] != "SubscriptionConfirmation" || asked["URL-Paths"] != path || asked["URL-Methods"] != "PUT" ||
		asked["X-Project-ID"] != "p" || asked["queue_name"] != "q" || asked["WSGISubscribeURL"] != "https://nabu.example.net"+path ||
		!testKey.Verify(grant, asked["URL-Signature"].(string)) || !expires.Equal(h.clock().Add(time.Hour).Truncate(time.Second)) {
		t.Errorf("%v", asked)
	}
	for _, needed := range []string{"PUT", "SubscribeBody", "URL-Paths", "X-Project-ID", "Client-ID"} {
		if !strings.Contains(asked["Message"].(string), needed) {
			t.Errorf("who is asked is not told of %s: %s", needed, asked["Message"])
		}
	}
	confirm := func(word bool) {
		run(h, commands.ConfirmSubscription{Queue: queue("q"), ID: id, Confirmed: word, Rules: rules})
		h.advance(time.Second) // events are a bit later than the clock that stands still
		n.Wake()
	}
	confirm(true)
	h.postBodies("q", `"in time"`)
	eventually.Holds(h, "it is delivered", func() bool { return len(r.got("/a")) == 2 })
	if got := r.bodies("/a"); got[1] != `"in time"` {
		t.Errorf("%v", got)
	}
	confirm(false)
	eventually.Holds(h, "it is told", func() bool { return len(r.got("/a")) == 3 && h.waiting() == 0 })
	if got := r.got("/a")[2]; !strings.Contains(got.body, `"Message_Type": "UnsubscribeConfirmation"`) || !strings.Contains(got.body, "Client-ID") {
		t.Errorf("%+v", got)
	}
	h.postBodies("q", `"too late"`)
	confirm(true)
	h.postBodies("q", `"in time again"`)
	eventually.Holds(h, "it is delivered again", func() bool { return len(r.got("/a")) >= 4 })
	if got := r.bodies("/a"); len(got) != 4 || got[3] != `"in time again"` {
		t.Errorf("%v", got)
	}
	h.sound()
}

// TestManySubscribers: one hangs, some fail at random, two notifiers are at work at once and
// are ended in the middle; everyone else gets everything, and first in order.
func TestManySubscribers(t *testing.T) {
	const subscribers, messages = 50, 60
	h, r := newHouse(t), newReceiver(t)
	hung := make(chan struct{})
	defer close(hung)
	r.answer = func(c call, w http.ResponseWriter, req *http.Request) {
		switch {
		case c.path == "/0":
			select {
			case <-hung:
			case <-req.Context().Done():
			}
		case len(c.path) == 2 && rand.IntN(4) == 0: // 1 to 9
			w.WriteHeader(503)
		}
	}
	for i := range subscribers {
		h.subscriber("q", fmt.Sprintf("%s/%d", r.URL, i), "")
	}
	ends := []func(){}
	for range 2 { // as if the lock did not hold
		_, end := h.notifier(nil)
		ends = append(ends, end)
	}
	var want []string
	for i := range messages {
		want = append(want, strconv.Itoa(i))
		h.postBodies("q", want[i])
		if i == messages/2 {
			ends[0]()
			ends[1]()
			_, end := h.notifier(nil)
			ends = append(ends, end)
		}
	}
	calls := 0
	eventually.Holds(h, "everyone has everything", func() bool {
		h.advance(2 * time.Second) // for the retries; some 1,800 looks let the messages expire
		calls = 0
		for i := 1; i < subscribers; i++ {
			got := r.bodies(fmt.Sprintf("/%d", i))
			calls += len(got)
			for _, body := range want {
				if !slices.Contains(got, body) {
					return false
				}
			}
		}
		return true
	})
	t.Logf("%d calls for %d deliveries", calls, (subscribers-1)*messages)
	ends[2]()
	h.sound()
}
