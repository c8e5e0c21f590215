package http

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"nabu/domain"
	"nabu/projections"
)

// fakeImageService is a stand-in for the real one.
func fakeImageService(t *testing.T, answer http.HandlerFunc) *url.URL {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestUpstream(t *testing.T) {
	t.Parallel()
	asked := make(chan *http.Request, 1)
	upstream := fakeImageService(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		w.Header().Set("X-Openstack-Request-Id", "req-"+theirs)
		w.Header().Set("X-Image", "yes")
		w.Header().Set("Connection", "X-Hop")
		w.Header().Set("X-Hop", "no")
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write([]byte("the image service"))
		asked <- r
	})
	a := newAPI(t, func(cfg *Config) { cfg.Images.Upstream = upstream })
	for _, r := range []struct{ method, path, at string }{
		{"GET", "/image", "/"}, {"GET", "/image/", "/"}, {"GET", "/image/versions", "/versions"}, {"GET", "/image/v2/", "/v2/"},
		{"POST", "/image/v2/images", "/v2/images"}, {"GET", "/image/v2/images?limit=2&name=a%20b", "/v2/images?limit=2&name=a%20b"},
		{"PUT", "/image/v2/images/x/file", "/v2/images/x/file"}, {"GET", "/image/v2/schemas/image", "/v2/schemas/image"},
		{"OPTIONS", "/image/v2/images", "/v2/images"}, {"PATCH", "/image/v2/images/a%2Fb", "/v2/images/a%2Fb"}, {"GET", "/image/v2/tasks/x/y", "/v2/tasks/x/y"},
	} {
		got := a.call(r.method, r.path, "its body", 418, "X-Auth-Token", "t1", "Connection", "X-Mine", "X-Mine", "no")
		got.has("X-Image", "yes").has("X-Hop", "")
		if ids := got.header.Values("X-Openstack-Request-Id"); got.body != "the image service" || len(ids) != 1 || ids[0] != "req-"+theirs {
			t.Errorf("%s %s: %v %s", r.method, r.path, got.header, got.body)
		}
		came := <-asked
		body, _ := io.ReadAll(came.Body)
		if came.Method != r.method || came.URL.RequestURI() != r.at || string(body) != "its body" || came.Header.Get("X-Auth-Token") != "t1" {
			t.Errorf("%s %s came as %s %s: %s", r.method, r.path, came.Method, came.URL.RequestURI(), body)
		}
		if id := came.Header.Get("X-Openstack-Request-Id"); !isPlainUUID(strings.TrimPrefix(id, "req-")) || came.Header.Get("X-Forwarded-For") != "127.0.0.1" || came.Header.Get("X-Mine") != "" {
			t.Errorf("headers %v", came.Header)
		}
	}
	a.call("GET", "/image/x", ``, 418, "X-Openstack-Request-Id", "req-"+ours)
	if id := (<-asked).Header.Get("X-Openstack-Request-Id"); id != "req-"+ours {
		t.Errorf("the client's own id came as %s", id)
	}
	a.call("GET", "/image/x", ``, 418, "Connection", "Upgrade", "Upgrade", "websocket")
	if came := <-asked; came.Header.Get("Upgrade") != "" {
		t.Errorf("headers %v", came.Header)
	}
	a.call("GET", "/image/v2/tasks", ``, 200) // nabu's own
	a.call("PUT", "/image/v2/tasks", ``, 405)
	for _, path := range []string{"/image/../identity", "/image/%2e%2e/identity", "/image/v2/..", "/image/v2/%2E%2e%2Fx", "/image/..%5Cx"} {
		a.fails("GET", path, ``, 404, "The resource could not be found.")
	}
	a.call("GET", "/image/v2/..x/a..", ``, 418)
}

func TestUpstreamAway(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	a := newAPI(t, func(cfg *Config) { cfg.Images.Upstream = &url.URL{Scheme: "http", Host: gone} })
	if got := a.fails("GET", "/image/v2/images", ``, 502, "Bad gateway."); strings.Contains(got.body, gone) {
		t.Errorf("tells the address: %s", got.body)
	}
	if log := a.log.String(); !strings.Contains(log, gone) {
		t.Errorf("log: %s", log)
	}
}

// An image without tasks is looked for where images are.
func TestImagesThatMayNotBeThere(t *testing.T) {
	t.Parallel()
	const there = "2d3b7b7e-0f5e-4c3c-9d8e-5f0f6a1b2c3d"
	service := fakeImageService(t, func(w http.ResponseWriter, r *http.Request) {
		statuses := map[string]int{
			"/v2": 300, "/v2/images": 200, // no image
			"/v2/images/" + there: 200, "/v2/images/forbidden": 403, "/v2/images/broken": 500, "/v2/images/moved": 302, "/v2/images/nobody": 401,
		}
		status := 404
		if its, known := statuses[r.URL.EscapedPath()]; known && r.Header.Get("X-Auth-Token") == "t1" {
			status = its
		}
		w.Header().Set("Location", "/v2/images/"+there)
		w.WriteHeader(status)
	})
	a := newAPI(t, func(cfg *Config) { cfg.Images.Service = service })
	token := []string{"X-Auth-Token", "t1"}
	a.call("GET", "/v2/images/"+there+"/tasks", ``, 200, token...).is(`{"tasks": []}`)
	a.fails("GET", "/v2/images/"+there+"/tasks", ``, 404, "No image found with ID "+there)
	for _, image := range []string{"unknown", "forbidden", ".", "..", "a?b"} {
		a.fails("GET", "/v2/images/"+url.PathEscape(image)+"/tasks", ``, 404, "No image found with ID "+image, token...)
	}
	a.fails("GET", "/v2/images/nobody/tasks", ``, 401, stockTexts[401], token...)
	for _, image := range []string{"broken", "moved"} {
		a.fails("GET", "/v2/images/"+image+"/tasks", ``, 503, "The image service cannot tell of its images.", token...)
	}
	a.makeTask("api_image_import", `{"image_id": "unknown", "import_req": {}}`)
	a.call("GET", "/v2/images/unknown/tasks", ``, 200, token...) // what has tasks is not looked for

	away := newAPI(t, func(cfg *Config) { cfg.Images.Service = &url.URL{Scheme: "http", Host: "127.0.0.1:1"} })
	away.fails("GET", "/v2/images/x/tasks", ``, 503, "The image service cannot be reached.").has("Retry-After", "1")
}

// brokenTasks fails to show them.
type brokenTasks struct {
	Views
	err error
}

func (b brokenTasks) Task(context.Context, domain.TaskID) (projections.Task, bool, error) {
	if b.err == nil {
		panic("secret of the inside")
	}
	return projections.Task{}, false, b.err
}

func TestGlancesFailuresTellNothing(t *testing.T) {
	t.Parallel()
	path := "/image/v2/tasks/" + ours
	for name, r := range map[string]struct {
		err    error
		status int
		text   string
	}{
		"an error":             {errors.New("secret of the inside"), 500, stockTexts[500]},
		"a panic":              {nil, 500, stockTexts[500]},
		"a database away":      {context.DeadlineExceeded, 503, stockTexts[503]},
		"an error with a code": {domain.Errorf(domain.Unavailable, "not now"), 503, "not now"},
	} {
		a := newAPI(t, func(cfg *Config) { cfg.Views = brokenTasks{cfg.Views, r.err} }).alone()
		if got := a.fails("GET", path, ``, r.status, r.text); strings.Contains(got.body, "secret") {
			t.Errorf("%s: %s", name, got.body)
		}
		if log := a.log.String(); !strings.Contains(log, "request failed") {
			t.Errorf("%s is not in the log: %s", name, log)
		}
	}
}

// Where the Image API stands alone, it stands at the root.
func TestImageListener(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	alone := httptest.NewServer(a.server.AloneHandler(imagePrefix))
	t.Cleanup(alone.Close)
	whole := a.url
	a.url = alone.URL
	bare := []string{"Client-ID", "", "X-Project-Id", ""}
	versions := strings.ReplaceAll(sample(t, "versions"), "http://img.example:9292", alone.URL)
	a.call("GET", "/", ``, 300, bare...).is(versions)
	a.call("GET", "/versions", ``, 200, bare...).is(versions)
	a.call("GET", "/v3/tasks", ``, 300, bare...).is(versions)
	a.call("GET", "/healthcheck", ``, 200, bare...)
	got := a.call("POST", "/v2/tasks", sample(t, "create-request"), 201)
	var made taskBody
	got.into(&made)
	got.has("Location", alone.URL+"/v2/tasks/"+made.ID)
	a.call("GET", "/v2.2/tasks/"+made.ID, ``, 200)
	a.fails("GET", "/v2/queues", ``, 404, "The resource could not be found.") // the Messaging API is not there
	a.fails("GET", "/v2/tasks/a%2Fb", ``, 404, "Could not find task a%2Fb")
	a.url = whole
	a.call("GET", "/v2/tasks/"+made.ID, ``, 200)
}
