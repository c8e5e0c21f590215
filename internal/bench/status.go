package bench

import (
	"errors"
	"fmt"
	"net/http"
)

// statusError is an answer with another status than the one hoped for.
type statusError struct {
	asked  string
	status int
	body   string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s: status %d: %.200s", e.asked, e.status, e.body)
}

func isNotFound(err error) bool {
	e, ok := errors.AsType[*statusError](err)
	return ok && e.status == http.StatusNotFound
}

// wanted tells what is wrong with an answer that should have this status.
func wanted(r response, err error, asked string, status int) error {
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", asked, err)
	case r.status != status:
		return &statusError{asked, r.status, string(r.body)}
	}
	return nil
}
