package http

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"nabu/domain"
	"nabu/internal/eventually"
)

// TestWebSocketRefusesFrames: what is no request is answered in order, with what could be
// read of it, and changes nothing.
func TestWebSocketRefusesFrames(t *testing.T) {
	t.Parallel()
	a := newAPI(t).stopWith()
	w := a.dial("/v2", false)
	const nothing = `{"action": null, "body": {}, "headers": {}, "api": "v2"}`
	deep := strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)
	for frame, want := range map[string][2]string{
		``:                  {nothing, "cannot be decoded"},
		`nonsense`:          {nothing, "cannot be decoded"},
		`"text"`:            {nothing, "cannot be decoded"},
		`[1]`:               {nothing, "must be a map"},
		"{\"a\": \"\xff\"}": {nothing, "UTF-8"},
		`{"action": "queue_list", "body": {"x": ` + deep + `}}`: {nothing, "nested more than 10000 deep"},
		`{"a": 9223372036854775808}`:                            {nothing, "64 bits"},
		`{}`:                                                    {nothing, "not a valid action"},
		`{"action": "nonsense", "body": [1], "headers": {"a":1}}`: {`{"action": "nonsense", "body": [1], "headers": {"a": 1}, "api": "v2"}`, "not a valid action"},
		`{"action": 5}`:                          {`{"action": 5, "body": {}, "headers": {}, "api": "v2"}`, "not a valid action"},
		`{"action": "queue_list"}`:               {`{"action": "queue_list", "body": {}, "headers": {}, "api": "v2"}`, "headers must have Client-Id"},
		`{"action": "queue_list", "headers": 5}`: {`{"action": "queue_list", "body": {}, "headers": {}, "api": "v2"}`, "headers must be a map"},
		`{"action": "queue_list", "headers": {"Client-ID": "` + ours + `"}}`:                            {`{"action": "queue_list", "body": {}, "headers": {"Client-ID": "` + ours + `"}, "api": "v2"}`, "headers must have X-Project-Id"},
		`{"action": "queue_list", "headers": {"Client-ID": 5, "X-Project-ID": "p1"}}`:                   {`{"action": "queue_list", "body": {}, "headers": {"Client-ID": 5, "X-Project-ID": "p1"}, "api": "v2"}`, "headers must have Client-Id"},
		`{"action": "queue_list", "headers": {"Client-ID": "me", "X-Project-ID": "p1"}}`:                {`{"action": "queue_list", "body": {}, "headers": {"Client-ID": "me", "X-Project-ID": "p1"}, "api": "v2"}`, "must be a UUID"},
		`{"action": "queue_list", "headers": {"Client-ID": "` + ours + `", "X-Project-ID": ""}}`:        {`{"action": "queue_list", "body": {}, "headers": {"Client-ID": "` + ours + `", "X-Project-ID": ""}, "api": "v2"}`, "must not be empty"},
		`{"action": "queue_list", "headers": {"Client-ID": "` + ours + `", "X-Project-ID": "\u0000"}}`:  {`{"action": "queue_list", "body": {}, "headers": {"Client-ID": "` + ours + `", "X-Project-ID": "\u0000"}, "api": "v2"}`, "control characters"},
		`{"action": "queue_list", "headers": {"Client-ID": "` + ours + `", "X-Project-ID": "a\ud800"}}`: {`{"action": "queue_list", "body": {}, "headers": {"Client-ID": "` + ours + `", "X-Project-ID": "a\ud800"}, "api": "v2"}`, "half of a surrogate pair"},
		`{"action": "queue_create", "headers": {` + oursAndP1 + `}}`:                                    {`{"action": "queue_create", "body": {}, "headers": {` + oursAndP1 + `}, "api": "v2"}`, "body must have queue_name"},
		`{"action": "queue_create", "headers": {` + oursAndP1 + `}, "body": null}`:                      {`{"action": "queue_create", "body": null, "headers": {` + oursAndP1 + `}, "api": "v2"}`, "body must be a map"},
	} {
		w.send(frame)
		w.receive().refusesFrame(400, want[0], want[1])
	}
	b := a.dial("/v2", true)
	for name, frame := range map[string]string{
		"nothing": "", "garbage": "\xc1", "a text": "\xa1a", "half a map": "\x81", "half a text": "\x81\xa5ab",
		"a huge map": "\xdf\xff\xff\xff\xff", "a huge list": "\x81\xa1a\xdd\xff\xff\xff\xff", "deep": strings.Repeat("\x91", 200_000),
		"no text as a key": "\x81\x01\x01", "no UTF-8": "\x81\xa1a\xa1\xff", "an extension": "\x81\xa1a\xd4\x05\x00",
		"a time": "\x81\xa1a\xd6\xff\x00\x00\x00\x00", "not a number": "\x81\xa1a\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
		"a large integer": "\x81\xa1a\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "two": "\x80\x80", "a list": "\x91\x01",
	} {
		b.sendRaw(websocket.MessageBinary, []byte(frame))
		if got := b.receive(); !strings.Contains(got.body, `"status":400`) {
			t.Errorf("%s: %s", name, got.body)
		} else {
			got.refusesFrame(400, nothing, "")
		}
	}
	a.recorded()
}

// refusesFrame compares an answer that came before any action.
func (got answer) refusesFrame(status int, request, text string) {
	got.Helper()
	var whole struct {
		Request any
		Body    map[string]any
		Headers struct{ Status int }
	}
	got.into(&whole)
	said, _ := whole.Body["error"].(string)
	if whole.Headers.Status != status || !strings.Contains(said, text) || len(whole.Body) != 1 {
		got.Fatalf("%s, want %d and %q", got.body, status, text)
	}
	part := strings.TrimSuffix(strings.TrimPrefix(got.body, `{"request":`), got.body[strings.LastIndex(got.body, `,"body":{"error"`):])
	answer{TB: got.TB, body: part}.is(request)
}

// TestWebSocketKeepsBodies: what came as JSON is stored and repeated byte for byte.
func TestWebSocketKeepsBodies(t *testing.T) {
	t.Parallel()
	a := newAPI(t).stopWith()
	w := a.dial("/v2", false)
	const body = `{ "queue_name":"q","messages" : [ {"body": {"b" : 1.50, "a":[ ],"a":"\u00fc\ud800" } }]}`
	w.send(`{"action":"message_post","headers":{ ` + oursAndP1 + ` },"body":` + body + `}`)
	if got := w.receive(); !strings.HasPrefix(got.body, `{"request":{"action":"message_post","body":`+body+`,"headers":{ `+oursAndP1+` },"api":"v2"},"body":{"message_ids":["`) {
		t.Fatal(got.body)
	}
	const kept = `{"b" : 1.50, "a":[ ],"a":"\u00fc\ud800" }`
	if got := a.call("GET", "/v2/queues/q/messages?echo=1", ``, 200); !strings.Contains(got.body, `"body":`+kept+`}`) {
		t.Fatal(got.body)
	}
	w.send(`{"action":"message_list","headers":{` + oursAndP1 + `},"body":{"queue_name":"q","echo":true}}`)
	if got := w.receive(); !strings.Contains(got.body, `"body":`+kept+`}`) {
		t.Fatal(got.body)
	}
	b := a.dial("/v2", true)
	b.ask("message_list", `{"queue_name": "q", "echo": true}`, 200)
}

// TestWebSocketRepeatsNoCredentials: whoever reads answers learns nothing to get in with.
func TestWebSocketRepeatsNoCredentials(t *testing.T) {
	t.Parallel()
	a := newAPI(t).stopWith()
	w := a.dial("/v2", false)
	w.send(`{"action": "authenticate", "headers": {"X-Project-ID": "p1", "x-auth-token": "geheim"}}`)
	w.receive().is(`{"request": {"action": "authenticate", "body": {}, "headers": {}, "api": "v2"},
		"body": {"message": "Authenticated."}, "headers": {"status": 200}}`)
	for _, name := range []string{"X-Auth-Token", "x-auth-token", "X_AUTH_TOKEN", "URL-Signature", "X-Service-Token", "Authorization"} {
		w.send(`{"action": "nonsense", "headers": {"A": 1, "` + name + `": "geheim", "B": [2]}}`)
		w.receive().refusesFrame(400, `{"action": "nonsense", "body": {}, "headers": {"A": 1, "`+name+`": "***", "B": [2]}, "api": "v2"}`, "")
	}
	if strings.Contains(a.log.String(), "geheim") {
		t.Error(a.log)
	}
}

// tokens is an Authenticator for which a token is its project and how long it holds.
type tokens struct{}

func (tokens) Authenticate(r *http.Request) (Caller, error) {
	project, life, ok := strings.Cut(r.Header.Get("X-Auth-Token"), " for ")
	lasts, err := time.ParseDuration(life)
	if !ok || err != nil {
		return Caller{}, problemf(http.StatusUnauthorized, "Unauthorized", "no such token")
	}
	return Caller{User: "u", Project: project, HasProject: true, Roles: []string{"member"}, Expires: time.Now().Add(lasts)}, nil
}

func TestWebSocketAuthenticates(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) { cfg.Auth = tokens{} }).stopWith()
	w := a.dial("/v2", false)
	w.refused("queue_list", `{}`, 403, "must authenticate")
	login := func(project, token string, status int) answer {
		t.Helper()
		w.send(fmt.Sprintf(`{"action": "authenticate", "headers": {"X-Project-ID": %q, "X-Auth-Token": %q}}`, project, token))
		got := w.receive()
		if !strings.HasSuffix(got.body, fmt.Sprintf(`"headers":{"status":%d}}`, status)) {
			t.Fatalf("%s, want %d", got.body, status)
		}
		return got
	}
	login("p1", "wrong", 401)
	login("p1", "p2 for 1h", 403)
	w.refused("queue_list", `{}`, 403, "must authenticate")
	login("p1", "p1 for 1h", 200)
	w.ask("queue_create", `{"queue_name": "q"}`, 201)
	if events := a.history(); len(events) != 1 || events[0].Origin.Actor != "u" || events[0].Origin.Project != "p1" {
		t.Error(events)
	}
	w.send(`{"action": "queue_list", "headers": {"Client-ID": "` + ours + `", "X-Project-ID": "p2"}}`)
	w.receive().refusesFrame(403, `{"action": "queue_list", "body": {}, "headers": {"Client-ID": "`+ours+`", "X-Project-ID": "p2"}, "api": "v2"}`, "X-Project-ID")
	login("p1", "wrong", 401)
	w.ask("queue_list", `{}`, 200)
	login("p2", "p2 for 1h", 200)
	w.refused("queue_list", `{}`, 403, "X-Project-ID")
	login("p1", "p1 for 50ms", 200)
	w.closed(closeExpired)
}

func TestWebSocketBelievesWithoutAuthentication(t *testing.T) {
	t.Parallel()
	a := newAPI(t).stopWith()
	w := a.dial("/v2", false)
	create := func(project, queue string, status int) {
		t.Helper()
		w.send(fmt.Sprintf(`{"action": "queue_create", "headers": {"Client-ID": %q, "X-Project-ID": %q, "X-User-Id": "ada"}, "body": {"queue_name": %q}}`, ours, project, queue))
		if got := w.receive(); !strings.HasSuffix(got.body, fmt.Sprintf(`"headers":{"status":%d}}`, status)) {
			t.Fatalf("%s, want %d", got.body, status)
		}
	}
	create("p1", "q", 201)
	create("p2", "q", 201)
	for i, e := range a.history() {
		if e.Origin.Actor != "ada" || e.Origin.Project != fmt.Sprintf("p%d", i+1) || !strings.HasPrefix(e.Origin.RequestID, "req-") {
			t.Errorf("%+v", e.Origin)
		}
	}
	w.send(`{"action": "authenticate", "headers": {"X-Project-ID": "p1", "X-Auth-Token": "any"}}`)
	w.receive()
	create("p2", "r", 403)
	create("p1", "r", 201)
}

// TestWebSocketHandshake: errors come in Zaqar's form, and what asks for no WebSocket is
// HTTP as before.
func TestWebSocketHandshake(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) {
		cfg.WebSockets = WebSockets{Max: 2, Origins: []string{"*.example.org", "https://console.example.net"}}
	}).stopWith()
	handshake := []string{"Connection", "keep-alive, Upgrade", "Upgrade", "WebSocket", "Sec-WebSocket-Version", "13",
		"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Client-ID", "", "X-Project-ID", ""}
	with := func(headers ...string) []string { return append(append([]string{}, handshake...), headers...) }
	old := httptest.NewRequestWithContext(t.Context(), "GET", "/v2", nil)
	old.ProtoMinor = 0
	for i := 0; i < len(handshake); i += 2 {
		old.Header.Set(handshake[i], handshake[i+1])
	}
	w := httptest.NewRecorder()
	a.server.Handler().ServeHTTP(w, old)
	answer{TB: t, status: w.Code, header: w.Header(), body: w.Body.String()}.refused("Invalid handshake")
	a.call("GET", "/v2", ``, 400, with("Sec-WebSocket-Version", "8")...).refused("Invalid handshake")
	a.call("GET", "/v2", ``, 400, with("Sec-WebSocket-Key", "x")...).refused("Invalid handshake")
	a.call("GET", "/v2", ``, 400, with("Sec-WebSocket-Key", "")...).refused("Invalid handshake")
	for origin, status := range map[string]int{
		"https://evil.example.com": 403, "null": 403, "https://example.org": 403, "http://console.example.net": 403,
		"https://console.example.net": 101, "http://A.example.org": 101, a.url: 101,
	} {
		if status == 403 {
			a.call("GET", "/messaging/ws", ``, 403, with("Origin", origin)...).refused("Not authorized")
			continue
		}
		header := http.Header{"Origin": {origin}}
		conn, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(a.url, "http")+"/messaging/v2", &websocket.DialOptions{HTTPHeader: header})
		if err != nil {
			t.Errorf("%s: %v", origin, err)
			continue
		}
		if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Error(err)
		}
	}
	eventually.Within(t, unnoticed, "no WebSocket", func() bool { return a.server.sockets.count() == 0 })
	a.dial("/ws", false)
	a.dial("/messaging/v2/", false)
	a.call("GET", "/v2", ``, 503, handshake...).refused("Service temporarily unavailable").has("Retry-After", "1")

	a.call("GET", "/v2", ``, 200, "Upgrade", "websocket").has("Content-Type", "application/json-home") // a proxy took the rest away
	a.call("GET", "/messaging/ws", ``, 426).has("Upgrade", "websocket").refused("Upgrade required")
	a.call("POST", "/ws", ``, 405).has("Allow", "GET, OPTIONS")
}

func TestWebSocketStops(t *testing.T) {
	t.Parallel()
	a := newAPI(t).alone()
	var talks []*talk
	for i := range 50 {
		w := a.dial("/v2", i%2 == 0)
		w.ask("message_post", `{"queue_name": "q", "messages": [{"body": 1}]}`, 201)
		talks = append(talks, w)
	}
	var closed sync.WaitGroup
	for _, w := range talks {
		closed.Add(1)
		go func() {
			defer closed.Done()
			w.closed(websocket.StatusGoingAway)
		}()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := a.server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	closed.Wait()
	if n := a.server.sockets.count(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

// TestWebSocketStopsWithoutClients: who does not answer is not waited for beyond the time
// that there is.
func TestWebSocketStopsWithoutClients(t *testing.T) {
	t.Parallel()
	a := newAPI(t).alone()
	a.rawHandshake()
	eventually.Within(t, unnoticed, "one WebSocket", func() bool { return a.server.sockets.count() == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := a.server.Shutdown(ctx); err == nil {
		t.Error("a connection that was cut off was not told of")
	}
	if n := a.server.sockets.count(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

// rawHandshake opens a WebSocket of which the test writes and reads the bytes.
func (a *api) rawHandshake() (net.Conn, *bufio.Reader) {
	a.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(a.Context(), "tcp", strings.TrimPrefix(a.url, "http://"))
	if err != nil {
		a.Fatal(err)
	}
	a.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, "GET /v2 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if err != nil {
		a.Fatal(err)
	}
	r := bufio.NewReader(conn)
	response, err := http.ReadResponse(r, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		a.Fatal(response, err)
	}
	_ = response.Body.Close()
	return conn, r
}

// rawFrame is a frame of a client, whose mask changes nothing.
func rawFrame(head byte, payload string) []byte {
	frame := []byte{head, 0x80 | 127}
	frame = binary.BigEndian.AppendUint64(frame, uint64(len(payload)))
	return append(append(frame, 0, 0, 0, 0), payload...)
}

// TestWebSocketRefusesLargeFrames: a client that sends too much is told so, and may go on.
func TestWebSocketRefusesLargeFrames(t *testing.T) {
	t.Parallel()
	a := newAPI(t).stopWith()
	w := a.dial("/v2", false)
	for _, bytes := range []int{0, 1, 1_000_000, maxDiscarded - int(a.server.maxFrame())} {
		w.send(`{"action": "` + strings.Repeat("a", int(a.server.maxFrame())-14+bytes) + `"}`)
		want := "not a valid action"
		if bytes > 0 {
			want = "must not be larger than"
		}
		if got := w.receive(); !strings.Contains(got.body, want) || !strings.Contains(got.body, `"status":400`) {
			t.Errorf("%d bytes too many: %.200s", bytes, got.body)
		}
	}
	w.ask("queue_list", `{}`, 200)
	w.send(strings.Repeat("a", maxDiscarded+1))
	w.closed(websocket.StatusMessageTooBig)
	a.recorded()
}

// unnoticed is how long nobody notices by itself that a client has gone: a ping comes later, and so
// does the end of a wait.
const unnoticed = 15 * time.Second

func TestWebSocketSurvivesHostileClients(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) { // clients that mean well have the time they need on a busy machine
		cfg.WebSockets = WebSockets{Ping: time.Second, Write: time.Second, Idle: time.Hour}
	}).stopWith()
	const list = `{"action": "queue_list", "headers": {` + oursAndP1 + `}}`

	t.Run("a frame in pieces is one", func(t *testing.T) {
		conn, r := a.rawHandshake()
		_, _ = conn.Write(append(append(rawFrame(0x01, list[:10]), rawFrame(0x00, list[10:20])...), rawFrame(0x80, list[20:])...))
		for { // pings come as well
			head, err := r.Peek(2)
			if err != nil {
				t.Fatal(err)
			}
			if head[0] == 0x81 {
				break
			}
			_, _ = r.Discard(2 + int(head[1]))
		}
	})
	ends := map[string]func(conn net.Conn){
		"a frame that never ends": func(conn net.Conn) { _, _ = conn.Write(rawFrame(0x01, list)) },
		"a frame without a mask":  func(conn net.Conn) { _, _ = conn.Write([]byte{0x81, 1, 'a'}) },
		"an unknown kind":         func(conn net.Conn) { _, _ = conn.Write(rawFrame(0x83, "")) },
		"a huge frame": func(conn net.Conn) {
			_, _ = conn.Write([]byte{0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})
		},
		"a huge control frame": func(conn net.Conn) { _, _ = conn.Write(rawFrame(0x89, strings.Repeat("a", 1000))) },
		"no answer to pings":   func(net.Conn) {},
		"a connection cut off": func(conn net.Conn) { _ = conn.Close() },
	}
	for name, attack := range ends {
		t.Run(name, func(t *testing.T) {
			conn, r := a.rawHandshake()
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			attack(conn)
			if _, err := io.Copy(io.Discard, r); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("the connection was kept")
			}
			eventually.Within(t, unnoticed, "no WebSocket", func() bool { return a.server.sockets.count() == 0 })
		})
	}
	t.Run("answers that nobody reads", func(t *testing.T) {
		conn, _ := a.rawHandshake()
		frame := rawFrame(0x81, `{"action": "nonsense", "body": "`+strings.Repeat("a", 200_000)+`"}`)
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		for {
			if _, err := conn.Write(frame); err != nil {
				if err, ok := err.(net.Error); ok && err.Timeout() {
					t.Fatal("the connection was kept")
				}
				return
			}
		}
	})
	a.dial("/v2", false).ask("queue_list", `{}`, 200)
	a.recorded()
}

// TestWebSocketEndsWhenNobodyAsks: an answer to a ping asks for nothing. It may take as long as from
// one ping to the next, or else the client counts as gone and is told nothing.
func TestWebSocketEndsWhenNobodyAsks(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) {
		cfg.WebSockets = WebSockets{Ping: time.Second, Idle: 1500 * time.Millisecond}
	}).stopWith()
	a.dial("/v2", false).closed(websocket.StatusGoingAway)
}

// TestWebSocketAnswersInOrder: requests may be sent without waiting for answers.
func TestWebSocketAnswersInOrder(t *testing.T) {
	t.Parallel()
	a := newAPI(t).stopWith()
	w := a.dial("/v2", false)
	const many = 200
	go func() {
		for i := range many {
			_ = w.conn.Write(t.Context(), websocket.MessageText, fmt.Appendf(nil,
				`{"action": "message_post", "headers": {%s}, "body": {"queue_name": "q", "messages": [{"body": %d}]}}`, oursAndP1, i))
		}
	}()
	for i := range many {
		if got := w.receive(); !strings.Contains(got.body, fmt.Sprintf(`{"body": %d}]}`, i)) || !strings.HasSuffix(got.body, `"status":201}}`) {
			t.Fatalf("answer %d: %s", i, got.body)
		}
	}
	posted := 0
	for _, e := range a.history() {
		if its, ok := e.Event.(domain.MessagesPosted); ok {
			if its.Messages[0].Body != fmt.Sprint(posted) {
				t.Fatalf("message %d is %s", posted, its.Messages[0].Body)
			}
			posted++
		}
	}
}

// TestWebSocketMetrics: frames are counted by action and status, connections while they
// are open.
func TestWebSocketMetrics(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) { cfg.LogRequests = true }).stopWith()
	w := a.dial("/v2", false)
	w.ask("queue_list", `{}`, 200)
	w.refused("queue_create", `{}`, 400, "queue_name")
	w.refused("made_up", `{}`, 400, "not a valid action")
	counted := map[string]float64{}
	eventually.Holds(t, "all is counted", func() bool {
		families, err := a.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			for _, m := range family.GetMetric() {
				labels := ""
				for _, l := range m.GetLabel() {
					labels += " " + l.GetValue()
				}
				counted[family.GetName()+labels] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
		return counted["nabu_http_requests_total other websocket 400"] == 1
	})
	if counted["nabu_http_requests_total queue_list websocket 200"] != 1 || counted["nabu_http_requests_total queue_create websocket 400"] != 1 ||
		counted["nabu_websocket_connections"] != 1 {
		t.Error(counted)
	}
	if !strings.Contains(a.log.String(), "action=queue_list status=200") {
		t.Error(a.log)
	}
}
