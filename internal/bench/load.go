// Package bench measures nabu: it makes load over HTTP as cheaply as it can, checks
// that nothing acknowledged was lost, and sets the figures in relation to what the
// machine can do at all. It must never be part of the service.
package bench

import (
	"cmp"
	"context"
	"sync"
	"time"
)

// worker makes the requests of one connection.
type worker interface {
	// next is the next request as it stands on the wire; nil: there are no more. It
	// is asked for when the one before was answered.
	next() []byte
	// answered takes the answer to the last request, or the error in its place. It
	// tells how many messages were carried, or why the answer is none.
	answered(r response, err error) (messages int, failure error)
}

// load is requests to one or several servers over many connections.
type load struct {
	addresses   []string // connections are dealt to them in turn
	connections int
	warmup      time.Duration // before anything is counted
	duration    time.Duration
	// rate of requests per second over all connections, planned ahead: a late answer
	// counts from when the request should have gone out. 0: each connection sends as
	// soon as it was answered.
	rate    float64
	workers []worker
}

// Measured is what a load came to.
type Measured struct {
	Requests int
	Messages int
	Errors   int
	FirstErr string
	Took     time.Duration
	Latency  Histogram
}

// requestTimeout is for a server that hangs; a slow one is to be seen in the figures.
const requestTimeout = 30 * time.Second

// errorPause keeps connections from spinning while a server is away.
const errorPause = 5 * time.Millisecond

// run makes the load until its time is over or ctx ends.
func (l load) run(ctx context.Context) (*Measured, error) {
	start := time.Now()
	counting := start.Add(l.warmup)
	w := window{counting, counting.Add(l.duration), l.rate > 0}
	parts := make([]Measured, l.connections)
	var all sync.WaitGroup
	for i := range l.connections {
		all.Go(func() {
			c := newConn(l.addresses[i%len(l.addresses)], requestTimeout)
			defer c.close()
			parts[i].drive(ctx, c, l.workers[i], planned(l.rate, l.connections, i, start), w)
		})
	}
	all.Wait()
	sum := &Measured{Took: l.duration}
	if w.planned {
		sum.Took = time.Since(counting)
	}
	for i := range parts {
		sum.merge(&parts[i])
	}
	return sum, ctx.Err()
}

// drive makes one connection's requests.
func (m *Measured) drive(ctx context.Context, c *conn, requests worker, p plan, w window) {
	for n := 0; ctx.Err() == nil; n++ {
		from := p.wait(ctx, n)
		if !from.Before(w.end) {
			return
		}
		request := requests.next()
		if request == nil {
			return
		}
		r, err := c.do(request)
		done := time.Now()
		messages, err := requests.answered(r, err)
		switch {
		case err != nil:
			m.Errors++
			m.FirstErr = cmp.Or(m.FirstErr, err.Error())
			pause(ctx, errorPause)
		case w.holds(from, done):
			m.Requests++
			m.Messages += messages
			m.Latency.Add(done.Sub(from))
		}
	}
}

// window is the time whose requests count.
type window struct {
	start, end time.Time
	planned    bool
}

// holds: planned requests belong to the moment they were due, others to the one
// they were answered.
func (w window) holds(from, done time.Time) bool {
	at := done
	if w.planned {
		at = from
	}
	return !at.Before(w.start) && at.Before(w.end)
}

// plan is when the requests of one connection are due.
type plan struct {
	first time.Time
	every time.Duration // 0: at once
}

func planned(rate float64, connections, i int, start time.Time) plan {
	if rate <= 0 {
		return plan{}
	}
	every := time.Duration(float64(connections) / rate * float64(time.Second))
	return plan{start.Add(every * time.Duration(i) / time.Duration(connections)), every}
}

// wait waits until the n-th request is due. It returns the moment from which the
// request counts: a late one counts from when it was due.
func (p plan) wait(ctx context.Context, n int) time.Time {
	if p.every == 0 {
		return time.Now()
	}
	due := p.first.Add(p.every * time.Duration(n))
	if ahead := time.Until(due); ahead > 0 {
		pause(ctx, ahead)
	}
	return due
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (m *Measured) merge(part *Measured) {
	m.Requests += part.Requests
	m.Messages += part.Messages
	m.Errors += part.Errors
	m.FirstErr = cmp.Or(m.FirstErr, part.FirstErr)
	m.Latency.Merge(&part.Latency)
}

// perSecond is a rate over the time that was counted.
func (m *Measured) perSecond(n int) float64 {
	if m.Took <= 0 {
		return 0
	}
	return float64(n) / m.Took.Seconds()
}
