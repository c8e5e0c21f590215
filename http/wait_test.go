package http

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nabu/commands"
	"nabu/domain"
	"nabu/internal/eventually"
	"nabu/projections"
)

// later sends a request that waits, and returns when it does, and how to get its answer.
func (a *api) later(method, path, body string, headers ...string) (got func() answer) {
	a.Helper()
	before := a.news.Readers()
	answers := make(chan answer, 1)
	go func() { answers <- a.send(method, path, strings.NewReader(body), headers...) }()
	a.readers(before + 1)
	return func() answer { return <-answers }
}

// readers waits until so many wait.
func (a *api) readers(want int) {
	a.Helper()
	eventually.Within(a, 10*time.Second, fmt.Sprintf("%d wait", want), func() bool { return a.news.Readers() == want })
}

// inTime fails if an answer came only when the waiting was over.
func (a *api) inTime(began time.Time) {
	a.Helper()
	if took := time.Since(began); took > 15*time.Second {
		a.Errorf("answered after %s", took)
	}
}

const ofClaims, ofMessages = "/v2/queues/q/claims", "/v2/queues/q/messages"

func TestWaitIsANumberOfSeconds(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	for text, title := range map[string]string{
		"x": "Invalid parameter", "1.5": "Invalid parameter", "-": "Invalid parameter", "%20": "Invalid parameter",
		"-1": "Invalid API request", "21": "Invalid API request", "99999999999999999999": "Invalid API request",
	} {
		a.call("POST", ofClaims+"?wait="+text, ``, 400).refused(title)
		a.call("GET", ofMessages+"?wait="+text, ``, 400).refused(title)
	}
	for _, text := range []string{"", "0", "00"} {
		a.call("POST", ofClaims+"?wait="+text, ``, 204)
		a.call("GET", ofMessages+"?wait="+text, ``, 200).is(`{"messages": [], "links": []}`)
	}
	a.post("q", theirs, `[{"body": 1}]`)
	got := a.call("GET", ofMessages+"?wait=3&limit=1", ``, 200)
	if !strings.Contains(got.body, "limit=1&wait=3&") {
		t.Errorf("the next page does not wait: %s", got.body)
	}
	a.call("GET", ofMessages+"?wait=20&marker=nowhere", ``, 200).is(`{"messages": [], "links": []}`)
	a.call("GET", ofMessages+"?wait=20&ids="+ours, ``, 404)
	a.call("POST", ofClaims+"?wait=20", ``, 201)
	a.readers(0)
}

func TestAWaitThatIsOverIsAnsweredAsIfThereWereNone(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.call("POST", ofClaims+"?wait=1", ``, 204)
	a.call("GET", ofMessages+"?wait=1", ``, 200).is(`{"messages": [], "links": []}`)
	a.readers(0)
	a.recorded()
}

// Whatever a queue may get something by, those who wait get it.
func TestWhatIsWaitedFor(t *testing.T) {
	t.Parallel()
	held := func(a *api) string {
		a.post("q", theirs, `[{"body": "held"}]`)
		return a.call("POST", ofClaims, `{"ttl": 60, "grace": 60}`, 201).header.Get("Location")
	}
	tests := map[string]struct {
		before func(a *api) string
		then   func(a *api, what string)
		body   string
	}{
		"a post": {func(*api) string { return "" }, func(a *api, _ string) { a.post("q", theirs, `[{"body": "new"}]`) }, "new"},
		"a post to a deleted queue": {
			func(a *api) string {
				a.post("q", theirs, `[{"body": "old"}]`)
				a.call("DELETE", "/v2/queues/q", ``, 204)
				return ""
			},
			func(a *api, _ string) { a.post("q", theirs, `[{"body": "new"}]`) }, "new",
		},
		"a release":     {held, func(a *api, claim string) { a.call("DELETE", claim, ``, 204) }, "held"},
		"a claim's end": {func(a *api) string { defer a.advance(59 * time.Second); return held(a) }, func(a *api, _ string) { a.advance(time.Second + time.Millisecond) }, "held"},
		"a renewed one's": {
			func(a *api) string {
				claim := held(a)
				a.advance(30 * time.Second)
				a.call("PATCH", claim, `{"ttl": 60, "grace": 60}`, 204)
				a.advance(59 * time.Second)
				return ""
			},
			func(a *api, _ string) { a.advance(time.Second + time.Millisecond) }, "held",
		},
		"a delay's end": {
			func(a *api) string {
				a.call("PUT", "/v2/queues/q", `{"_default_message_delay": 10}`, 201)
				a.post("q", theirs, `[{"body": "late"}]`)
				a.advance(9 * time.Second)
				return ""
			},
			func(a *api, _ string) { a.advance(time.Second + time.Millisecond) }, "late",
		},
		"a delay's end after a later post": {
			func(a *api) string {
				a.call("PUT", "/v2/queues/q", `{"_default_message_delay": 10}`, 201)
				return ""
			},
			func(a *api, _ string) {
				a.post("q", theirs, `[{"body": "late", "delay": 1}]`)
				a.advance(time.Second + time.Millisecond)
			}, "late",
		},
		"a dead letter": {
			func(a *api) string {
				a.call("PUT", "/v2/queues/q", ``, 201)
				a.call("PUT", "/v2/queues/other", `{"_max_claim_count": 1, "_dead_letter_queue": "q"}`, 201)
				a.post("other", theirs, `[{"body": "dead"}]`)
				a.call("POST", "/v2/queues/other/claims", `{"ttl": 60, "grace": 60}`, 201)
				a.advance(61 * time.Second)
				return ""
			},
			func(a *api, _ string) { a.call("POST", "/v2/queues/other/claims", ``, 204) }, "dead",
		},
	}
	for name, test := range tests {
		for how, ask := range map[string]struct {
			method, path string
			status       int
		}{"claimed": {"POST", ofClaims + "?wait=20", 201}, "listed": {"GET", ofMessages + "?wait=20&echo=true", 200}} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				a := newAPI(t)
				what := test.before(a)
				began := time.Now()
				got := a.later(ask.method, ask.path, ``)
				test.then(a, what)
				if answer := got(); answer.status != ask.status || !strings.Contains(answer.body, test.body) {
					t.Fatalf("%d: %s", answer.status, answer.body)
				}
				a.inTime(began)
				a.readers(0)
			})
		}
	}
}

// What others post is waited for; what is the client's own is no news.
func TestAListingWaitsForWhatItShows(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	got := a.later("GET", ofMessages+"?wait=20", ``)
	a.post("q", ours, `[{"body": "mine"}]`)
	a.post("q", theirs, `[{"body": "theirs"}]`)
	if answer := got(); !strings.Contains(answer.body, "theirs") || strings.Contains(answer.body, "mine") {
		t.Fatalf("%d: %s", answer.status, answer.body)
	}
}

// A look that is under way when its client leaves is carried out, as every claim is; one
// server decides it before what comes next.
func TestWhoIsGoneDoesNotWait(t *testing.T) {
	t.Parallel()
	a := newAPI(t).alone()
	for _, target := range [][2]string{{"POST", ofClaims}, {"GET", ofMessages}} {
		ctx, leave := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, target[0], a.url+target[1]+"?wait=20", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Client-ID", ours)
		r.Header.Set("X-Project-ID", "p1")
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			if response, err := client.Do(r); err == nil {
				_ = response.Body.Close()
			}
		}()
		a.readers(1)
		leave()
		<-gone
		a.readers(0)
	}
	a.post("q", theirs, `[{"body": 1}]`)
	a.call("POST", ofClaims, ``, 201) // nobody took it for who had left
}

// The time that is waited comes on top of the server's limits, and a stop ends it.
func TestAServerThatStopsAnswersWhoWaits(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	listening := httptest.NewUnstartedServer(a.server.Handler())
	listening.Config.ReadTimeout = 500 * time.Millisecond
	listening.Start()
	t.Cleanup(listening.Close)
	a.url = listening.URL
	a.call("POST", ofClaims+"?wait=1", ``, 204)
	began := time.Now()
	claiming, list := a.later("POST", ofClaims+"?wait=20", ``), a.later("GET", ofMessages+"?wait=20", ``)
	if err := a.server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := claiming(); got.status != 204 {
		t.Errorf("the claim: %d %s", got.status, got.body)
	}
	if got := list(); got.status != 200 {
		t.Errorf("the page: %d %s", got.status, got.body)
	}
	a.inTime(began)
	a.call("POST", ofClaims+"?wait=20", ``, 204)
	a.inTime(began)
}

func TestTooManyDoNotWait(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	for {
		_, cancel, ok := a.news.Listen(domain.QueueID{Project: "p1", Name: "other"})
		if !ok {
			break
		}
		defer cancel()
	}
	began := time.Now()
	a.call("POST", ofClaims+"?wait=20", ``, 204)
	a.call("GET", ofMessages+"?wait=20", ``, 200)
	a.inTime(began)
}

// A repeated request gets the claim of the first one, also while that waits, and what is
// looked for in vain is no answer.
func TestAWaitMayBeRepeated(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	got := a.later("POST", ofClaims+"?wait=20", ``, "Idempotency-Key", "k")
	a.post("q", theirs, `[{"body": 1}]`)
	first := got()
	if first.status != 201 {
		t.Fatalf("%d: %s", first.status, first.body)
	}
	a.call("POST", ofClaims+"?wait=20", ``, 201, "Idempotency-Key", "k").has("Location", first.header.Get("Location")).has("Idempotency-Replayed", "true").is(first.body)
	a.call("POST", ofClaims+"?wait=1", ``, 204, "Idempotency-Key", "k2").has("Idempotency-Replayed", "")
	a.post("q", theirs, `[{"body": 2}]`)
	a.call("POST", ofClaims+"?wait=1", ``, 204, "Idempotency-Key", "k2") // as it was answered
	a.call("POST", ofClaims+"?wait=1", ``, 422, "Idempotency-Key", "k")
}

// counted counts the pages of messages that were read, over all replicas.
type counted struct {
	Views
	pages *atomic.Int64
}

func (v counted) Messages(ctx context.Context, list projections.MessageList) (projections.MessagePage, error) {
	defer v.pages.Add(1)
	return v.Views.Messages(ctx, list)
}

// Who waits with a signature gets nothing that comes after it was taken back, or after its
// end; somebody else gets that.
func TestAWaitEndsWithItsSignature(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(a *api){
		"revoked": func(a *api) { a.call("POST", "/v2/queues/q/share/revoke", `{"all": true}`, 204) },
		"expired": func(a *api) { a.advance(time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pages := &atomic.Int64{}
			a := newAPI(t, func(cfg *Config) { cfg.Views = counted{cfg.Views, pages} })
			began := time.Now()
			u := a.share("q", `{"paths": ["claims", "messages"], "methods": ["GET", "POST"], "expires": "2026-03-01T10:01:00"}`)
			claim := a.later("POST", ofClaims+"?wait=20", ``, u.show()...)
			list := a.later("GET", ofMessages+"?wait=20", ``, u.show()...)
			theirs := a.later("POST", ofClaims+"?wait=20", ``)
			// A first look may be under way for long, and its signature held when it began.
			eventually.Within(a, 10*time.Second, "all have looked", func() bool {
				return a.decided.Load() == 2 && pages.Load() == 2
			})
			end(a)
			a.post("q", ours, `[{"body": "not for them"}]`)
			for _, got := range []answer{claim(), list()} {
				if got.status != 404 || strings.Contains(got.body, "not for them") {
					t.Errorf("%d: %s", got.status, got.body)
				}
			}
			if got := theirs(); got.status != 201 {
				t.Errorf("who waits behind them: %d: %s", got.status, got.body)
			}
			a.inTime(began)
			a.readers(0)
		})
	}
}

// crowded counts who asks it for messages at once.
type crowded struct {
	Views
	now, most atomic.Int64
}

func (v *crowded) Messages(ctx context.Context, list projections.MessageList) (projections.MessagePage, error) {
	v.enter()
	defer v.now.Add(-1)
	return v.Views.Messages(ctx, list)
}

func (v *crowded) Postings(ctx context.Context, queue domain.QueueID, after int64) (projections.Postings, error) {
	v.enter()
	defer v.now.Add(-1)
	return v.Views.Postings(ctx, queue, after)
}

func (v *crowded) enter() {
	for now := v.now.Add(1); ; {
		most := v.most.Load()
		if now <= most || v.most.CompareAndSwap(most, now) {
			break
		}
	}
	for range 10_000 { // whoever else wants to comes in
		runtime.Gosched()
	}
}

// Those who were told of the same message look one after the other, few at once.
func TestACrowdDoesNotLookAtOnce(t *testing.T) {
	t.Parallel()
	for _, pushed := range []bool{false, true} {
		var v *crowded
		a := newAPI(t, func(cfg *Config) { v = &crowded{Views: cfg.Views}; cfg.Views = v }).stopWith()
		const many = 10 * lookers
		var listed []func() answer
		var connected []*talk
		for range many {
			if !pushed {
				listed = append(listed, a.later("GET", ofMessages+"?wait=20", ``))
				continue
			}
			w := a.dial("/v2", false)
			w.ask("subscription_create", `{"queue_name": "q"}`, 201)
			connected = append(connected, w)
		}
		a.post("q", theirs, `[{"body": 1}]`)
		for _, got := range listed {
			if got := got(); !strings.Contains(got.body, `"body":1`) {
				t.Errorf("%d: %s", got.status, got.body)
			}
		}
		for _, w := range connected {
			w.receive().is(`{"body": 1, "ttl": 3600, "queue_name": "q", "Message_Type": "Notification"}`)
		}
		// Before it waits each request looks like any other.
		if most := v.most.Load(); most > lookers+1 {
			t.Errorf("%d looked at once, pushed: %t", most, pushed)
		}
	}
}

// Who is called, and gets for its key what was claimed before, has taken nothing of what it
// was called for.
func TestARepeatedWaitTakesNoCallAlong(t *testing.T) {
	t.Parallel()
	a := newAPI(t).alone() // the line is one server's
	began := time.Now()
	const path = ofClaims + "?wait=20&limit=1"
	var batches atomic.Int64
	a.executor.Observe = func(commands.BatchReport) { batches.Add(1) }
	first := a.later("POST", path, ``, "Idempotency-Key", "k")
	eventually.Holds(t, "the first has looked", func() bool { return batches.Load() > 0 })
	a.call("POST", "/v2/queues/other/claims", ``, 204) // decided when the first look is answered
	again := a.later("POST", path, ``, "Idempotency-Key", "k")
	behind := a.later("POST", path, ``)
	a.post("q", theirs, `[{"body": "one"}]`)
	one := first()
	a.post("q", theirs, `[{"body": "two"}]`)
	if got := again(); one.status != 201 || got.status != 201 || got.body != one.body {
		t.Errorf("the claims of one key: %d %s, %d %s", one.status, one.body, got.status, got.body)
	}
	if got := behind(); !strings.Contains(got.body, "two") {
		t.Errorf("%d: %s", got.status, got.body)
	}
	a.inTime(began)
	a.readers(0)
}

// TestNobodyIsForgotten: consumers that wait get all that is posted beside them, long
// before they would look by themselves, and each message once.
func TestNobodyIsForgotten(t *testing.T) {
	t.Parallel()
	const consumers, posts = 12, 120
	a := newAPI(t)
	began := time.Now()
	var taken sync.Map
	var all sync.WaitGroup
	left := make(chan struct{}, posts)
	for range posts {
		left <- struct{}{}
	}
	for range consumers {
		all.Go(func() {
			for {
				select {
				case <-left:
				default:
					return
				}
				got := a.send("POST", ofClaims+"?wait=20&limit=1", strings.NewReader(``))
				if _, twice := taken.LoadOrStore(got.body, true); twice || got.status != 201 {
					a.Errorf("%d: %s", got.status, got.body)
					return
				}
			}
		})
	}
	for n := range posts {
		a.post("q", theirs, fmt.Sprintf(`[{"body": %d}]`, n))
		if n%10 == 0 {
			runtime.Gosched()
		}
	}
	all.Wait()
	a.inTime(began)
	a.readers(0)
}
