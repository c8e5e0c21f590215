package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"nabu/internal/bench"
)

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

// pound begins to post to a nabu, over some connections: so often in a second, or, if that is 0,
// as often as it answers.
func pound(t *testing.T, address string, rate float64) *pounding {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &pounding{t: t, end: cancel, marks: map[int64]chan struct{}{}, ended: make(chan struct{})}
	load := bench.PostLoad{
		Addresses: []string{address}, Connections: 16, Queues: 3, PerRequest: 1, Body: 100,
		Duration: time.Hour, Rate: rate, OnAcknowledged: p.count,
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

func TestStoppedUnderLoadNabuLosesNothing(t *testing.T) {
	t.Parallel()
	data := newDataDir(t)
	var rounds []*bench.Posted
	for range 2 {
		nabu := serveProgram(t, "--data-dir", data)
		load := pound(t, nabu.Address, 0)
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

// TestAHangupStopsNabuAsSIGTERMDoes, and the log names it.
func TestAHangupStopsNabuAsSIGTERMDoes(t *testing.T) {
	t.Parallel()
	// Who runs the tests under nohup has them inherit that hangups are ignored. What is
	// caught here is not ignored in what is started from here.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	defer signal.Stop(caught)
	nabu := serveProgram(t, "--data-dir", newDataDir(t))
	if err := syscall.Kill(nabu.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	<-nabu.Ended()
	if err := nabu.Stop(); err != nil { // it has, and tells how
		t.Error(err)
	}
	for _, words := range []string{`"msg":"stopping","because":"hangup signal received"`, `"msg":"stopped"`} {
		if !strings.Contains(nabu.LastWords(), words) {
			t.Errorf("%s is not in the log:\n%s", words, nabu.LastWords())
		}
	}
}
