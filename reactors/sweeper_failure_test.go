package reactors_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/projections"
	"nabu/reactors"
)

// strickenLoader fails for the sweeps of some queues.
type strickenLoader struct {
	commands.Loader

	mu       sync.Mutex
	stricken []int64
	tried    int
	project  string // whose user messages cannot be swept
	tasks    bool   // cannot be swept either
}

// strikeTasks tells how often sweeps of tasks have failed since the last strike.
func (l *strickenLoader) strikeTasks(stricken bool) (tried int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	tried, l.tried, l.tasks = l.tried, 0, stricken
	return tried
}

func (l *strickenLoader) Tasks(ctx context.Context, tx eventstore.Tx, ids []domain.TaskID, handed []domain.MessageID) (
	map[domain.TaskID]eventstore.Versioned[domain.Task], error,
) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tasks {
		l.tried++
		return nil, errStricken
	}
	return l.Loader.Tasks(ctx, tx, ids, handed)
}

var errStricken = errors.New("the rows of the queue are damaged")

func (l *strickenLoader) strike(numbers ...int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stricken, l.tried = numbers, 0
}

func (l *strickenLoader) Sweeps(ctx context.Context, tx eventstore.Tx, numbers []int64, at time.Time) (map[int64]domain.Sweepable, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.ContainsFunc(numbers, func(n int64) bool { return slices.Contains(l.stricken, n) }) {
		l.tried++
		return nil, errStricken
	}
	return l.Loader.Sweeps(ctx, tx, numbers, at)
}

func (l *strickenLoader) UserMessages(ctx context.Context, tx eventstore.Tx, refs []domain.UserMessageRef) (
	map[domain.UserMessageRef]eventstore.Versioned[domain.UserMessage], error,
) {
	if slices.ContainsFunc(refs, func(r domain.UserMessageRef) bool { return r.Project == l.project }) {
		return nil, errStricken
	}
	return l.Loader.UserMessages(ctx, tx, refs)
}

// newStrickenHouse is a house of whose queues some cannot be swept, once they are named.
func newStrickenHouse(t *testing.T) (*house, *strickenLoader) {
	l := &strickenLoader{Loader: projections.States{}}
	return newHouse(t, func(cfg *commands.Config) { cfg.Loader = l }), l
}

func (h *house) number(name string) int64 {
	h.Helper()
	number, err := h.views.QueueNumber(h.Context(), queue(name))
	if err != nil || number == 0 {
		h.Fatalf("queue %s has number %d, %v", name, number, err)
	}
	return number
}

// blindViews finds no lost tasks, for it fails.
type blindViews struct{ *projections.Views }

func (blindViews) LostTasks(context.Context, domain.TaskRules, projections.TaskLook) (
	map[domain.QueueID][]domain.MessageID, projections.TaskLook, error,
) {
	return nil, projections.TaskLook{}, errStricken
}

// TestWhatCannotBeSweptHoldsUpNothingElse: neither other queues nor what is no queue, and it is
// not tried again and again.
func TestWhatCannotBeSweptHoldsUpNothingElse(t *testing.T) {
	t.Parallel()
	h, loader := newStrickenHouse(t)
	names := []string{"a", "b", "c", "d", "e"}
	for _, name := range names {
		h.post(name, 300, 100) // more than one sweep takes
	}
	h.subscribe("a", "http://a", 100)
	rules := domain.DefaultTaskRules()
	task := run(h, commands.CreateTask{
		Task: domain.NewTask{ID: uuid.New(), Type: "import", Owner: "p1", Input: importInput}, Rules: rules,
	}).ID
	run(h, commands.ReportTask{ID: task, Report: domain.TaskReport{Action: domain.TaskBegin}, Rules: rules})
	run(h, commands.RecordUserMessage{
		Message: domain.NewUserMessage{Project: "p", ID: uuid.New(), Action: "001"}, Rules: domain.DefaultUserMessageRules(),
	})
	h.advance(31 * 24 * time.Hour)
	h.post("f", 1000, 3600)
	loader.strike(h.number("b"), h.number("d"))
	h.sweeper.Views = blindViews{h.views}

	err := h.sweeper.Sweep(t.Context())
	for _, want := range []string{errStricken.Error(), "queue b,", "queue d,"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the sweep fails with %v, without %q", err, want)
		}
	}
	if loader.tried != 2*2 { // each batch twice
		t.Errorf("two queues that cannot be swept were tried in %d batches", loader.tried)
	}
	if _, messages, _, counts := h.rows(); messages != 2*300+1000 || counts != 1 {
		t.Errorf("%d messages and %d counts are left", messages, counts)
	}
	if subscriptions, tasks, users := h.subscriptions(), h.statuses()[domain.TaskProcessing], h.userMessages(); subscriptions+tasks+users > 0 {
		t.Errorf("%d subscriptions, %d tasks past their deadline and %d user messages are left", subscriptions, tasks, users)
	}

	loader.strike()
	h.sweeper.Views = h.views
	h.sweep()
	if _, messages, _, _ := h.rows(); messages != 1000 {
		t.Errorf("in the end %d messages are left", messages)
	}
}

// TestLostTasksThatCannotBeSweptAreLeftAloneForAWhile as well.
func TestLostTasksThatCannotBeSweptAreLeftAloneForAWhile(t *testing.T) {
	t.Parallel()
	h, loader := newStrickenHouse(t)
	h.sweeper.Backoff = time.Hour
	rules := domain.DefaultTaskRules()
	lost := run(h, commands.CreateTask{
		Task: domain.NewTask{ID: uuid.New(), Type: "import", Owner: "p1", Input: importInput}, Rules: rules,
	}).ID
	run(h, commands.ClaimMessages{Queue: handOut, Claiming: domain.Claiming{
		Claim: uuid.New(), Life: domain.ClaimLife{TTL: 60, Grace: 60}, Limit: 1,
	}})
	run(h, commands.ReportTask{ID: lost, Report: domain.TaskReport{Action: domain.TaskBegin, Worker: "w"}, Rules: rules})
	h.advance(61 * time.Second)
	loader.strikeTasks(true)
	if err := h.sweeper.Sweep(t.Context()); err == nil {
		t.Error("the sweep tells of no failure")
	}
	h.sweep()
	if tried := loader.strikeTasks(false); tried != 2 { // one batch
		t.Errorf("what cannot be swept was tried %d times", tried)
	}
	again := reactors.NewSweeper(h.executor, h.views, slog.New(slog.DiscardHandler))
	if err := again.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := h.statuses()[domain.TaskProcessing]; n != 0 {
		t.Errorf("%d tasks are still in processing", n)
	}
}

// TestASweepGivesUpWhereNothingWorks, until the next one.
func TestASweepGivesUpWhereNothingWorks(t *testing.T) {
	t.Parallel()
	h, loader := newStrickenHouse(t)
	var numbers []int64
	for _, name := range strings.Split("abcdefghijklmno", "") {
		h.post(name, 1, 100)
		numbers = append(numbers, h.number(name))
	}
	h.advance(101 * time.Second)
	loader.strike(numbers...)
	if err := h.sweeper.Sweep(t.Context()); err == nil || loader.tried != 2*10 {
		t.Errorf("%d batches were tried, %v", loader.tried, err)
	}
}

// TestACountThatCouldNotBeMovedOnIsTriedAgain by the next sweep, without further posts.
func TestACountThatCouldNotBeMovedOnIsTriedAgain(t *testing.T) {
	t.Parallel()
	h, loader := newStrickenHouse(t)
	h.post("a", 1000, 3600)
	h.post("b", 1000, 3600)
	loader.strike(h.number("a"))
	if err := h.sweeper.Sweep(t.Context()); err == nil {
		t.Error("the sweep tells of no failure")
	}
	if _, _, _, counts := h.rows(); counts != 1 {
		t.Errorf("%d counts were moved on beside the one that could not be", counts)
	}
	loader.strike()
	h.sweep()
	if _, _, _, counts := h.rows(); counts != 2 {
		t.Errorf("%d counts were moved on in the end", counts)
	}
	before := h.events()
	h.sweep()
	if after := h.events(); after != before {
		t.Errorf("another sweep recorded %d events", after-before)
	}
}

// TestManyThatCannotBeSweptHideNoOthers: a queue with more expired messages than a look walks over,
// and a project with more user messages than a look lists.
func TestManyThatCannotBeSweptHideNoOthers(t *testing.T) {
	t.Parallel()
	h, loader := newStrickenHouse(t)
	h.post("a", 2500, 100)
	tell := func(project string, n int) {
		for range n {
			run(h, commands.RecordUserMessage{
				Message: domain.NewUserMessage{Project: project, ID: uuid.New(), Action: "001"}, Rules: domain.DefaultUserMessageRules(),
			})
		}
	}
	tell("stricken", 201)
	h.advance(time.Second)
	tell("p", 1)
	h.post("b", 10, 101)
	h.advance(31 * 24 * time.Hour)
	loader.strike(h.number("a"))
	loader.project = "stricken"
	if err := h.sweeper.Sweep(t.Context()); err == nil {
		t.Error("the sweep tells of no failure")
	}
	if _, messages, _, _ := h.rows(); messages != 2500 {
		t.Errorf("%d messages are left, of which 2500 cannot be swept", messages)
	}
	if n := h.userMessages(); n != 201 {
		t.Errorf("%d user messages are left, of which 201 cannot be swept", n)
	}
}

// TestWhatCannotBeSweptIsLeftAloneForAWhile, and the rest is not.
func TestWhatCannotBeSweptIsLeftAloneForAWhile(t *testing.T) {
	t.Parallel()
	h, loader := newStrickenHouse(t)
	h.sweeper.Backoff = time.Hour
	h.post("a", 1000, 100)
	h.advance(101 * time.Second)
	loader.strike(h.number("a"))
	if err := h.sweeper.Sweep(t.Context()); err == nil {
		t.Error("the sweep tells of no failure")
	}
	h.post("b", 1, 100)
	h.advance(101 * time.Second)
	h.sweep()
	if loader.tried != 2 {
		t.Errorf("what cannot be swept was tried in %d batches", loader.tried)
	}
	if _, messages, _, _ := h.rows(); messages != 1000 {
		t.Errorf("%d messages are left, of which 1000 cannot be swept", messages)
	}
}
