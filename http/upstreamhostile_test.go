package http

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// passesOn is a server whose three APIs pass on to one service, and the API's prefixes.
func passesOn(t *testing.T, upstream *url.URL) *api {
	t.Helper()
	return newAPI(t, func(cfg *Config) {
		cfg.Images.Upstream, cfg.Volumes.Upstream, cfg.Computes.Upstream = upstream, upstream, upstream
	})
}

var passingPrefixes = []string{imagePrefix, volumePrefix, computePrefix}

// rude is a service that answers each request with some bytes, and closes.
func rude(t *testing.T, answer string) *url.URL {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = io.WriteString(conn, answer)
			}
			_ = conn.Close()
		}
	}()
	return &url.URL{Scheme: "http", Host: listener.Addr().String()}
}

// What the service says before its answer is not its answer.
func TestUpstreamSaysSomethingBefore(t *testing.T) {
	t.Parallel()
	for _, before := range []int{100, 102, 103} {
		upstream := rude(t, fmt.Sprintf("HTTP/1.1 %d Wait\r\nLink: </x>\r\n\r\nHTTP/1.1 409 Conflict\r\nContent-Length: 2\r\nX-Image: yes\r\n\r\nno", before))
		a := passesOn(t, upstream)
		for _, prefix := range passingPrefixes {
			if got := a.call("PUT", prefix+"/x", `body`, 409); got.body != "no" || len(got.header.Values("X-Openstack-Request-Id")) != 1 {
				t.Errorf("after %d: %v %s", before, got.header, got.body)
			}
		}
	}
}

// What the service answers that is no answer is nobody's business but the log's.
func TestUpstreamAnswersNonsense(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"nothing":              "",
		"garbage":              "\x00\x01garbage\r\n\r\n",
		"another protocol":     "HTTP/1.1 101 Switching Protocols\r\n\r\n",
		"one it was not asked": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"two lengths":          "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
		"an endless header":    "HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("x", 2<<20) + "\r\n\r\n",
	} {
		a := passesOn(t, rude(t, answer))
		for _, prefix := range passingPrefixes {
			if got := a.call("GET", prefix+"/x", ``, 502); !strings.Contains(got.body, "ad gateway") || len(got.body) > 500 {
				t.Errorf("%s: %s", name, got.body)
			}
		}
	}
}

// A body that ends too early ends so for the client as well.
func TestUpstreamIsCut(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
	} {
		a := passesOn(t, rude(t, answer))
		response, err := client.Get(a.url + "/image/x")
		if err != nil {
			continue // or before its beginning
		}
		if body, err := io.ReadAll(response.Body); err == nil {
			t.Errorf("%q is taken for whole: %s", answer, body)
		}
		_ = response.Body.Close()
	}
}

// One that takes too long is not waited for, neither for its answer nor for the rest of it.
func TestUpstreamHangs(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	upstream := fakeImageService(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/begun" {
			_, _ = w.Write([]byte("begun"))
			_ = http.NewResponseController(w).Flush()
		}
		<-release
	})
	t.Cleanup(func() { close(release) })
	a := passesOn(t, upstream).alone()
	a.server.idleTransfer = 50 * time.Millisecond
	for _, prefix := range passingPrefixes {
		if got := a.call("POST", prefix+"/silent", `body`, 504); !strings.Contains(got.body, "not answer") {
			t.Errorf("%s", got.body)
		}
		response, err := client.Get(a.url + prefix + "/begun")
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(response.Body); err == nil || string(body) != "begun" {
			t.Errorf("got %s, %v", body, err)
		}
		_ = response.Body.Close()
	}
}

// Who asks decides nothing of which service is asked, or what it believes of nabu.
func TestUpstreamsHost(t *testing.T) {
	t.Parallel()
	asked := make(chan *http.Request, 1)
	upstream := fakeImageService(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "http://"+r.Host+"/v2/images/x")
		asked <- r
	})
	a := passesOn(t, upstream)
	host := strings.TrimPrefix(a.url, "http://")
	spoof := []string{
		"Forwarded", "for=1.2.3.4;host=evil", "X-Forwarded-Host", "evil", "X-Forwarded-Prefix", "/evil", "X-Forwarded-Port", "1", "X-Forwarded-For", "1.2.3.4",
		"X-Forwarded-Server", "evil", "X-Original-Url", "/evil", "X-Rewrite-Url", "/evil", "X-Http-Method-Override", "DELETE",
		"X_Forwarded_Host", "evil", "X-Image-Meta-Property-Os_distro", "x",
	}
	check := func(prefix string) {
		t.Helper()
		came := <-asked
		if came.Host != upstream.Host {
			t.Errorf("asked for host %s", came.Host)
		}
		for name, want := range map[string]string{
			"Forwarded": "", "X-Forwarded-Host": host, "X-Forwarded-Prefix": prefix, "X-Forwarded-Port": "", "X-Forwarded-Proto": "http",
			"X-Forwarded-For": "1.2.3.4, 127.0.0.1", "X-Forwarded-Server": "", "X-Original-Url": "", "X-Rewrite-Url": "", "X-Real-Ip": "127.0.0.1",
			"X_forwarded_host": "", "X-Image-Meta-Property-Os_distro": "x",
		} {
			if got := came.Header.Get(name); got != want {
				t.Errorf("%s came as %q, want %q", name, got, want)
			}
		}
	}
	for _, prefix := range passingPrefixes {
		a.call("GET", prefix+"/v2/x", ``, 200, spoof...).has("Location", a.url+prefix+"/v2/images/x")
		check(prefix)
	}
	alone := httptest.NewServer(a.server.AloneHandler(imagePrefix))
	t.Cleanup(alone.Close)
	a.url, host = alone.URL, strings.TrimPrefix(alone.URL, "http://")
	a.call("GET", "/v2/x", ``, 200, spoof...).has("Location", alone.URL+"/v2/images/x")
	check("")
}

// However somebody spells what nabu serves itself, the real service is not asked for it.
func TestUpstreamIsNotAskedForWhatNabuServes(t *testing.T) {
	t.Parallel()
	upstream := fakeImageService(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) })
	a := passesOn(t, upstream)
	for _, path := range []string{
		"/volume/v3/a1/messages/", "/volume/v3/a1//messages", "/volume//v3/a1/messages", "/volume/v3/a1/Messages", "/volume/v3/a1/messages.json",
		"/volume/v3/a1%2Fmessages", "/volume/v3/a1/messages%2F" + onC1, "/volume/v3/a1/./messages", "/volume/v3/messages//", "/volume/V3/a1/messages",
		"/volume/v3/a1/messages/" + onC1 + "/", "/volume/v3/a1/messages/" + onC1 + ".json", "/volume/v3/a1/messages%20", "/volume/v3/a1/messages%00",
		"/compute/v2.1/os-server-external-events/", "/compute/v2.1//os-server-external-events", "/compute/v2.1/a1/OS-Server-External-Events",
		"/compute/v2/os-server-external-events.json", "/compute/v2.1/a1%2Fos-server-external-events", "/compute/os-server-external-events/",
		"/compute/v2.1/os-server-hosts/" + onC1 + "/", "/compute/v2.1/os-host-queues/c1/",
		"/image/v2/tasks/", "/image//v2/tasks", "/image/v2/Tasks", "/image/v2/tasks.json", "/image/v2%2Ftasks", "/image/v2/images/x/tasks/", "/image/v2/schemas/task/",
		"/image/v2/tasks%3Bx", "/image/v2/tasks;x",
	} {
		for _, method := range []string{"GET", "POST"} {
			if got := a.send(method, path, strings.NewReader(`{}`)); got.status != 404 && got.status != 400 && got.status != 200 {
				t.Errorf("%s %s: %d %s", method, path, got.status, got.body)
			}
		}
	}
	for _, path := range []string{
		"/volume/v3/a1/volumes/", "/volume/v3/a1/volumes/messages/x", "/compute/v2.1/servers/x/os-server-hosts-x", "/image/v2/tasks/x/y",
		"/image/v2/images/tasks", "/image/v2/schemas/images",
	} {
		a.call("GET", path, ``, 418)
	}
	for _, method := range []string{"TRACE", "PROPFIND", "SEARCH"} {
		for _, prefix := range passingPrefixes {
			a.call(method, prefix+"/v2/images", ``, 405)
		}
	}
}

// Nothing that is no path leads to the real service.
func TestUpstreamByOddTargets(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 1)
	upstream := fakeImageService(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.RequestURI
		w.WriteHeader(http.StatusTeapot)
	})
	a := passesOn(t, upstream)
	alone := httptest.NewServer(a.server.AloneHandler(imagePrefix))
	t.Cleanup(alone.Close)
	ask := func(server, line string) int {
		t.Helper()
		conn, err := net.Dial("tcp", strings.TrimPrefix(server, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, line+" HTTP/1.1\r\nHost: nabu\r\nConnection: close\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		defer response.Body.Close()
		return response.StatusCode
	}
	for line, want := range map[string]string{ // by what the service is asked; empty: not at all
		"GET http://evil.example/image/v2/x":     "/v2/x",
		"GET http://u:p@evil.example/image/v2/x": "/v2/x",
		"GET //image/v2/x":                       "",
		"GET /image//evil.example/x":             "//evil.example/x",
		"GET /image/v2/%252e%252e/x":             "/v2/%252e%252e/x",
		"GET /image/v2/x?a=1;b=2&c=%zz":          "/v2/x?a=1;b=2&c=%zz",
		"GET http:image/v2/x":                    "",
		"CONNECT evil.example:80":                "",
		"OPTIONS *":                              "",
	} {
		status := ask(a.url, line)
		select {
		case got := <-asked:
			if got != want || status != http.StatusTeapot {
				t.Errorf("%s: asked %s", line, got)
			}
		default:
			if want != "" || status >= 500 || status == http.StatusTeapot {
				t.Errorf("%s: %d", line, status)
			}
		}
	}
	for _, line := range []string{"GET http:v2/../x", "GET x:/../v3/auth", "OPTIONS *", "CONNECT evil.example:80", "GET /..", "GET /%2e%2e/x"} {
		status := ask(alone.URL, line)
		select {
		case got := <-asked:
			t.Errorf("%s alone: asked %s", line, got)
		default:
			if status >= 500 {
				t.Errorf("%s alone: %d", line, status)
			}
		}
	}
}
