package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestTheReadmesConversation has the conversation of the README with a new nabu.
func TestTheReadmesConversation(t *testing.T) { converse(t, "../../README.md") }

// TestTheTour has all conversations of the tour.
func TestTheTour(t *testing.T) { converse(t, "../../docs/tour.md") }

// TestTheWorkersConversation has that of the page for those who write workers.
func TestTheWorkersConversation(t *testing.T) { converse(t, "../../docs/writing-a-worker.md") }

// converse has a page's conversation with a new nabu: its commands, in one shell, must print
// what stands there, with … for anything.
func converse(t *testing.T, page string) {
	t.Helper()
	for _, program := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("there is no %s on this machine", program)
		}
	}
	commands, printed := conversation(t, page)
	if len(commands) < 7 {
		t.Fatalf("%s has only %d commands", page, len(commands))
	}
	script, mark := "", "-- end of a command --"
	for _, command := range commands {
		script += command + "\necho; echo '" + mark + "'\n"
	}
	dir := newDataDir(t)
	nabu := start(t, "--data-dir", dir).url
	script = strings.NewReplacer("http://127.0.0.1:8888", nabu, "bin/nabu ", built(t)+" ").Replace(script)
	shell := exec.CommandContext(context.Background(), "bash", "-s")
	shell.Env = append(os.Environ(), "NABU_DATA_DIR="+dir)
	shell.Stdin = strings.NewReader(script)
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for i, got := range strings.Split(strings.TrimSuffix(string(out), mark+"\n"), mark+"\n") {
		got = strings.TrimSpace(got)
		pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(printed[i])), "…", ".*") + "$"
		if !regexp.MustCompile(pattern).MatchString(got) {
			t.Errorf("$ %s\nprints\n%s\nand not\n%s", commands[i], got, printed[i])
		}
	}
}

// conversation reads a page's console blocks: commands behind a dollar sign, and below
// each what it prints.
func conversation(t *testing.T, page string) (commands, printed []string) {
	t.Helper()
	file, err := os.Open(page)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	inside := false
	for lines := bufio.NewScanner(file); lines.Scan(); {
		line := lines.Text()
		command, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case inside && isCommand:
			commands, printed = append(commands, command), append(printed, "")
		case inside:
			last := len(printed) - 1
			printed[last] = strings.TrimPrefix(fmt.Sprint(printed[last], "\n", line), "\n")
		}
	}
	return commands, printed
}
