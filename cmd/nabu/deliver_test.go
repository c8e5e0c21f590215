package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/bench"
	"nabu/internal/eventually"
	"nabu/internal/postgres"
)

// The deliveries' torture: messages to many subscribers, of whom some fail at random and
// one hangs, while nabu is killed over and over.
const (
	tortureSubscribers = 50
	failingSubscribers = 10 // 1 to 10; 0 hangs
	mostFailures       = 6  // of one message, so that no policy comes to its end
	deliveryKills      = 5
	deliveryPolicy     = `{"retries_with_no_delay": 2, "minimum_delay_retries": 3, "minimum_delay": 1, "maximum_delay": 11, "maximum_delay_retries": 3}`
)

// subscribed is the receiver of all subscribers: each has a path.
type subscribed struct {
	*httptest.Server
	mu     sync.Mutex
	taken  map[string]map[string]int // calls that were answered with 200, by path and body
	failed map[string]int            // those that were not, by both
	ended  chan struct{}
}

func newSubscribed(t *testing.T) *subscribed {
	s := &subscribed{taken: map[string]map[string]int{}, failed: map[string]int{}, ended: make(chan struct{})}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		close(s.ended)
		s.Close()
	})
	return s
}

func (s *subscribed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var m struct {
		Body json.RawMessage `json:"body"`
	}
	text, err := io.ReadAll(r.Body)
	var which int
	_, err2 := fmt.Sscanf(r.URL.Path, "/%d", &which)
	if err != nil || err2 != nil || json.Unmarshal(text, &m) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if which == 0 {
		select {
		case <-r.Context().Done():
		case <-s.ended:
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	call := r.URL.Path + " " + string(m.Body)
	if which <= failingSubscribers && s.failed[call] < mostFailures && rand.IntN(3) == 0 {
		s.failed[call]++
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if s.taken[r.URL.Path] == nil {
		s.taken[r.URL.Path] = map[string]int{}
	}
	s.taken[r.URL.Path][string(m.Body)]++
}

// missing counts deliveries that live subscribers have not got, and those they got twice.
func (s *subscribed) missing(messages int) (missing, doubled int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 1; i < tortureSubscribers; i++ {
		taken := s.taken[fmt.Sprintf("/%d", i)]
		missing += messages - len(taken)
		for _, n := range taken {
			doubled += n - 1
		}
	}
	return missing, doubled
}

func TestDeliveriesSurviveKills(t *testing.T) {
	t.Parallel()
	messages := 100
	if _, limited := tortureTime(t); limited {
		messages = 1000
	}
	receiver := newSubscribed(t)
	w := &tortured{T: t, config: postgres.Config{DataDir: newDataDir(t), Program: "a test"}}
	w.args, w.nabus = [][]string{{"--data-dir", w.config.DataDir, "--webhook-timeout", "1s"}}, make([]*bench.Process, 1)
	w.Cleanup(func() { w.nabus[0].Kill() })
	w.serve(0)
	for i := range tortureSubscribers {
		w.mustPost("subscriptions", fmt.Sprintf(`{"subscriber": "%s/%d", "ttl": 86400, "options": {"_retry_policy": %s}}`, receiver.URL, i, deliveryPolicy))
	}
	began := time.Now()
	for i := 0; i < messages; i += 10 {
		bodies := make([]string, 10)
		for n := range bodies {
			bodies[n] = fmt.Sprintf(`{"ttl": 3600, "body": %d}`, i+n)
		}
		w.mustPost("messages", `{"messages": [`+strings.Join(bodies, ",")+`]}`)
		if (i/10)%(messages/10/deliveryKills) == messages/10/deliveryKills-1 {
			pauseUpTo(300 * time.Millisecond)
			w.nabus[0].Kill()
			w.serve(0)
		}
	}
	deadline := time.Now().Add(4 * time.Minute)
	missing, doubled := receiver.missing(messages)
	for missing > 0 && time.Now().Before(deadline) {
		pauseUpTo(50 * time.Millisecond)
		missing, doubled = receiver.missing(messages)
	}
	took := time.Since(began)
	all := (tortureSubscribers - 1) * messages
	fmt.Printf("%d messages to %d subscribers, %d failing, 1 hanging, %d kills: %d of %d missing, %d doubled (%.2f %%), all there after %.1f s\n",
		messages, tortureSubscribers, failingSubscribers, deliveryKills, missing, all, doubled, 100*float64(doubled)/float64(all), took.Seconds())
	if missing > 0 {
		t.Errorf("%d of %d deliveries are missing", missing, all)
	}
	db, err := postgres.Open(w.database(postgres.App), 2)
	if err != nil {
		t.Fatal(err)
	}
	w.showAttempts(db)
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	w.sameFold()
}

// mustPost posts to the queue until it is answered that it was done.
func (w *tortured) mustPost(what, body string) {
	w.Helper()
	eventually.Holds(w.T, "it is posted", func() bool {
		req, err := http.NewRequestWithContext(w.Context(), http.MethodPost, "http://"+w.nabus[0].Address+"/v2/queues/q/"+what, strings.NewReader(body))
		if err != nil {
			w.Fatal(err)
		}
		req.Header.Set("Client-ID", "9b2f5a5e-03d1-4c55-8f0e-2f6a7c0e11d4")
		req.Header.Set("X-Project-Id", "p")
		req.Header.Set("Content-Type", "application/json")
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusCreated
	})
}

// showAttempts prints the attempts to deliver the message that took the most, beside what
// the policy says, and wants none to be too early.
func (w *tortured) showAttempts(db *sql.DB) {
	w.Helper()
	type key struct {
		subscription domain.SubscriptionID
		place        domain.Place
	}
	attempts := map[key][]domain.DeliveryAttempt{}
	for e, err := range eventstore.ReadAll(context.Background(), db, 0, 1<<62) {
		if err != nil {
			w.Fatal(err)
		}
		if its, ok := e.Event.(domain.DeliveriesAttempted); ok {
			for _, a := range its.Attempts {
				attempts[key{its.Subscription, a.Place}] = append(attempts[key{its.Subscription, a.Place}], a)
			}
		}
	}
	policy, _, err := domain.ParseRetryPolicy([]byte(deliveryPolicy))
	if err != nil {
		w.Fatal(err)
	}
	var longest []domain.DeliveryAttempt
	for _, its := range attempts {
		early := false
		for i := 1; i < len(its) && !early; i++ {
			delay, _ := policy.Delay(its[i].Number - 1)
			early = its[i].Number == its[i-1].Number+1 && its[i].Started.Sub(its[i-1].Started) < delay
		}
		if early {
			w.Errorf("an attempt came too early: %+v", its)
		}
		if last := its[len(its)-1]; len(its) > len(longest) && last.Outcome == domain.DeliveryDelivered {
			longest = its
		}
	}
	fmt.Println("attempt  started       after the one before   the policy's delay   status  outcome")
	for i, a := range longest {
		after, delay := time.Duration(0), time.Duration(0)
		if i > 0 {
			after = a.Started.Sub(longest[i-1].Started)
			delay, _ = policy.Delay(a.Number - 1)
		}
		fmt.Printf("%7d  %s  %19.3f s  %17s  %7d  %s\n", a.Number, a.Started.Format("15:04:05.000"), after.Seconds(), delay, a.Status, a.Outcome)
	}
}
