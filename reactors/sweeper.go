// Package reactors holds what happens because of an event, after its commit: what
// leaves the house, and the sweeper. It must never write a table: what a reactor has
// to record, it asks for by a command. A reactor is not called by a replay.
package reactors

import (
	"context"
	"fmt"
	"log/slog"
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
	// countEvery is how many messages are posted to a queue before the sweeper lets its
	// count be moved on.
	countEvery = 1000
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
	if _, ok := eventstore.SliceOf(msg); !ok {
		return fmt.Errorf("message %s carries no slice of the ledger", msg.UUID)
	}
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
	return nil
}

// Posted tells the sweeper how many messages were posted, by queue. What another replica
// posts is its own sweeper's business.
func (s *Sweeper) Posted(counts map[domain.QueueID]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for queue, n := range counts {
		s.posted[queue] += n
	}
}

// Run sweeps until ctx ends.
func (s *Sweeper) Run(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.Log.Warn("the sweep was interrupted", "error", err)
		}
		select {
		case <-s.wake:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Sweep sweeps what there is now, and returns when there is nothing left.
func (s *Sweeper) Sweep(ctx context.Context) error {
	if err := s.sweepLostTasks(ctx); err != nil { // before the claims are swept that tell of them
		return err
	}
	for again := true; again; {
		queues, err := s.Views.Sweepable(ctx, sweepBatch)
		if err != nil {
			return err
		}
		again = false
		for _, q := range queues {
			swept, err := s.sweep(ctx, q.Queue.Project, commands.SweepQueue{Queue: q.Queue, Number: q.Number})
			if err != nil {
				return err
			}
			again = again || swept
		}
	}
	if err := s.sweepSubscriptions(ctx); err != nil {
		return err
	}
	if err := s.sweepTasks(ctx); err != nil {
		return err
	}
	if err := s.reapUserMessages(ctx); err != nil {
		return err
	}
	return s.count(ctx)
}

// reapUserMessages takes user messages away that are not guaranteed any more, when it is
// time for that. Until it has come by they are there for clients.
func (s *Sweeper) reapUserMessages(ctx context.Context) error {
	if !s.reaped.IsZero() && time.Since(s.reaped) < s.ReapUserMessages {
		return nil
	}
	for again := true; again; {
		expired, err := s.Views.ExpiredUserMessages(ctx, sweepBatch)
		if err != nil {
			return err
		}
		again = false
		for project, ids := range expired {
			swept, err := s.sweep(ctx, project, commands.SweepUserMessages{Project: project, IDs: ids})
			if err != nil {
				return err
			}
			again = again || swept
		}
	}
	s.reaped = time.Now()
	return nil
}

// sweepSubscriptions takes subscriptions away that have expired.
func (s *Sweeper) sweepSubscriptions(ctx context.Context) error {
	for again := true; again; {
		queues, err := s.Views.ExpiredSubscriptions(ctx, sweepBatch)
		if err != nil {
			return err
		}
		again = false
		for queue, ids := range queues {
			swept, err := s.sweep(ctx, queue.Project, commands.SweepSubscriptions{Queue: queue, IDs: ids})
			if err != nil {
				return err
			}
			again = again || swept
		}
	}
	return nil
}

// sweepTasks lets tasks fail that are past their deadline, and takes those away that have
// expired. Until it has come by, a task that is past its deadline may still be reported on.
func (s *Sweeper) sweepTasks(ctx context.Context) error {
	for again := true; again; {
		due, err := s.Views.DueTasks(ctx, sweepBatch)
		if err != nil {
			return err
		}
		again = false
		for owner, ids := range due {
			swept, err := s.sweep(ctx, owner, commands.SweepTasks{IDs: ids, Rules: s.Executor.Tasks})
			if err != nil {
				return err
			}
			again = again || swept
		}
	}
	return nil
}

// sweepLostTasks lets tasks be pending again, or fail, whose worker has let its claim end. What
// it has seen it does not look at again, so it goes on only when all of it was swept.
func (s *Sweeper) sweepLostTasks(ctx context.Context) error {
	lost, look, err := s.Views.LostTasks(ctx, s.Executor.Tasks, s.tasks)
	if err != nil {
		return err
	}
	for queue, messages := range lost {
		for some := range slices.Chunk(messages, sweepBatch) {
			cmd := commands.SweepLostTasks{Queue: queue, Messages: some, Rules: s.Executor.Tasks}
			if _, err := s.sweep(ctx, queue.Project, cmd); err != nil {
				return err
			}
		}
	}
	s.tasks = look
	return nil
}

// sweep sweeps something of a project, and tells whether there was something to sweep.
func (s *Sweeper) sweep(ctx context.Context, project string, cmd commands.Command[bool]) (swept bool, err error) {
	began := time.Now()
	request := commands.WithRequest(ctx, commands.Request{Origin: domain.Origin{Project: project}})
	if swept, err = commands.Run(request, s.Executor, cmd); err != nil {
		return false, fmt.Errorf("sweep project %s by %T: %w", project, cmd, err)
	}
	rest := time.NewTimer(min(sweepRest*time.Since(began), sweepEvery))
	defer rest.Stop()
	select {
	case <-rest.C:
		return swept, nil
	case <-ctx.Done():
		return swept, ctx.Err()
	}
}

// count moves on the counts of queues that have grown.
func (s *Sweeper) count(ctx context.Context) error {
	if !s.looked {
		lately, err := s.Views.LatelyPosted(ctx)
		if err != nil {
			return err
		}
		s.postedBefore(lately)
		s.looked = true
	}
	for _, queue := range s.grown() {
		number, err := s.Views.QueueNumber(ctx, queue)
		if err != nil {
			return err
		}
		for swept := number > 0; swept; {
			if swept, err = s.sweep(ctx, queue.Project, commands.SweepQueue{Queue: queue, Number: number}); err != nil {
				return err
			}
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
}

// grown takes the queues that have grown by enough.
func (s *Sweeper) grown() (queues []domain.QueueID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for queue, n := range s.posted {
		if n >= countEvery {
			queues = append(queues, queue)
			delete(s.posted, queue)
		}
	}
	return queues
}
