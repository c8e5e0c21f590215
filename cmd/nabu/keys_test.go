package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nabu/internal/pgtest"
	"nabu/internal/postgres"
)

// keysFile writes master keys where a test's nabu finds them, the active one first.
func keysFile(t *testing.T, path string, lines ...string) string {
	t.Helper()
	if path == "" {
		path = filepath.Join(t.TempDir(), "keys")
	}
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// newMasterKey is a line that nabu keys generate prints.
func newMasterKey(t *testing.T, id string) string {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), []string{"keys", "generate", id}, cleanEnviron(), &out); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String())
}

const (
	encrypting = `{"_enable_encrypt_messages": true}`
	said       = `{"messages": [{"ttl": 600, "body": "said"}]}`
)

// TestKeysFromTheirMakingToTheirEnd: generate, list, rotate beside a nabu that serves, and
// destroy, which is recorded, deletes what nobody can read any more, and leaves nothing
// for a check to find.
func TestKeysFromTheirMakingToTheirEnd(t *testing.T) {
	t.Parallel()
	data, first := newDataDir(t), newMasterKey(t, "first")
	file := keysFile(t, "", first)
	r := start(t, "--data-dir", data, "--encryption-keys-file", file)
	for _, queue := range []string{"gone", "kept"} {
		r.call("PUT", "/v2/queues/"+queue, encrypting, 201)
		r.call("POST", "/v2/queues/"+queue+"/messages", said, 201)
	}
	r.mustShow(show(t, data, "keys", "list"), "gone", "kept", "first", "in use")
	const warning = "others than its owner may use encryption_keys_file"
	if strings.Contains(r.logged(), warning) {
		t.Error("it warns of a file that is its owner's alone")
	}
	r.end()
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}

	keysFile(t, file, newMasterKey(t, "second"), first)
	r = start(t, "--data-dir", data, "--encryption-keys-file", file)
	r.mustShow(r.logged(), warning, "-rw-r--r--")
	r.mustShow(show(t, data, "keys", "rotate", "--encryption-keys-file", file), "2 data keys wrapped anew by second")
	if list := show(t, data, "keys", "list", "-o", "json"); strings.Contains(list, "first") || strings.Count(list, `"second"`) != 2 {
		t.Errorf("after the rotation there are %s", list)
	}
	r.mustShow(r.call("GET", "/v2/queues/gone/messages?echo=true", "", 200), `"said"`)

	out := show(t, data, "keys", "destroy", "gone", "--project", "p1", "--actor", "ann", "--yes")
	r.mustShow(out, "1 data key destroyed, 1 message deleted")
	r.mustShow(show(t, data, "events", "--stream", "queue/p1/gone", "--type", "queue.keys-destroyed.v1"), `"actor":"ann"`)
	r.mustShow(show(t, data, "keys", "list"), "destroyed 2")
	r.mustShow(r.call("GET", "/v2/queues/gone/messages?echo=true", "", 200), `"messages":[]`)
	r.mustShow(r.call("GET", "/v2/queues/gone/stats", "", 200), `"total":0`)
	r.mustShow(r.call("GET", "/v2/queues/kept/messages?echo=true", "", 200), `"said"`)
	r.mustShow(show(t, data, "keys", "destroy", "gone", "--project", "p1", "--yes", "-o", "json"), `"destroyed": 0`)
	if out, err := replay(t, data, "--check"); err != nil || out != "" {
		t.Errorf("a check says %q, %v", out, err)
	}
	if out, err := replay(t, data); err != nil {
		t.Errorf("a replay says %q, %v", out, err)
	}
	r.mustShow(r.call("GET", "/v2/queues/kept/messages?echo=true", "", 200), `"said"`)
	r.mustShow(r.call("DELETE", "/v2/queues/kept/messages?pop=1", "", 200), `"said"`)
	r.end()
	if strings.Contains(r.logged(), "said") {
		t.Error("a body is in the log")
	}
}

// TestServeWantsTheMasterKeysThatAreInUse, and nabu keys says what is wrong with a request.
func TestServeWantsTheMasterKeysThatAreInUse(t *testing.T) {
	t.Parallel()
	data, line := newDataDir(t), newMasterKey(t, "mine")
	file := keysFile(t, "", line)
	r := start(t, "--data-dir", data, "--encryption-keys-file", file)
	r.call("PUT", "/v2/queues/q", encrypting, 201)
	r.call("POST", "/v2/queues/q/messages", said, 201)
	r.end()
	serve := []string{"serve", "--listen", "127.0.0.1:0", "--data-dir", data}
	tests := map[string]struct {
		args []string
		code int
		says string
	}{
		"none":               {serve, exitMisconfigured, "mine, which is not configured"},
		"another":            {append(serve, "--encryption-keys-file", keysFile(t, "", newMasterKey(t, "other"))), exitMisconfigured, "mine, which is not configured"},
		"another of that id": {append(serve, "--encryption-keys-file", keysFile(t, "", newMasterKey(t, "mine"))), exitMisconfigured, "another master key"},
		"a broken file":      {append(serve, "--encryption-keys-file", keysFile(t, "", "mine secret")), exitMisconfigured, "line 1"},
		"no file":            {append(serve, "--encryption-keys-file", "/nowhere"), exitMisconfigured, "encryption_keys_file"},
		"to rotate":          {[]string{"keys", "rotate", "--data-dir", data}, exitMisconfigured, "encryption_keys_file"},
		"no yes":             {[]string{"keys", "destroy", "q", "--project", "p1", "--data-dir", data}, exitUsage, "--yes"},
		"not that queue":     {[]string{"keys", "destroy", "misspelt", "--project", "p1", "--yes", "--data-dir", data}, exitFailure, "project p1 has no queue misspelt"},
		"no project":         {[]string{"keys", "destroy", "q", "--yes", "--data-dir", data}, exitUsage, "project"},
		"no queue":           {[]string{"keys", "destroy", "--project", "p1"}, exitUsage, "QUEUE"},
		"a bad id":           {[]string{"keys", "generate", "a b"}, exitUsage, "letters"},
	}
	for name, test := range tests {
		var out bytes.Buffer
		err := run(context.Background(), test.args, cleanEnviron(), &out)
		if err == nil || exitCode(err) != test.code || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: a key is shown: %v", name, err)
		}
	}
	r = start(t, "--data-dir", data, "--encryption-keys-file", file)
	r.mustShow(r.call("GET", "/v2/queues/q/messages?echo=true", "", 200), `"said"`)
	r.end()
}

// TestARestoredDumpOpensWithTheMasterKey: a dump has the wrapped keys, and no body in
// plain text.
func TestARestoredDumpOpensWithTheMasterKey(t *testing.T) {
	t.Parallel()
	dump, keys := filepath.Join(t.TempDir(), "dump"), keysFile(t, "", newMasterKey(t, "mine"))
	first := pgtest.OpenServer(t, map[string]string{"fsync": "off"})
	before := start(t, append(urlsOf(first), "--encryption-keys-file", keys)...)
	before.call("PUT", "/v2/queues/q", encrypting, 201)
	before.call("POST", "/v2/queues/q/messages", `{"messages": [{"ttl": 600, "body": "xyzzy-plugh"}]}`, 201)
	before.end()
	runProgram(t, "pg_dump", "--file="+dump, first.URL(postgres.Admin, postgres.Database))
	text, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte("data_keys")) || bytes.Contains(text, []byte("xyzzy")) {
		t.Error("the dump lacks the keys, or has what they seal")
	}
	runProgram(t, "pg_dump", "--format=custom", "--file="+dump, first.URL(postgres.Admin, postgres.Database))
	second := pgtest.OpenServer(t, map[string]string{"fsync": "off"})
	runProgram(t, "pg_restore", "--exit-on-error", "--dbname="+second.URL(postgres.Admin, postgres.Database), dump)
	after := start(t, append(urlsOf(second), "--encryption-keys-file", keys)...)
	after.mustShow(after.call("GET", "/v2/queues/q/messages?echo=true", "", 200), "xyzzy-plugh")
	after.mustShow(after.call("POST", "/v2/queues/q/claims", "", 201), "xyzzy-plugh")
	after.end()
}
