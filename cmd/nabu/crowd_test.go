package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nabu/internal/bench"
)

// crowdVariable says how many connections a crowd has.
const crowdVariable = "NABU_CROWD"

const (
	smallCrowd = 200
	// crowdPatience is how long anything may take before the test gives up.
	crowdPatience = 2 * time.Minute
	// bystanders is how many requests are made beside a crowd.
	bystanders = 200
)

const crowdHeaders = "Host: x\r\nClient-ID: 8c9e5b1a-6c1f-4d0c-9b53-6f4e3c1d2a01\r\nX-Project-ID: c0ffee\r\nOpenStack-API-Version: volume 3.71\r\n"

// crowdKinds are what connections of a crowd send, to hold a server up by it. What is not
// read stays unread.
var crowdKinds = map[string]struct {
	sends string
	reads bool // until the connection ends; otherwise no answer is read
	waits bool // for the first line of an answer, because it holds what it got
}{
	"says nothing":      {},
	"half a line":       {sends: "GET /v2/queues HTT"},
	"half a header":     {sends: "GET /v2/queues HTTP/1.1\r\n" + crowdHeaders + "X-Slow: "},
	"half a body":       {sends: "POST /v2/queues/crowd/messages HTTP/1.1\r\n" + crowdHeaders + "Content-Length: 100000\r\n\r\n{"},
	"never reads":       {sends: strings.Repeat("GET /v2/queues/large/messages?echo=true HTTP/1.1\r\n"+crowdHeaders+"\r\n", 20)},
	"pipelines":         {sends: strings.Repeat("GET /v2/ping HTTP/1.1\r\n"+crowdHeaders+"\r\n", 50), reads: true},
	"a giant header":    {sends: "GET /v2/queues HTTP/1.1\r\n" + crowdHeaders + "X-Giant: " + strings.Repeat("g", 200_000) + "\r\n\r\n", reads: true},
	"waits for a claim": {sends: "POST /v2/queues/empty/claims?wait=20 HTTP/1.1\r\n" + crowdHeaders + "Content-Length: 0\r\n\r\n"},
	"waits for a page":  {sends: "GET /v2/queues/empty/messages?wait=20 HTTP/1.1\r\n" + crowdHeaders + "\r\n"},
	"a stream":          {sends: "GET /v3/c0ffee/messages HTTP/1.1\r\n" + crowdHeaders + "Accept: text/event-stream\r\n\r\n", waits: true},
	"a WebSocket":       {sends: "GET /v2 HTTP/1.1\r\n" + crowdHeaders + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", waits: true},
}

// crowdSize is how many connections the crowd has.
func crowdSize(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv(crowdVariable), strconv.Itoa(smallCrowd)))
	if err != nil {
		t.Fatalf("%s: %v", crowdVariable, err)
	}
	return n
}

// crowd is many connections to one nabu.
type crowd struct {
	*testing.T
	nabu  *bench.Process
	conns []net.Conn
	read  sync.WaitGroup
	first sync.Map // how many first lines of an answer there were, by kind and line
}

// TestCrowd: while a crowd holds connections up in every way there is, others are served,
// and when it has gone everything that it took is free again.
func TestCrowd(t *testing.T) {
	t.Parallel()
	c := &crowd{T: t, nabu: serveProgram(t, "--data-dir", newDataDir(t))}
	c.fill()
	c.beside("alone")
	before := c.measure()
	n := crowdSize(t)
	kinds := slices.Sorted(maps.Keys(crowdKinds))
	for i := range n {
		c.join(kinds[i%len(kinds)])
	}
	t.Logf("%d connections: %s", n, c.measure())
	c.beside("beside the crowd")
	t.Logf("still %s", c.measure())
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.read.Wait()
	c.first.Range(func(key, count any) bool {
		t.Logf("%6d %v", count.(*atomic.Int64).Load(), key)
		return true
	})
	c.freed(before)
	if err := c.nabu.Stop(); err != nil {
		t.Error(err)
	}
}

// fill posts what slow readers do not read.
func (c *crowd) fill() {
	c.Helper()
	for range 4 {
		if status := c.ask("POST", "/v2/queues/large/messages", `{"messages": [{"body": "`+strings.Repeat("l", 250_000)+`"}]}`); status != http.StatusCreated {
			c.Fatalf("a message is refused with %d", status)
		}
	}
}

// join adds a connection of a kind to the crowd.
func (c *crowd) join(kind string) {
	c.Helper()
	conn, err := new(net.Dialer).DialContext(c.Context(), "tcp", c.nabu.Address)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { _ = conn.Close() })
	c.conns = append(c.conns, conn)
	its := crowdKinds[kind]
	if its.reads {
		c.read.Go(func() {
			// A server that has refused reads no more, so writing may fail.
			_, _ = io.WriteString(conn, its.sends)
			c.answered(kind, conn)
			_, _ = io.Copy(io.Discard, conn)
		})
		return
	}
	if _, err := io.WriteString(conn, its.sends); err != nil {
		c.Fatalf("%s: %v", kind, err)
	}
	if its.waits {
		c.answered(kind, conn)
	}
}

// answered counts the first line of an answer.
func (c *crowd) answered(kind string, conn net.Conn) {
	_ = conn.SetReadDeadline(time.Now().Add(crowdPatience))
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		line = "no answer"
	}
	count, _ := c.first.LoadOrStore(kind+": "+strings.TrimSpace(line), new(atomic.Int64))
	count.(*atomic.Int64).Add(1)
}

// ask makes a request on a connection of its own and returns its status.
func (c *crowd) ask(method, path, body string) int {
	c.Helper()
	r, err := http.NewRequestWithContext(c.Context(), method, "http://"+c.nabu.Address+path, strings.NewReader(body))
	if err != nil {
		c.Fatal(err)
	}
	r.Header.Set("Client-ID", "8c9e5b1a-6c1f-4d0c-9b53-6f4e3c1d2a02")
	r.Header.Set("X-Project-ID", "bystander")
	if strings.Contains(path, "large") {
		r.Header.Set("X-Project-ID", "c0ffee")
	}
	client := http.Client{Timeout: crowdPatience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		c.Fatalf("%s %s: %v; nabu says %s", method, path, err, c.nabu.LastWords())
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	return response.StatusCode
}

// beside makes the requests of somebody else, who must be served, and tells how long they took.
func (c *crowd) beside(when string) {
	c.Helper()
	var took []time.Duration
	for i := range bystanders {
		began := time.Now()
		if status := c.ask("POST", "/v2/queues/q/messages", `{"messages": [{"body": `+strconv.Itoa(i)+`}]}`); status != http.StatusCreated {
			c.Fatalf("%s a post is answered with %d", when, status)
		}
		if status := c.ask("GET", "/v2/queues/q/messages?limit=1&echo=true", ``); status != http.StatusOK {
			c.Fatalf("%s a list is answered with %d", when, status)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	c.Logf("%s: a post and a list take %s, p99 %s, at most %s", when, took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
}

// measured is what a nabu holds.
type measured map[string]float64

func (m measured) String() string {
	return fmt.Sprintf("%.0f MB, %.0f files, %.0f goroutines, %.0f waiting, %.0f WebSockets, %.0f database connections in use",
		m["process_resident_memory_bytes"]/(1<<20), m["process_open_fds"], m["go_goroutines"], m["nabu_requests_waiting"],
		m["nabu_websocket_connections"], m["in_use"])
}

// measure reads a nabu's metrics.
func (c *crowd) measure() measured {
	c.Helper()
	r, err := http.NewRequestWithContext(c.Context(), http.MethodGet, "http://"+c.nabu.Address+"/metrics", nil)
	if err != nil {
		c.Fatal(err)
	}
	client := http.Client{Timeout: crowdPatience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		c.Fatalf("%v; nabu says %s", err, c.nabu.LastWords())
	}
	defer response.Body.Close()
	m := measured{}
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if number, err := strconv.ParseFloat(value, 64); err == nil {
			m[name] = number
			if strings.HasPrefix(name, "go_sql_in_use_connections") {
				m["in_use"] += number
			}
		}
	}
	return m
}

// freed waits until a nabu holds no more than it did before.
func (c *crowd) freed(before measured) {
	c.Helper()
	const some = 15 // of the pool's connections, which stay open for a while, and what serves them
	began := time.Now()
	for {
		now := c.measure()
		if now["process_open_fds"] <= before["process_open_fds"]+some && now["go_goroutines"] <= before["go_goroutines"]+2*some &&
			now["nabu_requests_waiting"] == 0 && now["nabu_websocket_connections"] == 0 && now["in_use"] <= before["in_use"]+1 {
			c.Logf("free after %s: %s", time.Since(began), now)
			return
		}
		if time.Since(began) > crowdPatience {
			c.Fatalf("not free: %s, but before %s", now, before)
		}
	}
}

// TestCrowdAtOnce: what is posted by all at the same moment is taken, and nobody is told to come
// again.
func TestCrowdAtOnce(t *testing.T) {
	t.Parallel()
	c := &crowd{T: t, nabu: serveProgram(t, "--data-dir", newDataDir(t))}
	before := c.measure()
	n := crowdSize(t)
	body := `{"messages": [{"body": "x"}]}`
	post := fmt.Sprintf("POST /v2/queues/q/messages HTTP/1.1\r\n%sConnection: close\r\nContent-Length: %d\r\n\r\n%s", crowdHeaders, len(body), body)
	begin := make(chan struct{})
	for range n {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", c.nabu.Address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, post[:len(post)-1]); err != nil {
			t.Fatal(err)
		}
		c.read.Go(func() {
			<-begin
			_, _ = io.WriteString(conn, post[len(post)-1:])
			c.answered("a post", conn)
		})
	}
	began := time.Now()
	close(begin)
	c.read.Wait()
	t.Logf("%d posts took %s: %s", n, time.Since(began), c.measure())
	c.first.Range(func(key, count any) bool {
		t.Logf("%6d %v", count.(*atomic.Int64).Load(), key)
		if !strings.Contains(key.(string), " 201 ") {
			t.Errorf("%d were answered with %v", count.(*atomic.Int64).Load(), key)
		}
		return true
	})
	c.freed(before)
	if err := c.nabu.Stop(); err != nil {
		t.Error(err)
	}
}
