package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"

	"nabu/internal/imaging"
)

// internalError is Glance's text for what a user cannot mend.
const internalError = "Task failed due to Internal Error"

// storeTries is how often a store is asked for one thing.
const storeTries = 4

// job is one task under a claim.
type job struct {
	*Worker
	*claimed
	work   context.Context // ends with the worker
	cancel context.CancelCauseFunc
	log    *slog.Logger

	nabu   *Client // asks on behalf of the request for the task
	id     string
	owner  string
	input  json.RawMessage
	copied atomic.Int64
}

// run does the task, and says so. A message that is done with is deleted.
func (j *job) run(ctx context.Context) Outcome {
	if err := j.read(); err != nil {
		j.log.Error("a message is no task, and is deleted", "message", j.message, "error", err)
		j.delete()
		return Lost
	}
	j.log = j.log.With("task", j.id)
	err := repeated(ctx, func(ctx context.Context) error { return j.report(ctx, "begin", nil) }, j.log)
	switch {
	case errors.Is(err, errGone):
		j.delete()
		return Lost
	case err != nil:
		j.log.Warn("the task cannot be begun", "error", err, "cause", context.Cause(ctx))
		return Released
	}
	j.log.Info("task begun")
	image, err := j.makeImage(ctx)
	if err != nil && ctx.Err() != nil {
		j.log.Warn("the task is given up", "cause", context.Cause(ctx))
		return Released
	}
	if err != nil {
		return j.fail(ctx, err)
	}
	return j.succeed(image)
}

// read takes the message's body apart.
func (j *job) read() error {
	var body struct {
		Task      uuid.UUID       `json:"task_id"`
		Owner     string          `json:"owner"`
		RequestID string          `json:"request_id"`
		Input     json.RawMessage `json:"input"`
	}
	if err := json.Unmarshal(j.body, &body); err != nil {
		return fmt.Errorf("read the message: %w", err)
	}
	if body.Task == uuid.Nil {
		return errors.New("read the message: it names no task")
	}
	j.id, j.owner, j.input = body.Task.String(), body.Owner, body.Input
	j.nabu = j.nabu.onBehalfOf(body.RequestID)
	return nil
}

// report makes one report about the task, which always names the worker.
func (j *job) report(ctx context.Context, action string, content map[string]any) error {
	all := map[string]any{"worker": j.Name}
	for name, value := range content {
		all[name] = value
	}
	return j.nabu.report(ctx, j.id, action, all)
}

func (j *job) delete() {
	_ = j.settled(j.work, func(ctx context.Context) error { return j.nabu.remove(ctx, j.message) }, "delete the task's message", j.log)
}

// succeed reports the image. When the task turns out to be over or another's, the image
// goes: nobody knows of it. When nobody answers it stays: it may have been heard.
func (j *job) succeed(image string) Outcome {
	result := map[string]any{"result": map[string]string{"image_id": image}}
	err := j.settled(j.work, func(ctx context.Context) error { return j.report(ctx, "succeed", result) },
		"report the image "+image, j.log)
	ctx := context.WithoutCancel(j.work)
	switch {
	case errors.Is(err, errGone), errors.Is(err, errConflict):
		j.log.Warn("the task is not this worker's any more: its image is removed", "image", image)
		j.tidy(ctx, func(ctx context.Context) error { return j.Store.Remove(ctx, j.id, image) })
		return Released
	case err != nil:
		return Released
	}
	j.tidy(ctx, func(ctx context.Context) error { return j.Store.Sweep(ctx, j.id, j.owner, image) })
	j.delete()
	j.log.Info("image made", "image", image)
	return Succeeded
}

// fail tells the user why there is no image, and the log what happened.
func (j *job) fail(ctx context.Context, why error) Outcome {
	text := internalError
	if refusal, ok := errors.AsType[*imaging.Refusal](why); ok {
		text = refusal.Text
	}
	j.log.Warn("no image can be made", "error", why, "message", text)
	j.tidy(ctx, func(ctx context.Context) error { return j.Store.Sweep(ctx, j.id, j.owner, "") })
	err := j.settled(ctx, func(ctx context.Context) error {
		return j.report(ctx, "fail", map[string]any{"message": text})
	}, "report the failure", j.log)
	switch {
	case errors.Is(err, errGone):
		j.delete()
		return Lost
	case err != nil:
		return Released
	}
	j.delete()
	return Failed
}

// tidy clears up in the store, whose troubles change nothing for the task.
func (j *job) tidy(ctx context.Context, clear func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := stored(ctx, clear); err != nil {
		j.log.Error("something may be left in the store", "error", err)
	}
}

// makeImage fetches, checks and stores.
func (j *job) makeImage(ctx context.Context) (id string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, j.Timeout, imaging.Refusef("The image could not be made within %s.", j.Timeout))
	defer cancel()
	var helping sync.WaitGroup
	helping.Go(func() { j.tell(ctx) })
	defer helping.Wait()
	defer cancel()
	asked, err := imaging.ReadImport(j.input, j.owner)
	if err != nil {
		return "", err
	}
	err = stored(ctx, func(ctx context.Context) error { return j.Store.Sweep(ctx, j.id, j.owner, "") })
	if err != nil {
		return "", err
	}
	file, err := os.CreateTemp(j.Partial, j.id+".*")
	if err != nil {
		return "", fmt.Errorf("make a file for the download: %w", err)
	}
	defer func() {
		_ = file.Close()
		_ = os.Remove(file.Name()) // unless the store has moved it
	}()
	fetched, err := j.Fetcher.Fetch(ctx, asked.From, file, asked.Checksums, imaging.Watch{
		Copied: j.copied.Store,
		Again: func(why error, after time.Duration) {
			j.log.Info("the image is asked for again", "error", why, "after", after)
		},
	})
	if err != nil {
		return "", err
	}
	if err := imaging.Check(file, fetched.Size, asked.DiskFormat); err != nil {
		return "", err
	}
	image := imaging.Image{Task: j.id, Owner: j.owner, Import: asked, Fetched: fetched, File: file}
	err = stored(ctx, func(ctx context.Context) (err error) { id, err = j.Store.Put(ctx, image); return err })
	if err != nil && ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	return id, err
}

// stored asks the store for something, several times if need be.
func stored(ctx context.Context, ask func(context.Context) error) error {
	delays := backoff.NewExponentialBackOff()
	delays.InitialInterval = 100 * time.Millisecond
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := ask(ctx)
		if _, refused := errors.AsType[*imaging.Refusal](err); refused {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(delays), backoff.WithMaxTries(storeTries), backoff.WithMaxElapsedTime(0))
	return err
}

// tell reports the progress now and then, in Glance's words. A report that is refused says
// that the task is not this worker's any more.
func (j *job) tell(ctx context.Context) {
	every := time.NewTicker(j.ProgressEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		text := fmt.Sprintf("Copied %d MiB", j.copied.Load()>>20)
		err := j.report(ctx, "progress", map[string]any{"message": text})
		switch {
		case errors.Is(err, errGone), errors.Is(err, errConflict):
			j.cancel(err)
			return
		case err != nil && ctx.Err() == nil:
			j.log.Warn("the progress cannot be reported", "error", err)
		}
	}
}

// isFinal tells whether asking again would lead to the same answer. A server that is being
// set up may not know yet who may do what.
func isFinal(err error) bool {
	answer, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err)
	return ok && answer.Actual >= 400 && answer.Actual < 500 &&
		answer.Actual != http.StatusTooManyRequests && answer.Actual != http.StatusRequestTimeout
}
