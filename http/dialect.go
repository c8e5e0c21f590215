package http

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/labstack/echo/v4"

	"nabu/internal/postgres"
)

// dialect is how an API tells its clients what has gone wrong.
type dialect struct {
	// refusal finds the answer that an error stands for, if it is one that a client may read.
	refusal func(error) (*problem, bool)
	// failure is the answer when nabu is to blame. It says nothing of the inside.
	failure func(requestID string) *problem
	// unavailable is the answer while the database is away.
	unavailable *problem
	write       func(echo.Context, *problem)
}

// failed is the answer to a request that failed for no fault of the client's.
func (d *dialect) failed(err error, requestID string) *problem {
	if postgres.IsUnavailable(err) || postgres.IsConnectionLost(err) || postgres.NeedsOperator(err) || errors.Is(err, context.DeadlineExceeded) {
		return d.unavailable
	}
	return d.failure(requestID)
}

// dialectOf is the dialect of the table that the request's route stands in.
func (s *Server) dialectOf(c echo.Context) *dialect {
	if its, other := s.dialects[c.Path()]; other {
		return its
	}
	return zaqar
}

// writeError answers a request that has failed, and logs what is nabu's own fault.
func (s *Server) writeError(err error, c echo.Context) {
	left := errors.Is(c.Request().Context().Err(), context.Canceled) // net/http also means who did not read
	if c.Response().Committed {
		if left {
			return
		}
		s.Log.Error("request failed in the middle of its answer", "request_id", requestID(c), "error", err)
		return
	}
	its := s.dialectOf(c)
	refusal, isRefusal := its.refusal(err)
	if !isRefusal && left && !errors.Is(err, errTaken) {
		c.Response().WriteHeader(statusClientLeft)
		return
	}
	if !isRefusal {
		refusal = its.failed(err, requestID(c))
	}
	if refusal.status >= http.StatusInternalServerError {
		s.logFailure(c.Request().Context(), refusal.status, err, slog.String("request_id", requestID(c)),
			slog.String("method", c.Request().Method), slog.String("path", c.Request().URL.Path))
	}
	its.write(c, refusal)
}

// logFailure logs what is nabu's own fault, with what tells which request it was.
func (s *Server) logFailure(ctx context.Context, status int, err error, request ...slog.Attr) {
	level := slog.LevelError
	if status == http.StatusServiceUnavailable {
		level = slog.LevelWarn
	}
	attrs := append(request, slog.Int("status", status), slog.Any("error", err))
	if postgres.NeedsOperator(err) {
		attrs = append(attrs, slog.String("reason", postgres.Reason(err)))
	}
	if p, ok := errors.AsType[*panicked](err); ok {
		attrs = append(attrs, slog.String("stack", string(p.stack)))
	}
	s.Log.LogAttrs(ctx, level, "request failed", attrs...)
}

// panicked is a handler's panic on its way to the answer and the log.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// recovering runs a handler and makes an error of its panic. The one that is meant
// to cut a connection off passes.
func recovering[C any](h func(C) error, c C) (err error) {
	defer func() {
		switch value := recover(); value {
		case nil:
		case http.ErrAbortHandler:
			panic(value)
		default:
			err = &panicked{value, debug.Stack()}
		}
	}()
	return h(c)
}
