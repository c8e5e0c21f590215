package http

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
)

// publicHosts lets imports from hosts below example pass, at the usual ports.
type publicHosts struct{}

func (publicHosts) CheckURL(u *url.URL) error {
	if u.Port() != "" {
		return errors.New("port")
	}
	return nil
}

func (publicHosts) CheckHost(_ context.Context, host string) error {
	if !strings.HasSuffix(host, ".example") {
		return errors.New("host")
	}
	return nil
}

// fails sends a request that is refused, and compares the answer in all three forms. text is
// as it stands in plain text.
func (a *api) fails(method, path, body string, status int, text string, headers ...string) answer {
	a.Helper()
	line := strconv.Itoa(status) + " " + faultTitle(status)
	end := "<br /><br />\n\n\n"
	if strings.HasPrefix(text, "The method ") {
		end = " <br /><br />\n\n"
	}
	got := a.call(method, path, body, status, append(headers, "Accept", "application/json")...)
	got.has("Content-Type", "application/json").has("Vary", "Accept")
	var flat struct{ Message, Code, Title string }
	got.into(&flat)
	if want := escapeMarkup(text) + end; flat.Message != want || flat.Code != line || flat.Title != faultTitle(status) {
		a.Fatalf("%s %s, as JSON: %s, want the message %q", method, path, got.body, want)
	}
	page := a.call(method, path, body, status, append(headers, "Accept", "*/*")...)
	page.has("Content-Type", "text/html; charset=UTF-8")
	if want := "<html>\n <head>\n  <title>" + line + "</title>\n </head>\n <body>\n  <h1>" + line + "</h1>\n  " +
		escapeHTML(text) + end + "\n </body>\n</html>"; page.body != want {
		a.Fatalf("%s %s, as a page: %q, want %q", method, path, page.body, want)
	}
	plain := a.call(method, path, body, status, append(headers, "Accept", "")...)
	plain.has("Content-Type", "text/plain; charset=UTF-8")
	if want := line + "\n\n" + withoutTags(text+end); plain.body != want {
		a.Fatalf("%s %s, as text: %q, want %q", method, path, plain.body, want)
	}
	return got
}

// The forms are those of WebOb 1.8.6.
func TestFaultForm(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]form{
		"": formText, "text/plain": formText, "*/*;q=0": formText, "text/html;level=1": formText, "application/json; charset=utf-8": formText,
		"*/*": formHTML, "text/html": formHTML, "text/*": formHTML, "application/json, */*": formHTML, "application/json, text/html": formHTML,
		"TEXT/HTML": formHTML, "json": formHTML, "a b": formHTML, "text/plain;q=0.5, */*;q=0.1": formHTML,
		"application/json": formJSON, "application/*": formJSON, "text/html;q=0.5, application/json": formJSON, "text/html;q=0, */*": formJSON,
		"application/json;q=0.5, text/plain": formJSON, " , application/json": formJSON,
	} {
		headers := []string{accept}
		if accept == "" {
			headers = nil
		}
		if got := faultForm(headers); got != want {
			t.Errorf("Accept: %s: form %d, want %d", accept, got, want)
		}
	}
}

func TestFaultsEscapeWhatClientsSend(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	path := "/v2/tasks/" + url.PathEscape(`<b onclick="x('ö')">&`)
	page := a.call("GET", path, ``, 404, "Accept", "*/*")
	if want := "Could not find task &lt;b onclick=&quot;x(&#x27;&#246;&#x27;)&quot;&gt;&amp;<br />"; !strings.Contains(page.body, want) {
		t.Errorf("page %q does not have %q", page.body, want)
	}
	var flat struct{ Message string }
	a.call("GET", path, ``, 404, "Accept", "application/json").into(&flat)
	if want := "Could not find task &lt;b onclick=\"x('ö')\"&gt;&amp;<br /><br />\n\n\n"; flat.Message != want {
		t.Errorf("message %q, want %q", flat.Message, want)
	}
	if plain := a.call("GET", path, ``, 404, "Accept", ""); plain.body != "404 Not Found\n\nCould not find task &\n\n   " {
		t.Errorf("text %q", plain.body)
	}
}

// sample is a file of the contract's samples.
func sample(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/tasks/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestImageVersions(t *testing.T) {
	t.Parallel()
	bare := []string{"Client-ID", "", "X-Project-Id", ""}
	a := newAPI(t)
	want := strings.ReplaceAll(sample(t, "versions"), "http://img.example:9292", a.url+"/image")
	for path, status := range map[string]int{
		"/image": 300, "/image/": 300, "/image/v2": 300, "/image/v2/": 300, "/image/v3/tasks": 300, "/image/v2.99/images": 300, "/image/nothing": 300,
		"/image/versions": 200, "/image/versions/": 200,
	} {
		a.call("GET", path, ``, status, bare...).has("Content-Type", "application/json").is(want)
	}
	for _, path := range []string{"/v3/tasks", "/v1/tasks/x", "/v2.18/tasks", "/v3/schemas/task", "/v3/images/x/tasks", "/v3/tasks/x/y/z"} {
		a.call("GET", path, ``, 300, bare...).is(strings.ReplaceAll(want, "/image/v2/", "/v2/"))
	}
	a.call("GET", "/", ``, 300, bare...).has("Content-Type", "application/json")
	a.call("GET", "/image/healthcheck", ``, 200, bare...)

	public := newAPI(t, func(cfg *Config) { cfg.Images.PublicEndpoint = "https://images.example.net/" })
	public.call("GET", "/image/", ``, 300, bare...).is(strings.ReplaceAll(sample(t, "versions"), "http://img.example:9292", "https://images.example.net"))
}

func TestTaskSchemas(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	for _, prefix := range []string{"", "/image"} {
		for _, version := range []string{"/v2", "/v2.0", "/v2.17"} {
			a.call("GET", prefix+version+"/schemas/task", ``, 200, "X-Roles", "reader").has("Content-Type", "application/json").is(sample(t, "schema-task"))
			a.call("GET", prefix+version+"/schemas/tasks", ``, 200, "X-Roles", "reader").is(sample(t, "schema-tasks"))
		}
	}
}

// What only routes of the Image API answer.
func TestImageRoutes(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	id := "bfd7115e-756c-4db1-92df-24a3f9935a1d"
	const action = `{"begin": {}}`
	for _, prefix := range []string{"/v2", "/image/v2", "/v2.2", "/image/v2.17"} {
		for _, r := range []struct{ method, path, allow string }{
			{"PATCH", "/tasks", "GET, POST"}, {"DELETE", "/tasks", "GET, POST"}, {"HEAD", "/tasks", "GET, POST"}, {"OPTIONS", "/tasks", "GET, POST"},
			{"PUT", "/tasks", "GET, POST"}, {"TRACE", "/tasks", "GET, POST"},
			{"PUT", "/tasks/" + id, "GET, DELETE"}, {"HEAD", "/tasks/" + id, "GET, DELETE"}, {"POST", "/tasks/" + id, "GET, DELETE"}, {"PATCH", "/tasks/x", "GET, DELETE"},
			{"GET", "/tasks/" + id + "/action", "POST"}, {"DELETE", "/tasks/" + id + "/action", "POST"},
			{"POST", "/images/x/tasks", "GET"}, {"POST", "/schemas/task", "GET"}, {"DELETE", "/schemas/tasks", "GET"}, {"HEAD", "/schemas/tasks", "GET"},
		} {
			if r.method == "HEAD" {
				a.call(r.method, prefix+r.path, ``, 405).has("Allow", r.allow)
				continue
			}
			a.fails(r.method, prefix+r.path, ``, 405, "The method "+r.method+" is not allowed for this resource.").has("Allow", r.allow)
		}
		for _, path := range []string{"/tasks/", "/tasks/x/y", "/tasks/x/action/", "/schemas/image", "/schemas/", "/images/x", "/images/x/tasks/", "/images/"} {
			a.fails("GET", prefix+path, ``, 404, "The resource could not be found.")
		}
		a.fails("DELETE", prefix+"/tasks/"+id, ``, 405, "This operation is currently not permitted on Glance Tasks. "+
			"They are auto deleted after reaching the time based on their expires_at property.").has("Allow", "GET")
		for _, r := range [][3]string{
			{"DELETE", "/tasks/x", ``}, {"GET", "/tasks/x", ``}, {"GET", "/tasks?limit=x", ``}, {"POST", "/tasks", `no JSON`},
		} {
			a.fails(r[0], prefix+r[1], r[2], 403, "You are not authorized to complete tasks_api_access action.", "X-Roles", "member,reader,service")
		}
		a.fails("POST", prefix+"/tasks/x/action", `no JSON`, 403, "You are not authorized to complete nabu:task_report action.", "X-Roles", "member")
		a.fails("POST", prefix+"/tasks/x/action", action, 404, "Could not find task x", "X-Roles", "Service")
		a.fails("GET", prefix+"/images/x/tasks", ``, 403, "You are not authorized to complete get_image action.", "X-Roles", "member")
		a.fails("GET", prefix+"/tasks", ``, 431, "The request header fields were too large", "X-Openstack-Request-Id", strings.Repeat("r", 65))
		a.fails("GET", prefix+"/tasks", ``, 400, "X-User-Id must be a text of at most 256 characters, without a NUL.", "X-User-Id", strings.Repeat("u", 257))
	}
	a.fails("GET", "/image/v2/nothing", ``, 404, "The resource could not be found.")
	a.call("GET", "/v2/nothing", ``, 404).is(`{"title": "404 Not Found"}`) // Zaqar's
	a.recorded()
}

func TestJSONFault(t *testing.T) {
	t.Parallel()
	var want, got map[string]string
	if err := json.Unmarshal([]byte(sample(t, "error-404-json")), &want); err != nil {
		t.Fatal(err)
	}
	a := newAPI(t)
	a.call("GET", "/v2/tasks/nope", ``, 404, "Accept", "application/json").into(&got)
	for name, text := range want {
		if got[name] != text {
			t.Errorf("%s is %q, want %q", name, got[name], text)
		}
	}
}
