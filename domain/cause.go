package domain

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
