package commands_test

import (
	"cmp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
)

// TestWhatIsDoneForATask: whatever becomes of a task, by whomever, is found by the request that
// made it, under the request's own id and the one that its caller brought along. What else such
// a command does stays that of its own request.
func TestWhatIsDoneForATask(t *testing.T) {
	for name, global := range map[string]string{"a request": "", "a request with a global id": "req-global"} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			rules := taskRules(2, true)
			now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
			e := h.executor(nil, worksWith(rules), func(cfg *commands.Config) {
				cfg.Now = func() time.Time { return now }
				cfg.UserMessages = domain.DefaultUserMessageRules()
				cfg.UserMessages.TaskFailures = true
			})
			does := taskStory{house: h, e: e}
			its := createTask(rules)
			its.Task.RequestID = "req-made"
			made := does.by(its, domain.Origin{RequestID: "req-made", GlobalRequestID: global}).(domain.Task)
			worker := domain.Origin{RequestID: "req-works", GlobalRequestID: "req-made"}
			sweep := commands.SweepLostTasks{Queue: handOut, Messages: []domain.MessageID{made.Handed}, Rules: rules}
			does.by(claimTasks(handOut, 1), domain.Origin{RequestID: "req-claims"})
			does.by(says(made.ID, "begin", "w1", "", rules), worker)
			now = now.Add(time.Hour)
			does.by(sweep, domain.Origin{})
			does.by(claimTasks(handOut, 1), domain.Origin{RequestID: "req-claims"})
			does.by(says(made.ID, "begin", "w2", "", rules), domain.Origin{RequestID: "req-works-unsaid"})
			now = now.Add(time.Hour)
			other := createTask(rules)
			other.Task.RequestID = "req-other"
			does.by(other, domain.Origin{RequestID: "req-other"})
			before := h.head()
			does.by(claimTasks(handOut, 1), domain.Origin{RequestID: "req-claims"})
			h.expectKinds(before, "messages.claimed", "messages.deleted", "task.failed", "user-message.recorded", "messages.posted")
			now = now.Add(49 * time.Hour)
			does.by(commands.SweepTasks{IDs: []domain.TaskID{made.ID}, Rules: rules}, domain.Origin{})

			does.expect(made, global)
		})
	}
}

// taskStory is a history of commands that come from several requests.
type taskStory struct {
	*house
	e *commands.Executor
}

// by runs a command that comes from somewhere.
func (s taskStory) by(cmd any, o domain.Origin) (result any) {
	s.Helper()
	o.Project, o.CorrelationID = "p1", cmp.Or(o.GlobalRequestID, o.RequestID)
	ctx := commands.WithRequest(s.Context(), commands.Request{Origin: o})
	var err error
	switch cmd := cmd.(type) {
	case commands.CreateTask:
		result, err = commands.Run(ctx, s.e, cmd)
	case commands.ReportTask:
		result, err = commands.Run(ctx, s.e, cmd)
	case commands.ClaimMessages:
		result, err = commands.Run(ctx, s.e, cmd)
	case commands.SweepLostTasks:
		result, err = commands.Run(ctx, s.e, cmd)
	case commands.SweepTasks:
		result, err = commands.Run(ctx, s.e, cmd)
	default:
		s.Fatalf("%T is no command of these", cmd)
	}
	if err != nil {
		s.Fatalf("%T: %v", cmd, err)
	}
	return result
}

// expect looks at all that was recorded: which of it is the task's, and why.
func (s taskStory) expect(made domain.Task, global string) {
	s.Helper()
	var told []string
	var last, created eventstore.RecordedEvent
	for _, e := range s.history() {
		o, kind := e.Origin, strings.TrimSuffix(e.Event.EventType(), ".v1")
		id, isTask := domain.TaskOfStream(e.Event.Stream())
		posted, _ := e.Event.(domain.MessagesPosted)
		switch {
		case isTask && id != made.ID, o.RequestID == "req-other":
			continue // the other's
		case isTask, kind == "user-message.recorded", posted.Queue == ownEvents.Name:
			told = append(told, kind)
		default: // the handing out is done for who asks for it
			if o.RequestID == "" || o.CorrelationID != cmp.Or(o.GlobalRequestID, o.RequestID) {
				s.Errorf("%s is of %+v", kind, o)
			}
			continue
		}
		if o.CorrelationID != cmp.Or(global, "req-made") || o.RequestID != "req-made" && o.GlobalRequestID != "req-made" && global != "" {
			s.Errorf("%s is of %+v", kind, o)
		}
		because := uuid.Nil
		switch {
		case kind == "task.created":
			created = e
		case kind == "task.requeued", kind == "task.failed", kind == "task.expired":
			because = created.ID
		case !isTask:
			because = last.ID
		}
		if o.CausationID != because {
			s.Errorf("%s is because of %s, want %s", kind, o.CausationID, because)
		}
		if isTask {
			last = e
		}
	}
	if want := []string{
		"task.created", "messages.posted", "task.begun", "messages.posted", "task.requeued", "messages.posted", "task.begun", "messages.posted",
		"task.failed", "user-message.recorded", "messages.posted", "task.expired", "messages.posted",
	}; !slices.Equal(told, want) {
		s.Errorf("the task's are %v, want %v", told, want)
	}
}
