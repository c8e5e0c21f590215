package http

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nabu/domain"
	"nabu/projections"
)

// lookups are views that write down what they are asked.
type lookups struct {
	Views
	asked []string
}

func (l *lookups) note(name string, args ...any) {
	l.asked = append(l.asked, fmt.Sprint(name, args))
}

func (l *lookups) MessagesByID(ctx context.Context, queue domain.QueueID, ids []domain.MessageID) ([]projections.Message, error) {
	l.note("messages", queue, len(ids))
	return l.Views.MessagesByID(ctx, queue, ids)
}

func (l *lookups) Claim(ctx context.Context, ref domain.ClaimRef) (projections.Claim, bool, error) {
	l.note("claim", ref.Queue)
	return l.Views.Claim(ctx, ref)
}

func (l *lookups) Subscription(ctx context.Context, queue domain.QueueID, id domain.SubscriptionID) (projections.Subscription, bool, error) {
	l.note("subscription", queue)
	return l.Views.Subscription(ctx, queue, id)
}

func (l *lookups) Task(ctx context.Context, id domain.TaskID) (projections.Task, bool, error) {
	l.note("task")
	return l.Views.Task(ctx, id)
}

func (l *lookups) UserMessage(ctx context.Context, id domain.UserMessageID, project string, all bool) (projections.UserMessage, bool, error) {
	l.note("user message", project, all)
	return l.Views.UserMessage(ctx, id, project, all)
}

// stranger is somebody of one project who knows every id of another.
type stranger struct {
	*api
	views          *lookups
	theirs, nobody things
	before         int // events of the other project
}

// ofOthers counts a project's events.
const ofOthers = `SELECT count(*) FROM events WHERE stream LIKE '%/' || $1 || '/%' OR stream LIKE '%' || $2 OR stream LIKE '%' || $3`

func newStranger(t *testing.T) *stranger {
	t.Helper()
	s := &stranger{}
	s.api = newAPI(t, withPolicy(t, hostilePolicy), func(cfg *Config) {
		s.views = &lookups{Views: cfg.Views}
		cfg.Views = s.views
		cfg.Limits.MaxWait = 0
	})
	// Both projects have the queue q, and things of their own in it.
	c := newCity(s.api)
	s.theirs = c.foreign
	s.nobody = things{another(s.theirs.message), another(s.theirs.claim), another(s.theirs.subscription), another(s.theirs.task), another(s.theirs.userMessage)}
	c.ask("PUT", others, "/v2/queues/private", `{"a": "`+secret+`"}`)
	c.ask("POST", others, "/v2/queues/private/messages", `{"messages": [{"body": "`+secret+`"}]}`)
	s.before = s.count(ofOthers, others, s.theirs.task, s.theirs.userMessage)
	if s.before == 0 {
		t.Fatal("the other project has no history")
	}
	return s
}

// another is an id of which there is nothing.
func another(id string) string {
	last := "0"
	if strings.HasSuffix(id, last) {
		last = "1"
	}
	return id[:len(id)-1] + last
}

// asks sends a request as a member of the own project, and returns what came back without
// what is different each time, and what the views were asked for it.
func (s *stranger) asks(method, target, body string, of things, headers ...string) (answer, looked string) {
	s.Helper()
	fill := strings.NewReplacer(":message", of.message, ":claim", of.claim, ":subscription", of.subscription, ":task", of.task, ":told", of.userMessage)
	empty := strings.NewReplacer(of.message, ":message", of.claim, ":claim", of.claim, ":claim", of.subscription, ":subscription", of.task, ":task", of.userMessage, ":told")
	r := httptest.NewRequestWithContext(s.Context(), method, fill.Replace(target), strings.NewReader(fill.Replace(body)))
	for _, line := range properHeaders {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	r.Header.Set("X-Roles", "member,reader")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], fill.Replace(headers[i+1]))
	}
	s.views.asked = nil
	w := httptest.NewRecorder()
	s.server.Handler().ServeHTTP(w, r)
	if w.Code >= 500 {
		s.Errorf("%s %s: %d\n%s", method, target, w.Code, s.log)
	}
	if text := w.Body.String(); strings.Contains(text, secret) || strings.Contains(text, resourceOf(others)) {
		s.Errorf("%s %s tells of others: %s", method, target, text)
	}
	header := w.Header().Clone()
	header.Del(headerRequestID)
	header.Del("X-Compute-Request-Id")
	delete(header, "Content-Length")
	return empty.Replace(fmt.Sprint(w.Code, header, w.Body)), fmt.Sprint(s.views.asked)
}

// strange are requests that name what belongs to another project. One with "private" is sent
// for that queue of theirs, and for one that nobody has.
var strange = []struct{ method, target, body string }{
	{"GET", "/v2/queues/private", ``}, {"HEAD", "/v2/queues/private", ``}, {"GET", "/v2/queues/private/stats", ``},
	{"GET", "/v2/queues/private/messages?echo=true", ``}, {"GET", "/v2/queues/private/messages?echo=true&include_claimed=true&include_delayed=true&marker=0", ``},
	{"DELETE", "/v2/queues/private/messages?pop=5", ``}, {"POST", "/v2/queues/private/claims", ``}, {"GET", "/v2/queues/private/subscriptions", ``},
	{"PATCH", "/v2/queues/private", `[]`}, {"DELETE", "/v2/queues/private", ``}, {"POST", "/v2/queues/private/purge", ``}, {"GET", "/v2/queues?name=private&detailed=true&with_count=true", ``},
	{"GET", "/v2/queues?a=" + secret, ``}, {"GET", "/v2/queues?marker=private", ``},
	{"POST", "/v2/queues/private/share/revoke", `{"all": true}`},

	{"GET", "/v2/queues/q/messages/:message", ``}, {"GET", "/v2/queues/q/messages?ids=:message", ``}, {"GET", "/v2/queues/q/messages?marker=:message&echo=true", ``},
	{"DELETE", "/v2/queues/q/messages/:message", ``}, {"DELETE", "/v2/queues/q/messages/:message?claim_id=:claim", ``}, {"DELETE", "/v2/queues/q/messages?ids=:message", ``},
	{"GET", "/v2/queues/q/claims/:claim", ``}, {"PATCH", "/v2/queues/q/claims/:claim", `{"ttl": 300, "grace": 60}`}, {"DELETE", "/v2/queues/q/claims/:claim", ``},
	{"GET", "/v2/queues/q/subscriptions/:subscription", ``}, {"PATCH", "/v2/queues/q/subscriptions/:subscription", `{"ttl": 300}`},
	{"DELETE", "/v2/queues/q/subscriptions/:subscription", ``}, {"PUT", "/v2/queues/q/subscriptions/:subscription/confirm", `{"confirmed": true}`},
	{"GET", "/v2/queues/q/subscriptions?marker=:subscription", ``},

	{"GET", "/v2/tasks/:task", ``}, {"DELETE", "/v2/tasks/:task", ``}, {"GET", "/v2/tasks?id=:task", ``}, {"GET", "/image/v2/tasks?owner=" + others, ``},
	{"POST", "/v2/tasks/:task/action", `{"begin": {}}`},

	{"GET", "/v3/a1/messages/:told", ``}, {"DELETE", "/v3/a1/messages/:told", ``}, {"GET", "/v3/messages/:told", ``}, {"DELETE", "/volume/v3/messages/:told", ``},
	{"GET", "/v3/a1/messages?marker=:told", ``}, {"GET", "/v3/a1/messages?resource_uuid=" + "b2b2b2b2-03d1-4c55-8f0e-2f6a7c0e11d4", ``},
	{"GET", "/v3/b2/messages", ``}, {"GET", "/v3/b2/messages/:told", ``}, {"DELETE", "/v3/b2/messages/:told", ``}, {"POST", "/v3/b2/messages", `{"message": {"action_id": "001"}}`},
}

// TestStranger: for whoever is of another project nothing is there. What comes back is the
// same as where there is nothing indeed, and takes the same ways; nothing changes.
func TestStranger(t *testing.T) {
	t.Parallel()
	s := newStranger(t)
	for _, r := range strange {
		target := r.target
		for _, name := range []string{"private", "/b2/"} { // which nobody has, for the other half
			target = strings.ReplaceAll(target, name, strings.NewReplacer("private", "privacy", "b2", "c3").Replace(name))
		}
		same := strings.NewReplacer("privacy", "private", "/c3/", "/b2/", `"c3"`, `"b2"`) // ids may have c3 as well
		there, looked := s.asks(r.method, r.target, r.body, s.theirs)
		nowhere, lookedThere := s.asks(r.method, target, r.body, s.nobody)
		if diff := cmp.Diff(same.Replace(nowhere), there); diff != "" {
			t.Errorf("%s %s (-where there is nothing +of others):\n%s", r.method, r.target, diff)
		}
		if same.Replace(lookedThere) != looked {
			t.Errorf("%s %s: of others it looks for %s, and where there is nothing for %s", r.method, r.target, looked, lookedThere)
		}
	}
	s.untouched()
}

// untouched states that the other project has what it had.
func (s *stranger) untouched() {
	s.Helper()
	if now := s.count(ofOthers, others, s.theirs.task, s.theirs.userMessage); now != s.before {
		s.Errorf("%d events of the other project were recorded", now-s.before)
	}
	for _, path := range []string{
		"/v2/queues/private/messages?echo=true", "/v2/queues/q/messages/" + s.theirs.message, "/v2/queues/q/claims/" + s.theirs.claim,
		"/v2/queues/q/subscriptions/" + s.theirs.subscription, "/v2/tasks/" + s.theirs.task,
	} {
		if got := s.call("GET", path, ``, 200, "X-Project-Id", others); !strings.Contains(got.body, secret) {
			s.Errorf("%s: %s", path, got.body)
		}
	}
	s.call("GET", "/v3/b2/messages/"+s.theirs.userMessage, ``, 200, "X-Project-Id", others, "OpenStack-API-Version", "volume 3.71")
}

// A signed URL opens its own paths to whoever has it, whatever the bearer says to be, and
// nothing besides.
func TestStrangersSignedURL(t *testing.T) {
	t.Parallel()
	s := newStranger(t)
	var u shared
	s.call("POST", "/v2/queues/q/share", `{"paths": ["messages"], "methods": ["GET", "POST", "DELETE"]}`, 200, "X-Project-Id", mine).into(&u)
	missing, _ := s.asks("GET", "/v2/nowhere", ``, s.nobody)
	for _, target := range []string{
		"/v2/queues/private/messages", "/v2/queues/q/claims/:claim", "/v2/queues/q/messages/../claims", "/v2/queues/q/messages%2F..%2F..%2Fprivate%2Fmessages",
		"/v2/queues/q%2Fmessages", "/v2/queues/q", "/v2/queues", "/v2/queues/q/subscriptions", "/v2/queues/Q/messages", "/v2/queues/q/share",
	} {
		if got, looked := s.asks("GET", target, ``, s.theirs, u.show()...); got != missing || looked != "[]" {
			t.Errorf("%s: %s, having looked for %s", target, got, looked)
		}
	}
	// The project of a signature is a part of it.
	for _, project := range []string{others, "", "a1 ", "A1"} {
		if got, _ := s.asks("GET", "/v2/queues/q/messages", ``, s.theirs, append(u.show(), "X-Project-ID", project)...); got != missing {
			t.Errorf("as %q: %s", project, got)
		}
	}
	if got, _ := s.asks("GET", "/v2/queues/q/messages?ids=:message", ``, s.theirs, u.show()...); !strings.HasPrefix(got, "404") {
		t.Errorf("by ids of others: %s", got)
	}
	s.untouched()
}

// namesThings finds the bodies of frames that name more than a queue.
var namesThings = regexp.MustCompile(`":(message|claim|subscription)"`)

// Frames say of another project's things what they say of none.
func TestStrangersFrames(t *testing.T) {
	t.Parallel()
	s := newStranger(t)
	send := func(action, body string, of things) string {
		body = strings.NewReplacer(":message", of.message, ":claim", of.claim, ":subscription", of.subscription).Replace(body)
		w := newSocket(s.server, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2", nil))
		defer w.cancel()
		o := &order{socket: w, frame: undecoded(false), id: newRequestID()}
		text := `{"action": "` + action + `", "headers": {"Client-ID": "` + theirs + `", "X-Project-ID": "` + mine + `"}, "body": ` + body + `}`
		if err := recovering(o.handle, []byte(text)); err != nil {
			o.refuse(err)
		}
		if answered := string(o.out); strings.Contains(answered, secret) {
			t.Errorf("%s tells of others: %s", action, answered)
		}
		return strings.NewReplacer(of.message, ":message", of.claim, ":claim", of.subscription, ":subscription").Replace(fmt.Sprint(o.status, " ", string(o.out)))
	}
	for action, body := range properFrames {
		if !namesThings.MatchString(body) || action == "message_delete_many" { // which needs one kind of ids
			continue
		}
		if there, nowhere := send(action, body, s.theirs), send(action, body, s.nobody); there != nowhere {
			t.Errorf("%s: of others %s, where there is nothing %s", action, there, nowhere)
		}
	}
	send("message_delete_many", `{"queue_name": "q", "message_ids": [":message"]}`, s.theirs)
	s.untouched()
}

// A key that one project uses says nothing to another.
func TestStrangersIdempotencyKey(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	for _, project := range []string{others, mine} {
		for range 2 {
			a.call("POST", "/v2/queues/"+project+"/messages", `{"messages": [{"body": "`+project+`"}]}`, 201, "X-Project-Id", project, "Idempotency-Key", "k")
		}
	}
	a.call("POST", "/v2/queues/q/messages", `{"messages": [{"body": 1}]}`, 422, "X-Project-Id", mine, "Idempotency-Key", "k")
}
