package http

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// wirePatience is how long anything may take on the wire before the test gives up.
const wirePatience = 30 * time.Second

// wire is a server at a listener as the program has it, and connections to it that no proper
// client would make.
type wire struct {
	*api
	city     *city
	position int64  // of the ledger's end, as head has it
	address  string // where hostile connections go
	mu       sync.Mutex
	ends     map[string]chan struct{} // of connections, by the client's address: closed when the server has done with it
	named    map[string]bool          // ids of answered requests
	beside   *http.Client             // of somebody who behaves
}

// bystander is the project of who behaves.
const bystander = "bystander"

// newWire starts a server. hurry, if it is not nil, changes what hostile connections get; who
// behaves has a listener of his own then.
func newWire(t *testing.T, hurry func(*http.Server), change ...func(*Config)) *wire {
	t.Helper()
	w := &wire{api: newAPI(t, append(change, withPolicy(t, hostilePolicy))...), ends: map[string]chan struct{}{}, named: map[string]bool{}}
	w.city = newCity(w.api)
	s := w.server
	its := s.server
	if hurry != nil {
		its = s.serving(s.Handler())
		hurry(its)
		t.Cleanup(func() { _ = its.Close() })
	}
	its.ConnState = w.follow
	w.address = w.serve(func(l net.Listener) error { return serve(its, s.outgoing.bounded(l)) })
	w.url = "http://" + w.address
	if its != s.server {
		w.url = "http://" + w.serve(s.Serve)
	}
	w.stopAtEnd()
	transport := &http.Transport{MaxConnsPerHost: 1}
	t.Cleanup(transport.CloseIdleConnections)
	w.beside = &http.Client{Timeout: wirePatience, Transport: transport}
	for _, queue := range []string{"own", "sentinel"} {
		w.city.ask("PUT", mine, "/v2/queues/"+queue, `{"whose": "`+queue+`"}`)
	}
	w.city.ask("PUT", others, "/v2/queues/own", `{"whose": "`+secret+`"}`)
	w.city.ask("PUT", bystander, "/v2/queues/beside", `{"whose": "bystander"}`)
	w.head()
	return w
}

// serve opens a listener and returns its address.
func (w *wire) serve(serve func(net.Listener) error) string {
	w.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- serve(listener) }()
	w.Cleanup(func() {
		_ = listener.Close()
		if err := <-served; err != nil && !errors.Is(err, net.ErrClosed) {
			w.Error(err)
		}
	})
	return listener.Addr().String()
}

// follow keeps up with the server's connections.
func (w *wire) follow(conn net.Conn, state http.ConnState) {
	end := w.end(conn.RemoteAddr(), state == http.StateNew)
	if state == http.StateClosed || state == http.StateHijacked {
		close(end)
	}
}

// end is closed when the server has done with a connection. The address of one that has ended
// may come again.
func (w *wire) end(client net.Addr, isNew bool) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	end := w.ends[client.String()]
	if end != nil && isNew {
		select {
		case <-end:
			end = nil
		default:
		}
	}
	if end == nil {
		end = make(chan struct{})
		w.ends[client.String()] = end
	}
	return end
}

// head is the number of events that are not the bystander's.
func (w *wire) head() int64 {
	w.Helper()
	if err := w.DB().QueryRowContext(w.Context(), `SELECT count(*) FROM events WHERE stream NOT LIKE '%/`+bystander+`/%'`).Scan(&w.position); err != nil {
		w.Fatal(err)
	}
	return w.position
}

// besides makes requests of somebody who behaves, and gets his own answers.
func (w *wire) besides() {
	w.Helper()
	for method, want := range map[string]int{"GET": http.StatusOK, "POST": http.StatusCreated} {
		path, body := "/v2/queues/beside", ""
		if method == "POST" {
			path, body = path+"/messages", wireMessage
		}
		r, err := http.NewRequestWithContext(w.Context(), method, w.url+path, strings.NewReader(body))
		if err != nil {
			w.Fatal(err)
		}
		r.Header.Set("Client-ID", theirs)
		r.Header.Set("X-Project-ID", bystander)
		response, err := w.beside.Do(r)
		if err != nil {
			w.Fatalf("who behaves is not answered: %v\n%s", err, w.log)
		}
		got, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != want || method == "GET" && !strings.HasPrefix(string(got), `{"whose":"bystander"`) {
			w.Fatalf("who behaves gets %d %s, %v", response.StatusCode, got, err)
		}
	}
}

// rough is a connection that bytes are written to.
type rough struct {
	*wire
	*net.TCPConn
	answers *bufio.Reader
	name    string
	sends   string
}

// wrong fails the test with what was sent.
func (c *rough) wrong(format string, args ...any) {
	c.Helper()
	c.Errorf("%s: %.300q: %s", c.name, c.sends, fmt.Sprintf(format, args...))
}

// connect opens a connection and sends bytes on it. A server that has refused what comes
// first reads no more, so sending may fail.
func (w *wire) connect(name, sends string) *rough {
	w.Helper()
	conn, err := new(net.Dialer).DialContext(w.Context(), "tcp", w.address)
	if err != nil {
		w.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(wirePatience))
	c := &rough{w, conn.(*net.TCPConn), bufio.NewReader(conn), name, sends}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.WriteString(conn, sends)
	}()
	w.Cleanup(func() { _ = conn.Close(); <-sent })
	if len(sends) < 1<<16 {
		<-sent
	}
	return c
}

// answered reads answers and states their statuses.
func (c *rough) answered(want ...int) (all []answer) {
	c.Helper()
	for _, status := range want {
		got, err := c.answer()
		if err != nil {
			c.wrong("got %v, and then %v, want %v", statuses(all), err, want)
			return all
		}
		if all = append(all, got); got.status != status {
			c.wrong("got %v, want %v: %s", statuses(all), want, got.body)
		}
	}
	return all
}

func statuses(all []answer) (numbers []int) {
	for _, its := range all {
		numbers = append(numbers, its.status)
	}
	return numbers
}

// answer reads one answer and looks whether it is proper.
func (c *rough) answer() (answer, error) {
	c.Helper()
	method, _, _ := strings.Cut(c.sends, " ")
	response, err := http.ReadResponse(c.answers, &http.Request{Method: method})
	if err != nil {
		return answer{}, err
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	got := answer{c.TB, response.StatusCode, response.Header, string(text)}
	if id := got.header.Get(headerRequestID); id != "" && got.status != http.StatusContinue {
		// net/http's own refusals have no id, and some of them a 5xx that the standard asks for.
		if c.named[id] || got.status >= 500 {
			c.wrong("answered with %d as %s\n%s", got.status, id, c.log)
		}
		c.named[id] = true
	} else if body := got.body; got.status >= 400 && len(body) > 100 {
		c.wrong("answered with %q, and no id", body)
	}
	if strings.Contains(c.sends, "HTTP/1.0\r\n") && len(response.TransferEncoding) > 0 {
		c.wrong("an old client gets %v", response.TransferEncoding)
	}
	if told := c.city.tells(got.body, c.sends); told != "" {
		c.wrong("tells of %s: %.300s", told, got.body)
	}
	return got, nil
}

// ended waits until the server has closed the connection and done with it.
func (c *rough) ended() {
	c.Helper()
	if rest, err := io.ReadAll(c.answers); len(rest) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		c.wrong("after its answers came %.300q, %v", rest, err)
	}
	c.forgotten()
}

// forgotten closes the connection and waits until the server has done with it.
func (c *rough) forgotten() {
	c.Helper()
	_ = c.Close()
	select {
	case <-c.end(c.LocalAddr(), false):
	case <-time.After(wirePatience):
		c.Fatalf("%s: the server does not let the connection go", c.name)
	}
}

// goesOn states that the connection takes one more request, and gives it its own answer.
func (c *rough) goesOn() {
	c.Helper()
	if _, err := io.WriteString(c, "GET /v2/queues/sentinel HTTP/1.1\r\nConnection: close\r\n"+wireHead+"\r\n"); err != nil {
		c.wrong("the connection takes nothing more: %v", err)
	}
	c.sends = "GET after " + c.sends
	for _, got := range c.answered(200) {
		if !strings.HasPrefix(got.body, `{"whose":"sentinel"`) {
			c.wrong("another request is answered with %q", got.body)
		}
	}
	c.ended()
}

// recordedBesides states how many events there are since the last look, without the bystander's.
func (c *rough) recordedBesides(want int64) {
	c.Helper()
	before := c.position
	if now := c.head(); now != before+want {
		c.wrong("%d events were recorded, not %d", now-before, want)
	}
}

// quiet states that nothing was logged.
func (w *wire) quiet() {
	w.Helper()
	if logged := w.log.String(); logged != "" {
		w.Errorf("was logged:\n%.3000s", logged)
	}
}

// stopAtEnd ends the server with the test.
func (w *wire) stopAtEnd() {
	w.Helper()
	w.Cleanup(func() {
		w.beside.CloseIdleConnections()
		if err := w.server.Shutdown(w.Context()); err != nil && !errors.Is(err, os.ErrClosed) && w.Context().Err() == nil {
			w.Error(err)
		}
	})
}

// wireCase is what is sent on a connection, and what becomes of it.
type wireCase struct {
	sends   string
	answers []int
	then    after
	records int64 // events
}

// after is what a connection is like when its answers have come.
type after int

const (
	closes after = iota // by the server
	goesOn              // for further requests
	waits               // for the rest of a request, that never comes
)

// TestTheWire sends what no proper client would, byte by byte. Nothing that is not a whole
// request changes anything, nobody gets the answer of another request, and who behaves is
// answered all the while.
func TestTheWire(t *testing.T) {
	t.Parallel()
	for group, cases := range wireCases() {
		t.Run(group, func(t *testing.T) {
			t.Parallel()
			w := newWire(t, nil)
			for name, its := range cases {
				c := w.connect(name, its.sends)
				if its.then == waits {
					w.besides()
					_ = c.CloseWrite()
				}
				c.answered(its.answers...)
				if its.then != waits {
					w.besides()
				}
				if its.then == goesOn {
					c.goesOn()
				} else {
					c.ended()
				}
				c.recordedBesides(its.records)
			}
			w.quiet()
		})
	}
}

// TestTheWireCut sends all routes all but the end of their proper requests: nothing comes of it.
func TestTheWireCut(t *testing.T) {
	t.Parallel()
	w := newWire(t, nil)
	for _, table := range w.server.tables() {
		for _, r := range table.routes {
			w.city.make(r.path)
			w.head()
			proper := properRequests[r.method+" "+r.path].request(r, w.city)
			for _, chunked := range []bool{false, true} {
				proper.chunked = chunked
				if proper.body == "" {
					proper.body = "{}"
				}
				text := proper.text()
				c := w.connect(r.path, text[:len(text)-1])
				_ = c.CloseWrite()
				_, _ = io.Copy(io.Discard, c.answers)
				c.forgotten()
				c.recordedBesides(0)
			}
		}
	}
	w.besides()
	w.quiet()
}
