package domain

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"slices"
	"time"

	"github.com/google/uuid"
)

// placeIndexBits is how many bits of a place count the messages of one event.
const placeIndexBits = 16

// Place is where a message stands in the order of posting, over all queues. It is
// made of the position of the event that put the message there and of the
// message's index in that event, so it is unique in the ledger and only grows.
type Place int64

// PlaceOf is the place of the message with this index (0 to 65535) in the event
// at this position.
func PlaceOf(position int64, index int) Place {
	return Place(position<<placeIndexBits | int64(index))
}

// Parts are the event's position and the message's index in it.
func (p Place) Parts() (position int64, index int) {
	return int64(p) >> placeIndexBits, int(p & (1<<placeIndexBits - 1))
}

// MessageID names a message for ever. It is a UUID of version 8 that carries the
// place of posting and 59 random bits, so an id still marks a point in its queue
// when the message is gone.
type MessageID = uuid.UUID

// The place's 63 bits fill the UUID's free bits from the left: 48, then 12 after
// the version, then 3 after the variant.
const (
	placeLowBits  = 3
	placeMidBits  = 12
	saltBits      = 62 - placeLowBits
	saltMask      = 1<<saltBits - 1
	version8      = 8 << 12
	variantRFC    = 1 << 63
	placeMidMask  = 1<<placeMidBits - 1
	placeLowMask  = 1<<placeLowBits - 1
	placeHighMask = 1<<48 - 1
)

// NewMessageID makes the id of a message posted at a place out of 59 random bits.
func NewMessageID(place Place, salt uint64) MessageID {
	p := uint64(place)
	high := p>>(placeMidBits+placeLowBits)<<16 | version8 | p>>placeLowBits&placeMidMask
	low := variantRFC | (p&placeLowMask)<<saltBits | salt&saltMask
	var id MessageID
	binary.BigEndian.PutUint64(id[:8], high)
	binary.BigEndian.PutUint64(id[8:], low)
	return id
}

// PostingPlace is the place that a message's id carries.
func PostingPlace(id MessageID) Place {
	high, low := binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
	return Place(high>>16&placeHighMask<<(placeMidBits+placeLowBits) |
		high&placeMidMask<<placeLowBits | low>>saltBits&placeLowMask)
}

// ParseMessageID reads an id in its dashed form. Texts that nabu never gave out
// as an id are told apart by their shape alone.
func ParseMessageID(text string) (MessageID, bool) {
	if len(text) != 36 {
		return MessageID{}, false
	}
	id, err := uuid.Parse(text)
	if err != nil || id.Version() != 8 || id.Variant() != uuid.RFC4122 {
		return MessageID{}, false
	}
	return id, true
}

// MessagesPosted: a client posted messages to a queue, in this order.
type MessagesPosted struct {
	Project  string          `json:"project"`
	Queue    string          `json:"queue"`
	Number   int64           `json:"number"` // the queue's
	Client   string          `json:"client"`
	Key      KeyID           `json:"key,omitzero"` // that the bodies are sealed with; zero: they are plain
	Messages []PostedMessage `json:"messages"`
}

// PostedMessage is one of the messages; it stands at PlaceOf(position, index).
// Times are whole seconds from the event's time on.
type PostedMessage struct {
	ID    MessageID `json:"id"`
	TTL   int       `json:"ttl"`
	Delay int       `json:"delay,omitempty"`
	Body  string    `json:"-"` // JSON text as the client sent it, or sealed, in the bodies
}

func (MessagesPosted) EventType() string { return "messages.posted.v1" }
func (e MessagesPosted) Stream() string  { return QueueID{e.Project, e.Queue}.Stream() }

func (e MessagesPosted) Bodies() []string {
	bodies := make([]string, len(e.Messages))
	for i, m := range e.Messages {
		bodies[i] = m.Body
	}
	return bodies
}

// MessagesDeleted: a client deleted messages of a queue.
type MessagesDeleted struct {
	Project  string           `json:"project"`
	Queue    string           `json:"queue"`
	Number   int64            `json:"number"`
	Messages []DeletedMessage `json:"messages"`
}

// DeletedMessage is one of the messages, where it stood, and the live claim that held
// it, if one did.
type DeletedMessage struct {
	ID    MessageID `json:"id"`
	Place Place     `json:"place"`
	Claim *ClaimID  `json:"claim,omitempty"`
}

func (MessagesDeleted) EventType() string { return "messages.deleted.v1" }
func (e MessagesDeleted) Stream() string  { return QueueID{e.Project, e.Queue}.Stream() }

// MessagesPopped: a client took free messages for good.
type MessagesPopped struct {
	Project  string      `json:"project"`
	Queue    string      `json:"queue"`
	Number   int64       `json:"number"`
	Messages []MessageAt `json:"messages"`
}

func (MessagesPopped) EventType() string { return "messages.popped.v1" }
func (e MessagesPopped) Stream() string  { return QueueID{e.Project, e.Queue}.Stream() }

// NewMessage is a message that a client wants to post.
type NewMessage struct {
	TTL   int             // whole seconds; 0: the queue's default
	Delay json.RawMessage // as sent: only a delayed queue looks at it, unless Limits.DelayOnAnyQueue
	Body  string          // any JSON value, byte for byte
}

// Post is a client's request to post messages, in order, all or none.
type Post struct {
	Queue    QueueID
	Client   string
	Messages []NewMessage
	Size     int      // bytes of the request's body
	Salts    []uint64 // random bits, one for each message
	// AtOnce: neither the queue's delay nor those of the messages are applied.
	AtOnce bool
}

// CheckMessageTTL refuses a ttl out of bounds; seconds.
func CheckMessageTTL(ttl int64, limits Limits) error {
	if ttl < MinMessageTTL || ttl > int64(limits.MaxMessageTTL) {
		return Errorf(Invalid, "ttl must be between %d and %d seconds", MinMessageTTL, limits.MaxMessageTTL)
	}
	return nil
}

// Post decides what a request to post messages records: the queue first, if it is
// not there yet, and then the messages in one event. at.Time plays no role, so
// the decision may be made before the batch's time is known.
func (q Queue) Post(p Post, limits Limits, at Moment) ([]Event, error) {
	if err := p.Queue.Check(); err != nil {
		return nil, err
	}
	var events []Event
	if !q.Exists() {
		created := QueueCreated{Project: p.Queue.Project, Name: p.Queue.Name}
		q.Apply(at.Position, created)
		events = append(events, created)
		at.Position++
	}
	if n := len(p.Messages); n < 1 || n > MaxPostedMessages {
		return nil, Errorf(Invalid, "messages must have 1 to %d items", MaxPostedMessages)
	}
	if highest := cmp.Or(q.Metadata.whole(MaxMessagesPostSizeKey), limits.MaxMessagesPostSize); p.Size > highest {
		return nil, Errorf(Invalid, "the body must not be larger than %d bytes for this queue", highest)
	}
	ttl := cmp.Or(q.Metadata.whole(DefaultMessageTTLKey), limits.DefaultMessageTTL)
	delay := cmp.Or(q.Metadata.DefaultDelay(), limits.DefaultMessageDelay)
	if p.AtOnce {
		delay, limits.DelayOnAnyQueue = 0, false
	}
	posted := MessagesPosted{
		Project: p.Queue.Project, Queue: p.Queue.Name, Number: q.Number, Client: p.Client,
		Messages: make([]PostedMessage, len(p.Messages)),
	}
	for i, m := range p.Messages {
		its, err := messageDelay(m.Delay, delay, limits)
		if err != nil {
			return nil, err
		}
		posted.Messages[i] = PostedMessage{
			ID:    NewMessageID(PlaceOf(at.Position, i), p.Salts[i]),
			TTL:   cmp.Or(m.TTL, ttl),
			Delay: its,
			Body:  m.Body,
		}
	}
	return append(events, posted), nil
}

// messageDelay is the delay of one message. A queue without a delay of its own
// does not even look at what the client wrote, as in Zaqar, unless the operator has it so.
func messageDelay(sent json.RawMessage, queueDelay int, limits Limits) (int, error) {
	if sent == nil || queueDelay == 0 && !limits.DelayOnAnyQueue {
		return queueDelay, nil
	}
	if err := checkWhole("delay", sent, MinMessageDelay, limits.MaxMessageDelay); err != nil {
		return 0, err
	}
	n, _ := wholeNumber(sent)
	return int(n), nil
}

// MessageRef names a message in a queue.
type MessageRef struct {
	Queue QueueID
	ID    MessageID
}

// Message is what a decision knows of one message that is there.
type Message struct {
	ID          MessageID
	Place       Place
	QueueNumber int64
	Client      string
	TTL         int // whole seconds
	Created     time.Time
	Expires     time.Time
	ClaimCount  int
	// Claim is the last one to hold it, zero for none; it does so until ClaimEnds.
	Claim     ClaimID
	ClaimEnds time.Time
	Key       KeyID  // that the body is sealed with; zero: it is plain
	Body      string // empty: not loaded
}

// Holder is the claim that holds the message now, or zero.
func (m Message) Holder(now time.Time) ClaimID {
	if now.Before(m.ClaimEnds) {
		return m.Claim
	}
	return ClaimID{}
}

// NamedClaim is a claim that a client named with a deletion.
type NamedClaim struct {
	Given bool
	ID    ClaimID // zero: what was given is no id
	Live  bool    // in the message's queue
}

// DeleteOne decides what a request to delete one message records. A message that is
// held can be deleted with its claim only, and a claim that is named must hold it.
func (q Queue) DeleteOne(id QueueID, m *Message, named NamedClaim, now time.Time) ([]Event, error) {
	if m == nil || !q.Exists() {
		return nil, nil
	}
	holder := m.Holder(now)
	held := holder != ClaimID{}
	switch {
	case named.Given && held && named.ID == holder:
	case named.Given && held && named.Live:
		return nil, Errorf(HeldByOther, "message %s is held by another claim", m.ID)
	case named.Given:
		return nil, Errorf(NotHeld, "claim_id does not name a live claim that holds the message")
	case held:
		return nil, Errorf(HeldByOther, "message %s is held by a claim; it can be deleted with its claim_id only", m.ID)
	}
	return q.DeleteMessages(id, []Message{*m}, now), nil
}

// DeleteHeld decides what a request to delete messages of some claims records: all
// of them, or a refusal when one is held by none of these.
func (q Queue) DeleteHeld(id QueueID, gone []Message, claims []ClaimID, now time.Time) ([]Event, error) {
	for _, m := range gone {
		if holder := m.Holder(now); holder == (ClaimID{}) || !slices.Contains(claims, holder) {
			return nil, Errorf(HeldByOther, "message %s is held by none of the claims in claim_ids", m.ID)
		}
	}
	return q.DeleteMessages(id, gone, now), nil
}

// DeleteMessages records that the messages are gone.
func (q Queue) DeleteMessages(id QueueID, gone []Message, now time.Time) []Event {
	if len(gone) == 0 || !q.Exists() {
		return nil
	}
	deleted := MessagesDeleted{Project: id.Project, Queue: id.Name, Number: q.Number}
	for _, m := range gone {
		its := DeletedMessage{ID: m.ID, Place: m.Place}
		if holder := m.Holder(now); holder != (ClaimID{}) {
			its.Claim = &holder
		}
		deleted.Messages = append(deleted.Messages, its)
	}
	return []Event{deleted}
}

// Pop records that free messages are gone, because a client took them for good.
func (q Queue) Pop(id QueueID, taken []Message) []Event {
	if len(taken) == 0 || !q.Exists() {
		return nil
	}
	popped := MessagesPopped{Project: id.Project, Queue: id.Name, Number: q.Number}
	for _, m := range taken {
		popped.Messages = append(popped.Messages, MessageAt{m.ID, m.Place})
	}
	return []Event{popped}
}
