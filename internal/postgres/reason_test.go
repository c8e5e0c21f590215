package postgres

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// TestReasonsNameWhatToDo, by what the server has said.
func TestReasonsNameWhatToDo(t *testing.T) {
	for code, says := range map[pqerror.Code]string{
		"53100": "disk is full", "53300": "no more connections", "53000": "out of resources",
		"28P01": "refuses nabu's login", "28000": "refuses nabu's login", "3D000": "does not exist",
		"42P01": "nabu replay", "42703": "nabu replay", "42501": "rights", "3F000": "nabu replay",
	} {
		err := fmt.Errorf("read: %w", &pq.Error{Code: code})
		if !NeedsOperator(err) || !strings.Contains(Reason(err), says) {
			t.Errorf("%s: %s", code, Reason(err))
		}
		if err := (&connectError{err, "", "", ""}); !strings.Contains(Reason(err), says) {
			t.Errorf("%s at connecting: %s", code, Reason(err))
		}
	}
	for _, err := range []error{errors.New("away"), &pq.Error{Code: "57P01"}, &pq.Error{}} {
		if NeedsOperator(err) || Reason(err) != Unreachable {
			t.Errorf("%v: %s", err, Reason(err))
		}
	}
}
