package main

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"nabu/commands"
	"nabu/internal/postgres"
)

// outageEvery is how often the log may speak of what fails because the database is away.
const outageEvery = 10 * time.Second

// outages is a log that lets through one line in a while about what fails because the database
// is away, with how many it has left out, and has the others at level debug: whoever needs the
// database says so with each request and each look. That it is away, and that it is back, the
// pools tell by themselves.
type outages struct {
	slog.Handler
	*quota
}

// quota is when the last line was let through and what was left out since.
type quota struct {
	mu   sync.Mutex
	last time.Time
	left int
}

func quieten(log *slog.Logger) *slog.Logger {
	return slog.New(outages{log.Handler(), &quota{}})
}

// Handle writes a line, or not.
func (o outages) Handle(ctx context.Context, line slog.Record) error {
	if line.Level < slog.LevelWarn || !isOutage(line) {
		return o.Handler.Handle(ctx, line)
	}
	left, now := o.take()
	switch {
	case !now && !o.Enabled(ctx, slog.LevelDebug):
		return nil
	case !now:
		line.Level = slog.LevelDebug
	case left > 0:
		line = line.Clone()
		line.Add("lines_left_out", left)
	}
	return o.Handler.Handle(ctx, line)
}

// take tells whether a line may be written now, and how many were not since the last.
func (q *quota) take() (left int, now bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if time.Since(q.last) < outageEvery {
		q.left++
		return 0, false
	}
	left, q.left, q.last = q.left, 0, time.Now()
	return left, true
}

// WithAttrs is the same for lines with attributes in common.
func (o outages) WithAttrs(attrs []slog.Attr) slog.Handler {
	return outages{o.Handler.WithAttrs(attrs), o.quota}
}

// WithGroup is the same for lines in a group.
func (o outages) WithGroup(name string) slog.Handler {
	return outages{o.Handler.WithGroup(name), o.quota}
}

// isOutage tells whether a line is about an error that the database's absence explains.
func isOutage(line slog.Record) (its bool) {
	line.Attrs(func(a slog.Attr) bool {
		err, isError := a.Value.Any().(error)
		its = a.Key == "error" && isError && cannotAsk(err)
		return !its
	})
	return its
}

func cannotAsk(err error) bool {
	if _, elsewhere := errors.AsType[*url.Error](err); elsewhere { // a webhook, a compute service
		return false
	}
	return postgres.IsUnavailable(err) || postgres.IsConnectionLost(err) || postgres.NeedsOperator(err) ||
		errors.Is(err, commands.ErrUnreachable) || errors.Is(err, commands.ErrUnwritable) ||
		errors.Is(err, context.DeadlineExceeded)
}
