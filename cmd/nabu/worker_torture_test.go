package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/bench"
	"nabu/internal/postgres"
)

// The workers' torture: tasks, and workers of which one is killed each second.
const (
	torturedWorkers = 8
	taskPosters     = 16
)

// workers are processes that do import tasks.
type workers struct {
	*testing.T
	args    []string
	running [torturedWorkers]*exec.Cmd
	kills   int
}

func (w *workers) begin(i int) {
	w.Helper()
	w.running[i] = exec.Command(built(w.T), w.args...)
	w.running[i].Env = cleanEnviron()
	if err := w.running[i].Start(); err != nil {
		w.Fatal(err)
	}
}

func (w *workers) kill(i int) {
	_ = w.running[i].Process.Kill()
	_ = w.running[i].Wait()
}

// TestTasksSurviveKilledWorkers: none is lost, none stays in processing, and each ends once.
// Who has died is missed when its claim is over, a minute later, so that this takes more than
// one.
func TestTasksSurviveKilledWorkers(t *testing.T) {
	t.Parallel()
	tasks := 100
	if _, limited := tortureTime(t); limited {
		tasks = 10_000
	}
	image := bytes.Repeat([]byte("raw. "), 1000)
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		pauseUpTo(100 * time.Millisecond) // so that workers are killed at every step
		_, _ = w.Write(image)
	}))
	t.Cleanup(site.Close)
	u, err := url.Parse(site.URL)
	if err != nil {
		t.Fatal(err)
	}
	filter := []string{"--import-allowed-hosts", "127.0.0.1", "--import-allowed-ports", u.Port()}
	w := &tortured{T: t, config: postgres.Config{DataDir: newDataDir(t), Program: "a test"}}
	w.args = [][]string{append([]string{"--data-dir", w.config.DataDir, "--max-attempts", "1000"}, filter...)}
	w.nabus = make([]*bench.Process, 1)
	w.Cleanup(func() { w.nabus[0].Kill() })
	w.serve(0)
	ids := w.postTasks(tasks, site.URL)
	nabu := "http://" + w.nabus[0].Address
	them := &workers{T: t, args: append([]string{"worker", "--worker-endpoint", nabu, "--worker-dir", t.TempDir(), "--worker-claim-ttl", "1m"}, filter...)}
	began := time.Now()
	for i := range them.running {
		them.begin(i)
		t.Cleanup(func() { them.kill(i) })
	}
	statuses, deadline := map[string]int{}, time.Now().Add(30*time.Minute)
	for statuses["success"]+statuses["failure"] < tasks && time.Now().Before(deadline) {
		pauseUpTo(2 * time.Second) // one each second
		if statuses["pending"] > 0 || them.kills < 3 {
			i := rand.IntN(torturedWorkers)
			them.kill(i)
			them.begin(i)
			them.kills++
		}
		statuses = w.countTasks(ids)
	}
	w.judgeTasks(ids, them.kills, statuses, time.Since(began))
	w.sameFold()
}

// postTasks makes import tasks, and returns their ids.
func (w *tortured) postTasks(n int, site string) (ids []string) {
	w.Helper()
	var mu sync.Mutex
	var posting sync.WaitGroup
	for poster := range taskPosters {
		posting.Go(func() {
			for i := poster; i < n; i += taskPosters {
				body := fmt.Sprintf(`{"type": "import", "input": {"import_from": "%s/%d", "import_from_format": "raw", "image_properties": {}}}`, site, i)
				var task imported
				if status, text := w.ask("POST", "/v2/tasks", body); status != http.StatusCreated || json.Unmarshal([]byte(text), &task) != nil {
					w.Errorf("%d %s", status, text)
					return
				}
				mu.Lock()
				ids = append(ids, task.ID)
				mu.Unlock()
			}
		})
	}
	posting.Wait()
	return ids
}

func (w *tortured) ask(method, path, body string) (status int, text string) {
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+w.nabus[0].Address+path, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("X-Project-Id", "p")
	req.Header.Set("Accept", "application/json")
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = answer.Body.Close() }()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err.Error()
	}
	return answer.StatusCode, string(got)
}

// countTasks counts the tasks by status, as their owner lists them.
func (w *tortured) countTasks(ids []string) map[string]int {
	w.Helper()
	wanted, counts := make(map[string]bool, len(ids)), map[string]int{}
	for _, id := range ids {
		wanted[id] = true
	}
	for path := "/v2/tasks?limit=1000"; path != ""; {
		status, text := w.ask("GET", path, "")
		var page struct {
			Tasks []imported
			Next  string
		}
		if err := json.Unmarshal([]byte(text), &page); err != nil || status != http.StatusOK {
			w.Fatalf("%d %s", status, text)
		}
		for _, task := range page.Tasks {
			if wanted[task.ID] {
				counts[task.Status]++
				delete(wanted, task.ID)
			}
		}
		path = page.Next
	}
	if len(wanted) > 0 {
		w.Fatalf("%d tasks are lost", len(wanted))
	}
	return counts
}

// judgeTasks wants each task to have ended once, by success, and prints the history of the
// one that was begun most often.
func (w *tortured) judgeTasks(ids []string, kills int, statuses map[string]int, took time.Duration) {
	w.Helper()
	db, err := postgres.Open(w.database(postgres.App), 2)
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	ends, begins := map[domain.TaskID]int{}, map[domain.TaskID]int{}
	var most domain.TaskID
	again := 0
	for e, err := range eventstore.ReadAll(context.Background(), db, 0, 1<<62) {
		if err != nil {
			w.Fatal(err)
		}
		switch e := e.Event.(type) {
		case domain.TaskBegun:
			if begins[e.ID]++; begins[e.ID] == 2 {
				again++
			}
			if begins[e.ID] > begins[most] {
				most = e.ID
			}
		case domain.TaskSucceeded:
			ends[e.ID]++
		case domain.TaskFailed:
			ends[e.ID]++
			w.Errorf("task %s failed: %s", e.ID, e.Message)
		}
	}
	for id, n := range ends {
		if n != 1 {
			w.Errorf("task %s ended %d times", id, n)
		}
	}
	if len(ends) != len(ids) || statuses["success"] != len(ids) {
		w.Errorf("%d of %d tasks ended, they are %v", len(ends), len(ids), statuses)
	}
	fmt.Printf("%d tasks, %d workers, %d kills: %v, %d begun more than once, after %.0f s\n",
		len(ids), torturedWorkers, kills, statuses, again, took.Seconds())
	cmd := exec.Command(built(w.T), "events", "--stream", "task/"+most.String(), "--database-url", w.database(postgres.App))
	cmd.Env = cleanEnviron()
	history, err := cmd.CombinedOutput()
	if err != nil {
		w.Errorf("nabu events: %v", err)
	}
	fmt.Print(string(history))
}
