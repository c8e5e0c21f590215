package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nabu/internal/eventually"
)

// TestTheExampleOfAWorker has it do a task, fail another, and pass over what is no task.
func TestTheExampleOfAWorker(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3 on this machine")
	}
	file := filepath.Join(t.TempDir(), "nabu.yaml")
	types := "task_types:\n  resize:\n    type: object\n    required: [image_id, size]\n    properties:\n      size: {type: integer, minimum: 1}\n"
	if err := os.WriteFile(file, []byte(types), 0o600); err != nil {
		t.Fatal(err)
	}
	c := pyCloud{t, start(t, "--data-dir", newDataDir(t), "--config", file).url}
	c.call("POST", "/v2/queues/tasks.resize/messages", `{"messages": [{"body": "no task"}]}`, nil)
	good := c.task("resize", `{"image_id": "i", "size": 3}`)
	bad := c.task("resize", `{"image_id": "i", "size": 1001}`)

	worker := exec.CommandContext(context.Background(), python, "../../docs/examples/worker.py")
	worker.Env = append(os.Environ(), "NABU="+c.url, "TASK_TYPE=resize")
	var said bytes.Buffer
	worker.Stdout, worker.Stderr = &said, &said
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = worker.Process.Kill() })
	if got := c.ended(good); got.Status != "success" || string(got.Result) != `{"image_id": "i", "size": 3}` || got.Message != "2 of 3 GiB" {
		t.Errorf("the task is %+v", got)
	}
	if got := c.ended(bad); got.Status != "failure" || got.Message != "The size must not be above 1000 GiB." {
		t.Errorf("the task that cannot be done is %+v", got)
	}
	var stats struct{ Messages struct{ Total int } }
	eventually.Holds(t, "the deletion, which comes after the report", func() bool {
		c.call("GET", "/v2/queues/tasks.resize/stats", "", &stats)
		return stats.Messages.Total == 0
	})
	if err := worker.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	c.call("POST", "/v2/queues/tasks.resize/messages", `{"messages": [{"body": 1}]}`, nil) // wakes it
	if err := worker.Wait(); err != nil || !strings.Contains(said.String(), "is no task") {
		t.Errorf("it ended with %v and said\n%s", err, said.String())
	}
}

// TestTheExampleOfAWorkerLosesAClaim: be it gone, or not to be renewed in time, the worker
// tells nothing more of the task and gives the message back, and another does it.
func TestTheExampleOfAWorkerLosesAClaim(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3 on this machine")
	}
	file := filepath.Join(t.TempDir(), "nabu.yaml")
	if err := os.WriteFile(file, []byte("task_types:\n  gone: {type: object}\n  late: {type: object}\n  alone: {type: object}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := pyCloud{t, start(t, "--data-dir", newDataDir(t), "--config", file, "--max-attempts", "2").url}
	// One task, which the worker is in the middle of when its claim is lost.
	const loses = `
import worker

def resize(wanted, progress):
    its = progress.__self__
    lose(its)
    its.lost.wait(60)
    progress("too late")

worker.resize, worker.RENEW = resize, 0.2
_, headers, answer = worker.insist("POST", worker.QUEUE + "/claims?limit=1", {"ttl": worker.TTL, "grace": worker.TTL})
worker.work(worker.Task(headers["Location"], answer["messages"][0]))
`
	// Each has a type of its own, so that a claim that still waits for a killed worker does not get
	// the next one's task.
	for name, lose := range map[string]string{
		"gone": `lose = lambda its: worker.call("DELETE", its.claim)`,
		// It is not renewed in time.
		"late": `lose = lambda its: setattr(worker, "TTL", 0.1)`, // which nabu does not take
		// Nor by anyone.
		"alone": `lose = lambda its: (setattr(worker, "TTL", 0.1), setattr(worker, "NABU", "http://127.0.0.1:1"), its.lost.wait(60), setattr(worker, "NABU", nabu))`,
	} {
		task := c.task(name, `{"image_id": "i", "size": 3}`)
		its := exec.CommandContext(t.Context(), python, "-c", strings.Replace(loses, "def resize", "nabu = worker.NABU\n"+lose+"\n\ndef resize", 1))
		its.Env = append(os.Environ(), "NABU="+c.url, "TASK_TYPE="+name, "PYTHONPATH=../../docs/examples", "PYTHONDONTWRITEBYTECODE=1")
		said, err := its.CombinedOutput()
		if err != nil || !strings.Contains(string(said), "task "+task+" is not ours: the claim is over") {
			t.Fatalf("%s: it ended with %v and said\n%s", name, err, said)
		}
		var left pyTask
		if c.call("GET", "/v2/tasks/"+task, "", &left); left.Status == "success" || left.Status == "failure" || left.Message != "" {
			t.Errorf("%s: it left %+v", name, left)
		}
		another := exec.CommandContext(t.Context(), python, "../../docs/examples/worker.py")
		another.Env = append(os.Environ(), "NABU="+c.url, "TASK_TYPE="+name)
		var log bytes.Buffer
		another.Stdout, another.Stderr = &log, &log
		if err := another.Start(); err != nil {
			t.Fatal(err)
		}
		got := c.ended(task)
		_ = another.Process.Kill()
		_ = another.Wait()
		if got.Status != "success" {
			t.Errorf("%s: another leaves %+v\n%s", name, got, log.String())
		}
	}
}

// pyCloud is a nabu without Keystone.
type pyCloud struct {
	*testing.T
	url string
}

// pyTask is a task as its user sees it.
type pyTask struct {
	ID, Status, Message string
	Result              json.RawMessage
}

func (c pyCloud) call(method, path, body string, into any) {
	c.Helper()
	r, err := http.NewRequestWithContext(c.Context(), method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.Fatal(err)
	}
	r.Header.Set("Client-ID", "5a0bdc1c-8f5b-4d6b-9a5e-3c9f1e2d7b60")
	r.Header.Set("X-Project-Id", "service")
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		c.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode >= 300 {
		c.Fatalf("%s %s: %s %s %v", method, path, answer.Status, text, err)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			c.Fatalf("%s: %v", text, err)
		}
	}
}

func (c pyCloud) task(kind, input string) string {
	c.Helper()
	var made pyTask
	c.call("POST", "/v2/tasks", `{"type": "`+kind+`", "input": `+input+`}`, &made)
	return made.ID
}

// ended waits for a task's end.
func (c pyCloud) ended(id string) (its pyTask) {
	c.Helper()
	eventually.Holds(c, "the task's end", func() bool {
		c.call("GET", "/v2/tasks/"+id, "", &its)
		return its.Status == "success" || its.Status == "failure"
	})
	return its
}
