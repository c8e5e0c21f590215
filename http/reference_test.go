package http

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestTheReferenceIsWhole compares the tables of docs/messaging.md with the routes and the
// actions of the Messaging API: a line for each, and no other.
func TestTheReferenceIsWhole(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/messaging.md")
	if err != nil {
		t.Fatal(err)
	}
	overHTTP, overWebSocket, _ := strings.Cut(string(text), "\n## WebSocket\n")
	listed := map[string]string{} // the rest of its line
	for _, found := range regexp.MustCompile("(?m)^\\| ([A-Z]+) \\| `(/.*?)` (\\|.*)$").FindAllStringSubmatch(overHTTP, -1) {
		listed[found[1]+" "+found[2]] = found[3]
	}
	for _, found := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` (\\|.*)$").FindAllStringSubmatch(overWebSocket, -1) {
		listed[found[1]] = found[2]
	}
	if _, there := listed[authenticate]; !there {
		t.Errorf("docs/messaging.md has no line for %s", authenticate)
	}
	delete(listed, authenticate)
	placeholder := regexp.MustCompile(`:([a-z]+)`)
	for _, r := range Routes() {
		if r.API != messagingAPI {
			continue
		}
		name := r.Method
		if r.Path != onWebSocket {
			name += " " + placeholder.ReplaceAllString(r.Path, "{$1}")
		}
		if _, there := listed[name]; !there {
			t.Errorf("docs/messaging.md has no line for %s", name)
		}
		if its, isAction := actions[r.Method]; isAction {
			checkParameters(t, name, its.knows, listed[name])
		}
		delete(listed, name)
	}
	for name := range listed {
		t.Errorf("docs/messaging.md has %s, which nabu does not", name)
	}
}

// checkParameters holds the parameters of an action against its line, where those that may be
// absent stand in brackets.
func checkParameters(t *testing.T, action string, known parameters, line string) {
	t.Helper()
	words := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(", |", r) })
	for _, p := range known {
		want := "`" + p.name + "`"
		if !p.required {
			want = "(" + want + ")"
		}
		if p.name != "queue_name" && !slices.Contains(words, want) {
			t.Errorf("the line of %s in docs/messaging.md does not have %s", action, want)
		}
	}
}
