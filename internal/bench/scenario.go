package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"nabu/internal/postgres"
)

// Options are what is measured, and how.
type Options struct {
	Scenarios   []string // of Scenarios
	Address     string   // host:port of a nabu; empty: one of the bench's own
	DatabaseURL string   // for rows and replicas; empty: that of the bench's own nabu
	Connections int
	Queues      int
	Fill        int // messages in the queue of list
	Page        int
	Body        int     // bytes
	Rate        float64 // of post, requests per second; 0: as many as get answered
	Warmup      time.Duration
	Duration    time.Duration
	Runs        int // of each scenario; the median counts

	Binary   string   // nabu's program
	Environ  []string // what it is started with
	Progress func(string)
}

// scenario is one thing that is measured.
type scenario struct {
	name        string
	connections int
	run         func(context.Context, *stage) (*Measured, *Check, error)
}

// scenario finds one of those that can be measured by themselves.
func (o Options) scenario(name string) (scenario, bool) {
	switch name {
	case "post":
		return post("post", o.Connections, o.Queues, 1), true
	case "post10":
		return post("post10", o.Connections, o.Queues, 10), true
	case "baseline":
		return baseline(o.Connections), true
	case "rows":
		return rows(), true
	case "list":
		return list("list", o.Connections, o.Fill, true), true
	}
	return scenario{}, false
}

// Scenarios are the names of all scenarios.
func Scenarios() []string {
	return []string{"post", "post10", "baseline", "rows", "list", "replicas", "footprint", "table"}
}

func post(name string, connections, queues, perRequest int) scenario {
	return scenario{name, connections, func(ctx context.Context, s *stage) (*Measured, *Check, error) {
		address, err := s.address(ctx)
		if err != nil {
			return nil, nil, err
		}
		return s.post(ctx, connections, queues, perRequest, address)
	}}
}

// post makes the load and then looks for what was acknowledged.
func (s *stage) post(ctx context.Context, connections, queues, perRequest int, addresses ...string) (*Measured, *Check, error) {
	posted, err := PostLoad{
		Addresses: addresses, Connections: connections, Queues: queues, PerRequest: perRequest,
		Body: s.Body, Warmup: s.Warmup, Duration: s.Duration, Rate: s.Rate,
	}.Run(ctx)
	if err != nil {
		return nil, nil, err
	}
	check, err := posted.Check(ctx, addresses[0], s.pageSize())
	return posted.Measured, &check, err
}

// baseline has one message in each request, like post.
func baseline(connections int) scenario {
	return scenario{"baseline", connections, func(ctx context.Context, s *stage) (*Measured, *Check, error) {
		address, err := s.baselineAddress(ctx)
		if err != nil {
			return nil, nil, err
		}
		posted, err := PostLoad{
			Addresses: []string{address}, Connections: connections, Queues: s.Queues, PerRequest: 1,
			Body: s.Body, Warmup: s.Warmup, Duration: s.Duration, Rate: s.Rate,
		}.Run(ctx)
		if err != nil {
			return nil, nil, err
		}
		return posted.Measured, nil, nil
	}}
}

func rows() scenario {
	return scenario{"rows", 1, func(ctx context.Context, s *stage) (*Measured, *Check, error) {
		url, err := s.database(ctx, postgres.App)
		if err != nil {
			return nil, nil, err
		}
		m, err := RowsLoad{DatabaseURL: url, Body: s.Body, Warmup: s.Warmup, Duration: s.Duration}.Run(ctx)
		return m, nil, err
	}}
}

func list(name string, connections, fill int, anywhere bool) scenario {
	return scenario{name, connections, func(ctx context.Context, s *stage) (*Measured, *Check, error) {
		address, err := s.address(ctx)
		if err != nil {
			return nil, nil, err
		}
		filled, err := s.queueOf(ctx, fill)
		if err != nil {
			return nil, nil, err
		}
		if filled.Acknowledged() <= s.Page {
			return nil, nil, errors.New("the queue has to hold more than one page")
		}
		m, err := ListLoad{
			Address: address, Connections: connections, Filled: filled, Page: s.Page, Anywhere: anywhere,
			Warmup: s.Warmup, Duration: s.Duration,
		}.Run(ctx)
		return m, nil, err
	}}
}

// replicas posts to several nabus on one PostgreSQL.
func replicas(name string, connections, n int) scenario {
	return scenario{name, connections, func(ctx context.Context, s *stage) (*Measured, *Check, error) {
		var addresses []string
		for i := range n {
			address, err := s.replica(ctx, i)
			if err != nil {
				return nil, nil, err
			}
			addresses = append(addresses, address)
		}
		return s.post(ctx, connections, 1, 1, addresses...)
	}}
}

// measure runs scenarios in turn, several times, so that what disturbs the machine
// for a while disturbs them alike.
func (s *stage) measure(ctx context.Context, all ...scenario) ([]Line, error) {
	runs := make([][]*Measured, len(all))
	checks := make([]*Check, len(all))
	for n := range s.Runs {
		for i, sc := range all {
			s.progress(fmt.Sprintf("%s, %d connections, run %d of %d", sc.name, sc.connections, n+1, s.Runs))
			runtime.GC()
			m, check, err := sc.run(ctx, s)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", sc.name, err)
			}
			runs[i] = append(runs[i], m)
			if check != nil && checks[i] == nil {
				checks[i] = &Check{}
			}
			if check != nil {
				checks[i].Add(*check)
			}
		}
	}
	lines := make([]Line, len(all))
	for i, sc := range all {
		lines[i] = newLine(sc, runs[i], checks[i])
	}
	return lines, nil
}

func (s *stage) progress(text string) {
	if s.Progress != nil {
		s.Progress(text)
	}
}

// newLine is the median of some runs, and how far they lie apart.
func newLine(sc scenario, runs []*Measured, check *Check) Line {
	var requests, messages []float64
	for _, run := range runs {
		requests = append(requests, run.perSecond(run.Requests))
		messages = append(messages, run.perSecond(run.Messages))
	}
	slices.SortFunc(runs, func(a, b *Measured) int {
		return cmp.Compare(a.perSecond(a.Requests), b.perSecond(b.Requests))
	})
	m, low, high := runs[len(runs)/2], runs[0], runs[len(runs)-1]
	line := Line{
		Scenario: sc.name, Connections: sc.connections,
		Requests: m.perSecond(m.Requests), Lowest: low.perSecond(low.Requests), Highest: high.perSecond(high.Requests),
		Messages: m.perSecond(m.Messages),
		P50:      milliseconds(m.Latency.Quantile(0.5)), P99: milliseconds(m.Latency.Quantile(0.99)),
		P999: milliseconds(m.Latency.Quantile(0.999)), Max: milliseconds(m.Latency.Max()),
		Check: check, runs: requests, runsMessages: messages,
	}
	for _, run := range runs {
		line.Errors += run.Errors
		line.FirstError = cmp.Or(line.FirstError, run.FirstErr)
	}
	return line
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
