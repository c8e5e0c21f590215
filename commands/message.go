package commands

import (
	"time"

	"nabu/domain"
)

// rowSize is what a message costs a batch besides its body, in bytes. It keeps the
// time of a batch in bounds when it has many small messages.
const rowSize = 200

// PostMessages asks for messages to be put into a queue, which is made if absent.
// The answer is their ids in the request's order.
type PostMessages struct {
	domain.Post
}

// Needs: the queue. The time plays no role, so posts may take the short way.
func (c PostMessages) Needs() Needs {
	return Needs{Queue: c.Queue, Rank: Adds, Size: c.Size + rowSize*len(c.Messages), Timeless: true}
}

// Decide posts all messages or none.
func (c PostMessages) Decide(s *State, at domain.Moment) ([]domain.MessageID, []domain.Event, error) {
	events, err := s.Queue(c.Queue).Post(c.Post, s.Limits, at)
	if err != nil {
		return nil, nil, err
	}
	posted := events[len(events)-1].(domain.MessagesPosted)
	if s.Queue(c.Queue).Encrypts() {
		if posted, err = s.seal(c.Queue, posted); err != nil {
			return nil, nil, err
		}
		events[len(events)-1] = posted
	}
	ids := make([]domain.MessageID, len(posted.Messages))
	for i, m := range posted.Messages {
		ids[i] = m.ID
	}
	return ids, events, nil
}

// DeleteMessage asks for one message to go. The answer tells whether it was there.
type DeleteMessage struct {
	Queue domain.QueueID
	ID    domain.MessageID
	// WithClaim: the client named a claim that is to hold the message; Claim is zero
	// if what it named is no id.
	WithClaim bool
	Claim     domain.ClaimID
}

// Needs: the queue, the message, and whether the claim is live.
func (c DeleteMessage) Needs() Needs {
	return Needs{Queue: c.Queue, Messages: []domain.MessageID{c.ID}, Named: c.Claim, Rank: Frees, Size: rowSize}
}

// Decide deletes the message if it is there and the claim, if any, allows it.
func (c DeleteMessage) Decide(s *State, at domain.Moment) (deleted bool, events []domain.Event, err error) {
	named := domain.NamedClaim{Given: c.WithClaim, ID: c.Claim, Live: s.Live(c.Queue, c.Claim)}
	events, err = s.Queue(c.Queue).DeleteOne(c.Queue, s.Message(c.Queue, c.ID), named, at.Time)
	return len(events) > 0, events, err
}

// DeleteMessages asks for several messages to go, claimed or not. The answer is how
// many were there.
type DeleteMessages struct {
	Queue domain.QueueID
	IDs   []domain.MessageID
	// Held: each of the messages that are there must be held by one of Claims, or none
	// is deleted.
	Held   bool
	Claims []domain.ClaimID
}

// Needs: the queue and the messages.
func (c DeleteMessages) Needs() Needs {
	return Needs{Queue: c.Queue, Messages: c.IDs, Rank: Frees, Size: rowSize * len(c.IDs)}
}

// Decide deletes those of the messages that are there, each once.
func (c DeleteMessages) Decide(s *State, at domain.Moment) (int, []domain.Event, error) {
	var there []domain.Message
	seen := map[domain.MessageID]bool{}
	for _, id := range c.IDs {
		if m := s.Message(c.Queue, id); m != nil && !seen[id] {
			seen[id] = true
			there = append(there, *m)
		}
	}
	q := s.Queue(c.Queue)
	if c.Held {
		events, err := q.DeleteHeld(c.Queue, there, c.Claims, at.Time)
		return len(there), events, err
	}
	return len(there), q.DeleteMessages(c.Queue, there, at.Time), nil
}

// Taken is a message that a client got by a claim or a pop. Times are whole seconds.
type Taken struct {
	ID         domain.MessageID
	Place      domain.Place
	TTL        int
	Age        int // since posting, never negative
	ClaimCount int
	Claim      domain.ClaimID // zero: popped
	Key        domain.KeyID   `json:",omitzero"` // that the body is sealed with; zero: it is plain
	Body       string         // empty: too long to be carried along; it can be read by place
}

func takenOf(messages []domain.Message, now time.Time) []Taken {
	taken := make([]Taken, len(messages))
	for i, m := range messages {
		age := max(int(now.Sub(m.Created)/time.Second), 0)
		taken[i] = Taken{ID: m.ID, Place: m.Place, TTL: m.TTL, Age: age, ClaimCount: m.ClaimCount, Claim: m.Claim, Key: m.Key, Body: m.Body}
	}
	return taken
}

// PopMessages asks for the oldest free messages of a queue for good: they are gone
// when the answer comes.
type PopMessages struct {
	Queue domain.QueueID
	Limit int
}

// Needs: the queue and its oldest free messages.
func (c PopMessages) Needs() Needs {
	return Needs{Queue: c.Queue, Free: c.Limit, Rank: Takes, Size: rowSize * c.Limit}
}

// Decide takes as many as there are. A pop is no claim: it counts for nothing.
func (c PopMessages) Decide(s *State, at domain.Moment) ([]Taken, []domain.Event, error) {
	free := s.Free(c.Queue)
	if s.rules.HandsOut(c.Queue) {
		taken, events, dropped := s.Queue(c.Queue).PopTasks(c.Queue, c.Limit, free, s.taskOf, s.rules, at.Time)
		if err := s.checkOpens(taken); err != nil {
			return nil, nil, err
		}
		return takenOf(taken, at.Time), s.handedOut(c.Queue, events, dropped && len(taken) < c.Limit, at), nil
	}
	free = free[:min(len(free), c.Limit)]
	if err := s.checkOpens(free); err != nil {
		return nil, nil, err
	}
	return takenOf(free, at.Time), s.Queue(c.Queue).Pop(c.Queue, free), nil
}
