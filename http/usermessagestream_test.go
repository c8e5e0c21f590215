package http

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"nabu/commands"
	"nabu/domain"
)

// stream is an answer that goes on.
type stream struct {
	testing.TB
	*http.Response
	lines *bufio.Scanner
}

// stream asks for events as they come, and waits until the server has heard that.
func (a *api) stream(path string, headers ...string) *stream {
	a.Helper()
	ctx, cancel := context.WithCancel(a.Context())
	a.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", a.url+path, nil)
	if err != nil {
		a.Fatal(err)
	}
	headers = append(append([]string{"Accept", "text/event-stream"}, inA1...), headers...)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := client.Do(r)
	if err != nil {
		a.Fatal(err)
	}
	a.Cleanup(func() { _ = response.Body.Close() })
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "text/event-stream" {
		a.Fatalf("%s: %d %v", path, response.StatusCode, response.Header)
	}
	return &stream{a.TB, response, bufio.NewScanner(response.Body)}
}

// next is the next event: its id and its message. Comments are left out.
func (s *stream) next() (id string, m userMessageBody) {
	s.Helper()
	event := ""
	for s.lines.Scan() {
		name, value, _ := strings.Cut(s.lines.Text(), ": ")
		switch name {
		case "id":
			id = value
		case "event":
			event = value
		case "data":
			if err := json.Unmarshal([]byte(value), &m); err != nil || event != "user-message" {
				s.Fatalf("%s: %v", value, err)
			}
		case "":
			if m.ID != "" {
				return id, m
			}
		}
	}
	s.Fatalf("the stream has ended: %v", s.lines.Err())
	return "", m
}

func TestUserMessageStream(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.tells("a1", `{"action_id": "001"}`) // before anybody listens
	member, admin := a.stream("/v3/a1/messages", asMember...), a.stream("/v3/messages", "Accept-Language", "de")
	filtered := a.stream("/v3/a1/messages?resource_type=volume_backup", "OpenStack-API-Version", "volume 3.5")
	other := a.tells("b2", `{"action_id": "002"}`)
	ours := a.tells("a1", `{"action_id": "002"}`)
	last := a.tells("a1", `{"action_id": "013", "resource_type": "VOLUME_BACKUP"}`)
	id, m := member.next()
	if m.ID != ours || m.UserMessage != "attach volume:An unknown error occurred." || m.Links[0].Href != a.url+"/v3/a1/messages/"+ours {
		t.Errorf("a member got %+v", m)
	}
	if _, m := member.next(); m.ID != last {
		t.Errorf("then %+v", m)
	}
	if _, m := admin.next(); m.ID != other || m.UserMessage != "Volume anhängen:Ein unbekannter Fehler ist aufgetreten." {
		t.Errorf("an administrator got %+v", m)
	}
	if _, m := filtered.next(); m.ID != last {
		t.Errorf("who waits for backups got %+v", m)
	}
	// Who comes again misses nothing, and gets nothing twice.
	again := a.stream("/v3/a1/messages", append(asMember, "Last-Event-ID", id)...)
	if _, m := again.next(); m.ID != last {
		t.Errorf("after %s came %+v", id, m)
	}
	all := a.stream("/v3/messages", "Last-Event-ID", "0")
	for range 4 {
		all.next()
	}
	for _, bad := range []string{"x", "-1", "1.5"} {
		a.volume("GET", "/v3/a1/messages", ``, 400, "Accept", "text/event-stream", "Last-Event-ID", bad).
			faults("badRequest", "Last-Event-ID must be the id of an event of this stream.")
	}
	a.volume("GET", "/v3/a1/messages", ``, 404, "Accept", "text/event-stream", "OpenStack-API-Version", "")
	a.volume("GET", "/v3/a1/messages?sort=x", ``, 400, "Accept", "text/event-stream")
	a.volume("GET", "/v3/a1/messages", ``, 200, "Accept", "application/json, text/event-stream;q=0.5").has("Content-Type", "application/json")
}

// A stream tells that it is alive, and ends when the server does.
// TestUserMessageStreamOfTooMany says what a command in the same crowd does.
func TestUserMessageStreamOfTooMany(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	for room := true; room; {
		_, _, room = a.news.ListenToUserMessages("elsewhere")
	}
	a.volume("GET", "/v3/a1/messages", ``, 503, "Accept", "text/event-stream").
		is(`{"serviceUnavailable": {"code": 503, "message": "` + commands.ErrCrowded.Error() + `"}}`)
}

func TestUserMessageStreamEnds(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) { cfg.Volumes.Heartbeat = time.Millisecond })
	s := a.stream("/v3/a1/messages")
	for range 3 {
		if !s.lines.Scan() || s.lines.Text() != ": " || !s.lines.Scan() {
			t.Fatalf("no beat: %q", s.lines.Text())
		}
	}
	if err := a.server.Shutdown(a.Context()); err != nil {
		t.Fatal(err)
	}
	for s.lines.Scan() { // until it ends
	}
	if s.lines.Err() != nil || a.news.Readers() != 0 {
		t.Errorf("%v, %d readers", s.lines.Err(), a.news.Readers())
	}
}

// passing lets in for a moment.
type passing struct{ until time.Time }

func (p passing) Authenticate(r *http.Request) (Caller, error) {
	caller, err := NoAuth{}.Authenticate(r)
	caller.Expires = p.until
	return caller, err
}

func TestUserMessageStreamEndsWithItsToken(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) { cfg.Auth = passing{time.Now().Add(50 * time.Millisecond)} })
	s := a.stream("/v3/a1/messages")
	for s.lines.Scan() { // until it ends
	}
	if s.lines.Err() != nil {
		t.Error(s.lines.Err())
	}
}

// Nothing is missed or doubled however the recording and the reading fall together.
func TestUserMessageStreamIsWhole(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	s := a.stream("/v3/a1/messages")
	const n = 300
	made := make(chan error, n)
	for range n {
		go func() {
			_, err := commands.Run(a.Context(), a.executor, commands.RecordUserMessage{
				Message: domain.NewUserMessage{Project: "a1", ID: uuid.New(), Action: "001"}, Rules: domain.DefaultUserMessageRules(),
			})
			made <- err
		}()
	}
	seen, last := map[string]bool{}, int64(0)
	for range n {
		id, m := s.next()
		position, err := strconv.ParseInt(id, 10, 64)
		if err != nil || position <= last || seen[m.ID] {
			t.Fatalf("%s after %d, %s seen: %v", id, last, m.ID, seen[m.ID])
		}
		seen[m.ID], last = true, position
	}
	for range n {
		if err := <-made; err != nil {
			t.Error(err)
		}
	}
}
