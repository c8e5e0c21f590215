package main

import (
	"os"
	"regexp"
	"testing"

	"nabu/internal/bench"
)

// TestEveryScenarioIsExplained looks for each in the help of the command and in the
// operator's guide.
func TestEveryScenarioIsExplained(t *testing.T) {
	guide, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	help := newBench(nil).Long
	for _, name := range bench.Scenarios() {
		if !regexp.MustCompile(`(?m)^  ` + name + ` `).MatchString(help) {
			t.Errorf("the help does not explain %s", name)
		}
		if !regexp.MustCompile("(?m)^\\|[^|]*`" + name + "`").Match(guide) {
			t.Errorf("docs/operating.md does not explain %s", name)
		}
	}
}
