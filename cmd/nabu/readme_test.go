package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTheReadmesConversation has the conversation of the README with a new nabu.
func TestTheReadmesConversation(t *testing.T) { converse(t, "../../README.md") }

// TestTheTour has all conversations of the tour.
func TestTheTour(t *testing.T) { converse(t, "../../docs/tour.md") }

// TestThePromisesConversation has that of the page of promises.
func TestThePromisesConversation(t *testing.T) { converse(t, "../../docs/guarantees.md") }

// TestTheWorkersConversation has that of the page for those who write workers.
// Its settings and its policy stand there first.
func TestTheWorkersConversation(t *testing.T) {
	const page = "../../docs/writing-a-worker.md"
	dir := t.TempDir()
	blocks := fenced(t, page, "yaml")
	for i, name := range []string{"nabu.yaml", "policy.yaml"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(blocks[i]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	converse(t, page, "--config", filepath.Join(dir, "nabu.yaml"))
}

// fenced are the blocks of a page that are in a language.
func fenced(t *testing.T, page, language string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllSubmatch(text, -1) {
		blocks = append(blocks, string(found[1]))
	}
	return blocks
}

// linkToFile finds links to files, without those into the web and within a page.
var linkToFile = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

// TestLinksLeadSomewhere: each relative link of a page leads to a file.
func TestLinksLeadSomewhere(t *testing.T) {
	const root = "../.."
	links := 0
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		pages, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range pages {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			for _, link := range linkToFile.FindAllSubmatch(text, -1) {
				links++
				if _, err := os.Stat(filepath.Join(filepath.Dir(page), string(link[1]))); err != nil {
					t.Errorf("%s links to %s, which is not there", page, link[1])
				}
			}
		}
	}
	if links < 10 {
		t.Errorf("found only %d links", links)
	}
}

// converse has a page's conversation with a new nabu: its commands, in one shell, must print
// what stands there, with … for anything.
func converse(t *testing.T, page string, args ...string) {
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
	nabu := start(t, append(args, "--data-dir", dir)...).url
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
