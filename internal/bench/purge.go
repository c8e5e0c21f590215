package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// purging is a purge of one queue while others post to another.
type purging struct {
	took   time.Duration
	beside *Measured // the posts
	check  Check
}

// measurePurges purges a queue of ten messages and a large one, several times.
func measurePurges(ctx context.Context, s *stage, r *Report, large int) error {
	const share, small = 10, 10
	rate, err := s.lightRate(ctx, r, share)
	if err != nil {
		return err
	}
	sizes := []int{small, large}
	took, beside, checks := make([][]float64, len(sizes)), make([][]*Measured, len(sizes)), make([]Check, len(sizes))
	runs := 2*s.Runs - 1 // a single request is a rough measure
	for n := range runs {
		for i, size := range sizes {
			s.progress(fmt.Sprintf("purge of %d, run %d of %d", size, n+1, runs))
			p, err := s.purge(ctx, size, rate)
			if err != nil {
				return fmt.Errorf("purge of %d: %w", size, err)
			}
			took[i], beside[i] = append(took[i], milliseconds(p.took)), append(beside[i], p.beside)
			checks[i].Add(p.check)
		}
	}
	var lines []Line
	for i, size := range sizes {
		lines = append(lines, newLine(scenario{name: fmt.Sprintf("posts beside a purge of %d", size), connections: 32}, beside[i], &checks[i]))
		r.least(fmt.Sprintf("purge of %d", size), median(took[i]), "ms", 0)
	}
	r.Lines = append(r.Lines, lines...)
	r.most(fmt.Sprintf("purge, time with %d / %d messages", large, small), ratio(took[1], took[0]), "", purgeToSmall)
	r.most("p99 of posts beside these purges", ratio(lines[1].runsP99, lines[0].runsP99), "", besidePurge)
	return nil
}

// purge fills a queue, and purges it at the beginning of the time in which the posts
// of others count.
func (s *stage) purge(ctx context.Context, messages int, rate float64) (p purging, err error) {
	queue, err := s.supply(ctx)
	if err != nil {
		return p, err
	}
	if err := queue.Fill(ctx, messages); err != nil {
		return p, err
	}
	s.settle(ctx)
	var others sync.WaitGroup
	var posted *Posted
	var posting error
	others.Go(func() {
		posted, posting = PostLoad{
			Addresses: []string{queue.address}, Connections: 32, Queues: 1, PerRequest: 1, Body: s.Body,
			Warmup: s.Warmup, Duration: s.Duration, Rate: rate,
		}.Run(ctx)
	})
	pause(ctx, s.Warmup)
	p.took, err = queue.purge()
	others.Wait()
	if err := errors.Join(err, posting); err != nil {
		return p, err
	}
	if posted.Measured.Requests == 0 {
		return p, fmt.Errorf("no post was answered; errors: %d %s", posted.Measured.Errors, posted.Measured.FirstErr)
	}
	p.beside = posted.Measured
	if p.check, err = queue.Check(ctx, queue.address, s.pageSize()); err != nil {
		return p, err
	}
	check, err := posted.Check(ctx, queue.address, s.pageSize())
	p.check.Add(check)
	return p, err
}

// purge empties the queue and looks at once whether it is empty.
func (s *supply) purge() (time.Duration, error) {
	c := newConn(s.address, requestTimeout)
	defer c.close()
	var counted stats
	if err := get(c, statsPath(s.queue(0)), &counted); err != nil {
		return 0, err
	}
	if wanted := s.remaining(); counted.Messages.Total != wanted {
		return 0, fmt.Errorf("the queue counts %d messages, not %d", counted.Messages.Total, wanted)
	}
	path := "/v2/queues/" + s.queue(0) + "/purge"
	request := requestText(http.MethodPost, path, sender, `{"resource_types":["messages"]}`)
	began := time.Now()
	r, err := c.do(request)
	took := time.Since(began)
	if err := wanted(r, err, "POST "+path, http.StatusNoContent); err != nil {
		return 0, err
	}
	s.purged = true
	s.left.Store(0)
	if err := get(c, statsPath(s.queue(0)), &counted); err != nil {
		return 0, err
	}
	if counted.Messages.Total != 0 {
		return 0, fmt.Errorf("right after its purge the queue counts %d messages", counted.Messages.Total)
	}
	return took, nil
}
