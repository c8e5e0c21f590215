// Package bench measures nabu: it makes load over HTTP as cheaply as it can, checks
// that nothing acknowledged was lost, and sets the figures in relation to what the
// machine can do at all. It must never be part of the service.
package bench

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// worker makes the requests of one connection.
type worker interface {
	// next is the next request as it stands on the wire, which counts from the given
	// moment; nil: there are no more. It is asked for when the one before was
	// answered.
	next(from time.Time) []byte
	// answered takes the answer to the last request, or the error in its place. It
	// tells what came of it, or why nothing did.
	answered(r response, err error) (outcome, error)
}

// outcome is what came of a request.
type outcome struct {
	messages int             // that were carried
	untimed  bool            // how long the request took is of no interest
	times    []time.Duration // others that are; good until the next request
}

// errNothing is the answer to a request that polled in vain. It is no failure and
// does not count; the connection waits a moment before it asks again.
var errNothing = errors.New("there was nothing to be had")

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
	// together: the first connection that has no more requests ends the time that is
	// counted, for all.
	together bool
	// parts is into how many pieces the time is cut that are measured by themselves
	// as well; 0: none.
	parts int
}

// Measured is what a load came to.
type Measured struct {
	Requests int
	Messages int
	Errors   int
	FirstErr string
	Took     time.Duration
	Latency  Histogram
	// Stolen is the part of all cores' time that the host gave to others meanwhile, to the second,
	// and WorstStolen that of the second in which it was largest; percent. 0: none, or it is not known.
	Stolen, WorstStolen float64

	parts []Measured // of the time, one after the other, if that was asked for
}

// requestTimeout is for a server that hangs; a slow one is to be seen in the figures.
const requestTimeout = 30 * time.Second

const (
	// errorPause keeps connections from spinning while a server is away.
	errorPause = 5 * time.Millisecond
	// pollPause is how long a connection waits that found nothing. Sixteen of them
	// still look three times in a millisecond.
	pollPause = 5 * time.Millisecond
)

// run makes the load until its time is over or ctx ends.
func (l load) run(ctx context.Context) (*Measured, error) {
	start, cores := time.Now(), logCores()
	counting := start.Add(l.warmup)
	w := &window{start: counting, end: counting.Add(l.duration), planned: l.rate > 0}
	each := make([]Measured, l.connections)
	var all sync.WaitGroup
	for i := range l.connections {
		each[i].parts = make([]Measured, l.parts)
		all.Go(func() {
			c := newConn(l.addresses[i%len(l.addresses)], requestTimeout)
			defer c.close()
			last := each[i].drive(ctx, c, l.workers[i], planned(l.rate, l.connections, i, start), w)
			if last && l.together {
				w.close()
			}
		})
	}
	all.Wait()
	cores.close()
	sum := &Measured{Took: max(0, w.until().Sub(counting)), parts: make([]Measured, l.parts)}
	for i := range sum.parts {
		part := &sum.parts[i]
		part.Took = l.duration / time.Duration(l.parts)
		began := counting.Add(time.Duration(i) * part.Took)
		part.Stolen, part.WorstStolen = cores.stolen(began, began.Add(part.Took))
	}
	if w.planned {
		sum.Took = time.Since(counting)
	}
	sum.Stolen, sum.WorstStolen = cores.stolen(counting, counting.Add(sum.Took))
	for i := range each {
		sum.merge(&each[i])
	}
	return sum, ctx.Err()
}

// drive makes one connection's requests. It tells whether they came to an end
// before the time did.
func (m *Measured) drive(ctx context.Context, c *conn, requests worker, p plan, w *window) (last bool) {
	for n := 0; ctx.Err() == nil; n++ {
		from := p.wait(ctx, n)
		if !from.Before(w.until()) {
			return false
		}
		request := requests.next(from)
		if request == nil {
			return true
		}
		r, err := c.do(request)
		done := time.Now()
		came, err := requests.answered(r, err)
		switch {
		case errors.Is(err, errNothing):
			pause(ctx, pollPause)
		case err != nil:
			m.Errors++
			m.FirstErr = cmp.Or(m.FirstErr, err.Error())
			pause(ctx, errorPause)
		case w.holds(from, done):
			m.count(came, done.Sub(from))
			if len(m.parts) > 0 {
				m.parts[w.part(from, done, len(m.parts))].count(came, done.Sub(from))
			}
		}
	}
	return false
}

func (m *Measured) count(came outcome, took time.Duration) {
	m.Requests++
	m.Messages += came.messages
	if !came.untimed {
		m.Latency.Add(took)
	}
	for _, d := range came.times {
		m.Latency.Add(d)
	}
}

// window is the time whose requests count.
type window struct {
	start, end time.Time
	planned    bool
	closed     atomic.Pointer[time.Time] // before its end
}

// close ends the window now, unless it has ended.
func (w *window) close() {
	now := time.Now()
	w.closed.CompareAndSwap(nil, &now)
}

func (w *window) until() time.Time {
	if closed := w.closed.Load(); closed != nil && closed.Before(w.end) {
		return *closed
	}
	return w.end
}

// holds: planned requests belong to the moment they were due, others to the one
// they were answered.
func (w *window) holds(from, done time.Time) bool {
	at := w.moment(from, done)
	return !at.Before(w.start) && at.Before(w.until())
}

// part is the piece, of some of the same length, to which a request belongs that the
// window holds.
func (w *window) part(from, done time.Time, parts int) int {
	return int(w.moment(from, done).Sub(w.start) * time.Duration(parts) / w.end.Sub(w.start))
}

func (w *window) moment(from, done time.Time) time.Time {
	if w.planned {
		return from
	}
	return done
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

// merge adds what another part of the same load came to.
func (m *Measured) merge(part *Measured) {
	m.Requests += part.Requests
	m.Messages += part.Messages
	m.Errors += part.Errors
	m.FirstErr = cmp.Or(m.FirstErr, part.FirstErr)
	m.Latency.Merge(&part.Latency)
	for i := range part.parts {
		m.parts[i].merge(&part.parts[i])
	}
}

// follow adds what the same load came to afterwards.
func (m *Measured) follow(later *Measured) {
	m.merge(later)
	m.Took += later.Took
	if m.Took > 0 {
		m.Stolen += (later.Stolen - m.Stolen) * float64(later.Took) / float64(m.Took)
	}
	m.WorstStolen = max(m.WorstStolen, later.WorstStolen)
}

// perSecond is a rate over the time that was counted.
func (m *Measured) perSecond(n int) float64 {
	if m.Took <= 0 {
		return 0
	}
	return float64(n) / m.Took.Seconds()
}
