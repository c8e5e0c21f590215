package http

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"nabu/commands"
	"nabu/domain"
)

// problem is an error answer in Zaqar's form.
type problem struct {
	status      int
	title       string
	description string // empty: the answer has none
}

func (p *problem) Error() string { return p.title + ": " + p.description }

func problemf(status int, title, description string, args ...any) error {
	return &problem{status, title, fmt.Sprintf(description, args...)}
}

func badRequest(title, description string, args ...any) error {
	return problemf(http.StatusBadRequest, title, description, args...)
}

// What routing itself answers; there is nothing to describe.
var (
	errNoRoute       = &problem{status: http.StatusNotFound, title: "404 Not Found"}
	errWrongMethod   = &problem{status: http.StatusMethodNotAllowed, title: "405 Method Not Allowed"}
	errNotAcceptable = &problem{status: http.StatusNotAcceptable} // without a body
)

// statusClientLeft is for the books, and for who has only stopped sending: his request was not
// carried out.
const statusClientLeft = 499

// zaqarStatus is what Zaqar calls a refusal.
type zaqarStatus struct {
	status int
	title  string
}

// zaqarStatuses are Zaqar's words for what the domain refuses. It has none for
// idempotency keys, which are nabu's.
var zaqarStatuses = map[domain.Code]zaqarStatus{
	domain.Invalid:     {http.StatusBadRequest, "Invalid API request"},
	domain.Malformed:   {http.StatusBadRequest, "Invalid request body"},
	domain.NotFound:    {http.StatusNotFound, "Not found"},
	domain.Conflict:    {http.StatusConflict, "Resource conflict"},
	domain.NotHeld:     {http.StatusBadRequest, "Unable to delete"},
	domain.HeldByOther: {http.StatusForbidden, "Unable to delete"},
	domain.KeyReused:   {http.StatusUnprocessableEntity, "Idempotency key reused"},
	domain.KeyInUse:    {http.StatusConflict, "Idempotency key in use"},
	domain.Unavailable: {http.StatusServiceUnavailable, "Service temporarily unavailable"},
}

// zaqar is the dialect of the Messaging API, and of what belongs to no API.
var zaqar = &dialect{
	refusal: asProblem, write: writeProblem,
	failure: func(requestID string) *problem {
		return &problem{http.StatusInternalServerError, "Internal server error",
			"The request failed for a reason inside the service; it is logged as " + requestID + "."}
	},
	unavailable: &problem{http.StatusServiceUnavailable, zaqarStatuses[domain.Unavailable].title, commands.ErrUnreachable.Error()},
}

// failure is Zaqar's answer to a request that failed for no fault of the client's.
func failure(err error, requestID string) *problem { return zaqar.failed(err, requestID) }

// asProblem finds the answer that an error stands for, if it is one that a client
// may read.
func asProblem(err error) (*problem, bool) {
	if p, ok := errors.AsType[*problem](err); ok {
		return p, true
	}
	if refusal, ok := errors.AsType[*domain.Error](err); ok {
		status, known := zaqarStatuses[refusal.Code]
		return &problem{status.status, status.title, refusal.Message}, known
	}
	if f, ok := errors.AsType[*forbidden](err); ok {
		return &problem{http.StatusForbidden, "Not authorized", "Policy does not allow " + f.rule + " to be performed."}, true
	}
	switch {
	case errors.Is(err, echo.ErrNotFound):
		return errNoRoute, true
	case errors.Is(err, echo.ErrMethodNotAllowed):
		return errWrongMethod, true
	}
	return nil, false
}

func writeProblem(c echo.Context, p *problem) {
	if p.status == http.StatusServiceUnavailable {
		c.Response().Header().Set("Retry-After", "1")
	}
	if p.title == "" {
		_ = c.NoContent(p.status)
		return
	}
	body := struct {
		Title       string `json:"title"`
		Description string `json:"description,omitempty"`
	}{p.title, p.description}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // two texts always encode
	}
	c.Response().Header().Set("Vary", "Accept")
	_ = writeJSON(c, p.status, text) // the client has left, or the next write will tell
}
