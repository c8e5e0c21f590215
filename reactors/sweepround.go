package reactors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"nabu/commands"
	"nabu/domain"
	"nabu/projections"
)

// rounder is something that a pass goes through in rounds, with others in turn, so that none of
// them waits for the end of another.
type rounder interface {
	// begin begins a pass.
	begin()
	// round sweeps some of what has ended by a time, and tells whether there may be more.
	round(ctx context.Context, s *Sweeper, by time.Time) (more bool)
	// failed is what could not be swept, and why.
	failed() error
}

// sweepable is something of a project that is swept by one command.
type sweepable[K comparable] struct {
	key     K
	what    string // it is, in the project
	project string
	cmd     commands.Command[bool]
}

func queueSweep(queue domain.QueueID, number int64) sweepable[int64] {
	return sweepable[int64]{
		key: number, what: fmt.Sprintf("queue %s, number %d", queue.Name, number), project: queue.Project,
		cmd: commands.SweepQueue{Queue: queue, Number: number},
	}
}

// kind is what looks find, by what is swept together.
type kind[K comparable] struct {
	look     func(ctx context.Context, l projections.SweepLook[K]) ([]sweepable[K], error)
	setbacks setbacks[K]

	// Of one pass:
	over     bool
	nothing  []K // of which there was nothing to sweep
	failures []error
}

// setbacks are for how long what is left alone whose sweep has failed.
type setbacks[K comparable] map[K]setback

type setback struct {
	length time.Duration
	until  time.Time
}

func (b setback) holds(now time.Time) bool { return now.Before(b.until) }

// add leaves something alone for a while, from the second time on for twice as long as before.
func (s *setbacks[K]) add(key K, first time.Duration) {
	if *s == nil {
		*s = setbacks[K]{}
	}
	length := min(max(2*(*s)[key].length, first), maxSweepBackoff)
	(*s)[key] = setback{length, time.Now().Add(length)}
}

// forgetOld forgets what has been tried no more: it has gone by itself.
func (s setbacks[K]) forgetOld(now time.Time) {
	maps.DeleteFunc(s, func(_ K, b setback) bool { return now.Sub(b.until) > maxSweepBackoff })
}

func (k *kind[K]) begin() {
	k.over, k.nothing, k.failures = false, nil, nil
	k.setbacks.forgetOld(time.Now())
}

// round is one look. It leaves something for the next one when it takes longer than a sweeper waits
// between two sweeps.
func (k *kind[K]) round(ctx context.Context, s *Sweeper, by time.Time) (more bool) {
	if k.over {
		return false
	}
	began := time.Now()
	found, err := k.look(ctx, projections.SweepLook[K]{By: by, Except: k.except(began), Most: sweepBatch})
	if err != nil {
		k.failures = append(k.failures, err)
	}
	k.over = err != nil || len(found) == 0
	// In no order: whatever takes long is not in the way of the same others each time.
	rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	for _, its := range found {
		swept, err := sweep(ctx, s, its)
		switch {
		case err != nil:
			k.fail(its.key, err, s.Backoff)
		case !swept:
			k.nothing = append(k.nothing, its.key)
		default:
			delete(k.setbacks, its.key)
		}
		k.over = k.over || givesUp(ctx, k.failures)
		if k.over || time.Since(began) > sweepEvery {
			break
		}
	}
	return !k.over
}

func (k *kind[K]) failed() error { return errors.Join(k.failures...) }

// except is what not to look for.
func (k *kind[K]) except(now time.Time) []K {
	except := slices.Clone(k.nothing)
	for key, b := range k.setbacks {
		if b.holds(now) {
			except = append(except, key)
		}
	}
	return except
}

// fail takes note that something could not be swept, and leaves it alone for the rest of this pass.
func (k *kind[K]) fail(key K, why error, first time.Duration) {
	k.setbacks.add(key, first)
	k.nothing = append(k.nothing, key)
	k.failures = append(k.failures, why)
}

// givesUp tells whether to sweep no more of a kind after these failures.
func givesUp(ctx context.Context, failures []error) bool {
	return ctx.Err() != nil || len(failures) >= maxSweepFailures
}

// sweep sweeps something, and tells whether there was something to sweep. It rests after a failure
// as well: that may have held the ledger's lock for long.
func sweep[K comparable](ctx context.Context, s *Sweeper, its sweepable[K]) (swept bool, err error) {
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

// lostRound lets tasks be pending again, or fail, whose worker has let its claim end. It comes before
// the claims are swept that tell of them. What it has seen it does not look at again, so it goes on
// only when all of it was swept.
type lostRound struct {
	setbacks setbacks[domain.QueueID]
	failures []error // of one pass
}

func (r *lostRound) begin() {
	r.failures = nil
	r.setbacks.forgetOld(time.Now())
}

func (r *lostRound) failed() error { return errors.Join(r.failures...) }

func (r *lostRound) round(ctx context.Context, s *Sweeper, _ time.Time) (more bool) {
	if len(r.failures) > 0 {
		return false
	}
	lost, look, err := s.Views.LostTasks(ctx, s.Executor.Tasks, s.tasks)
	if err != nil {
		r.failures = append(r.failures, err)
		return false
	}
	all := true
	for queue, messages := range lost {
		if r.setbacks[queue].holds(time.Now()) {
			all = false
			continue
		}
		failed := len(r.failures)
		for some := range slices.Chunk(messages, sweepBatch) {
			cmd := commands.SweepLostTasks{Queue: queue, Messages: some, Rules: s.Executor.Tasks}
			if _, err := sweep(ctx, s, sweepable[domain.QueueID]{what: "lost tasks of " + queue.Name, project: queue.Project, cmd: cmd}); err != nil {
				r.setbacks.add(queue, s.Backoff)
				r.failures = append(r.failures, err)
				break
			}
		}
		if len(r.failures) == failed {
			delete(r.setbacks, queue)
		}
		if givesUp(ctx, r.failures) {
			return false
		}
	}
	if all && len(r.failures) == 0 {
		s.tasks = look
	}
	return false
}

// countRound moves on the counts of queues that have grown.
type countRound struct {
	left     map[domain.QueueID]int // sweeps that a queue may still take
	looked   bool                   // at what was posted before this sweeper was there, or failed to
	failures []error
}

func (r *countRound) begin()        { r.left = map[domain.QueueID]int{} }
func (r *countRound) failed() error { return errors.Join(r.failures...) }

// round sweeps each such queue once, or as many as it comes to in the time that a kind's round may
// take. What is posted meanwhile does not make it go on for ever: that is for another pass.
func (r *countRound) round(ctx context.Context, s *Sweeper, _ time.Time) (more bool) {
	if givesUp(ctx, r.failures) {
		return false
	}
	if !s.looked && !r.looked {
		r.looked = true
		if err := s.lookAtPosted(ctx); err != nil {
			r.failures = append(r.failures, err)
		}
	}
	began := time.Now()
	for queue, n := range s.grown() { // in no order
		left, begun := r.left[queue]
		if !begun {
			left = n/countEvery + 1
		}
		if left == 0 {
			continue
		}
		swept, err := s.countQueue(ctx, queue)
		r.left[queue] = left - 1
		switch {
		case err != nil:
			r.left[queue] = 0
			if !errors.Is(err, errBackedOff) {
				r.failures = append(r.failures, err)
			}
		case !swept:
			s.counted(queue, n)
		default:
			more = more || left > 1
		}
		if givesUp(ctx, r.failures) {
			return false
		}
		if time.Since(began) > sweepEvery {
			return true
		}
	}
	return more
}

// lookAtPosted takes in what was posted before this sweeper was there.
func (s *Sweeper) lookAtPosted(ctx context.Context) error {
	lately, err := s.Views.LatelyPosted(ctx)
	if err != nil {
		return err
	}
	s.postedBefore(lately)
	s.looked = true
	return nil
}

// countQueue moves on a queue's count by a step.
func (s *Sweeper) countQueue(ctx context.Context, queue domain.QueueID) (moved bool, err error) {
	number, err := s.Views.QueueNumber(ctx, queue)
	if err != nil || number == 0 {
		return false, err
	}
	if s.queues.setbacks[number].holds(time.Now()) {
		return false, errBackedOff
	}
	if moved, err = sweep(ctx, s, queueSweep(queue, number)); err != nil {
		s.queues.setbacks.add(number, s.Backoff)
	}
	return moved, err
}

var errBackedOff = errors.New("left alone for a while")
