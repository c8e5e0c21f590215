package domain

import "fmt"

// Code is the kind of a refusal. The set is closed: each dialect of the API maps
// every code to a status of its own.
type Code string

// The codes of all refusals.
const (
	Invalid     Code = "invalid"       // a value breaks a bound or a rule
	Malformed   Code = "malformed"     // a body has the wrong shape
	NotFound    Code = "not_found"     // the named thing is not there
	Conflict    Code = "conflict"      // the thing is in a state that forbids it
	NotHeld     Code = "not_held"      // the claim given does not hold the message
	HeldByOther Code = "held_by_other" // a live claim stands in the way
	KeyReused   Code = "key_reused"    // an idempotency key came with another request
	KeyInUse    Code = "key_in_use"    // the first request with this key still runs
	Unavailable Code = "unavailable"   // temporarily unable; the same request may work later
	Internal    Code = "internal"      // nabu's own fault; the text is not for clients
)

// Error is a refusal that a client may read.
type Error struct {
	Code    Code
	Message string
}

func (e *Error) Error() string { return e.Message }

// Errorf makes a refusal.
func Errorf(code Code, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
