package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"nabu/internal/bench"
	"nabu/internal/postgres"
)

// The tests of this file kill the real program, or its PostgreSQL, under load and
// look for everything that was acknowledged. NABU_TORTURE=10m makes each of them go
// on for so long; otherwise they take a few rounds.

const tortureVariable = "NABU_TORTURE"

// anotherRound tells whether a test is to go on after so many rounds.
func anotherRound(t *testing.T, began time.Time, done, short int) bool {
	t.Helper()
	text := os.Getenv(tortureVariable)
	if text == "" {
		return done < short
	}
	long, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("%s: %v", tortureVariable, err)
	}
	return time.Since(began) < long
}

// pounding is posts that go on until they are told to end.
type pounding struct {
	t      *testing.T
	end    context.CancelFunc
	acked  atomic.Int64
	mu     sync.Mutex
	marks  map[int64]chan struct{} // closed when so many requests were acknowledged
	posted *bench.Posted
	ended  chan struct{}
}

// pound begins to post to a nabu, one message at a time over some connections and
// several over others.
func pound(t *testing.T, address string, perRequest int) *pounding {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &pounding{t: t, end: cancel, marks: map[int64]chan struct{}{}, ended: make(chan struct{})}
	load := bench.PostLoad{
		Addresses: []string{address}, Connections: 16, Queues: 3, PerRequest: perRequest, Body: 100,
		Duration: time.Hour, OnAcknowledged: p.count,
	}
	go func() {
		defer close(p.ended)
		posted, err := load.Run(ctx)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the load ended with %v", err)
		}
		p.posted = posted
	}()
	return p
}

func (p *pounding) count() {
	n := p.acked.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if mark := p.marks[n]; mark != nil {
		close(mark)
	}
}

// wait waits until that many more requests were acknowledged.
func (p *pounding) wait(more int64) {
	p.t.Helper()
	mark := make(chan struct{})
	p.mu.Lock()
	p.marks[p.acked.Load()+more] = mark
	p.mu.Unlock()
	select {
	case <-mark:
	case <-time.After(time.Minute):
		p.t.Fatalf("no %d further posts were acknowledged within a minute", more)
	}
}

// stop ends the load and returns what was posted.
func (p *pounding) stop() *bench.Posted {
	p.end()
	<-p.ended
	return p.posted
}

// nothingLost looks for all that was acknowledged in some rounds.
func nothingLost(t *testing.T, address string, rounds []*bench.Posted) bench.Check {
	t.Helper()
	var sum bench.Check
	for _, posted := range rounds {
		check, err := posted.Check(context.Background(), address, 1000)
		if err != nil {
			t.Fatal(err)
		}
		sum.Add(check)
	}
	if err := sum.Err(); err != nil {
		t.Error(err)
	}
	if len(rounds) > 0 && sum.Acknowledged == 0 {
		t.Error("nothing was acknowledged at all")
	}
	return sum
}

// serveProgram starts the real program.
func serveProgram(t *testing.T, args ...string) *bench.Process {
	t.Helper()
	args = append([]string{"serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--max-messages-per-page", "1000"}, args...)
	p, err := bench.StartProcess(context.Background(), built(t), cleanEnviron(), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestKilledUnderLoadNabuLosesNothing(t *testing.T) {
	t.Parallel()
	data := newDataDir(t)
	var rounds []*bench.Posted
	n, began := 0, time.Now()
	for ; anotherRound(t, began, n, 5); n++ {
		nabu := serveProgram(t, "--data-dir", data)
		nothingLost(t, nabu.Address, rounds[max(0, len(rounds)-3):])
		load := pound(t, nabu.Address, 1+n%3*4)
		load.wait(100 + rand.Int64N(1500))
		nabu.Kill()
		rounds = append(rounds, load.stop())
	}
	nabu := serveProgram(t, "--data-dir", data)
	sum := nothingLost(t, nabu.Address, rounds)
	if err := nabu.Stop(); err != nil {
		t.Error(err)
	}
	t.Logf("killed %d times: %d messages acknowledged, %d lost, %d doubled; %d more were committed when nobody was there to hear it",
		n, sum.Acknowledged, sum.Lost, sum.Doubled, sum.Unconfirmed)
}

func TestStoppedUnderLoadNabuLosesNothing(t *testing.T) {
	t.Parallel()
	data := newDataDir(t)
	var rounds []*bench.Posted
	n, began := 0, time.Now()
	for ; anotherRound(t, began, n, 2); n++ {
		nabu := serveProgram(t, "--data-dir", data)
		load := pound(t, nabu.Address, 1)
		load.wait(100 + rand.Int64N(500))
		if err := nabu.Stop(); err != nil {
			t.Error(err)
		}
		rounds = append(rounds, load.stop())
	}
	nabu := serveProgram(t, "--data-dir", data)
	sum := nothingLost(t, nabu.Address, rounds)
	if sum.Unconfirmed > 0 {
		t.Errorf("%d messages were committed and their senders not told, although nabu had the time", sum.Unconfirmed)
	}
	if err := nabu.Stop(); err != nil {
		t.Error(err)
	}
}

func TestNabuOutlivesItsDatabase(t *testing.T) {
	t.Parallel()
	config := postgres.Config{DataDir: newDataDir(t), Program: "a test"}
	server, err := postgres.Start(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Stop(context.Background()) }()
	nabu := serveProgram(t,
		"--database-url", server.URL(postgres.App, postgres.Database),
		"--direct-database-url", server.URL(postgres.Owner, postgres.Database))
	load := pound(t, nabu.Address, 1)
	n, began := 0, time.Now()
	for ; anotherRound(t, began, n, 4); n++ {
		load.wait(100 + rand.Int64N(1500))
		if err := syscall.Kill(server.PID(), syscall.SIGQUIT); err != nil { // what pg_ctl -m immediate does
			t.Fatal(err)
		}
		<-server.Done()
		if err := server.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		again, err := postgres.Start(context.Background(), config)
		if err != nil {
			t.Fatal(err)
		}
		server = again
	}
	load.wait(1000) // nobody helped nabu
	posted := load.stop()
	sum := nothingLost(t, nabu.Address, []*bench.Posted{posted})
	if err := nabu.Stop(); err != nil {
		t.Error(err)
	}
	t.Logf("PostgreSQL was cut off %d times: %d messages acknowledged, %d lost, %d doubled; %d requests failed, %d messages of theirs were committed",
		n, sum.Acknowledged, sum.Lost, sum.Doubled, posted.Measured.Errors, sum.Unconfirmed)
}
