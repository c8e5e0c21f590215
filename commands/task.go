package commands

import (
	"context"
	"slices"

	"nabu/domain"
	"nabu/eventstore"
)

// CreateTask asks for a task, and for the message that hands it out to a worker. The answer
// is the task as it was made.
type CreateTask struct {
	Task  domain.NewTask
	Rules domain.TaskRules
}

// Needs: the queue that hands it out.
func (c CreateTask) Needs() Needs {
	needs := Needs{Tells: &c.Rules, Owner: c.Task.Owner, Rank: Adds, Size: 3*rowSize + 2*len(c.Task.Input)}
	if _, known := c.Rules.Types[c.Task.Type]; known {
		needs.Queue = c.Rules.HandOut(c.Task.Type)
	}
	return needs
}

// Decide makes the task. It is pending in the answer, also if it has failed by then because
// its input lacks something.
func (c CreateTask) Decide(s *State, at domain.Moment) (made domain.Task, events []domain.Event, err error) {
	queue := c.Rules.HandOut(c.Task.Type)
	events, err = s.Queue(queue).CreateTask(c.Task, c.Rules, s.Limits, at)
	if err != nil {
		return made, nil, err
	}
	if err := s.sealLast(queue, events); err != nil {
		return made, nil, err
	}
	made.Apply(at.Time, events[0])
	return made, s.tell(c.Rules, events, at), nil
}

// ReportTask brings what a worker says of a task. The answer is the task afterwards.
type ReportTask struct {
	ID     domain.TaskID
	Report domain.TaskReport
	Rules  domain.TaskRules
}

// Needs: the task.
func (c ReportTask) Needs() Needs {
	return Needs{
		Tasks: []domain.TaskID{c.ID}, Tells: &c.Rules, Rank: Adds,
		Size: 2*rowSize + len(c.Report.Message) + len(c.Report.Result),
	}
}

// Decide records the report if the task's status allows it.
func (c ReportTask) Decide(s *State, at domain.Moment) (task domain.Task, events []domain.Event, err error) {
	if task = s.Task(c.ID); !task.Exists() {
		task.ID = c.ID // to be named in the refusal
	}
	if events, err = task.Report(c.Report, c.Rules, at.Time); err != nil {
		return task, nil, err
	}
	for _, e := range events {
		task.Apply(at.Time, e)
	}
	return task, s.tell(c.Rules, events, at), nil
}

// SweepTasks asks for what time alone has made of tasks: those past their deadline fail, and
// those that have expired go. The answer tells whether there were some.
type SweepTasks struct {
	IDs   []domain.TaskID
	Rules domain.TaskRules
}

// Needs: the tasks.
func (c SweepTasks) Needs() Needs {
	return Needs{Tasks: c.IDs, Tells: &c.Rules, Rank: Frees, Size: 3 * rowSize * len(c.IDs)}
}

// Decide sweeps those that it is time for.
func (c SweepTasks) Decide(s *State, at domain.Moment) (swept bool, events []domain.Event, err error) {
	for _, id := range c.IDs {
		events = append(events, s.Task(id).Sweep(c.Rules, at.Time)...)
	}
	return len(events) > 0, s.tell(c.Rules, events, at), nil
}

// tasking is what a batch knows of tasks.
type tasking struct {
	rules domain.TaskRules // of those that claims and pops hand out
	tasks map[domain.TaskID]eventstore.Versioned[domain.Task]
	// handed are tasks by the message that hands them out.
	handed map[domain.MessageID]domain.TaskID
	// posts are queues that decisions about tasks may post to.
	posts []domain.QueueID
}

// Task is the task as it stands now, which may have expired, or the zero value when it is
// not there.
func (s *State) Task(id domain.TaskID) domain.Task { return s.tasks[id].State }

// recordTask overlays the tasks with an event and gives the event its version.
func (s *State) recordTask(id domain.TaskID, e domain.Event) (version int64) {
	its := s.tasks[id]
	its.Version++
	its.State.Apply(s.now, e)
	s.putTask(id, its)
	return its.Version
}

func (s *State) putTask(id domain.TaskID, its eventstore.Versioned[domain.Task]) {
	if s.tasks == nil {
		s.tasks = map[domain.TaskID]eventstore.Versioned[domain.Task]{}
		s.handed = map[domain.MessageID]domain.TaskID{}
	}
	s.tasks[id] = its
	if its.State.Handed != (domain.MessageID{}) {
		s.handed[its.State.Handed] = id
	}
}

// handsOut tells whether a command takes messages that hand tasks out.
func (s *State) handsOut(n *Needs) bool { return n.Free > 0 && s.rules.HandsOut(n.Queue) }

// loadTasks fills the state with the tasks that the commands are about, those of the free
// messages that may be handed out, and the queues that changes of them are posted to.
// Batches that are not about tasks pay nothing for it.
func (e *Executor) loadTasks(ctx context.Context, w *work) error {
	s := w.state
	var ids []domain.TaskID
	var handed []domain.MessageID
	var rules []*domain.TaskRules
	looked := map[domain.QueueID]bool(nil)
	for _, p := range w.commands {
		ids = append(ids, p.needs.Tasks...)
		if p.needs.Tells != nil {
			rules = append(rules, p.needs.Tells)
		}
		if !s.handsOut(&p.needs) || looked[p.needs.Queue] {
			continue
		}
		if looked == nil {
			looked = map[domain.QueueID]bool{}
		}
		looked[p.needs.Queue] = true
		rules = append(rules, &s.rules)
		for _, m := range s.Free(p.needs.Queue) {
			if m.Client == domain.HandOutClient {
				handed = append(handed, m.ID)
			}
		}
	}
	if len(ids)+len(handed) > 0 {
		found, err := e.Loader.Tasks(ctx, e.conn, ids, handed)
		if err != nil {
			return err
		}
		for id, its := range found {
			s.putTask(id, its)
		}
	}
	if len(rules) == 0 {
		return nil
	}
	return e.loadTaskQueues(ctx, w, rules)
}

// loadTaskQueues loads the queues that are told of changes, if the rules want that of some.
func (e *Executor) loadTaskQueues(ctx context.Context, w *work, rules []*domain.TaskRules) error {
	var queues []domain.QueueID
	if slices.ContainsFunc(rules, func(r *domain.TaskRules) bool { return r.EventsQueue }) {
		for _, its := range w.state.tasks {
			queues = append(queues, domain.TaskEvents(its.State.Owner))
		}
		for _, p := range w.commands {
			if p.needs.Owner != "" {
				queues = append(queues, domain.TaskEvents(p.needs.Owner))
			}
		}
	}
	slices.SortFunc(queues, domain.QueueID.Compare)
	queues = slices.Compact(queues)
	if err := e.loadQueues(ctx, w, queues); err != nil {
		return err
	}
	for _, p := range w.commands {
		if p.needs.Owner != "" {
			queues = append(queues, p.needs.Queue)
		}
	}
	w.state.posts = queues
	return nil
}

// sealLast seals the messages that were posted last, if their queue encrypts.
func (s *State) sealLast(queue domain.QueueID, events []domain.Event) error {
	last := len(events) - 1
	posted, isPost := events[last].(domain.MessagesPosted)
	if !isPost || !s.Queue(queue).Encrypts() {
		return nil
	}
	posted, err := s.seal(queue, posted)
	if err != nil {
		return err
	}
	events[last] = posted
	return nil
}

// tell adds to what was decided about tasks the messages that tell their owners, if the
// rules want that. What cannot be told, because the owner's queue takes no such message, is
// not: nobody else is to wait for that.
func (s *State) tell(rules domain.TaskRules, events []domain.Event, at domain.Moment) []domain.Event {
	notices, err := rules.Notices(events, s.Task, at)
	if err != nil {
		return events
	}
	for _, its := range notices {
		queue := domain.TaskEvents(its.Owner)
		q := s.Queue(queue)
		for i, e := range events { // it may be made in this very decision
			if created, isNew := e.(domain.QueueCreated); isNew && created.Project == queue.Project && created.Name == queue.Name {
				q.Apply(at.Position+int64(i), e)
			}
		}
		posted, err := its.Post(q, s.Limits, domain.Moment{Position: at.Position + int64(len(events)), Time: at.Time})
		if err == nil && s.sealLast(queue, posted) == nil {
			events = append(events, posted...)
		}
	}
	return events
}
