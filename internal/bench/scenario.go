package bench

import (
	"context"
	"errors"
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
	Fill        int // messages in the large queue of a scenario
	Page        int
	Body        int     // bytes
	Rate        float64 // of post and cycle, posts per second; 0: as many as get answered
	Warmup      time.Duration
	Duration    time.Duration
	Runs        int // of each scenario; the median counts
	// Encrypt: queues of post, post10, claim and claimbulk encrypt their messages. Of a
	// nabu of the bench's own.
	Encrypt bool
	// HoldSnapshot is how long a transaction with a snapshot is held open beside
	// each cycle, from its second tenth on.
	HoldSnapshot time.Duration
	// Wait is how long the claims of a cycle may wait for messages, whole seconds; 0: they
	// are answered at once.
	Wait int

	Binary   string   // nabu's program
	Environ  []string // what it is started with
	Progress func(string)
	// For read: the ledger with all columns, and decoded.
	ReadStored, ReadDecoded LedgerReader
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
		return baseline(o.Connections, o.Rate), true
	case "rows":
		return rows(), true
	case "list":
		return list("list", o.Connections, o.Fill, true), true
	case "claim":
		return claim("claim", o.Connections, deleteEach), true
	case "claimbulk":
		return claim("claimbulk", o.Connections, deleteByIDs), true
	case "emptyclaim":
		return emptyClaim(o.Connections), true
	case "skiplocked":
		return skipLocked(o.Connections), true
	}
	return scenario{}, false
}

// Scenarios are the names of all scenarios.
func Scenarios() []string {
	return []string{
		"post", "post10", "list", "claim", "claimbulk", "cycle", "emptyclaim", "stats", "depth", "heads", "purge", "tasks",
		"rebuild", "baseline", "rows", "skiplocked", "read", "replicas", "delay", "deliver", "events", "footprint", "waits", "endurance", "table",
	}
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
		Body: s.Body, Warmup: s.Warmup, Duration: s.Duration, Rate: s.Rate, Metadata: s.metadata(),
	}.Run(ctx)
	if err != nil {
		return nil, nil, err
	}
	check, err := posted.Check(ctx, addresses[0], s.pageSize())
	return posted.Measured, &check, err
}

// baseline has one message in each request, like post. Rate: see PostLoad.
func baseline(connections int, rate float64) scenario {
	return scenario{"baseline", connections, func(ctx context.Context, s *stage) (*Measured, *Check, error) {
		address, err := s.baselineAddress(ctx)
		if err != nil {
			return nil, nil, err
		}
		posted, err := PostLoad{
			Addresses: []string{address}, Connections: connections, Queues: s.Queues, PerRequest: 1,
			Body: s.Body, Warmup: s.Warmup, Duration: s.Duration, Rate: rate,
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

// leastSupply is how many messages a queue has that is claimed from, at first.
const leastSupply = 20_000

// claim claims ten messages and deletes them, again and again, on a queue that is
// filled beforehand.
func claim(name string, connections int, d deleting) scenario {
	return scenario{name, connections, func(ctx context.Context, s *stage) (*Measured, *Check, error) {
		queue, err := s.supply(ctx)
		if err != nil {
			return nil, nil, err
		}
		m, err := claimLoad{
			supply: queue, connections: connections, how: claimTen(d, timeClaims), least: max(s.Fill, leastSupply),
			warmup: s.Warmup, duration: s.Duration,
		}.run(ctx)
		if err != nil {
			return nil, nil, err
		}
		check, err := queue.Check(ctx, queue.address, s.pageSize())
		return m, &check, err
	}}
}

// emptyClaim claims from a queue whose messages are all gone.
func emptyClaim(connections int) scenario {
	return scenario{"emptyclaim", connections, func(ctx context.Context, s *stage) (*Measured, *Check, error) {
		queue, err := s.supply(ctx)
		if err != nil {
			return nil, nil, err
		}
		if err := queue.Fill(ctx, 10); err != nil {
			return nil, nil, err
		}
		if err := queue.UseUp(ctx, claimTen(deleteByIDs, timeClaims)); err != nil {
			return nil, nil, err
		}
		m, err := pollLoad(s, queue, connections).run(ctx)
		if err != nil {
			return nil, nil, err
		}
		check, err := queue.Check(ctx, queue.address, s.pageSize())
		return m, &check, err
	}}
}

// skipLocked is what claimbulk is compared with.
func skipLocked(connections int) scenario {
	return scenario{"skiplocked", connections, func(ctx context.Context, s *stage) (*Measured, *Check, error) {
		url, err := s.database(ctx, postgres.App)
		if err != nil {
			return nil, nil, err
		}
		l := SkipLockedLoad{DatabaseURL: url, Connections: connections, Body: s.Body, Warmup: s.Warmup, Duration: s.Duration}
		if s.DatabaseURL == "" { // whose password every process of the machine could read
			l.Pgbench = findPgbench(s.Environ)
		}
		m, err := l.Run(ctx)
		return m, nil, err
	}}
}
