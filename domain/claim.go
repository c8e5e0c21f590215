package domain

import (
	"time"

	"github.com/google/uuid"
)

// ClaimID names a claim: a UUID of nabu's own making.
type ClaimID = uuid.UUID

// ClaimLife is how long a claim holds its messages, and how much longer than the
// claim they live at least; whole seconds.
type ClaimLife struct {
	TTL   int
	Grace int
}

// Check refuses a life out of bounds.
func (l ClaimLife) Check(limits Limits) error {
	if l.TTL < MinClaimTTL || l.TTL > limits.MaxClaimTTL {
		return Errorf(Invalid, "ttl must be between %d and %d seconds", MinClaimTTL, limits.MaxClaimTTL)
	}
	if l.Grace < MinClaimGrace || l.Grace > limits.MaxClaimGrace {
		return Errorf(Invalid, "grace must be between %d and %d seconds", MinClaimGrace, limits.MaxClaimGrace)
	}
	return nil
}

// End is when a claim that begins now is over.
func (l ClaimLife) End(now time.Time) time.Time { return now.Add(l.Lasts()) }

// Lasts is how long the claim holds its messages.
func (l ClaimLife) Lasts() time.Duration { return seconds(l.TTL) }

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// Hold lets a claim of this life take hold of a message now. One that would expire
// before the claim's end lives on for the claim's ttl and grace; that is told. One that
// ends at the same moment, or between the claim's end and its grace, is left as it is,
// as in Zaqar.
func (l ClaimLife) Hold(m *Message, claim ClaimID, now time.Time) (extended bool) {
	m.Claim, m.ClaimEnds = claim, l.End(now)
	if !m.Expires.Before(m.ClaimEnds) {
		return false
	}
	m.TTL = l.TTL + l.Grace
	m.Expires = now.Add(seconds(m.TTL))
	return true
}

// MessagesClaimed: a claim has got hold of messages of a queue. It is over TTL
// seconds after the event.
type MessagesClaimed struct {
	Project string  `json:"project"`
	Queue   string  `json:"queue"`
	Number  int64   `json:"number"`
	Claim   ClaimID `json:"claim"`
	TTL     int     `json:"ttl"`
	Grace   int     `json:"grace"`
	// Counted: the queue had a dead letter queue and a rule for it, so the claim counts.
	Counted  bool             `json:"counted,omitempty"`
	Messages []ClaimedMessage `json:"messages"`
}

// ClaimedMessage is one of the messages and where it stands.
type ClaimedMessage struct {
	ID    MessageID `json:"id"`
	Place Place     `json:"place"`
	// Extended: its ttl is the claim's ttl and grace from now on, and it expires so
	// long after the event.
	Extended bool `json:"extended,omitempty"`
}

func (MessagesClaimed) EventType() string { return "messages.claimed.v1" }
func (e MessagesClaimed) Stream() string  { return QueueID{e.Project, e.Queue}.Stream() }

// ClaimRenewed: a claim begins anew, with the messages that it still holds.
type ClaimRenewed struct {
	Project  string           `json:"project"`
	Queue    string           `json:"queue"`
	Number   int64            `json:"number"`
	Claim    ClaimID          `json:"claim"`
	TTL      int              `json:"ttl"`
	Grace    int              `json:"grace"`
	Messages []ClaimedMessage `json:"messages"`
}

func (ClaimRenewed) EventType() string { return "claim.renewed.v1" }
func (e ClaimRenewed) Stream() string  { return QueueID{e.Project, e.Queue}.Stream() }

// ClaimReleased: a claim was given up, and the messages that it still held are free.
type ClaimReleased struct {
	Project  string      `json:"project"`
	Queue    string      `json:"queue"`
	Number   int64       `json:"number"`
	Claim    ClaimID     `json:"claim"`
	Messages []MessageAt `json:"messages"`
}

func (ClaimReleased) EventType() string { return "claim.released.v1" }
func (e ClaimReleased) Stream() string  { return QueueID{e.Project, e.Queue}.Stream() }

// MessageAt is a message and where it stands, or stood.
type MessageAt struct {
	ID    MessageID `json:"id"`
	Place Place     `json:"place"`
}

// MessagesMovedOut: messages left a queue, because they had been claimed too often.
type MessagesMovedOut struct {
	Project  string      `json:"project"`
	Queue    string      `json:"queue"`
	Number   int64       `json:"number"`
	To       string      `json:"to"` // the dead letter queue
	Messages []MessageAt `json:"messages"`
}

func (MessagesMovedOut) EventType() string { return "messages.moved-out.v1" }
func (e MessagesMovedOut) Stream() string  { return QueueID{e.Project, e.Queue}.Stream() }

// MessagesMovedIn: messages of another queue, or of the same, were put at the end of
// this one. They keep their ids. Each stands at PlaceOf(position, index).
type MessagesMovedIn struct {
	Project  string         `json:"project"`
	Queue    string         `json:"queue"`
	Number   int64          `json:"number"`
	From     string         `json:"from"` // the queue they come from
	Messages []MovedMessage `json:"messages"`
}

// MovedMessage is one of the messages, whole: the history of its new queue needs no
// other.
type MovedMessage struct {
	ID      MessageID `json:"id"`
	From    Place     `json:"from"` // where it stood
	Client  string    `json:"client"`
	TTL     int       `json:"ttl"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Key     KeyID     `json:"key,omitzero"` // that the body is sealed with, as where it came from
	Body    string    `json:"-"`            // in the bodies
}

func (MessagesMovedIn) EventType() string { return "messages.moved-in.v1" }
func (e MessagesMovedIn) Stream() string  { return QueueID{e.Project, e.Queue}.Stream() }

func (e MessagesMovedIn) Bodies() []string {
	bodies := make([]string, len(e.Messages))
	for i, m := range e.Messages {
		bodies[i] = m.Body
	}
	return bodies
}

// Claim is what a decision knows of a claim that is live.
type Claim struct {
	ID       ClaimID
	Messages []Message // that it still holds, in the queue's order
}

// MaxDeadLetters is how many messages one claim moves to the dead letter queue at
// most. It answers with what there is then.
const MaxDeadLetters = 100

// Claiming is a request for the oldest free messages of a queue.
type Claiming struct {
	Claim ClaimID
	Life  ClaimLife
	Limit int
}

// Claim decides what a request for messages records, out of the free messages in the
// queue's order. Those that were claimed too often move to the dead letter queue
// instead, which is made if absent. Without a free message nothing is recorded.
// taken are the messages that the claim holds, as they are from now on.
func (q Queue) Claim(id QueueID, c Claiming, free []Message, deadLetters Queue, at Moment) (taken []Message, events []Event) {
	var dead []Message
	claimed := MessagesClaimed{
		Project: id.Project, Queue: id.Name, Number: q.Number,
		Claim: c.Claim, TTL: c.Life.TTL, Grace: c.Life.Grace,
	}
	most, target := q.DeadLettering()
	claimed.Counted = most > 0
	for _, m := range free {
		if len(taken) == c.Limit {
			break
		}
		if most > 0 && m.ClaimCount >= most {
			if m.Body == "" {
				continue // it is not at hand: the next claim moves it
			}
			if len(dead) == MaxDeadLetters {
				break
			}
			dead = append(dead, m)
			continue
		}
		extended := c.Life.Hold(&m, c.Claim, at.Time)
		if claimed.Counted {
			m.ClaimCount++
		}
		taken = append(taken, m)
		claimed.Messages = append(claimed.Messages, ClaimedMessage{m.ID, m.Place, extended})
	}
	if len(dead) > 0 {
		events = q.move(id, dead, target, deadLetters, at)
	}
	if len(taken) > 0 {
		events = append(events, claimed)
	}
	return taken, events
}

// move takes messages to another queue of the project.
func (q Queue) move(id QueueID, messages []Message, to string, target Queue, at Moment) []Event {
	var events []Event
	if !target.Exists() {
		created := QueueCreated{Project: id.Project, Name: to}
		target.Apply(at.Position, created)
		events = append(events, created)
	}
	out := MessagesMovedOut{Project: id.Project, Queue: id.Name, Number: q.Number, To: to}
	in := MessagesMovedIn{Project: id.Project, Queue: to, Number: target.Number, From: id.Name}
	for _, m := range messages {
		if ttl := q.Metadata.whole(DeadLetterTTLKey); ttl > 0 {
			m.TTL, m.Expires = ttl, at.Time.Add(seconds(ttl))
		}
		out.Messages = append(out.Messages, MessageAt{m.ID, m.Place})
		in.Messages = append(in.Messages, MovedMessage{
			ID: m.ID, From: m.Place, Client: m.Client, TTL: m.TTL, Created: m.Created, Expires: m.Expires, Key: m.Key, Body: m.Body,
		})
	}
	return append(events, out, in)
}

// Renew decides what a request to let a live claim begin anew records.
func (q Queue) Renew(id QueueID, c *Claim, life ClaimLife, at Moment) ([]Event, error) {
	if c == nil || !q.Exists() {
		return nil, Errorf(NotFound, "the claim does not exist, or it is over")
	}
	renewed := ClaimRenewed{
		Project: id.Project, Queue: id.Name, Number: q.Number, Claim: c.ID, TTL: life.TTL, Grace: life.Grace,
		Messages: []ClaimedMessage{},
	}
	for _, m := range c.Messages {
		extended := life.Hold(&m, c.ID, at.Time)
		renewed.Messages = append(renewed.Messages, ClaimedMessage{m.ID, m.Place, extended})
	}
	return []Event{renewed}, nil
}

// Release decides what a request to give up a claim records; nothing, if it is over.
func (q Queue) Release(id QueueID, c *Claim) []Event {
	if c == nil || !q.Exists() {
		return nil
	}
	released := ClaimReleased{
		Project: id.Project, Queue: id.Name, Number: q.Number, Claim: c.ID, Messages: []MessageAt{},
	}
	for _, m := range c.Messages {
		released.Messages = append(released.Messages, MessageAt{m.ID, m.Place})
	}
	return []Event{released}
}

// MessagesSwept: rows of a queue that no one can see any more were removed. It
// changes nothing that a client could notice.
type MessagesSwept struct {
	Project string `json:"project"`
	Queue   string `json:"queue"`
	Number  int64  `json:"number"`
	// Expired: in these ranges, whatever has expired by the time of the event.
	Expired []PlaceRange `json:"expired,omitempty"`
	// Upto: everything up to this place, of a queue that was purged or deleted. Clean:
	// that was all of what was purged.
	Upto  Place `json:"upto,omitempty"`
	Clean bool  `json:"clean,omitempty"`
	// Claims that are over, and the lowest place of a message that one of them held which may
	// still be there.
	Claims []ClaimID `json:"claims,omitempty"`
	Lowest Place     `json:"lowest,omitempty"`
	// Counted: from now on the messages behind CountedAfter, if they were counted from
	// no place before, and up to this one are kept count of.
	Counted      Place `json:"counted,omitempty"`
	CountedAfter Place `json:"counted_after,omitempty"`
	// Over: the queue was deleted, and nothing of it is left.
	Over bool `json:"over,omitempty"`
}

// PlaceRange is the places from First to Last, both included.
type PlaceRange struct {
	First Place `json:"first"`
	Last  Place `json:"last"`
}

func (MessagesSwept) EventType() string { return "messages.swept.v1" }
func (e MessagesSwept) Stream() string  { return QueueID{e.Project, e.Queue}.Stream() }

// ClaimRef names a claim in a queue.
type ClaimRef struct {
	Queue QueueID
	ID    ClaimID
}
