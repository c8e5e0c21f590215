package reactors_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"

	"nabu/commands"
	"nabu/domain"
	"nabu/reactors"
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

// The end of a claim is noticed though nobody claims any more: by its time, or because it was
// given up. A task whose claim is alive is left alone.
func TestTasksWhoseWorkerIsLost(t *testing.T) {
	h := newHouse(t)
	rules := domain.DefaultTaskRules()
	rules.MaxAttempts = 2
	h.workBy(rules)
	claimOne := func() commands.ClaimMessages {
		return commands.ClaimMessages{Queue: handOut, Claiming: domain.Claiming{
			Claim: uuid.New(), Life: domain.ClaimLife{TTL: 60, Grace: 60}, Limit: 1,
		}}
	}
	claim := func() (domain.TaskID, domain.ClaimID) {
		its := run(h, commands.CreateTask{
			Task: domain.NewTask{ID: uuid.New(), Type: "import", Owner: "p1", Input: importInput}, Rules: rules,
		})
		claim := claimOne()
		run(h, claim)
		return its.ID, claim.Claim
	}
	say := func(id domain.TaskID, action domain.TaskAction) {
		run(h, commands.ReportTask{ID: id, Report: domain.TaskReport{Action: action, Worker: "w"}, Rules: rules})
	}
	expect := func(when string, id domain.TaskID, status domain.TaskStatus) {
		h.Helper()
		h.sweep()
		if its, _, err := h.views.Task(h.Context(), id); err != nil || its.Status != status {
			h.Fatalf("%s the task is %+v, %v", when, its, err)
		}
	}
	dies, itsClaim := claim()
	say(dies, domain.TaskBegin)
	expect("while the claim lives", dies, domain.TaskProcessing)
	h.advance(50 * time.Second)
	run(h, commands.RenewClaim{Queue: handOut, Claim: itsClaim, Life: domain.ClaimLife{TTL: 60, Grace: 60}})
	h.advance(50 * time.Second)
	expect("while the claim was renewed", dies, domain.TaskProcessing)
	h.advance(11 * time.Second)
	expect("when the claim is over", dies, domain.TaskPending)
	h.expectNothingToSweep()

	say(dies, domain.TaskBegin) // its worker was only slow, and has no claim any more
	expect("after a late begin", dies, domain.TaskFailure)
	if its, _, err := h.views.Task(h.Context(), dies); err != nil || its.Message != domain.Lost || its.Attempts != 2 {
		t.Errorf("%+v, %v", its, err)
	}
	if left, err := h.views.Stats(h.Context(), handOut); err != nil || left.Total > 0 {
		t.Errorf("%d messages are left, %v", left.Total, err)
	}

	givenUp, itsClaim := claim()
	say(givenUp, domain.TaskBegin)
	run(h, commands.ReleaseClaim{Queue: handOut, Claim: itsClaim})
	h.advance(time.Second) // by its clock, which stands still, the ledger is ahead
	expect("when the claim was given up", givenUp, domain.TaskPending)

	h.advance(2 * time.Minute)
	late := givenUp
	run(h, claimOne())
	h.advance(61 * time.Second)
	h.sweep()
	say(late, domain.TaskBegin)
	h.advance(2 * time.Minute)
	h.sweeper = reactors.NewSweeper(h.executor, h.views, slog.New(slog.DiscardHandler)) // a restart: it has seen nothing
	expect("that was begun after the end of its claim, before a restart,", late, domain.TaskFailure)

	early := run(h, commands.CreateTask{
		Task: domain.NewTask{ID: uuid.New(), Type: "import", Owner: "p1", Input: importInput}, Rules: rules,
	}).ID
	say(early, domain.TaskBegin)
	expect("that nobody ever claimed", early, domain.TaskProcessing)
	h.expectNothingToSweep()
	h.checkReadModels()
}

// expectNothingToSweep fails the test if another sweep, or that of another replica, records
// something.
func (h *house) expectNothingToSweep() {
	h.Helper()
	before := h.events()
	h.sweep()
	other := reactors.NewSweeper(h.executor, h.views, slog.New(slog.DiscardHandler))
	if err := other.Sweep(h.Context()); err != nil {
		h.Fatal(err)
	}
	if events := h.events() - before; events > 0 {
		h.Fatalf("a sweep that finds nothing recorded %d events", events)
	}
}
