package eventstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"nabu/domain"
)

// bodySeparator joins an event's bodies on their way into the database. A JSON
// text cannot contain it: control characters must be escaped in strings and only
// tab, line feed, carriage return and space may stand between tokens.
const bodySeparator = "\x1e"

// kind is one stored form of an event: how it is read, and what it has become.
type kind struct {
	decode func(data []byte, bodies []string) (domain.Event, error)
	// upcast turns an event of an older form into the next form. It is nil for the
	// forms in use. It is a pure function: a stored event never changes.
	upcast func(domain.Event) (domain.Event, error)
}

// kinds are all forms of events that were ever stored. A name is never removed.
var kinds = map[string]kind{
	"queue.created.v1": {decode: func(data []byte, bodies []string) (domain.Event, error) {
		e, err := decodeData[domain.QueueCreated](data)
		if err != nil {
			return nil, err
		}
		e.Metadata, err = oneMetadata(bodies)
		return e, err
	}},
	"queue.metadata-changed.v1": {decode: func(data []byte, bodies []string) (domain.Event, error) {
		e, err := decodeData[domain.QueueMetadataChanged](data)
		if err != nil {
			return nil, err
		}
		e.Metadata, err = oneMetadata(bodies)
		return e, err
	}},
	"queue.deleted.v1":        {decode: withoutBodies[domain.QueueDeleted]},
	"queue.keys-destroyed.v1": {decode: withoutBodies[domain.QueueKeysDestroyed]},
	"messages.posted.v1": {decode: func(data []byte, bodies []string) (domain.Event, error) {
		e, err := decodeExactly(exactPosted, data)
		return e, errors.Join(err, giveBodies(e.Messages, bodies, func(m *domain.PostedMessage, body string) { m.Body = body }))
	}},
	"messages.deleted.v1":     {decode: exactWithoutBodies(exactDeleted)},
	"messages.popped.v1":      {decode: withoutBodies[domain.MessagesPopped]},
	"messages.claimed.v1":     {decode: exactWithoutBodies(exactClaimed)},
	"claim.renewed.v1":        {decode: withoutBodies[domain.ClaimRenewed]},
	"claim.released.v1":       {decode: withoutBodies[domain.ClaimReleased]},
	"share.revoked.v1":        {decode: withoutBodies[domain.ShareRevoked]},
	"shares.revoked.v1":       {decode: withoutBodies[domain.SharesRevoked]},
	"queue.purged.v1":         {decode: withoutBodies[domain.QueuePurged]},
	"messages.swept.v1":       {decode: withoutBodies[domain.MessagesSwept]},
	"messages.moved-out.v1":   {decode: withoutBodies[domain.MessagesMovedOut]},
	"deliveries.attempted.v1": {decode: withoutBodies[domain.DeliveriesAttempted]},
	"read-models.rebuilt.v1":  {decode: withoutBodies[domain.ReadModelsRebuilt]},
	"messages.moved-in.v1": {decode: func(data []byte, bodies []string) (domain.Event, error) {
		e, err := decodeData[domain.MessagesMovedIn](data)
		return e, errors.Join(err, giveBodies(e.Messages, bodies, func(m *domain.MovedMessage, body string) { m.Body = body }))
	}},
	"subscription.created.v1": {decode: func(data []byte, bodies []string) (domain.Event, error) {
		e, err := decodeData[domain.SubscriptionCreated](data)
		if err != nil {
			return nil, err
		}
		e.Options, err = oneBody(bodies)
		return e, err
	}},
	"subscription.updated.v1": {decode: func(data []byte, bodies []string) (domain.Event, error) {
		e, err := decodeData[domain.SubscriptionUpdated](data)
		if err != nil {
			return nil, err
		}
		e.Options, err = oneBody(bodies)
		return e, err
	}},
	"subscription.confirmed.v1":   {decode: withoutBodies[domain.SubscriptionConfirmed]},
	"subscription.unconfirmed.v1": {decode: withoutBodies[domain.SubscriptionUnconfirmed]},
	"subscription.deleted.v1":     {decode: withoutBodies[domain.SubscriptionDeleted]},
	"subscription.swept.v1":       {decode: withoutBodies[domain.SubscriptionSwept]},
	"task.created.v1": {decode: func(data []byte, bodies []string) (domain.Event, error) {
		e, err := decodeData[domain.TaskCreated](data)
		if err != nil {
			return nil, err
		}
		e.Input, err = oneOrNull(bodies)
		return e, err
	}},
	"task.succeeded.v1": {decode: func(data []byte, bodies []string) (domain.Event, error) {
		e, err := decodeData[domain.TaskSucceeded](data)
		if err != nil {
			return nil, err
		}
		e.Result, err = oneOrNull(bodies)
		return e, err
	}},
	"task.begun.v1":      {decode: withoutBodies[domain.TaskBegun]},
	"task.progressed.v1": {decode: withoutBodies[domain.TaskProgressed]},
	"task.failed.v1":     {decode: withoutBodies[domain.TaskFailed]},
	"task.requeued.v1":   {decode: withoutBodies[domain.TaskRequeued]},
	"task.expired.v1":    {decode: withoutBodies[domain.TaskExpired]},

	"user-message.recorded.v1": {decode: withoutBodies[domain.UserMessageRecorded]},
	"user-message.deleted.v1":  {decode: withoutBodies[domain.UserMessageDeleted]},
	"user-message.expired.v1":  {decode: withoutBodies[domain.UserMessageExpired]},

	"server.assigned.v1":            {decode: withoutBodies[domain.ServerAssigned]},
	"server.unassigned.v1":          {decode: withoutBodies[domain.ServerUnassigned]},
	"server.forgotten.v1":           {decode: withoutBodies[domain.ServerForgotten]},
	"server.observation-ignored.v1": {decode: withoutBodies[domain.ServerObservationIgnored]},
	"external-events.accepted.v1":   {decode: withoutBodies[domain.ExternalEventsAccepted]},
	"external-events.rejected.v1":   {decode: withoutBodies[domain.ExternalEventsRejected]},
	"external-events.forwarded.v1":  {decode: withoutBodies[domain.ExternalEventsForwarded]},
}

// EventTypes are the names of all forms of events that were ever stored, sorted.
func EventTypes() []string { return slices.Sorted(maps.Keys(kinds)) }

// encode is an event's data and bodies as they are stored.
func encode(e domain.Event) (data []byte, bodies string, err error) {
	if _, known := kinds[e.EventType()]; !known {
		return nil, "", fmt.Errorf("event type %s is not registered", e.EventType())
	}
	data, err = json.Marshal(e)
	if err != nil {
		return nil, "", fmt.Errorf("encode %s: %w", e.EventType(), err)
	}
	bodied, ok := e.(domain.Bodied)
	if !ok {
		return data, "", nil
	}
	texts := bodied.Bodies()
	for _, text := range texts {
		if text == "" || strings.Contains(text, bodySeparator) {
			return nil, "", fmt.Errorf("encode %s: a body is no JSON text", e.EventType())
		}
	}
	return data, strings.Join(texts, bodySeparator), nil
}

// Decode reads an event as it was stored and brings it to its newest form. It
// fails for a type that nabu never stored.
func Decode(eventType string, data []byte, bodies []string) (domain.Event, error) {
	return decodeWith(kinds, eventType, data, bodies)
}

func decodeWith(kinds map[string]kind, eventType string, data []byte, bodies []string) (domain.Event, error) {
	k, known := kinds[eventType]
	if !known {
		return nil, fmt.Errorf("event type %q is unknown", eventType)
	}
	e, err := k.decode(data, bodies)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", eventType, err)
	}
	for k.upcast != nil {
		was := e.EventType()
		if e, err = k.upcast(e); err != nil {
			return nil, fmt.Errorf("upcast %s: %w", was, err)
		}
		if k, known = kinds[e.EventType()]; !known {
			return nil, fmt.Errorf("upcast %s: leads to the unknown type %q", was, e.EventType())
		}
	}
	return e, nil
}

// decodeData reads an event's own data. Members that this version of nabu does not
// know are an error: they would be lost without a word.
func decodeData[E domain.Event](data []byte) (E, error) {
	var e E
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return e, err
	}
	// More would ask for more room first, which costs as much as reading the data.
	if rest := data[dec.InputOffset():]; len(bytes.TrimSpace(rest)) > 0 {
		return e, fmt.Errorf("text after the end of the data")
	}
	return e, nil
}

// decodeExactly is decodeData with a quick way for what encode writes.
func decodeExactly[E domain.Event](quick func([]byte) (E, bool), data []byte) (E, error) {
	if e, ok := quick(data); ok {
		return e, nil
	}
	return decodeData[E](data)
}

func exactWithoutBodies[E domain.Event](quick func([]byte) (E, bool)) func([]byte, []string) (domain.Event, error) {
	return func(data []byte, bodies []string) (domain.Event, error) {
		if e, ok := quick(data); ok && len(bodies) == 0 {
			return e, nil
		}
		return withoutBodies[E](data, bodies)
	}
}

func withoutBodies[E domain.Event](data []byte, bodies []string) (domain.Event, error) {
	if len(bodies) > 0 {
		return nil, fmt.Errorf("%d bodies where none belong", len(bodies))
	}
	e, err := decodeData[E](data)
	return e, err
}

// giveBodies gives each of an event's messages its body.
func giveBodies[M any](messages []M, bodies []string, give func(*M, string)) error {
	if len(bodies) != len(messages) {
		return fmt.Errorf("%d messages with %d bodies", len(messages), len(bodies))
	}
	for i := range messages {
		give(&messages[i], bodies[i])
	}
	return nil
}

func oneMetadata(bodies []string) (domain.Metadata, error) {
	text, err := oneBody(bodies)
	if err != nil {
		return nil, err
	}
	return domain.ParseMetadata([]byte(text))
}

func oneBody(bodies []string) (string, error) {
	if len(bodies) != 1 {
		return "", fmt.Errorf("%d bodies instead of one", len(bodies))
	}
	return bodies[0], nil
}

// oneOrNull is one body, empty for null.
func oneOrNull(bodies []string) (string, error) {
	text, err := oneBody(bodies)
	return domain.OrEmpty(text), err
}
