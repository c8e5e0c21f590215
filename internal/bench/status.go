package bench

import (
	"errors"
	"fmt"
	"net/http"
)

// statusError is an answer with another status than the one hoped for.
type statusError struct {
	path   string
	status int
	body   string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("GET %s: status %d: %.200s", e.path, e.status, e.body)
}

func isNotFound(err error) bool {
	e, ok := errors.AsType[*statusError](err)
	return ok && e.status == http.StatusNotFound
}
