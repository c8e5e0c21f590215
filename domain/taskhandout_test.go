package domain_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"nabu/domain"
)

func TestQueuesThatHandOut(t *testing.T) {
	for queue, want := range map[domain.QueueID]bool{
		{Project: "service", Name: "tasks.import"}: true,
		{Project: "service", Name: "tasks.gone"}:   true,
		{Project: "service", Name: "tasks.events"}: false,
		{Project: "service", Name: "tasks"}:        false,
		{Project: "p1", Name: "tasks.import"}:      false,
		{Project: "", Name: "tasks.import"}:        false,
	} {
		if got := once.HandsOut(queue); got != want {
			t.Errorf("%v: %v, want %v", queue, got, want)
		}
	}
}

// handing is free messages in a queue, and the tasks that some of them hand out.
type handing struct {
	free  []domain.Message
	tasks map[domain.MessageID]domain.Task
}

// add puts in a message that was claimed so often and hands out a task with this past;
// without a past the task is gone.
func (h *handing) add(claims int, past ...domain.Event) (domain.Message, domain.TaskID) {
	m := message(len(h.free), 500, claims)
	m.Client = domain.HandOutClient
	id := uuid.NewSHA1(taskID, m.ID[:])
	var task domain.Task
	for _, e := range past {
		task.Apply(noon, e)
	}
	if task.Exists() {
		task.ID, task.Handed = id, m.ID
	}
	h.free, h.tasks[m.ID] = append(h.free, m), task
	return m, id
}

func (h *handing) of(id domain.MessageID) (domain.Task, bool) {
	t, known := h.tasks[id]
	return t, known
}

func TestClaimTasks(t *testing.T) {
	const limit = 3
	h := handing{tasks: map[domain.MessageID]domain.Task{}}
	waits, _ := h.add(0, taskCreated)
	gone, _ := h.add(0)
	lost, lostID := h.add(1, taskCreated, taskBegun)
	spent, spentID := h.add(1, taskCreated, taskBegun, taskRequeued, begunBy("w2", 2))
	done, _ := h.add(1, taskCreated, taskBegun, taskSucceeded)
	foreign := message(len(h.free), 500, 0)
	h.free = append(h.free, foreign)
	_, _ = h.add(1, taskCreated, taskBegun, taskFailed) // behind the limit
	failed := func(id domain.TaskID, cause domain.TaskCause) domain.Event {
		e := failedBecause(cause, domain.Lost)
		e.ID = id
		return e
	}
	requeued := func(id domain.TaskID) domain.Event {
		return domain.TaskRequeued{Project: "p1", ID: id, Deadline: noon.Add(500 * time.Second)}
	}
	deleted := func(messages ...domain.Message) domain.Event {
		e := domain.MessagesDeleted{Project: "p1", Queue: "orders", Number: 1}
		for _, m := range messages {
			e.Messages = append(e.Messages, domain.DeletedMessage{ID: m.ID, Place: m.Place})
		}
		return e
	}
	claiming := domain.Claiming{Claim: claimed, Life: domain.ClaimLife{TTL: 100, Grace: 70}, Limit: limit}
	plain := queueAfter(created(t, `{}`))

	taken, events, dropped := plain.ClaimTasks(orders, claiming, h.free, domain.Queue{}, h.of, twice, domain.Moment{Position: 9, Time: noon})
	expect(t, events, nil, []domain.Event{
		claimedEvent(false, false, waits, lost, foreign), deleted(gone, spent, done), failed(spentID, domain.TaskWorkerLost), requeued(lostID),
	}, "")
	if len(taken) != limit || !dropped {
		t.Errorf("%d taken, dropped %v", len(taken), dropped)
	}

	taken, events, dropped = plain.PopTasks(orders, limit, h.free, h.of, twice, noon)
	expect(t, events, nil, []domain.Event{
		domain.MessagesPopped{Project: "p1", Queue: "orders", Number: 1, Messages: []domain.MessageAt{at(waits), at(lost), at(foreign)}},
		deleted(gone, spent, done), failed(spentID, domain.TaskWorkerLost), requeued(lostID),
	}, "")
	if diff := cmp.Diff([]domain.Message{waits, lost, foreign}, taken); diff != "" || !dropped {
		t.Errorf("popped (-want +got):\n%s", diff)
	}

	// Once only: the lost one fails as well, and the next takes its place.
	_, events, _ = plain.ClaimTasks(orders, claiming, h.free, domain.Queue{}, h.of, once, domain.Moment{Position: 9, Time: noon})
	expect(t, events, nil, []domain.Event{
		claimedEvent(false, false, waits, foreign), deleted(gone, lost, spent, done, h.free[6]),
		failed(lostID, domain.TaskWorkerLost), failed(spentID, domain.TaskWorkerLost),
	}, "")

	// What nobody has looked for is neither taken nor dropped, nor what is behind it.
	delete(h.tasks, lost.ID)
	_, events, _ = plain.ClaimTasks(orders, claiming, h.free, domain.Queue{}, h.of, twice, domain.Moment{Position: 9, Time: noon})
	expect(t, events, nil, []domain.Event{claimedEvent(false, false, waits), deleted(gone)}, "")
}

// A queue that hands tasks out may have a dead letter queue. The task of a message that
// goes there fails, unless that is the queue itself.
func TestDeadLettersOfTasks(t *testing.T) {
	h := handing{tasks: map[domain.MessageID]domain.Task{}}
	worn, wornID := h.add(2, taskCreated)
	lost, lostID := h.add(2, taskCreated, taskBegun)
	done, _ := h.add(2, taskCreated, taskBegun, taskSucceeded)
	fresh, _ := h.add(1, taskCreated)
	claiming := domain.Claiming{Claim: claimed, Life: domain.ClaimLife{TTL: 100, Grace: 70}, Limit: 1}
	moment := domain.Moment{Position: 9, Time: noon}
	for name, test := range map[string]struct {
		metadata string
		fails    []domain.TaskID
	}{
		"another queue": {`{"_max_claim_count": 2, "_dead_letter_queue": "dead"}`, []domain.TaskID{wornID, lostID}},
		"the same":      {`{"_max_claim_count": 2, "_dead_letter_queue": "orders"}`, nil},
	} {
		q := queueAfter(created(t, test.metadata))
		taken, events, _ := q.ClaimTasks(orders, claiming, h.free, domain.Queue{Number: 5}, h.of, once, moment)
		if len(taken) != 1 || taken[0].ID != fresh.ID {
			t.Fatalf("%s: taken %v", name, taken)
		}
		var fails []domain.TaskID
		var moved, deleted []domain.MessageAt
		for _, e := range events {
			switch e := e.(type) {
			case domain.TaskFailed:
				fails = append(fails, e.ID)
				if e.Cause != domain.TaskDeadLetter {
					t.Errorf("%s: failed because of %s", name, e.Cause)
				}
			case domain.MessagesMovedOut:
				moved = e.Messages
			case domain.MessagesDeleted:
				for _, m := range e.Messages {
					deleted = append(deleted, domain.MessageAt{ID: m.ID, Place: m.Place})
				}
			}
		}
		if diff := cmp.Diff([][]domain.MessageAt{{at(worn), at(lost)}, {at(done)}}, [][]domain.MessageAt{moved, deleted}); diff != "" {
			t.Errorf("%s: moved and deleted (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(test.fails, fails); diff != "" {
			t.Errorf("%s: failed (-want +got):\n%s", name, diff)
		}
	}
}

func TestTaskNotices(t *testing.T) {
	told := once
	told.EventsQueue = true
	before := func(domain.TaskID) domain.Task { return domain.Task{} }
	first := taskCreated
	other := taskCreated
	other.ID, other.Project = uuid.New(), "p2"
	events := []domain.Event{first, domain.MessagesPosted{Project: "service", Queue: "tasks.import"}, other, taskBegun, taskSucceeded}
	none, err := once.Notices(events, before, domain.Moment{Time: noon})
	if err != nil || len(none) > 0 {
		t.Errorf("told without being asked: %v, %v", none, err)
	}
	notices, err := told.Notices(events, before, domain.Moment{Time: noon})
	if err != nil || len(notices) != 2 || notices[0].Owner != "p1" || len(notices[0].Messages) != 3 || notices[1].Owner != "p2" {
		t.Fatalf("%+v, %v", notices, err)
	}
	want := `{"event_type":"task.success","payload":{"id":"bfd7115e-756c-4db1-92df-24a3f9935a1d","type":"import","status":"success",` +
		`"owner":"p1","created_at":"2026-03-01T12:00:00Z","updated_at":"2026-03-01T12:00:00Z","expires_at":"2026-03-03T12:00:00Z","message":"","request_id":"req-1"}}`
	if got := notices[0].Messages[2].Body; got != want {
		t.Errorf("told %s\nwant %s", got, want)
	}
	failed := domain.TaskFailed{Project: "p1", ID: taskID, Cause: domain.TaskReported, Message: "too large"}
	why, err := told.Notices([]domain.Event{failed}, func(domain.TaskID) domain.Task { return taskAfter(taskCreated, taskBegun) },
		domain.Moment{Time: noon})
	if err != nil || len(why) != 1 || !strings.Contains(why[0].Messages[0].Body, `"message":"too large","request_id":"req-1"`) {
		t.Errorf("%+v, %v", why, err)
	}
	gone, err := told.Notices([]domain.Event{domain.TaskExpired{Project: "p1", ID: taskID}},
		func(domain.TaskID) domain.Task { return taskAfter(taskCreated, taskBegun, taskSucceeded) }, domain.Moment{Time: twoDays})
	if err != nil || len(gone) != 1 || gone[0].Owner != "p1" {
		t.Fatalf("%+v, %v", gone, err)
	}
	posted, err := gone[0].Post(queueAfter(created(t, `{}`)), limits, domain.Moment{Position: 9, Time: noon})
	if err != nil || len(posted) != 1 || posted[0].Stream() != "queue/p1/tasks.events" {
		t.Errorf("%v, %v", posted, err)
	}
}
