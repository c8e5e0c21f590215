package http

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"nabu/domain"
)

func TestReportTask(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	worker := []string{"X-Roles", "service", "X-Project-Id", "service"}
	id := a.makeTask("import", imported, "X-User-Id", "up1")
	a.history()
	say := func(prefix, action string) taskBody {
		t.Helper()
		var now taskBody
		a.call("POST", prefix+"/tasks/"+id+"/action", action, 202, worker...).into(&now)
		return now
	}
	if now := say("/v2", `{"begin": {"worker": "w1", "more": 1}}`); now.Status != "processing" || now.Owner != "p1" || now.ID != id {
		t.Fatalf("begun: %+v", now)
	}
	if now := say("/image/v2.2", `{"progress": {"message": "Copied 15 MiB", "worker": "w1"}}`); now.Status != "processing" || now.Message != "Copied 15 MiB" {
		t.Fatalf("on its way: %+v", now)
	}
	if now := say("/v2", `{"succeed": {"result": {"image_id": "2d3b7b7e-0f5e-4c3c-9d8e-5f0f6a1b2c3d"}}}`); now.Status != "success" || now.Expires != "2026-03-03T10:00:00Z" {
		t.Fatalf("done: %+v", now)
	}
	got := a.call("GET", "/v2/tasks/"+id, ``, 200)
	if !strings.Contains(got.body, `"result":{"image_id": "2d3b7b7e-0f5e-4c3c-9d8e-5f0f6a1b2c3d"}`) {
		t.Fatalf("shown: %s", got.body)
	}
	if events := a.history(); len(events) != 3 {
		t.Fatalf("recorded %v", events)
	}
	// The same report again is answered again, and is no news.
	if now := say("/v2", `{"succeed": {"result": {"image_id": "2d3b7b7e-0f5e-4c3c-9d8e-5f0f6a1b2c3d"}}}`); now.Status != "success" {
		t.Fatalf("done again: %+v", now)
	}
	a.recorded()
}

// The rows of the contract's table of reports that are refused. They change nothing.
func TestReportTaskRefused(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	pending, processing, failed := a.makeTask("import", imported), a.makeTask("import", imported), a.makeTask("import", imported)
	a.report(processing, `{"begin": {"worker": "w1"}}`)
	a.report(failed, `{"begin": {}}`)
	a.report(failed, `{"fail": {"message": "why"}}`)
	a.history()
	unknown := uuid.NewString()
	const one = "The body must have exactly one action: begin, progress, succeed or fail."
	for _, r := range []struct {
		id, body string
		status   int
		text     string
	}{
		{"x", ``, 400, "Body expected in request."},
		{"x", `{`, 400, "Malformed JSON in request body."},
		{"x", `"begin"`, 400, "Unexpected body type. Expected list/dict."},
		{"x", `[]`, 400, "The body must be an object with one action."},
		{"x", `{}`, 400, one},
		{"x", `{"begin": {}, "fail": {"message": "x"}}`, 400, one},
		{"x", `{"<i>": {}}`, 400, "There is no action <i>: it must be begin, progress, succeed or fail."},
		{"x", `{"begin": "w1"}`, 400, "The action begin must be an object."},
		{"x", `{"begin": null}`, 400, "The action begin must be an object."},
		{"x", `{"begin": {"worker": 5}}`, 400, "The worker of begin must be a text."},
		{"x", `{"progress": {}}`, 400, "The action progress must have a message, a text."},
		{"x", `{"progress": {"message": 5}}`, 400, "The action progress must have a message, a text."},
		{"x", `{"fail": {}}`, 400, "The action fail must have a message, a text."},
		{"x", `{"fail": {"message": null}}`, 400, "The action fail must have a message, a text."},
		{"x", `{"succeed": {"result": "x"}}`, 400, "The result of succeed must be an object or null."},
		{"x", `{"succeed": {"result": []}}`, 400, "The result of succeed must be an object or null."},
		{pending, `{"begin": {"worker": "\u0000"}}`, 400, "worker must not be longer than 255 characters, nor hold a NUL"},
		{"x", `{"begin": {}}`, 404, "Could not find task x"},
		{unknown, `{"begin": {}}`, 404, "Could not find task " + unknown},
		{pending, `{"progress": {"message": "x"}}`, 409, "Progress of a task in status pending is not allowed"},
		{pending, `{"succeed": {}}`, 409, "Status transition from pending to success is not allowed"},
		{processing, `{"begin": {}}`, 409, "Status transition from processing to processing is not allowed"},
		{processing, `{"begin": {"worker": "w2"}}`, 409, "Task " + processing + " is held by another worker"},
		{processing, `{"succeed": {"worker": "w2"}}`, 409, "Task " + processing + " is held by another worker"},
		{failed, `{"begin": {}}`, 409, "Status transition from failure to processing is not allowed"},
		{failed, `{"succeed": {"result": null}}`, 409, "Status transition from failure to success is not allowed"},
		{failed, `{"fail": {"message": "another"}}`, 409, "Status transition from failure to failure is not allowed"},
		{failed, `{"progress": {"message": "x"}}`, 409, "Progress of a task in status failure is not allowed"},
	} {
		a.fails("POST", "/v2/tasks/"+r.id+"/action", r.body, r.status, r.text)
	}
	a.recorded()
}

func TestTasksWithAnIdempotencyKey(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	body := `{"type": "api_image_import", "input": ` + copied + `}`
	var first, again taskBody
	a.call("POST", "/v2/tasks", body, 201, "Idempotency-Key", "k1").into(&first)
	a.history()
	got := a.call("POST", "/image/v2/tasks", body, 201, "Idempotency-Key", "k1")
	got.into(&again)
	a.recorded()
	if first.ID != again.ID || got.header.Get("Location") != a.url+"/image/v2/tasks/"+first.ID {
		t.Errorf("made %+v, then %s, %s", first, got.header.Get("Location"), got.body)
	}
	if got := a.send("POST", "/v2/tasks", strings.NewReader(`{"type": "api_image_import", "input": {}}`), "Idempotency-Key", "k1"); got.status != 422 {
		t.Errorf("another task with the same key: %d %s", got.status, got.body)
	}
	a.fails("POST", "/v2/tasks", body, 400, "Idempotency-Key must have 1 to 255 visible ASCII characters.", "Idempotency-Key", "a b")
}

func TestImageTasks(t *testing.T) {
	t.Parallel()
	const image = "2d3b7b7e-0f5e-4c3c-9d8e-5f0f6a1b2c3d"
	a := newAPI(t)
	reader := []string{"X-Roles", "reader"}
	got := a.call("POST", "/v2/tasks", `{"type": "api_image_import", "input": {"image_id": "`+image+`",
		"import_req": {"method": {"name": "copy-image"}, "all_stores": true}, "backend": ["fast", "slow"]}}`, 201, "X-User-Id", "up1")
	var made taskBody
	got.into(&made)
	a.makeTask("api_image_import", copied, "X-Project-Id", "p2")
	a.makeTask("import", imported)
	a.report(made.ID, `{"begin": {}}`)
	a.report(made.ID, `{"progress": {"message": "Copied 15 MiB"}}`)
	want := strings.NewReplacer("cdaf9ec6-e42a-440e-b6d9-bf2785feefde", made.ID, "2026-11-21T02:00:53.000000", "2026-03-01T10:00:00.000000",
		"2026-11-21T02:01:53.000000", "2026-03-01T10:00:00.000000", "req-f68eb231-86fa-4b42-8851-ea9c142244b8", made.RequestID).Replace(sample(t, "image-tasks-response"))
	for _, prefix := range []string{"/v2", "/image/v2", "/v2.12"} {
		a.call("GET", prefix+"/images/"+image+"/tasks?limit=0", ``, 200, reader...).has("Content-Type", "application/json").is(microseconds(want, a, image))
		if page := a.tasksAt(prefix + "/images/" + image + "/tasks"); len(page.Tasks) != 2 {
			t.Errorf("for an administrator: %+v", page)
		}
		a.call("GET", prefix+"/images/nothing/tasks", ``, 200, reader...).is(`{"tasks": []}`)
		a.call("GET", prefix+"/images/%00/tasks", ``, 200, reader...).is(`{"tasks": []}`)
		a.fails("GET", prefix+"/images/"+image+"/tasks", `{}`, 400, "A body is not expected with this request.", reader...)
		a.fails("GET", prefix+"/images/"+image+"/tasks", ``, 403, "You are not authorized to complete get_image action.", "X-Roles", "member")
	}
	a.advance(domain.DefaultTaskRules().TimeToLive)
	a.report(made.ID, `{"fail": {"message": "x"}}`)
	a.advance(2 * domain.DefaultTaskRules().TimeToLive)
	a.call("GET", "/v2/images/"+image+"/tasks", ``, 200, reader...).is(`{"tasks": []}`)
}

// microseconds puts the times of the only task into what is wanted: a batch has its own time.
func microseconds(want string, a *api, image string) string {
	a.Helper()
	var page taskPage
	a.call("GET", "/v2/images/"+image+"/tasks", ``, 200, "X-Roles", "reader").into(&page)
	for _, its := range []string{page.Tasks[0].Created, page.Tasks[0].Updated} {
		if len(its) != len(rowTime) || !strings.HasPrefix(its, "2026-03-01T10:00:00.") {
			a.Errorf("time %q", its)
		}
	}
	first, rest, _ := strings.Cut(want, "2026-03-01T10:00:00.000000")
	return first + page.Tasks[0].Created + strings.Replace(rest, "2026-03-01T10:00:00.000000", page.Tasks[0].Updated, 1)
}
