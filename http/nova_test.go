package http

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nabu/eventstore"
)

const (
	eventsPath = "/compute/v2.1/os-server-external-events"
	hostsPath  = "/compute/v2.1/os-server-hosts"
	onC1       = "11111111-1111-1111-1111-111111111111"
	onNone     = "22222222-2222-2222-2222-222222222222"
	unknown    = "33333333-3333-3333-3333-333333333333"
)

// novaSample is a file of the contract's samples.
func novaSample(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/events/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// assign says where a server is.
func (a *api) assign(server, host string) {
	a.Helper()
	body := `{"server_host": {"host": null}}`
	if host != "" {
		body = `{"server_host": {"host": "` + host + `"}}`
	}
	a.call("PUT", hostsPath+"/"+server, body, 200)
}

// cloud is an API with the servers of the samples.
func cloud(t testing.TB, change ...func(*Config)) *api {
	a := newAPI(t, change...)
	a.assign(onC1, "compute1")
	a.assign(onNone, "")
	a.history()
	return a
}

// kinds are the types of what was recorded since the last look.
func (a *api) kinds() (kinds []string) {
	a.Helper()
	for _, e := range a.history() {
		kinds = append(kinds, strings.TrimSuffix(e.Event.EventType(), ".v1"))
	}
	return kinds
}

func (a *api) expectKinds(want ...string) {
	a.Helper()
	if diff := cmp.Diff(want, a.kinds()); diff != "" {
		a.Errorf("recorded (-want +got):\n%s", diff)
	}
}

// faulty sends a request that is refused under a name, and changes nothing.
func (a *api) faulty(method, path, body string, status int, name, message string, headers ...string) answer {
	a.Helper()
	got := a.call(method, path, body, status, headers...)
	var fault map[string]struct {
		Code    int
		Message string
	}
	got.into(&fault)
	if its, named := fault[name]; !named || its.Code != status || its.Message != message {
		a.Errorf("%s %s %s:\n%s, want %s\n%s", method, path, body, got.body, name, message)
	}
	a.expectKinds()
	return got
}

func TestTheSamplesOfEvents(t *testing.T) {
	t.Parallel()
	a := cloud(t)
	same := func(got answer, sample string) {
		t.Helper()
		if diff := cmp.Diff(decoded(t, novaSample(t, sample)), decoded(t, got.body)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", sample, diff)
		}
	}
	at := func(version string) []string { return []string{"OpenStack-API-Version", "compute " + version} }
	same(a.call("POST", eventsPath, novaSample(t, "ok-request"), 200), "ok-response-200")
	a.expectKinds("external-events.accepted", "queue.created", "messages.posted")
	same(a.call("POST", eventsPath, novaSample(t, "mixed-request-2.51"), 207, at("2.51")...), "mixed-response-207")
	same(a.call("POST", eventsPath, `{"events": []}`, 400), "error-400-empty")
	same(a.call("POST", eventsPath, `{}`, 406, at("2.999")...), "error-406")
	same(a.call("POST", eventsPath, novaSample(t, "ok-request"), 403, "X-Roles", "member"), "error-403")
	var schemas map[string]struct {
		Properties struct {
			Events struct {
				Items struct {
					Properties struct{ Name struct{ Enum []string } }
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(novaSample(t, "request-schemas")), &schemas); err != nil {
		t.Fatal(err)
	}
	for span, schema := range schemas {
		for version := range strings.SplitSeq(span, "-") {
			var minor int
			if _, err := fmt.Sscanf(version, "2.%d", &minor); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(schema.Properties.Events.Items.Properties.Name.Enum, eventNames(microversion{2, minor})); diff != "" {
				t.Errorf("the names of %s (-want +got):\n%s", version, diff)
			}
		}
	}
}

// TestWhatAHostFinds is as the sample has it.
func TestWhatAHostFinds(t *testing.T) {
	t.Parallel()
	a := cloud(t)
	global := "req-60ff8f03-80e6-4436-a2c4-53fc76f58ee3"
	posted := a.call("POST", eventsPath, strings.Replace(novaSample(t, "ok-request"), `"status": "failed",`, "", 1), 200, "X-OpenStack-Request-ID", global)
	claimed := a.call("POST", "/v2/queues/nova-events.compute1/claims", `{}`, 201, "X-Project-ID", "service")
	var messages struct {
		Messages []struct{ Body map[string]any }
	}
	claimed.into(&messages)
	got := messages.Messages[0].Body
	want := decoded(t, novaSample(t, "host-queue-message")).(map[string]any)
	if id, _ := got["id"].(string); !strings.HasPrefix(id, "evt-") || len(id) != len(want["id"].(string)) {
		t.Errorf("the event is called %v", got["id"])
	}
	want["id"], want["request_id"], want["global_request_id"] = got["id"], posted.header.Get("X-OpenStack-Request-Id"), global
	want["received_at"] = got["received_at"]
	if at, _ := got["received_at"].(string); len(at) != len("2026-11-21T02:00:00.123456Z") || !strings.HasPrefix(at, "2026-03-01T10:00:00.") {
		t.Errorf("received at %v", at)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for stored, err := range eventstore.ReadStored(t.Context(), a.DB(), eventstore.Selection{Upto: 1 << 62}) {
		if err != nil {
			t.Fatal(err)
		}
		if told := stored.Type == "external-events.accepted.v1" || stored.Type == "messages.posted.v1"; told && stored.Origin.CorrelationID != global {
			t.Errorf("%s is of %s", stored.Type, stored.Origin.CorrelationID)
		}
	}
}

// TestEachEventIsAnswered: as it was sent, duplicates and odd spellings included; its own
// status is written over.
func TestEachEventIsAnswered(t *testing.T) {
	t.Parallel()
	a := cloud(t)
	tests := map[string]struct{ events, want string }{
		"twice the same": {
			`{"name": "network-changed", "server_uuid": "` + onC1 + `"}, {"name": "network-changed", "server_uuid": "` + onC1 + `"}`,
			`200 {"name": "network-changed", "server_uuid": "` + onC1 + `", "status": "completed", "code": 200}, {"name": "network-changed", "server_uuid": "` + onC1 + `", "status": "completed", "code": 200}`,
		},
		"one that is refused": {
			`{"name": "network-changed", "server_uuid": "` + unknown + `", "status": "in-progress", "tag": "\u00e4\u0000"}`,
			`207 {"name": "network-changed", "server_uuid": "` + unknown + `", "status": "failed", "tag": "\u00e4\u0000", "code": 404}`,
		},
		"on no host": {
			`{"server_uuid": "` + onNone + `", "name": "volume-reimaged", "status": "completed"}`,
			`207 {"name": "volume-reimaged", "server_uuid": "` + onNone + `", "status": "failed", "code": 422}`,
		},
		"an empty tag where one is needed": {
			`{"name": "volume-extended", "server_uuid": "` + onC1 + `", "tag": ""}`,
			`200 {"name": "volume-extended", "server_uuid": "` + onC1 + `", "status": "completed", "tag": "", "code": 200}`,
		},
		"a tag that means nothing": {
			`{"name": "power-update", "server_uuid": "` + onC1 + `", "tag": "BOGUS"}`,
			`200 {"name": "power-update", "server_uuid": "` + onC1 + `", "status": "completed", "tag": "BOGUS", "code": 200}`,
		},
		"no tag where one is needed": {
			`{"name": "accelerator-request-bound", "server_uuid": "` + onNone + `"}`,
			`207 {"name": "accelerator-request-bound", "server_uuid": "` + onNone + `", "status": "failed", "code": 400}`,
		},
		"a server in capitals, without dashes": {
			`{"name": "network-changed", "server_uuid": "{` + strings.ReplaceAll(onC1, "-", "") + `}"}`,
			`200 {"name": "network-changed", "server_uuid": "{` + strings.ReplaceAll(onC1, "-", "") + `}", "status": "completed", "code": 200}`,
		},
	}
	for name, test := range tests {
		got := a.send("POST", eventsPath, strings.NewReader(`{"events": [`+test.events+`]}`), "X-OpenStack-Nova-API-Version", "latest")
		if want := strings.Replace(test.want, " ", ` {"events": [`, 1) + "]}"; fmt.Sprint(got.status, " ", got.body) != want {
			t.Errorf("%s:\n%d %s, want\n%s", name, got.status, got.body, want)
		}
	}
}

const nameList = "['network-changed', 'network-vif-plugged', 'network-vif-unplugged', 'network-vif-deleted']"

// badEvents are bodies that break the schema, and what is said of them.
func badEvents() map[string]string {
	field := func(name, value, reason string) string {
		return "Invalid input for field/attribute " + name + ". Value: " + value + ". " + reason
	}
	event := func(rest string) string { return `{"events": [{"name": "network-changed", ` + rest + `}]}` }
	id := `"server_uuid": "` + onC1 + `"`
	long := strings.Repeat("ä", 256)
	return map[string]string{
		`{}`:                     "'events' is a required property",
		``:                       "None is not of type 'object'",
		`null`:                   "None is not of type 'object'",
		`[]`:                     "[] is not of type 'object'",
		`"it's"`:                 `"it's" is not of type 'object'`,
		`{"events": [}`:          "Malformed request body",
		"{\"events\": \"\xff\"}": "Malformed request body",
		`{"events": []}`:         field("events", "[]", "[] is too short"),
		`{"events": {"a": [1, null, true, "x"]}}`:   field("events", "{'a': [1, None, True, 'x']}", "{'a': [1, None, True, 'x']} is not of type 'array'"),
		`{"events": [], "more": 1}`:                 "Additional properties are not allowed ('more' was unexpected)",
		`{"events": ["x"]}`:                         field("0", "x", "'x' is not of type 'object'"),
		`{"events": [{}]}`:                          field("0", "{}", "'name' is a required property"),
		`{"events": [{"name": "network-changed"}]}`: field("0", "{'name': 'network-changed'}", "'server_uuid' is a required property"),
		event(id + `, "a": 1, "b": 2`): field("0", "{'name': 'network-changed', 'server_uuid': '"+onC1+"', 'a': 1, 'b': 2}",
			"Additional properties are not allowed ('a', 'b' were unexpected)"),
		`{"events": [{"name": "volume-extended", ` + id + `}]}`:                            field("name", "volume-extended", "'volume-extended' is not one of "+nameList),
		`{"events": [{"name": 1, ` + id + `}]}`:                                            field("name", "1", "1 is not of type 'string'"),
		event(`"server_uuid": "x"`):                                                        field("server_uuid", "x", "'x' is not a 'uuid'"),
		event(`"server_uuid": null`):                                                       field("server_uuid", "None", "None is not of type 'string'"),
		event(id + `, "status": "done"`):                                                   field("status", "done", "'done' is not one of ['failed', 'completed', 'in-progress']"),
		event(id + `, "tag": null`):                                                        field("tag", "None", "None is not of type 'string'"),
		event(id + `, "tag": "` + long + `"`):                                              field("tag", long, "'"+long+"' is too long"),
		`{"events": [{"name": "network-changed", ` + id + `}, {"name": "x", ` + id + `}]}`: field("name", "x", "'x' is not one of "+nameList),
	}
}

// TestABadEventRefusesAll: the whole list, in Nova's words.
func TestABadEventRefusesAll(t *testing.T) {
	t.Parallel()
	a := cloud(t)
	for body, message := range badEvents() {
		a.faulty("POST", eventsPath, body, 400, "badRequest", message)
	}
	longest := `{"events": [{"name": "network-changed", "server_uuid": "` + onC1 + `", "tag": "` + strings.Repeat("ä", 255) + `"}]}`
	a.call("POST", eventsPath, longest, 200)
}

// TestTheOrderOfRefusals: whoever does everything wrong is told of the version first.
func TestTheOrderOfRefusals(t *testing.T) {
	t.Parallel()
	a := cloud(t)
	xml, bad, member := []string{"Content-Type", "text/xml"}, []string{"OpenStack-API-Version", "compute abc"}, []string{"X-Roles", "member"}
	with := func(lists ...[]string) (all []string) {
		for _, list := range lists {
			all = append(all, list...)
		}
		return all
	}
	got := a.faulty("POST", eventsPath, `{`, 400, "badRequest", "API Version String abc is of invalid format. Must be of format MajorNum.MinorNum.", with(xml, bad, member)...)
	got.has("OpenStack-API-Version", "")
	got = a.faulty("POST", eventsPath, `{`, 406, "computeFault", "Version 2.105 is not supported by the API. Minimum is 2.1 and maximum is 2.104.", with(xml, member, []string{"X-OpenStack-Nova-API-Version", "2.105"})...)
	got.has("X-OpenStack-Nova-API-Version", "2.105")
	a.faulty("POST", eventsPath, novaSample(t, "ok-request"), 400, "badRequest", "The project id must be a text of at most 256 characters.", "X-Project-Id", "p\xff")
	a.faulty("POST", eventsPath, `{`, 415, "badMediaType", "Unsupported Content-Type", with(xml, member)...)
	a.faulty("POST", eventsPath, `{`, 400, "badRequest", "Malformed request body", member...)
	a.faulty("POST", eventsPath, `{}`, 400, "badRequest", "'events' is a required property", member...)
	a.faulty("POST", eventsPath, novaSample(t, "ok-request"), 403, "forbidden", "Policy doesn't allow os_compute_api:os-server-external-events:create to be performed.", member...)
	a.call("POST", eventsPath, novaSample(t, "ok-request"), 200, "X-Roles", "service", "Content-Type", "")
	tooMuch := `{"events": [` + strings.Repeat(" ", maxComputeBody) + `]}`
	a.kinds()
	a.faulty("POST", eventsPath, tooMuch, 413, "overLimit", fmt.Sprintf("the body must not be larger than %d bytes", maxComputeBody))
	if got := a.send("POST", eventsPath, io.MultiReader(strings.NewReader(tooMuch))); got.status != 413 {
		t.Errorf("in chunks: %d", got.status)
	}
	for _, method := range []string{"GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"} {
		a.call(method, eventsPath, ``, 404).has("Content-Type", "text/plain; charset=UTF-8")
	}
}

// TestMicroversions: which one counts, and how it is told.
func TestComputeMicroversions(t *testing.T) {
	t.Parallel()
	a := cloud(t)
	extended := `{"events": [{"name": "volume-extended", "server_uuid": "` + onC1 + `", "tag": "v"}]}`
	tests := map[string]struct {
		headers []string
		used    string
		status  int
	}{
		"none":                   {nil, "2.1", 400},
		"the newer one":          {[]string{"OpenStack-API-Version", "compute 2.51"}, "2.51", 200},
		"in a list":              {[]string{"OpenStack-API-Version", "volume 3.60, compute 2.52"}, "2.52", 200},
		"of another service":     {[]string{"OpenStack-API-Version", "volume 3.60"}, "2.1", 400},
		"the older one":          {[]string{"X-OpenStack-Nova-API-Version", "2.53"}, "2.53", 200},
		"both":                   {[]string{"OpenStack-API-Version", "compute 2.60", "X-OpenStack-Nova-API-Version", "2.50"}, "2.60", 200},
		"the last one":           {[]string{"X-OpenStack-Nova-API-Version", "latest"}, "2.104", 200},
		"the one before the tag": {[]string{"OpenStack-API-Version", "compute 2.50"}, "2.50", 400},
	}
	for name, test := range tests {
		got := a.call("POST", eventsPath, extended, test.status, test.headers...)
		got.has("OpenStack-API-Version", "compute "+test.used).has("X-OpenStack-Nova-API-Version", test.used)
		if vary := got.header.Values("Vary"); !cmp.Equal(vary, []string{"OpenStack-API-Version", "X-OpenStack-Nova-API-Version"}) {
			t.Errorf("%s: Vary is %v", name, vary)
		}
		if id := got.header.Get("X-Compute-Request-Id"); id == "" || id != got.header.Get("X-Openstack-Request-Id") {
			t.Errorf("%s: the request is called %q", name, id)
		}
	}
}

// TestWhereEventsAreTaken: at the root and under the prefix, with a project and without,
// and by the legacy version, which drops what it does not know.
func TestWhereEventsAreTaken(t *testing.T) {
	t.Parallel()
	a := cloud(t)
	ok := `{"events": [{"name": "network-changed", "server_uuid": "` + onC1 + `"}]}`
	for _, base := range []string{"/v2.1", "/compute/v2.1", "/compute", "/v2", "/compute/v2"} {
		for _, project := range []string{"", "/0a1b-c2"} {
			a.call("POST", base+project+"/os-server-external-events", ok, 200)
			if base != "/v2" && base != "/compute/v2" {
				a.faulty2(base + project)
			}
		}
		a.call("POST", base+"/no%20project/os-server-external-events", ok, 404)
	}
	loose := `{"more": 1, "events": [{"name": "network-changed", "server_uuid": "` + onC1 + `", "more": 2}]}`
	got := a.call("POST", "/v2/os-server-external-events", loose, 200, "OpenStack-API-Version", "compute 2.999")
	got.has("OpenStack-API-Version", "").has("Vary", "")
	a.call("POST", "/v2/os-server-external-events", `{"events": [{"name": "volume-extended", "server_uuid": "`+onC1+`"}]}`, 400)
}

// faulty2 wants an unknown key refused below a path.
func (a *api) faulty2(base string) {
	a.Helper()
	a.call("POST", base+"/os-server-external-events", `{"more": 1, "events": []}`, 400)
}

func TestComputeVersions(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	host := strings.TrimPrefix(a.url, "http://")
	want := func(version, rest string) string {
		if version == "v2" {
			return `"id":"v2.0","status":"SUPPORTED","version":"","min_version":"","updated":"2011-01-21T11:33:21Z","links":[{"rel":"self","href":"http://` + host + `/compute/v2/` + rest + `"}`
		}
		return `"id":"v2.1","status":"CURRENT","version":"2.104","min_version":"2.1","updated":"2013-07-23T11:33:21Z","links":[{"rel":"self","href":"http://` + host + `/compute/v2.1/` + rest + `"}`
	}
	for _, path := range []string{"/compute", "/compute/"} {
		a.call("GET", path, ``, 200, "X-Project-ID", "").is(`{"versions":[{` + want("v2", "") + `]},{` + want("v2.1", "") + `]}]}`)
	}
	about := `,{"rel":"describedby","type":"text/html","href":"http://docs.openstack.org/"}],"media-types":[{"base":"application/json","type":"application/vnd.openstack.compute+json;version=2`
	for _, path := range []string{"/compute/v2.1", "/compute/v2.1/"} {
		got := a.call("GET", path, ``, 200).is(`{"version":{` + want("v2.1", "") + about + `.1"}]}}`)
		got.has("OpenStack-API-Version", "compute 2.1")
	}
	a.call("GET", "/v2.1/", ``, 200)
	a.call("GET", "/compute/v2/", ``, 200).is(`{"version":{` + want("v2", "") + about + `"}]}}`)
	choices := a.call("GET", "/compute/servers/x", ``, 300)
	if !strings.HasPrefix(choices.body, `{"choices":[{"id":"v2.0","status":"SUPPORTED","links":[{"rel":"self","href":"http://`+host+`/compute/v2/servers/x"}],"media-types"`) ||
		!strings.Contains(choices.body, `/compute/v2.1/servers/x"}]`) {
		t.Errorf("choices are %s", choices.body)
	}
	a.call("GET", "/compute/v2.1/servers", ``, 404).has("Content-Type", "text/plain; charset=UTF-8")
	a.call("GET", "/compute/healthcheck", ``, 200)
	public := newAPI(t, func(cfg *Config) { cfg.Computes.PublicEndpoint = "https://nova.example/" })
	if got := public.call("GET", "/compute/v2.1/", ``, 200); !strings.Contains(got.body, `"href":"https://nova.example/v2.1/"`) {
		t.Errorf("the public endpoint: %s", got.body)
	}
}

// Who has no token is told so before anything else, and before his body is read.
func TestComputeWithoutAToken(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) { cfg.Auth = refusing{} })
	for _, route := range []string{
		"POST " + eventsPath, "POST /compute/os-server-external-events", "GET " + hostsPath, "POST " + hostsPath, "GET " + hostsPath + "/x",
		"PUT " + hostsPath + "/" + onC1, "DELETE " + hostsPath + "/" + onC1, "GET /v2.1/os-host-queues/c1",
	} {
		method, path, _ := strings.Cut(route, " ")
		a.call(method, path, `{`, 401, "Content-Type", "text/xml", "OpenStack-API-Version", "compute 2.999").is(volumeSample(t, "error-401"))
	}
	for _, path := range []string{"/compute", "/compute/v2.1/", "/v2.1/"} {
		a.call("GET", path, ``, 200) // whoever looks for the versions has no token yet
	}
	a.expectKinds()
}

// TestTheComputeAPIAlone stands at the root of an address of its own.
func TestTheComputeAPIAlone(t *testing.T) {
	t.Parallel()
	a := cloud(t)
	alone := httptest.NewServer(a.server.AloneHandler(computePrefix))
	t.Cleanup(alone.Close)
	a.url = alone.URL
	for _, path := range []string{"/v2.1/os-server-external-events", "/os-server-external-events"} {
		a.call("POST", path, novaSample(t, "ok-request"), 200)
	}
	if got := a.call("GET", "/", ``, 200); !strings.Contains(got.body, `"href":"`+alone.URL+`/v2.1/"`) {
		t.Errorf("the versions: %s", got.body)
	}
	a.call("GET", "/v2.1/", ``, 200)
	a.call("GET", "/servers", ``, 300)
}

// TestTheRestGoesToTheComputeService: all but what nabu serves.
func TestTheRestGoesToTheComputeService(t *testing.T) {
	t.Parallel()
	var asked []string
	nova := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path+"?"+r.URL.RawQuery)
		w.Header().Set("OpenStack-API-Version", "compute 2.42")
		_, _ = io.WriteString(w, `{"from": "nova"}`)
	}))
	t.Cleanup(nova.Close)
	upstream, err := url.Parse(nova.URL + "/base")
	if err != nil {
		t.Fatal(err)
	}
	a := cloud(t, func(cfg *Config) { cfg.Computes.Upstream = upstream })
	for _, path := range []string{"/compute", "/compute/", "/compute/v2.1/", "/compute/v2.1/servers/detail?limit=2", "/compute/anything"} {
		a.call("GET", path, ``, 200).is(`{"from": "nova"}`).has("OpenStack-API-Version", "compute 2.42")
	}
	a.call("POST", eventsPath, novaSample(t, "ok-request"), 200)
	want := []string{"GET /base/?", "GET /base/?", "GET /base/v2.1/?", "GET /base/v2.1/servers/detail?limit=2", "GET /base/anything?"}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	nova.Close()
	a.call("GET", "/compute/v2.1/servers", ``, 502).has("Content-Type", "application/json")
}
