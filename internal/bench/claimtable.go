package bench

import (
	"context"
	"fmt"
)

// What claims have to reach.
const (
	claimToBaseline      = 0.20
	emptyClaimToBaseline = 0.30
	bulkToSkipLocked     = 0.7
	blockedToFree        = 0.9
	mostWait             = 8.0 // milliseconds
	purgeToSmall         = 1.5
	besidePurge          = 2.0
)

func measureClaims(ctx context.Context, s *stage, r *Report) error {
	const connections = 32
	lines, err := s.measure(ctx, baseline(connections, s.Rate), claim("claim", connections, deleteEach), emptyClaim(connections))
	if err != nil {
		return err
	}
	r.Lines = append(r.Lines, lines...)
	r.least("claim 10 and delete each / baseline", ratio(lines[1].runs, lines[0].runs), "", claimToBaseline)
	r.least("claims of an empty queue / baseline", ratio(lines[2].runs, lines[0].runs), "", emptyClaimToBaseline)
	return nil
}

func measureBulkClaims(ctx context.Context, s *stage, r *Report) error {
	const connections = 32
	lines, err := s.measure(ctx, skipLocked(connections), claim("claimbulk", connections, deleteByIDs))
	if err != nil {
		return err
	}
	r.Lines = append(r.Lines, lines...)
	r.least("claim 10 and delete by ids / skip locked, messages", ratio(lines[1].runsMessages, lines[0].runsMessages), "", bulkToSkipLocked)
	return nil
}

// measureLarge measures what must not depend on how much there is.
func measureLarge(ctx context.Context, s *stage, r *Report) error {
	const blocked, large = 100_000, 1_000_000
	if err := measureHeads(ctx, s, r, blocked); err != nil {
		return err
	}
	if err := measureStats(ctx, s, r, large); err != nil {
		return err
	}
	if err := measureDepth(ctx, s, r, large); err != nil {
		return err
	}
	return measurePurges(ctx, s, r, large)
}

// measureHeads claims from queues whose first messages nobody can have: none, claimed
// ones and delayed ones.
func measureHeads(ctx context.Context, s *stage, r *Report, blocked int) error {
	free, err := s.supply(ctx)
	if err != nil {
		return err
	}
	claimed, delayed := newSupply(free.address, s.Body), newSupply(free.address, s.Body)
	s.progress(fmt.Sprintf("filling queues with %d messages", blocked))
	if err := claimed.Fill(ctx, blocked); err != nil {
		return err
	}
	if err := claimed.UseUp(ctx, consuming{limit: 20, delete: deleteNothing}); err != nil {
		return err
	}
	if err := delayed.Create(`{"_default_message_delay":1}`); err != nil {
		return err
	}
	if err := delayed.of(`"delay":900,`).Fill(ctx, blocked); err != nil {
		return err
	}
	lines, err := s.measureSupplies(ctx, claimLoad{connections: 32, how: claimTen(deleteByIDs, timeClaims), least: leastSupply}, []named{
		{"claimbulk, all free", free},
		{fmt.Sprintf("claimbulk, %d claimed in front", blocked), claimed},
		{fmt.Sprintf("claimbulk, %d delayed in front", blocked), delayed.of(`"delay":0,`)},
	})
	if err != nil {
		return err
	}
	r.Lines = append(r.Lines, lines...)
	r.least(fmt.Sprintf("claims behind %d claimed messages / none", blocked), ratio(lines[1].runs, lines[0].runs), "", blockedToFree)
	r.least(fmt.Sprintf("claims behind %d delayed messages / none", blocked), ratio(lines[2].runs, lines[0].runs), "", blockedToFree)
	return nil
}

// measureDepth claims from a small and a large queue, which stay as long as they are.
func measureDepth(ctx context.Context, s *stage, r *Report, large int) error {
	const connections, small = 4, 1000
	few, err := s.supplyOf(ctx, small)
	if err != nil {
		return err
	}
	many, err := s.supplyOf(ctx, large)
	if err != nil {
		return err
	}
	lines, err := s.measureSupplies(ctx, claimLoad{connections: connections, how: claimTen(deleteByIDs, timeClaims), topUp: true}, []named{
		{fmt.Sprintf("claim, delete, post 10; queue of %d", small), few},
		{fmt.Sprintf("claim, delete, post 10; queue of %d", large), many},
	})
	if err != nil {
		return err
	}
	r.Lines = append(r.Lines, lines...)
	r.most(fmt.Sprintf("claim, time with %d / %d messages", large, small), ratio(lines[1].runsP50, lines[0].runsP50), "", largeToSmall)
	return nil
}

// measureStats asks for the figures of a small and of a large queue.
func measureStats(ctx context.Context, s *stage, r *Report, large int) error {
	const connections, small = 4, 1000
	var all []scenario
	for _, size := range []int{small, large} {
		queue, err := s.supplyOf(ctx, size)
		if err != nil {
			return err
		}
		all = append(all, scenario{fmt.Sprintf("stats of %d", size), connections, func(ctx context.Context, s *stage) (*Measured, *Check, error) {
			m, err := statsLoad(s, queue, connections).run(ctx)
			return m, nil, err
		}})
	}
	lines, err := s.measure(ctx, all...)
	if err != nil {
		return err
	}
	r.Lines = append(r.Lines, lines...)
	r.most(fmt.Sprintf("stats, time with %d / %d messages", large, small), ratio(lines[0].runs, lines[1].runs), "", largeToSmall)
	return nil
}

// named is a queue, and what is measured on it.
type named struct {
	scenario string
	queue    *supply
}

// measureSupplies makes the same load on each of some queues, and checks them when
// all is over.
func (s *stage) measureSupplies(ctx context.Context, l claimLoad, queues []named) ([]Line, error) {
	l.warmup, l.duration = s.Warmup, s.Duration
	all := make([]scenario, len(queues))
	for i, on := range queues {
		all[i] = scenario{on.scenario, l.connections, func(ctx context.Context, _ *stage) (*Measured, *Check, error) {
			l := l
			l.supply = on.queue
			m, err := l.run(ctx)
			return m, nil, err
		}}
	}
	lines, err := s.measure(ctx, all...)
	if err != nil {
		return nil, err
	}
	for i, on := range queues {
		check, err := on.queue.Check(ctx, on.queue.address, s.pageSize())
		if err != nil {
			return nil, err
		}
		lines[i].Check = &check
	}
	return lines, nil
}
