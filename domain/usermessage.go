package domain

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// UserMessageID names a user message for ever: a UUID that nabu draws or its producer sets.
type UserMessageID = uuid.UUID

// UserMessageRef names a user message and the project that it is for.
type UserMessageRef struct {
	Project string
	ID      UserMessageID
}

// Bounds of a user message's texts, in characters; Cinder's columns.
const (
	MaxUserMessageText = 255
	MaxResourceType    = 36
)

// The levels of user messages.
const (
	LevelError   = "ERROR"
	LevelWarning = "WARNING"
	LevelInfo    = "INFO"
)

// UserMessage is what the history of one user message adds up to. The zero value is one
// that was never recorded.
type UserMessage struct {
	ID              UserMessageID
	Project         string
	EventID         string // as clients see it
	ActionID        string // empty: it was recorded under an older event id
	DetailID        string
	Level           string
	ResourceType    string
	ResourceUUID    string // empty: none
	RequestID       string // of the request that failed; empty: none
	GlobalRequestID string // by which its caller knows it; empty: none
	Created         time.Time
	GuaranteedUntil time.Time
	Sent            string // stands for what the producer said, if he set the id
	Deleted         bool   // by a user; it is kept until it expires, for its id
	Gone            bool   // it has expired; nothing else is known of it
}

// Exists tells whether the message is there for clients.
func (m UserMessage) Exists() bool { return m.ID != UserMessageID{} && !m.Deleted }

// Apply folds one event of the history into the user message.
func (m *UserMessage) Apply(e Event) {
	switch e := e.(type) {
	case UserMessageRecorded:
		*m = UserMessage{
			ID: e.ID, Project: e.Project, EventID: e.EventID, ActionID: e.ActionID, DetailID: e.DetailID, Level: e.Level,
			ResourceType: e.ResourceType, ResourceUUID: e.ResourceUUID, RequestID: e.RequestID, GlobalRequestID: e.GlobalRequestID,
			Created: e.Created, GuaranteedUntil: e.GuaranteedUntil, Sent: e.Sent,
		}
	case UserMessageDeleted:
		m.Deleted = true
	case UserMessageExpired:
		*m = UserMessage{Gone: true}
	}
}

// NewUserMessage is a user message that a producer wants to be recorded. It names entries of
// the catalogue and cannot hold a text of its own.
type NewUserMessage struct {
	Project string
	ID      UserMessageID // drawn by random, or the producer's
	// Named: the producer set the id. The same message with the same id is recorded once.
	Named bool
	// EventID is an older id, or one in today's form. If it is given, Action, Detail and
	// Exception are not.
	EventID string
	// Action and Detail are the ids of entries of the catalogue, or their names in capitals.
	Action string
	Detail string // empty: by the exception, or unknown
	// Exception is the name of a class, the modules before it left out or not. It wins over
	// the detail if the catalogue knows it.
	Exception       string
	ResourceType    string // empty: the first one of the service that the action belongs to
	ResourceUUID    string
	Level           string // empty: LevelError
	RequestID       string
	GlobalRequestID string
	Created         time.Time // zero: when it was brought
	// The ids of the call that brings the message, and when it came; zero: now. They are for
	// one that does not say, and no part of what the producer said.
	BroughtRequestID       string    `json:"-"`
	BroughtGlobalRequestID string    `json:"-"`
	Brought                time.Time `json:"-"`
}

// UserMessageRules are what an operator says of user messages.
type UserMessageRules struct {
	// TTL is how long a message is guaranteed to be there.
	TTL time.Duration
	// ReapInterval is how often those are taken away that are not guaranteed any more.
	ReapInterval time.Duration
	Catalogue    *Catalogue
	// TaskFailures: whoever owns a task that fails gets a message.
	TaskFailures bool
}

// DefaultUserMessageRules are Cinder's.
func DefaultUserMessageRules() UserMessageRules {
	return UserMessageRules{TTL: 2592000 * time.Second, ReapInterval: 86400 * time.Second, Catalogue: DefaultCatalogue()}
}

const maxUserMessageSpan = 50 * 365 * 24 * time.Hour

// Check tells which rule is out of its bounds, by its name in the configuration.
func (r UserMessageRules) Check() error {
	for _, rule := range []struct {
		name  string
		value time.Duration
	}{{"message_ttl", r.TTL}, {"message_reap_interval", r.ReapInterval}} {
		if rule.value < time.Second || rule.value > maxUserMessageSpan {
			return fmt.Errorf("%s must be between 1 and %d seconds, not %d", rule.name, maxUserMessageSpan/time.Second, rule.value/time.Second)
		}
	}
	return nil
}

// Record decides what a request to record a message records: the message, or nothing if the
// same producer has said the same of the same id before. m is what that id stands for now.
// It refuses with KeyReused when that is another message, and with Conflict when it was one
// that has expired.
func (m UserMessage) Record(n NewUserMessage, r UserMessageRules, now time.Time) ([]Event, error) {
	recorded, err := RecordUserMessage(n, r, now)
	switch {
	case err != nil:
		return nil, err
	case m.Gone:
		return nil, Errorf(Conflict, "id %s was that of a message that has expired", n.ID)
	case m.ID == UserMessageID{}:
		return []Event{recorded}, nil
	case n.Named && m.Project == n.Project && m.Sent == recorded.Sent:
		return nil, nil
	}
	return nil, Errorf(KeyReused, "id %s is that of another message", n.ID)
}

// RecordUserMessage is the fact that a message was recorded, or a refusal which names the
// member of the request that is to blame. now is the time of the decision.
func RecordUserMessage(n NewUserMessage, r UserMessageRules, now time.Time) (e UserMessageRecorded, err error) {
	now = now.UTC()
	if err := n.check(now); err != nil {
		return e, err
	}
	entry, err := r.Catalogue.find(n)
	if err != nil {
		return e, err
	}
	e = UserMessageRecorded{
		Project: n.Project, ID: n.ID, EventID: entry.eventID, ActionID: entry.action, DetailID: entry.detail,
		Level: cmp.Or(n.Level, LevelError), ResourceType: entry.resourceType, ResourceUUID: strings.ToLower(n.ResourceUUID),
		RequestID: cmp.Or(n.RequestID, n.BroughtRequestID), GlobalRequestID: cmp.Or(n.GlobalRequestID, n.BroughtGlobalRequestID),
		Created: n.Created.UTC(),
	}
	if n.Created.IsZero() {
		e.Created = n.Brought.UTC()
	}
	if e.Created.IsZero() {
		e.Created = now
	}
	e.GuaranteedUntil = e.Created.Add(r.TTL)
	if n.Named {
		e.Sent = n.fingerprint()
	}
	return e, nil
}

// check refuses what breaks a bound, whatever the catalogue has.
func (n NewUserMessage) check(now time.Time) error {
	for _, text := range []struct{ name, value string }{
		{"request_id", n.RequestID}, {"global_request_id", n.GlobalRequestID},
	} {
		if utf8.RuneCountInString(text.value) > MaxUserMessageText || !Storable(text.value) {
			return Errorf(Invalid, "%s must not be longer than %d characters, nor hold a NUL", text.name, MaxUserMessageText)
		}
	}
	switch {
	case n.ResourceUUID != "" && !isDashedUUID(n.ResourceUUID):
		return Errorf(Invalid, "resource_uuid must be a UUID")
	case n.Level != "" && n.Level != LevelError && n.Level != LevelWarning && n.Level != LevelInfo:
		return Errorf(Invalid, "message_level must be one of %s, %s and %s", LevelError, LevelWarning, LevelInfo)
	case n.Created.After(now):
		return Errorf(Invalid, "created_at must not be in the future")
	}
	return CheckProject(n.Project)
}

var dashedUUID = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

func isDashedUUID(text string) bool { return dashedUUID.MatchString(text) }

// fingerprint stands for what a producer said; what nabu adds by itself is not in it.
func (n NewUserMessage) fingerprint() string {
	text, err := json.Marshal(n)
	if err != nil {
		panic(err) // texts and a time of this millennium
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// Delete decides what a user's request to delete the message records. It is there for his
// project, or for all.
func (m UserMessage) Delete(id UserMessageID, project string, all bool) ([]Event, error) {
	if !m.Exists() || !all && m.Project != project {
		return nil, NoUserMessage(id.String())
	}
	return []Event{UserMessageDeleted{Project: m.Project, ID: m.ID}}, nil
}

// NoUserMessage is the refusal of whatever is asked of a message that is not there.
func NoUserMessage(id string) error { return Errorf(NotFound, "Message %s could not be found.", id) }

// Sweep takes the message away if it is not guaranteed any more. Until that is recorded it
// stays, whatever the clock says; one that its user deleted gives up its id then.
func (m UserMessage) Sweep(now time.Time) []Event {
	if (m.ID == UserMessageID{}) || !m.GuaranteedUntil.Before(now) {
		return nil
	}
	return []Event{UserMessageExpired{Project: m.Project, ID: m.ID}}
}
