package postgres

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestThePresenceIsLoggedOncePerOutage, however many attempts fail, and so is the return. A
// database that was never away is not said to be back.
func TestThePresenceIsLoggedOncePerOutage(t *testing.T) {
	s := sharedServer(t)
	network, socket, err := Address(s.URL(Admin, "postgres"))
	if check(t, err); network != "unix" {
		t.Fatal(network)
	}
	folder, err := os.MkdirTemp("", "presence") // a test's own may be too long for a socket's path
	check(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	way := filepath.Join(folder, filepath.Base(socket))
	where, err := parse(s.URL(Admin, "postgres"))
	check(t, err)
	where["host"] = folder

	var log bytes.Buffer
	db, err := NewPresence(where.String(), slog.New(slog.NewTextHandler(&log, nil))).OpenImpatient(2, time.Minute)
	check(t, err)
	defer db.Close()
	db.SetMaxIdleConns(-1) // each ping makes a connection
	want := ""
	for range 2 {
		check(t, os.Symlink(socket, way))
		for range 3 {
			check(t, db.Ping())
		}
		says(t, &log, want)
		check(t, os.Remove(way))
		for range 3 {
			if err := db.Ping(); err == nil {
				t.Fatal("a database that is away answers")
			}
		}
		says(t, &log, "the database is away")
		want = "the database is back"
	}
}

// says wants one line in the log with some words, or no line at all, and empties the log.
func says(t *testing.T, log *bytes.Buffer, words string) {
	t.Helper()
	lines := min(len(words), 1)
	if got := log.String(); strings.Count(got, "\n") != lines || !strings.Contains(got, words) {
		t.Errorf("%q is not all that is said: %s", words, got)
	}
	log.Reset()
}
