package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"nabu/internal/eventually"
)

// exampleSettings is the file of docs/examples that has all settings as they are by default.
func exampleSettings() string {
	var text strings.Builder
	text.WriteString(`# All settings of nabu, each with its default. As it stands, the file changes nothing: keep what
# is to differ. docs/operating.md says more; an unknown key is an error.
`)
	for _, s := range settings {
		value := s.fallback
		if value == "" {
			value = `""`
		}
		text.WriteString("\n# " + s.help + "\n" + s.key + ": " + value + "\n")
	}
	return text.String()
}

// TestTheExampleHasTheDefaults: docs/examples/nabu.yaml names each setting, and loading it
// changes nothing.
func TestTheExampleHasTheDefaults(t *testing.T) {
	const path = "../../docs/examples/nabu.yaml"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != exampleSettings() {
		t.Errorf("%s has to be\n%s", path, exampleSettings())
	}
	got, from, err := load(t, nil, nil, string(text))
	if err != nil {
		t.Fatal(err)
	}
	want, _, err := load(t, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range settings {
		if s.show(&got) != s.show(&want) {
			t.Errorf("%s is %q, and %q without the file", s.key, s.show(&got), s.show(&want))
		}
		if !strings.HasPrefix(from[s.key], "file ") {
			t.Errorf("%s comes from %s", s.key, from[s.key])
		}
	}
}

// TestAlertsAreAboutMetricsThatExist: nabu serves each metric that an alert names.
func TestAlertsAreAboutMetricsThatExist(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile("../../docs/examples/prometheus-rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	metric := regexp.MustCompile(`\bnabu_[a-z_]+`)
	named := metric.FindAllString(string(rules), -1)
	if len(named) < 5 {
		t.Errorf("the alerts name %v", named)
	}
	r := start(t, "--data-dir", newDataDir(t))
	r.call("GET", "/v2/queues", "", 200)
	for _, name := range named {
		eventually.Holds(t, name+" is served", func() bool {
			return slices.Contains(metric.FindAllString(r.call("GET", "/metrics", "", 200), -1), name)
		})
	}
	if served := r.call("GET", "/metrics", "", 200); !regexp.MustCompile(`nabu_http_requests_total\{[^}]*status="200"`).MatchString(served) {
		t.Errorf("requests are not counted by status:\n%s", served)
	}
	r.end()
}

// TestWhatThePagesNameIsThere: a link to an example leads to a file.
func TestWhatThePagesNameIsThere(t *testing.T) {
	text, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	links := regexp.MustCompile(`\]\((examples/[^)#]+)\)`).FindAllStringSubmatch(string(text), -1)
	if len(links) < 4 {
		t.Errorf("docs/operating.md has %d links to examples", len(links))
	}
	for _, link := range links {
		if _, err := os.Stat("../../docs/" + link[1]); err != nil {
			t.Error(err)
		}
	}
}
