package bench

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// TestScenariosMakeAReport runs those that need nothing but a nabu.
func TestScenariosMakeAReport(t *testing.T) {
	o := Options{
		Scenarios: []string{"post", "cycle", "emptyclaim", "stats", "depth", "heads", "purge", "tasks"},
		Address:   newFake(t, &fakeNabu{}), Connections: 4, Queues: 1, Fill: 200, Page: 20, Body: MinBody, Rate: 500,
		Warmup: 10 * time.Millisecond, Duration: 100 * time.Millisecond, Runs: 1,
	}
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Err(); err != nil {
		t.Error(err)
	}
	var out bytes.Buffer
	if err := report.WriteTable(&out); err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{
		"post", "cycle, post to claim", "emptyclaim", "stats of 200", "queue of 1000", "200 delayed in front",
		"task pages of 100", "task pages of 200", "task creations", "task pages, time with 200 / 100 tasks",
		"posts beside a purge of 200", "claims behind 200 claimed messages / none", "purge, time with 200 / 10 messages",
	} {
		if !strings.Contains(out.String(), words) {
			t.Errorf("%q is not in:\n%s", words, out.String())
		}
	}
	if err := report.WriteJSON(&out); err != nil {
		t.Error(err)
	}
}
