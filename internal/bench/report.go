package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// Line is what one scenario came to: the median of its runs. Times are
// milliseconds, rates are per second.
type Line struct {
	Scenario    string  `json:"scenario"`
	Connections int     `json:"connections"`
	Requests    float64 `json:"requests"`
	Lowest      float64 `json:"lowest"` // of the runs, in requests
	Highest     float64 `json:"highest"`
	Messages    float64 `json:"messages"`
	P50         float64 `json:"p50"`
	P99         float64 `json:"p99"`
	P999        float64 `json:"p999"`
	Max         float64 `json:"max"`
	Stolen      float64 `json:"stolen"`       // of all cores' time, by the host; percent. 0: none, or it is not known
	WorstStolen float64 `json:"worst_stolen"` // in the second in which it was most
	Errors      int     `json:"errors"`       // of all runs
	FirstError  string  `json:"first_error,omitempty"`
	Check       *Check  `json:"check,omitempty"`

	// In the order of running: rates of requests and of messages, times.
	runs, runsMessages, runsP50, runsP99 []float64
}

// ratio is the median of what the runs of one scenario come to beside the runs of
// another that were made right before or after them. It is steadier than a ratio of
// medians: what disturbs the machine for a while disturbs a pair alike.
func ratio(of, to []float64) float64 {
	pairs := make([]float64, len(of))
	for i := range of {
		pairs[i] = of[i] / to[i]
	}
	return median(pairs)
}

func median(values []float64) float64 { return slices.Sorted(slices.Values(values))[len(values)/2] }

// Finding is a figure that does not depend on the machine, or should not, and what
// it has to be.
type Finding struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit,omitempty"`
	Least  float64 `json:"least,omitempty"` // 0: none
	Most   float64 `json:"most,omitempty"`  // 0: none
	Missed bool    `json:"missed"`
}

// Report is what a bench found out.
type Report struct {
	Lines    []Line    `json:"lines"`
	Findings []Finding `json:"findings"`
}

// least adds a finding that must not be smaller than a bound; 0: no bound.
func (r *Report) least(name string, value float64, unit string, least float64) {
	r.Findings = append(r.Findings, Finding{Name: name, Value: value, Unit: unit, Least: least, Missed: value < least})
}

// most adds a finding that must not be larger than a bound.
func (r *Report) most(name string, value float64, unit string, most float64) {
	r.Findings = append(r.Findings, Finding{Name: name, Value: value, Unit: unit, Most: most, Missed: value > most})
}

// Err tells whether anything is wrong that no machine excuses: lost, doubled or
// disordered messages, and requests that failed.
func (r *Report) Err() error {
	var problems []error
	for _, l := range r.Lines {
		if l.Errors > 0 {
			problems = append(problems, fmt.Errorf("%s: %d requests failed, the first with: %s", l.Scenario, l.Errors, l.FirstError))
		}
		if l.Check != nil {
			if err := l.Check.Err(); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", l.Scenario, err))
			}
		}
	}
	return errors.Join(problems...)
}

// WriteJSON writes the report for programs.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteTable writes the report for people.
func (r *Report) WriteTable(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	if len(r.Lines) > 0 {
		fmt.Fprintln(w, "scenario\tconn\treq/s\tlowest\thighest\tmsg/s\tp50 ms\tp99\tp99.9\tmax\tstolen %\tworst s\terrors\tacked\tlost\tdoubled\tdisorder\tdeleted\tundel\ttwice\tmiscount\t")
	}
	for _, l := range r.Lines {
		fmt.Fprintf(w, "%s\t%d\t%.0f\t%.0f\t%.0f\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t%.1f\t%.1f\t%d\t%s\t\n", l.Scenario, l.Connections,
			l.Requests, l.Lowest, l.Highest, l.Messages, l.P50, l.P99, l.P999, l.Max, l.Stolen, l.WorstStolen, l.Errors, l.Check.columns())
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(r.Findings) > 0 {
		fmt.Fprintln(w, "\nfinding\tvalue\twanted\t\t")
	}
	for _, f := range r.Findings {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t\n", f.Name, f.value(f.Value), f.wanted(), f.verdict())
	}
	return w.Flush()
}

func (c *Check) columns() string {
	if c == nil {
		return "\t\t\t\t\t\t\t"
	}
	return fmt.Sprintf("%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d", c.Acknowledged, c.Lost+c.LostByID, c.Doubled, c.Disordered,
		c.Deleted, c.Undeleted+c.UndeletedByID, c.ClaimedTwice, c.Miscounted)
}

func (f Finding) value(v float64) string {
	if f.Unit == "" {
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.4g %s", v, f.Unit)
}

func (f Finding) wanted() string {
	switch {
	case f.Least > 0:
		return "at least " + f.value(f.Least)
	case f.Most > 0:
		return "at most " + f.value(f.Most)
	}
	return ""
}

func (f Finding) verdict() string {
	switch {
	case f.Least == 0 && f.Most == 0:
		return ""
	case f.Missed:
		return "missed"
	}
	return "met"
}
