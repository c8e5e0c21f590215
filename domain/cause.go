package domain

import "cmp"

// Causes tells of the events of one decision which of them has caused each, by its index; -1:
// none has. Of a post that tells of several it is the first one.
func Causes(events []Event) []int {
	known := causes{}
	its := make([]int, len(events))
	for i, e := range events {
		its[i] = -1
		switch e := e.(type) {
		case UserMessageRecorded:
			its[i] = known.of(e.ID.String())
		case MessagesPosted:
			if len(e.Messages) > 0 {
				its[i] = known.of(e.Messages[0].ID.String(), e.Stream())
			}
			if i > 0 && events[i-1].EventType() == (QueueCreated{}).EventType() && events[i-1].Stream() == e.Stream() {
				its[i-1] = its[i] // it was made for the post
			}
		default:
			known.learn(i, e)
		}
	}
	return its
}

// Origin is where an event of the task comes from that is decided on a request from o. Whoever
// does something for a task does it for the request that made the task: what all of that shares
// is the correlation, and the request's own id is found where a worker sends it, unless the
// caller has sent another. What nobody has reported is because of the task.
func (t Task) Origin(o Origin, e Event) Origin {
	if o.RequestID != "" && o.RequestID == t.RequestID {
		return o
	}
	if shared := cmp.Or(t.Correlation, t.RequestID); shared != "" {
		o.CorrelationID = shared
		if shared != t.RequestID {
			o.GlobalRequestID = cmp.Or(o.GlobalRequestID, t.RequestID)
		}
	}
	switch e := e.(type) {
	case TaskFailed:
		if e.Cause != TaskReported {
			o.CausationID = t.MadeBy
		}
	case TaskRequeued, TaskExpired:
		o.CausationID = t.MadeBy
	}
	return o
}

// causes are events by the names of what is owed to them: messages, user messages, and the
// streams of queues that tell of them.
type causes map[string]int

func (c causes) learn(i int, e Event) {
	switch e := e.(type) {
	case ExternalEventsAccepted:
		for _, told := range e.Events {
			for _, message := range told.Copies {
				c[message.String()] = i
			}
		}
	case ExternalEventsRejected:
		for _, told := range e.Events {
			c[told.ID[min(len(told.ID), len(eventIDPrefix)):]] = i
		}
	case TaskCreated:
		c[e.Handed.String()] = i
		c.tell(e.Project, i)
	case TaskBegun:
		c.tell(e.Project, i)
	case TaskProgressed:
		c.tell(e.Project, i)
	case TaskSucceeded:
		c.tell(e.Project, i)
	case TaskFailed:
		c[TaskFailureID(e.ID).String()] = i
		c.tell(e.Project, i)
	case TaskRequeued:
		c.tell(e.Project, i)
	case TaskExpired:
		c.tell(e.Project, i)
	}
}

// tell takes note that the owner of tasks is told of an event.
func (c causes) tell(owner string, i int) {
	if queue := TaskEvents(owner).Stream(); c.of(queue) < 0 {
		c[queue] = i
	}
}

// of is the event that something of these names is owed to.
func (c causes) of(names ...string) int {
	for _, name := range names {
		if i, known := c[name]; known {
			return i
		}
	}
	return -1
}
