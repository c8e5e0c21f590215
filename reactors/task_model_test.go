package reactors_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/projections"
)

const importInput = `{"import_from": "http://a", "import_from_format": "raw", "image_properties": {}}`

var handOut = domain.QueueID{Project: "service", Name: "tasks.import"}

// Whatever workers do and wherever they die, each task ends once, and none is lost. The
// clock is the test's.
func TestEveryTaskEndsOnce(t *testing.T) {
	h := newHouse(t)
	rapid.Check(t, func(rt *rapid.T) {
		w := newTaskWalk(h, rt)
		for range rapid.IntRange(20, 80).Draw(rt, "steps") {
			w.step()
		}
		if rapid.Bool().Draw(rt, "one works to the end") {
			w.workToTheEnd()
		}
		w.dieOut()
		w.waitForTheEnd()
		w.check()
	})
	h.checkReadModels()
}

// taskWalk is workers that do what they want, and what they must be answered.
type taskWalk struct {
	*house
	rt      *rapid.T
	rules   domain.TaskRules
	made    []domain.TaskID
	workers []*worker
	// lost are workers that are dead, or have lost what they worked on, and may speak again.
	lost  []worker
	names int
	from  int64 // the position behind which the walk began
	// unclaimed are tasks that may have been begun without a claim: their message was given
	// back before, or popped.
	unclaimed map[domain.TaskID]bool
}

// worker is one that works on a task, or on none.
type worker struct {
	name  string // empty: it does not tell
	claim domain.ClaimID
	task  domain.TaskID
	taken commands.Taken
	begun bool
	last  *domain.TaskReport // that was accepted
	was   domain.Task        // by then
}

func newTaskWalk(h *house, rt *rapid.T) *taskWalk {
	rules := domain.DefaultTaskRules()
	rules.MaxAttempts = rapid.IntRange(1, 3).Draw(rt, "attempts")
	rules.EventsQueue = rapid.Bool().Draw(rt, "told")
	rules.ProcessingTimeout = time.Hour
	h.workBy(rules)
	run(h, commands.DeleteQueue{Queue: handOut}) // a walk that failed may have left something
	w := &taskWalk{house: h, rt: rt, rules: rules, from: h.head(), unclaimed: map[domain.TaskID]bool{}}
	for range 3 {
		w.workers = append(w.workers, w.newWorker())
	}
	return w
}

func (w *taskWalk) newWorker() *worker {
	w.names++
	its := &worker{}
	if rapid.IntRange(0, 4).Draw(w.rt, "nameless") > 0 {
		its.name = fmt.Sprintf("w%d", w.names)
	}
	return its
}

// step is one thing that somebody does. A worker goes on with what it does next, or dies
// instead.
func (w *taskWalk) step() {
	switch rapid.SampledFrom([]string{"work", "work", "work", "work", "make", "wait", "speak late"}).Draw(w.rt, "step") {
	case "make":
		w.make()
	case "wait":
		seconds := rapid.SampledFrom([]int{1, 30, 61, 600, 4000}).Draw(w.rt, "seconds")
		w.advance(time.Duration(seconds) * time.Second)
		if rapid.Bool().Draw(w.rt, "sweep") {
			w.sweep()
		}
	case "speak late":
		w.speakLate()
	case "work":
		i := rapid.IntRange(0, len(w.workers)-1).Draw(w.rt, "worker")
		if rapid.IntRange(0, 5).Draw(w.rt, "dies") == 0 {
			w.lost = append(w.lost, *w.workers[i])
			w.workers[i] = w.newWorker()
			return
		}
		w.work(w.workers[i])
	}
}

func (w *taskWalk) make() {
	n := domain.NewTask{ID: uuid.New(), Type: "import", Owner: rapid.SampledFrom([]string{"p1", "p2"}).Draw(w.rt, "owner"), Input: importInput}
	if rapid.IntRange(0, 9).Draw(w.rt, "lacks") == 0 {
		n.Input = `{}`
	}
	run(w.house, commands.CreateTask{Task: n, Rules: w.rules})
	w.made = append(w.made, n.ID)
}

// work is the next thing that a worker does. It need not be the right one.
func (w *taskWalk) work(its *worker) {
	if its.task == (domain.TaskID{}) {
		w.take(its)
		return
	}
	does := []string{"begin"}
	if its.begun {
		does = []string{"progress", "succeed", "fail", "delete", "again"}
	}
	switch does := rapid.SampledFrom(append(does, "fail early", "delete early", "release")).Draw(w.rt, "does"); does {
	case "delete", "delete early":
		w.delete(its)
	case "release":
		w.unclaimed[its.task] = w.unclaimed[its.task] || !its.begun
		run(w.house, commands.ReleaseClaim{Queue: handOut, Claim: its.claim})
		w.lost = append(w.lost, *its)
		*its = worker{name: its.name}
	case "again":
		if its.last != nil {
			w.sayAgain(its)
		}
	case "fail early":
		w.say(its, domain.TaskReport{Action: domain.TaskFail, Message: "no"})
	case "begin", "progress", "succeed", "fail":
		w.say(its, w.report(domain.TaskAction(does)))
	}
}

func (w *taskWalk) report(action domain.TaskAction) domain.TaskReport {
	r := domain.TaskReport{Action: action}
	switch action {
	case domain.TaskProgress:
		r.Message = fmt.Sprintf("Copied %d MiB", rapid.IntRange(1, 3).Draw(w.rt, "MiB"))
	case domain.TaskFail:
		r.Message = "no"
	case domain.TaskSucceed:
		r.Result = `{"image_id": "i"}`
	}
	return r
}

// take claims or pops a message. It must be of a task that is pending afterwards.
func (w *taskWalk) take(its *worker) {
	var taken []commands.Taken
	if rapid.IntRange(0, 7).Draw(w.rt, "pops") == 0 {
		taken = run(w.house, commands.PopMessages{Queue: handOut, Limit: 1})
	} else {
		its.claim = uuid.New()
		taken = run(w.house, commands.ClaimMessages{Queue: handOut, Claiming: domain.Claiming{
			Claim: its.claim, Life: domain.ClaimLife{TTL: 60, Grace: 60}, Limit: 1,
		}})
	}
	if len(taken) == 0 {
		return
	}
	var said struct {
		ID domain.TaskID `json:"task_id"`
	}
	if err := json.Unmarshal([]byte(taken[0].Body), &said); err != nil {
		w.rt.Fatal(err)
	}
	its.task, its.taken = said.ID, taken[0]
	if t := w.task(its.task); t.Status != domain.TaskPending || t.Handed != taken[0].ID {
		w.rt.Fatalf("handed out: %+v", t)
	}
}

func (w *taskWalk) task(id domain.TaskID) domain.Task {
	t, _, err := w.views.Task(context.Background(), id)
	if err != nil {
		w.rt.Fatal(err)
	}
	return t.Task
}

// say reports. Refused or not, the answer must be what the task is.
func (w *taskWalk) say(its *worker, r domain.TaskReport) {
	r.Worker = its.name
	before := w.task(its.task)
	answer, err := commands.Run(request("service"), w.executor, commands.ReportTask{ID: its.task, Report: r, Rules: w.rules})
	after := w.task(its.task)
	if refused, ok := errors.AsType[*domain.Error](err); ok {
		if after != before || refused.Code != domain.Conflict && refused.Code != domain.NotFound {
			w.rt.Fatalf("refused (%v), and the task was %+v and is %+v", err, before, after)
		}
		w.lost = append(w.lost, *its)
		*its = worker{name: its.name}
		return
	}
	if err != nil || answer != after {
		w.rt.Fatalf("answered %+v (%v), it is %+v", answer, err, after)
	}
	its.last, its.was, its.begun = &r, after, its.begun || r.Action == domain.TaskBegin
}

// sayAgain repeats what was accepted. If nothing else has happened to the task since, that is
// answered again and changes nothing; but for a nameless begin, which could be somebody
// else's, and for what was long ago.
func (w *taskWalk) sayAgain(its *worker) {
	if w.task(its.task) != its.was || w.clock().Sub(its.was.Updated) > time.Minute || its.name == "" {
		return
	}
	before := w.head()
	cmd := commands.ReportTask{ID: its.task, Report: *its.last, Rules: w.rules}
	if answer, err := commands.Run(request("service"), w.executor, cmd); err != nil || answer != its.was || w.head() != before {
		w.rt.Fatalf("%+v again: %v, the task was %+v and is %+v", *its.last, err, its.was, answer)
	}
}

// delete deletes the message; the worker may have reported before or not.
func (w *taskWalk) delete(its *worker) {
	_, err := commands.Run(request("service"), w.executor, commands.DeleteMessage{
		Queue: handOut, ID: its.taken.ID, WithClaim: its.taken.Claim != uuid.Nil, Claim: its.claim,
	})
	if _, refused := errors.AsType[*domain.Error](err); err != nil && !refused {
		w.rt.Fatal(err)
	}
	w.lost = append(w.lost, *its)
	*its = worker{name: its.name}
}

// speakLate lets a worker report that is dead, or on what it has lost.
func (w *taskWalk) speakLate() {
	if len(w.lost) == 0 {
		return
	}
	its := w.lost[rapid.IntRange(0, len(w.lost)-1).Draw(w.rt, "lost")]
	if its.task != (domain.TaskID{}) {
		action := rapid.SampledFrom([]domain.TaskAction{"begin", "progress", "succeed", "fail"}).Draw(w.rt, "says")
		w.say(&its, w.report(action))
	}
}

// workToTheEnd is one worker that does all that is still to be had. Then nothing is left in
// the queue.
func (w *taskWalk) workToTheEnd() {
	w.advance(2 * time.Minute) // all claims are over
	its := &worker{name: "the last"}
	for {
		if w.take(its); its.task == (domain.TaskID{}) {
			break
		}
		w.say(its, w.report(domain.TaskBegin))
		w.say(its, w.report(domain.TaskSucceed))
		if got := w.task(its.task); got.Status != domain.TaskSuccess {
			w.rt.Fatalf("a task that was done is %+v", got)
		}
		w.delete(its)
	}
	if left, err := w.views.Stats(context.Background(), handOut); err != nil || left.Total > 0 {
		w.rt.Fatalf("%d messages are left, %v", left.Total, err)
	}
}

// dieOut lets all workers die and nobody claim any more. As soon as the claims are over each
// task has ended or waits, free, for whoever comes; but for those whose message is gone.
func (w *taskWalk) dieOut() {
	if rapid.Bool().Draw(w.rt, "sweep while they live") {
		w.sweep()
	}
	w.advance(61 * time.Second)
	w.sweep()
	for _, id := range w.made {
		t := w.task(id)
		if !t.Exists() || t.Ended() || w.unclaimed[id] {
			continue
		}
		found, err := w.views.MessagesByID(context.Background(), handOut, []domain.MessageID{t.Handed})
		if err != nil {
			w.rt.Fatal(err)
		}
		if len(found) > 0 && (t.Status != domain.TaskPending || found[0].Claim != uuid.Nil) {
			w.rt.Fatalf("nobody works any more, and there is %+v, its message claimed by %s", t, found[0].Claim)
		}
	}
}

// waitForTheEnd lets so much time pass that each task must have ended.
func (w *taskWalk) waitForTheEnd() {
	w.advance(15 * 24 * time.Hour)
	w.sweep()
	for _, id := range w.made {
		if t := w.task(id); t.Exists() && !t.Ended() {
			w.rt.Fatalf("never ended: %+v", t)
		}
	}
	w.advance(49 * time.Hour)
	w.sweep()
	due, err := w.views.DueTasks(context.Background(), projections.SweepLook[string]{By: w.views.Now(), Most: 10})
	if err != nil || len(due) > 0 {
		w.rt.Fatalf("left to the sweeper: %v, %v", due, err)
	}
}

// mayFollow is what may happen to a task after what.
var mayFollow = map[string][]string{
	"":                  {"task.created.v1"},
	"task.created.v1":   {"task.begun.v1", "task.failed.v1"},
	"task.begun.v1":     {"task.progressed.v1", "task.succeeded.v1", "task.failed.v1", "task.requeued.v1"},
	"task.requeued.v1":  {"task.begun.v1", "task.failed.v1"},
	"task.succeeded.v1": {"task.expired.v1"},
	"task.failed.v1":    {"task.expired.v1"},
}

// check goes by the history alone.
func (w *taskWalk) check() {
	last, attempts := map[string]string{}, map[string]int{}
	for e, err := range eventstore.ReadAll(context.Background(), w.db, w.from, 1<<62) {
		if err != nil {
			w.rt.Fatal(err)
		}
		stream, kind := e.Event.Stream(), e.Event.EventType()
		if _, isTask := domain.TaskOfStream(stream); !isTask {
			continue
		}
		after := last[stream]
		if after == "task.progressed.v1" {
			after = "task.begun.v1"
		}
		may := false
		for _, next := range mayFollow[after] {
			may = may || next == kind
		}
		if !may {
			w.rt.Fatalf("%s came after %s", kind, last[stream])
		}
		last[stream] = kind
		if begun, ok := e.Event.(domain.TaskBegun); ok {
			if attempts[stream]++; begun.Attempt != attempts[stream] || begun.Attempt > w.rules.MaxAttempts {
				w.rt.Fatalf("attempt %d is called %d, of %d", attempts[stream], begun.Attempt, w.rules.MaxAttempts)
			}
		}
	}
	if len(last) != len(w.made) {
		w.rt.Fatalf("%d tasks were made, %d are known", len(w.made), len(last))
	}
	for stream, kind := range last {
		if kind != "task.expired.v1" {
			w.rt.Fatalf("%s ended with %s", stream, kind)
		}
	}
}

// workBy lets the house work by other rules for tasks.
func (h *house) workBy(rules domain.TaskRules) {
	h.Helper()
	if err := h.executor.Close(h.Context()); err != nil {
		h.Fatal(err)
	}
	h.cfg.Tasks = rules
	h.executor = commands.NewExecutor(h.cfg)
	h.sweeper.Executor = h.executor
}

func (h *house) head() (head int64) {
	h.Helper()
	if err := h.db.QueryRow(`SELECT coalesce(max(position), 0) FROM events`).Scan(&head); err != nil {
		h.Fatal(err)
	}
	return head
}

func request(project string) context.Context {
	return commands.WithRequest(context.Background(), commands.Request{Origin: domain.Origin{Project: project}})
}

// checkReadModels fails the test if they are not what the history adds up to.
func (h *house) checkReadModels() {
	h.Helper()
	err := projections.Checking{DB: h.direct(), Projections: projections.Inline, Found: func(d projections.Difference) error {
		h.Errorf("table %s, row %v: live %v, folded %v", d.Table, d.Key, d.Live, d.Folded)
		return nil
	}}.Run(h.Context())
	if err != nil {
		h.Fatal(err)
	}
}
