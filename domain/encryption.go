package domain

import (
	"slices"

	"github.com/google/uuid"
)

// KeyID names a data key that bodies are sealed with.
type KeyID = uuid.UUID

// Encrypts tells whether bodies posted to the queue from now on are sealed.
func (q Queue) Encrypts() bool {
	value, _ := q.Metadata.Value(EncryptMessagesKey)
	return string(value) == "true"
}

// Seal replaces the bodies by sealed ones. What seals them has this id.
func (e MessagesPosted) Seal(key KeyID, seal func(id MessageID, body string) string) MessagesPosted {
	e.Key = key
	e.Messages = slices.Clone(e.Messages)
	for i := range e.Messages {
		m := &e.Messages[i]
		m.Body = seal(m.ID, m.Body)
	}
	return e
}

// QueueKeysDestroyed: an operator destroyed the data keys of a queue, and of those that
// bore its name before. What was sealed with them can be read by nobody any more: messages
// that were are gone wherever they stand, and of their bodies the history keeps what
// nothing opens.
type QueueKeysDestroyed struct {
	Project string  `json:"project"`
	Name    string  `json:"name"`
	Keys    []KeyID `json:"keys"`
}

func (QueueKeysDestroyed) EventType() string { return "queue.keys-destroyed.v1" }
func (e QueueKeysDestroyed) Stream() string  { return QueueID{e.Project, e.Name}.Stream() }

// DestroyKeys decides what a request to destroy these data keys of a queue records.
func DestroyKeys(id QueueID, keys []KeyID) []Event {
	if len(keys) == 0 {
		return nil
	}
	return []Event{QueueKeysDestroyed{Project: id.Project, Name: id.Name, Keys: keys}}
}
