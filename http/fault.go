package http

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"nabu/domain"
)

// namedFaults is the dialect of APIs whose errors stand under a name, such as those of the
// Block Storage and the Compute API: {"itemNotFound": {"code": 404, "message": "..."}}.
var namedFaults = &dialect{
	refusal: asNamedFault, write: writeNamedFault,
	failure: func(string) *problem {
		return namedFault(http.StatusInternalServerError, "The server has either erred or is incapable of performing the requested operation.")
	},
	unavailable: namedFault(http.StatusServiceUnavailable, "The service is unavailable at this time."),
}

// namedFault is an error answer whose name is that of its status.
func namedFault(status int, text string, args ...any) *problem {
	return &problem{status, faultName(status), readable(fmt.Sprintf(text, args...))}
}

// errNoResource is what these APIs answer where a version, or a method, has nothing.
var errNoResource = namedFault(http.StatusNotFound, "The resource could not be found.")

// faultNames are the names that statuses have. All others are computeFault, also where no
// compute service is near.
var faultNames = map[int]string{
	http.StatusBadRequest:            "badRequest",
	http.StatusUnauthorized:          "unauthorized",
	http.StatusForbidden:             "forbidden",
	http.StatusNotFound:              "itemNotFound",
	http.StatusMethodNotAllowed:      "badMethod",
	http.StatusConflict:              "conflictingRequest",
	http.StatusRequestEntityTooLarge: "overLimit",
	http.StatusUnsupportedMediaType:  "badMediaType",
	http.StatusTooManyRequests:       "overLimit",
	http.StatusNotImplemented:        "notImplemented",
	http.StatusServiceUnavailable:    "serviceUnavailable",
}

func faultName(status int) string {
	if name, known := faultNames[status]; known {
		return name
	}
	return "computeFault"
}

// namedFaultStatuses are the statuses of what the domain refuses.
var namedFaultStatuses = map[domain.Code]int{
	domain.Invalid:     http.StatusBadRequest,
	domain.Malformed:   http.StatusBadRequest,
	domain.NotFound:    http.StatusNotFound,
	domain.Conflict:    http.StatusConflict,
	domain.KeyReused:   http.StatusUnprocessableEntity,
	domain.KeyInUse:    http.StatusConflict,
	domain.Unavailable: http.StatusServiceUnavailable,
}

// asNamedFault finds the answer that an error stands for, if it is one that a client may
// read.
func asNamedFault(err error) (*problem, bool) {
	if p, ok := errors.AsType[*problem](err); ok {
		if p.title == plainText {
			return p, true
		}
		return namedFault(p.status, "%s", cmp.Or(p.description, stockTexts[p.status])), true
	}
	if limit, ok := errors.AsType[tooLarge](err); ok {
		return namedFault(http.StatusRequestEntityTooLarge, "%s", limit.Error()), true
	}
	if refusal, ok := errors.AsType[*domain.Error](err); ok {
		status, known := namedFaultStatuses[refusal.Code]
		return namedFault(status, "%s", refusal.Message), known
	}
	if f, ok := errors.AsType[*forbidden](err); ok {
		return namedFault(http.StatusForbidden, "Policy doesn't allow %s to be performed.", f.rule), true
	}
	if failed, ok := errors.AsType[*echo.HTTPError](err); ok {
		// Echo's proxy names the address that it could not reach, which is nobody's business.
		return namedFault(failed.Code, "%s", stockTexts[failed.Code]), failed.Code != http.StatusInternalServerError
	}
	return nil, false
}

// writeNamedFault writes an error under its name. Only the answer to who has not proved who
// he is has another shape: with Keystone it does not come from the API itself.
func writeNamedFault(c echo.Context, p *problem) {
	header := c.Response().Header()
	if p.title == plainText {
		writePlainFault(c, p)
		return
	}
	if p.status == http.StatusServiceUnavailable && header.Get("Retry-After") == "" {
		header.Set("Retry-After", "1")
	}
	name, body := p.title, faultText{Code: p.status, Message: p.description}
	switch p.status {
	case http.StatusUnauthorized:
		name, body.Title, body.Message = "error", http.StatusText(p.status), "The request you have made requires authentication."
	case http.StatusRequestEntityTooLarge, http.StatusTooManyRequests:
		body.RetryAfter = header.Get("Retry-After")
	}
	text, err := json.Marshal(map[string]faultText{name: body})
	if err != nil {
		panic(err) // texts and a number
	}
	_ = writeJSON(c, p.status, text) // the client has left, or the next write will tell
}

type faultText struct {
	Code       int    `json:"code"`
	Title      string `json:"title,omitempty"`
	Message    string `json:"message"`
	RetryAfter string `json:"retryAfter,omitempty"`
}

// plainText is the title of an answer that is no fault of the API's, but of what stands
// before it: there is no such route.
const plainText = "plain text"

// errNoNamedRoute is what Cinder's and Nova's routers answer by themselves.
var errNoNamedRoute = &problem{http.StatusNotFound, plainText, stockTexts[http.StatusNotFound]}

func writePlainFault(c echo.Context, p *problem) {
	text := fmt.Sprintf("%d %s\n\n%s\n\n   ", p.status, faultTitle(p.status), p.description)
	_ = writeBody(c.Response(), p.status, "text/plain; charset=UTF-8", []byte(text))
}
