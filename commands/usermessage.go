package commands

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"time"

	"nabu/domain"
	"nabu/eventstore"
)

// RecordUserMessage asks for a user message. The answer is the message; also if it was
// recorded before, by the same request with the same id.
type RecordUserMessage struct {
	Message domain.NewUserMessage
	Rules   domain.UserMessageRules
}

// Needs: what the id stands for, if the producer set it.
func (c RecordUserMessage) Needs() Needs {
	needs := Needs{Rank: Adds, Size: 2 * rowSize}
	if c.Message.Named {
		needs.UserMessages = []domain.UserMessageRef{{Project: c.Message.Project, ID: c.Message.ID}}
	}
	return needs
}

// Decide records the message.
func (c RecordUserMessage) Decide(s *State, at domain.Moment) (m domain.UserMessage, events []domain.Event, err error) {
	m = s.UserMessage(domain.UserMessageRef{Project: c.Message.Project, ID: c.Message.ID})
	if events, err = m.Record(c.Message, c.Rules, at.Time); err != nil {
		return m, nil, err
	}
	for _, e := range events {
		m.Apply(e)
	}
	return m, events, nil
}

// DeleteUserMessage asks for a user message to be shown no more.
type DeleteUserMessage struct {
	ID domain.UserMessageID
	// Project is the one whose messages may be deleted.
	Project string
	All     bool // those of any project may be; Project plays no role
}

// Needs: the message.
func (c DeleteUserMessage) Needs() Needs {
	return Needs{UserMessages: []domain.UserMessageRef{{Project: c.Project, ID: c.ID}}, Rank: Frees, Size: rowSize}
}

// Decide deletes the message if it is there.
func (c DeleteUserMessage) Decide(s *State, _ domain.Moment) (deleted bool, events []domain.Event, err error) {
	events, err = s.UserMessage(domain.UserMessageRef{Project: c.Project, ID: c.ID}).Delete(c.ID, c.Project, c.All)
	return err == nil, events, err
}

// SweepUserMessages asks for user messages to go that are not guaranteed any more. The
// answer tells whether there were some.
type SweepUserMessages struct {
	Project string
	IDs     []domain.UserMessageID
}

// Needs: the messages.
func (c SweepUserMessages) Needs() Needs {
	needs := Needs{Housework: true, Rank: Frees, Size: rowSize * len(c.IDs)}
	for _, id := range c.IDs {
		needs.UserMessages = append(needs.UserMessages, domain.UserMessageRef{Project: c.Project, ID: id})
	}
	return needs
}

// Decide sweeps those that it is time for.
func (c SweepUserMessages) Decide(s *State, at domain.Moment) (swept bool, events []domain.Event, err error) {
	for _, id := range c.IDs {
		events = append(events, s.UserMessage(domain.UserMessageRef{Project: c.Project, ID: id}).Sweep(at.Time)...)
	}
	return len(events) > 0, events, nil
}

// ProduceUserMessages asks for what services left in the queue for user messages to be
// recorded. In one decision a message leaves the queue and what it tells is recorded, so
// nothing is recorded twice or lost.
type ProduceUserMessages struct {
	ServiceProject string
	Limit          int
	Rules          domain.UserMessageRules
}

// Produced is what became of messages in the queue.
type Produced struct {
	Recorded int
	Refused  []string // why
}

// Needs: the oldest messages of the queue, and that for those which are refused.
func (c ProduceUserMessages) Needs() Needs {
	return Needs{
		Queue: domain.ProduceQueue(c.ServiceProject), Free: c.Limit, Produces: true,
		Posts: []domain.QueueID{domain.RefusedQueue(c.ServiceProject)}, Rank: Takes, Size: 3 * rowSize * c.Limit,
	}
}

// Decide records what may be recorded. What may not goes to the other queue, with the
// reason, so that nothing stands in the way of what is behind it.
func (c ProduceUserMessages) Decide(s *State, at domain.Moment) (p Produced, events []domain.Event, err error) {
	queue := domain.ProduceQueue(c.ServiceProject)
	var taken []domain.Message
	var refused []refusedMessage
	now := map[domain.UserMessageID]domain.UserMessage{} // what this decision has made of them
	for _, m := range s.Free(queue) {
		if len(taken) == c.Limit {
			break
		}
		its := s.produced(queue, m)
		if !its.known {
			break // the next one asks for it
		}
		if its.err == nil {
			had, changed := now[its.message.ID]
			if !changed {
				had = s.UserMessage(domain.UserMessageRef{Project: its.message.Project, ID: its.message.ID})
			}
			var recorded []domain.Event
			if recorded, its.err = had.Record(its.message, c.Rules, at.Time); its.err == nil {
				for _, e := range recorded {
					had.Apply(e)
				}
				now[its.message.ID] = had
				events = append(events, recorded...)
				p.Recorded++
			}
		}
		if its.err != nil {
			refused = append(refused, refusedMessage{m, its.body, its.err.Error()})
			p.Refused = append(p.Refused, its.err.Error())
		}
		taken = append(taken, m)
	}
	if err := s.checkOpens(taken); err != nil {
		return Produced{}, nil, err
	}
	events = append(events, s.Queue(queue).Pop(queue, taken)...)
	return p, s.refuse(domain.RefusedQueue(c.ServiceProject), refused, events, at), nil
}

// producedMessage is what a message in the queue for user messages says.
type producedMessage struct {
	message domain.NewUserMessage
	body    string // as it was posted; empty: it cannot be opened
	err     error  // a refusal
	known   bool   // it was looked for what its id stands for, if it has one
}

var errCannotOpen = domain.Errorf(domain.Invalid, "the body cannot be opened")

// produced reads a message in the queue. One that names no id gets its own.
func (s *State) produced(queue domain.QueueID, m domain.Message) (p producedMessage) {
	if p.body = m.Body; m.Body == "" {
		return p // too long to be carried along with those before it
	}
	p.known = true
	if m.Key != (domain.KeyID{}) {
		k := s.key(m.Key)
		if k == nil {
			p.body, p.err = "", errCannotOpen
			return p
		}
		if p.body, p.err = k.Open(queue.Project, m.ID, m.Body); p.err != nil {
			p.body, p.err = "", errCannotOpen
			return p
		}
	}
	if p.message, p.err = domain.ParseProduced(p.body); p.err != nil {
		return p
	}
	if !p.message.Named {
		p.message.ID, p.message.Named = m.ID, true
	}
	p.message.Brought = m.Created
	_, p.known = s.userMessages[domain.UserMessageRef{Project: p.message.Project, ID: p.message.ID}]
	return p
}

// refusedMessage is one that cannot be recorded.
type refusedMessage struct {
	domain.Message
	body, reason string
}

// refuse adds to what was decided that the messages go to a queue, with the reasons. Should
// that queue not take them, they are still in the history.
func (s *State) refuse(queue domain.QueueID, messages []refusedMessage, events []domain.Event, at domain.Moment) []domain.Event {
	if len(messages) == 0 {
		return events
	}
	post := domain.Post{Queue: queue, Client: domain.HandOutClient, AtOnce: true}
	for _, m := range messages {
		text, err := json.Marshal(struct {
			Reason string           `json:"reason"`
			ID     domain.MessageID `json:"message_id"`
			Posted time.Time        `json:"posted_at"`
			Body   json.RawMessage  `json:"body"`
		}{m.reason, m.ID, m.Created.UTC(), json.RawMessage(cmp.Or(m.body, "null"))})
		if err != nil {
			continue
		}
		post.Messages = append(post.Messages, domain.NewMessage{TTL: s.Limits.MaxMessageTTL, Body: string(text)})
		post.Salts = append(post.Salts, binary.BigEndian.Uint64(m.ID[8:]))
	}
	posted, err := s.Queue(queue).Post(post, s.Limits, domain.Moment{Position: at.Position + int64(len(events)), Time: at.Time})
	if err != nil || s.sealPosts(posted) != nil {
		return events
	}
	return append(events, posted...)
}

// UserMessage is what an id stands for now: a message of any project, or else what the
// project's history says of it; the zero value if nothing does.
func (s *State) UserMessage(ref domain.UserMessageRef) domain.UserMessage {
	if project, held := s.holders[ref.ID]; held {
		ref.Project = project
	}
	return s.userMessages[ref].State
}

// recordUserMessage overlays the user messages with an event and gives the event its
// version.
func (s *State) recordUserMessage(ref domain.UserMessageRef, e domain.Event) (version int64) {
	its := s.userMessages[ref]
	its.Version++
	its.State.Apply(e)
	s.putUserMessage(ref, its)
	return its.Version
}

func (s *State) putUserMessage(ref domain.UserMessageRef, its eventstore.Versioned[domain.UserMessage]) {
	if s.userMessages == nil {
		s.userMessages = map[domain.UserMessageRef]eventstore.Versioned[domain.UserMessage]{}
		s.holders = map[domain.UserMessageID]string{}
	}
	s.userMessages[ref] = its
	if its.State.ID == ref.ID {
		s.holders[ref.ID] = ref.Project
	} else if s.holders[ref.ID] == ref.Project {
		delete(s.holders, ref.ID)
	}
}

// loadPosts loads the queues that commands say they may post to.
func (e *Executor) loadPosts(ctx context.Context, w *work) error {
	var queues []domain.QueueID
	for _, p := range w.commands {
		queues = append(queues, p.needs.Posts...)
	}
	w.state.posts = append(w.state.posts, queues...)
	return e.loadQueues(ctx, w, queues)
}

// loadUserMessages fills the state with what the commands need to know of user messages:
// those that they name, those that messages in the queue name which they may take, and those
// that would tell of failures of the tasks that were loaded.
func (e *Executor) loadUserMessages(ctx context.Context, w *work) error {
	s := w.state
	var refs []domain.UserMessageRef
	for _, p := range w.commands {
		refs = append(refs, p.needs.UserMessages...)
		if !p.needs.Produces {
			continue
		}
		for _, m := range s.Free(p.needs.Queue) {
			if its := s.produced(p.needs.Queue, m); its.err == nil && its.message.Named {
				refs = append(refs, domain.UserMessageRef{Project: its.message.Project, ID: its.message.ID})
			}
		}
	}
	if s.userRules.TaskFailures {
		for id, its := range s.tasks {
			refs = append(refs, domain.UserMessageRef{Project: its.State.Owner, ID: domain.TaskFailureID(id)})
		}
	}
	if len(refs) == 0 {
		return nil
	}
	found, err := e.Loader.UserMessages(ctx, e.conn, refs)
	if err != nil {
		return err
	}
	for ref, its := range found {
		s.putUserMessage(ref, its)
	}
	for _, ref := range refs {
		s.putUserMessage(ref, found[ref])
	}
	return nil
}
