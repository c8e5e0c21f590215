package commands

import (
	"context"
	"slices"

	"github.com/google/uuid"

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
	if err := s.sealPosts(events); err != nil {
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
		return task, nil, domain.NoTask(c.ID)
	}
	task.MadeBy, task.Correlation = uuid.Nil, "" // the answer is the task as a view shows it
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
	return Needs{Tasks: c.IDs, Tells: &c.Rules, Housework: true, Rank: Frees, Size: 3 * rowSize * len(c.IDs)}
}

// Decide sweeps those that it is time for.
func (c SweepTasks) Decide(s *State, at domain.Moment) (swept bool, events []domain.Event, err error) {
	for _, id := range c.IDs {
		events = append(events, s.Task(id).Sweep(c.Rules, at.Time)...)
	}
	return len(events) > 0, s.tell(c.Rules, events, at), nil
}

// SweepLostTasks asks for what the end of claims has made of tasks in processing: their worker
// is lost, also if nobody claims any more. The answer tells whether there were some.
type SweepLostTasks struct {
	Queue    domain.QueueID     // that hands them out
	Messages []domain.MessageID // that do
	Rules    domain.TaskRules
}

// Needs: the messages, and by them the tasks.
func (c SweepLostTasks) Needs() Needs {
	return Needs{
		Queue: c.Queue, Messages: c.Messages, Tells: &c.Rules,
		Housework: true, Rank: Frees, Size: 3 * rowSize * len(c.Messages),
	}
}

// Decide does as a claim would that finds those of the messages that nobody holds.
func (c SweepLostTasks) Decide(s *State, at domain.Moment) (swept bool, events []domain.Event, err error) {
	var free []domain.Message
	for _, id := range c.Messages {
		if m := s.Message(c.Queue, id); m != nil && m.Holder(at.Time) == (domain.ClaimID{}) {
			free = append(free, *m)
		}
	}
	events = s.Queue(c.Queue).LoseTasks(c.Queue, free, s.taskOf, c.Rules, at.Time)
	return len(events) > 0, s.tell(c.Rules, events, at), nil
}

// tasking is what a batch knows of tasks.
type tasking struct {
	rules domain.TaskRules // of those that claims and pops hand out
	tasks map[domain.TaskID]eventstore.Versioned[domain.Task]
	// handed are tasks by the message that hands them out; zero: there is none any more.
	handed map[domain.MessageID]domain.TaskID
	// posts are queues that decisions about tasks may post to.
	posts []domain.QueueID
	// unfinished are queues of which a claim or a pop got less than it wanted because it
	// dropped messages, and there may be more.
	unfinished []domain.QueueID
}

// handOutSpare is how many messages are loaded of a queue that hands tasks out besides those
// that are wanted, in case that some of them are dropped.
const handOutSpare = 100

// Task is the task as it stands now, which may have expired, or the zero value when it is
// not there.
func (s *State) Task(id domain.TaskID) domain.Task { return s.tasks[id].State }

// originOf is where an event comes from that was decided on a request from o.
func (s *State) originOf(e domain.Event, o domain.Origin) domain.Origin {
	if len(s.tasks) == 0 {
		return o
	}
	if id, isTask := domain.TaskOfStream(e.Stream()); isTask {
		return s.Task(id).Origin(o, e)
	}
	return o
}

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

// taskOf is the task that a message hands out, as far as it was looked for.
func (s *State) taskOf(message domain.MessageID) (t domain.Task, known bool) {
	id, known := s.handed[message]
	return s.Task(id), known
}

// handedOut adds to what a claim or a pop has decided what the owners of tasks are told.
func (s *State) handedOut(queue domain.QueueID, events []domain.Event, short bool, at domain.Moment) []domain.Event {
	if free := s.free(queue); short && free != nil && free.Beyond > 0 {
		s.unfinished = append(s.unfinished, queue)
	}
	return s.tell(s.rules, events, at)
}

// loadTasks fills the state with the tasks that the commands are about, those of messages
// that may be handed out, and the queues that changes of them are posted to. Batches that
// are not about tasks pay nothing for it.
func (e *Executor) loadTasks(ctx context.Context, w *work) error {
	s := w.state
	var ids []domain.TaskID
	var rules []*domain.TaskRules
	var handsOut []domain.QueueID
	for _, p := range w.commands {
		ids = append(ids, p.needs.Tasks...)
		if p.needs.Tells != nil {
			rules = append(rules, p.needs.Tells)
		}
		if p.needs.Free > 0 && s.rules.HandsOut(p.needs.Queue) && !slices.Contains(handsOut, p.needs.Queue) {
			handsOut = append(handsOut, p.needs.Queue)
		}
	}
	handed := append(w.handing(), s.mayBeHanded(handsOut)...)
	if len(ids)+len(handed) > 0 {
		found, err := e.Loader.Tasks(ctx, e.conn, ids, handed)
		if err != nil {
			return err
		}
		s.takeTasks(found, handed)
	}
	if len(handsOut) > 0 {
		rules = append(rules, &s.rules)
	}
	if len(rules) == 0 {
		return nil
	}
	return e.loadTaskQueues(ctx, w, rules)
}

// handing are messages whose tasks commands of the batch are about.
func (w *work) handing() (handed []domain.MessageID) {
	for _, p := range w.commands {
		if p.needs.Tells != nil {
			handed = append(handed, p.needs.Messages...)
		}
	}
	return handed
}

// mayBeHanded are the messages that commands of the batch may take out of queues that hand
// tasks out: those that are free, and those of claims that may be given up before.
func (s *State) mayBeHanded(queues []domain.QueueID) (handed []domain.MessageID) {
	for _, queue := range queues {
		for _, m := range s.Free(queue) {
			handed = append(handed, m.ID)
		}
		for ref, claim := range s.claims {
			if ref.Queue != queue {
				continue
			}
			for _, m := range claim.Messages {
				handed = append(handed, m.ID)
			}
		}
	}
	return handed
}

// takeTasks puts in tasks that were loaded, and which of the messages hand none out.
func (s *State) takeTasks(found map[domain.TaskID]eventstore.Versioned[domain.Task], handed []domain.MessageID) {
	if s.tasks == nil {
		s.tasks = make(map[domain.TaskID]eventstore.Versioned[domain.Task], len(found))
		s.handed = make(map[domain.MessageID]domain.TaskID, len(handed))
	}
	for _, message := range handed {
		s.handed[message] = domain.TaskID{}
	}
	for id, its := range found {
		s.putTask(id, its)
	}
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

// tell adds to what was decided about tasks the messages that tell their owners, in queues
// and as user messages, if the rules want that. What cannot be told, because the owner's
// queue takes no such message, is not: nobody else is to wait for that.
func (s *State) tell(rules domain.TaskRules, events []domain.Event, at domain.Moment) []domain.Event {
	events = append(events, s.userRules.Failures(events, s.Task, func(ref domain.UserMessageRef) domain.UserMessage {
		return s.UserMessage(ref)
	}, at)...)
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
		if err == nil && s.sealPosts(posted) == nil {
			events = append(events, posted...)
		}
	}
	return events
}
