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
	"replicas":  measureReplicas,
	"footprint": measureFootprint,
	"table":     measureTable,
}

// compare sets single scenarios in relation to the baseline.
func (r *Report) compare(lines []Line) {
	at := slices.IndexFunc(lines, func(l Line) bool { return l.Scenario == "baseline" })
	for _, l := range lines {
		if at >= 0 && l.Scenario == "post" {
			r.least("post / baseline", ratio(l.runs, lines[at].runs), "", 0)
		}
		if rows := slices.IndexFunc(lines, func(l Line) bool { return l.Scenario == "rows" }); rows >= 0 && l.Scenario == "post10" {
			r.least("post10 / rows", ratio(l.runsMessages, lines[rows].runsMessages), "", 0)
		}
	}
}
