package eventstore

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
)

// row is where the columns of one event go, in the order of the statements. It is used
// again for each row, since there are many.
type row struct {
	position, version                   int64
	id, batch, causation                sql.RawBytes
	stream, eventType, project          string
	data, bodies                        sql.RawBytes
	actor, request, global, correlation sql.NullString
	recordedAt                          time.Time
}

// columns are the destinations of a statement that leaves out the stream.
func (r *row) columns() []any {
	return []any{
		&r.position, &r.id, &r.batch, &r.version, &r.eventType, &r.data, &r.bodies, &r.project,
		&r.actor, &r.request, &r.global, &r.correlation, &r.causation, &r.recordedAt,
	}
}

// allColumns are those of a statement that does not.
func (r *row) allColumns() []any {
	return []any{
		&r.position, &r.id, &r.batch, &r.stream, &r.version, &r.eventType, &r.data, &r.bodies, &r.project,
		&r.actor, &r.request, &r.global, &r.correlation, &r.causation, &r.recordedAt,
	}
}

func (r *row) ids() (id, batch uuid.UUID, err error) {
	id, idErr := uuid.ParseBytes(r.id)
	batch, batchErr := uuid.ParseBytes(r.batch)
	return id, batch, errors.Join(idErr, batchErr)
}

func (r *row) origin() (o domain.Origin, err error) {
	o = domain.Origin{
		Project: r.project, Actor: r.actor.String, RequestID: r.request.String,
		GlobalRequestID: r.global.String, CorrelationID: r.correlation.String,
	}
	if r.causation != nil {
		o.CausationID, err = uuid.ParseBytes(r.causation)
	}
	return o, err
}

// recorded is the event, decoded.
func (r *row) recorded() (e RecordedEvent, err error) {
	e = RecordedEvent{Position: r.position, Version: r.version, RecordedAt: r.recordedAt}
	var bodies []string
	if bodies, err = textArray(r.bodies); err == nil {
		e.Event, err = Decode(r.eventType, r.data, bodies)
	}
	if err == nil {
		e.ID, e.Batch, err = r.ids()
	}
	if err == nil {
		e.Origin, err = r.origin()
	}
	if err != nil {
		return e, fmt.Errorf("event %d: %w", r.position, err)
	}
	return e, nil
}

// stored is the event as it stands in the ledger.
func (r *row) stored() (e StoredEvent, err error) {
	e = StoredEvent{
		Position: r.position, Stream: r.stream, Version: r.version, Type: r.eventType,
		Data: bytes.Clone(r.data), RecordedAt: r.recordedAt,
	}
	if e.Bodies, err = textArray(r.bodies); err == nil {
		e.ID, e.Batch, err = r.ids()
	}
	if err == nil {
		e.Origin, err = r.origin()
	}
	if err != nil {
		return e, fmt.Errorf("event %d: %w", r.position, err)
	}
	return e, nil
}

var errNoArray = errors.New("the bodies are no array of texts")

// textArray reads an array of texts, none of them NULL, as PostgreSQL writes it; nil for
// NULL. lib/pq's reader takes several times as long for bodies, which are full of quotes.
func textArray(text []byte) ([]string, error) {
	if text == nil {
		return nil, nil
	}
	if len(text) < 2 || text[0] != '{' || text[len(text)-1] != '}' {
		return nil, errNoArray
	}
	var unescaped []byte // of one value after the other
	values, text := make([]string, 0, 1), text[1:len(text)-1]
	for len(text) > 0 {
		value, rest, err := arrayValue(text, &unescaped)
		if err != nil {
			return nil, err
		}
		values = append(values, value)
		if len(rest) == 0 {
			break
		}
		if rest[0] != ',' || len(rest) == 1 {
			return nil, errNoArray
		}
		text = rest[1:]
	}
	return values, nil
}

// arrayValue cuts the first value off.
func arrayValue(text []byte, unescaped *[]byte) (value string, rest []byte, err error) {
	if text[0] != '"' {
		end := bytes.IndexByte(text, ',')
		if end < 0 {
			end = len(text)
		}
		plain := text[:end]
		if len(plain) == 0 || bytes.ContainsAny(plain, `{}"\`) || bytes.EqualFold(plain, []byte("NULL")) {
			return "", nil, errNoArray
		}
		return string(plain), text[end:], nil
	}
	text = text[1:]
	for kept := (*unescaped)[:0]; ; {
		quote := bytes.IndexByte(text, '"')
		if quote < 0 {
			return "", nil, errNoArray
		}
		escape := bytes.IndexByte(text[:quote], '\\')
		if escape < 0 {
			*unescaped = append(kept, text[:quote]...)
			return string(*unescaped), text[quote+1:], nil
		}
		kept = append(append(kept, text[:escape]...), text[escape+1])
		text = text[escape+2:]
	}
}
