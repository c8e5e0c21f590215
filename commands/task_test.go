package commands_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/projections"
)

const importInput = `{"import_from": "http://a", "import_from_format": "raw", "image_properties": {}}`

var (
	handOut   = domain.QueueID{Project: "service", Name: "tasks.import"}
	ownEvents = domain.QueueID{Project: "p1", Name: "tasks.events"}
)

func taskRules(attempts int, told bool) domain.TaskRules {
	rules := domain.DefaultTaskRules()
	rules.MaxAttempts, rules.EventsQueue = attempts, told
	return rules
}

// worksWith gives an executor rules for tasks.
func worksWith(rules domain.TaskRules) func(*commands.Config) {
	return func(cfg *commands.Config) { cfg.Tasks = rules }
}

func createTask(rules domain.TaskRules) commands.CreateTask {
	return commands.CreateTask{
		Task: domain.NewTask{ID: uuid.New(), Type: "import", Owner: "p1", User: "u1", Input: importInput}, Rules: rules,
	}
}

func says(id domain.TaskID, action domain.TaskAction, worker, text string, rules domain.TaskRules) commands.ReportTask {
	r := domain.TaskReport{Action: action, Worker: worker}
	switch action {
	case domain.TaskSucceed:
		r.Result = text
	case domain.TaskFail, domain.TaskProgress:
		r.Message = text
	}
	return commands.ReportTask{ID: id, Report: r, Rules: rules}
}

func claimTasks(queue domain.QueueID, limit int) commands.ClaimMessages {
	return commands.ClaimMessages{Queue: queue, Claiming: domain.Claiming{
		Claim: uuid.New(), Life: domain.ClaimLife{TTL: 60, Grace: 60}, Limit: limit,
	}}
}

// What a schema costs is its client's time: nobody waits for it.
func TestSchemasAreNotCheckedInABatch(t *testing.T) {
	rules := taskRules(1, false)
	rules.Types["build"] = domain.TaskType{Check: func(string) error {
		t.Error("it is checked while others wait")
		return nil
	}}
	made := createTask(rules)
	made.Task.Type = "build"
	h := newHouse(t)
	run(t, h.executor(h.db, worksWith(rules)), made)
}

// task is a task as clients see it.
func (h *house) task(id domain.TaskID, now time.Time) domain.Task {
	h.Helper()
	views := &projections.Views{DB: h.db}
	if !now.IsZero() {
		views.Now = func() time.Time { return now }
	}
	t, _, err := views.Task(h.Context(), id)
	if err != nil {
		h.Fatal(err)
	}
	return t.Task
}

// kinds are the types of the events after a position, without their versions.
func (h *house) kinds(after int64) (kinds []string) {
	h.Helper()
	for _, e := range h.historyAfter(after) {
		kinds = append(kinds, strings.TrimSuffix(e.Event.EventType(), ".v1"))
	}
	return kinds
}

func (h *house) head() int64 {
	h.Helper()
	var head int64
	if err := h.db.QueryRow(`SELECT coalesce(max(position), 0) FROM events`).Scan(&head); err != nil {
		h.Fatal(err)
	}
	return head
}

// expectKinds fails the test unless these events, and no others, came after a position.
func (h *house) expectKinds(after int64, want ...string) {
	h.Helper()
	if got := h.kinds(after); !slices.Equal(got, want) {
		h.Fatalf("recorded %v, want %v", got, want)
	}
}

func TestATaskIsMadeAndHandedOut(t *testing.T) {
	h := newHouse(t)
	rules := taskRules(1, false)
	e := h.executor(nil, worksWith(rules))
	cmd := createTask(rules)
	made := run(t, e, cmd)
	h.expectKinds(0, "task.created", "queue.created", "messages.posted")
	if got := h.task(made.ID, time.Time{}); got != made || made.Status != "pending" || made.Input != importInput {
		t.Fatalf("made %+v\nread %+v", made, got)
	}
	claimed := run(t, e, claimTasks(handOut, 5))
	want := fmt.Sprintf(`{"task_id":"%s","type":"import","owner":"p1","input":%s}`, made.ID, importInput)
	if len(claimed) != 1 || claimed[0].ID != made.Handed || claimed[0].Body != want {
		t.Fatalf("claimed %+v, want %s", claimed, want)
	}

	before := h.head()
	cmd.Task.ID, cmd.Task.Input = uuid.New(), `{"import_from": 1}`
	failed := run(t, e, cmd)
	h.expectKinds(before, "task.created", "task.failed")
	got := h.task(failed.ID, time.Time{})
	if failed.Status != "pending" || got.Status != "failure" || got.Message != "Input does not contain 'import_from_format' field" {
		t.Fatalf("made %+v\nread %+v", failed, got)
	}
	cmd.Task.Type = "export\x00"
	if _, err := commands.Run(as(t.Context(), ""), e, cmd); refusal(err) != domain.Invalid {
		t.Fatalf("an unknown type: %v", err)
	}
}

// Of two workers that begin a task in one batch, one has it.
func TestReportsWithinABatch(t *testing.T) {
	h := newHouse(t)
	rules := taskRules(1, false)
	e := h.executor(nil, worksWith(rules))
	ctx := as(t.Context(), "")
	made := run(t, e, createTask(rules))
	answers := make([]domain.Task, 8)
	before := h.head() + 2 // the batch's own first post, to a new queue
	errs := h.gathered(e,
		giver(ctx, e, says(made.ID, "begin", "w1", "", rules), &answers[0]),
		giver(ctx, e, says(made.ID, "begin", "w2", "", rules), &answers[1]),
		giver(ctx, e, says(made.ID, "begin", "w1", "", rules), &answers[2]),
		giver(ctx, e, says(made.ID, "progress", "w1", "Copied 1 MiB", rules), &answers[3]),
		giver(ctx, e, says(made.ID, "succeed", "w2", `{}`, rules), &answers[4]),
		giver(ctx, e, says(made.ID, "succeed", "w1", `{"a":  1}`, rules), &answers[5]),
		giver(ctx, e, says(made.ID, "succeed", "w1", `{"a":  1}`, rules), &answers[6]),
		giver(ctx, e, says(uuid.New(), "begin", "w1", "", rules), &answers[7]),
	)
	want := []domain.Code{"", domain.Conflict, "", "", domain.Conflict, "", "", domain.NotFound}
	for i, err := range errs {
		if refusal(err) != want[i] || err != nil && want[i] == "" {
			t.Errorf("report %d: %v, want %q", i+1, err, want[i])
		}
	}
	h.expectKinds(before, "task.begun", "task.progressed", "task.succeeded")
	h.ordered()
	got := h.task(made.ID, time.Time{})
	if answers[5] != got || answers[6] != got || got.Result != `{"a":  1}` || got.Message != "Copied 1 MiB" || got.Worker != "w1" {
		t.Errorf("answered %+v\nand %+v\nread %+v", answers[5], answers[6], got)
	}
	if answers[2].Status != "processing" {
		t.Errorf("the same begin is answered with %+v", answers[2])
	}
}

// A claim of the batch in which a task is made, or ends, knows of it; and so does one of
// the batch in which another claim is given up.
func TestClaimsAndTasksWithinABatch(t *testing.T) {
	h := newHouse(t)
	rules := taskRules(2, true)
	e := h.executor(nil, worksWith(rules))
	ctx := as(t.Context(), "")
	ends, lost := run(t, e, createTask(rules)), run(t, e, createTask(rules))
	first := claimTasks(handOut, 5)
	if got := run(t, e, first); len(got) != 2 {
		t.Fatalf("claimed %d", len(got))
	}
	run(t, e, says(ends.ID, "begin", "w1", "", rules))
	run(t, e, says(lost.ID, "begin", "w1", "", rules))

	var made, ended domain.Task
	var released bool
	var claimed, popped []commands.Taken
	before := h.head()
	h.gathered(e,
		giver(ctx, e, claimTasks(handOut, 2), &claimed),
		giver(ctx, e, commands.PopMessages{Queue: handOut, Limit: 1}, &popped),
		giver(ctx, e, createTask(rules), &made),
		giver(ctx, e, says(ends.ID, "succeed", "w1", `{}`, rules), &ended),
		giver(ctx, e, commands.ReleaseClaim{Queue: handOut, Claim: first.Claim}, &released),
	)
	h.expectKinds(before, "claim.released", "queue.created", "messages.posted", "task.created", "messages.posted", "messages.posted", "task.succeeded", "messages.posted",
		"messages.claimed", "messages.deleted", "task.requeued", "messages.posted")
	if !released || len(claimed) != 2 || claimed[0].ID != lost.Handed || claimed[1].ID != made.Handed || len(popped) != 0 {
		t.Errorf("released %v, claimed %+v, popped %+v", released, claimed, popped)
	}
	if got := h.task(lost.ID, time.Time{}); got.Status != "pending" || got.Attempts != 1 || !got.Deadline.Equal(lost.Deadline) {
		t.Errorf("the task that was handed out again: %+v", got)
	}
	h.ordered()
	notices := 0
	for _, event := range h.history() {
		if posted, ok := event.Event.(domain.MessagesPosted); ok && posted.Queue == ownEvents.Name && posted.Project == ownEvents.Project {
			notices += len(posted.Messages)
		}
	}
	if notices != 7 { // three made, two begun, one ended, one requeued
		t.Errorf("%d messages tell of changes", notices)
	}
}

// What time has ended fails or goes by a command, and a task that has expired is gone
// before that.
func TestSweepingTasks(t *testing.T) {
	h := newHouse(t)
	rules := taskRules(1, true)
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	e := h.executor(nil, worksWith(rules), func(cfg *commands.Config) { cfg.Now = func() time.Time { return now } })
	waits, works := run(t, e, createTask(rules)), run(t, e, createTask(rules))
	run(t, e, says(works.ID, "begin", "w1", "", rules))
	sweep := commands.SweepTasks{IDs: []domain.TaskID{waits.ID, works.ID, uuid.New()}, Rules: rules}
	if run(t, e, sweep) {
		t.Fatal("swept before it was time")
	}
	now = now.Add(6*time.Hour + time.Second)
	before := h.head()
	if !run(t, e, sweep) {
		t.Fatal("nothing swept")
	}
	h.expectKinds(before, "task.failed", "messages.posted")
	if got := h.task(works.ID, now); got.Status != "failure" || got.Message != domain.Lost {
		t.Errorf("%+v", got)
	}
	now = now.Add(48 * time.Hour)
	if got := h.task(works.ID, now); got.Exists() {
		t.Errorf("a task that has expired is there: %+v", got)
	}
	if _, err := commands.Run(as(t.Context(), ""), e, says(works.ID, "fail", "w1", domain.Lost, rules)); refusal(err) != domain.NotFound {
		t.Errorf("a task that has expired is reported on: %v", err)
	}
	before = h.head()
	run(t, e, sweep)
	h.expectKinds(before, "task.expired", "messages.posted")
	if claimed := run(t, e, claimTasks(handOut, 5)); len(claimed) != 1 || claimed[0].ID != waits.Handed {
		t.Errorf("claimed %+v", claimed)
	}
}

// A claim gets what there is behind messages that nobody is to get any more. If there are
// very many of these, those who wait are called to go on.
func TestClaimsGoPastWhatHasEnded(t *testing.T) {
	h := newHouse(t)
	rules := taskRules(1, false)
	news := commands.NewNews()
	e := h.executor(nil, worksWith(rules), func(cfg *commands.Config) { cfg.News = news })
	ends := func(n int) {
		for range n {
			id := run(t, e, createTask(rules)).ID
			run(t, e, says(id, "fail", "", "no", rules))
		}
	}
	ends(30)
	wanted := []domain.MessageID{run(t, e, createTask(rules)).Handed, run(t, e, createTask(rules)).Handed}
	claimed := run(t, e, claimTasks(handOut, 2))
	if len(claimed) != 2 || claimed[0].ID != wanted[0] || claimed[1].ID != wanted[1] {
		t.Fatalf("claimed %+v, want %v", claimed, wanted)
	}

	turn, _ := news.Line(handOut, 1)
	defer turn.Leave(0, true)
	const ended = 400 // more than one claim looks at
	ends(ended)
	last := run(t, e, createTask(rules)).Handed
	turn.Look()
	looks := 0
	for ; ; looks++ {
		turn.Look()
		if claimed = run(t, e, claimTasks(handOut, 1)); len(claimed) > 0 {
			break
		}
		select {
		case <-turn.Wait():
		default:
			t.Fatal("nobody is called to go on")
		}
	}
	if claimed[0].ID != last || looks == 0 {
		t.Errorf("claimed %+v after %d looks", claimed, looks)
	}
}

// Where messages are sealed the tasks are known all the same, and a queue of an owner that
// cannot be told is nobody's business.
func TestTasksOfSealedQueues(t *testing.T) {
	h := newHouse(t)
	rules := taskRules(2, true)
	e := h.executor(nil, worksWith(rules))
	for _, queue := range []domain.QueueID{handOut, ownEvents} {
		metadata, err := domain.ParseMetadata([]byte(`{"_enable_encrypt_messages": true}`))
		if err != nil {
			t.Fatal(err)
		}
		run(t, e, commands.CreateQueue{Queue: queue, Metadata: metadata})
	}
	made := run(t, e, createTask(rules))
	for _, event := range h.history() {
		if posted, ok := event.Event.(domain.MessagesPosted); ok && (posted.Key == uuid.Nil || strings.Contains(posted.Messages[0].Body, "owner")) {
			t.Errorf("in the clear: %+v", posted)
		}
	}
	first := claimTasks(handOut, 1)
	if claimed := run(t, e, first); len(claimed) != 1 || claimed[0].ID != made.Handed {
		t.Fatalf("claimed %+v", claimed)
	}
	run(t, e, says(made.ID, "begin", "w1", "", rules))
	run(t, e, commands.ReleaseClaim{Queue: handOut, Claim: first.Claim})
	if popped := run(t, e, commands.PopMessages{Queue: handOut, Limit: 1}); len(popped) != 1 || h.task(made.ID, time.Time{}).Status != "pending" {
		t.Fatalf("popped %+v", popped)
	}

	blind := h.executor(nil, worksWith(rules), func(cfg *commands.Config) { cfg.Keys = nil })
	if _, err := commands.Run(as(t.Context(), ""), blind, createTask(rules)); refusal(err) != domain.Unavailable {
		t.Errorf("a task that cannot be handed out is made: %v", err)
	}
	if got := run(t, blind, says(made.ID, "fail", "w2", "no", rules)); got.Status != "failure" {
		t.Errorf("%+v", got)
	}
}

// Queues that hand no tasks out pay nothing for those that do: their claims go the short
// way, and those of the others never.
func TestOtherQueuesPayNothingForTasks(t *testing.T) {
	h := newHouse(t)
	rules := taskRules(1, false)
	asked := &askedForTasks{}
	e := h.executor(nil, worksWith(rules), func(cfg *commands.Config) { cfg.Loader = asked })
	for _, queue := range []domain.QueueID{orders, {Project: "p1", Name: "tasks.import"}, {Project: "service", Name: "tasks.events"}} {
		run(t, e, post(queue, `1`, `2`))
		run(t, e, post(queue, `3`))
		if claimed := run(t, e, claimTasks(queue, 1)); len(claimed) != 1 || h.lastReport().Way != commands.ShortWay {
			t.Errorf("%v: claimed %v by the %s way", queue, claimed, h.lastReport().Way)
		}
	}
	if asked.times > 0 {
		t.Errorf("asked for tasks %d times", asked.times)
	}
	run(t, e, createTask(rules))
	run(t, e, claimTasks(handOut, 1))
	if asked.times != 1 {
		t.Errorf("asked for tasks %d times, by one claim", asked.times)
	}
}

// askedForTasks counts how often tasks are loaded.
type askedForTasks struct {
	projections.States
	times int // by the executor's goroutine; read while that has nothing to do
}

func (l *askedForTasks) Tasks(ctx context.Context, tx eventstore.Tx, ids []domain.TaskID, handed []domain.MessageID) (
	map[domain.TaskID]eventstore.Versioned[domain.Task], error,
) {
	l.times++
	return l.States.Tasks(ctx, tx, ids, handed)
}
