package domain

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"
)

// QueueID names a queue: queues of the same name in two projects are unrelated.
type QueueID struct {
	Project string
	Name    string
}

// Compare orders queues by their projects and names.
func (id QueueID) Compare(other QueueID) int {
	return cmp.Or(strings.Compare(id.Project, other.Project), strings.Compare(id.Name, other.Name))
}

// Stream is the queue's history, its messages' and claims' included. The name
// holds no slash, so the text can be taken apart again.
func (id QueueID) Stream() string { return "queue/" + id.Project + "/" + id.Name }

// QueueOfStream takes a queue's stream apart.
func QueueOfStream(stream string) (QueueID, bool) {
	rest, isQueue := strings.CutPrefix(stream, "queue/")
	slash := strings.LastIndexByte(rest, '/')
	if !isQueue || slash < 0 {
		return QueueID{}, false
	}
	return QueueID{Project: rest[:slash], Name: rest[slash+1:]}, true
}

// Check refuses a queue that cannot exist.
func (id QueueID) Check() error {
	if err := CheckProject(id.Project); err != nil {
		return err
	}
	return CheckQueueName(id.Name)
}

// CheckProject refuses a project id that is empty, longer than 256 characters or
// no text that PostgreSQL can hold.
func CheckProject(project string) error {
	if project == "" || utf8.RuneCountInString(project) > MaxProject || !Storable(project) {
		return Errorf(Invalid, "project id must have 1 to %d characters of UTF-8, and no NUL", MaxProject)
	}
	return nil
}

// CheckQueueName refuses a name that is not made of 1 to 64 ASCII letters, digits,
// underscores, dashes and dots.
func CheckQueueName(name string) error {
	valid := name != "" && len(name) <= MaxQueueName
	for i := 0; valid && i < len(name); i++ {
		c := name[i]
		valid = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
	}
	if !valid {
		return Errorf(Invalid, "queue name must have 1 to %d characters out of letters, digits, _, - and .", MaxQueueName)
	}
	return nil
}

// QueueCreated: a client made a queue, or posted or subscribed to a name that had none.
type QueueCreated struct {
	Project  string   `json:"project"`
	Name     string   `json:"name"`
	Metadata Metadata `json:"-"` // kept as the client sent it, in the bodies
}

func (QueueCreated) EventType() string  { return "queue.created.v1" }
func (e QueueCreated) Stream() string   { return QueueID{e.Project, e.Name}.Stream() }
func (e QueueCreated) Bodies() []string { return []string{e.Metadata.Text()} }

// QueueMetadataChanged: a client changed a queue's metadata; it is whole here.
type QueueMetadataChanged struct {
	Project  string   `json:"project"`
	Name     string   `json:"name"`
	Number   int64    `json:"number"`
	Metadata Metadata `json:"-"`
}

func (QueueMetadataChanged) EventType() string  { return "queue.metadata-changed.v1" }
func (e QueueMetadataChanged) Stream() string   { return QueueID{e.Project, e.Name}.Stream() }
func (e QueueMetadataChanged) Bodies() []string { return []string{e.Metadata.Text()} }

// QueueDeleted: a client deleted a queue; its messages went with it. Subscriptions to it
// stay.
type QueueDeleted struct {
	Project string `json:"project"`
	Name    string `json:"name"`
	Number  int64  `json:"number"`
}

func (QueueDeleted) EventType() string { return "queue.deleted.v1" }
func (e QueueDeleted) Stream() string  { return QueueID{e.Project, e.Name}.Stream() }

// QueuePurged: a client emptied a queue. All messages that stood in it are gone,
// claimed and delayed ones as well.
type QueuePurged struct {
	Project string `json:"project"`
	Name    string `json:"name"`
	Number  int64  `json:"number"`
}

func (QueuePurged) EventType() string { return "queue.purged.v1" }
func (e QueuePurged) Stream() string  { return QueueID{e.Project, e.Name}.Stream() }

// Queue is what the history of one queue adds up to.
type Queue struct {
	// Number tells apart the queues that bore the name one after the other: the
	// position of the event that created this one. 0: there is no such queue now.
	Number   int64
	Metadata Metadata
	// Purged: messages up to this place are gone, whatever the tables still hold.
	Purged Place
}

// Exists tells whether the queue is there.
func (q Queue) Exists() bool { return q.Number != 0 }

// Apply folds one event of the history into the queue.
func (q *Queue) Apply(position int64, e Event) {
	switch e := e.(type) {
	case QueueCreated:
		*q = Queue{Number: position, Metadata: e.Metadata}
	case QueueMetadataChanged:
		q.Metadata = e.Metadata
	case QueuePurged:
		q.Purged = PlaceOf(position, 0)
	case QueueDeleted:
		*q = Queue{}
	}
}

// Create decides what a request to make the queue records. A queue that is
// already there records nothing and keeps its metadata, so the request may be
// repeated; the metadata is checked all the same.
func (q Queue) Create(id QueueID, metadata Metadata, limits Limits) ([]Event, error) {
	if err := id.Check(); err != nil {
		return nil, err
	}
	if err := metadata.Check(limits); err != nil {
		return nil, err
	}
	if q.Exists() {
		return nil, nil
	}
	return []Event{QueueCreated{Project: id.Project, Name: id.Name, Metadata: metadata}}, nil
}

// maxStoredMetadata bounds what many patches may add up to; the limit of the API is
// on the body of each.
const maxStoredMetadata = 1 << 20

// Change decides what a patch of the queue's metadata records. The patch is
// applied whole or not at all; one that changes nothing records nothing.
func (q Queue) Change(id QueueID, patch MetadataPatch, limits Limits) ([]Event, error) {
	if !q.Exists() {
		return nil, Errorf(NotFound, "queue %s does not exist", id.Name)
	}
	changed, err := patch.apply(q.Metadata)
	if err != nil {
		return nil, err
	}
	if err := changed.Check(limits); err != nil {
		return nil, err
	}
	if changed.Text() == q.Metadata.Text() {
		return nil, nil
	}
	if size := changed.Size(); size > maxStoredMetadata && size > q.Metadata.Size() {
		return nil, Errorf(Invalid, "a queue's metadata must not grow beyond %d bytes", maxStoredMetadata)
	}
	return []Event{QueueMetadataChanged{Project: id.Project, Name: id.Name, Number: q.Number, Metadata: changed}}, nil
}

// Delete decides what a request to delete the queue records.
func (q Queue) Delete(id QueueID) ([]Event, error) {
	if !q.Exists() {
		return nil, nil
	}
	return []Event{QueueDeleted{Project: id.Project, Name: id.Name, Number: q.Number}}, nil
}

// Purge decides what a request to empty the queue records.
func (q Queue) Purge(id QueueID) []Event {
	if !q.Exists() {
		return nil
	}
	return []Event{QueuePurged{Project: id.Project, Name: id.Name, Number: q.Number}}
}

// DeadLettering is how often a message of the queue may be claimed, and the name of
// the queue that it goes to instead when it has been. 0: there is no such rule.
func (q Queue) DeadLettering() (most int, target string) {
	value, _ := q.Metadata.Value(DeadLetterQueueKey)
	if json.Unmarshal(value, &target) != nil || CheckQueueName(target) != nil {
		return 0, ""
	}
	if most = q.Metadata.whole(MaxClaimCountKey); most < 1 {
		return 0, ""
	}
	return most, target
}

// The operations of a metadata patch.
const (
	PatchAdd     = "add"
	PatchRemove  = "remove"
	PatchReplace = "replace"
)

// MetadataPatch is a list of changes to a queue's metadata, in order.
type MetadataPatch []MetadataChange

// MetadataChange is one operation of a patch on one key.
type MetadataChange struct {
	Op    string // PatchAdd, PatchRemove or PatchReplace
	Key   string
	Value json.RawMessage // of add and replace
}

// apply carries out the patch on metadata as stored. A reserved key that has a
// default counts as present for replace, and is silently absent for remove: Zaqar's
// own client removes every key it was shown.
func (p MetadataPatch) apply(m Metadata) (Metadata, error) {
	next := slices.Clone(m)
	at := make(map[string]int, len(next))
	for i, member := range next {
		at[member.Key] = i
	}
	for _, change := range p {
		i, stored := at[change.Key]
		known := stored || slices.Contains(filledIn, change.Key)
		switch {
		case change.Op != PatchAdd && !known:
			return nil, Errorf(Conflict, "cannot %s %s: the queue's metadata has no such key", change.Op, change.Key)
		case change.Op == PatchRemove && stored:
			next[i].Value = nil // no stored value is; dropped below
			delete(at, change.Key)
		case change.Op == PatchRemove:
		case stored:
			next[i].Value = change.Value
		default:
			at[change.Key] = len(next)
			next = append(next, Member{change.Key, change.Value})
		}
	}
	return slices.DeleteFunc(next, func(member Member) bool { return member.Value == nil }), nil
}
