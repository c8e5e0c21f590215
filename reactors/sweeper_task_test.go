package reactors_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"nabu/commands"
	"nabu/domain"
)

// statuses counts the tasks in the table.
func (h *house) statuses() map[domain.TaskStatus]int {
	h.Helper()
	rows, err := h.db.Query(`SELECT status, count(*) FROM tasks GROUP BY status`)
	if err != nil {
		h.Fatal(err)
	}
	defer rows.Close()
	counts := map[domain.TaskStatus]int{}
	for rows.Next() {
		var status domain.TaskStatus
		var n int
		if err := rows.Scan(&status, &n); err != nil {
			h.Fatal(err)
		}
		counts[status] = n
	}
	if err := rows.Err(); err != nil {
		h.Fatal(err)
	}
	return counts
}

func TestTasksAreSwept(t *testing.T) {
	h := newHouse(t)
	rules := domain.DefaultTaskRules()
	make := func(owner string) domain.TaskID {
		return run(h, commands.CreateTask{
			Task: domain.NewTask{ID: uuid.New(), Type: "import", Owner: owner, Input: importInput}, Rules: rules,
		}).ID
	}
	begin := func(id domain.TaskID) {
		run(h, commands.ReportTask{ID: id, Report: domain.TaskReport{Action: domain.TaskBegin}, Rules: rules})
	}
	const many = 120 // more than one look finds
	for range many {
		begin(make("p1"))
	}
	begin(make("p2"))
	make("p2") // stays pending
	h.sweep()
	if got := h.statuses(); got[domain.TaskProcessing] != many+1 || got[domain.TaskPending] != 1 {
		t.Fatalf("before it is time there are %v", got)
	}
	h.advance(6*time.Hour + time.Second)
	before := h.events()
	h.sweep()
	if got, events := h.statuses(), h.events()-before; got[domain.TaskFailure] != many+1 || got[domain.TaskPending] != 1 || events != many+1 {
		t.Fatalf("past their deadline there are %v, after %d events", got, events)
	}
	h.advance(48*time.Hour + time.Second)
	h.sweep()
	if got := h.statuses(); len(got) != 1 || got[domain.TaskPending] != 1 {
		t.Fatalf("when they have expired there are %v", got)
	}
	before = h.events()
	h.sweep()
	if events := h.events() - before; events > 0 {
		t.Fatalf("a sweep that finds nothing recorded %d events", events)
	}
}
