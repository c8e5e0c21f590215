package main

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"

	"nabu/internal/bench"
	"nabu/internal/postgres"
)

// replay runs the command inside this process, and returns what it wrote.
func replay(t *testing.T, data string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := run(context.Background(), append([]string{"replay", "--data-dir", data}, args...), cleanEnviron(), &out)
	return out.String(), err
}

// besideReplays is how many messages are posted beside replays, in a second: all of them are
// folded again by each that follows.
const besideReplays = 300

// TestReplayBesideARunningNabu: with the private PostgreSQL of a nabu that serves, and
// without one; what somebody has changed is named, and put right.
func TestReplayBesideARunningNabu(t *testing.T) {
	t.Parallel()
	data := newDataDir(t)
	nabu := serveProgram(t, "--data-dir", data)
	load := pound(t, nabu.Address, besideReplays)
	load.wait(100)
	if out, err := replay(t, data, "--check"); err != nil || out != "" {
		t.Fatalf("a check says %q, %v", out, err)
	}
	if out, err := replay(t, data); err != nil || !strings.Contains(out, "made anew") {
		t.Fatalf("a replay says %q, %v", out, err)
	}
	load.wait(100)
	tamper(t, data, `UPDATE messages SET ttl = 7 WHERE place = (SELECT min(place) FROM messages)`)
	out, err := replay(t, data, "--check")
	if err == nil || exitCode(err) != exitFailure || strings.Count(out, "\n") != 1 ||
		!strings.HasPrefix(out, "messages (queue ") || !strings.Contains(out, "; the queue is ") || !strings.Contains(out, " of project ") || !strings.Contains(out, "ttl is 7, the history has 3600") {
		t.Errorf("a check of what was changed says %q, %v", out, err)
	}
	out, err = replay(t, data, "--check", "-o", "json")
	var found []struct{ Table string }
	if wrong := json.Unmarshal([]byte(out), &found); err == nil || wrong != nil || len(found) != 1 || found[0].Table != "messages" {
		t.Errorf("as JSON it says %q, %v", out, err)
	}
	posted := load.stop()
	nothingLost(t, nabu.Address, []*bench.Posted{posted})
	if err := nabu.Stop(); err != nil {
		t.Error(err)
	}
	if out, err := replay(t, data, "messages"); err != nil {
		t.Errorf("a replay of the messages says %q, %v", out, err)
	}
	if out, err := replay(t, data, "--check"); err != nil || out != "" {
		t.Errorf("a check after it says %q, %v", out, err)
	}
}

// tamper changes the database of a nabu that serves.
func tamper(t *testing.T, data, statement string) {
	t.Helper()
	server, err := postgres.Attach(t.Context(), postgres.Config{DataDir: data, Program: "a test"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Stop(context.Background()) }()
	db, err := postgres.Open(server.URL(postgres.App, postgres.Database), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

// TestAKilledReplayChangesNothing: killed at whatever moment, nabu goes on serving, the
// next replay does its work, and nothing that was acknowledged is lost.
func TestAKilledReplayChangesNothing(t *testing.T) {
	t.Parallel()
	data := newDataDir(t)
	nabu := serveProgram(t, "--data-dir", data)
	load := pound(t, nabu.Address, besideReplays)
	load.wait(300)
	whole := time.Now()
	if out, err := replay(t, data); err != nil {
		t.Fatalf("a replay says %q, %v", out, err)
	}
	takes := time.Since(whole)
	const kills = 3
	for n := range kills {
		c := exec.Command(built(t), "replay", "--data-dir", data)
		c.Env = cleanEnviron()
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(rand.N(2*takes), func() { _ = c.Process.Kill() })
		_ = c.Wait() // killed, or done before
		kill.Stop()
		load.wait(100)
		if out, err := replay(t, data, "--check"); err != nil || out != "" {
			t.Errorf("after %d kills a check says %q, %v", n+1, out, err)
		}
	}
	if out, err := replay(t, data); err != nil {
		t.Errorf("after %d kills a replay says %q, %v", kills, out, err)
	}
	sum := nothingLost(t, nabu.Address, []*bench.Posted{load.stop()})
	if err := nabu.Stop(); err != nil {
		t.Error(err)
	}
	t.Logf("a replay was killed %d times: %d messages acknowledged, %d lost, %d doubled", kills, sum.Acknowledged, sum.Lost, sum.Doubled)
}
