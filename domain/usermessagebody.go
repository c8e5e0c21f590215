package domain

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// ProduceQueue is the queue of the service project in which services leave user messages
// that must not wait for an answer, and RefusedQueue where those go that are refused.
func ProduceQueue(serviceProject string) QueueID {
	return QueueID{Project: serviceProject, Name: "messages.produce"}
}

// RefusedQueue is where user messages of the ProduceQueue go that are refused.
func RefusedQueue(serviceProject string) QueueID {
	return QueueID{Project: serviceProject, Name: "messages.produce.refused"}
}

// ParseUserMessage reads what a producer says of a message: {"message": {...}}, as it stands
// in the body of a request. It refuses every member that it does not know, so that nobody can
// tell users a text of his own.
func ParseUserMessage(body string) (n NewUserMessage, err error) {
	members, err := objectOf(body, "the body", "message")
	if err != nil {
		return n, err
	}
	return parseUserMessage(members["message"])
}

// ParseProduced is ParseUserMessage for a message that was left in a queue, where it has to
// say for which project it is: {"project_id": "...", "message": {...}}.
func ParseProduced(body string) (n NewUserMessage, err error) {
	members, err := objectOf(body, "the body", "project_id", "message")
	if err != nil {
		return n, err
	}
	var project string
	if err := textOf(members["project_id"], "project_id", &project); err != nil {
		return n, err
	}
	if n, err = parseUserMessage(members["message"]); err != nil {
		return n, err
	}
	n.Project = project
	return n, CheckProject(project)
}

// objectOf takes an object apart that may have no others than these members.
func objectOf(text, what string, names ...string) (map[string]json.RawMessage, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &members); err != nil || members == nil {
		return nil, Errorf(Malformed, "%s must be a JSON object", what)
	}
	for name := range members {
		if !slices.Contains(names, name) {
			return nil, Errorf(Invalid, "%s must not have %s: it may have %s", what, name, strings.Join(names, ", "))
		}
	}
	return members, nil
}

// textOf reads a member that is a text; null is as good as none.
func textOf(value json.RawMessage, name string, into *string) error {
	if value == nil {
		return nil
	}
	if err := json.Unmarshal(value, into); err != nil {
		return Errorf(Invalid, "%s must be a text", name)
	}
	return nil
}

// textField is a member of an object that is a text, and where it goes.
type textField struct {
	name string
	into *string
}

// textsOf takes an object apart that may have no others than these members.
func textsOf(text, what string, fields []textField) error {
	names := make([]string, len(fields))
	for i, field := range fields {
		names[i] = field.name
	}
	members, err := objectOf(text, what, names...)
	if err != nil {
		return err
	}
	for _, field := range fields {
		if err := textOf(members[field.name], field.name, field.into); err != nil {
			return err
		}
	}
	return nil
}

func parseUserMessage(value json.RawMessage) (n NewUserMessage, err error) {
	if value == nil {
		return n, Errorf(Invalid, "message is required")
	}
	var id, created, actionID, action, detailID, detail string
	if err := textsOf(string(value), "message", []textField{
		{"id", &id}, {"event_id", &n.EventID}, {"action_id", &actionID}, {"action", &action}, {"detail_id", &detailID},
		{"detail", &detail}, {"exception", &n.Exception}, {"resource_type", &n.ResourceType}, {"resource_uuid", &n.ResourceUUID},
		{"message_level", &n.Level}, {"request_id", &n.RequestID}, {"global_request_id", &n.GlobalRequestID}, {"created_at", &created},
	}); err != nil {
		return n, err
	}
	if n.Action, err = oneOfTwo("action_id", actionID, "action", action); err != nil {
		return n, err
	}
	if n.Detail, err = oneOfTwo("detail_id", detailID, "detail", detail); err != nil {
		return n, err
	}
	if id != "" {
		if !isDashedUUID(id) {
			return n, Errorf(Invalid, "id must be a UUID")
		}
		n.ID, n.Named = uuid.MustParse(id), true
		if n.ID == (UserMessageID{}) {
			return n, Errorf(Invalid, "id must not be zero")
		}
	}
	if created != "" {
		if n.Created, err = ParseUserMessageTime(created); err != nil {
			return n, Errorf(Invalid, "created_at must be a time in the form of ISO 8601, from 1970 on")
		}
	}
	return n, nil
}

// oneOfTwo reads an entry of the catalogue that is named by its id or by its name.
func oneOfTwo(idName, id, nameName, name string) (string, error) {
	switch {
	case id != "" && name != "":
		return "", Errorf(Invalid, "only one of %s and %s may be given", idName, nameName)
	case id != "" && !anyEntryID.MatchString(id):
		return "", Errorf(Invalid, "%s must be in the catalogue", idName)
	case name != "" && !capitals.MatchString(name):
		return "", Errorf(Invalid, "%s must be in the catalogue", nameName)
	}
	return id + name, nil
}

// userMessageTimes are the forms of ISO 8601 that are taken. Fractions of a second need no
// form of their own.
var userMessageTimes = []string{
	time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05Z07", "2006-01-02T15:04:05",
	"2006-01-02 15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02T15:04", time.DateOnly,
}

var errTooEarly = errors.New("the time is before 1970")

// ParseUserMessageTime reads a time from 1970 on; without a zone it is UTC. It is kept to the
// microsecond.
func ParseUserMessageTime(text string) (at time.Time, err error) {
	for _, form := range userMessageTimes {
		if at, err = time.Parse(form, text); err == nil {
			break
		}
	}
	if err == nil && at.Unix() < 0 {
		err = errTooEarly
	}
	return at.UTC().Truncate(time.Microsecond), err
}
