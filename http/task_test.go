package http

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/internal/jsonschema"
	"nabu/internal/outbound"
)

// The inputs of the tests' tasks.
const (
	imported = `{"import_from": "https://images.example/x.qcow2", "import_from_format": "qcow2", "image_properties": {"name": "x"}}`
	copied   = `{"image_id": "2d3b7b7e-0f5e-4c3c-9d8e-5f0f6a1b2c3d", "import_req": {"method": {"name": "copy-image"}}}`
)

// taskBody is a task as clients see it.
type taskBody struct {
	ID        string `json:"id"`
	Type      string
	Status    string
	Owner     string
	Message   string
	Created   string `json:"created_at"`
	Updated   string `json:"updated_at"`
	Expires   string `json:"expires_at"`
	RequestID string `json:"request_id"`
}

// makeTask makes a task and returns its id.
func (a *api) makeTask(taskType, input string, headers ...string) string {
	a.Helper()
	var made taskBody
	a.call("POST", "/v2/tasks", `{"type": "`+taskType+`", "input": `+input+`}`, 201, headers...).into(&made)
	return made.ID
}

// report has a worker report on a task.
func (a *api) report(id, action string) taskBody {
	a.Helper()
	var now taskBody
	a.call("POST", "/v2/tasks/"+id+"/action", action, 202).into(&now)
	return now
}

func TestCreateTask(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	for place, endpoint := range map[string]string{"": a.url, "/image": a.url + "/image"} {
		got := a.call("POST", place+"/v2/tasks", sample(t, "create-request"), 201, "X-User-Id", "up1", "X-OpenStack-Request-Id", "req-"+theirs)
		var made taskBody
		got.into(&made)
		if _, valid := taskID(made.ID); !valid {
			t.Fatalf("made %s", got.body)
		}
		want := strings.NewReplacer("bfd7115e-756c-4db1-92df-24a3f9935a1d", made.ID, "2026-11-21T02:00:47Z", "2026-03-01T10:00:00Z",
			"req-c97e78cf-6291-44f0-874b-ad06d1c0ca32", got.header.Get("X-OpenStack-Request-Id")).Replace(sample(t, "create-response"))
		got.is(want).has("Location", endpoint+"/v2/tasks/"+made.ID).has("Content-Type", "application/json")
		for _, path := range []string{"/v2", "/image/v2", "/v2.3", "/image/v2.12"} {
			a.call("GET", path+"/tasks/"+made.ID, ``, 200).is(want)
		}
		a.call("GET", "/v2/tasks/"+strings.ToUpper(made.ID), ``, 200).is(want)
		// Its worker gets it from nabu itself.
		claimed := a.call("POST", "/v2/queues/tasks.import/claims", ``, 201, "X-Project-Id", "service")
		if !strings.Contains(claimed.body, made.ID) {
			t.Errorf("claimed %s", claimed.body)
		}
	}
	// Behind a proxy that ends TLS, links lead to the proxy.
	behind := a.call("POST", "/image/v2/tasks", sample(t, "create-request"), 201, "X-Forwarded-Proto", "https").header.Get("Location")
	if want := "https" + strings.TrimPrefix(a.url, "http") + "/image/v2/tasks/"; !strings.HasPrefix(behind, want) {
		t.Errorf("behind a proxy: Location %s, want %s…", behind, want)
	}
	public := newAPI(t, func(cfg *Config) { cfg.Images.PublicEndpoint = "https://images.example.net/" })
	got := public.call("POST", "/v2/tasks", sample(t, "create-request"), 201)
	var made taskBody
	got.into(&made)
	got.has("Location", "https://images.example.net/v2/tasks/"+made.ID)
}

// What is sent stays as it was, whatever the client says it is.
func TestCreateTaskKeepsTheInput(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	for _, contentType := range []string{"", "text/xml", "application/x-www-form-urlencoded"} {
		const input = `{"b":1.50, "a" : "ö<", "b":1.50,"image_id":"i1","import_req":{}}`
		got := a.call("POST", "/v2/tasks", ` {"input": `+input+`,"type":"api_image_import"} `, 201, "Content-Type", contentType)
		if !strings.Contains(got.body, `"input":`+input+`,`) || !strings.Contains(got.body, `"image_id":"i1"`) {
			t.Errorf("made %s", got.body)
		}
	}
}

// The rows of the contract's table of errors, in its order.
func TestCreateTaskRefused(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	const schema = "Provided object does not match schema 'task': "
	for _, r := range []struct{ body, text string }{
		{``, "Body expected in request."},
		{`{`, "Malformed JSON in request body."},
		{"{\"type\": \"\xff\"}", "Malformed JSON in request body."},
		{`{"type": 123456789012345678901}`, "Malformed JSON in request body."},
		{`   `, "Malformed JSON in request body."},
		{`5`, "Unexpected body type. Expected list/dict."},
		{`"type"`, "Unexpected body type. Expected list/dict."},
		{`null`, "Unexpected body type. Expected list/dict."},
		{`[]`, "Task 'type' is required"},
		{`["type", "input"]`, "Task 'type' is required"},
		{`{}`, "Task 'type' is required"},
		{`{"input": {}}`, "Task 'type' is required"},
		{`{"type": 5}`, "Task 'input' is required"},
		{`{"type": "export", "input": {}}`, schema + "'export' is not one of ['import', 'api_image_import', 'location_import']"},
		{`{"type": "<b>'\n", "input": {}}`, schema + `'<b>\'\n' is not one of ['import', 'api_image_import', 'location_import']`},
		{`{"type": 5, "input": {}}`, schema + "5 is not of type 'string'"},
		{`{"type": null, "input": {}}`, schema + "None is not of type 'string'"},
		{`{"type": "import", "input": true}`, schema + "True is not of type 'null', 'object'"},
		{`{"type": "import", "input": "x"}`, schema + "'x' is not of type 'null', 'object'"},
		{`{"type": "import", "input": {}, "extra": 1}`, schema + "Additional properties are not allowed ('extra' was unexpected)"},
		{`{"type": "import", "input": {}, "owner": false}`, schema + "False is not of type 'string'"},
		{`{"type": "import", "input": {}, "id": "x"}`, schema + "'x' does not match '" + uuidPattern + "'"},
		{`{"type": "import", "input": {}, "status": "done"}`, schema + "'done' is not one of ['pending', 'processing', 'success', 'failure']"},
		{`{"type": "import", "input": {}, "result": []}`, schema + "[] is not of type 'null', 'object'"},
		{`{"type": "import", "input": {"import_from": 5}}`, schema + "import_from is not of type 'string'"},
		{`{"type": "import", "input": {}}`, "Invalid location: None"},
		{`{"type": "import", "input": null}`, "Invalid location: None"},
		{`{"type": "import", "input": {"import_from": null}}`, "Invalid location: None"},
		{`{"type": "import", "input": {"import_from": ""}}`, "Invalid location: None"},
		{`{"type": "import", "input": {"import_from": "file:///etc/passwd"}}`, "File based imports are not allowed. Please use a non-local source of image data."},
		{`{"type": "import", "input": {"import_from": "filesystem:///x"}}`, "File based imports are not allowed. Please use a non-local source of image data."},
		{`{"type": "import", "input": {"import_from": "ftp://images.example/x"}}`, "The given uri is not valid. Please specify a valid uri from the following list of supported uri ['http']"},
		{`{"type": "import", "input": {"import_from": "container/object"}}`, "The given uri is not valid. Please specify a valid uri from the following list of supported uri ['http']"},
		{`{"type": "import", "input": {"import_from": "http://images.example:22/x"}}`, "URI for legacy import task does not pass filtering: http://images.example:22/x"},
		{`{"type": "import", "input": {"import_from": "http://inside/x"}}`, "URI for legacy import task does not pass filtering: http://inside/x"},
		{`{"type": "import", "input": {"import_from": "http://[/x"}}`, "URI for legacy import task does not pass filtering: http://[/x"},
		{`{"type": "api_image_import", "input": {"image_id": "0123456789012345678901234567890123456"}}`, "image_id must not be longer than 36 characters, nor hold a NUL"},
		{`{"type": "api_image_import", "input": {"image_id": "\u0000"}}`, "image_id must not be longer than 36 characters, nor hold a NUL"},
	} {
		a.fails("POST", "/v2/tasks", r.body, 400, r.text)
	}
	a.fails("POST", "/v2/tasks", nested(maxImageNesting+1), 400, "Malformed JSON in request body.")
	a.fails("POST", "/v2/tasks", `{"type": "api_image_import", "input": {}}`, 400, "The project id must be a text of at most 256 characters.", "X-Project-Id", "p\xff")
	a.fails("POST", "/v2/tasks", `{"type": "api_image_import", "input": {}}`, 400, "A task needs a project to belong to: the X-Project-Id header is required.", "X-Project-Id", "")
	a.fails("POST", "/v2/tasks", strings.Repeat(" ", domain.DefaultLimits().MaxMessagesPostSize+1), 413, "The body of your request was too large for this server.")
	a.recorded()
}

// nested is a task of so many levels.
func nested(levels int) string {
	return `{"type": "api_image_import", "input": {"image_id": "]", "import_req": ` +
		strings.Repeat("[", levels-2) + strings.Repeat("]", levels-2) + `}}`
}

func TestDeepTasksAreHandedOut(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.call("POST", "/v2/tasks", nested(maxImageNesting), 201)
	var claimed struct{ Messages []any }
	a.call("POST", "/v2/queues/tasks.api_image_import/claims", ``, 201, "X-Project-Id", "service").into(&claimed)
	if len(claimed.Messages) != 1 {
		t.Errorf("claimed %v", claimed)
	}
}

// A project that no database can look for is nobody's.
func TestProjectsThatAreNoText(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withPolicy(t, `"tasks_api_access": "@"`))
	broken := []string{"X-Roles", "member,reader", "X-Project-Id", "p\xff"}
	for _, path := range []string{"/v2/tasks", "/image/v2/tasks?owner=p1", "/v2/tasks/" + ours, "/v2/images/x/tasks", "/v2/schemas/task"} {
		a.fails("GET", path, ``, 400, "The project id must be a text of at most 256 characters.", broken...)
	}
}

func TestTaskChunkedBodies(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	long := struct{ *strings.Reader }{strings.NewReader(strings.Repeat(" ", domain.DefaultLimits().MaxMessagesPostSize+1))}
	if got := a.send("POST", "/v2/tasks", long); got.status != 413 {
		t.Errorf("a long one: %d %s", got.status, got.body)
	}
	empty := struct{ *strings.Reader }{strings.NewReader("")}
	if got := a.send("POST", "/v2/tasks", empty, "Accept", "application/json"); got.status != 400 || !strings.Contains(got.body, "Malformed JSON") {
		t.Errorf("an empty one: %d %s", got.status, got.body)
	}
	made := struct{ *strings.Reader }{strings.NewReader(sample(t, "create-request"))}
	if got := a.send("POST", "/v2/tasks", made); got.status != 201 {
		t.Errorf("a good one: %d %s", got.status, got.body)
	}
}

// What the server makes by itself may be sent, and is ignored.
func TestCreateTaskIgnores(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	got := a.call("POST", "/v2/tasks", `{"type": "api_image_import", "input": `+copied+`, "id": "`+ours+`", "status": "success", "owner": "p2",
		"message": "x", "result": {"a": 1}, "created_at": "x", "updated_at": "x", "expires_at": null, "self": "x", "schema": "x",
		"image_id": "x", "request_id": "x", "user_id": "x"}`, 201)
	var made taskBody
	got.into(&made)
	if made.ID == ours || made.Status != "pending" || made.Owner != "p1" || made.Message != "" || made.Created != "2026-03-01T10:00:00Z" || made.Expires != "" {
		t.Errorf("made %s", got.body)
	}
}

// refusing lets nobody in.
type refusing struct{}

func (refusing) Authenticate(*http.Request) (Caller, error) {
	return Caller{}, &problem{http.StatusUnauthorized, "Unauthorized", "The request you have made requires authentication."}
}

func TestTasksNeedAToken(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) { cfg.Auth = refusing{} })
	for _, r := range [][2]string{{"GET", "/v2/tasks"}, {"POST", "/v2/tasks"}, {"DELETE", "/image/v2/tasks/x"}, {"PUT", "/v2/tasks"}, {"GET", "/v2/schemas/task"}, {"GET", "/image/v2/x"}} {
		a.fails(r[0], r[1], ``, 401, "The request you have made requires authentication.")
	}
	a.call("GET", "/image/", ``, 300)
}

func TestNoAuthTakesATokenOfUserAndProject(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	for _, token := range []string{"somebody:p7", "somebody%3Ap7"} {
		var made taskBody
		got := a.call("POST", "/v2/tasks", `{"type": "api_image_import", "input": `+copied+`}`, 201, "X-Project-Id", "", "X-Auth-Token", token)
		if got.into(&made); made.Owner != "p7" || !strings.Contains(got.body, `"user_id":"somebody"`) {
			t.Errorf("made with %s: %s", token, got.body)
		}
	}
	a.call("PUT", "/v2/queues/builds", ``, 201, "X-Project-Id", " ", "X-Auth-Token", "somebody:p7") // sent as an empty one
	a.call("PUT", "/v2/queues/builds", ``, 400, "X-Project-Id", " ")
	for _, token := range []string{"some%00body%3Ap7", "somebody%3A%00", "some%FFbody%3Ap7", "%3Ap%FF", "somebody%3Ap7%"} {
		a.call("POST", "/v2/tasks", `{"type": "api_image_import", "input": `+copied+`}`, 400, "X-Project-Id", "", "X-Auth-Token", token)
		a.call("PUT", "/v2/queues/builds", ``, 400, "X-Project-Id", "", "X-Auth-Token", token)
	}
	if got := a.call("POST", "/v2/tasks", `{"type": "api_image_import", "input": {}}`, 201, "X-User-Id", "u1", "X-Auth-Token", "somebody:p7"); !strings.Contains(got.body, `"owner":"p1"`) || !strings.Contains(got.body, `"user_id":"u1"`) {
		t.Errorf("made %s", got.body)
	}
}

func TestSwiftPaths(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) { cfg.Images.SwiftPaths = true })
	a.call("POST", "/v2/tasks", `{"type": "import", "input": {"import_from": "container/some/object"}}`, 201)
	for _, place := range []string{"container", "/object", "container/", "ftp://images.example/x", "//inside/x"} {
		a.fails("POST", "/v2/tasks", `{"type": "import", "input": {"import_from": "`+place+`"}}`, 400,
			"The given uri is not valid. Please specify a valid uri from the following list of supported uri ['http']")
	}
}

// The filter itself, for addresses that no resolver has to be asked for.
func TestImportFilter(t *testing.T) {
	t.Parallel()
	usual := newAPI(t, func(cfg *Config) { cfg.Images.Imports = &outbound.Filter{} })
	allowing := newAPI(t, func(cfg *Config) {
		cfg.Images.Imports = &outbound.Filter{AllowHosts: []string{"127.0.0.1", "inside.example"}, AllowPorts: []uint16{80, 8080}}
	})
	closed := newAPI(t, func(cfg *Config) { cfg.Images.Imports = nil })
	for _, r := range []struct {
		at     *api
		place  string
		passes bool
	}{
		{usual, "http://10.1.2.3/x", true}, {usual, "https://93.184.216.34:443/x", true},
		{usual, "http://127.0.0.1/x", false}, {usual, "http://[::1]/x", false}, {usual, "http://[::ffff:127.0.0.1]/x", false},
		{usual, "http://169.254.169.254/x", false}, {usual, "http://2130706433/x", false}, {usual, "http://0x7f.1/x", false},
		{usual, "http://017700000001/x", false}, {usual, "http://127.1/x", false}, {usual, "http://10.1.2.3:8080/x", false},
		{usual, "http://localhost/x", false}, {usual, "http://nothing.invalid/x", false}, {usual, "http://", false},
		{allowing, "http://127.0.0.1:8080/x", true}, {allowing, "http://inside.example/x", true}, {allowing, "http://10.1.2.3/x", false},
		{allowing, "https://127.0.0.1/x", false}, {closed, "http://10.1.2.3/x", false},
	} {
		body := fmt.Sprintf(`{"type": "import", "input": {"import_from": %q}}`, r.place)
		if r.passes {
			r.at.call("POST", "/v2/tasks", body, 201)
			continue
		}
		r.at.fails("POST", "/v2/tasks", body, 400, "URI for legacy import task does not pass filtering: "+r.place)
	}
}

// Types of the operator's own have a schema for their input.
func TestOwnTaskTypes(t *testing.T) {
	t.Parallel()
	const sized = `{"type": "object", "required": ["size"], "properties": {"size": {"type": "integer", "minimum": 1}}}`
	compiled, err := jsonschema.Compile(sized)
	if err != nil {
		t.Fatal(err)
	}
	own := domain.TaskType{Schema: sized, Check: func(input string) error { return compiled.Check(cmp.Or(input, "null")) }}
	a := newAPI(t, func(cfg *Config) {
		cfg.Images.Tasks.Types = domain.TaskTypes()
		cfg.Images.Tasks.Types["resize"] = own
	})
	id := a.makeTask("resize", `{"size": 3}`)
	if got := a.call("GET", "/v2/tasks?type=resize", ``, 200); !strings.Contains(got.body, id) {
		t.Errorf("listed %s", got.body)
	}
	claimed := a.call("POST", "/v2/queues/tasks.resize/claims", ``, 201, "X-Project-Id", "service")
	if !strings.Contains(claimed.body, id) {
		t.Errorf("claimed %s", claimed.body)
	}
	for input, reason := range map[string]string{
		`{}`: "at '': missing property 'size'", `{"size": "x"}`: "at '/size': got string, want integer", `null`: "at '': got null, want object",
	} {
		a.fails("POST", "/v2/tasks", `{"type": "resize", "input": `+input+`}`, 400, "Provided object does not match schema 'task': "+reason)
	}
	for _, path := range []string{"/v2/schemas/task", "/image/v2/schemas/tasks"} {
		if got := a.call("GET", path, ``, 200); !strings.Contains(got.body, `"enum":["import","api_image_import","location_import","resize"]`) {
			t.Errorf("%s: %s", path, got.body)
		}
	}
	var schema struct {
		Properties struct {
			Input struct{ Definitions map[string]any }
		}
	}
	a.call("GET", "/v2/schemas/task", ``, 200).into(&schema)
	if schema.Properties.Input.Definitions["resize"] == nil {
		t.Errorf("the schema of its input is not served: %v", schema)
	}
}

func TestShowTask(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	member := []string{"X-Roles", "member"} // may nothing with tasks by default
	id := a.makeTask("import", imported, "X-User-Id", "up1")
	unknown := uuid.NewString()
	for _, other := range []string{unknown, "nope", "urn:uuid:" + id, strings.ReplaceAll(id, "-", ""), "{" + id + "}"} {
		a.fails("GET", "/v2/tasks/"+other, ``, 404, "Could not find task "+other)
	}
	a.fails("GET", "/v2/tasks/"+id, ``, 403, "You are not authorized to complete tasks_api_access action.", member...)
	a.call("GET", "/v2/tasks/"+id, ``, 200, "X-Project-Id", "p2") // an administrator
	a.report(id, `{"begin": {}}`)
	a.report(id, `{"fail": {"message": "Task failed due to Internal Error"}}`)
	var got taskBody
	a.call("GET", "/v2/tasks/"+id, ``, 200).into(&got)
	want := strings.NewReplacer("bfd7115e-756c-4db1-92df-24a3f9935a1d", id, "2026-11-21T02:00:47Z", "2026-03-01T10:00:00Z", "2026-11-23T02:00:47Z", "2026-03-03T10:00:00Z",
		"req-c97e78cf-6291-44f0-874b-ad06d1c0ca32", got.RequestID, `"p1"`, `"p1"`).Replace(sample(t, "show-failure"))
	a.call("GET", "/v2/tasks/"+id, ``, 200).is(strings.NewReplacer(
		"http://images.example/x.qcow2", "https://images.example/x.qcow2", `"disk_format": "qcow2",`, ``, `"container_format": "bare"`, `"name": "x"`).Replace(want))

	a.advance(48*time.Hour - time.Second)
	a.call("GET", "/v2/tasks/"+id, ``, 200)
	a.advance(2 * time.Second) // it is gone from every answer
	a.fails("GET", "/v2/tasks/"+id, ``, 404, "Could not find task "+id)
	a.fails("POST", "/v2/tasks/"+id+"/action", `{"fail": {"message": "x"}}`, 404, "Could not find task "+id)
	a.fails("GET", "/v2/tasks?marker="+id, ``, 400, "Task with the given id "+id+" was not found")
	a.call("GET", "/v2/tasks", ``, 200).is(`{"tasks": [], "first": "/v2/tasks", "schema": "/v2/schemas/tasks"}`)
}

// What a task without what its type needs tells its owner.
func TestTasksThatLackSomething(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	for _, r := range []struct{ taskType, input, message string }{
		{"import", `{"import_from": "http://images.example/x"}`, "Input does not contain 'import_from_format' field"},
		{"import", `{"import_from": "http://images.example/x", "import_from_format": "raw"}`, "Input does not contain 'image_properties' field"},
		{"api_image_import", `{}`, "Input to api_image_import task is empty."},
		{"api_image_import", `null`, "Input to api_image_import task is empty."},
		{"api_image_import", `{"import_req": {}}`, "Missing required 'image_id' field"},
		{"location_import", `{}`, "Input to location_import task is empty."},
		{"location_import", `{"image_id": "x"}`, "Input does not contain 'loc_url' field"},
	} {
		var shown taskBody
		id := a.makeTask(r.taskType, r.input)
		a.call("GET", "/v2/tasks/"+id, ``, 200).into(&shown)
		if shown.Status != "failure" || shown.Message != r.message || shown.Expires == "" {
			t.Errorf("%s %s: %+v", r.taskType, r.input, shown)
		}
	}
	if got := a.call("POST", "/v2/queues/tasks.import/claims", ``, 204, "X-Project-Id", "service"); got.body != "" {
		t.Errorf("claimed %s", got.body)
	}
}
