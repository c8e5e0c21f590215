package http

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGophercloudExample runs the program of docs/clients.md, and wants it to print what stands there.
func TestGophercloudExample(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "\n```go\n")
	program, _, _ := strings.Cut(rest, "```\n")
	_, output, found := strings.Cut(program, "\t// Output:\n")
	if !found {
		t.Fatal("docs/clients.md has no program in Go with its output")
	}
	want := strings.ReplaceAll(strings.TrimSuffix(output, "}\n"), "\t// ", "")
	a := newAPI(t)
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(program, "http://127.0.0.1:8888", a.url)), 0o600); err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(t.Context(), "go", "run", file)
	run.Dir = ".." // whose go.mod has gophercloud
	if got, err := run.CombinedOutput(); err != nil || string(got) != want {
		t.Errorf("it prints %q, want %q; %v", got, want, err)
	}
}
