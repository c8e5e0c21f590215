package domain

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func TestCauses(t *testing.T) {
	m1, m2, m3, told := uuid.New(), uuid.New(), uuid.New(), uuid.New()
	task, handed := uuid.New(), uuid.New()
	posted := func(project, queue string, ids ...MessageID) MessagesPosted {
		p := MessagesPosted{Project: project, Queue: queue}
		for _, id := range ids {
			p.Messages = append(p.Messages, PostedMessage{ID: id})
		}
		return p
	}
	for name, test := range map[string]struct {
		events []Event
		want   []int
	}{
		"a client's own post makes its queue": {[]Event{QueueCreated{Project: "p", Name: "q"}, posted("p", "q", m1)}, []int{-1, -1}},
		"events of two servers for two hosts": {
			[]Event{
				ExternalEventsAccepted{Events: []AcceptedEvent{{Copies: []MessageID{m1}}}},
				ExternalEventsRejected{Events: []RejectedEvent{{ID: "evt-" + told.String()}}},
				ExternalEventsAccepted{Events: []AcceptedEvent{{Copies: []MessageID{m2, m3}}}},
				posted("service", "nova-events.c1", m1, m2),
				QueueCreated{Project: "service", Name: "nova-events.c2"}, posted("service", "nova-events.c2", m3),
				UserMessageRecorded{ID: told},
			}, []int{-1, -1, -1, 0, 2, 2, 1},
		},
		"a task and who hears of it": {
			[]Event{
				TaskCreated{Project: "p", ID: task, Handed: handed}, QueueCreated{Project: "service", Name: "tasks.import"},
				posted("service", "tasks.import", handed), QueueCreated{Project: "p", Name: TaskEventsQueue}, posted("p", TaskEventsQueue, m1),
			}, []int{-1, 0, 0, 0, 0},
		},
		"a failure": {
			[]Event{
				TaskExpired{Project: "p2", ID: uuid.New()}, TaskFailed{Project: "p", ID: task},
				UserMessageRecorded{ID: TaskFailureID(task)}, posted("p", TaskEventsQueue, m1), posted("p2", TaskEventsQueue, m2),
			}, []int{-1, -1, 1, 1, 0},
		},
		"a claim and what it begins": {
			[]Event{MessagesClaimed{Project: "service", Queue: "tasks.import"}, TaskBegun{Project: "p", ID: task}, posted("p", TaskEventsQueue, m1)},
			[]int{-1, -1, 1},
		},
	} {
		if diff := cmp.Diff(test.want, Causes(test.events)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestTheOriginOfWhatIsDoneForATask(t *testing.T) {
	made := uuid.New()
	task := func(correlation string) Task {
		return Task{ID: uuid.New(), RequestID: "req-made", MadeBy: made, Correlation: correlation}
	}
	lost := TaskFailed{Cause: TaskWorkerLost}
	for name, test := range map[string]struct {
		task  Task
		by    Origin
		event Event
		want  Origin
	}{
		"the request itself": {
			task("req-caller"), Origin{RequestID: "req-made", GlobalRequestID: "req-caller", CorrelationID: "req-caller"},
			TaskFailed{Cause: TaskIncomplete}, Origin{RequestID: "req-made", GlobalRequestID: "req-caller", CorrelationID: "req-caller"},
		},
		"the sweeper": {task("req-made"), Origin{Project: "p"}, TaskExpired{}, Origin{Project: "p", CorrelationID: "req-made", CausationID: made}},
		"the sweeper, for a caller's request": {
			task("req-caller"), Origin{}, TaskRequeued{}, Origin{GlobalRequestID: "req-made", CorrelationID: "req-caller", CausationID: made},
		},
		"another's claim, with a global id": {
			task("req-caller"), Origin{RequestID: "req-claim", GlobalRequestID: "req-own", CorrelationID: "req-own"}, lost,
			Origin{RequestID: "req-claim", GlobalRequestID: "req-own", CorrelationID: "req-caller", CausationID: made},
		},
		"a report": {
			task("req-made"), Origin{RequestID: "req-works", CorrelationID: "req-works"}, TaskFailed{Cause: TaskReported},
			Origin{RequestID: "req-works", CorrelationID: "req-made"},
		},
		"the event that made it is gone": {Task{RequestID: "req-made"}, Origin{}, lost, Origin{CorrelationID: "req-made"}},
		"a task of nobody's request":     {Task{}, Origin{CorrelationID: "req-own"}, lost, Origin{CorrelationID: "req-own"}},
	} {
		if diff := cmp.Diff(test.want, test.task.Origin(test.by, test.event)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
