package domain

import (
	"encoding/binary"
	"encoding/json"
	"strings"
	"time"
)

// handOutPrefix begins the names of the queues that hand tasks out, one for each type.
const handOutPrefix = "tasks."

// HandOutClient is who posts the messages that hand tasks out. No client of the API can
// call itself so: it is too short.
const HandOutClient = "nabu"

// HandOut is the queue that hands out the tasks of a type.
func (r TaskRules) HandOut(taskType string) QueueID {
	return QueueID{Project: r.ServiceProject, Name: handOutPrefix + taskType}
}

// HandsOut tells whether a queue is one that hands tasks out.
func (r TaskRules) HandsOut(queue QueueID) bool {
	return queue.Project == r.ServiceProject && strings.HasPrefix(queue.Name, handOutPrefix) && queue.Name != TaskEventsQueue
}

// taskMessage is the body of a message that hands a task out.
type taskMessage struct {
	ID        TaskID `json:"task_id"`
	Type      string `json:"type"`
	Owner     string `json:"owner"`
	RequestID string `json:"request_id,omitempty"`
}

// handOut decides to post the message that hands a task out. It lives as long as the
// queue's metadata say, or as long as a message can.
func (q Queue) handOut(n NewTask, r TaskRules, limits Limits, at Moment) ([]Event, error) {
	head, err := json.Marshal(taskMessage{n.ID, n.Type, n.Owner, n.RequestID})
	if err != nil {
		return nil, err
	}
	// The input is put in as it was sent: an encoder would compact and escape it.
	body := strings.TrimSuffix(string(head), "}") + `,"input":` + orNull(n.Input) + "}"
	ttl := limits.MaxMessageTTL
	if own := q.Metadata.whole(DefaultMessageTTLKey); own > 0 {
		ttl = own
	}
	return q.Post(Post{
		Queue: r.HandOut(n.Type), Client: HandOutClient, AtOnce: true,
		Messages: []NewMessage{{TTL: ttl, Body: body}}, Salts: []uint64{taskSalt(n.ID)},
	}, limits, at)
}

// taskSalt is the random bits of a task's id, for the ids of its messages.
func taskSalt(id TaskID) uint64 { return binary.BigEndian.Uint64(id[8:]) }

// TaskOf finds the task that a message hands out; the zero Task if it is not there any more.
// Not known: nobody has looked for it.
type TaskOf func(MessageID) (t Task, known bool)

// choice is what becomes of the free messages of a queue that hands tasks out.
type choice struct {
	kept    []Message // may be taken, in the queue's order
	dropped []Message // nobody is to get them any more
	failed  []Event   // of tasks whose worker was lost for the last time
}

// choose goes over free messages until so many of them may be taken. The message of a task
// that has ended or is gone is dropped. A task in processing whose message is free has lost
// its worker: it is begun again if there are attempts left, or fails. What the dead letter
// queue is to get is left to it. Messages that others have posted are like any.
func (r TaskRules) choose(free []Message, limit, mostClaims int, task TaskOf, now time.Time) (c choice) {
	for i := 0; i < len(free) && limit > 0; i++ {
		m := free[i]
		dead := mostClaims > 0 && m.ClaimCount >= mostClaims
		if m.Client == HandOutClient {
			t, known := task(m.ID)
			lost := t.Status == TaskProcessing && t.Attempts >= r.MaxAttempts && !dead
			switch {
			case !known:
				return c
			case lost:
				c.failed = append(c.failed, t.failed(TaskWorkerLost, Lost, r, now))
				fallthrough
			case !t.Exists() || t.Ended():
				c.dropped = append(c.dropped, m)
				continue
			}
		}
		c.kept = append(c.kept, m)
		if !dead {
			limit--
		}
	}
	return c
}

// ClaimTasks decides what a request for messages of a queue that hands tasks out records:
// what Claim does, and what becomes of the tasks. taken are as those of Claim; dropped tells
// that some were passed over.
func (q Queue) ClaimTasks(
	id QueueID, c Claiming, free []Message, deadLetters Queue, task TaskOf, r TaskRules, at Moment,
) (taken []Message, events []Event, dropped bool) {
	at.Time = at.Time.UTC()
	most, _ := q.DeadLettering()
	chosen := r.choose(free, c.Limit, most, task, at.Time)
	taken, events = q.Claim(id, c, chosen.kept, deadLetters, at)
	for _, e := range events {
		if out, moved := e.(MessagesMovedOut); moved && out.To != id.Name {
			chosen.failed = append(chosen.failed, r.deadLetters(out, task, at.Time)...)
		}
	}
	return taken, append(events, q.settle(id, chosen, taken, task, at.Time)...), len(chosen.dropped) > 0
}

// deadLetters fails the tasks of messages that nobody will be handed any more.
func (r TaskRules) deadLetters(out MessagesMovedOut, task TaskOf, now time.Time) (events []Event) {
	for _, m := range out.Messages {
		if t, _ := task(m.ID); t.Exists() && !t.Ended() {
			events = append(events, t.failed(TaskDeadLetter, Lost, r, now))
		}
	}
	return events
}

// PopTasks is ClaimTasks for a client that takes the messages for good.
func (q Queue) PopTasks(id QueueID, limit int, free []Message, task TaskOf, r TaskRules, now time.Time) (
	taken []Message, events []Event, dropped bool,
) {
	now = now.UTC()
	chosen := r.choose(free, limit, 0, task, now)
	events = append(q.Pop(id, chosen.kept), q.settle(id, chosen, chosen.kept, task, now)...)
	return chosen.kept, events, len(chosen.dropped) > 0
}

// LoseTasks decides what becomes of tasks whose worker's claim is over and that nobody has
// claimed since, as a claim would that finds them: each is pending again, or fails. free are
// messages that nobody holds. One that the dead letter queue is to get stays where it is, for
// the next claim to move it.
func (q Queue) LoseTasks(id QueueID, free []Message, task TaskOf, r TaskRules, now time.Time) []Event {
	now = now.UTC()
	most, _ := q.DeadLettering()
	chosen := r.choose(free, len(free), most, task, now)
	return q.settle(id, chosen, chosen.kept, task, now)
}

// settle records what was chosen besides the taking: what is dropped, and what becomes of
// the tasks. One that is handed out again is pending until its message ends.
func (q Queue) settle(id QueueID, chosen choice, taken []Message, task TaskOf, now time.Time) []Event {
	events := append(q.DeleteMessages(id, chosen.dropped, now), chosen.failed...)
	for _, m := range taken {
		if t, _ := task(m.ID); t.Status == TaskProcessing {
			events = append(events, TaskRequeued{Project: t.Owner, ID: t.ID, Deadline: m.Expires.UTC()})
		}
	}
	return events
}
