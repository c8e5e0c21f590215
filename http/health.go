package http

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"nabu/commands"
	"nabu/internal/postgres"
	"nabu/projections"
)

// ping serves GET /v2/ping.
func (s *Server) ping(c *call) error {
	if !s.databaseReachable(c.Request().Context()) {
		return commands.ErrUnreachable
	}
	return c.NoContent(http.StatusNoContent)
}

// pingHead serves HEAD /v2/ping, which asks for the process alone.
func (s *Server) pingHead(c *call) error { return c.NoContent(http.StatusNoContent) }

// operations are what the health answer tells of: Zaqar measures them on a queue it
// makes for that. nabu looks at the last real request of the kind, and writes
// nothing.
type operations map[string]*operation

func newOperations() operations {
	all := operations{}
	for _, name := range []string{
		"create_queue", "post_messages", "claim_messages", "list_messages",
		"delete_messages", "delete_claim", "bulk_delete_messages", "delete_queue",
	} {
		all[name] = &operation{}
	}
	return all
}

// operation is how its last request went.
type operation struct {
	mu      sync.Mutex
	at      time.Time
	took    time.Duration
	failure string // the request's id, when it failed for a reason of nabu's own
}

// record keeps how a request went. One that was refused says nothing of nabu.
func (o *operation) record(status int, took time.Duration, requestID string) {
	failure := ""
	switch {
	case status >= http.StatusInternalServerError:
		failure = requestID
	case status >= http.StatusBadRequest:
		return
	}
	o.mu.Lock()
	o.at, o.took, o.failure = time.Now(), took, failure
	o.mu.Unlock()
}

// recent is how old a request may be to say something about now.
const recent = 5 * time.Minute

// operationStatus is an operation in the health answer.
type operationStatus struct {
	Succeeded bool    `json:"succeeded"`
	Seconds   float64 `json:"seconds"`
	Ref       *string `json:"ref"`
}

// status is what can be said of the operation now. Without a recent request that is
// whether it could be carried out.
func (o *operation) status(reachable bool) operationStatus {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Since(o.at) > recent {
		return operationStatus{Succeeded: reachable}
	}
	status := operationStatus{Succeeded: o.failure == "", Seconds: o.took.Seconds()}
	if o.failure != "" {
		ref := strings.TrimPrefix(o.failure, requestIDPrefix)
		status.Ref = &ref
	}
	return status
}

// showHealth serves GET /v2/health.
func (s *Server) showHealth(c *call) error {
	reachable := s.databaseReachable(c.Request().Context())
	statuses := map[string]operationStatus{}
	for name, o := range s.operations {
		statuses[name] = o.status(reachable)
	}
	text, err := json.Marshal(map[string]any{"storage_reachable": reachable, "operation_status": statuses})
	if err != nil {
		return err
	}
	return writeJSON(c, http.StatusOK, text)
}

// addOperatorRoutes adds what those who operate nabu ask, not its clients. These
// routes stand at the root alone and ask for no header.
func (s *Server) addOperatorRoutes() {
	methods := []string{http.MethodGet, http.MethodHead}
	s.addOpen(methods, "/healthz", func(c echo.Context) error {
		return writeJSON(c, http.StatusOK, []byte(`{"alive": true}`))
	})
	s.addOpen(methods, "/readyz", func(c echo.Context) error {
		status, reason := s.readiness(c)
		text, err := json.Marshal(map[string]any{"ready": reason == "", "reason": reason})
		if err != nil {
			return err
		}
		return writeJSON(c, status, text)
	})
	s.addOpen(methods, "/healthcheck", s.showHealthcheck)
	if s.Metrics != nil {
		s.addOpen([]string{http.MethodGet}, "/metrics", echo.WrapHandler(s.Metrics))
	}
}

func (s *Server) addOpen(methods []string, path string, handle echo.HandlerFunc) {
	for _, method := range methods {
		s.add(method, path, open, handle)
	}
}

// showHealthcheck serves GET /healthcheck, as OpenStack's balancers ask.
func (s *Server) showHealthcheck(c echo.Context) error {
	status, reason := s.readiness(c)
	if reason == "" {
		reason = "OK"
	}
	return c.String(status, reason)
}

// fitReason is why nabu is not ready when the look at its tables fails.
func fitReason(err error) string {
	if stale, is := errors.AsType[*projections.StaleError](err); is {
		return stale.Error()
	}
	return postgres.Reason(err)
}

// readiness tells whether requests should be sent here, and if not, why.
func (s *Server) readiness(c echo.Context) (status int, reason string) {
	if s.draining.Load() {
		return http.StatusServiceUnavailable, "the server is stopping"
	}
	if err := s.askDatabase(c.Request().Context()); err != nil {
		return http.StatusServiceUnavailable, postgres.Reason(err)
	}
	if s.Fits != nil {
		if _, err := postgres.Within(context.WithoutCancel(c.Request().Context()), pingTimeout, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, s.Fits(ctx)
		}); err != nil {
			return http.StatusServiceUnavailable, fitReason(err)
		}
	}
	if reason := s.Executor.Failing(); reason != "" {
		return http.StatusServiceUnavailable, reason
	}
	return http.StatusOK, ""
}
