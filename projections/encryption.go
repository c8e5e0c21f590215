package projections

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/internal/pgarray"
	"nabu/internal/pgrows"
	"nabu/internal/sealing"
)

// isReadable is an SQL expression: no key was destroyed that the message m is sealed with.
// The others are gone for everybody who reads.
const isReadable = `(m.key IS NULL OR (SELECT k.wrapped IS NULL FROM secrets.data_keys k WHERE k.id = m.key) IS NOT TRUE)`

// Open opens the bodies of messages of one project, as they are stored, and returns the
// messages that have one: those whose key was destroyed a moment ago, and those that are
// damaged, are left out. It refuses with domain.Unavailable if a key is not at hand.
func (v *Views) Open(ctx context.Context, project string, messages []Message) ([]Message, error) {
	var bodies []sealing.Body // none where nothing is sealed
	for i, m := range messages {
		if m.Key != uuid.Nil && bodies == nil {
			bodies = make([]sealing.Body, len(messages))
		}
		if m.Key != uuid.Nil {
			bodies[i] = sealing.Body{Message: m.ID, Key: m.Key, Text: string(m.Body)}
		}
	}
	if bodies == nil {
		return messages, nil
	}
	if err := OpenBodies(ctx, v.Keys, project, bodies); err != nil {
		return nil, err
	}
	opened := messages[:0]
	for i, m := range messages {
		if bodies[i].Gone {
			continue
		}
		if m.Key != uuid.Nil {
			m.Body, m.Key = []byte(bodies[i].Text), uuid.Nil
		}
		opened = append(opened, m)
	}
	return opened, nil
}

// OpenPosted is what was posted, in plain text: for whoever sends messages on. Those whose
// key was destroyed, or that are damaged, are left out. It refuses with
// domain.Unavailable if a key is not at hand.
func OpenPosted(ctx context.Context, keys *sealing.Keys, e domain.MessagesPosted) (domain.MessagesPosted, error) {
	if e.Key == uuid.Nil {
		return e, nil
	}
	bodies := make([]sealing.Body, len(e.Messages))
	for i, m := range e.Messages {
		bodies[i] = sealing.Body{Message: m.ID, Key: e.Key, Text: m.Body}
	}
	if err := OpenBodies(ctx, keys, e.Project, bodies); err != nil {
		return e, err
	}
	var opened []domain.PostedMessage
	for i, m := range e.Messages {
		if m.Body = bodies[i].Text; !bodies[i].Gone {
			opened = append(opened, m)
		}
	}
	e.Key, e.Messages = uuid.Nil, opened
	return e, nil
}

// OpenBodies opens bodies of messages of one project in place. It refuses with
// domain.Unavailable if a key is not at hand.
func OpenBodies(ctx context.Context, keys *sealing.Keys, project string, bodies []sealing.Body) error {
	err := keys.Open(ctx, project, bodies)
	if errors.Is(err, sealing.ErrLocked) {
		return domain.Errorf(domain.Unavailable, "messages are encrypted with a key that this server does not have")
	}
	return err
}

// UnreadableMessages are messages of one queue that stand there although nobody sees them
// any more: the keys of their bodies were destroyed.
type UnreadableMessages struct {
	Queue domain.QueueID
	IDs   []domain.MessageID
}

// Unreadable finds messages that are sealed with destroyed keys, at most so many, by their
// queues.
func (v *Views) Unreadable(ctx context.Context, keys []domain.KeyID, most int) ([]UnreadableMessages, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	rows, err := v.DB.QueryContext(ctx, `
SELECT q.project, q.name, m.id
FROM messages m
JOIN queues q ON q.number = m.queue AND NOT q.deleted
WHERE m.key = ANY ($1::uuid[]) AND NOT `+isReadable+`
    AND m.place > q.purged AND m.expires_at > coalesce($2::timestamptz, statement_timestamp())
LIMIT $3`, pgarray.UUIDs(keys), v.now(), most)
	var found []UnreadableMessages
	at := map[domain.QueueID]int{}
	err = pgrows.Each("find unreadable messages", rows, err, func() error {
		var queue domain.QueueID
		var id domain.MessageID
		if err := rows.Scan(&queue.Project, &queue.Name, &id); err != nil {
			return err
		}
		i, known := at[queue]
		if !known {
			i, at[queue] = len(found), len(found)
			found = append(found, UnreadableMessages{Queue: queue})
		}
		found[i].IDs = append(found[i].IDs, id)
		return nil
	})
	return found, err
}
