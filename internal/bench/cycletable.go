package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"nabu/internal/postgres"
)

// How a long cycle has to end, measured by how it began.
const (
	lastRateToFirst = 0.9
	lastWaitToFirst = 1.5
)

// longCycle is the duration from which on the tenths of a cycle are shown.
const longCycle = time.Minute

// tenths are the parts of a long cycle.
const tenths = 10

// cycleLines are the lines of some cycles.
type cycleLines struct {
	posts, claims         Line
	postParts, claimParts []Line
}

func (c cycleLines) all() []Line {
	return append(append([]Line{c.posts, c.claims}, c.postParts...), c.claimParts...)
}

// cycleOf shares connections out between producers and consumers.
func (s *stage) cycleOf(address string, connections int) CycleLoad {
	producers := max(1, connections/2)
	return CycleLoad{
		Address: address, Producers: producers, Consumers: max(1, connections-producers), Body: s.Body,
		Warmup: s.Warmup, Duration: s.Duration, Rate: s.Rate, Wait: s.Wait,
	}
}

func measureCycle(ctx context.Context, s *stage, r *Report) error {
	address, err := s.address(ctx)
	if err != nil {
		return err
	}
	l := s.cycleOf(address, s.Connections)
	if l.Duration >= longCycle {
		l.Parts = tenths
	}
	name := "cycle"
	if l.Wait > 0 {
		name = fmt.Sprintf("cycle, waiting up to %d s", l.Wait)
	}
	lines, err := s.cycles(ctx, name, s.Runs, l, s.HoldSnapshot)
	if err != nil {
		return err
	}
	r.Lines = append(r.Lines, lines.all()...)
	r.compareTenths(name, lines, 0, 0)
	return nil
}

// measureWaits measures how long messages wait when nobody is in a hurry, and how long the
// baseline handler takes to answer as many requests: a machine that disturbs those disturbs these.
func measureWaits(ctx context.Context, s *stage, r *Report) error {
	const connections, share = 32, 10
	address, err := s.address(ctx)
	if err != nil {
		return err
	}
	l := s.cycleOf(address, connections)
	if l.Rate, err = s.lightRate(ctx, r, share); err != nil {
		return err
	}
	lines, err := s.cycles(ctx, "cycle, planned", s.Runs, l, 0)
	if err != nil {
		return err
	}
	r.Lines = append(r.Lines, lines.all()...)
	floor := baseline(connections, l.Rate)
	floor.name += ", planned"
	floors, err := s.measure(ctx, floor)
	if err != nil {
		return err
	}
	r.Lines = append(r.Lines, floors...)
	r.most(fmt.Sprintf("post to claim, p99, at %.0f posts per second", l.Rate), median(lines.claims.runsP99), "ms", mostWait)
	r.least("baseline, p99, at the same rate", median(floors[0].runsP99), "ms", 0)
	return nil
}

// measureEndurance cycles for long, with a snapshot held open beside it for half of
// the time.
func measureEndurance(ctx context.Context, s *stage, r *Report) error {
	const connections, longer = 32, 60
	address, err := s.address(ctx)
	if err != nil {
		return err
	}
	l := s.cycleOf(address, connections)
	if l.Rate == 0 {
		lines, err := s.cycles(ctx, "cycle", s.Runs, l, 0)
		if err != nil {
			return err
		}
		r.Lines = append(r.Lines, lines.all()...)
		l.Rate = lines.claims.Messages / 2
	}
	l.Duration *= longer
	l.Parts = tenths
	lines, err := s.cycles(ctx, "endurance", 1, l, l.Duration/2)
	if err != nil {
		return err
	}
	r.Lines = append(r.Lines, lines.all()...)
	r.compareTenths("endurance", lines, lastRateToFirst, lastWaitToFirst)
	return nil
}

// compareTenths sets the end of a long cycle in relation to its beginning.
func (r *Report) compareTenths(name string, c cycleLines, leastRate, mostWait float64) {
	if len(c.claimParts) == 0 {
		return
	}
	first, last := c.claimParts[0], c.claimParts[tenths-1]
	r.least(name+", last tenth / first, deleted messages", ratio(last.runsMessages, first.runsMessages), "", leastRate)
	if wait := ratio(last.runsP99, first.runsP99); mostWait > 0 {
		r.most(name+", last tenth / first, p99 of post to claim", wait, "", mostWait)
	} else {
		r.least(name+", last tenth / first, p99 of post to claim", wait, "", 0)
	}
	posts := ratio(c.postParts[tenths-1].runsP99, c.postParts[0].runsP99)
	r.least(name+", last tenth / first, p99 of posts", posts, "", 0)
}

// lightRate is a share of the posts that get answered when nothing is planned, or
// the rate that was asked for.
func (s *stage) lightRate(ctx context.Context, r *Report, share float64) (float64, error) {
	if s.Rate > 0 {
		return s.Rate, nil
	}
	if s.posts == 0 {
		lines, err := s.measure(ctx, post("post", 32, 1, 1))
		if err != nil {
			return 0, err
		}
		r.Lines = append(r.Lines, lines...)
		s.posts = lines[0].Requests
	}
	return s.posts / share, nil
}

// cycles makes the same cycle several times, each with a snapshot held open beside
// it for a while.
func (s *stage) cycles(ctx context.Context, name string, runs int, l CycleLoad, held time.Duration) (c cycleLines, err error) {
	var posts, claims []*Measured
	sum := &Check{}
	for n := range runs {
		s.progress(fmt.Sprintf("%s, %d and %d connections, run %d of %d", name, l.Producers, l.Consumers, n+1, runs))
		s.settle(ctx)
		cycled, check, err := s.cycle(ctx, l, held)
		if err != nil {
			return c, fmt.Errorf("%s: %w", name, err)
		}
		posts, claims = append(posts, cycled.Measured), append(claims, cycled.Claims)
		sum.Add(*check)
	}
	posting, claiming := scenario{name: name + ", posts", connections: l.Producers}, scenario{name: name + ", post to claim", connections: l.Consumers}
	c.posts, c.claims = newLine(posting, posts, nil), newLine(claiming, claims, sum)
	c.postParts, c.claimParts = partLines(posting, posts, l.Parts), partLines(claiming, claims, l.Parts)
	return c, nil
}

// partLines are lines of their own for the parts of the time.
func partLines(sc scenario, runs []*Measured, parts int) []Line {
	lines := make([]Line, parts)
	for i := range lines {
		part := sc
		part.name = fmt.Sprintf("%s, part %d of %d", sc.name, i+1, parts)
		of := make([]*Measured, len(runs))
		for n, run := range runs {
			of[n] = &run.parts[i]
		}
		lines[i] = newLine(part, of, nil)
	}
	return lines
}

// cycle makes one cycle and looks for its messages.
func (s *stage) cycle(ctx context.Context, l CycleLoad, held time.Duration) (*Cycled, *Check, error) {
	release, err := s.hold(ctx, l.Warmup+l.Duration/tenths, held)
	if err != nil {
		return nil, nil, err
	}
	cycled, err := l.Run(ctx)
	if err := errors.Join(err, release()); err != nil {
		return nil, nil, err
	}
	for _, m := range append([]Measured{*cycled.Claims}, cycled.Claims.parts...) {
		if m.Messages == 0 {
			return nil, nil, fmt.Errorf("no message came through, in all of the time or in a part of it; errors: %d %s",
				cycled.Claims.Errors, cycled.Claims.FirstErr)
		}
	}
	check, err := cycled.Check(ctx, l.Address, s.pageSize())
	return cycled, &check, err
}

// hold opens a snapshot of nabu's database after a while, and holds it for a time or
// until it is released.
func (s *stage) hold(ctx context.Context, after, open time.Duration) (release func() error, err error) {
	if open == 0 {
		return func() error { return nil }, nil
	}
	url, err := s.database(ctx, postgres.App)
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(ctx)
	held := make(chan error, 1)
	go func() { held <- snapshot{url, after, open}.hold(ctx) }()
	return func() error {
		end()
		return <-held
	}, nil
}
