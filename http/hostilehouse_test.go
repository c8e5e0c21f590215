package http

import (
	"encoding/json"
	"maps"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
)

// mine and others are the two projects of the siege: one attacks, the other has secrets.
const (
	mine   = "a1"
	others = "b2"
	secret = "b2-secret"
)

// city is what there is to attack: one of everything in each of the two projects.
type city struct {
	api          *api
	own, foreign things
	secrets      []string
}

// things are the ids of one of everything.
type things struct{ message, claim, subscription, task, userMessage string }

func newCity(a *api) *city {
	a.Helper()
	w := &city{api: a}
	w.foreign = w.thingsOf(others, secret, "/:claim/:subscription/:task/messages/:message/:queue")
	w.own = w.thingsOf(mine, "x", "/:claim/:subscription/:task/messages/:message/:queue")
	a.assign(onC1, "compute1")
	host, err := os.Hostname()
	if err != nil {
		a.Fatal(err)
	}
	f := w.foreign
	w.secrets = []string{secret, f.message, f.claim, f.subscription, f.task, f.userMessage, resourceOf(others)}
	if len(host) > 3 {
		w.secrets = append(w.secrets, host)
	}
	return w
}

// make makes what a route needs anew.
func (w *city) make(path string) {
	made := w.thingsOf(mine, "x", path)
	for _, its := range []struct {
		now *string
		new string
	}{
		{&w.own.message, made.message}, {&w.own.claim, made.claim}, {&w.own.subscription, made.subscription},
		{&w.own.task, made.task}, {&w.own.userMessage, made.userMessage},
	} {
		if its.new != "" {
			*its.now = its.new
		}
	}
}

// thingsOf makes what a path names in a project. In all of it stands a word.
func (w *city) thingsOf(project, word, path string) (made things) {
	if strings.HasSuffix(path, "/:queue") {
		w.ask("DELETE", project, "/v2/queues/q", ``)
	}
	if strings.Contains(path, ":queue") {
		w.ask("PUT", project, "/v2/queues/q", `{"a": "`+word+`"}`)
	}
	post := func() string {
		return lastPart(w.ask("POST", project, "/v2/queues/q/messages", `{"messages": [{"body": "`+word+`"}]}`).Resources[0])
	}
	if strings.Contains(path, ":claim") {
		post()
		made.claim = lastPart(w.ask("POST", project, "/v2/queues/q/claims", ``).location)
	}
	if strings.Contains(path, ":message") {
		made.message = post()
	}
	if strings.Contains(path, "subscription") {
		w.ask("POST", project, "/v2/queues/q/purge", `{"resource_types": ["subscriptions"]}`)
	}
	if strings.Contains(path, ":subscription") {
		made.subscription = w.ask("POST", project, "/v2/queues/q/subscriptions", `{"subscriber": "http://`+word+`.example/"}`).Subscription
	}
	if strings.Contains(path, ":task") {
		made.task = w.ask("POST", project, "/v2/tasks", `{"type": "import", "input": `+strings.Replace(imported, "x.qcow2", word, 1)+`}`).ID
	}
	if strings.Contains(path, "/messages/:message") && !strings.HasPrefix(path, "/v2/") {
		made.userMessage = lastPart(w.ask("POST", project, "/v3/"+project+"/messages",
			`{"message": {"action_id": "001", "resource_uuid": "`+resourceOf(project)+`"}}`).location)
	}
	return made
}

// told is what the city's builders read of answers.
type told struct {
	ID           string
	Resources    []string
	Subscription string `json:"subscription_id"`
	location     string
}

// ask sends a proper request of a project, without a network: there are many.
func (w *city) ask(method, project, path, body string) (its told) {
	w.api.Helper()
	r := httptest.NewRequestWithContext(w.api.Context(), method, path, strings.NewReader(body))
	for _, line := range [][2]string{{"Client-ID", ours}, {"X-Project-Id", project}, {"OpenStack-API-Version", "volume 3.71"}} {
		r.Header.Set(line[0], line[1])
	}
	got := httptest.NewRecorder()
	w.api.server.Handler().ServeHTTP(got, r)
	if got.Code >= 300 {
		w.api.Fatalf("%s %s: %d %s", method, path, got.Code, got.Body)
	}
	if got.Body.Len() > 0 {
		if err := json.Unmarshal(got.Body.Bytes(), &its); err != nil {
			w.api.Fatal(err)
		}
	}
	its.location = got.Header().Get("Location")
	return its
}

// resourceOf is what a project's user messages are about.
func resourceOf(project string) string { return strings.Repeat(project, 4) + ours[8:] }

func lastPart(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// path puts the ids of things into a route's path.
func (w *city) path(path string, of things) string {
	message := of.message
	if !strings.Contains(path, ":queue") {
		message = of.userMessage
	}
	return strings.NewReplacer(
		":version", "v2", ":project", mine, ":queue", "q", ":message", message, ":claim", of.claim, ":subscription", of.subscription,
		":task", of.task, ":image", "2d3b7b7e-0f5e-4c3c-9d8e-5f0f6a1b2c3d", ":server", onC1, ":host", "compute1",
	).Replace(path)
}

// tells is what an answer says that its client should not know, and has not said itself.
func (w *city) tells(answer, request string) string {
	for _, its := range w.secrets {
		if strings.Contains(answer, its) && !strings.Contains(request, its) {
			return "another project: " + its
		}
	}
	for _, its := range inside {
		if strings.Contains(answer, its) && !strings.Contains(request, its) {
			return "the inside: " + its
		}
	}
	return ""
}

// attackFrames sends each action on a WebSocket bodies and headers that are none.
func (s *siege) attackFrames() {
	for number, name := range slices.Sorted(maps.Keys(actions)) {
		proper := strings.NewReplacer(":message", s.city.own.message, ":claim", s.city.own.claim, ":subscription", s.city.own.subscription).
			Replace(properFrames[name])
		if proper == "" {
			s.Fatalf("%s has no proper frame in the tests", name)
		}
		_, large := s.large()
		for i, its := range bodies(proper) {
			if !large && (i+number)%everyNth != 0 {
				continue
			}
			s.attackFrame(name, `{"action": "`+name+`", "headers": {"Client-ID": "`+ours+`", "X-Project-ID": "`+mine+`"}, "body": `+its+`}`)
		}
	}
}

func (s *siege) attackFrame(name, text string) {
	s.Helper()
	for _, binary := range []bool{false, true} {
		data := []byte(text)
		if binary && json.Valid(data) {
			data = appendMessagePack(nil, text)
		}
		before := s.position
		status, answered := s.frame(binary, data)
		s.answers.count("messaging frame "+name, status)
		if status >= 500 || status < 200 || !json.Valid([]byte(answered)) {
			s.Errorf("%s: %.500q: %d %.1000s\n%s", name, text, status, answered, s.log)
		}
		if told := s.city.tells(answered, text); told != "" {
			s.answers.leak()
			s.Errorf("%s: %.500q tells of %s: %.1000s", name, text, told, answered)
		}
		if after := s.head(); status >= 400 && after != before {
			s.Errorf("%s: %.500q was refused with %d, and %d events were recorded", name, text, status, after-before)
		}
	}
}

// TestSiegeSees: the siege notices what it is there for.
func TestSiegeSees(t *testing.T) {
	t.Parallel()
	w := &city{secrets: []string{secret}}
	for _, answer := range []string{
		secret, "goroutine 1 [running]", "http/task.go:7: x", `pq: relation "tasks" does not exist`, "json: cannot unmarshal", "%!s(int=1)",
		"invalid character 'x'", "strconv.Atoi", "/home/ann", "*domain.Error",
	} {
		if w.tells(answer, "GET /") == "" {
			t.Errorf("%s is not seen", answer)
		}
		if w.tells(answer, "GET /"+answer) != "" {
			t.Errorf("%s is not its client's own", answer)
		}
	}
	if isZaqars(404, "application/json", `{"itemNotFound": {"code": 404, "message": "x"}}`) || isZaqars(404, "text/plain", `{"title": "x"}`) ||
		isGlances(404, "application/json", `{"title": "x"}`) || isGlances(404, "text/plain; charset=UTF-8", "x") ||
		isNamed(404, "application/json", `{"title": "x"}`) || isNamed(400, "application/json", `{"itemNotFound": {"code": 404, "message": "x"}}`) {
		t.Error("a form is taken for another")
	}
}

// frame carries out a frame without a network.
func (s *siege) frame(binary bool, data []byte) (status int, answered string) {
	w := newSocket(s.server, httptest.NewRequestWithContext(s.Context(), "GET", "/v2", nil))
	defer w.cancel()
	o := &order{socket: w, frame: undecoded(binary), id: newRequestID()}
	if err := recovering(o.handle, data); err != nil {
		o.refuse(err)
	}
	return o.status, string(o.appendAnswer(nil, o.status, o.out, o.replayed))
}
