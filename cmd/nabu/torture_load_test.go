package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nabu/internal/eventually"
)

// tormented is the load of a torture: clients that post, claim, delete and release
// while things die around them, and what they know of each message.
type tormented struct {
	*testing.T
	ctx      context.Context
	end      context.CancelFunc
	pace     time.Duration // between two requests of a client
	client   *http.Client
	nabus    []*answering
	clients  sync.WaitGroup
	gate     sync.RWMutex // held by requests; whoever takes it whole has silence
	failures atomic.Int64

	mu       sync.Mutex
	messages map[string]*sent // by their names, which are their bodies
	doubled  int              // messages that were handed out while another live claim had them
	risen    int              // that were handed out after their deletion was acknowledged
	last     time.Time        // when a request was answered as it should be
	longest  time.Duration    // without such an answer
}

// answering is how many requests one nabu has answered.
type answering struct {
	address string
	count   atomic.Int64
}

// sent is what clients know of a message.
type sent struct {
	id            string // empty: not acknowledged
	asked, gone   bool   // its deletion was asked for, and acknowledged
	holder        string // the claim that has it
	heldAtLeastTo time.Time
}

const (
	tortureQueues  = 3
	posters        = 9
	consumers      = 6
	claimTTL       = 300 * time.Second
	requestPatient = 20 * time.Second
)

// torment begins to load some nabus.
func torment(t *testing.T, pace time.Duration, addresses ...string) *tormented {
	l := &tormented{
		T: t, pace: pace, messages: map[string]*sent{}, last: time.Now(),
		client: &http.Client{Timeout: requestPatient, Transport: &http.Transport{MaxIdleConnsPerHost: posters + consumers}},
	}
	l.ctx, l.end = context.WithCancel(context.Background())
	for _, address := range addresses {
		l.nabus = append(l.nabus, &answering{address: address})
	}
	for i := range posters {
		l.clients.Go(func() { l.post(i) })
	}
	for i := range consumers {
		l.clients.Go(func() { l.consume(i) })
	}
	t.Cleanup(l.stop)
	return l
}

func (l *tormented) stop() {
	l.end()
	l.clients.Wait()
	l.client.CloseIdleConnections()
}

// post posts one message after the other to a nabu. Every second client gives each
// request a key and sends it again, to the next nabu, until it is acknowledged.
func (l *tormented) post(client int) {
	for n := 0; l.ctx.Err() == nil; n++ {
		name, key := fmt.Sprintf("%d-%d", client, n), ""
		if client%2 == 1 {
			key = name
		}
		l.mu.Lock()
		l.messages[name] = &sent{}
		l.mu.Unlock()
		path := fmt.Sprintf("/v2/queues/torture-%d/messages", n%tortureQueues)
		body := fmt.Sprintf(`{"messages":[{"ttl":3600,"body":%q}]}`, name)
		for try := 0; l.ctx.Err() == nil && (try == 0 || key != ""); try++ {
			var posted struct{ Resources []string }
			if l.ask(client+try, "POST", path, body, key, http.StatusCreated, &posted) {
				l.posted(name, posted.Resources)
				break
			}
		}
	}
}

func (l *tormented) posted(name string, resources []string) {
	if len(resources) != 1 {
		l.Errorf("a post of one message was answered with %q", resources)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.messages[name].id = resources[0][strings.LastIndexByte(resources[0], '/')+1:]
}

// consume claims messages, and deletes them or gives them back.
func (l *tormented) consume(client int) {
	for n := 0; l.ctx.Err() == nil; n++ {
		queue := fmt.Sprintf("/v2/queues/torture-%d", n%tortureQueues)
		body := fmt.Sprintf(`{"ttl":%d,"grace":60}`, int(claimTTL/time.Second))
		var claimed struct {
			Messages []struct{ Href, Body string }
		}
		asked := time.Now()
		if !l.ask(client, "POST", queue+"/claims?limit=10", body, "", http.StatusCreated, &claimed) || len(claimed.Messages) == 0 {
			continue
		}
		var names []string
		for _, m := range claimed.Messages {
			names = append(names, m.Body)
		}
		_, claim, _ := strings.Cut(claimed.Messages[0].Href, "?claim_id=")
		l.handedOut(names, claim, asked.Add(claimTTL))
		if rand.IntN(4) == 0 {
			l.givenBack(names)
			l.ask(client, "DELETE", queue+"/claims/"+claim, "", "", http.StatusNoContent, nil)
			continue
		}
		for i, m := range claimed.Messages {
			l.deleted(names[i], false)
			if l.ask(client, "DELETE", m.Href, "", "", http.StatusNoContent, nil) {
				l.deleted(names[i], true)
			}
		}
	}
}

// handedOut notes who has some messages now. Nobody else may have them, for as long as
// a claim lasts that began when it was asked for or later.
func (l *tormented) handedOut(names []string, claim string, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		m := l.messages[name]
		if m == nil {
			l.Errorf("message %q was handed out and never sent", name)
			continue
		}
		if m.gone {
			l.risen++
		}
		if m.holder != "" && time.Now().Before(m.heldAtLeastTo) {
			l.doubled++
		}
		m.holder, m.heldAtLeastTo = claim, until
	}
}

// givenBack notes that a claim is about to be released.
func (l *tormented) givenBack(names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		if m := l.messages[name]; m != nil {
			m.holder = ""
		}
	}
}

// deleted notes that a message is about to be deleted, or that it was.
func (l *tormented) deleted(name string, gone bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := l.messages[name]; m != nil {
		m.asked, m.gone = true, m.gone || gone
	}
}

// ask makes one request and tells whether it was answered as it should be. An empty
// claim is; it carries nothing.
func (l *tormented) ask(which int, method, path, body, key string, status int, into any) bool {
	l.gate.RLock()
	defer l.gate.RUnlock()
	time.Sleep(l.pace) // a steady load, not the most there can be
	nabu := l.nabus[which%len(l.nabus)]
	got, text, err := l.send(nabu, method, path, body, key)
	switch {
	case l.ctx.Err() != nil:
		return false
	case err != nil, got == http.StatusServiceUnavailable, got == http.StatusConflict && key != "": // which is at work yet
		l.failures.Add(1)
		time.Sleep(10 * time.Millisecond)
		return false
	case got != status && got != http.StatusNoContent:
		l.failures.Add(1)
		l.Errorf("%s %s: %d: %s", method, path, got, text)
		return false
	}
	if into != nil && len(text) > 0 {
		if err := json.Unmarshal(text, into); err != nil {
			l.Errorf("%s %s: %v", method, path, err)
		}
	}
	nabu.count.Add(1)
	l.answered()
	return true
}

func (l *tormented) send(nabu *answering, method, path, body, key string) (int, []byte, error) {
	r, err := http.NewRequestWithContext(l.ctx, method, "http://"+nabu.address+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Client-ID", "8c9e5b1a-6c1f-4d0c-9b53-6f4e3c1d2a01")
	r.Header.Set("X-Project-ID", "torture")
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	response, err := l.client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("cut off: %w", err)
	}
	return response.StatusCode, text, err
}

func (l *tormented) answered() {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.longest = max(l.longest, now.Sub(l.last))
	l.last = now
}

// answersOf waits until some of the nabus have answered so many more requests each. No
// other help than time is given.
func (l *tormented) answersOf(more int64, nabus ...*answering) {
	l.Helper()
	want := make([]int64, len(nabus))
	for i, nabu := range nabus {
		want[i] = nabu.count.Load() + more
	}
	eventually.Holds(l.T, fmt.Sprintf("%d more requests are answered", more), func() bool {
		for i, nabu := range nabus {
			if nabu.count.Load() < want[i] {
				return false
			}
		}
		return true
	})
}

// silence waits until all requests are over, and lets none begin while f runs.
func (l *tormented) silence(f func()) {
	l.gate.Lock()
	defer l.gate.Unlock()
	f()
	l.mu.Lock()
	l.last = time.Now()
	l.mu.Unlock()
}
