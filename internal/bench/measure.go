package bench

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// measure runs scenarios in turn, several times, so that what disturbs the machine
// for a while disturbs them alike.
func (s *stage) measure(ctx context.Context, all ...scenario) ([]Line, error) {
	runs := make([][]*Measured, len(all))
	checks := make([]*Check, len(all))
	for n := range s.Runs {
		for i, sc := range all {
			s.progress(fmt.Sprintf("%s, %d connections, run %d of %d", sc.name, sc.connections, n+1, s.Runs))
			s.settle(ctx)
			m, check, err := sc.run(ctx, s)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", sc.name, err)
			}
			if m.Requests == 0 {
				return nil, fmt.Errorf("%s: nothing was answered in the time that counts; errors: %d %s", sc.name, m.Errors, m.FirstErr)
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
	var line Line
	for _, run := range runs {
		line.runs = append(line.runs, run.perSecond(run.Requests))
		line.runsMessages = append(line.runsMessages, run.perSecond(run.Messages))
		line.runsP50 = append(line.runsP50, milliseconds(run.Latency.Quantile(0.5)))
		line.runsP99 = append(line.runsP99, milliseconds(run.Latency.Quantile(0.99)))
		line.Errors += run.Errors
		line.FirstError = cmp.Or(line.FirstError, run.FirstErr)
	}
	sorted := slices.SortedFunc(slices.Values(runs), func(a, b *Measured) int {
		return cmp.Compare(a.perSecond(a.Requests), b.perSecond(b.Requests))
	})
	m, low, high := sorted[len(sorted)/2], sorted[0], sorted[len(sorted)-1]
	line.Scenario, line.Connections, line.Check = sc.name, sc.connections, check
	line.Requests, line.Messages = m.perSecond(m.Requests), m.perSecond(m.Messages)
	line.Lowest, line.Highest = low.perSecond(low.Requests), high.perSecond(high.Requests)
	line.P50, line.P99 = milliseconds(m.Latency.Quantile(0.5)), milliseconds(m.Latency.Quantile(0.99))
	line.P999, line.Max = milliseconds(m.Latency.Quantile(0.999)), milliseconds(m.Latency.Max())
	line.Stolen, line.WorstStolen = m.Stolen, m.WorstStolen
	return line
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
