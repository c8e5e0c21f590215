package projections_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"nabu/commands"
	"nabu/domain"
	"nabu/projections"
)

// taskRules are such that tasks come to their ends in a walk.
func (w *walk) taskRules() domain.TaskRules {
	return domain.TaskRules{
		ServiceProject: w.project, TimeToLive: 5 * time.Minute, ProcessingTimeout: 3 * time.Minute, MaxAttempts: 1,
		Types: domain.TaskTypes(),
	}
}

func (w *walk) makeTask() {
	input := rapid.SampledFrom([]string{``, `{"image_id": "i", "loc_url": "", "validation_data": {}}`}).Draw(w.T, "input")
	made := run(w.house, commands.CreateTask{
		Task: domain.NewTask{ID: uuid.New(), Type: domain.TaskLocationImport, Owner: w.project, User: "u", Input: input}, Rules: w.taskRules(),
	})
	w.tasks = append(w.tasks, made.ID)
}

// reportTask reports what may be refused. What is accepted is what the view shows.
func (w *walk) reportTask(id domain.TaskID) {
	r := domain.TaskReport{
		Action:  rapid.SampledFrom([]domain.TaskAction{"begin", "progress", "progress", "succeed", "fail"}).Draw(w.T, "action"),
		Worker:  rapid.SampledFrom([]string{"", "w1", "w2"}).Draw(w.T, "worker"),
		Message: rapid.SampledFrom([]string{"", "Copied 1 MiB"}).Draw(w.T, "message"),
		Result:  rapid.SampledFrom([]string{"", `{"a":  1}`}).Draw(w.T, "result"),
	}
	got, err := commands.Run(w.request(), w.executor, commands.ReportTask{ID: id, Report: r, Rules: w.taskRules()})
	if err != nil {
		return
	}
	seen, exists, err := w.views.Task(context.Background(), id)
	if err != nil || !exists {
		w.house.Fatalf("task %s: %v, %v", id, exists, err)
	}
	if diff := gocmp.Diff(got, seen.Task); diff != "" {
		w.house.Fatalf("(-answered +read):\n%s", diff)
	}
}

// fill puts in tasks, some of which have expired, as no history would; many of them are
// alike in all but their ids.
func (h *house) fill(n int) {
	h.Helper()
	if _, err := h.db.Exec(`
INSERT INTO tasks (id, type, status, owner, user_id, request_id, image_id, message, worker, attempts, created_at, updated_at, expires_at)
SELECT gen_random_uuid(), (ARRAY['import', 'api_image_import', 'location_import'])[1 + n % 3],
    (ARRAY['pending', 'processing', 'success', 'failure'])[1 + n % 4], 'p' || n % 7,
    CASE n % 5 WHEN 0 THEN '' ELSE 'u' || n % 5 END, 'req-' || n % 1000, CASE n % 2 WHEN 0 THEN '' ELSE 'i' || n % 500 END, '', '', 1,
    $2::timestamptz - interval '1 second' * (n / 3), $2::timestamptz - interval '1 second' * (n / 5),
    CASE WHEN n % 4 < 2 THEN '-infinity'::timestamptz WHEN n % 11 = 3 THEN $2 ELSE $2 + interval '1 second' * (n / 4) + interval '1 second' END
FROM generate_series(1, $1) AS n`, n, h.now); err != nil {
		h.Fatal(err)
	}
	if _, err := h.db.Exec(`ANALYZE tasks`); err != nil {
		h.Fatal(err)
	}
}

// column is a task's value of a column, such that values compare as texts.
func column(t domain.Task, name string) string {
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format("2006-01-02T15:04:05.000000Z")
	}
	switch name {
	case "id":
		return t.ID.String()
	case "type":
		return t.Type
	case "status":
		return string(t.Status)
	case "owner":
		return t.Owner
	case "user_id":
		return t.User
	case "request_id":
		return t.RequestID
	case "image_id":
		return t.ImageID
	case "created_at":
		return at(t.Created)
	case "updated_at":
		return at(t.Updated)
	}
	return at(t.Expires)
}

// sorted are the tasks that a list is to have, in its order.
func sorted(all []projections.Task, list projections.TaskList) (ids []domain.TaskID) {
	wanted := slices.DeleteFunc(slices.Clone(all), func(t projections.Task) bool {
		for name, value := range list.Filters {
			if column(t.Task, name) != value {
				return true
			}
		}
		return !list.All && t.Owner != list.Owner
	})
	key := cmp.Or(list.SortKey, "created_at")
	slices.SortFunc(wanted, func(a, b projections.Task) int {
		order := cmp.Or(cmp.Compare(column(a.Task, key), column(b.Task, key)), a.Created.Compare(b.Created), bytes.Compare(a.ID[:], b.ID[:]))
		if list.Descending {
			return -order
		}
		return order
	})
	for _, t := range wanted {
		ids = append(ids, t.ID)
	}
	return ids
}

func TestTasksAreListed(t *testing.T) {
	h := newHouse(t)
	const many = 240
	h.fill(many)
	all, err := h.views.Tasks(t.Context(), projections.TaskList{All: true, Limit: many + 1})
	if err != nil {
		t.Fatal(err)
	}
	expired := 0
	for n := range many + 1 {
		if n%4 >= 2 && n%11 == 3 {
			expired++
		}
	}
	if len(all) != many-expired || expired == 0 {
		t.Fatalf("%d tasks of %d are there, %d have expired", len(all), many, expired)
	}
	some := all[17]
	filters := []map[string]string{
		nil, {"status": "success"}, {"type": "import"}, {"owner": "p3"}, {"image_id": some.ImageID, "status": string(some.Status)},
		{"user_id": "u2"}, {"request_id": "req-7"}, {"id": some.ID.String()}, {"owner": "nobody"},
	}
	for _, key := range append(projections.TaskSortKeys, "", "none") {
		for _, descending := range []bool{false, true} {
			for i, filter := range filters {
				list := projections.TaskList{All: i%2 == 0, Owner: "p3", Filters: filter, SortKey: key, Descending: descending, Limit: 7}
				asked := list
				if key == "none" { // the view has to do something
					asked.SortKey = ""
				}
				if diff := gocmp.Diff(sorted(all, asked), h.walkTasks(list)); diff != "" {
					t.Errorf("%+v (-want +got):\n%s", list, diff)
				}
			}
		}
	}
	for _, value := range []string{"\x00", "\xff", ""} {
		page, err := h.views.Tasks(t.Context(), projections.TaskList{All: true, Limit: 1, Filters: map[string]string{"id": value, "owner": value}})
		if err != nil || len(page) > 0 {
			t.Errorf("%q: %v, %v", value, page, err)
		}
	}
	if page, err := h.views.Tasks(t.Context(), projections.TaskList{All: true, Limit: 0}); err != nil || len(page) > 0 {
		t.Errorf("a page of none: %v, %v", page, err)
	}
}

// walkTasks goes through a list page by page.
func (h *house) walkTasks(list projections.TaskList) (ids []domain.TaskID) {
	h.Helper()
	for {
		page, err := h.views.Tasks(context.Background(), list)
		if err != nil {
			h.Fatal(err)
		}
		for _, t := range page {
			ids = append(ids, t.ID)
		}
		if len(page) < list.Limit {
			return ids
		}
		list.Marker = &page[len(page)-1]
	}
}

func TestTasksOfAnImage(t *testing.T) {
	h := newHouse(t)
	rules := domain.DefaultTaskRules()
	input := `{"image_id": "i1",  "import_req": {}}`
	make := func(owner, input string) domain.TaskID {
		return run(h, commands.CreateTask{
			Task: domain.NewTask{ID: uuid.New(), Type: domain.TaskAPIImageImport, Owner: owner, Input: input}, Rules: rules,
		}).ID
	}
	first, second := make("p1", input), make("p2", input)
	make("p1", strings.ReplaceAll(input, "i1", "i2"))
	run(h, commands.ReportTask{ID: first, Report: domain.TaskReport{Action: "begin"}, Rules: rules})
	run(h, commands.ReportTask{ID: first, Report: domain.TaskReport{Action: "succeed", Result: `{"b": 2}`}, Rules: rules})
	ask := func(image, owner string, all bool) (ids []domain.TaskID) {
		tasks, err := h.views.ImageTasks(t.Context(), image, owner, all)
		if err != nil {
			t.Fatal(err)
		}
		for _, its := range tasks {
			ids = append(ids, its.ID)
			if its.Input != input || its.ID == first && its.Result != `{"b": 2}` {
				t.Errorf("%+v", its)
			}
		}
		return ids
	}
	if got := ask("i1", "p1", false); !slices.Equal(got, []domain.TaskID{first}) {
		t.Errorf("one project has %v", got)
	}
	if got := ask("i1", "p1", true); len(got) != 2 || !slices.Contains(got, second) {
		t.Errorf("all have %v", got)
	}
	for _, image := range []string{"", "i3", "\x00", "\xff"} {
		if got := ask(image, "p1", true); len(got) > 0 {
			t.Errorf("image %q has %v", image, got)
		}
	}
	h.now = h.now.Add(49 * time.Hour)
	if got := ask("i1", "p1", false); len(got) > 0 {
		t.Errorf("it has expired: %v", got)
	}
}

// What many large tasks cost is bounded, in lists with pages and in the one without.
func TestLargeTasksAreListed(t *testing.T) {
	h := newHouse(t)
	if _, err := h.db.Exec(`
INSERT INTO tasks (id, type, status, owner, user_id, request_id, image_id, input, message, worker, attempts, created_at, updated_at, expires_at)
SELECT gen_random_uuid(), 'import', 'pending', 'p1', '', '', 'i' || n / 100, repeat('x', 1 << 20), repeat('m', 1000), '', 0,
    $1::timestamptz + interval '1 second' * n, $1, '-infinity'
FROM generate_series(91, 110) AS n`, h.now); err != nil {
		h.Fatal(err)
	}
	got, err := h.views.ImageTasks(t.Context(), "i1", "p1", false)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 || !got[0].Created.Equal(h.now.Add(110*time.Second)) || len(got[3].Input) != 1<<20 {
		t.Errorf("of 11 tasks of an image %d are listed", len(got))
	}
	page, err := h.views.Tasks(t.Context(), projections.TaskList{All: true, Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, its := range page {
		if its.Message != "" || its.Input != "" {
			t.Fatalf("a list has read %d bytes that it does not show", len(its.Message)+len(its.Input))
		}
	}
	if len(page) != 20 {
		t.Errorf("%d tasks are listed", len(page))
	}
}

// BenchmarkTaskPage reads a page in the middle of a list, by each key and filter, in small
// and in large tables: that must not matter.
func BenchmarkTaskPage(b *testing.B) {
	for _, size := range []int{100, 1_000_000} {
		h := newHouse(b)
		h.fill(size)
		var id domain.TaskID
		if err := h.db.QueryRow(`SELECT id FROM tasks ORDER BY created_at OFFSET $1 LIMIT 1`, size/2).Scan(&id); err != nil {
			b.Fatal(err)
		}
		marker, _, err := h.views.Task(b.Context(), id)
		if err != nil {
			b.Fatal(err)
		}
		for _, filter := range []map[string]string{nil, {"owner": "p3"}, {"status": "success"}, {"type": "import"}, {"owner": "p3", "status": "failure", "type": "import"}} {
			for _, key := range projections.TaskSortKeys {
				list := projections.TaskList{All: true, Filters: filter, SortKey: key, Descending: rand.N(2) > 0, Limit: 25, Marker: &marker}
				b.Run(fmt.Sprintf("of %d by %s where %v", size, key, filter), func(b *testing.B) {
					for b.Loop() {
						if _, err := h.views.Tasks(b.Context(), list); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}
