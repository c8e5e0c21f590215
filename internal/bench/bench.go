package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
)

// Run measures what the options ask for. The report is what was found before any
// error.
func Run(ctx context.Context, o Options) (report *Report, err error) {
	report = &Report{Lines: []Line{}, Findings: []Finding{}}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // the generator's own memory is no concern
	s := newStage(o)
	defer func() { err = errors.Join(err, s.close()) }()
	var single []scenario
	for _, name := range o.Scenarios {
		if sc, known := o.scenario(name); known {
			single = append(single, sc)
			continue
		}
		if whole := wholes[name]; whole != nil {
			if err := whole(ctx, s, report); err != nil {
				return report, err
			}
			continue
		}
		return report, fmt.Errorf("unknown scenario %q", name)
	}
	lines, err := s.measure(ctx, single...)
	if err != nil {
		return report, err
	}
	report.Lines = append(report.Lines, lines...)
	report.compare(lines)
	return report, nil
}

// wholes are the scenarios that consist of several and know what to make of them.
var wholes = map[string]func(context.Context, *stage, *Report) error{
	"cycle":     measureCycle,
	"stats":     func(ctx context.Context, s *stage, r *Report) error { return measureStats(ctx, s, r, s.Fill) },
	"depth":     func(ctx context.Context, s *stage, r *Report) error { return measureDepth(ctx, s, r, s.Fill) },
	"heads":     func(ctx context.Context, s *stage, r *Report) error { return measureHeads(ctx, s, r, s.Fill) },
	"purge":     func(ctx context.Context, s *stage, r *Report) error { return measurePurges(ctx, s, r, s.Fill) },
	"tasks":     func(ctx context.Context, s *stage, r *Report) error { return measureTasks(ctx, s, r, s.Fill) },
	"read":      measureRead,
	"rebuild":   func(ctx context.Context, s *stage, r *Report) error { return measureRebuild(ctx, s, r, s.Fill) },
	"replicas":  measureReplicas,
	"delay":     measureDelay,
	"deliver":   measureDeliver,
	"events":    measureEvents,
	"footprint": measureFootprint,
	"waits":     measureWaits,
	"endurance": measureEndurance,
	"table":     measureTable,
}

// compared are the scenarios that are set in relation to others when they run
// together.
var compared = []struct {
	of, to   string
	messages bool // rather than requests
}{
	{"post", "baseline", false},
	{"post10", "rows", true},
	{"claim", "baseline", false},
	{"emptyclaim", "baseline", false},
	{"claimbulk", "skiplocked", true},
}

// compare sets single scenarios in relation to each other.
func (r *Report) compare(lines []Line) {
	find := func(name string) int {
		return slices.IndexFunc(lines, func(l Line) bool { return l.Scenario == name })
	}
	for _, pair := range compared {
		of, to := find(pair.of), find(pair.to)
		switch {
		case of < 0 || to < 0:
		case pair.messages:
			r.least(pair.of+" / "+pair.to+", messages", ratio(lines[of].runsMessages, lines[to].runsMessages), "", 0)
		default:
			r.least(pair.of+" / "+pair.to, ratio(lines[of].runs, lines[to].runs), "", 0)
		}
	}
}
