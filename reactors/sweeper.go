// Package reactors holds what happens because of an event, after its commit: what
// leaves the house, and the sweeper. It must never write a table: what a reactor has
// to record, it asks for by a command. A reactor is not called by a replay.
package reactors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	// Clock is the time by which looks go.
	Clock(ctx context.Context) (time.Time, error)
	// Sweepable lists queues that have something to sweep.
	Sweepable(ctx context.Context, look projections.SweepLook[int64]) ([]projections.SweepableQueue, error)
	// ExpiredSubscriptions lists subscriptions that have expired.
	ExpiredSubscriptions(ctx context.Context, look projections.SweepLook[domain.QueueID]) (
		map[domain.QueueID][]domain.SubscriptionID, error)
	// DueTasks lists tasks that are past their deadline or have expired, by their owners.
	DueTasks(ctx context.Context, look projections.SweepLook[string]) (map[string][]domain.TaskID, error)
	// LostTasks looks for tasks in processing whose worker's claim is over: the messages that
	// hand them out, by queue. It looks at what has ended since the last look.
	LostTasks(ctx context.Context, rules domain.TaskRules, last projections.TaskLook) (
		map[domain.QueueID][]domain.MessageID, projections.TaskLook, error)
	// ExpiredUserMessages lists user messages that are not guaranteed any more, by their
	// projects.
	ExpiredUserMessages(ctx context.Context, look projections.SweepLook[string]) (map[string][]domain.UserMessageID, error)
	// LatelyPosted counts the messages in the last of the posts, by queue.
	LatelyPosted(ctx context.Context) (map[domain.QueueID]int, error)
	// QueueNumber is the number of the queue that bears a name now; 0: none does.
	QueueNumber(ctx context.Context, id domain.QueueID) (int64, error)
}

// The sweeper's pace.
const (
	sweepEvery = 2 * time.Second // between looks for what time has ended
	sweepBatch = 100             // queues, or tasks and the like, of one look
	// sweepRest is how many times as long as a sweep took the sweeper rests after it, so
	// that others get most of the ledger's lock however much there is to sweep.
	sweepRest = 3
	// maxSweepFailures is how many sweeps of one kind may fail before the rest of that kind waits
	// for the next sweep: it would hardly fare better.
	maxSweepFailures = 10
	// maxSweepBackoff is for how long at most something is left alone whose sweep has failed again
	// and again: a sweep that fails may hold the ledger's lock for seconds.
	maxSweepBackoff = time.Minute
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
	// Backoff is for how long something is left alone whose sweep has failed; from the second time on
	// twice as long as before, up to a minute.
	Backoff time.Duration
	// Pass is how long a pass goes on beginning rounds.
	Pass time.Duration

	lost         lostRound
	queues       kind[int64]
	subscribed   kind[domain.QueueID]
	owners       kind[string]
	userMessages kind[string]
	reaped       time.Time // when user messages last were
	tasks        projections.TaskLook
	wake         chan struct{}

	mu     sync.Mutex
	posted map[domain.QueueID]int // since the queue's count was moved on
	looked bool                   // at what was posted before this sweeper was there
}

// NewSweeper makes a sweeper. Run sweeps.
func NewSweeper(executor *commands.Executor, views Sweepables, log *slog.Logger) *Sweeper {
	s := &Sweeper{
		Executor: executor, Views: views, Log: log, ReapUserMessages: executor.UserMessages.ReapInterval, Backoff: sweepEvery, Pass: sweepEvery,
		wake: make(chan struct{}, 1), posted: map[domain.QueueID]int{},
	}
	s.queues.look, s.subscribed.look, s.owners.look, s.userMessages.look = s.lookAtQueues, s.lookAtSubscriptions, s.lookAtTasks, s.lookAtUserMessages
	return s
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
		more, err := s.pass(ctx)
		if err != nil && ctx.Err() == nil {
			s.Log.Warn("not all could be swept", "error", err)
		}
		if more {
			continue
		}
		select {
		case <-s.wake:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Sweep sweeps what has ended by now, and returns when nothing of that is left but what cannot be swept,
// and why. That waits for another sweep; nothing else waits for it.
func (s *Sweeper) Sweep(ctx context.Context) error {
	var failures []error
	for {
		more, err := s.pass(ctx)
		if failures = append(failures, err); !more {
			return errors.Join(failures...)
		}
	}
}

// pass sweeps what has ended by its beginning, a look of each kind in turn, for about as long as a
// sweeper waits between two sweeps. There may be more, but whatever ends meanwhile, and what clients
// delete and purge all the while, is for another pass, and none of it has anything else wait for long.
func (s *Sweeper) pass(ctx context.Context) (more bool, err error) {
	by, err := s.Views.Clock(ctx)
	if err != nil {
		return false, err
	}
	rounds := []rounder{&s.lost, &s.queues, &s.subscribed, &s.owners, &countRound{}}
	reaps := s.reaped.IsZero() || time.Since(s.reaped) >= s.ReapUserMessages
	if reaps {
		rounds = append(rounds, &s.userMessages)
	}
	for _, r := range rounds {
		r.begin()
	}
	began := time.Now()
	for first := true; first || more && time.Since(began) < s.Pass; first = false {
		more = false
		for _, r := range rounds {
			more = r.round(ctx, s, by) || more
		}
	}
	failures := make([]error, len(rounds))
	for i, r := range rounds {
		failures[i] = r.failed()
	}
	if reaps && s.userMessages.over && s.userMessages.failed() == nil {
		s.reaped = time.Now()
	}
	return more && ctx.Err() == nil, errors.Join(failures...)
}

// lookAtQueues finds queues with rows that nobody can see any more.
func (s *Sweeper) lookAtQueues(ctx context.Context, look projections.SweepLook[int64]) (all []sweepable[int64], err error) {
	queues, err := s.Views.Sweepable(ctx, look)
	for _, q := range queues {
		all = append(all, queueSweep(q.Queue, q.Number))
	}
	return all, err
}

// lookAtUserMessages finds user messages that are not guaranteed any more. Until they are taken away
// they are there for clients.
func (s *Sweeper) lookAtUserMessages(ctx context.Context, look projections.SweepLook[string]) (all []sweepable[string], err error) {
	expired, err := s.Views.ExpiredUserMessages(ctx, look)
	for project, ids := range expired {
		cmd := commands.SweepUserMessages{Project: project, IDs: ids}
		all = append(all, sweepable[string]{key: project, what: "user messages", project: project, cmd: cmd})
	}
	return all, err
}

// lookAtSubscriptions finds subscriptions that have expired.
func (s *Sweeper) lookAtSubscriptions(ctx context.Context, look projections.SweepLook[domain.QueueID]) (
	all []sweepable[domain.QueueID], err error,
) {
	queues, err := s.Views.ExpiredSubscriptions(ctx, look)
	for queue, ids := range queues {
		cmd := commands.SweepSubscriptions{Queue: queue, IDs: ids}
		all = append(all, sweepable[domain.QueueID]{key: queue, what: "subscriptions to " + queue.Name, project: queue.Project, cmd: cmd})
	}
	return all, err
}

// lookAtTasks finds tasks that are past their deadline, which fail, and that have expired. Until the
// sweeper has come by, a task that is past its deadline may still be reported on.
func (s *Sweeper) lookAtTasks(ctx context.Context, look projections.SweepLook[string]) (all []sweepable[string], err error) {
	due, err := s.Views.DueTasks(ctx, look)
	for owner, ids := range due {
		cmd := commands.SweepTasks{IDs: ids, Rules: s.Executor.Tasks}
		all = append(all, sweepable[string]{key: owner, what: "tasks", project: owner, cmd: cmd})
	}
	return all, err
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
