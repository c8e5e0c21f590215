package commands

import "nabu/domain"

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
	ids := make([]domain.MessageID, len(posted.Messages))
	for i, m := range posted.Messages {
		ids[i] = m.ID
	}
	return ids, events, nil
}

// DeleteMessage asks for one message to go. The answer tells whether it was there.
type DeleteMessage struct {
	Queue     domain.QueueID
	ID        domain.MessageID
	WithClaim bool // the client named a claim that is to hold the message
}

// Needs: the queue and the message.
func (c DeleteMessage) Needs() Needs {
	return Needs{Queue: c.Queue, Messages: []domain.MessageID{c.ID}, Rank: Frees, Size: rowSize}
}

// Decide deletes the message if it is there.
func (c DeleteMessage) Decide(s *State, _ domain.Moment) (deleted bool, events []domain.Event, err error) {
	events, err = s.Queue(c.Queue).DeleteOne(c.Queue, s.Message(c.Queue, c.ID), c.WithClaim)
	return len(events) > 0, events, err
}

// DeleteMessages asks for several messages to go, claimed or not. The answer is how
// many were there.
type DeleteMessages struct {
	Queue domain.QueueID
	IDs   []domain.MessageID
}

// Needs: the queue and the messages.
func (c DeleteMessages) Needs() Needs {
	return Needs{Queue: c.Queue, Messages: c.IDs, Rank: Frees, Size: rowSize * len(c.IDs)}
}

// Decide deletes those of the messages that are there, each once.
func (c DeleteMessages) Decide(s *State, _ domain.Moment) (int, []domain.Event, error) {
	var there []domain.Message
	seen := map[domain.MessageID]bool{}
	for _, id := range c.IDs {
		if m := s.Message(c.Queue, id); m != nil && !seen[id] {
			seen[id] = true
			there = append(there, *m)
		}
	}
	return len(there), s.Queue(c.Queue).DeleteMessages(c.Queue, there), nil
}
