package domain

import (
	"crypto/sha256"

	"github.com/google/uuid"
)

// TaskFailureID is the id of the user message that tells of a task's failure. A task fails
// but once.
func TaskFailureID(id TaskID) UserMessageID {
	return uuid.NewHash(sha256.New(), id, []byte("task.failed"), 8)
}

// failedTaskActions and failedTaskDetails are entries of the catalogue of the service IMAGE.
var failedTaskActions = map[string]string{
	TaskImport:         "IMPORT_IMAGE",
	TaskAPIImageImport: "IMPORT_IMAGE_DATA",
	TaskLocationImport: "IMPORT_IMAGE_LOCATION",
}

var failedTaskDetails = map[TaskCause]string{
	TaskReported:   "TASK_FAILED",
	TaskIncomplete: "TASK_INCOMPLETE",
	TaskWorkerLost: "TASK_WORKER_LOST",
	TaskOverdue:    "TASK_OVERDUE",
	TaskDeadLetter: "TASK_WORKER_LOST",
}

// failure is the user message that tells of a task's failure: about its image, if it names
// one, or else about the task. What the worker said is not in it: it is no text of the
// catalogue.
func (t Task) failure(cause TaskCause) NewUserMessage {
	n := NewUserMessage{
		Project: t.Owner, ID: TaskFailureID(t.ID), Action: "RUN_TASK", Detail: failedTaskDetails[cause],
		ResourceType: "TASK", ResourceUUID: t.ID.String(), RequestID: t.RequestID,
	}
	if its, known := failedTaskActions[t.Type]; known {
		n.Action = its
	}
	if isDashedUUID(t.ImageID) {
		n.ResourceType, n.ResourceUUID = "IMAGE", t.ImageID
	}
	return n
}

// Failures are the user messages for the owners of tasks that fail by these events; task
// finds a task as it was before, and message what an id stands for. What cannot be told is
// not: no task is to wait for that.
func (r UserMessageRules) Failures(
	events []Event, task func(TaskID) Task, message func(UserMessageRef) UserMessage, at Moment,
) (failures []Event) {
	if !r.TaskFailures {
		return nil
	}
	made := map[TaskID]Task{}
	for _, e := range events {
		switch e := e.(type) {
		case TaskCreated:
			t := made[e.ID]
			t.Apply(at.Time, e)
			made[e.ID] = t
		case TaskFailed:
			t, isNew := made[e.ID]
			if !isNew {
				t = task(e.ID)
			}
			its := t.failure(e.Cause)
			recorded, err := message(UserMessageRef{its.Project, its.ID}).Record(its, r, at.Time)
			if err == nil {
				failures = append(failures, recorded...)
			}
		}
	}
	return failures
}
