package domain

import (
	"cmp"
	"strings"
	"time"

	"github.com/google/uuid"
)

// taskStream begins the names of the histories of tasks.
const taskStream = "task/"

// TaskStream is a task's history.
func TaskStream(id TaskID) string { return taskStream + id.String() }

// TaskOfStream takes a task's stream apart.
func TaskOfStream(stream string) (TaskID, bool) {
	rest, isTask := strings.CutPrefix(stream, taskStream)
	if !isTask {
		return TaskID{}, false
	}
	id, err := uuid.Parse(rest)
	return id, err == nil
}

// TaskCreated: a client made a task. It is pending.
type TaskCreated struct {
	Project   string    `json:"project"` // the owner
	ID        TaskID    `json:"id"`
	Type      string    `json:"type"`
	User      string    `json:"user,omitempty"`
	RequestID string    `json:"request_id,omitempty"`
	ImageID   string    `json:"image_id,omitempty"`
	Handed    MessageID `json:"handed,omitzero"`   // the message that hands it out; zero: none does
	Deadline  time.Time `json:"deadline,omitzero"` // by then it is begun, or it fails
	Input     string    `json:"-"`                 // JSON text as the client sent it, in the bodies; empty: null
}

func (TaskCreated) EventType() string  { return "task.created.v1" }
func (e TaskCreated) Stream() string   { return TaskStream(e.ID) }
func (e TaskCreated) Bodies() []string { return []string{orNull(e.Input)} }

// TaskBegun: a worker has begun the task, which is in processing now.
type TaskBegun struct {
	Project  string    `json:"project"`
	ID       TaskID    `json:"id"`
	Worker   string    `json:"worker,omitempty"`  // as it calls itself
	Attempt  int       `json:"attempt"`           // from 1
	Deadline time.Time `json:"deadline,omitzero"` // by then it is reported on; zero: there is none
}

func (TaskBegun) EventType() string { return "task.begun.v1" }
func (e TaskBegun) Stream() string  { return TaskStream(e.ID) }

// TaskProgressed: the worker has told how far it has come.
type TaskProgressed struct {
	Project  string    `json:"project"`
	ID       TaskID    `json:"id"`
	Message  string    `json:"message"`
	Deadline time.Time `json:"deadline,omitzero"` // as of TaskBegun
}

func (TaskProgressed) EventType() string { return "task.progressed.v1" }
func (e TaskProgressed) Stream() string  { return TaskStream(e.ID) }

// TaskSucceeded: the worker has done the task.
type TaskSucceeded struct {
	Project string    `json:"project"`
	ID      TaskID    `json:"id"`
	Expires time.Time `json:"expires"`
	Result  string    `json:"-"` // JSON text as the worker sent it, in the bodies; empty: null
}

func (TaskSucceeded) EventType() string  { return "task.succeeded.v1" }
func (e TaskSucceeded) Stream() string   { return TaskStream(e.ID) }
func (e TaskSucceeded) Bodies() []string { return []string{orNull(e.Result)} }

// TaskFailed: the task came to nothing.
type TaskFailed struct {
	Project string    `json:"project"`
	ID      TaskID    `json:"id"`
	Cause   TaskCause `json:"cause"`
	Message string    `json:"message"` // why, for the owner
	Expires time.Time `json:"expires"`
}

func (TaskFailed) EventType() string { return "task.failed.v1" }
func (e TaskFailed) Stream() string  { return TaskStream(e.ID) }

// TaskCause is what has made a task fail.
type TaskCause string

// The causes.
const (
	TaskReported   TaskCause = "reported"    // somebody said so
	TaskIncomplete TaskCause = "incomplete"  // its input lacks a key
	TaskWorkerLost TaskCause = "worker-lost" // its message was free again, and there are no further attempts
	TaskOverdue    TaskCause = "overdue"     // its deadline passed
	TaskDeadLetter TaskCause = "dead-letter" // its message was claimed too often, and nobody will see it any more
)

// TaskRequeued: the worker was lost, and the task is pending again.
type TaskRequeued struct {
	Project  string    `json:"project"`
	ID       TaskID    `json:"id"`
	Deadline time.Time `json:"deadline,omitzero"` // as of TaskCreated
}

func (TaskRequeued) EventType() string { return "task.requeued.v1" }
func (e TaskRequeued) Stream() string  { return TaskStream(e.ID) }

// TaskExpired: a task that had ended long ago was taken away.
type TaskExpired struct {
	Project string `json:"project"`
	ID      TaskID `json:"id"`
}

func (TaskExpired) EventType() string { return "task.expired.v1" }
func (e TaskExpired) Stream() string  { return TaskStream(e.ID) }

const null = "null"

// orNull is a JSON text that may be empty for null.
func orNull(text string) string { return cmp.Or(text, null) }

// OrEmpty is a JSON text as tasks have it: empty for null.
func OrEmpty(text string) string {
	if strings.TrimSpace(text) == null {
		return ""
	}
	return text
}
