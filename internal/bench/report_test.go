package bench

import (
	"bytes"
	"strings"
	"testing"
)

func TestRatiosAreOfPairs(t *testing.T) {
	// The machine was busy during the second pair, and during the last run alone.
	if got := ratio([]float64{30, 15, 10}, []float64{100, 50, 100}); got != 0.3 {
		t.Errorf("the ratio is %g, not 0.3", got)
	}
}

func TestReportsSayWhatIsWrong(t *testing.T) {
	r := &Report{Lines: []Line{
		{Scenario: "post", Stolen: 12.34, WorstStolen: 56.78, Errors: 3, FirstError: "status 503"},
		{Scenario: "post10", Check: &Check{Acknowledged: 9, Lost: 1}},
	}}
	r.least("post / baseline", 0.2, "", 0.3)
	r.most("memory, idle", 15, "MB", 60)
	r.least("post10 / rows", 0.7, "", 0)
	err := r.Err()
	if err == nil || !strings.Contains(err.Error(), "post: 3 requests failed, the first with: status 503") ||
		!strings.Contains(err.Error(), "of 9 acknowledged messages 1 are lost") {
		t.Errorf("the error is %v", err)
	}
	var out bytes.Buffer
	if err := r.WriteTable(&out); err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{"at least 0.30", "missed", "15 MB", "at most 60 MB", "met", "stolen %", "12.3", "worst s", "56.8"} {
		if !strings.Contains(out.String(), words) {
			t.Errorf("%q is not in:\n%s", words, out.String())
		}
	}
}
