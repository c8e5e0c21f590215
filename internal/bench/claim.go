package bench

import (
	"context"
	"errors"
	"time"
)

// claimLoad claims the messages of a supply, and fills it up again whenever it runs
// low: the time in between is not counted.
type claimLoad struct {
	supply      *supply
	connections int
	how         consuming
	least       int // messages that it is filled up to, if not more
	// topUp: whoever has dealt with a claim posts as many messages as it may have
	// been, so that the queue stays as long as it is and needs no filling.
	topUp    bool
	warmup   time.Duration
	duration time.Duration
}

// A supply is filled so far that it lasts, or as far as some seconds allow.
const (
	mostSupply  = 500_000
	spareSupply = 1.3
)

// run makes the load.
func (l claimLoad) run(ctx context.Context) (*Measured, error) {
	sum := &Measured{}
	warmup, workers := l.warmup, l.workers()
	wanted := l.least
	for round := 0; sum.Took < l.duration; round++ {
		if l.topUp && round > 0 {
			return sum, errors.New("a queue that is topped up ran dry")
		}
		if !l.topUp {
			if err := l.supply.Fill(ctx, wanted); err != nil {
				return sum, err
			}
		}
		left, began := l.supply.left.Load(), time.Now()
		m, err := load{
			addresses: []string{l.supply.address}, connections: l.connections, workers: workers,
			warmup: warmup, duration: l.duration - sum.Took, together: true,
		}.run(ctx)
		sum.follow(m)
		if err != nil {
			return sum, err
		}
		perSecond := float64(left-l.supply.left.Load()) / time.Since(began).Seconds()
		warmup = l.warmup / 10
		next := spareSupply * perSecond * (l.duration - sum.Took + warmup).Seconds()
		wanted = max(l.least, min(int(next), mostSupply))
	}
	return sum, nil
}

// workers are the connections': the same in each load on a supply, so that they go
// on with what they had begun.
func (l claimLoad) workers() []worker {
	s := l.supply
	workers := make([]worker, l.connections)
	for i := range workers {
		if i == len(s.users) {
			c := s.addConsumer(s, l.how)
			if l.topUp {
				c.topUp = s.addPosters(PostLoad{
					Connections: 1, Queues: 1, PerRequest: l.how.limit, Body: s.body, Members: s.members,
				})[0]
			}
			s.users = append(s.users, c)
		}
		workers[i] = s.users[i]
	}
	return workers
}
