package domain

import "encoding/json"

// TaskEventsQueue is the queue in the owner's project that tells of changes of tasks.
const TaskEventsQueue = "tasks.events"

// TaskEvents is the queue that tells an owner of changes of its tasks.
func TaskEvents(owner string) QueueID { return QueueID{Project: owner, Name: TaskEventsQueue} }

// taskTimes is how the API writes times: UTC, to the second.
const taskTimes = "2006-01-02T15:04:05Z"

// taskNotice is the body of a message that tells of a change. What may be secret of a task,
// or very large, is not in it: its input and its result are read where it is.
type taskNotice struct {
	Type    string            `json:"event_type"`
	Payload taskNoticePayload `json:"payload"`
}

type taskNoticePayload struct {
	ID      TaskID     `json:"id"`
	Type    string     `json:"type"`
	Status  TaskStatus `json:"status"`
	Owner   string     `json:"owner"`
	Created string     `json:"created_at"`
	Updated string     `json:"updated_at"`
	Expires *string    `json:"expires_at"` // null: it has not ended
	// Message and RequestID are nabu's own.
	Message   string `json:"message"` // how far it has come, or why it failed
	RequestID string `json:"request_id"`
}

// taskChanges are what changes are called when they are told, as Glance calls them where it
// knows them.
var taskChanges = map[string]string{
	TaskCreated{}.EventType():    "task.create",
	TaskBegun{}.EventType():      "task.processing",
	TaskProgressed{}.EventType(): "task.progress",
	TaskSucceeded{}.EventType():  "task.success",
	TaskFailed{}.EventType():     "task.failure",
	TaskRequeued{}.EventType():   "task.requeue",
	TaskExpired{}.EventType():    "task.delete",
}

// notice is the body of the message that tells of a change: after it, or before it if the
// task is gone.
func (t Task) notice(e Event) (string, error) {
	n := taskNotice{Type: taskChanges[e.EventType()], Payload: taskNoticePayload{
		ID: t.ID, Type: t.Type, Status: t.Status, Owner: t.Owner,
		Created: t.Created.UTC().Format(taskTimes), Updated: t.Updated.UTC().Format(taskTimes),
		Message: t.Message, RequestID: t.RequestID,
	}}
	if !t.Expires.IsZero() {
		expires := t.Expires.UTC().Format(taskTimes)
		n.Payload.Expires = &expires
	}
	body, err := json.Marshal(n)
	return string(body), err
}

// TaskNotices are the messages that tell an owner of changes of its tasks.
type TaskNotices struct {
	Owner    string
	Messages []NewMessage
	Salts    []uint64
}

// Notices are the messages about what was decided, for each owner in the order in which
// they are first mentioned; task finds a task as it was before.
func (r TaskRules) Notices(events []Event, task func(TaskID) Task, at Moment) ([]*TaskNotices, error) {
	if !r.EventsQueue {
		return nil, nil
	}
	var all []*TaskNotices
	byOwner, now := map[string]*TaskNotices{}, map[TaskID]Task{}
	for _, e := range events {
		id, isTask := TaskOfStream(e.Stream())
		if !isTask {
			continue
		}
		t, changed := now[id]
		if !changed {
			t = task(id)
		}
		before := t
		t.Apply(at.Time, e)
		now[id] = t
		if !t.Exists() {
			t = before
		}
		body, err := t.notice(e)
		if err != nil {
			return nil, err
		}
		its := byOwner[t.Owner]
		if its == nil {
			its = &TaskNotices{Owner: t.Owner}
			byOwner[t.Owner] = its
			all = append(all, its)
		}
		its.Messages = append(its.Messages, NewMessage{Body: body})
		its.Salts = append(its.Salts, taskSalt(id))
	}
	return all, nil
}

// Post decides to post the messages to the owner's queue, which is made if absent.
func (n TaskNotices) Post(q Queue, limits Limits, at Moment) ([]Event, error) {
	return q.Post(Post{Queue: TaskEvents(n.Owner), Client: HandOutClient, Messages: n.Messages, Salts: n.Salts}, limits, at)
}
