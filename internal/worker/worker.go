// Package worker does import tasks: it claims them from their queue, makes the images and
// reports. It is a client of nabu like any other and must never know more of it than the
// two APIs say.
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"nabu/internal/imaging"
)

// Config is what a worker is made of.
type Config struct {
	Client  *Client
	Name    string // tells this worker from all others
	Fetcher *imaging.Fetcher
	Store   imaging.Store
	Partial string // folder of what is being fetched
	// Concurrency is how many tasks are done at once.
	Concurrency int
	// ClaimTTL is how long a claim holds; it is renewed three times as often. Whole seconds.
	ClaimTTL time.Duration
	// RenewEvery is the time between renewals; 0: a third of ClaimTTL.
	RenewEvery time.Duration
	// Wait is how long the server may let a claim wait for a task. Whole seconds.
	Wait time.Duration
	// ProgressEvery is the time between two reports of a task's progress.
	ProgressEvery time.Duration
	// Timeout is how long one task may take.
	Timeout time.Duration
	// Drain is how long tasks under way may still take when the worker is to end.
	Drain time.Duration
	// Once ends the worker when there is no task, or when the server cannot be asked.
	Once    bool
	Log     *slog.Logger
	Observe func(Done)
}

// Outcome is how a task went for this worker.
type Outcome string

// The outcomes.
const (
	Succeeded Outcome = "succeeded"
	Failed    Outcome = "failed"   // for good, and its user is told why
	Lost      Outcome = "lost"     // it is another's, or over
	Released  Outcome = "released" // given back undone
)

// Done tells how a task went.
type Done struct {
	Outcome Outcome
	Bytes   int64 // that were fetched
	Took    time.Duration
}

// Worker does tasks.
type Worker struct {
	Config
}

// oldPartial is the age at which a file that nobody has written to is a dead worker's.
const oldPartial = 24 * time.Hour

// grace is how many seconds a message outlives its claim at least, which leaves the time to
// notice that the worker has died.
const grace = 300

// New makes a worker, and the folder of its downloads if that is not there. Claims are
// renewed after a third of their life if nothing else is said.
func New(cfg Config) (*Worker, error) {
	if err := os.MkdirAll(cfg.Partial, 0o750); err != nil {
		return nil, fmt.Errorf("make the folder of downloads: %w", err)
	}
	if cfg.RenewEvery == 0 {
		cfg.RenewEvery = cfg.ClaimTTL / 3
	}
	return &Worker{cfg}, nil
}

func (w *Worker) life() lifetime { return lifetime{TTL: int(w.ClaimTTL / time.Second), Grace: grace} }

var errStopping = errors.New("the worker stops")

// Run does tasks until ctx ends. Those under way then have some more time, and are given
// back if it is not enough. It fails only where Once is set.
func (w *Worker) Run(ctx context.Context) error {
	w.sweepPartials(time.Now())
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(w.Drain, func() { cancel(errStopping) })
		context.AfterFunc(work, func() { timer.Stop() })
	})()
	problems := make([]error, w.Concurrency)
	var running sync.WaitGroup
	for i := range w.Concurrency {
		running.Go(func() { problems[i] = w.loop(ctx, work) })
	}
	running.Wait()
	return first(problems)
}

// first is the first error that there is. All loops ask the same server, so the others tell
// the same again.
func first(problems []error) error {
	for _, err := range problems {
		if err != nil {
			return err
		}
	}
	return nil
}

// loop does one task after the other.
func (w *Worker) loop(ctx, work context.Context) error {
	delays := backoff.NewExponentialBackOff()
	delays.InitialInterval, delays.MaxInterval = 200*time.Millisecond, 10*time.Second
	for ctx.Err() == nil {
		begun := time.Now()
		got, err := w.Client.claim(ctx, w.life(), w.Wait)
		switch {
		case ctx.Err() != nil && got == nil:
			return nil
		case err != nil && w.Once:
			return err
		case err != nil:
			w.Log.Warn("no task can be claimed", "error", err)
		case got == nil && w.Once:
			return nil
		case got == nil && time.Since(begun) >= min(w.Wait, time.Second):
			delays.Reset()
			continue
		case got == nil: // the server has not let it wait
		case w.do(work, got) != Released:
			delays.Reset()
			continue
		}
		pause(ctx, delays.NextBackOff())
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// do does one task.
func (w *Worker) do(work context.Context, got *claimed) Outcome {
	ctx, cancel := context.WithCancelCause(work)
	var helping sync.WaitGroup
	helping.Go(func() { w.hold(ctx, got, cancel) })
	begun := time.Now()
	j := &job{Worker: w, nabu: w.Client, claimed: got, work: work, cancel: cancel, log: w.Log}
	outcome := j.run(ctx)
	cancel(nil)
	helping.Wait()
	if outcome == Released {
		w.settled(work, func(ctx context.Context) error { return w.Client.release(ctx, got.claim) }, "give a task back", j.log)
	}
	j.log.Info("task "+string(outcome), "bytes", j.copied.Load(), "took", time.Since(begun).Round(time.Millisecond))
	if w.Observe != nil {
		w.Observe(Done{outcome, j.copied.Load(), time.Since(begun)})
	}
	return outcome
}

var errClaimLost = errors.New("the claim is lost")

// hold renews the claim until ctx ends. When it is over, be it because nobody answers, the
// task may be another's, and is cancelled.
func (w *Worker) hold(ctx context.Context, got *claimed, cancel context.CancelCauseFunc) {
	until := got.until
	every := time.NewTicker(w.RenewEvery)
	defer every.Stop()
	for {
		over := time.NewTimer(time.Until(until))
		select {
		case <-ctx.Done():
			over.Stop()
			return
		case <-over.C:
			cancel(errClaimLost)
			return
		case <-every.C:
			over.Stop()
		}
		asked := time.Now()
		renewing, stop := context.WithDeadline(ctx, until)
		err := w.Client.renew(renewing, got.claim, w.life())
		stop()
		switch {
		case err == nil:
			until = asked.Add(w.ClaimTTL)
		case errors.Is(err, errGone):
			cancel(errClaimLost)
			return
		case ctx.Err() == nil:
			w.Log.Warn("the claim cannot be renewed", "error", err)
		}
	}
}

// Times for what is still to be said when a task is over.
const (
	sayingPatience = 15 * time.Minute
	lastWords      = 5 * time.Second // when the worker ends
)

// settled makes a request until it is answered, as long as the worker lives. A task that is
// gone or another's is an answer.
func (w *Worker) settled(work context.Context, request func(context.Context) error, doing string, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(work), sayingPatience)
	defer cancel()
	defer context.AfterFunc(work, func() { time.AfterFunc(lastWords, cancel) })()
	err := repeated(ctx, request, log)
	if err != nil && !errors.Is(err, errGone) && !errors.Is(err, errConflict) {
		log.Error("could not "+doing, "error", err)
	}
	return err
}

// repeated makes a request again while there is no answer, or one that says: later.
func repeated(ctx context.Context, request func(context.Context) error, log *slog.Logger) error {
	delays := backoff.NewExponentialBackOff()
	delays.InitialInterval, delays.MaxInterval = 100*time.Millisecond, 10*time.Second
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := request(ctx)
		if err != nil && isFinal(err) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(delays), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, _ time.Duration) {
		log.Warn("nabu does not answer as it should; trying again", "error", err)
	}))
	return err
}

// sweepPartials removes what workers have left that died in the middle of a download.
func (w *Worker) sweepPartials(now time.Time) {
	entries, err := os.ReadDir(w.Partial)
	if err != nil {
		w.Log.Warn("the folder of downloads cannot be read", "error", err)
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() && now.Sub(info.ModTime()) > oldPartial {
			_ = os.Remove(filepath.Join(w.Partial, entry.Name()))
		}
	}
}
