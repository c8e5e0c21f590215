package postgres

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// helpers are what this test program does instead of testing when a test starts it
// once more to have a process that can be killed.
var helpers = map[string]func(dir string) error{
	"serve": helpServe,
	"watch": helpWatch,
}

// shared is one server for all tests that only need some server.
var shared struct {
	once   sync.Once
	dir    string
	server *Server
	err    error
}

func TestMain(m *testing.M) {
	if help, asked := helpers[os.Getenv("NABU_TEST_HELPER")]; asked {
		if err := help(os.Getenv("NABU_TEST_DIR")); err != nil {
			fmt.Println("helper:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if shared.server != nil {
		if err := shared.server.Stop(context.Background()); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	_ = os.RemoveAll(shared.dir)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Println(err)
		code = 1
	}
	os.Exit(code)
}

// helpServe starts a server, says so, and runs until it is killed.
func helpServe(dir string) error {
	s, err := Start(context.Background(), config(dir))
	if err != nil {
		return err
	}
	fmt.Println("ready", s.PID())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return s.Stop(context.Background())
}

// startHelper runs this test program as one of the helpers. Killed it is at the
// latest at the end of the test.
func startHelper(t *testing.T, name, dir string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "NABU_TEST_HELPER="+name, "NABU_TEST_DIR="+dir)
	out, err := cmd.StdoutPipe()
	check(t, err)
	_, err = cmd.StdinPipe()
	check(t, err)
	cmd.Stderr = os.Stderr
	check(t, cmd.Start())
	t.Cleanup(func() { kill(cmd) })
	return cmd, bufio.NewScanner(out)
}

// startServing is a helper whose server is ready.
func startServing(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd, lines := startHelper(t, "serve", dir)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "ready") {
		t.Fatalf("the helper says %q", lines.Text())
	}
	return cmd
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// config is for tests that do not cut the power: they need no fsync.
func config(dir string) Config {
	return Config{
		DataDir:  dir,
		Program:  "nabu serve",
		Settings: map[string]string{"fsync": "off", "full_page_writes": "off"},
	}
}

// newDataDir is the name of a data folder that does not exist yet, where the server of
// a nabu that is root can reach it.
func newDataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nabu-test-")
	check(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	check(t, os.Chmod(dir, 0o711))
	return filepath.Join(dir, "data")
}

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := Start(context.Background(), cfg)
	check(t, err)
	t.Cleanup(func() { check(t, s.Stop(context.Background())) })
	return s
}

// sharedServer is a server for tests that neither stop it nor change its data.
func sharedServer(t *testing.T) *Server {
	t.Helper()
	shared.once.Do(func() {
		shared.dir, shared.err = os.MkdirTemp("", "nabu-test-")
		if shared.err == nil {
			shared.err = os.Chmod(shared.dir, 0o711)
		}
		if shared.err == nil {
			shared.server, shared.err = Start(context.Background(), config(filepath.Join(shared.dir, "data")))
		}
	})
	check(t, shared.err)
	return shared.server
}

func connect(t *testing.T, url string) *sql.DB {
	t.Helper()
	db, err := Open(url, 5)
	check(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func exec1(t *testing.T, db *sql.DB, statement string, args ...any) {
	t.Helper()
	_, err := db.Exec(statement, args...)
	check(t, err)
}

// query is the only value of the only row.
func query(t *testing.T, db *sql.DB, statement string, args ...any) string {
	t.Helper()
	var value string
	check(t, db.QueryRow(statement, args...).Scan(&value))
	return value
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func contains(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", words)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not say %q", err, word)
		}
	}
}

// eventually waits for a condition that other processes bring about.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	err := until(context.Background(), 30*time.Second, func() (bool, error) { return holds(), nil },
		func() error { return fmt.Errorf("never: %s", what) })
	check(t, err)
}
