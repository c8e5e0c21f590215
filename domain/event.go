// Package domain holds nabu's facts, the decisions that make them and the
// refusals that stand in their way. It knows no database, no clock and no HTTP:
// time, random bits and the caller's identity come in as arguments.
package domain

import (
	"time"

	"github.com/google/uuid"
)

// Event is a fact: something that has happened and is written in the ledger for
// ever. Events are plain structs named in the past tense.
type Event interface {
	// EventType is the stored name, such as "queue.created.v1". It is written by
	// hand, because it outlives every rename in Go.
	EventType() string
	// Stream names the history that the event belongs to, such as
	// "queue/<project>/<name>".
	Stream() string
}

// Bodied is an event with texts that a client sent. They are kept byte for byte,
// outside the event's own data. Each is one JSON text.
type Bodied interface {
	Event
	Bodies() []string
}

// Origin says where an event comes from: who asked for it, in which project, by
// which request and because of what.
type Origin struct {
	Project         string    // the caller's project
	Actor           string    // the user who asked; empty when unknown
	RequestID       string    // "req-<uuid>", given by nabu to each request
	GlobalRequestID string    // "req-<uuid>" that the caller brought along, or that it is done for; may be empty
	CorrelationID   string    // shared by everything one request has led to
	CausationID     uuid.UUID // the event that caused this one; zero for a client's command
}

// Moment is when and where a decision's first event will stand: the position it
// will get in the ledger and the time of its batch.
type Moment struct {
	Position int64
	Time     time.Time
}
