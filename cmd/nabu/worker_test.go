package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nabu/internal/eventually"
)

// imported is an import task as its owner sees it.
type imported struct {
	ID, Status, Message string
	Result              struct {
		Image string `json:"image_id"`
	}
}

// imports is a nabu, a site with images and what a worker needs to know of both.
type imports struct {
	*running
	site string
	args []string // of nabu worker
	dir  string
}

func startImports(t *testing.T) *imports {
	qcow2 := make([]byte, 64<<10)
	copy(qcow2, "QFI\xfb\x00\x00\x00\x03")
	qcow2[23], qcow2[103] = 16, 104
	mux := http.NewServeMux()
	for path, content := range map[string][]byte{"/raw": bytes.Repeat([]byte("raw. "), 1<<20), "/qcow2": qcow2} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) })
	}
	site := httptest.NewServer(mux)
	mux.Handle("/away", http.RedirectHandler(strings.Replace(site.URL, "127.0.0.1", "127.0.0.2", 1)+"/raw", http.StatusFound))
	t.Cleanup(site.Close)
	u, err := url.Parse(site.URL)
	if err != nil {
		t.Fatal(err)
	}
	filter := []string{"--import-allowed-hosts", "127.0.0.1", "--import-allowed-ports", u.Port()}
	i := &imports{site: site.URL, dir: t.TempDir()}
	i.running = start(t, append(filter, "--data-dir", newDataDir(t))...)
	i.args = append([]string{"worker", "--worker-endpoint", i.url, "--worker-dir", i.dir, "--log-format", "json"}, filter...)
	return i
}

// post makes an import task.
func (i *imports) post(path, format string) (task imported) {
	i.t.Helper()
	body := fmt.Sprintf(`{"type": "import", "input": {"import_from": %q, "import_from_format": %q, "image_properties": {"name": "x"}}}`, i.site+path, format)
	i.read(i.call("POST", "/v2/tasks", body, 201), &task)
	return task
}

func (i *imports) show(task imported) (shown imported) {
	i.t.Helper()
	i.read(i.ask("GET", "/v2/tasks/"+task.ID, "", 200, "Accept", "application/json"), &shown)
	return shown
}

func (i *imports) read(text string, to any) {
	i.t.Helper()
	if err := json.Unmarshal([]byte(text), to); err != nil {
		i.t.Fatalf("%s: %v", text, err)
	}
}

// newAddress is one of this machine at which nobody listens.
func newAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// TestAWorkerAndTheService do what tasks ask for, end to end.
func TestAWorkerAndTheService(t *testing.T) {
	i := startImports(t)
	raw, qcow2, wrong, none, away := i.post("/raw", "raw"), i.post("/qcow2", "qcow2"), i.post("/qcow2", "raw"), i.post("/none", "raw"), i.post("/away", "raw")
	var log bytes.Buffer
	if err := run(t.Context(), append(i.args, "--once", "--name", "w1"), cleanEnviron(), &log); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	for _, task := range []imported{raw, qcow2} {
		done := i.show(task)
		if done.Status != "success" {
			t.Fatalf("%+v\n%s", done, log.String())
		}
		if _, err := os.Stat(filepath.Join(i.dir, "images", done.Result.Image)); err != nil {
			t.Error(err)
		}
	}
	for _, test := range []struct {
		task imported
		says string
	}{
		{wrong, "The image is not raw as declared: its content is qcow2."},
		{none, "The image could not be fetched: its server answered 404 Not Found."},
		{away, "is redirected to where nothing may be fetched from"},
	} {
		if done := i.show(test.task); done.Status != "failure" || !strings.Contains(done.Message, test.says) {
			t.Errorf("%+v does not say %q", done, test.says)
		}
	}
	var stats struct{ Messages struct{ Total int } }
	i.read(i.ask("GET", "/v2/queues/tasks.import/stats", "", 200, "X-Project-ID", "service"), &stats)
	if stats.Messages.Total != 0 {
		t.Errorf("%d messages are left", stats.Messages.Total)
	}
}

// TestAWorkerShowsItsMetrics and ends when it is told to.
func TestAWorkerShowsItsMetrics(t *testing.T) {
	i := startImports(t)
	task := i.post("/raw", "raw")
	ctx, stop := context.WithCancel(t.Context())
	listen := newAddress(t)
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, append(i.args, "--worker-metrics-listen", listen), cleanEnviron(), io.Discard)
	}()
	var shown string
	eventually.Holds(t, "the task's metrics", func() bool {
		answer, err := http.Get("http://" + listen + "/metrics")
		if err != nil {
			return false
		}
		defer func() { _ = answer.Body.Close() }()
		text, err := io.ReadAll(answer.Body)
		shown = string(text)
		return err == nil && strings.Contains(shown, `nabu_worker_tasks_total{outcome="succeeded"} 1`)
	})
	i.mustShow(shown, "nabu_worker_bytes_total 5.24288e+06", "nabu_worker_task_seconds_count 1")
	if done := i.show(task); done.Status != "success" {
		t.Errorf("%+v", done)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestWorkersThatCannotBe are told why.
func TestWorkersThatCannotBe(t *testing.T) {
	for _, test := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--concurrency", "0"}, exitUsage, "--concurrency must be between 1 and 100"},
		{[]string{"--name", strings.Repeat("x", 256)}, exitUsage, "--name must not be longer"},
		{[]string{"--worker-claim-ttl", "1s"}, exitMisconfigured, "worker_claim_ttl (flag --worker-claim-ttl) must be between 1m0s and 12h0m0s"},
		{[]string{"--worker-wait", "1500ms"}, exitMisconfigured, "in whole seconds"},
		{[]string{"--worker-endpoint", "nabu"}, exitMisconfigured, "must be a URL"},
		{[]string{"--worker-dir", "/dev/null/x"}, exitMisconfigured, "worker_dir"},
	} {
		err := run(t.Context(), append([]string{"worker", "--once"}, test.args...), cleanEnviron(), io.Discard)
		if err == nil || exitCode(err) != test.code || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%v: %v", test.args, err)
		}
	}
	// Nobody answers there.
	err := run(t.Context(), []string{"worker", "--once", "--worker-dir", t.TempDir(), "--worker-endpoint", "http://" + newAddress(t)}, cleanEnviron(), io.Discard)
	if err == nil || errors.Is(err, context.Canceled) || strings.Count(err.Error(), "claim a task") != 1 {
		t.Errorf("it ended with %v", err)
	}
}
