package http

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// taskPage is a page of tasks as clients see it.
type taskPage struct {
	Tasks               []taskBody
	First, Next, Schema string
}

func (a *api) tasksAt(path string, headers ...string) taskPage {
	a.Helper()
	var page taskPage
	a.call("GET", path, ``, 200, headers...).into(&page)
	return page
}

func idsOf(page taskPage) string {
	var ids []string
	for _, t := range page.Tasks {
		ids = append(ids, t.ID)
	}
	return strings.Join(ids, " ")
}

func TestListTasks(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	id := a.makeTask("import", imported)
	a.report(id, `{"begin": {}}`)
	a.report(id, `{"fail": {"message": "x"}}`)
	want := strings.NewReplacer("bfd7115e-756c-4db1-92df-24a3f9935a1d", id, "2026-11-21T02:00:47Z", "2026-03-01T10:00:00Z",
		"2026-11-23T02:00:47Z", "2026-03-03T10:00:00Z").Replace(sample(t, "list-response"))
	for _, prefix := range []string{"/v2", "/image/v2", "/v2.2", "/image/v2.0"} {
		a.call("GET", prefix+"/tasks?limit=1", ``, 200).has("Content-Type", "application/json").is(want)
	}
}

// Pages are walked by their links, which keep what was asked.
func TestTaskPages(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	var made []string
	for range 5 {
		made = append([]string{a.makeTask("import", imported)}, made...)
		a.advance(time.Second)
	}
	all := strings.Join(made, " ")
	if page := a.tasksAt("/v2/tasks"); idsOf(page) != all || page.First != "/v2/tasks" || page.Next != "" || page.Schema != "/v2/schemas/tasks" {
		t.Fatalf("all: %+v", page)
	}
	const asked = "sort_dir=desc&a+b=%C3%B6%22&limit=2&type=import"
	var walked []string
	path, pages := "/v2/tasks?marker=&"+asked, 0
	for ; path != ""; pages++ {
		page := a.tasksAt(path)
		if page.First != "/v2/tasks?"+asked {
			t.Fatalf("first is %s", page.First)
		}
		for _, its := range page.Tasks {
			walked = append(walked, its.ID)
		}
		if path = page.Next; path != "" && path != "/v2/tasks?"+asked+"&marker="+walked[len(walked)-1] {
			t.Fatalf("next is %s", path)
		}
	}
	if strings.Join(walked, " ") != all || pages != 3 {
		t.Fatalf("walked %v in %d pages", walked, pages)
	}
	full := a.tasksAt("/v2/tasks?limit=5") // leads to an empty one
	if last := a.tasksAt(full.Next); full.Next == "" || len(last.Tasks) != 0 || last.Next != "" {
		t.Fatalf("after a full page: %+v", last)
	}
	if none := a.tasksAt("/v2/tasks?limit=0"); len(none.Tasks) != 0 || none.Next != "" || none.First != "/v2/tasks?limit=0" {
		t.Fatalf("of none: %+v", none)
	}
	for _, limit := range []string{"5000", "99999999999999999999", "+7", "%2007%20", "7&limit=1"} {
		if page := a.tasksAt("/v2/tasks?limit=" + limit); idsOf(page) != all {
			t.Errorf("limit=%s: %+v", limit, page)
		}
	}
	if page := a.tasksAt("/v2/tasks?sort_dir=asc&sort_dir=desc&sort_key=created_at&sort_key=nothing&limit=1&limit=2&marker=" + made[4]); idsOf(page) != made[3] || page.First != "/v2/tasks?sort_dir=asc&sort_key=created_at&limit=1" {
		t.Errorf("with repeated parameters: %+v", page)
	}
}

func TestTaskFiltersAndOrder(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	first := a.makeTask("import", imported, "X-User-Id", "u1")
	a.advance(time.Second)
	second := a.makeTask("api_image_import", copied, "X-Project-Id", "p2", "X-User-Id", "u2")
	a.advance(time.Second)
	third := a.makeTask("import", imported)
	a.report(first, `{"begin": {}}`)
	a.report(third, `{"fail": {"message": "x"}}`)
	var shown taskBody
	a.call("GET", "/v2/tasks/"+second, ``, 200).into(&shown)
	for query, want := range map[string][]string{
		"":                     {third, second, first},
		"sort_dir=asc":         {first, second, third},
		"status=pending":       {second},
		"status=processing":    {first},
		"status=failure":       {third},
		"status=success":       {},
		"type=import":          {third, first},
		"type=location_import": {},
		"owner=p2":             {second},
		"user_id=u1":           {first},
		"image_id=2d3b7b7e-0f5e-4c3c-9d8e-5f0f6a1b2c3d": {second},
		"request_id=" + shown.RequestID:                 {second},
		"id=" + third:                                   {third},
		"id=nothing":                                    {},
		"id=%00":                                        {},
		"owner=%00":                                     {},
		"owner=%ff":                                     {},
		"owner=p1&type=import&status=failure":           {third},
		"nothing=x":                                     {third, second, first},
		"deleted=True":                                  {third, second, first},
		"sort_key=type":                                 {third, first, second},
		"sort_key=type&sort_dir=asc":                    {second, first, third},
		"sort_key=status&sort_dir=asc":                  {third, second, first},
		"sort_key=expires_at&sort_dir=asc":              {first, second, third},
		"sort_key=user_id&sort_dir=asc":                 {third, first, second},
		"sort_key=image_id":                             {second, third, first},
		"sort_key=updated_at&sort_dir=asc&marker=" + second: {first, third},
		"marker=" + third: {second, first},
	} {
		if page := a.tasksAt("/v2/tasks?" + query); idsOf(page) != strings.Join(want, " ") {
			t.Errorf("%s: %s, want %s", query, idsOf(page), want)
		}
	}
	for _, key := range []string{"id", "owner", "request_id", "created_at"} {
		if page := a.tasksAt("/v2/tasks?limit=2&sort_key=" + key); len(page.Tasks) != 2 || len(a.tasksAt(page.Next).Tasks) != 1 {
			t.Errorf("sorted by %s: %+v", key, page)
		}
	}
	ordered := a.tasksAt("/v2/tasks?sort_key=id&sort_dir=asc").Tasks
	if ordered[0].ID > ordered[1].ID || ordered[1].ID > ordered[2].ID {
		t.Errorf("sorted by id: %v", ordered)
	}
}

// The rows of the contract's table of what a list refuses.
func TestListTasksRefused(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	unknown := uuid.NewString()
	for query, text := range map[string]string{
		"limit=":                      "limit param must be an integer",
		"limit=x":                     "limit param must be an integer",
		"limit=1.5":                   "limit param must be an integer",
		"limit=-":                     "limit param must be an integer",
		"limit=%2B-1":                 "limit param must be an integer",
		"limit=-1":                    "limit param must be positive",
		"limit=-99999999999999999999": "limit param must be positive",
		"marker=x":                    "Invalid marker format",
		"marker=" + unknown:           "Task with the given id " + unknown + " was not found",
		"sort_dir=":                   "Invalid sort direction: ",
		"sort_dir=up":                 "Invalid sort direction: up",
		"sort_dir=<b>up":              "Invalid sort direction: <b>up",
		"sort_key=":                   "Sort key supplied was not valid.",
		"sort_key=input":              "Sort key supplied was not valid.",
		"sort_key=status,type":        "Sort key supplied was not valid.",
		"sort_key=id;drop":            "Sort key supplied was not valid.",
		"status=done":                 "Invalid status value: done",
		"status=Pending":              "Invalid status value: Pending",
		"type=export":                 "Invalid type value: export",
		"type=%ff":                    "Invalid type value: \ufffd",
	} {
		a.fails("GET", "/v2/tasks?"+strings.ReplaceAll(query, "<b>", url.QueryEscape("<b>")), ``, 400, text)
	}
	a.recorded()
}

// Where the policy lets others than administrators in, they see what is their own.
func TestTasksOfOneProject(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withPolicy(t, `"tasks_api_access": "@"`))
	member := []string{"X-Roles", "member,reader"}
	ours, theirs := a.makeTask("import", imported), a.makeTask("api_image_import", copied, "X-Project-Id", "p2")
	if page := a.tasksAt("/v2/tasks", member...); idsOf(page) != ours {
		t.Errorf("listed: %+v", page)
	}
	if page := a.tasksAt("/v2/tasks?owner=p2", member...); idsOf(page) != "" {
		t.Errorf("listed as another's: %+v", page)
	}
	a.call("GET", "/v2/tasks/"+ours, ``, 200, member...)
	a.fails("GET", "/v2/tasks/"+theirs, ``, 404, "Could not find task "+theirs, member...)
	a.fails("GET", "/v2/tasks?marker="+theirs, ``, 403, fmt.Sprintf("Forbidding request, task %s not visible", theirs), member...)
	if page := a.tasksAt("/v2/tasks", "X-Roles", "admin"); idsOf(page) != theirs+" "+ours && idsOf(page) != ours+" "+theirs {
		t.Errorf("listed for an administrator: %+v", page)
	}
}
