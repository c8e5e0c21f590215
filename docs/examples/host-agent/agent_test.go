package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	stdhttp "net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nabu/commands"
	"nabu/domain"
	"nabu/http"
	"nabu/internal/pgtest"
	"nabu/projections"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const server = "11111111-1111-1111-1111-111111111111"

// cloud is a nabu whose clock the test moves, and a network that cuts connections.
type cloud struct {
	testing.TB
	url *url.URL

	mu       sync.Mutex
	now      time.Time
	requests int
	cuts     func(n int, r *stdhttp.Request) cut // what becomes of the n-th request
}

// cut is where a connection is cut.
type cut int

const (
	whole cut = iota
	beforeRequest
	beforeAnswer
)

func newCloud(t testing.TB) *cloud {
	database := pgtest.Open(t)
	c := &cloud{TB: t, now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), cuts: func(int, *stdhttp.Request) cut { return whole }}
	clock := func() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }
	log := slog.New(slog.DiscardHandler)
	news := commands.NewNews()
	executor := commands.NewExecutor(commands.Config{
		DB: database.DB(), Loader: projections.States{}, Projector: projections.Inlines{}, Limits: domain.DefaultLimits(), Log: log, Now: clock, News: news,
	})
	nabu := http.New(http.Config{
		Executor: executor, News: news, Views: &projections.Views{DB: database.DB(), Now: clock}, Database: database.DB(),
		Limits: domain.DefaultLimits(), Log: log,
		Computes: http.Computes{Events: domain.EventRules{ServiceProject: "service", TTL: domain.DefaultLimits().MaxMessageTTL}},
	}).Handler()
	front := httptest.NewServer(stdhttp.HandlerFunc(func(w stdhttp.ResponseWriter, r *stdhttp.Request) { c.pass(nabu, w, r) }))
	t.Cleanup(func() {
		front.CloseClientConnections()
		front.Close()
		if err := executor.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	var err error
	if c.url, err = url.Parse(front.URL); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cloud) pass(nabu stdhttp.Handler, w stdhttp.ResponseWriter, r *stdhttp.Request) {
	c.mu.Lock()
	c.requests++
	where := c.cuts(c.requests, r)
	c.mu.Unlock()
	switch where {
	case beforeRequest:
		panic(stdhttp.ErrAbortHandler)
	case beforeAnswer:
		nabu.ServeHTTP(httptest.NewRecorder(), r)
		panic(stdhttp.ErrAbortHandler)
	}
	nabu.ServeHTTP(w, r)
}

// advance lets time pass, so that claims expire whose answer was lost.
func (c *cloud) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (c *cloud) call(method, path, body string) {
	c.Helper()
	r, err := stdhttp.NewRequestWithContext(c.Context(), method, c.url.String()+path, strings.NewReader(body))
	if err != nil {
		c.Fatal(err)
	}
	r.Header.Set("X-Project-ID", "service")
	answer, err := stdhttp.DefaultClient.Do(r)
	if err != nil {
		c.Fatal(err)
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != stdhttp.StatusOK {
		c.Fatalf("%s %s: %s: %s", method, path, answer.Status, text)
	}
}

func (c *cloud) assign(body string) {
	c.Helper()
	c.call("PUT", "/v2.1/os-server-hosts/"+server, `{"server_host": `+body+`}`)
}

// tell tells of events with the numbers from a first to a last one as their tags.
func (c *cloud) tell(first, last int) {
	c.Helper()
	var events []string
	for n := first; n <= last; n++ {
		events = append(events, fmt.Sprintf(`{"name": "network-vif-plugged", "server_uuid": "%s", "tag": "%d"}`, server, n))
	}
	c.call("POST", "/v2.1/os-server-external-events", `{"events": [`+strings.Join(events, ", ")+`]}`)
}

// deeds are what agents have done, in order.
type deeds struct {
	mu   sync.Mutex
	done []event
}

func (d *deeds) act(_ context.Context, e event) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done = append(d.done, e)
	return nil
}

func (d *deeds) all() []event {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.done)
}

// starts an agent of a host. stop ends it and waits.
func (c *cloud) starts(host, folder string, d *deeds) (stop func()) {
	c.Helper()
	done, err := openJournal(filepath.Join(folder, host))
	if err != nil {
		c.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a := &agent{nabu: c.url, host: host, client: newClientID(), done: done, pause: time.Millisecond, act: d.act, log: func(error) {}}
	var running sync.WaitGroup
	running.Go(func() { _ = a.run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if err := done.Close(); err != nil {
			c.Error(err)
		}
	})
	c.Cleanup(stop)
	return stop
}

// until waits for a condition, while the clock goes a thousand times too fast.
func (c *cloud) until(what string, holds func() bool) {
	c.Helper()
	deadline := time.After(60 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
			c.advance(time.Second)
		case <-deadline:
			c.Fatalf("never: %s", what)
		}
	}
}

func tags(events []event) (tags []string) {
	for _, e := range events {
		tags = append(tags, *e.Tag)
	}
	return tags
}

// TestAnAgentThatLosesItsConnection, and is started again in the middle, acts on each event
// of its host once.
func TestAnAgentThatLosesItsConnection(t *testing.T) {
	c := newCloud(t)
	c.assign(`{"host": "compute1"}`)
	c.tell(1, 30)
	var deletions, again int
	c.mu.Lock()
	c.cuts = func(n int, r *stdhttp.Request) cut {
		switch {
		case r.Method == stdhttp.MethodDelete:
			if deletions++; deletions%7 == 0 {
				again++ // it was acted on, and comes again
				return beforeRequest
			}
			if deletions%5 == 0 {
				return beforeAnswer
			}
		case r.Method == stdhttp.MethodPost && strings.Contains(r.URL.Path, "/claims") && n%4 == 0:
			return beforeAnswer // what it claimed nobody knows
		case n%9 == 0 && strings.Contains(r.URL.Path, "/claims"):
			return beforeRequest
		}
		return whole
	}
	c.mu.Unlock()
	d, folder := &deeds{}, t.TempDir()
	stop := c.starts("compute1", folder, d)
	c.until("some are done", func() bool { return len(d.all()) >= 8 })
	stop()
	c.tell(31, 60) // nobody is there to wait for them
	c.starts("compute1", folder, d)
	c.until("all are done", func() bool { return len(d.all()) >= 60 })
	c.until("all are deleted", func() bool { return c.left("compute1") == 0 })
	got := tags(d.all())
	slices.Sort(got)
	if len(got) != 60 || len(slices.Compact(got)) != 60 {
		t.Errorf("acted on %v", got)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if again == 0 {
		t.Error("nothing came twice")
	}
}

// left is how many messages a host's queue holds.
func (c *cloud) left(host string) (total int) {
	c.Helper()
	c.mu.Lock()
	cuts := c.cuts
	c.cuts = func(int, *stdhttp.Request) cut { return whole }
	c.mu.Unlock()
	defer func() { c.mu.Lock(); c.cuts = cuts; c.mu.Unlock() }()
	a := &agent{nabu: c.url, host: host, client: newClientID(), project: "service"}
	var stats struct{ Messages struct{ Total int } }
	if err := a.call(c.Context(), stdhttp.MethodGet, "/v2/queues/"+domain.HostQueue(host)+"/stats", "", &stats); err != nil {
		c.Fatal(err)
	}
	return stats.Messages.Total
}

// TestAMigration: events reach the source and the destination, each with its role, and no
// other host.
func TestAMigration(t *testing.T) {
	c := newCloud(t)
	folder := t.TempDir()
	hosts := map[string]*deeds{"compute1": {}, "compute2": {}, "compute3": {}}
	for host, d := range hosts {
		c.starts(host, folder, d)
	}
	c.assign(`{"host": "compute1"}`)
	c.tell(1, 1)
	c.assign(`{"host": "compute1", "source_host": "compute1", "dest_host": "compute2"}`)
	c.tell(2, 2)
	c.assign(`{"host": "compute2", "source_host": "compute1", "dest_host": "compute2"}`)
	c.tell(3, 3)
	c.assign(`{"host": "compute2"}`)
	c.tell(4, 4)
	c.until("all have arrived", func() bool { return len(hosts["compute1"].all()) == 3 && len(hosts["compute2"].all()) == 3 })
	for host, want := range map[string][]string{
		"compute1": {"1 current", "2 current", "3 source"},
		"compute2": {"2 destination", "3 current", "4 current"},
		"compute3": nil,
	} {
		var got []string
		for _, e := range hosts[host].all() {
			got = append(got, *e.Tag+" "+e.Role)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s got %v, want %v", host, got, want)
		}
	}
	first, second := hosts["compute1"].all()[1], hosts["compute2"].all()[0]
	if first.ID != second.ID || first.Host != "compute1" || second.Host != "compute2" {
		t.Errorf("the copies of one event are %+v and %+v", first, second)
	}
}

// TestAnActThatFails is done again when its claim has expired.
func TestAnActThatFails(t *testing.T) {
	c := newCloud(t)
	c.assign(`{"host": "compute1"}`)
	c.tell(1, 3)
	d, failures := &deeds{}, 0
	done, err := openJournal(filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = done.Close() })
	a := &agent{nabu: c.url, host: "compute1", client: newClientID(), done: done, log: func(error) {}, act: func(ctx context.Context, e event) error {
		if failures++; failures == 2 {
			return fmt.Errorf("not now")
		}
		return d.act(ctx, e)
	}}
	if err := a.once(t.Context()); err == nil {
		t.Error("nothing failed")
	}
	c.advance(61 * time.Second)
	if err := a.once(t.Context()); err != nil {
		t.Error(err)
	}
	if got := tags(d.all()); !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("acted on %v", got)
	}
}
