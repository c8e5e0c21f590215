package domain

import (
	"strings"
	"time"

	"github.com/google/uuid"
)

// userMessageStream begins the names of the histories of user messages.
const userMessageStream = "user-message/"

// Stream is the message's history. The id holds no slash, so the text can be taken apart
// again.
func (r UserMessageRef) Stream() string { return userMessageStream + r.Project + "/" + r.ID.String() }

// UserMessageOfStream takes a user message's stream apart.
func UserMessageOfStream(stream string) (UserMessageRef, bool) {
	rest, isUserMessage := strings.CutPrefix(stream, userMessageStream)
	slash := strings.LastIndexByte(rest, '/')
	if !isUserMessage || slash < 0 {
		return UserMessageRef{}, false
	}
	id, err := uuid.Parse(rest[slash+1:])
	return UserMessageRef{Project: rest[:slash], ID: id}, err == nil
}

// UserMessageRecorded: a service told a user why something failed. What users read is in
// the catalogue, under the ids.
type UserMessageRecorded struct {
	Project         string        `json:"project"` // whose users may read it
	ID              UserMessageID `json:"id"`
	EventID         string        `json:"event_id"`
	ActionID        string        `json:"action_id,omitempty"`
	DetailID        string        `json:"detail_id,omitempty"`
	Level           string        `json:"level"`
	ResourceType    string        `json:"resource_type"`
	ResourceUUID    string        `json:"resource_uuid,omitempty"`
	RequestID       string        `json:"request_id,omitempty"`
	GlobalRequestID string        `json:"global_request_id,omitempty"`
	Created         time.Time     `json:"created_at"`
	GuaranteedUntil time.Time     `json:"guaranteed_until"`
	// Sent stands for what the producer said, if he set the id.
	Sent string `json:"sent,omitempty"`
}

func (UserMessageRecorded) EventType() string { return "user-message.recorded.v1" }
func (e UserMessageRecorded) Stream() string  { return UserMessageRef{e.Project, e.ID}.Stream() }

// UserMessageDeleted: a user deleted the message. It is not shown any more.
type UserMessageDeleted struct {
	Project string        `json:"project"`
	ID      UserMessageID `json:"id"`
}

func (UserMessageDeleted) EventType() string { return "user-message.deleted.v1" }
func (e UserMessageDeleted) Stream() string  { return UserMessageRef(e).Stream() }

// UserMessageExpired: the message was not guaranteed any more, and was taken away.
type UserMessageExpired struct {
	Project string        `json:"project"`
	ID      UserMessageID `json:"id"`
}

func (UserMessageExpired) EventType() string { return "user-message.expired.v1" }
func (e UserMessageExpired) Stream() string  { return UserMessageRef(e).Stream() }
