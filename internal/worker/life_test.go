package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nabu/internal/imaging"
)

// asProcess holds what a worker is made of, for one in a process of its own.
const asProcess = "NABU_TEST_WORKER"

func TestMain(m *testing.M) {
	if spec := os.Getenv(asProcess); spec != "" {
		if err := runProcess(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func runProcess(spec string) error {
	var a at
	if err := json.Unmarshal([]byte(spec), &a); err != nil {
		return err
	}
	cfg, err := a.config()
	if err != nil {
		return err
	}
	cfg.Log = slog.New(slog.DiscardHandler)
	w, err := New(cfg)
	if err != nil {
		return err
	}
	return w.Run(context.Background())
}

// TestAWorkerThatIsKilled leaves its task to the next one, and no image.
func TestAWorkerThatIsKilled(t *testing.T) {
	gate := make(chan struct{})
	b := newBench(t, map[string]http.HandlerFunc{"/raw": gated(raw, gate)})
	id := b.post("/raw", "raw", "")
	spec, err := json.Marshal(at{"w1", b.nabu.URL, b.site.URL, b.folder})
	if err != nil {
		t.Fatal(err)
	}
	process := exec.Command(os.Args[0])
	process.Env = append(os.Environ(), asProcess+"="+string(spec))
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	b.nabu.until(t, "the worker in the middle", func() bool { return slices.Contains(b.nabu.tasks[id].progress, "Copied 1 MiB") })
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = process.Wait()
	left, err := filepath.Glob(filepath.Join(b.folder, "partial", "*"))
	if err != nil || len(left) != 1 {
		t.Fatalf("it leaves %v, %v", left, err)
	}
	// Nobody would look at what it was about to become.
	old := time.Now().Add(-2 * oldPartial)
	if err := os.Chtimes(left[0], old, old); err != nil {
		t.Fatal(err)
	}
	b.nabu.expire(id)
	b.work("w2", nil)
	close(gate)
	done := b.nabu.ended(t, id)
	b.holds(done, raw)
	if done.worker != "w2" || done.attempts != 2 {
		t.Errorf("%+v", done)
	}
}

// TestAClaimThatIsLost: the worker that had it stops, and only the other one's image stays.
func TestAClaimThatIsLost(t *testing.T) {
	gate := make(chan struct{})
	b := newBench(t, map[string]http.HandlerFunc{"/raw": gated(raw, gate)})
	id := b.post("/raw", "raw", "")
	// The first one would notice by its claim, if it looked: a report tells it as well.
	slow := b.work("slow", func(c *Config) { c.RenewEvery = time.Hour })
	b.nabu.until(t, "the first worker", func() bool { return len(b.nabu.tasks[id].progress) > 0 })
	slow.stop() // it takes no further task
	b.nabu.expire(id)
	b.work("quick", nil)
	<-slow.over
	if got := b.outcomes(); !slices.Equal(got, []Outcome{Released}) {
		t.Errorf("it went %v", got)
	}
	close(gate)
	done := b.nabu.ended(t, id)
	b.holds(done, raw)
	if done.worker != "quick" {
		t.Errorf("%+v", done)
	}
}

// TestAClaimThatIsOver is noticed when it is to be renewed.
func TestAClaimThatIsOver(t *testing.T) {
	b := newBench(t, map[string]http.HandlerFunc{"/raw": gated(raw, nil)})
	id := b.post("/raw", "raw", "")
	w := b.work("w1", func(c *Config) { c.ProgressEvery = time.Hour })
	b.nabu.until(t, "the worker", func() bool { return b.nabu.tasks[id].status == "processing" })
	w.stop()
	b.nabu.expire(id)
	<-w.over
	if got := b.outcomes(); !slices.Equal(got, []Outcome{Released}) || len(b.images()) > 0 {
		t.Errorf("it went %v", got)
	}
}

// TestAClaimThatNobodyRenews counts as lost when its time is over.
func TestAClaimThatNobodyRenews(t *testing.T) {
	b := newBench(t, map[string]http.HandlerFunc{"/raw": gated(raw, nil)})
	id := b.post("/raw", "raw", "")
	w := b.work("w1", func(c *Config) { c.ClaimTTL, c.Wait = time.Second, 0 })
	b.nabu.until(t, "the worker", func() bool { return b.nabu.tasks[id].status == "processing" })
	b.nabu.mu.Lock()
	b.nabu.down = 1 << 30
	b.nabu.mu.Unlock()
	w.stop()
	b.nabu.until(t, "the claim's release", func() bool { return b.nabu.asked("DELETE") > 0 })
	b.nabu.mu.Lock()
	b.nabu.down = 0
	b.nabu.mu.Unlock()
	<-w.over
	if got := b.outcomes(); !slices.Equal(got, []Outcome{Released}) || len(b.images()) > 0 {
		t.Errorf("it went %v", got)
	}
}

// TestATaskThatEndsUnderneath: nobody would know of the image.
func TestATaskThatEndsUnderneath(t *testing.T) {
	b := newBench(t, map[string]http.HandlerFunc{"/raw": serve(raw)})
	id := b.post("/raw", "raw", "")
	w := b.work("w1", func(c *Config) {
		c.ProgressEvery, c.RenewEvery = time.Hour, time.Hour
		c.Store = late{c.Store, func() {
			b.nabu.mu.Lock()
			defer b.nabu.mu.Unlock()
			b.nabu.tasks[id].status = "failure"
		}}
	})
	b.nabu.until(t, "the message's end", func() bool { return b.nabu.message(id).gone })
	w.end()
	if len(b.images()) > 0 {
		t.Errorf("there are %v", b.images())
	}
}

// late is a store that is watched at the end of each Put.
type late struct {
	imaging.Store
	then func()
}

func (l late) Put(ctx context.Context, image imaging.Image) (string, error) {
	id, err := l.Store.Put(ctx, image)
	l.then()
	return id, err
}

// TestAnswersThatAreLost: what was heard is said again, and nothing is done twice.
func TestAnswersThatAreLost(t *testing.T) {
	b := newBench(t, map[string]http.HandlerFunc{"/raw": serve(raw)})
	id := b.post("/raw", "raw", "")
	b.nabu.deaf = 1
	b.work("w1", func(c *Config) {
		c.ProgressEvery = time.Hour
		c.Store = late{c.Store, func() {
			b.nabu.mu.Lock()
			defer b.nabu.mu.Unlock()
			b.nabu.deaf = 2
		}}
	})
	done := b.nabu.ended(t, id)
	b.holds(done, raw)
	if done.attempts != 1 {
		t.Errorf("%+v", done)
	}
}

// TestAServerThatIsAway for a while is waited for, whatever was asked of it.
func TestAServerThatIsAway(t *testing.T) {
	gate := make(chan struct{})
	b := newBench(t, map[string]http.HandlerFunc{"/raw": gated(raw, gate)})
	b.nabu.down = 2
	b.work("w1", nil)
	id := b.post("/raw", "raw", "")
	b.nabu.until(t, "the task's beginning", func() bool { return b.nabu.tasks[id].status == "processing" })
	b.nabu.mu.Lock()
	b.nabu.down = 5
	b.nabu.mu.Unlock()
	close(gate)
	b.holds(b.nabu.ended(t, id), raw)
}

// TestAWorkerThatIsToEnd finishes what it has begun.
func TestAWorkerThatIsToEnd(t *testing.T) {
	gate := make(chan struct{})
	b := newBench(t, map[string]http.HandlerFunc{"/raw": gated(raw, gate)})
	id, next := b.post("/raw", "raw", ""), b.post("/raw", "raw", "")
	w := b.work("w1", nil)
	b.nabu.until(t, "the task's beginning", func() bool { return b.nabu.tasks[id].status == "processing" })
	w.stop()
	close(gate)
	<-w.over
	b.holds(b.nabu.ended(t, id), raw)
	if b.nabu.tasks[next].attempts > 0 || w.err != nil {
		t.Errorf("it went on to %+v, %v", b.nabu.tasks[next], w.err)
	}
}

// TestAWorkerThatHasNoTime gives back what it has begun.
func TestAWorkerThatHasNoTime(t *testing.T) {
	b := newBench(t, map[string]http.HandlerFunc{"/raw": gated(raw, nil)})
	id := b.post("/raw", "raw", "")
	w := b.work("w1", func(c *Config) { c.Drain = time.Millisecond })
	b.nabu.until(t, "the task's beginning", func() bool { return b.nabu.tasks[id].status == "processing" })
	w.stop()
	<-w.over
	if m := b.nabu.message(id); m.claim != "" || m.gone || len(b.images()) > 0 {
		t.Errorf("the message is %+v", m)
	}
}

// TestSeveralWorkers share the tasks, and each is done once.
func TestSeveralWorkers(t *testing.T) {
	b := newBench(t, map[string]http.HandlerFunc{"/raw": serve(raw), "/qcow2": serve(qcow2)})
	var ids []string
	for range 10 {
		ids = append(ids, b.post("/raw", "raw", ""), b.post("/qcow2", "qcow2", ""))
	}
	for i := range 3 {
		b.work(fmt.Sprintf("w%d", i), func(c *Config) { c.Concurrency = 2 })
	}
	var made []string
	for _, id := range ids {
		done := b.nabu.ended(t, id)
		if done.status != "success" || done.attempts != 1 {
			t.Errorf("%+v", done)
		}
		made = append(made, done.image)
	}
	slices.Sort(made)
	if got := b.images(); !slices.Equal(got, made) {
		t.Errorf("there are %v, not %v", got, made)
	}
}

// TestOnce does what there is, and ends.
func TestOnce(t *testing.T) {
	b := newBench(t, map[string]http.HandlerFunc{"/raw": serve(raw)})
	first, second := b.post("/raw", "raw", ""), b.post("/nothing", "raw", "")
	once := func(c *Config) { c.Once, c.Wait = true, 0 }
	w := b.work("w1", once)
	<-w.over
	if one, two := b.nabu.tasks[first].status, b.nabu.tasks[second].status; w.err != nil || one != "success" || two != "failure" {
		t.Errorf("%v, %s, %s", w.err, one, two)
	}
	b.nabu.down = 1
	if w = b.work("w2", once); true {
		<-w.over
	}
	if w.err == nil {
		t.Error("a server that does not answer is no failure")
	}
}

// TestMessagesThatAreNoTasks are deleted, and so are those whose task is gone.
func TestMessagesThatAreNoTasks(t *testing.T) {
	b := newBench(t, nil)
	gone := b.post("/raw", "raw", "")
	odd := b.post("/raw", "raw", "")
	b.nabu.message(odd).task = "no UUID"
	b.nabu.tasks["no UUID"] = b.nabu.tasks[odd]
	b.nabu.Config.Handler = withoutTask(b.nabu, gone)
	b.work("w1", nil)
	b.nabu.until(t, "the end of both", func() bool { return b.nabu.messages[0].gone && b.nabu.messages[1].gone })
}

// withoutTask is a nabu that does not know one of its tasks.
func withoutTask(n *nabu, id string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/tasks/"+id+"/action" {
			w.WriteHeader(404)
			return
		}
		n.ServeHTTP(w, r)
	})
}

// TestAnAnswerThatCannotBeUnderstood is no task.
func TestAnAnswerThatCannotBeUnderstood(t *testing.T) {
	for _, location := range []string{"", "http://elsewhere.example/v2/queues/q/claims/1"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", location)
			w.WriteHeader(201)
			_, _ = w.Write([]byte(`{"messages": [{"href": "/v2/queues/tasks.import/messages/1?claim_id=1", "body": {}}]}`))
		}))
		cfg, err := at{"w1", server.URL, server.URL, t.TempDir()}.config()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := cfg.Client.claim(t.Context(), lifetime{60, 60}, 0); err == nil {
			t.Errorf("%q: took %+v", location, got)
		}
		server.Close()
	}
}
