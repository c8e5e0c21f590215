package http

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nabu/internal/eventually"
)

// hurried has a server wait no longer than a test does.
func hurried(s *http.Server) {
	s.ReadHeaderTimeout, s.IdleTimeout, s.ReadTimeout = 500*time.Millisecond, 500*time.Millisecond, time.Second
}

// TestTheWireIsTimed: all that is answered by has the ends that hurried makes small.
func TestTheWireIsTimed(t *testing.T) {
	t.Parallel()
	s := newAPI(t).server
	servers := []*http.Server{s.server}
	for _, its := range s.alone {
		servers = append(servers, its)
	}
	for _, its := range servers {
		if its.ReadHeaderTimeout <= 0 || its.ReadTimeout <= 0 || its.WriteTimeout <= 0 || its.IdleTimeout <= 0 || its.MaxHeaderBytes <= 0 {
			t.Errorf("a server waits for ever, or for endless headers: %+v", its)
		}
	}
}

// TestTheWireSlowly: who sends too slowly, or stops, is not waited for, however he goes on.
func TestTheWireSlowly(t *testing.T) {
	t.Parallel()
	get := asks(getOwn)
	tests := map[string]struct {
		sends, drips string // at once, and then byte after byte
		answers      []int
	}{
		"nothing":                     {"", "", nil},
		"half a line":                 {get[:10], "", nil},
		"half a header":               {get[:100], "", nil},
		"a header by bytes":           {"", getOwn + "\r\nX-Slow: " + strings.Repeat("s", 1_000_000), nil},
		"lines by bytes":              {getOwn + "\r\n", strings.Repeat("X: \r\n", 100_000), nil},
		"the next header by bytes":    {get, getOwn + "\r\nX-Slow: " + strings.Repeat("s", 1_000_000), []int{200}},
		"nothing after an answer":     {get, "", []int{200}},
		"half a body":                 {posts(wireMessage, "Content-Length: 100"), "", []int{400}},
		"a body by bytes":             {posts("", "Content-Length: 100000"), strings.Repeat(" ", 100_000), []int{400}},
		"chunks by bytes":             {posts("", chunked), strings.Repeat("1\r\n \r\n", 100_000), []int{400}},
		"half a chunk":                {posts("20\r\n"+wireMessage[:10], chunked), "", []int{400}},
		"a trailer by bytes":          {posts(chunk(wireMessage)+"0\r\n", chunked), "X-A: " + strings.Repeat("a", 100_000), []int{400}},
		"what was asked for":          {posts("", lengthOf(wireMessage), "Expect: 100-continue"), "", []int{100, 400}},
		"half a body for no route":    {asks("POST /v2/none HTTP/1.1", "Content-Length: 100") + "x", "", []int{404}},
		"half a body to be deleted":   {asks("DELETE /v2/queues/own HTTP/1.1", "Content-Length: 100") + "x", "", []int{400}},
		"half a body that is refused": {posts("x", tooLong), "", []int{400}},
		"half a TLS hello":            {strings.ReplaceAll(tlsHello()[:50], "\n", "x"), "", nil},
	}
	w := newWire(t, hurried)
	var dripping sync.WaitGroup
	slow := map[string]*rough{}
	for name, test := range tests {
		c := w.connect(name, test.sends)
		dripping.Go(func() { c.drip(test.drips) })
		slow[name] = c
	}
	for name, c := range slow {
		c.answered(tests[name].answers...)
		w.besides()
		c.mayBeRefused()
		c.ended()
		c.recordedBesides(0)
	}
	dripping.Wait()
	w.quiet()
}

// mayBeRefused takes in what net/http says of half a header, if it says anything.
func (c *rough) mayBeRefused() {
	c.Helper()
	if got, err := c.answer(); err == nil && got.status != http.StatusBadRequest {
		c.wrong("half a request is answered with %d %s", got.status, got.body)
	}
}

// drip sends a text byte after byte until the server takes no more.
func (c *rough) drip(text string) {
	for i := range len(text) {
		if _, err := c.Write([]byte(text[i : i+1])); err != nil {
			return
		}
		select {
		case <-c.end(c.LocalAddr(), false):
			return
		case <-time.After(time.Millisecond): // or the bytes would be too many before the time is over
		}
	}
}

// TestTheWireUnread: who does not read a large answer does not hold it for ever.
func TestTheWireUnread(t *testing.T) {
	t.Parallel()
	w := newWire(t, func(s *http.Server) { s.WriteTimeout = 200 * time.Millisecond })
	list := w.large()
	c := w.connect("unread", strings.Repeat(list, 20))
	w.besides()
	select {
	case <-c.end(c.LocalAddr(), false):
	case <-time.After(wirePatience):
		t.Fatal("the answer is still being written")
	}
	_ = c.Close()
	w.head()
	w.quiet()
}

// large makes a queue with much in it, and is a request for all of that.
func (w *wire) large() string {
	for range 10 {
		w.city.ask("POST", mine, "/v2/queues/large/messages", `{"messages": [{"body": "`+strings.Repeat("l", 250_000)+`"}]}`)
	}
	w.head()
	return asks("GET /v2/queues/large/messages?echo=true&limit=20 HTTP/1.1")
}

// TestTheWireIsReset: who leaves in the middle of anything leaves nothing behind.
func TestTheWireIsReset(t *testing.T) {
	t.Parallel()
	w := newWire(t, nil)
	list := w.large()
	for name, sends := range map[string]string{
		"an answer": list, "many answers": strings.Repeat(list, 5), "a header": list[:50], "a body": posts(wireMessage, "Content-Length: 100"),
		"a chunk": posts("20\r\n{", chunked), "a wait": asks("GET /v2/queues/none/messages?wait=20 HTTP/1.1"), "nothing": "",
		"a deletion":  asks("DELETE /v2/queues/own HTTP/1.1", "Content-Length: 100"),
		"a stream":    asks("GET /v3/"+mine+"/messages HTTP/1.1", "Accept: text/event-stream", "OpenStack-API-Version: volume 3.71"),
		"a WebSocket": asks("GET /v2 HTTP/1.1", handshake...) + frameOf(textFrame, postFrame[:50]),
	} {
		for _, reset := range []bool{true, false} {
			c := w.connect(name, sends)
			if strings.Contains(name, "answer") || strings.Contains(name, "stream") || strings.Contains(name, "WebSocket") {
				if _, err := c.answers.ReadByte(); err != nil {
					t.Fatal(err)
				}
			}
			w.besides()
			if reset {
				_ = c.SetLinger(0)
			}
			c.forgotten()
			eventually.Within(w, unnoticed, "the end of "+name, func() bool { return w.server.sockets.count() == 0 && w.news.Readers() == 0 })
			c.recordedBesides(0)
		}
	}
	w.quiet()
}

// TestTheWireHalfClosed: who sends no more after a whole request is answered, or has left, and
// then nothing was done.
func TestTheWireHalfClosed(t *testing.T) {
	t.Parallel()
	const rounds = 20
	w := newWire(t, nil)
	for _, queue := range []string{"popped", "claimed"} {
		for range 2 * rounds { // two kinds of claims
			w.city.ask("POST", mine, "/v2/queues/"+queue+"/messages", wireMessage)
		}
	}
	w.head()
	for range rounds {
		for sends, its := range map[string]struct {
			status  int
			records int64
		}{
			asks(getOwn): {200, 0},
			posts(wireMessage, lengthOf(wireMessage)):                      {201, 1},
			posts("", chunked) + chunk(wireMessage) + "0\r\n\r\n":          {201, 1},
			asks("DELETE /v2/queues/popped/messages?pop=1 HTTP/1.1"):       {200, 1},
			asks("POST /v2/queues/claimed/claims?limit=1 HTTP/1.1"):        {201, 1},
			asks("POST /v2/queues/claimed/claims?limit=1&wait=5 HTTP/1.1"): {201, 1},
		} {
			c := w.connect("half-closed", sends)
			_ = c.CloseWrite()
			got, err := c.answer()
			c.ended()
			switch {
			case err != nil || got.status != its.status && got.status != statusClientLeft:
				t.Errorf("%q: %d %s, %v", sends, got.status, got.body, err)
			case got.status == its.status:
				c.recordedBesides(its.records)
			default:
				c.recordedBesides(0)
			}
			w.besides()
		}
	}
	w.quiet()
}

// TestTheWireOldStream: an answer that goes on has no chunks for a client of HTTP/1.0, which knows
// none.
func TestTheWireOldStream(t *testing.T) {
	t.Parallel()
	w := newWire(t, nil)
	c := w.connect("a stream", asks("GET /v3/"+mine+"/messages HTTP/1.0", "Accept: text/event-stream", "OpenStack-API-Version: volume 3.71"))
	response, err := http.ReadResponse(c.answers, nil)
	if err != nil || response.StatusCode != http.StatusOK || len(response.TransferEncoding) > 0 {
		t.Fatalf("%+v, %v", response, err)
	}
	w.besides()
	_ = c.CloseWrite()
	if rest, err := io.ReadAll(response.Body); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	c.ended()
	w.quiet()
}

// TestTheWirePassedOn: the real service gets whole requests and those alone, whatever they hide.
func TestTheWirePassedOn(t *testing.T) {
	t.Parallel()
	var whole atomic.Int64
	upstream := fakeImageService(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		whole.Add(1)
		if r.URL.Path != "/v2/images/x/file" {
			t.Errorf("the real service is asked for %s", r.URL)
		}
		w.WriteHeader(http.StatusAccepted)
	})
	w := newWire(t, nil, func(cfg *Config) { cfg.Images.Upstream = upstream })
	for _, cases := range []map[string]wireCase{bodyCases(), hiddenCases(), chunkCases()} {
		for name, its := range cases {
			if !strings.Contains(its.sends, "/v2/queues/q/messages") || strings.Contains(its.sends, tooLong) { // which an image may be
				continue
			}
			whole.Store(0)
			c := w.connect(name, strings.Replace(its.sends, "/v2/queues/q/messages", "/image/v2/images/x/file", 1))
			if its.then == waits {
				_ = c.CloseWrite()
			} else {
				_, _ = io.WriteString(c, asks("GET /v2/queues/sentinel HTTP/1.1", "Connection: close"))
			}
			for got, err := c.answer(); err == nil; got, err = c.answer() {
				if its.then == waits && got.status < 300 && got.status != http.StatusContinue || got.status == http.StatusCreated && its.records == 0 {
					c.wrong("half a request is answered with %d", got.status)
				}
			}
			c.forgotten()
			if n := whole.Load(); its.then == waits && n > 0 {
				c.wrong("the real service got %d whole requests of half a one", n)
			}
		}
	}
	w.besides()
	w.quiet()
}

// TestTheWireEndsHalf: a connection may be closed in one direction, so that who has not read its
// last answer still gets it.
func TestTheWireEndsHalf(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	client, err := new(net.Dialer).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	conn, err := (&outgoing{most: maxUnread}).bounded(listener).Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	half, ok := conn.(interface{ CloseWrite() error }) // what net/http looks for
	if !ok {
		t.Fatal("the connection can only be closed as a whole")
	}
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(client); err != nil {
		t.Error(err)
	}
	if _, err := io.WriteString(client, "x"); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}
