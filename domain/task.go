package domain

import (
	"encoding/json"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// TaskID names a task for ever: a UUID that whoever makes the task draws.
type TaskID = uuid.UUID

// TaskStatus is where a task is in its life.
type TaskStatus string

// The statuses. A task in one of the last two has ended.
const (
	TaskPending    TaskStatus = "pending"
	TaskProcessing TaskStatus = "processing"
	TaskSuccess    TaskStatus = "success"
	TaskFailure    TaskStatus = "failure"
)

// Lost is what the owner of a task is told that nobody works on any more.
const Lost = "Task failed due to Internal Error"

// Bounds of a task's texts, in characters. They are Glance's columns; it has none for
// what workers say.
const (
	MaxTaskType      = 30
	MaxTaskOwner     = 255
	MaxTaskUser      = 64
	MaxTaskRequestID = 64
	MaxTaskImage     = 36
	MaxTaskWorker    = 255
	MaxTaskMessage   = 65536
)

// Task is what the history of one task adds up to. The zero value is one that is not
// there.
type Task struct {
	ID        TaskID
	Type      string
	Status    TaskStatus
	Owner     string // a project
	User      string
	RequestID string
	ImageID   string
	Input     string // JSON text, byte for byte as sent; empty: null
	Result    string // the same
	Message   string // how far it has come, or why it failed
	Created   time.Time
	Updated   time.Time
	Expires   time.Time // when it is gone; zero: it has not ended
	// Worker began it last, as it calls itself; empty: nobody did, or one without a name.
	Worker   string
	Attempts int // how often it was begun
	// Deadline is when it fails unless it is begun before, or reported on; zero: there is
	// none.
	Deadline time.Time
	Handed   MessageID // the message that hands it out; zero: none does
	// MadeBy is the event that made it, and Correlation that event's. They are known only of
	// a task that was loaded for a decision, as long as the event is in the ledger.
	MadeBy      uuid.UUID
	Correlation string
}

// Exists tells whether the task is there, though it may have expired.
func (t Task) Exists() bool { return t.ID != TaskID{} }

// Ended tells whether the task has come to its end.
func (t Task) Ended() bool { return t.Status == TaskSuccess || t.Status == TaskFailure }

// Alive tells whether the task is there for clients.
func (t Task) Alive(now time.Time) bool {
	return t.Exists() && (t.Expires.IsZero() || t.Expires.After(now))
}

// Apply folds one event of the history into the task; at is the event's time.
func (t *Task) Apply(at time.Time, e Event) {
	switch e := e.(type) {
	case TaskCreated:
		*t = Task{
			ID: e.ID, Type: e.Type, Status: TaskPending, Owner: e.Project, User: e.User, RequestID: e.RequestID,
			ImageID: e.ImageID, Input: e.Input, Created: at, Deadline: e.Deadline, Handed: e.Handed,
		}
	case TaskBegun:
		t.Status, t.Worker, t.Attempts, t.Deadline = TaskProcessing, e.Worker, e.Attempt, e.Deadline
	case TaskProgressed:
		t.Message, t.Deadline = e.Message, e.Deadline
	case TaskSucceeded:
		t.Status, t.Result, t.Expires, t.Deadline = TaskSuccess, e.Result, e.Expires, time.Time{}
	case TaskFailed:
		t.Status, t.Message, t.Expires, t.Deadline = TaskFailure, e.Message, e.Expires, time.Time{}
	case TaskRequeued:
		t.Status, t.Message, t.Deadline = TaskPending, "", e.Deadline
	case TaskExpired:
		*t = Task{}
		return
	default:
		return
	}
	t.Updated = at
}

// NewTask is a task that a client wants to make.
type NewTask struct {
	ID        TaskID // drawn by random
	Type      string
	Owner     string // the caller's project
	User      string
	RequestID string
	Input     string // JSON text; empty: null
}

// Check refuses a task that cannot be, but for what CheckInput looks at.
func (n NewTask) Check(r TaskRules) error {
	if _, known := r.Types[n.Type]; !known || CheckTaskType(n.Type) != nil {
		return Errorf(Invalid, "type must be one of the task types that are served")
	}
	for _, text := range []struct {
		name, value string
		most        int
	}{
		{"owner", n.Owner, MaxTaskOwner}, {"user_id", n.User, MaxTaskUser}, {"request_id", n.RequestID, MaxTaskRequestID},
		{"image_id", imageOf(n.Input), MaxTaskImage},
	} {
		if utf8.RuneCountInString(text.value) > text.most || !Storable(text.value) {
			return Errorf(Invalid, "%s must not be longer than %d characters, nor hold a NUL", text.name, text.most)
		}
	}
	return CheckProject(n.Owner)
}

// CheckInput refuses an input that contradicts the schema of the task's type. How long that
// takes is the schema's doing, so it is for whoever asks for the task, before others wait
// for the decision.
func (n NewTask) CheckInput(r TaskRules) error {
	its := r.Types[n.Type]
	if its.Check == nil {
		return nil
	}
	if err := its.Check(OrEmpty(n.Input)); err != nil {
		return Errorf(Invalid, "Provided object does not match schema 'task': %v", err)
	}
	return nil
}

// imageOf is the image that an input names; empty: none.
func imageOf(input string) string {
	var members map[string]json.RawMessage // a field would take the name in any case
	var image string
	if json.Unmarshal([]byte(orNull(input)), &members) != nil || json.Unmarshal(members["image_id"], &image) != nil {
		return ""
	}
	return image
}

// CreateTask decides what a request to make the task records: the task, and in the queue of
// its type, which is made if absent, the message that hands it out. A task whose input
// lacks a key that its type requires fails at once, and nobody sees it.
func (q Queue) CreateTask(n NewTask, r TaskRules, limits Limits, at Moment) ([]Event, error) {
	if err := n.Check(r); err != nil {
		return nil, err
	}
	at.Time = at.Time.UTC()
	created := TaskCreated{
		Project: n.Owner, ID: n.ID, Type: n.Type, User: n.User, RequestID: n.RequestID, ImageID: imageOf(n.Input),
		Input: OrEmpty(n.Input),
	}
	if missing := r.missing(n); missing != "" {
		failed := TaskFailed{
			Project: n.Owner, ID: n.ID, Cause: TaskIncomplete, Message: missing, Expires: at.Time.Add(r.TimeToLive),
		}
		return []Event{created, failed}, nil
	}
	posted, err := q.handOut(n, r, limits, Moment{Position: at.Position + 1, Time: at.Time})
	if err != nil {
		return nil, err
	}
	message := posted[len(posted)-1].(MessagesPosted).Messages[0]
	created.Handed, created.Deadline = message.ID, at.Time.Add(seconds(message.TTL))
	return append([]Event{created}, posted...), nil
}

func (r TaskRules) missing(n NewTask) string {
	if its := r.Types[n.Type]; its.Missing != nil {
		return its.Missing(OrEmpty(n.Input))
	}
	return ""
}

// TaskAction is what a worker reports.
type TaskAction string

// The actions.
const (
	TaskBegin    TaskAction = "begin"
	TaskProgress TaskAction = "progress"
	TaskSucceed  TaskAction = "succeed"
	TaskFail     TaskAction = "fail"
)

// TaskReport is what a worker says of a task.
type TaskReport struct {
	Action  TaskAction
	Worker  string // as it calls itself; empty: it does not say
	Message string // of progress and fail
	Result  string // of succeed: JSON text; empty: null
}

// Check refuses a report that breaks a bound.
func (r TaskReport) Check() error {
	switch {
	case utf8.RuneCountInString(r.Worker) > MaxTaskWorker || !Storable(r.Worker):
		return Errorf(Invalid, "worker must not be longer than %d characters, nor hold a NUL", MaxTaskWorker)
	case utf8.RuneCountInString(r.Message) > MaxTaskMessage || !Storable(r.Message):
		return Errorf(Invalid, "message must not be longer than %d characters, nor hold a NUL", MaxTaskMessage)
	}
	return nil
}

// heartbeats is how many times in a processing timeout the same progress counts as a new
// report: often enough for a worker that always says the same to stay alive.
const heartbeats = 10

// Report decides what a worker's report records. The same report again records nothing.
// It refuses with NotFound when the task is not there, and with Conflict when its status
// does not allow the report or another worker has it.
func (t Task) Report(r TaskReport, rules TaskRules, now time.Time) ([]Event, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	if !t.Alive(now) {
		return nil, NoTask(t.ID)
	}
	if err := t.checkWorker(r); err != nil {
		return nil, err
	}
	now = now.UTC()
	switch r.Action {
	case TaskBegin:
		return t.begin(r, rules, now)
	case TaskProgress:
		return t.progress(r, rules, now)
	case TaskSucceed:
		return t.succeed(r, rules, now)
	case TaskFail:
		return t.fail(r, rules, now)
	}
	return nil, Errorf(Invalid, "action must be one of begin, progress, succeed and fail")
}

// NoTask is the refusal of whatever is asked of a task that is not there.
func NoTask(id TaskID) error { return Errorf(NotFound, "Could not find task %s", id) }

// checkWorker refuses the report of a worker that has not got the task. One that had it and
// was lost may begin it again, and nothing else.
func (t Task) checkWorker(r TaskReport) error {
	switch {
	case r.Worker == "" || t.Worker == "":
		return nil
	case t.Status != TaskPending && r.Worker != t.Worker:
		return Errorf(Conflict, "Task %s is held by another worker", t.ID)
	case t.Status == TaskPending && r.Worker == t.Worker && r.Action != TaskBegin:
		return Errorf(Conflict, "Task %s was taken from this worker and has not been begun again", t.ID)
	}
	return nil
}

func (t Task) notAllowed(to TaskStatus) error {
	return Errorf(Conflict, "Status transition from %s to %s is not allowed", t.Status, to)
}

func (t Task) begin(r TaskReport, rules TaskRules, now time.Time) ([]Event, error) {
	switch {
	case t.Status == TaskProcessing && r.Worker != "" && r.Worker == t.Worker:
		return nil, nil
	case t.Status != TaskPending:
		return nil, t.notAllowed(TaskProcessing)
	}
	return []Event{TaskBegun{
		Project: t.Owner, ID: t.ID, Worker: r.Worker, Attempt: t.Attempts + 1, Deadline: rules.processingEnd(now),
	}}, nil
}

// processingEnd is when a task fails that nobody reports on any more.
func (r TaskRules) processingEnd(now time.Time) time.Time {
	if r.ProcessingTimeout == 0 {
		return time.Time{}
	}
	return now.Add(r.ProcessingTimeout)
}

func (t Task) progress(r TaskReport, rules TaskRules, now time.Time) ([]Event, error) {
	if t.Status != TaskProcessing {
		return nil, Errorf(Conflict, "Progress of a task in status %s is not allowed", t.Status)
	}
	late := rules.ProcessingTimeout > 0 && now.Sub(t.Updated) >= rules.ProcessingTimeout/heartbeats
	if r.Message == t.Message && !late {
		return nil, nil
	}
	return []Event{TaskProgressed{Project: t.Owner, ID: t.ID, Message: r.Message, Deadline: rules.processingEnd(now)}}, nil
}

func (t Task) succeed(r TaskReport, rules TaskRules, now time.Time) ([]Event, error) {
	result := OrEmpty(r.Result)
	switch {
	case t.Status == TaskSuccess && t.Result == result:
		return nil, nil
	case t.Status != TaskProcessing:
		return nil, t.notAllowed(TaskSuccess)
	}
	return []Event{TaskSucceeded{Project: t.Owner, ID: t.ID, Expires: now.Add(rules.TimeToLive), Result: result}}, nil
}

func (t Task) fail(r TaskReport, rules TaskRules, now time.Time) ([]Event, error) {
	switch {
	case t.Status == TaskFailure && t.Message == r.Message:
		return nil, nil
	case t.Ended():
		return nil, t.notAllowed(TaskFailure)
	}
	return []Event{t.failed(TaskReported, r.Message, rules, now)}, nil
}

func (t Task) failed(cause TaskCause, message string, rules TaskRules, now time.Time) TaskFailed {
	return TaskFailed{Project: t.Owner, ID: t.ID, Cause: cause, Message: message, Expires: now.Add(rules.TimeToLive)}
}

// Sweep decides what time alone has made of the task: past its deadline it fails, and when
// it has expired it is taken away.
func (t Task) Sweep(rules TaskRules, now time.Time) []Event {
	now = now.UTC()
	switch {
	case !t.Exists():
	case !t.Alive(now):
		return []Event{TaskExpired{Project: t.Owner, ID: t.ID}}
	case !t.Deadline.IsZero() && !t.Deadline.After(now):
		return []Event{t.failed(TaskOverdue, Lost, rules, now)}
	}
	return nil
}
