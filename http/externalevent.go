package http

import (
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"nabu/commands"
	"nabu/domain"
)

// sentEvent is an event as its client wrote it.
type sentEvent struct {
	name, server string
	tag          *jsonValue // nil: none
}

// tellEvents serves POST /v2.1/os-server-external-events.
func (s *Server) tellEvents(c *call) error {
	buffer := getBuffer()
	defer putBuffer(buffer)
	body, value, err := readNovaBody(c.Request(), maxComputeBody, buffer)
	if err != nil {
		return err
	}
	sent, events, err := readEvents(value, c.version, !isLegacyCompute(c))
	if err != nil {
		return namedFault(http.StatusBadRequest, "%v", err)
	}
	if err := c.allow(); err != nil {
		return err
	}
	ctx, err := c.request(body)
	if err != nil {
		return err
	}
	codes, err := commands.Run(ctx, s.Executor, commands.DispatchEvents{
		Dispatch: domain.Dispatch{
			Events: events, Project: c.caller.Project, RequestID: requestID(c), GlobalRequestID: globalRequestID(c.Request().Header),
		},
		Rules: s.Computes.Events,
	})
	if err != nil {
		return err
	}
	return writeEvents(c, sent, codes)
}

// eventStatuses are those that an event may have.
var eventStatuses = []string{domain.EventFailed, domain.EventCompleted, domain.EventInProgress}

// eventNames are those that a version knows.
func eventNames(v microversion) (names []string) {
	for _, its := range domain.ExternalEventNames {
		if v.atLeast(its.Since) {
			names = append(names, its.Name)
		}
	}
	return names
}

// readEvents holds a body against the schema of a version. Strict is to refuse what it does
// not know.
func readEvents(body *jsonValue, v microversion, strict bool) ([]sentEvent, []domain.ExternalEvent, error) {
	top, err := checkKeys("", body, []string{"events"}, []string{"events"}, strict)
	if err != nil {
		return nil, nil, err
	}
	list := top["events"]
	if !list.isArray() {
		return nil, nil, notOfType("events", list, "array")
	}
	items := list.items()
	if len(items) == 0 {
		return nil, nil, &schemaError{"events", list, "[] is too short"}
	}
	names := eventNames(v)
	sent, events := make([]sentEvent, len(items)), make([]domain.ExternalEvent, len(items))
	for i, item := range items {
		if sent[i], events[i], err = readEvent(at(i), item, names, strict); err != nil {
			return nil, nil, err
		}
	}
	return sent, events, nil
}

func readEvent(field string, item *jsonValue, names []string, strict bool) (sent sentEvent, e domain.ExternalEvent, err error) {
	its, err := checkKeys(field, item, []string{"name", "server_uuid"}, []string{"name", "server_uuid", "status", "tag"}, strict)
	if err != nil {
		return sent, e, err
	}
	if err := checkOneOf("name", its["name"], names); err != nil {
		return sent, e, err
	}
	if e.Server, err = readServerID("server_uuid", its["server_uuid"]); err != nil {
		return sent, e, err
	}
	e.Status = domain.EventCompleted
	if status := its["status"]; status != nil {
		if err := checkOneOf("status", status, eventStatuses); err != nil {
			return sent, e, err
		}
		e.Status = status.words()
	}
	if sent.tag = its["tag"]; sent.tag != nil {
		if err := checkText("tag", sent.tag, domain.MaxEventTag); err != nil {
			return sent, e, err
		}
		tag := sent.tag.words()
		e.Tag = &tag
	}
	e.Name = its["name"].words()
	sent.name, sent.server = e.Name, its["server_uuid"].text
	e.ID, err = uuid.NewV7()
	return sent, e, err
}

// readServerID reads a UUID in any of the forms that OpenStack takes.
func readServerID(field string, v *jsonValue) (id domain.ServerID, err error) {
	if !v.isText() {
		return id, notOfType(field, v, "string")
	}
	id, valid := looseUUID(v.words())
	if !valid {
		return id, &schemaError{field, v, v.shown() + " is not a 'uuid'"}
	}
	return id, nil
}

// looseUUID reads a UUID with dashes or without, in braces or behind urn:uuid:.
func looseUUID(text string) (id uuid.UUID, valid bool) {
	digits := strings.NewReplacer("urn:", "", "uuid:", "", "-", "").Replace(strings.ToLower(text))
	digits = strings.Trim(digits, "{}")
	if len(digits) != hex.EncodedLen(len(id)) {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(digits))
	return id, err == nil
}

// writeEvents answers each event as it was sent, with what has become of it. Nova's status
// for the whole does not tell accepted events from refused ones any more.
func writeEvents(c *call, sent []sentEvent, codes []domain.EventCode) error {
	buffer := getBuffer()
	defer putBuffer(buffer)
	status := http.StatusOK
	out := append(*buffer, `{"events": [`...)
	for i, e := range sent {
		said := domain.EventCompleted
		if codes[i] != domain.EventAccepted {
			said, status = domain.EventFailed, http.StatusMultiStatus
		}
		if i > 0 {
			out = append(out, `, `...)
		}
		out = append(append(out, `{"name": "`...), e.name...)
		out = append(append(out, `", "server_uuid": `...), e.server...)
		out = append(append(out, `, "status": "`...), said...)
		out = append(out, '"')
		if e.tag != nil {
			out = append(append(out, `, "tag": `...), e.tag.text...)
		}
		out = strconv.AppendInt(append(out, `, "code": `...), int64(codes[i]), 10)
		out = append(out, '}')
	}
	*buffer = append(out, "]}"...)
	return writeJSON(c, status, *buffer)
}
