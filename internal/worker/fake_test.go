package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// nabu is a small server of tasks that keeps to the two APIs as a worker sees them.
type nabu struct {
	*httptest.Server
	t        *testing.T
	mu       sync.Mutex
	changed  chan struct{} // closed with every change, and made anew
	messages []*message
	tasks    map[string]*task
	down     int // requests that are answered with 503 before any other
	deaf     int // reports that are heard and answered with 503
	calls    []string
}

type message struct {
	id, claim string // claim: empty when it is free
	task      string
	gone      bool
}

// task is as clients see one.
type task struct {
	status, worker, text string
	input                json.RawMessage
	image                string
	attempts             int
	progress             []string
}

// requestOf is the id of the request for a task.
func requestOf(task string) string { return "req-" + task }

// madeFor fails the test unless a request says which one it is made for. What is no task was
// asked for by none.
func (n *nabu) madeFor(r *http.Request, task string) {
	want := requestOf(task)
	if uuid.Validate(task) != nil {
		want = ""
	}
	if got := r.Header.Get("X-Openstack-Request-Id"); got != want {
		n.t.Errorf("%s %s is made for %q, not for %q", r.Method, r.URL, got, want)
	}
}

func (n *nabu) taskOf(message string) string {
	for _, m := range n.messages {
		if m.id == message {
			return m.task
		}
	}
	return ""
}

func newNabu(t *testing.T) *nabu {
	n := &nabu{t: t, tasks: map[string]*task{}, changed: make(chan struct{})}
	n.Server = httptest.NewServer(n)
	t.Cleanup(n.Close)
	return n
}

// post makes a task and hands it out.
func (n *nabu) post(input string) (id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	id = uuid.NewString()
	n.tasks[id] = &task{status: "pending", input: json.RawMessage(input)}
	n.messages = append(n.messages, &message{id: uuid.NewString(), task: id})
	n.wake()
	return id
}

func (n *nabu) wake() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// until waits for a state.
func (n *nabu) until(t *testing.T, what string, is func() bool) {
	t.Helper()
	over := time.After(30 * time.Second)
	for {
		n.mu.Lock()
		done, changed := is(), n.changed
		n.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-over:
			n.mu.Lock()
			defer n.mu.Unlock()
			t.Fatalf("waited in vain for %s; asked for:\n%s", what, strings.Join(n.calls, "\n"))
		}
	}
}

// ended waits for a task's end and for that of its message.
func (n *nabu) ended(t *testing.T, id string) task {
	t.Helper()
	n.until(t, "the end of the task", func() bool {
		return (n.tasks[id].status == "success" || n.tasks[id].status == "failure") && n.message(id).gone
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	return *n.tasks[id]
}

func (n *nabu) message(task string) *message {
	for _, m := range n.messages {
		if m.task == task {
			return m
		}
	}
	return nil
}

// expire ends the claim of a task's message, as time does.
func (n *nabu) expire(task string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.message(task).claim = ""
	n.wake()
}

func (n *nabu) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Until all is read the server does not notice that its client has gone.
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	defer n.wake()
	n.calls = append(n.calls, r.Method+" "+r.URL.String())
	if n.down > 0 {
		n.down--
		w.WriteHeader(503)
		return
	}
	if r.Header.Get("X-Project-Id") != "service" || uuid.Validate(r.Header.Get("Client-ID")) != nil {
		w.WriteHeader(400)
		return
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case r.Method == "POST" && r.URL.Path == "/v2/queues/tasks.import/claims":
		n.claim(w, r)
	case parts[1] == "queues" && parts[3] == "claims":
		n.touch(w, r.Method, parts[4])
	case r.Method == "DELETE" && parts[1] == "queues" && parts[3] == "messages":
		n.madeFor(r, n.taskOf(parts[4]))
		n.remove(w, parts[4], r.URL.Query().Get("claim_id"))
	case r.Method == "POST" && parts[1] == "tasks" && parts[3] == "action":
		n.madeFor(r, parts[2])
		n.act(w, body, parts[2])
	default:
		w.WriteHeader(404)
	}
}

// claim hands out the oldest free message. That of a task in processing is of a worker that
// has died: the task is handed out anew.
func (n *nabu) claim(w http.ResponseWriter, r *http.Request) {
	seconds, _ := strconv.Atoi(r.URL.Query().Get("wait"))
	ctx, cancel := context.WithTimeout(r.Context(), time.Duration(seconds)*time.Second)
	defer cancel()
	for {
		for _, m := range n.messages {
			if m.claim != "" || m.gone {
				continue
			}
			one := n.tasks[m.task]
			if one.status == "success" || one.status == "failure" {
				m.gone = true
				n.wake()
				continue
			}
			one.status, m.claim = "pending", uuid.NewString()
			w.Header().Set("Location", "/v2/queues/tasks.import/claims/"+m.claim)
			w.WriteHeader(201)
			_ = json.NewEncoder(w).Encode(map[string]any{"messages": []any{map[string]any{
				"id": m.id, "ttl": 600, "age": 0, "href": "/v2/queues/tasks.import/messages/" + m.id + "?claim_id=" + m.claim,
				"body": map[string]any{"task_id": m.task, "type": "import", "owner": "p1", "request_id": requestOf(m.task), "input": one.input},
			}}})
			return
		}
		changed := n.changed
		n.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		n.mu.Lock()
		if ctx.Err() != nil {
			w.WriteHeader(204)
			return
		}
	}
}

func (n *nabu) touch(w http.ResponseWriter, method, claim string) {
	for _, m := range n.messages {
		if m.claim == claim {
			if method == "DELETE" {
				m.claim = ""
			}
			w.WriteHeader(204)
			return
		}
	}
	if method == "DELETE" {
		w.WriteHeader(204)
		return
	}
	w.WriteHeader(404)
}

func (n *nabu) remove(w http.ResponseWriter, id, claim string) {
	for _, m := range n.messages {
		if m.id == id && !m.gone {
			if m.claim != claim || claim == "" {
				w.WriteHeader(403)
				return
			}
			m.gone, m.claim = true, ""
		}
	}
	w.WriteHeader(204)
}

// report is the body of an action.
type report struct {
	Worker, Message string
	Result          struct {
		Image string `json:"image_id"`
	}
}

func (n *nabu) act(w http.ResponseWriter, body []byte, id string) {
	var actions map[string]report
	if json.Unmarshal(body, &actions) != nil || len(actions) != 1 {
		w.WriteHeader(400)
		return
	}
	one, known := n.tasks[id]
	if !known {
		w.WriteHeader(404)
		return
	}
	for action, said := range actions {
		n.calls = append(n.calls, fmt.Sprintf("  %s %+v to %s of %s", action, said, one.status, one.worker))
		if !one.take(action, said) {
			w.WriteHeader(409)
			return
		}
	}
	if n.deaf > 0 {
		n.deaf--
		w.WriteHeader(503)
		return
	}
	w.WriteHeader(202)
}

// take is the state machine, with each report answered twice.
func (o *task) take(action string, said report) bool {
	if action == "begin" && o.status == "pending" {
		o.status, o.worker = "processing", said.Worker
		o.attempts++
		return true
	}
	if said.Worker != o.worker {
		return false
	}
	switch action + " " + o.status {
	case "begin processing":
	case "progress processing":
		o.progress = append(o.progress, said.Message)
	case "succeed processing":
		o.status, o.image = "success", said.Result.Image
	case "fail processing":
		o.status, o.text = "failure", said.Message
	case "succeed success":
		return o.image == said.Result.Image
	case "fail failure":
		return o.text == said.Message
	default:
		return false
	}
	return true
}
