package http

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
)

// Of the volume API tests speak the newest version, in project a1, unless they say otherwise.
var inA1 = []string{"X-Project-Id", "a1", "Client-ID", "", "OpenStack-API-Version", "volume 3.71"}

// volumeSample is a file of the contract's samples.
func volumeSample(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/usermessages/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// volume asks the Block Storage API.
func (a *api) volume(method, path, body string, status int, headers ...string) answer {
	a.Helper()
	return a.call(method, path, body, status, append(append([]string{}, inA1...), headers...)...)
}

// tells records a message for a project and returns its id.
func (a *api) tells(project, message string) string {
	a.Helper()
	var made struct{ Message userMessageBody }
	a.volume("POST", "/v3/"+project+"/messages", `{"message": `+message+`}`, 201).into(&made)
	return made.Message.ID
}

// faults compares an error: its name and its text.
func (got answer) faults(name, message string) answer {
	got.Helper()
	var body map[string]struct {
		Code    int
		Message string
	}
	got.into(&body)
	if its, named := body[name]; !named || its.Code != got.status || its.Message != message {
		got.Fatalf("%s, want %s %q", got.body, name, message)
	}
	return got.has("Content-Type", "application/json")
}

const plainNotFound = "404 Not Found\n\nThe resource could not be found.\n\n   "

func TestShowUserMessage(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.advance(123456 * time.Microsecond)
	made := a.volume("POST", "/v3/a1/messages", volumeSample(t, "produce-request"), 201)
	var body struct{ Message userMessageBody }
	made.into(&body)
	want := strings.NewReplacer(
		"384468b0-e1d6-4772-afc5-ef9de64d0331", body.Message.ID, "http://vol.example:8776", a.url,
		"2026-11-21T02:02:07.825892", "2026-03-01T10:00:00.123456", "2026-12-21T02:02:07.825334", "2026-03-31T10:00:00.123456",
		"req-60ff8f03-80e6-4436-a2c4-53fc76f58ee3", "req-936666d2-4c8f-4e41-9ac9-237b43f8b848",
		"11111111-0000-0000-0000-000000000002", "f292cc0c-54a7-4b3b-8174-d2ff82d87008")
	at := "/a1/messages/" + body.Message.ID
	made.is(want.Replace(volumeSample(t, "show"))).has("Location", a.url+"/v3"+at).has("OpenStack-API-Version", "volume 3.71")
	for _, version := range []string{"3.3", "3.5", "3.31", "3.34", "3.71"} {
		got := a.volume("GET", "/v3"+at, ``, 200, "OpenStack-API-Version", "volume "+version)
		got.is(want.Replace(volumeSample(t, "show"))).has("OpenStack-API-Version", "volume "+version).has("Vary", "OpenStack-API-Version")
		got.has("X-Compute-Request-Id", got.header.Get("X-Openstack-Request-Id"))
	}
	a.volume("GET", "/v3/messages/"+strings.ToUpper(body.Message.ID), ``, 200).is(strings.ReplaceAll(want.Replace(volumeSample(t, "show")), "/a1/", "/"))
	prefixed := strings.ReplaceAll(want.Replace(volumeSample(t, "show")), a.url, a.url+"/volume")
	a.volume("GET", "/volume/v3"+at, ``, 200).is(prefixed)
	a.volume("GET", "/v3/a1/messages?limit=1", ``, 200).is(want.Replace(volumeSample(t, "list-page")))
	a.recorded(domain.UserMessageRecorded{
		Project: "a1", ID: uuid.MustParse(body.Message.ID), EventID: "VOLUME_VOLUME_001_003", ActionID: "001", DetailID: "003", Level: "ERROR",
		ResourceType: "VOLUME", ResourceUUID: "f292cc0c-54a7-4b3b-8174-d2ff82d87008", RequestID: "req-936666d2-4c8f-4e41-9ac9-237b43f8b848",
		Created: a.Now(), GuaranteedUntil: a.Now().Add(30 * 24 * time.Hour),
	})
}

// The endpoint that the operator names is in all links.
func TestUserMessageLinksOfAPublicEndpoint(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) { cfg.Volumes.PublicEndpoint = "https://cloud.example.net/volume/" })
	a.tells("a1", `{"action_id": "001"}`)
	got := a.volume("GET", "/v3/a1/messages?limit=1&x%20y=", ``, 200, "OpenStack-API-Version", "volume 3.71")
	if strings.Contains(got.body, a.url) {
		t.Errorf("it has an address of the inside: %s", got.body)
	}
	got = a.volume("GET", "/v3/messages?limit=1", ``, 200)
	if !strings.Contains(got.body, `"href":"https://cloud.example.net/volume/v3/messages?limit=1&marker=`) || !strings.Contains(got.body, `"https://cloud.example.net/volume/messages/`) {
		t.Errorf("links: %s", got.body)
	}
}

func TestDeleteUserMessage(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	ours, theirs := a.tells("a1", `{"action_id": "001"}`), a.tells("b2", `{"action_id": "001"}`)
	a.history()
	member := []string{"X-Roles", "member,reader"}
	a.volume("DELETE", "/v3/a1/messages/"+theirs, ``, 404, member...).faults("itemNotFound", "Message "+theirs+" could not be found.")
	a.volume("GET", "/v3/a1/messages/"+theirs, ``, 404, member...).faults("itemNotFound", "Message "+theirs+" could not be found.")
	got := a.volume("DELETE", "/v3/a1/messages/"+ours, ``, 204, member...).has("OpenStack-API-Version", "volume 3.71")
	if got.body != "" {
		t.Errorf("body %q", got.body)
	}
	a.recorded(domain.UserMessageDeleted{Project: "a1", ID: uuid.MustParse(ours)})
	for _, method := range []string{"GET", "DELETE"} {
		a.volume(method, "/v3/a1/messages/"+ours, ``, 404).faults("itemNotFound", "Message "+ours+" could not be found.")
		a.volume(method, "/v3/a1/messages/x", ``, 404).faults("itemNotFound", "Message x could not be found.")
	}
	// An administrator sees all projects' messages.
	a.volume("GET", "/v3/messages/"+theirs, ``, 200)
	a.volume("DELETE", "/v3/messages/"+theirs, ``, 204)
	// Who names no project is nobody's user.
	again := a.tells("a1", `{"action_id": "001"}`)
	for _, method := range []string{"GET", "DELETE"} {
		a.volume(method, "/v3/messages/"+again, ``, 403, "X-Roles", "member,reader", "X-Project-Id", "")
	}
}

// The rows of the contract's tables of routes and of errors.
func TestVolumeErrors(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.volume("GET", "/v3/messages", "", 400, "X-Project-Id", "p\xff").
		faults("badRequest", "The project id must be a text of at most 256 characters.")
	id := a.tells("a1", `{"action_id": "001"}`)
	for _, path := range []string{"/v3/a1/messages", "/v3/messages", "/v3/a1/messages/" + id, "/v3/messages/" + id, "/volume/v3/messages"} {
		for _, version := range []string{"", "volume 3.0", "volume 3.2", "compute 2.1"} {
			told := version
			if version == "" || version == "compute 2.1" {
				told = "volume 3.0"
			}
			a.volume("GET", path, ``, 404, "OpenStack-API-Version", version).is(volumeSample(t, "error-404-version")).has("OpenStack-API-Version", told)
		}
		a.volume("GET", path, ``, 406, "OpenStack-API-Version", "volume 9.9").is(volumeSample(t, "error-406"))
		a.volume("GET", path, ``, 400, "OpenStack-API-Version", "volume abc").
			faults("badRequest", "API Version String abc is of invalid format. Must be of format MajorNum.MinorNum.").has("OpenStack-API-Version", "")
		for _, method := range []string{"PUT", "PATCH", "POST", "TRACE", "OPTIONS"} {
			if method != "POST" || !strings.HasSuffix(path, "a1/messages") {
				a.volume(method, path, ``, 404).is(volumeSample(t, "error-404-version"))
			}
		}
		if got := a.volume("HEAD", path, ``, 404); got.body != "" {
			t.Errorf("HEAD %s: %s", path, got.body)
		}
	}
	for _, roles := range []string{"admin", "member,reader"} {
		a.volume("GET", "/v3/b2/messages", ``, 400, "X-Roles", roles).faults("badRequest", "Malformed request url")
		a.volume("DELETE", "/v3/b2/messages/"+id, ``, 400, "X-Roles", roles).faults("badRequest", "Malformed request url")
		a.volume("GET", "/v3/b2/messages", ``, 400, "X-Roles", roles, "OpenStack-API-Version", "").faults("badRequest", "Malformed request url")
	}
	for _, path := range []string{"/v3/p1/messages", "/v3/A1/messages/" + id, "/volume/v3/a1/volumes", "/volume/v2/a1/messages", "/volume/nothing"} {
		got := a.volume("GET", path, ``, 404).has("Content-Type", "text/plain; charset=UTF-8")
		if got.body != plainNotFound || got.header.Get("X-Compute-Request-Id") == "" {
			t.Errorf("%s: %q", path, got.body)
		}
	}
	for path, rule := range map[string]string{"GET /v3/a1/messages": "message:get_all", "GET /v3/a1/messages/" + id: "message:get", "DELETE /v3/a1/messages/" + id: "message:delete", "POST /v3/a1/messages": "nabu:message_create"} {
		method, path, _ := strings.Cut(path, " ")
		a.volume(method, path, `{`, 403, "X-Roles", "nobody").faults("forbidden", "Policy doesn't allow "+rule+" to be performed.")
	}
	a.volume("DELETE", "/v3/a1/messages/"+id, ``, 403, "X-Roles", "reader").faults("forbidden", "Policy doesn't allow message:delete to be performed.")
	a.volume("POST", "/v3/a1/messages", ``, 404, "OpenStack-API-Version", "volume 3.2", "X-Roles", "nobody").is(volumeSample(t, "error-404-version"))
	a.volume("GET", "/v3/a1/messages", ``, 200, "OpenStack-API-Version", "compute 2.1, volume 3.3").has("OpenStack-API-Version", "volume 3.3")
	a.volume("GET", "/v3/a1/messages", ``, 200, "OpenStack-API-Version", "volume latest").has("OpenStack-API-Version", "volume 3.71")
}

func TestVolumeWithoutAToken(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) { cfg.Auth = refusing{} })
	a.volume("GET", "/v3/a1/messages", ``, 401).is(volumeSample(t, "error-401")).has("Content-Type", "application/json")
	a.volume("GET", "/v3/p1/messages", ``, 401).is(volumeSample(t, "error-401"))
	// Whoever looks for the versions has no token yet.
	for path, status := range map[string]int{"/volume": 300, "/volume/": 300, "/volume/v3": 200, "/volume/v3/": 200} {
		a.volume("GET", path, ``, status).is(strings.ReplaceAll(volumeSample(t, "versions"), "http://vol.example:8776", a.url+"/volume"))
	}
	for _, path := range []string{"/v3", "/v3/"} {
		a.volume("GET", path, ``, 200).is(strings.ReplaceAll(volumeSample(t, "versions"), "http://vol.example:8776", a.url))
	}
	if got := a.volume("POST", "/volume/", ``, 404); got.body != plainNotFound {
		t.Errorf("%q", got.body)
	}
	a.volume("GET", "/volume/healthcheck", ``, 200)
}

// The API may have an address of its own, at whose root it stands.
func TestVolumeAlone(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	id := a.tells("a1", `{"action_id": "001"}`)
	alone := httptest.NewServer(a.server.AloneHandler(volumePrefix))
	t.Cleanup(alone.Close)
	a.url = alone.URL
	for path, status := range map[string]int{"/": 300, "/v3": 200, "/v3/": 200} {
		a.volume("GET", path, ``, status).is(strings.ReplaceAll(volumeSample(t, "versions"), "http://vol.example:8776", alone.URL))
	}
	got := a.volume("GET", "/v3/a1/messages/"+id, ``, 200)
	if !strings.Contains(got.body, `"`+alone.URL+`/v3/a1/messages/`+id) {
		t.Errorf("links: %s", got.body)
	}
	if got := a.volume("GET", "/v2/queues", ``, 404); got.body != plainNotFound {
		t.Errorf("%q", got.body)
	}
}

// What a service may send, and what is made of it.
func TestCreateUserMessage(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	service := []string{"X-Roles", "service", "X-Project-Id", "5e71ce"}
	var made struct{ Message userMessageBody }
	got := a.volume("POST", "/v3/b2/messages", `{"message": {"action": "EXTEND_VOLUME", "exception": "x.DriverNotInitialized", "created_at": "2026-02-28T23:00:00-01:00"}}`,
		201, append(service, "X-Openstack-Request-Id", "req-2c7e64ad-04b3-4cd3-8f54-10e2fd0d9f4b")...)
	got.into(&made)
	m := made.Message
	if m.EventID != "VOLUME_VOLUME_007_002" || m.CreatedAt != "2026-03-01T00:00:00.000000" || m.GuaranteedUntil != "2026-03-31T00:00:00.000000" ||
		m.RequestID == nil || *m.RequestID != got.header.Get("X-Openstack-Request-Id") || m.ResourceUUID != "" || strings.Contains(got.body, "resource_uuid") {
		t.Errorf("made %s", got.body)
	}
	found := a.userMessagesAt("/v3/messages?request_id=req-2c7e64ad-04b3-4cd3-8f54-10e2fd0d9f4b", "X-Project-Id", "b2", "X-Roles", "reader")
	if len(found.Messages) != 1 || found.Messages[0].ID != m.ID {
		t.Errorf("by the name that its caller gave: %+v", found)
	}
	a.history()
	for body, message := range map[string]string{
		`{"message": {"action_id": "001", "user_message": "free text"}}`:         "message must not have user_message: it may have id, event_id, action_id, action, detail_id, detail, exception, resource_type, resource_uuid, message_level, request_id, global_request_id, created_at",
		`{"message": {"action_id": "099"}}`:                                      "action_id and action must be in the catalogue",
		`{"message": {"action_id": "001", "detail_id": "099"}}`:                  "detail_id and detail must be in the catalogue",
		`{"message": {"action_id": "001", "resource_uuid": "x"}}`:                "resource_uuid must be a UUID",
		`{"message": {"action_id": "001", "event_id": "VOLUME_000001"}}`:         "event_id goes without action, detail and exception",
		`{"message": {"action_id": "001", "created_at": "2026-03-01T10:00:01"}}`: "created_at must not be in the future",
		`{"message": {"action_id": "001", "message_level": "FATAL"}}`:            "message_level must be one of ERROR, WARNING and INFO",
		`{"message": {}}`:         "action_id, action or event_id is required",
		`{}`:                      "message is required",
		`[]`:                      "the body must be a JSON object",
		`{`:                       "Malformed request body",
		``:                        "Malformed request body",
		"{\"message\": \"\xff\"}": "Malformed request body",
	} {
		a.volume("POST", "/v3/a1/messages", body, 400).faults("badRequest", message)
	}
	a.volume("POST", "/v3/a1/messages", `<x/>`, 415, "Content-Type", "text/xml").faults("badMediaType", "Unsupported Content-Type")
	a.volume("POST", "/v3/a1/messages", `{"message": "`+strings.Repeat("x", maxVolumeBody)+`"}`, 413).
		faults("overLimit", "the body must not be larger than 114688 bytes")
	a.recorded()
}

func TestUserMessagesAreCreatedOnce(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	const body, other = `{"message": {"action_id": "001"}}`, `{"message": {"action_id": "002"}}`
	key := []string{"Idempotency-Key", "k1"}
	first := a.volume("POST", "/v3/a1/messages", body, 201, key...)
	a.advance(time.Minute)
	a.volume("POST", "/v3/a1/messages", body, 201, key...).is(first.body)
	a.volume("POST", "/volume/v3/a1/messages", body, 201, key...)
	a.volume("POST", "/v3/a1/messages", other, 422, key...)
	const id = "384468b0-e1d6-4772-afc5-ef9de64d0331"
	named := strings.Replace(body, `{"action_id"`, `{"id": "`+id+`", "action_id"`, 1)
	first = a.volume("POST", "/v3/a1/messages", named, 201)
	a.advance(time.Minute)
	a.volume("POST", "/v3/a1/messages", named, 201).is(first.body)
	a.volume("POST", "/v3/a1/messages", strings.Replace(named, "001", "002", 1), 422).
		faults("computeFault", "id "+id+" is that of another message")
	a.volume("POST", "/v3/b2/messages", named, 422)
	if n := len(a.history()); n != 2 {
		t.Errorf("%d events", n)
	}
	a.volume("POST", "/v3/a1/messages", body, 201)
	a.volume("POST", "/v3/a1/messages", body, 201)
	if n := len(a.history()); n != 2 {
		t.Errorf("%d events of two equal calls", n)
	}
}

func TestUserMessagesInALanguage(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	id := a.tells("a1", `{"action_id": "002", "detail_id": "021"}`)
	older := a.tells("a1", `{"event_id": "000003"}`)
	for accept, want := range map[string]string{
		"": "en", "*": "en", "en": "en", "fr": "en", "de": "de", "DE": "de", "de-AT, en;q=0.5": "de", "en-GB, de": "en", "fr, de;q=0.7, en;q=0.3": "de",
		"de;q=0": "en", "en;q=0.1, de;q=0.2": "de",
	} {
		got := a.volume("GET", "/v3/a1/messages/"+id, ``, 200, "Accept-Language", accept).has("Content-Language", want)
		text := map[string]string{"en": "attach volume:Failed to attach volume.", "de": "Volume anhängen:Das Volume konnte nicht angehängt werden."}[want]
		if !strings.Contains(got.body, `"user_message":"`+text+`"`) {
			t.Errorf("%s: %s", accept, got.body)
		}
		if vary := got.header.Values("Vary"); len(vary) != 2 || vary[1] != "Accept-Language" {
			t.Errorf("%s: Vary %q", accept, vary)
		}
	}
	list := a.userMessagesAt("/v3/a1/messages?sort=created_at:asc", "Accept-Language", "de").Messages
	if list[0].ID != id && list[1].ID != id || !strings.Contains(list[0].UserMessage+list[1].UserMessage, "Ein schreibgeschütztes Volume") {
		t.Errorf("listed: %+v", list)
	}
	for _, m := range a.userMessagesAt("/v3/a1/messages?event_id=000003").Messages {
		if m.ID != older || m.EventID != "000003" || m.UserMessage != "A readonly volume must be attached as readonly." {
			t.Errorf("an older id: %+v", m)
		}
	}
}

// Requests about volumes go on to the real service, and those about messages do not.
func TestVolumeUpstream(t *testing.T) {
	t.Parallel()
	cinder := fakeImageService(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.URL.RequestURI())) })
	a := newAPI(t, func(cfg *Config) { cfg.Volumes.Upstream = cinder })
	a.tells("a1", `{"action_id": "001"}`)
	a.volume("GET", "/volume/v3/a1/messages", ``, 200)
	for _, path := range []string{"/volume/v3/a1/volumes/x?y=z", "/volume/", "/volume/v3/"} {
		if got := a.volume("GET", path, ``, 200); got.body != strings.TrimPrefix(path, "/volume") {
			t.Errorf("%s came as %s", path, got.body)
		}
	}
}
