package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"
)

// deliverRate is how many messages are posted in a second where it is measured how long
// they take to arrive.
const deliverRate = 300

// measureDeliver posts to a queue that nobody has subscribed to, that one has, and that ten
// have, and looks when what was posted arrives.
func measureDeliver(ctx context.Context, s *stage, r *Report) error {
	const connections = 32
	var arrived [3]Measured
	lines, err := s.measure(ctx,
		delivering("post, no subscriber", connections, 0, 0, nil),
		delivering("post, 1 subscriber", connections, 1, 0, &arrived[0]),
		delivering("post, 10 subscribers", connections, 10, 0, &arrived[1]),
		delivering(fmt.Sprintf("post %d/s, 1 subscriber", deliverRate), connections, 1, deliverRate, &arrived[2]))
	if err != nil {
		return err
	}
	r.Lines = append(r.Lines, lines...)
	r.least("post with 1 subscriber / with none", ratio(lines[1].runs, lines[0].runs), "", 0)
	r.least("post with 10 subscribers / with none", ratio(lines[2].runs, lines[0].runs), "", 0)
	r.least("webhooks to 1 subscriber beside posts", arrived[0].perSecond(arrived[0].Requests), "/s", 0)
	r.least("webhooks to 10 subscribers beside posts", arrived[1].perSecond(arrived[1].Requests), "/s", 0)
	r.least(fmt.Sprintf("p50 from post to arrival, %d posts/s", deliverRate), milliseconds(arrived[2].Latency.Quantile(0.5)), "ms", 0)
	r.least(fmt.Sprintf("p99 from post to arrival, %d posts/s", deliverRate), milliseconds(arrived[2].Latency.Quantile(0.99)), "ms", 0)
	return nil
}

// delivering posts while subscribers get what is posted. arrived takes what did.
func delivering(name string, connections, subscribers int, rate float64, arrived *Measured) scenario {
	return scenario{name, connections, func(ctx context.Context, s *stage) (*Measured, *Check, error) {
		address, err := s.address(ctx)
		if err != nil {
			return nil, nil, err
		}
		if err := checkBody(s.Body); err != nil {
			return nil, nil, err
		}
		l := PostLoad{
			Addresses: []string{address}, Connections: connections, Queues: 1, PerRequest: 1,
			Body: s.Body, Warmup: s.Warmup, Duration: s.Duration, Rate: rate,
		}
		p := newPosted(1)
		counting := time.Now().Add(l.Warmup)
		webhooks := newArrivals(counting, counting.Add(l.Duration))
		defer webhooks.server.Close()
		path := "/v2/queues/" + p.queue(0)
		for i := range subscribers {
			body := fmt.Sprintf(`{"subscriber":"%s/%d","ttl":3600}`, webhooks.server.URL, i)
			if err := ask(address, "POST", path+"/subscriptions", body, http.StatusCreated); err != nil {
				return nil, nil, err
			}
		}
		m, err := l.load(p.addPosters(l)).run(ctx)
		if subscribers > 0 { // what is still to be delivered must not disturb the next run
			err = errors.Join(err, ask(address, "POST", path+"/purge", `{"resource_types":["subscriptions"]}`, http.StatusNoContent))
			its := webhooks.measured()
			arrived.merge(its)
			arrived.Took += its.Took
		}
		return m, nil, err
	}}
}

// arrivals is a subscriber's server, which takes everything and reads the stamps.
type arrivals struct {
	server       *httptest.Server
	start, until time.Time // of the time that counts

	mu  sync.Mutex
	all Measured
}

func newArrivals(start, until time.Time) *arrivals {
	a := &arrivals{start: start, until: until}
	a.server = httptest.NewServer(a)
	return a
}

func (a *arrivals) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	now := time.Now()
	text, err := io.ReadAll(r.Body)
	if err != nil || now.Before(a.start) || now.After(a.until) {
		return
	}
	_, text, _ = bytes.Cut(text, []byte(`{"n":"`))
	a.mu.Lock()
	defer a.mu.Unlock()
	if its, err := readStamp(text); err == nil {
		a.all.Requests++
		a.all.Latency.Add(its.age(now))
	}
}

// measured is what arrived in the time that counts.
func (a *arrivals) measured() *Measured {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all.Took = a.until.Sub(a.start)
	return &a.all
}
