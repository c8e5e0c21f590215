package webhook

import (
	"bufio"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// printed: go test -run Targets -args -table shows the table.
var printed = flag.Bool("table", false, "print the tables of targets and answers")

func show(t *testing.T, format string, args ...any) {
	t.Helper()
	if *printed {
		fmt.Printf(format+"\n", args...)
	}
}

// names is a DNS server that gives each name its addresses, one after the other: a name
// with several is one that changes its meaning between two lookups.
type names struct {
	addresses map[string][]string
	asked     atomic.Int64
}

func (n *names) resolver(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go n.serve(conn)
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (n *names) serve(conn net.PacketConn) {
	buf := make([]byte, 512)
	for {
		size, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = conn.WriteTo(n.answer(buf[:size]), from)
	}
}

// answer answers one question of a DNS query.
func (n *names) answer(query []byte) []byte {
	var labels []string
	at := 12
	for query[at] != 0 {
		size := int(query[at])
		labels = append(labels, string(query[at+1:at+1+size]))
		at += size + 1
	}
	question := query[12 : at+5]
	kind := binary.BigEndian.Uint16(query[at+1:])
	name := strings.Join(labels, ".")
	var data []byte
	if known := n.addresses[name]; len(known) > 0 {
		i := 0
		if len(known) > 1 {
			i = int(n.asked.Add(1)-1) / 2 % len(known) // each lookup asks for A and AAAA
		}
		addr := netip.MustParseAddr(known[i])
		if addr.Is4() && kind == 1 || addr.Is6() && kind == 28 {
			data = addr.AsSlice()
		}
	}
	answer := append([]byte{}, query[:2]...)
	answer = append(answer, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0)
	answer = append(answer, question...)
	if data != nil {
		answer[7] = 1
		answer = append(answer, 0xc0, 12, 0, byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(len(data)))
		answer = append(answer, data...)
	}
	return answer
}

// refusedTargets are URLs that nobody may reach through nabu. %d is the port of a server
// on this machine that must not be called.
var refusedTargets = []string{
	"http://127.0.0.1:%d/", "http://127.1.2.3:%d/", "http://localhost:%d/", "http://[::1]:%d/", "http://0.0.0.0:%d/", "http://[::]:%d/",
	"http://2130706433:%d/", "http://0x7f000001:%d/", "http://017700000001:%d/", "http://0177.0.0.1:%d/", "http://0x7f.1:%d/",
	"http://127.1:%d/", "http://127.0.0.1.:%d/", "http://[::ffff:127.0.0.1]:%d/", "http://[::ffff:7f00:1]:%d/",
	"http://[::127.0.0.1]:%d/", "http://[64:ff9b::7f00:1]:%d/", "http://[64:ff9b:1::7f00:1]:%d/", "http://[2002:7f00:1::]:%d/",
	"http://[2001:0:7f00:1::]:%d/", "http://169.254.169.254/latest/meta-data/", "http://[fe80::1]/", "http://[fe80::1%%25lo]/",
	"http://[fd00:ec2::254]/", "http://168.63.129.16/", "http://100.100.100.200/", "http://192.0.0.192/",
	"http://10.0.0.1/", "http://172.16.0.1/", "http://192.168.0.1/", "http://100.64.0.1/", "http://198.18.0.1/", "http://192.0.2.1/",
	"http://224.0.0.1/", "http://255.255.255.255/", "http://240.0.0.1/", "http://[ff02::1]/", "http://[fc00::1]/",
	"http://[2001:db8::1]/", "http://93.184.216.34:22/", "http://[2606:2800:220:1::1]:25/",
	"http://good.example@127.0.0.1:%d/", "http://good.example:80@169.254.169.254/", "http://user:pass@[::1]:%d/",
	"http://inside.test:%d/", "http://mapped.test:%d/", "http://metadata.test/", "http://nat64.test/", "http://rebinding.test:%d/",
	"ftp://93.184.216.34/", "file:///etc/passwd", "gopher://127.0.0.1:%d/_", "http:///nowhere", "http://", "http://a b/", "//127.0.0.1:%d/",
}

func TestTargetsThatAreRefused(t *testing.T) {
	var called atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called.Add(1) }))
	defer server.Close()
	port := netip.MustParseAddrPort(server.Listener.Addr().String()).Port()
	dns := &names{addresses: map[string][]string{
		"inside.test": {"127.0.0.1"}, "mapped.test": {"::ffff:127.0.0.1"}, "metadata.test": {"169.254.169.254"},
		"nat64.test": {"64:ff9b::a9fe:a9fe"}, "rebinding.test": {"10.255.255.1", "127.0.0.1"},
	}}
	s := New(Config{Ports: []uint16{80, 443, port}, Timeout: 2 * time.Second, Resolver: dns.resolver(t)})
	defer s.Close()
	for _, target := range refusedTargets {
		if strings.Contains(target, "%") {
			target = fmt.Sprintf(target, port)
			target, _, _ = strings.Cut(target, "%!(EXTRA")
		}
		result := s.Send(t.Context(), Call{URL: target, Body: []byte(`{}`)})
		show(t, "%-45s %-9s %s", target, result.Outcome, result.Error)
		if strings.Contains(target, "rebinding") { // and once more, with its other address
			again := s.Send(t.Context(), Call{URL: target, Body: []byte(`{}`)})
			show(t, "%-45s %-9s %s", target, again.Outcome, again.Error)
			if again.Outcome != Dropped {
				t.Errorf("%s: %+v", target, again)
			}
		}
		if result.Outcome != Dropped || result.Status != 0 {
			t.Errorf("%s: %+v", target, result)
		}
	}
	if n := called.Load(); n > 0 {
		t.Errorf("%d calls came through", n)
	}
}

// here is a sender for servers on this machine.
func here(t *testing.T) *Sender {
	s := New(Config{AllowLoopback: true, Timeout: 300 * time.Millisecond})
	t.Cleanup(s.Close)
	return s
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		status  int
		header  [2]string
		outcome Outcome
		after   time.Duration
	}{
		{status: 200, outcome: Delivered}, {status: 201, outcome: Delivered}, {status: 204, outcome: Delivered},
		{status: 303, header: [2]string{"Location", "http://elsewhere.test/"}, outcome: Delivered}, {status: 304, outcome: Delivered},
		{status: 302, header: [2]string{"Location", "http://elsewhere.test/"}, outcome: Dropped},
		{status: 307, header: [2]string{"Location", "http://169.254.169.254/"}, outcome: Dropped},
		{status: 308, header: [2]string{"Location", "/again"}, outcome: Dropped}, // round and round
		{status: 301, outcome: Delivered}, // Zaqar takes any 3xx
		{status: 400, outcome: Dropped}, {status: 401, outcome: Dropped}, {status: 404, outcome: Dropped}, {status: 410, outcome: Dropped},
		{status: 429, outcome: Retry}, {status: 429, header: [2]string{"Retry-After", "17"}, outcome: Retry, after: 17 * time.Second},
		{status: 429, header: [2]string{"Retry-After", "-3"}, outcome: Retry}, {status: 429, header: [2]string{"Retry-After", "soon"}, outcome: Retry},
		{status: 429, header: [2]string{"Retry-After", "99999999999"}, outcome: Retry, after: math.MaxInt32 * time.Second},
		{status: 500, outcome: Retry}, {status: 502, outcome: Retry},
		{status: 503, header: [2]string{"Retry-After", "Tue, 01 Jan 2030 00:00:30 GMT"}, outcome: Retry, after: 30 * time.Second},
		{status: 504, outcome: Retry}, {status: 599, outcome: Retry},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if c.header[0] != "" {
				w.Header().Set(c.header[0], c.header[1])
			}
			w.WriteHeader(c.status)
		}))
		s := here(t)
		s.now = func() time.Time { return time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC) }
		got := s.Send(t.Context(), Call{URL: server.URL})
		server.Close()
		show(t, "%d %-45s %-9s after %s %s", c.status, strings.Join(c.header[:], " "), got.Outcome, got.RetryAfter, got.Error)
		if got.Outcome != c.outcome || got.RetryAfter != c.after || got.Unreachable || got.Unanswered {
			t.Errorf("%d %v: %+v", c.status, c.header, got)
		}
	}
}

// TestASameHostRedirectIsPosted: with its body, not turned into a GET.
func TestASameHostRedirectIsPosted(t *testing.T) {
	var body atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			http.Redirect(w, r, "/there", http.StatusFound)
			return
		}
		text, _ := io.ReadAll(r.Body)
		body.Store(r.Method + " " + string(text))
	}))
	defer server.Close()
	result := here(t).Send(t.Context(), Call{URL: server.URL, Body: []byte(`{"a":1}`)})
	if result.Outcome != Delivered || body.Load() != `POST {"a":1}` {
		t.Errorf("%+v, %v", result, body.Load())
	}
}

// TestAddressesAreEscaped where they were not, and left alone where they were.
func TestAddressesAreEscaped(t *testing.T) {
	seen := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.RequestURI }))
	defer server.Close()
	for address, want := range map[string]string{
		"/p é?x=é y HTTP/1.1": "/p%20%C3%A9?x=%C3%A9%20y%20HTTP/1.1",
		"/p%2Fq?x=%20+%zz&y":  "/p%2Fq?x=%20+%zz&y",
		`/?a="b"&c=[1],~'(d)`: `/?a=%22b%22&c=[1],~'(d)`,
	} {
		if result := here(t).Send(t.Context(), Call{URL: server.URL + address, Body: []byte(`1`)}); result.Outcome != Delivered {
			t.Errorf("%s: %+v", address, result)
			continue
		}
		if got := <-seen; got != want {
			t.Errorf("%s was called as %s, want %s", address, got, want)
		}
	}
}

// TestHeaders: a subscriber sets what it likes, but not how or where the request goes,
// nor what nabu says of itself.
func TestHeaders(t *testing.T) {
	seen := make(chan *http.Request, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r }))
	defer server.Close()
	result := here(t).Send(t.Context(), Call{
		URL: server.URL,
		Header: map[string]string{
			"content-type": "text/plain", "X-Token": "t", "Host": "elsewhere", "Transfer-Encoding": "chunked", "Content-Length": "9",
			"X-Nabu-Attempt": "99", "Bad": "a\r\nEvil: 1", "Ba d": "x", "": "y",
		},
		Fixed: map[string]string{"X-Nabu-Attempt": "1"}, Body: []byte(`1`),
	})
	if result.Outcome != Delivered {
		t.Fatalf("%+v", result)
	}
	r := <-seen
	if r.Host != strings.TrimPrefix(server.URL, "http://") || r.ContentLength != 1 || r.Header.Get("Content-Type") != "text/plain" ||
		r.Header.Get("X-Token") != "t" || r.Header.Get("X-Nabu-Attempt") != "1" || r.Header.Get("Evil") != "" || r.Header.Get("Bad") != "" {
		t.Errorf("%s %v", r.Host, r.Header)
	}
}

// TestBadSubscribers cost one bounded attempt each.
func TestBadSubscribers(t *testing.T) {
	for name, behave := range map[string]func(net.Conn){
		"never answers":  func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"closes at once": func(c net.Conn) {},
		"says garbage":   func(c net.Conn) { _, _ = io.WriteString(c, "\x00\x01\x02 hello\r\n\r\n") },
		"closes early":   func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 O") },
		"endless head":   func(c net.Conn) { forever(c, "HTTP/1.1 200 OK\r\n", "X-More: "+strings.Repeat("x", 1000)+"\r\n") },
		"endless 1xx":    func(c net.Conn) { forever(c, "", "HTTP/1.1 103 Early Hints\r\n\r\n") },
		"endless line":   func(c net.Conn) { forever(c, "HTTP/1.1 ", strings.Repeat("2", 1000)) },
		"drips its head": func(c net.Conn) { drip(c, "HTTP/1.1 200 OK\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			got, took := callOne(t, behave)
			show(t, "%-15s %-9s within %4d ms: %s", name, got.Outcome, took.Milliseconds(), got.Error)
			if got.Outcome != Retry || got.Unreachable || !got.Unanswered || got.Error == "" || took > 2*time.Second {
				t.Errorf("%+v after %s", got, took)
			}
		})
	}
	for name, behave := range map[string]func(net.Conn){
		"endless body":   func(c net.Conn) { forever(c, "HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("x", 1000)) },
		"body cut short": func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx") },
		"hanging body": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
			_, _ = io.Copy(io.Discard, c)
		},
		"endless chunks": func(c net.Conn) { forever(c, "HTTP/1.1 204 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n") },
	} {
		t.Run(name, func(t *testing.T) { // the head of the answer says all
			got, took := callOne(t, behave)
			show(t, "%-15s %-9s within %4d ms: %s", name, got.Outcome, took.Milliseconds(), got.Error)
			if got.Outcome != Delivered || took > 2*time.Second {
				t.Errorf("%+v after %s", got, took)
			}
		})
	}
}

// TestNoMoreIsReadThanAnybodyWants: the call ends when the bound is reached, not when time is up.
func TestNoMoreIsReadThanAnybodyWants(t *testing.T) {
	for name, c := range map[string]struct {
		answer  string
		outcome Outcome
	}{
		"a long body that hangs": {"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", maxResponse), Delivered},
		"a long head":            {"HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("x", maxResponse+5000) + "\r\nContent-Length: 0\r\n\r\n", Retry},
		"a head":                 {"HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("x", maxResponse/2) + "\r\nContent-Length: 0\r\n\r\n", Delivered},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(Config{AllowLoopback: true, Timeout: time.Minute})
			t.Cleanup(s.Close)
			got, took := callBy(t, s, func(conn net.Conn) {
				_, _ = io.WriteString(conn, c.answer)
				_, _ = io.Copy(io.Discard, conn)
			})
			if got.Outcome != c.outcome || took > 20*time.Second {
				t.Errorf("%+v after %s", got, took)
			}
		})
	}
}

// callOne calls a server that behaves badly.
func callOne(t *testing.T, behave func(net.Conn)) (Result, time.Duration) {
	t.Helper()
	return callBy(t, here(t), behave)
}

func callBy(t *testing.T, s *Sender, behave func(net.Conn)) (Result, time.Duration) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				_, _ = http.ReadRequest(bufio.NewReader(c))
				behave(c)
			}()
		}
	}()
	began := time.Now()
	got := s.Send(t.Context(), Call{URL: "http://" + l.Addr().String(), Body: []byte(`{}`)})
	return got, time.Since(began)
}

func forever(c net.Conn, first, again string) {
	_, err := io.WriteString(c, first)
	for err == nil {
		_, err = io.WriteString(c, again)
	}
}

func drip(c net.Conn, text string) {
	for _, char := range text {
		if _, err := io.WriteString(c, string(char)); err != nil {
			return
		}
		if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			return
		}
		_, _ = c.Read(make([]byte, 1)) // waits
	}
}

func TestErrorsShowNoPasswords(t *testing.T) {
	got := here(t).Send(t.Context(), Call{URL: "http://user:secret@127.0.0.1:1/"})
	if got.Outcome != Retry || strings.Contains(got.Error, "secret") {
		t.Errorf("%+v", got)
	}
}

// FuzzURLs: whatever is written for an address, nothing is called that is not public.
func FuzzURLs(f *testing.F) {
	for _, target := range append(refusedTargets, "http://93.184.216.34/", "https://[2606:2800:220:1::1]/x") {
		f.Add(strings.ReplaceAll(target, "%d", "80"))
	}
	f.Fuzz(func(t *testing.T, target string) {
		s := New(Config{Timeout: 100 * time.Millisecond, Resolver: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, io.EOF // no name means anything
		}}})
		defer s.Close()
		check := s.guard.Public
		s.guard.Public = func(to netip.AddrPort) error {
			if a := to.Addr(); check(to) == nil && (a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified()) {
				t.Errorf("%q leads to %s", target, to)
			}
			return io.EOF // nobody is called
		}
		if got := s.Send(t.Context(), Call{URL: target}); got.Outcome == Delivered || got.Error == "" {
			t.Errorf("%q: %+v", target, got)
		}
	})
}
