package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// What nabu has to reach.
const (
	postToBaseline32  = 0.30
	postToBaseline128 = 0.40
	tailToMedian      = 4.0
	post10ToRows      = 0.55
	largeToSmall      = 1.1
	manyToOneQueue    = 0.95
	twoToOneReplica   = 0.8
	threeToOneReplica = 0.7
	delayToNone       = 0.3
	idleMegabytes     = 60.0
	loadMegabytes     = 200.0
	firstAnswer       = 3.0 // seconds, with an empty data folder
	nextAnswer        = 1.0 // seconds, with data
)

// measureTable measures everything that nabu has to reach.
func measureTable(ctx context.Context, s *stage, r *Report) error {
	for _, part := range []func(context.Context, *stage, *Report) error{
		measureFootprint, measurePosts, measureBatches, measureQueues, measureReplicas, measureDelay, measureLists,
		measureClaims, measureBulkClaims, measureWaits, measureLarge, measureHistory,
	} {
		if err := part(ctx, s, r); err != nil {
			return err
		}
	}
	return nil
}

// measureHistory reads a ledger and rebuilds from it. It is one that the other parts have
// not written to: some of their events are of thousands of messages.
func measureHistory(ctx context.Context, s *stage, r *Report) error {
	return s.apart(func(own *stage) error {
		if err := measureRead(ctx, own, r); err != nil {
			return err
		}
		return measureRebuild(ctx, own, r, 1_000_000)
	})
}

// apart measures on a nabu that has seen nothing else, where the bench starts its own.
func (s *stage) apart(measure func(*stage) error) error {
	if s.Address != "" {
		return measure(s)
	}
	own := newStage(s.Options)
	return errors.Join(measure(own), own.close())
}

func measurePosts(ctx context.Context, s *stage, r *Report) error {
	for _, c := range []struct {
		connections int
		least       float64
	}{{32, postToBaseline32}, {128, postToBaseline128}} {
		lines, err := s.measure(ctx, baseline(c.connections, s.Rate), post("post", c.connections, 1, 1))
		if err != nil {
			return err
		}
		r.Lines = append(r.Lines, lines...)
		r.least(fmt.Sprintf("post / baseline, %d connections", c.connections), ratio(lines[1].runs, lines[0].runs), "", c.least)
		if c.connections == 32 {
			s.posts = lines[1].Requests
			r.most("p99 / p50 of post, 32 connections", lines[1].P99/lines[1].P50, "", tailToMedian)
		}
	}
	return nil
}

func measureBatches(ctx context.Context, s *stage, r *Report) error {
	lines, err := s.measure(ctx, rows(), post("post10", 32, 1, 10))
	if err != nil {
		return err
	}
	r.Lines = append(r.Lines, lines...)
	r.least("post10 / rows, messages", ratio(lines[1].runsMessages, lines[0].runsMessages), "", post10ToRows)
	return nil
}

func measureQueues(ctx context.Context, s *stage, r *Report) error {
	lines, err := s.measure(ctx, post("post", 32, 1, 1), post("post, 1000 queues", 32, 1000, 1))
	if err != nil {
		return err
	}
	r.Lines = append(r.Lines, lines...)
	r.least("1000 queues / one", ratio(lines[1].runs, lines[0].runs), "", manyToOneQueue)
	return nil
}

// measureReplicas posts to one and to several nabus on one PostgreSQL, and leaves none of them
// behind for later parts.
func measureReplicas(ctx context.Context, s *stage, r *Report) error {
	return s.apart(func(own *stage) error { return own.measureReplicas(ctx, r) })
}

func (s *stage) measureReplicas(ctx context.Context, r *Report) error {
	for _, several := range []struct {
		name           string
		n, connections int
		least          float64
	}{{"two replicas", 2, 32, twoToOneReplica}, {"three replicas", 3, 128, threeToOneReplica}} {
		lines, err := s.measure(ctx, replicas("one replica", several.connections, 1), replicas(several.name, several.connections, several.n))
		if err != nil {
			return err
		}
		r.Lines = append(r.Lines, lines...)
		r.least(fmt.Sprintf("%s / one, %d connections", several.name, several.connections), ratio(lines[1].runs, lines[0].runs), "", several.least)
	}
	return nil
}

func measureLists(ctx context.Context, s *stage, r *Report) error {
	const connections, small, large = 4, 1000, 1_000_000
	for _, where := range []struct {
		name     string
		anywhere bool
	}{{"first page", false}, {"any page", true}} {
		lines, err := s.measure(ctx,
			list(fmt.Sprintf("%s of %d", where.name, small), connections, small, where.anywhere),
			list(fmt.Sprintf("%s of %d", where.name, large), connections, large, where.anywhere))
		if err != nil {
			return err
		}
		r.Lines = append(r.Lines, lines...)
		r.most(fmt.Sprintf("%s, time with %d / %d messages", where.name, large, small), ratio(lines[0].runs, lines[1].runs), "", largeToSmall)
	}
	return nil
}

// idleTime is how long a nabu that has nothing to do is left alone before it is
// weighed.
const idleTime = 2 * time.Second

// measureFootprint starts a nabu of its own, kills it and starts it again, and puts
// load on it.
func measureFootprint(ctx context.Context, s *stage, r *Report) error {
	if s.Address != "" {
		return fmt.Errorf("footprint: only a nabu of the bench's own can be killed; leave out --url")
	}
	s.progress("footprint")
	return s.apart(func(own *stage) error { return own.measureFootprint(ctx, r) })
}

func (s *stage) measureFootprint(ctx context.Context, r *Report) error {
	for _, start := range []struct {
		name string
		most float64
		end  func() error
	}{
		{"first answer, empty data folder", firstAnswer, func() error { s.nabu.Kill(); return nil }},
		{"first answer after kill -9", nextAnswer, func() error { return s.nabu.Stop() }},
		{"first answer after a stop", nextAnswer, nil},
	} {
		took, err := s.timeToAnswer(ctx)
		if err != nil {
			return err
		}
		r.most(start.name, took.Seconds(), "s", start.most)
		if start.end == nil {
			break
		}
		if err := start.end(); err != nil {
			return err
		}
		s.nabu = nil
	}
	pause(ctx, idleTime)
	idle, _ := s.nabu.Memory()
	r.most("memory, idle", megabytes(idle), "MB", idleMegabytes)
	if _, _, err := s.post(ctx, 32, 1, 1, s.nabu.Address); err != nil {
		return err
	}
	_, most := s.nabu.Memory()
	r.most("memory, highest under post", megabytes(most), "MB", loadMegabytes)
	return nil
}

// timeToAnswer starts the nabu and posts a message as soon as that can be.
func (s *stage) timeToAnswer(ctx context.Context) (time.Duration, error) {
	if err := s.startOwn(ctx); err != nil {
		return 0, err
	}
	posted, err := Fill(ctx, s.nabu.Address, 1, s.Body)
	if err != nil {
		return 0, err
	}
	if posted.Acknowledged() != 1 {
		return 0, fmt.Errorf("the first message was not acknowledged")
	}
	return time.Since(s.nabu.Started), nil
}

func megabytes(n int64) float64 { return float64(n) / 1e6 }
