package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"nabu/internal/bench"
	"nabu/internal/pgtest"
	"nabu/internal/postgres"
)

// running is a nabu serve inside the test's process.
type running struct {
	t     *testing.T
	url   string
	stop  context.CancelFunc
	ended chan struct{}
	err   error // to be read when ended is closed

	mu  sync.Mutex
	log bytes.Buffer
}

// start runs nabu serve until the end of the test and returns when it is ready.
func start(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: t, stop: cancel, ended: make(chan struct{})}
	read, write := io.Pipe()
	ready := make(chan string, 1)
	var reading sync.WaitGroup
	reading.Go(func() { r.follow(read, ready) })
	go func() {
		args = append([]string{"serve", "--listen", "127.0.0.1:0", "--log-format", "json"}, args...)
		r.err = run(ctx, args, cleanEnviron(), write)
		_ = write.Close()
		reading.Wait()
		close(r.ended)
	}()
	t.Cleanup(func() { cancel(); <-r.ended })
	select {
	case r.url = <-ready:
	case <-r.ended:
		t.Fatalf("nabu ended before it was ready: %v\n%s", r.err, r.logged())
	}
	return r
}

// follow reads the log and finds the line that says where nabu listens.
func (r *running) follow(log io.Reader, ready chan<- string) {
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var line struct{ Msg, URL string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == bench.ReadyMessage {
			ready <- line.URL
		}
		r.mu.Lock()
		r.log.Write(append(lines.Bytes(), '\n'))
		r.mu.Unlock()
	}
}

func (r *running) logged() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

// end stops nabu and wants it to go quietly.
func (r *running) end() {
	r.t.Helper()
	r.stop()
	<-r.ended
	if r.err != nil {
		r.t.Errorf("nabu ended with %v", r.err)
	}
}

// call makes a request, wants a status, and returns the body.
func (r *running) call(method, path, body string, status int) string {
	r.t.Helper()
	return r.ask(method, path, body, status)
}

// ask is call with further headers, in pairs.
func (r *running) ask(method, path, body string, status int, headers ...string) string {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	request.Header.Set("Client-ID", "8c9e5b1a-6c1f-4d0c-9b53-6f4e3c1d2a01")
	request.Header.Set("X-Project-ID", "p1")
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if response.StatusCode != status {
		r.t.Fatalf("%s %s: %s, not %d: %s", method, path, response.Status, status, text)
	}
	return string(text)
}

// signedURL is a new one of a queue, as headers.
func (r *running) signedURL(queue string) (headers []string) {
	r.t.Helper()
	var u struct {
		Paths, Methods              []string
		Project, Expires, Signature string
	}
	if err := json.Unmarshal([]byte(r.call("POST", "/v2/queues/"+queue+"/share", "{}", 200)), &u); err != nil {
		r.t.Fatal(err)
	}
	return []string{
		"URL-Signature", u.Signature, "URL-Expires", u.Expires, "X-Project-ID", u.Project,
		"URL-Methods", strings.Join(u.Methods, ","), "URL-Paths", strings.Join(u.Paths, ","),
	}
}

func (r *running) mustShow(text string, words ...string) {
	r.t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			r.t.Errorf("%q is not in:\n%s", word, text)
		}
	}
}

func TestServeOnAnEmptyFolderAndAgain(t *testing.T) {
	t.Parallel()
	data := newDataDir(t)

	first := start(t, "--data-dir", data)
	first.call("GET", "/readyz", "", 200)
	first.call("POST", "/v2/queues/orders/messages", `{"messages": [{"ttl": 300, "body": "kept"}]}`, 201)
	first.mustShow(first.call("GET", "/metrics", "", 200),
		`nabu_batch_commands_count{way="`, `nabu_ledger_head_position 2`, `nabu_commands_waiting 0`, `go_goroutines`, `nabu_batch_failures_total{way="short"} 0`)
	first.mustShow(first.logged(), "using a private PostgreSQL", data, "--database-url")

	var steps bytes.Buffer
	if err := run(t.Context(), []string{"migrate", "status", "--data-dir", data}, cleanEnviron(), &steps); err != nil {
		t.Error(err)
	}
	first.mustShow(steps.String(), "0001_ledger.sql", "T")
	first.call("GET", "/readyz", "", 200) // looking at the schema stopped nothing
	signed := first.signedURL("orders")
	first.ask("GET", "/v2/queues/orders/messages?echo=true", "", 200, signed...)
	first.end()

	second := start(t, "--data-dir", data)
	second.mustShow(second.ask("GET", "/v2/queues/orders/messages?echo=true", "", 200, signed...), `"kept"`)
	second.mustShow(second.call("GET", "/v2/queues/orders/messages?echo=true", "", 200), `"kept"`)
	second.end()

	third := start(t, "--data-dir", data, "--signed-url-secret-key", "another")
	third.ask("GET", "/v2/queues/orders/messages?echo=true", "", 404, signed...)
	third.ask("GET", "/v2/queues/orders/messages?echo=true", "", 200, third.signedURL("orders")...)
	third.end()
	second.mustShow(second.logged(), "stopped")
}

func TestServeRefusesAFolderInUse(t *testing.T) {
	t.Parallel()
	data := newDataDir(t)
	r := start(t, "--data-dir", data)
	err := run(t.Context(), []string{"serve", "--listen", "127.0.0.1:0", "--data-dir", data}, cleanEnviron(), io.Discard)
	if exitCode(err) != exitLocked {
		t.Errorf("exit code %d, not %d: %v", exitCode(err), exitLocked, err)
	}
	r.end()
}

func TestServeEndsWithItsPostgreSQL(t *testing.T) {
	t.Parallel()
	data := newDataDir(t)
	r := start(t, "--data-dir", data)
	if err := syscall.Kill(postmaster(t, data), syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	<-r.ended
	if exitCode(r.err) != exitFailure || !strings.Contains(r.err.Error(), "PostgreSQL ended by itself") {
		t.Errorf("exit code %d: %v", exitCode(r.err), r.err)
	}

	again := start(t, "--data-dir", data) // after a recovery
	again.call("GET", "/readyz", "", 200)
	again.end()
}

// postmaster is the process of a private PostgreSQL.
func postmaster(t *testing.T, data string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(data, "postgres", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestMigrateUpStartsAPrivatePostgreSQLForTheMoment(t *testing.T) {
	t.Parallel()
	data := newDataDir(t)
	for _, says := range []string{`^([1-9]\d*) of \d+ steps were missing and are taken\n$`, `^0 of [1-9]\d* steps`} {
		var out bytes.Buffer
		if err := run(t.Context(), []string{"migrate", "up", "--data-dir", data}, cleanEnviron(), &out); err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(says).MatchString(out.String()) {
			t.Errorf("%q does not say %q", out.String(), says)
		}
	}
}

func TestServeWithAnOwnDatabase(t *testing.T) {
	t.Parallel()
	server := pgtest.OpenServer(t, map[string]string{"fsync": "off"})
	app, owner := server.URL(postgres.App, postgres.Database), server.URL(postgres.Owner, postgres.Database)

	two := start(t, "--database-url", app, "--direct-database-url", owner)
	two.call("POST", "/v2/queues/orders/messages", `{"messages": [{"ttl": 300, "body": 1}]}`, 201)
	sessions := adminOf(t, server, postgres.Database)
	named := `SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'nabu\_%' AND application_name = 'nabu 127.0.0.1:0'`
	if number(t, sessions, named) == 0 {
		t.Error("PostgreSQL is not told which nabu it is")
	}
	two.end()
	mine := start(t, "--database-url", app+"&application_name=mine", "--direct-database-url", owner+"&application_name=mine")
	if n := number(t, sessions, named); n > 0 || number(t, sessions, `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mine'`) == 0 {
		t.Errorf("with a name of the operator's %d sessions have nabu's", n)
	}
	mine.end()
	if strings.Contains(two.logged(), "WARN") {
		t.Errorf("with two roles nabu warns:\n%s", two.logged())
	}

	one := start(t, "--database-url", owner)
	one.call("GET", "/readyz", "", 200)
	one.end()
	one.mustShow(one.logged(), "WARN", "only triggers keep the ledger append-only")

	admin, err := postgres.Open(server.URL(postgres.Admin, postgres.Database), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close() }()
	if _, err := admin.Exec(`ALTER ROLE nabu_app RESET search_path`); err != nil {
		t.Fatal(err)
	}
	err = run(t.Context(), []string{"serve", "--database-url", app, "--direct-database-url", owner}, cleanEnviron(), io.Discard)
	if exitCode(err) != exitMisconfigured || !strings.Contains(err.Error(), `ALTER ROLE "nabu_app" IN DATABASE "nabu" SET search_path`) {
		t.Errorf("exit code %d: %v", exitCode(err), err)
	}
}

func TestAPoolerIsSeen(t *testing.T) {
	t.Parallel()
	for _, pooled := range []bool{true, false} {
		db := sql.OpenDB(&backends{pooled: pooled})
		seen, err := isPooled(t.Context(), db)
		if err != nil || seen != pooled {
			t.Errorf("pooled %v is seen as %v, error %v", pooled, seen, err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestTheLogTellsWhoIsBelieved: at the start, and more loudly where others reach nabu.
func TestTheLogTellsWhoIsBelieved(t *testing.T) {
	t.Parallel()
	data := newDataDir(t)
	for _, test := range []struct {
		args  []string
		warns bool
	}{{nil, false}, {[]string{"--insecure-noauth"}, true}, {[]string{"--env", "production", "--allow-private-postgres"}, true}} {
		r := start(t, append(test.args, "--data-dir", data)...)
		r.end()
		log := r.logged()
		if !strings.Contains(log, `"auth_strategy":"noauth","policy_file":"none"`) || strings.Contains(log, "believes whatever a request says") != test.warns {
			t.Errorf("with %v the log is\n%s", test.args, log)
		}
	}
}

// TestAStartOnABusyPortChangesNothing: it takes no step of the schema.
func TestAStartOnABusyPortChangesNothing(t *testing.T) {
	t.Parallel()
	busy, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = busy.Close() }()
	server := pgtest.OpenServer(t, map[string]string{"fsync": "off"})
	if _, err := command(t, server, "serve", "--listen", busy.Addr().String()); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("the start says %v", err)
	}
	if made := schemas(t, adminOf(t, server, postgres.Database)); made != "" {
		t.Errorf("the start made %s", made)
	}
}

// TestAStartWithoutItsLoginChangesNothing: it takes no step of the schema as one role
// before it is known that the other is let in.
func TestAStartWithoutItsLoginChangesNothing(t *testing.T) {
	t.Parallel()
	server := pgtest.OpenServer(t, map[string]string{"fsync": "off"})
	db := adminOf(t, server, postgres.Database)
	for role, key := range map[string]string{postgres.App: "database_url", postgres.Owner: "direct_database_url"} {
		if _, err := db.Exec(`ALTER ROLE ` + role + ` NOLOGIN`); err != nil {
			t.Fatal(err)
		}
		_, err := command(t, server, "serve", "--listen", "127.0.0.1:0")
		if exitCode(err) != exitMisconfigured || !strings.HasPrefix(err.Error(), key+": ") || !strings.Contains(err.Error(), "does not let role") {
			t.Errorf("without a login of %s the start says %v", role, err)
		}
		if made := schemas(t, db); made != "" {
			t.Errorf("without a login of %s the start made %s", role, made)
		}
		if _, err := db.Exec(`ALTER ROLE ` + role + ` LOGIN`); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTheLogHasWhyAStartFailed: in one line, where programs read it, and not where people
// have the reason before them.
func TestTheLogHasWhyAStartFailed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args  []string
		lines int
	}{
		"no database":        {[]string{"--log-format", "json", "--database-url", "postgres://u:pa55word@127.0.0.1:1/x"}, 1},
		"for people":         {[]string{"--log-format", "text", "--database-url", "postgres://u:pa55word@127.0.0.1:1/x"}, 0},
		"a bad setting":      {[]string{"--env", "prod"}, 1},
		"it too, for people": {[]string{"--log-format", "text", "--env", "prod"}, 0},
		"an open door":       {[]string{"--listen", "0.0.0.0:0"}, 1},
	} {
		var out bytes.Buffer
		err := run(t.Context(), append([]string{"serve", "--listen", "127.0.0.1:0"}, test.args...), cleanEnviron(), &out)
		if err == nil {
			t.Fatalf("%s: it started", name)
		}
		lines := 0
		for line := range strings.Lines(out.String()) {
			var said struct{ Level, Error string }
			if json.Unmarshal([]byte(line), &said) == nil && said.Level == "ERROR" && said.Error == err.Error() {
				lines++
			}
		}
		if lines != test.lines || strings.Count(out.String(), "ERROR") != test.lines {
			t.Errorf("%s: not %d lines say %q:\n%s", name, test.lines, err, out.String())
		}
	}
}
