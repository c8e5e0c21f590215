package reactors_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nabu/internal/webhook"
	"nabu/reactors"
)

// newPostman makes one that calls this machine, with a clock that stands still.
func newPostman(t *testing.T, timeout time.Duration, perHost int) (p *reactors.Postman, advance func(time.Duration)) {
	t.Helper()
	sender := webhook.New(webhook.Config{AllowLoopback: true, Timeout: timeout})
	t.Cleanup(sender.Close)
	var now atomic.Int64
	p = &reactors.Postman{Webhooks: sender, PerHost: perHost, Now: func() time.Time { return time.Unix(0, now.Load()) }}
	return p, func(by time.Duration) { now.Add(int64(by)) }
}

// hanging is a host that does not answer below /hangs before the test ends.
func hanging(t *testing.T, called func(r *http.Request)) *httptest.Server {
	t.Helper()
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		called(r)
		if strings.HasPrefix(r.URL.Path, "/hangs") {
			select {
			case <-r.Context().Done():
			case <-ended:
			}
		}
	}))
	t.Cleanup(func() {
		close(ended)
		server.Close()
	})
	return server
}

// TestASilentSubscriberRestsAlone: others on its host are called as ever, and after a rest
// it is asked once.
func TestASilentSubscriberRestsAlone(t *testing.T) {
	server := hanging(t, func(*http.Request) {})
	p, advance := newPostman(t, 20*time.Millisecond, 0)
	deliver := func(path string) (webhook.Result, error) {
		return p.Deliver(t.Context(), reactors.Parcel{Subscriber: server.URL + path})
	}
	for n := range 10 {
		if result, err := deliver("/hangs"); err != nil || result.Outcome != webhook.Retry {
			t.Fatalf("call %d: %+v, %v", n, result, err)
		}
	}
	for range 2 {
		if _, err := deliver("/hangs"); !errors.Is(err, reactors.ErrOpen) || p.Open() != 1 {
			t.Errorf("it is not left alone: %v, %d", err, p.Open())
		}
		if result, err := deliver("/fine"); err != nil || result.Outcome != webhook.Delivered {
			t.Errorf("another is not delivered to: %+v, %v", result, err)
		}
		advance(10 * time.Second)
		if _, err := deliver("/hangs"); err != nil || p.Open() != 1 {
			t.Errorf("after a rest it is not asked: %v, %d", err, p.Open())
		}
	}
}

// TestAHostThatIsAwayRests, with all of its subscribers.
func TestAHostThatIsAwayRests(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	p, _ := newPostman(t, time.Second, 0)
	for n := range 10 {
		if result, err := p.Deliver(t.Context(), reactors.Parcel{Subscriber: url + "/a"}); err != nil || !result.Unreachable {
			t.Fatalf("call %d: %+v, %v", n, result, err)
		}
	}
	if _, err := p.Deliver(t.Context(), reactors.Parcel{Subscriber: url + "/b"}); !errors.Is(err, reactors.ErrOpen) || p.Open() != 1 {
		t.Errorf("%v, %d", err, p.Open())
	}
}

// TestSilentSubscribersLeaveHalfOfTheirHost to those that answer.
func TestSilentSubscribersLeaveHalfOfTheirHost(t *testing.T) {
	const perHost, silent = 4, 8
	called := make(chan struct{}, 2*silent)
	server := hanging(t, func(r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/hangs") {
			called <- struct{}{}
		}
	})
	p, _ := newPostman(t, 50*time.Millisecond, perHost)
	var calls sync.WaitGroup
	all := func(ctx context.Context) {
		for i := range silent {
			calls.Go(func() {
				_, _ = p.Deliver(ctx, reactors.Parcel{Subscriber: server.URL + "/hangs/" + string(rune('a'+i))})
			})
		}
	}
	all(t.Context()) // now they are known
	calls.Wait()
	for range silent {
		<-called
	}
	patient := webhook.New(webhook.Config{AllowLoopback: true, Timeout: time.Hour})
	defer patient.Close()
	p.Webhooks = patient
	ctx, cancel := context.WithCancel(t.Context())
	defer calls.Wait()
	defer cancel()
	all(ctx)
	for range perHost / 2 {
		<-called
	}
	for range 100 { // by then all of them try
		within, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		result, err := p.Deliver(within, reactors.Parcel{Subscriber: server.URL + "/fine"})
		cancel()
		if err != nil || result.Outcome != webhook.Delivered {
			t.Fatalf("%+v, %v", result, err)
		}
	}
	if n := len(called); n > 0 {
		t.Errorf("%d calls to silent subscribers beyond their half", n)
	}
}
