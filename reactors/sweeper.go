// Package reactors holds what happens because of an event, after its commit: what
// leaves the house, and the sweeper. It must never write a table: what a reactor has
// to record, it asks for by a command. A reactor is not called by a replay.
package reactors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/projections"
)

// SweeperConsumer is the sweeper's name as a consumer of the feed.
const SweeperConsumer = "sweeper"

// SweeperTypes are the events that leave something to sweep at once. The rest ends by
// time alone, and is looked for.
var SweeperTypes = []string{domain.QueuePurged{}.EventType(), domain.QueueDeleted{}.EventType()}

// Sweepables tells what there is to sweep.
type Sweepables interface {
	// Sweepable lists queues that have something to sweep, at most so many.
	Sweepable(ctx context.Context, most int) ([]projections.SweepableQueue, error)
	// ExpiredSubscriptions lists subscriptions that have expired, at most so many.
	ExpiredSubscriptions(ctx context.Context, most int) (map[domain.QueueID][]domain.SubscriptionID, error)
	// DueTasks lists tasks that are past their deadline or have expired, by their owners, at
	// most so many.
	DueTasks(ctx context.Context, most int) (map[string][]domain.TaskID, error)
	// LostTasks looks for tasks in processing whose worker's claim is over: the messages that
	// hand them out, by queue. It looks at what has ended since the last look.
	LostTasks(ctx context.Context, rules domain.TaskRules, last projections.TaskLook) (
		map[domain.QueueID][]domain.MessageID, projections.TaskLook, error)
	// ExpiredUserMessages lists user messages that are not guaranteed any more, by their
	// projects, at most so many.
	ExpiredUserMessages(ctx context.Context, most int) (map[string][]domain.UserMessageID, error)
	// LatelyPosted counts the messages in the last of the posts, by queue.
	LatelyPosted(ctx context.Context) (map[domain.QueueID]int, error)
	// QueueNumber is the number of the queue that bears a name now; 0: none does.
	QueueNumber(ctx context.Context, id domain.QueueID) (int64, error)
}

// The sweeper's pace.
const (
	sweepEvery = 2 * time.Second // between looks for what time has ended
	sweepBatch = 100             // queues of one look
	// sweepRest is how many times as long as a sweep took the sweeper rests after it, so
	// that others get most of the ledger's lock however much there is to sweep.
	sweepRest = 3
	// maxSweepFailures is how many sweeps of one kind may fail before the rest of that kind waits
	// for the next look: it would hardly fare better.
	maxSweepFailures = 10
	// countEvery is how many messages are posted to a queue before the sweeper lets its
	// count be moved on.
	countEvery = 1000
	// maxPosted is how many queues it remembers to have got fewer. If there are more, some are
	// counted later, by the messages that they get from then on.
	maxPosted = 50_000
)

// Sweeper removes rows that nobody can see any more, keeps the counts near the ends of the
// queues, and sees to it that tasks end: those that are past their deadline fail, and those whose
// worker has let its claim end fail or are pending again. But for these, nothing but room
// and the cost of stats depends on it.
type Sweeper struct {
	Executor *commands.Executor
	Views    Sweepables
	Log      *slog.Logger
	// ReapUserMessages is how often user messages are taken away that are not guaranteed any
	// more; the first time is at once.
	ReapUserMessages time.Duration

	reaped time.Time // when they last were
	tasks  projections.TaskLook
	wake   chan struct{}

	mu     sync.Mutex
	posted map[domain.QueueID]int // since the queue's count was moved on
	looked bool                   // at what was posted before this sweeper was there
}

// NewSweeper makes a sweeper. Run sweeps.
func NewSweeper(executor *commands.Executor, views Sweepables, log *slog.Logger) *Sweeper {
	return &Sweeper{
		Executor: executor, Views: views, Log: log, ReapUserMessages: executor.UserMessages.ReapInterval,
		wake: make(chan struct{}, 1), posted: map[domain.QueueID]int{},
	}
}

// React is called with each slice of the events in SweeperTypes.
func (s *Sweeper) React(msg *message.Message) error {
	slice, ok := eventstore.SliceOf(msg)
	if !ok {
		return fmt.Errorf("message %s carries no slice of the ledger", msg.UUID)
	}
	s.forgetDeleted(slice.Events)
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
	return nil
}

// forgetDeleted forgets what was posted to queues that are gone. Should one have been made again,
// it is counted later.
func (s *Sweeper) forgetDeleted(events []eventstore.RecordedEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		if gone, ok := e.Event.(domain.QueueDeleted); ok {
			delete(s.posted, domain.QueueID{Project: gone.Project, Name: gone.Name})
		}
	}
}

// Posted tells the sweeper how many messages were posted, by queue. What another replica
// posts is its own sweeper's business.
func (s *Sweeper) Posted(counts map[domain.QueueID]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for queue, n := range counts {
		s.posted[queue] += n
	}
	s.boundPosted()
}

// boundPosted forgets some of what was posted if that is too much. Deleted queues may be among
// it: of the replicas one alone hears of deletions.
func (s *Sweeper) boundPosted() {
	for queue := range s.posted { // in no order: whatever comes first goes
		if len(s.posted) <= maxPosted {
			break
		}
		delete(s.posted, queue)
	}
}

// Run sweeps until ctx ends.
func (s *Sweeper) Run(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.Log.Warn("not all could be swept", "error", err)
		}
		select {
		case <-s.wake:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Sweep sweeps what there is now, and returns when there is nothing left but what cannot be swept,
// and why. That waits for the next sweep; nothing else waits for it.
func (s *Sweeper) Sweep(ctx context.Context) error {
	return errors.Join(
		s.sweepLostTasks(ctx), // before the claims are swept that tell of them
		s.sweepQueues(ctx),
		s.sweepSubscriptions(ctx),
		s.sweepTasks(ctx),
		s.reapUserMessages(ctx),
		s.count(ctx),
	)
}

// sweepQueues removes rows of queues that nobody can see any more.
func (s *Sweeper) sweepQueues(ctx context.Context) error {
	return s.sweepAll(ctx, func(most int) (all []sweepable, err error) {
		queues, err := s.Views.Sweepable(ctx, most)
		for _, q := range queues {
			all = append(all, queueSweep(q.Queue, q.Number))
		}
		return all, err
	})
}

// reapUserMessages takes user messages away that are not guaranteed any more, when it is
// time for that. Until it has come by they are there for clients.
func (s *Sweeper) reapUserMessages(ctx context.Context) error {
	if !s.reaped.IsZero() && time.Since(s.reaped) < s.ReapUserMessages {
		return nil
	}
	err := s.sweepAll(ctx, func(most int) (all []sweepable, err error) {
		expired, err := s.Views.ExpiredUserMessages(ctx, most)
		for project, ids := range expired {
			cmd := commands.SweepUserMessages{Project: project, IDs: ids}
			all = append(all, sweepable{what: "user messages", project: project, listed: len(ids), cmd: cmd})
		}
		return all, err
	})
	if err == nil {
		s.reaped = time.Now()
	}
	return err
}

// sweepSubscriptions takes subscriptions away that have expired.
func (s *Sweeper) sweepSubscriptions(ctx context.Context) error {
	return s.sweepAll(ctx, func(most int) (all []sweepable, err error) {
		queues, err := s.Views.ExpiredSubscriptions(ctx, most)
		for queue, ids := range queues {
			cmd := commands.SweepSubscriptions{Queue: queue, IDs: ids}
			all = append(all, sweepable{what: "subscriptions to " + queue.Name, project: queue.Project, listed: len(ids), cmd: cmd})
		}
		return all, err
	})
}

// sweepTasks lets tasks fail that are past their deadline, and takes those away that have
// expired. Until it has come by, a task that is past its deadline may still be reported on.
func (s *Sweeper) sweepTasks(ctx context.Context) error {
	return s.sweepAll(ctx, func(most int) (all []sweepable, err error) {
		due, err := s.Views.DueTasks(ctx, most)
		for owner, ids := range due {
			cmd := commands.SweepTasks{IDs: ids, Rules: s.Executor.Tasks}
			all = append(all, sweepable{what: "tasks", project: owner, listed: len(ids), cmd: cmd})
		}
		return all, err
	})
}

// sweepLostTasks lets tasks be pending again, or fail, whose worker has let its claim end. What
// it has seen it does not look at again, so it goes on only when all of it was swept.
func (s *Sweeper) sweepLostTasks(ctx context.Context) error {
	lost, look, err := s.Views.LostTasks(ctx, s.Executor.Tasks, s.tasks)
	if err != nil {
		return err
	}
	var failures []error
	for queue, messages := range lost {
		for some := range slices.Chunk(messages, sweepBatch) {
			cmd := commands.SweepLostTasks{Queue: queue, Messages: some, Rules: s.Executor.Tasks}
			if _, err := s.sweep(ctx, sweepable{what: "lost tasks of " + queue.Name, project: queue.Project, cmd: cmd}); err != nil {
				failures = append(failures, err)
			}
			if givesUp(ctx, failures) {
				return errors.Join(failures...)
			}
		}
	}
	if len(failures) == 0 {
		s.tasks = look
	}
	return errors.Join(failures...)
}

// sweepable is something of a project that can be swept by one command.
type sweepable struct {
	what    string // it is, in the project
	project string
	listed  int // how much a look was told of it
	cmd     commands.Command[bool]
}

func queueSweep(queue domain.QueueID, number int64) sweepable {
	return sweepable{
		what: fmt.Sprintf("queue %s, number %d", queue.Name, number), project: queue.Project, listed: 1,
		cmd: commands.SweepQueue{Queue: queue, Number: number},
	}
}

// sweepAll sweeps what looks find, at most so much in each, until there is nothing left but that
// whose sweep has failed. That is tried once, and looks find as much besides it.
func (s *Sweeper) sweepAll(ctx context.Context, look func(most int) ([]sweepable, error)) error {
	type whose struct{ project, what string }
	failed := map[whose]bool{}
	var failures []error
	stuck := 0 // was listed of what has failed
	for again := true; again; {
		found, err := look(sweepBatch + stuck)
		if err != nil {
			return errors.Join(append(failures, err)...)
		}
		// In no order: whatever fails is not in the way of the same others each time.
		rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
		again, stuck = false, 0
		for _, its := range found {
			key := whose{its.project, its.what}
			if failed[key] {
				stuck += its.listed
				continue
			}
			swept, err := s.sweep(ctx, its)
			if err != nil {
				failed[key], failures = true, append(failures, err)
				stuck += its.listed
			}
			if givesUp(ctx, failures) {
				return errors.Join(failures...)
			}
			again = again || swept || err != nil
		}
	}
	return errors.Join(failures...)
}

// givesUp tells whether to sweep no more of a kind after these failures.
func givesUp(ctx context.Context, failures []error) bool {
	return ctx.Err() != nil || len(failures) >= maxSweepFailures
}

// sweep sweeps something, and tells whether there was something to sweep. It rests after a failure
// as well: that may have held the ledger's lock for long.
func (s *Sweeper) sweep(ctx context.Context, its sweepable) (swept bool, err error) {
	began := time.Now()
	request := commands.WithRequest(ctx, commands.Request{Origin: domain.Origin{Project: its.project}})
	if swept, err = commands.Run(request, s.Executor, its.cmd); err != nil {
		err = fmt.Errorf("sweep %s of project %s: %w", its.what, its.project, err)
	}
	rest := time.NewTimer(min(sweepRest*time.Since(began), sweepEvery))
	defer rest.Stop()
	select {
	case <-rest.C:
		return swept, err
	case <-ctx.Done():
		return swept, errors.Join(err, ctx.Err())
	}
}

// count moves on the counts of queues that have grown.
func (s *Sweeper) count(ctx context.Context) error {
	var failures []error
	if !s.looked {
		lately, err := s.Views.LatelyPosted(ctx)
		if err != nil {
			failures = append(failures, err)
		} else {
			s.postedBefore(lately)
			s.looked = true
		}
	}
	for queue, n := range s.grown() {
		if err := s.countQueue(ctx, queue); err != nil {
			failures = append(failures, err)
		} else {
			s.counted(queue, n)
		}
		if givesUp(ctx, failures) {
			break
		}
	}
	return errors.Join(failures...)
}

func (s *Sweeper) countQueue(ctx context.Context, queue domain.QueueID) error {
	number, err := s.Views.QueueNumber(ctx, queue)
	if err != nil {
		return err
	}
	for swept := number > 0; swept; {
		if swept, err = s.sweep(ctx, queueSweep(queue, number)); err != nil {
			return err
		}
	}
	return nil
}

// postedBefore takes in what was posted up to now, some of which is known already.
func (s *Sweeper) postedBefore(counts map[domain.QueueID]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for queue, n := range counts {
		s.posted[queue] = max(s.posted[queue], n)
	}
	s.boundPosted()
}

// grown tells the queues that have grown by enough, and by how much.
func (s *Sweeper) grown() map[domain.QueueID]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	grown := map[domain.QueueID]int{}
	for queue, n := range s.posted {
		if n >= countEvery {
			grown[queue] = n
		}
	}
	return grown
}

// counted takes note that a queue's count was moved on over so many messages. What was posted
// meanwhile stays for the next time.
func (s *Sweeper) counted(queue domain.QueueID, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.posted[queue] -= n; s.posted[queue] <= 0 {
		delete(s.posted, queue)
	}
}
