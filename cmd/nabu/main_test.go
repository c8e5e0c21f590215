package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// binary is nabu's program, built when a test first asks for it.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(buildDir, "nabu")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// buildDir is where the program goes; TestMain makes and removes it.
var buildDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "nabu-build-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	buildDir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// built is nabu's program.
func built(t *testing.T) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// newDataDir is a new folder through which the account of the private PostgreSQL
// can pass, unlike through those of t.TempDir.
func newDataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nabu-cmd-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "data")
}

// cleanEnviron is this process's environment without settings of nabu, but with
// PostgreSQL's programs.
func cleanEnviron() environment { return forChildren(os.Environ()) }

func TestExitCodes(t *testing.T) {
	tests := map[string]struct {
		args []string
		code int
		says string
	}{
		"an unknown command":            {[]string{"serv"}, exitUsage, "did you mean serve?"},
		"an unknown command of a group": {[]string{"migrate", "upp"}, exitUsage, "did you mean up?"},
		"a command like no other":       {[]string{"frobnicate"}, exitUsage, "nabu --help shows them all"},
		"help for an unknown command":   {[]string{"help", "serv"}, exitUsage, "did you mean serve?"},
		"help for too much":             {[]string{"help", "serve", "now"}, exitUsage, `unknown command "now" of nabu serve`},
		"a word for a number":           {[]string{"events", "--from", "x"}, exitUsage, `--from must be a whole number, not "x"`},
		"an unknown flag":               {[]string{"serve", "--lisen", "x"}, exitUsage, "did you mean --listen?"},
		"a flag without its value":      {[]string{"serve", "--listen"}, exitUsage, "--listen"},
		"a word too many":               {[]string{"serve", "now"}, exitUsage, "takes no arguments"},
		"an unknown form":               {[]string{"config", "show", "-o", "xml"}, exitUsage, "must be table or json"},
		"an unknown scenario":           {[]string{"bench", "--scenario", "pst"}, exitUsage, "did you mean post?"},
		"a bad URL for the bench":       {[]string{"bench", "--url", "localhost"}, exitUsage, "--url"},
		"a snapshot beside nothing":     {[]string{"bench", "--scenario", "post", "--hold-snapshot", "1s"}, exitUsage, "--hold-snapshot"},
		"waiting beside nothing":        {[]string{"bench", "--scenario", "post", "--wait", "1"}, exitUsage, "--wait"},
		"waiting for too long":          {[]string{"bench", "--scenario", "cycle", "--wait", "21"}, exitUsage, "between 0 and 20"},
		"no id":                         {[]string{"keys", "generate"}, exitUsage, "ID is missing; use: nabu keys generate ID"},
		"two ids":                       {[]string{"keys", "generate", "a", "b"}, exitUsage, `"b" is too much; use: nabu keys generate ID`},
		"no project":                    {[]string{"keys", "destroy", "q"}, exitUsage, "--project is missing; use: nabu keys destroy QUEUE --project PROJECT"},
		"no consumer":                   {[]string{"consumers", "retry"}, exitUsage, "NAME is missing; use: nabu consumers retry NAME [POSITION]"},
		"no position":                   {[]string{"consumers", "skip", "deliver"}, exitUsage, "POSITION is missing; use: nabu consumers skip NAME POSITION --reason TEXT"},
		"no reason":                     {[]string{"consumers", "skip", "deliver", "7"}, exitUsage, "--reason is missing; use: nabu consumers skip"},
		"an unknown projection":         {[]string{"replay", "mesages"}, exitUsage, "did you mean messages?"},
		"a bad setting":                 {[]string{"serve", "--listen", "nowhere"}, exitMisconfigured, "listen"},
		"an open door":                  {[]string{"serve", "--listen", "0.0.0.0:0"}, exitMisconfigured, "--insecure-noauth"},
		"every address":                 {[]string{"serve", "--listen", ":0"}, exitMisconfigured, "--insecure-noauth"},
		"production on its own":         {[]string{"serve", "--env", "production"}, exitMisconfigured, "allow_private_postgres"},
		"an address twice":              {[]string{"config", "show", "--image-listen", "127.0.0.1:8888"}, exitMisconfigured, "image_listen (flag --image-listen) must not be 127.0.0.1:8888, as listen is 127.0.0.1:8888"},
		"programs that are not there":   {[]string{"serve", "--pg-bin", "/nowhere"}, exitMisconfigured, "pg_bin"},
		"a bad database URL":            {[]string{"serve", "--database-url", "mysql:pa55word"}, exitMisconfigured, "database_url"},
		"no database there":             {[]string{"serve", "--database-url", "postgres://u:pa55word@127.0.0.1:1/x?sslmode=disable"}, exitFailure, "refused"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			args := test.args
			if args[0] == "serve" && len(args) > 2 {
				args = append(args, "--data-dir", newDataDir(t))
				if !slices.Contains(args, "--listen") { // the others want the same one
					args = append(args, "--listen", "127.0.0.1:0")
				}
			}
			err := run(context.Background(), args, cleanEnviron(), &out)
			if err == nil {
				t.Fatalf("no error; output: %s", out.String())
			}
			if exitCode(err) != test.code {
				t.Errorf("exit code %d, not %d: %v", exitCode(err), test.code, err)
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("%q does not say %q", err, test.says)
			}
			if text := err.Error() + out.String(); strings.Contains(text, "pa55word") {
				t.Errorf("a password is shown: %s", text)
			}
		})
	}
}

// TestHelpIsAboutTheCommand: a command that needs only some settings takes all and shows those.
func TestHelpIsAboutTheCommand(t *testing.T) {
	var out bytes.Buffer
	if err := run(context.Background(), []string{"events", "--smtp-host", "mail.example", "--help"}, nil, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "default table on a terminal, json elsewhere") || strings.Contains(out.String(), "(default table)") {
		t.Errorf("the default of --output is not told in:\n%s", out.String())
	}
	for flag, shown := range map[string]bool{"--stream": true, "--database-url": true, "--smtp-host": false, "--listen": false} {
		if strings.Contains(out.String(), "  "+flag+" ") != shown {
			t.Errorf("%s is shown: %v, in:\n%s", flag, !shown, out.String())
		}
	}
}

// TestTheVersionIsWhatGitCallsIt, where somebody has said it.
func TestTheVersionIsWhatGitCallsIt(t *testing.T) {
	info := &debug.BuildInfo{GoVersion: "go1.26", Main: debug.Module{Version: "(devel)"}}
	for described, want := range map[string]string{"": "nabu (devel) go1.26", "v1.2-3-gabc": "nabu v1.2-3-gabc go1.26"} {
		if got := versionOf(described, info); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

// TestMakeSaysWhatGitCallsIt: the linker gets the name that git has for the commit.
func TestMakeSaysWhatGitCallsIt(t *testing.T) {
	if _, err := os.Stat("../../.git"); err != nil {
		t.Skip("there is no git here")
	}
	commit, err := exec.Command("git", "describe", "--tags", "--always").Output()
	if err != nil {
		t.Skip("git says nothing of this commit")
	}
	c := exec.Command("make", "-n", "build")
	c.Dir = "../.."
	out, err := c.CombinedOutput()
	if want := "-X main.described=" + strings.TrimSpace(string(commit)); err != nil || !strings.Contains(string(out), want) {
		t.Errorf("make build does not say %s: %v, %s", want, err, out)
	}
}

func TestCommandsThatOnlyShow(t *testing.T) {
	tests := map[string]struct {
		args    []string
		environ environment
		shows   []string
	}{
		"nothing":         {nil, nil, []string{"serve", "migrate", "bench", "config"}},
		"help":            {[]string{"serve", "--help"}, nil, []string{"--listen", "127.0.0.1:8888", "--max-message-ttl"}},
		"a group":         {[]string{"migrate"}, nil, []string{"status", "up"}},
		"version":         {[]string{"version"}, nil, []string{"nabu", "go1"}},
		"version, a flag": {[]string{"--version"}, nil, []string{"nabu", "go1"}},
		"completion":      {[]string{"completion", "bash"}, nil, []string{"bash completion"}},
		"settings":        {[]string{"config", "show"}, nil, []string{"listen", "127.0.0.1:8888"}},
		"their sources":   {[]string{"config", "show", "--sources", "--listen", "127.0.0.1:1"}, environment{"NABU_LOG_LEVEL=warn"}, []string{"flag --listen", "environment NABU_LOG_LEVEL", "default"}},
		"settings, JSON":  {[]string{"config", "show", "--sources", "-o", "json"}, nil, []string{`"key": "listen"`, `"source": "default"`}},
		"no password":     {[]string{"config", "show"}, environment{"NABU_DATABASE_URL=postgres://ann:pa55word@db1/nabu"}, []string{"host=db1", "user=ann"}},
		"no key":          {[]string{"config", "show", "--signed-url-secret-key", "host=pa55word"}, nil, []string{"(not shown)"}},
		"its own default": {[]string{"config", "show", "--database-url", "host=db1 password=pa55word"}, nil, []string{"direct_database_url"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if err := run(context.Background(), test.args, append(test.environ, "HOME=/home/ann"), &out); err != nil {
				t.Fatal(err)
			}
			for _, words := range test.shows {
				if !strings.Contains(out.String(), words) {
					t.Errorf("%q is not in:\n%s", words, out.String())
				}
			}
			if strings.Contains(out.String(), "pa55word") {
				t.Errorf("a password is shown:\n%s", out.String())
			}
		})
	}
}
