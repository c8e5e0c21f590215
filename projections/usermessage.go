package projections

import (
	"context"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgarray"
	"nabu/internal/pgrows"
)

// UserMessages are the user messages whose expiry is not recorded, deleted ones as well.
var UserMessages = Projection{Name: "user_messages", DDL: mustDDL("usermessages"), Apply: applyToUserMessages}

// userMessageRow is the last word of a slice of history on one user message.
type userMessageRow struct {
	domain.UserMessage
	position int64 // where it was recorded; 0: not within the slice
	made     bool  // within the slice, and not gone at its end
	gone     bool  // one from before the slice has gone, even if another project made one with its id
}

// foldUserMessages is the last word on each user message, in the order of first mention.
func foldUserMessages(history []eventstore.RecordedEvent) []*userMessageRow {
	var messages mentions[domain.UserMessageID, userMessageRow]
	row := func(id domain.UserMessageID, e domain.Event) *userMessageRow {
		r := messages.of(id)
		r.Apply(e)
		r.ID = id
		return r
	}
	for _, recorded := range history {
		switch e := recorded.Event.(type) {
		case domain.UserMessageRecorded:
			r := row(e.ID, e)
			r.made, r.position = true, recorded.Position
		case domain.UserMessageDeleted:
			row(e.ID, e)
		case domain.UserMessageExpired:
			r := row(e.ID, e)
			r.gone, r.made = r.gone || !r.made, false
		}
	}
	return messages.rows
}

func applyToUserMessages(ctx context.Context, tx eventstore.Tx, history []eventstore.RecordedEvent) error {
	rows := foldUserMessages(history)
	if len(rows) == 0 {
		return nil
	}
	var gone, deleted, made userMessageColumns
	for _, r := range rows {
		if r.gone {
			gone.add(r)
		}
		if r.made {
			made.add(r)
		}
		if !r.gone && !r.made && r.Deleted {
			deleted.add(r)
		}
	}
	args := append([]any{pgarray.UUIDs(gone.ids), pgarray.UUIDs(deleted.ids)}, made.all()...)
	return call(ctx, tx, "write_user_messages", args)
}

// userMessageColumns are rows column by column.
type userMessageColumns struct {
	ids                                              []uuid.UUID
	projects, events, actions, details, levels       []string
	types, resources, requests, globalRequests, sent []string
	created, expires                                 []time.Time
	positions                                        []int64
	deleted                                          []int
}

func (c *userMessageColumns) add(r *userMessageRow) {
	c.ids, c.projects, c.events = append(c.ids, r.ID), append(c.projects, r.Project), append(c.events, r.EventID)
	c.actions, c.details = append(c.actions, r.ActionID), append(c.details, r.DetailID)
	c.levels, c.types = append(c.levels, r.Level), append(c.types, r.ResourceType)
	c.resources, c.requests = append(c.resources, r.ResourceUUID), append(c.requests, r.RequestID)
	c.globalRequests, c.sent = append(c.globalRequests, r.GlobalRequestID), append(c.sent, r.Sent)
	c.created, c.expires = append(c.created, r.Created), append(c.expires, r.GuaranteedUntil)
	c.positions = append(c.positions, r.position)
	deleted := 0
	if r.Deleted {
		deleted = 1
	}
	c.deleted = append(c.deleted, deleted)
}

func (c *userMessageColumns) all() []any {
	return []any{
		pgarray.UUIDs(c.ids), pgarray.Texts(c.projects), pgarray.Texts(c.events), pgarray.Texts(c.actions),
		pgarray.Texts(c.details), pgarray.Texts(c.levels), pgarray.Texts(c.types), pgarray.Texts(c.resources),
		pgarray.Texts(c.requests), pgarray.Texts(c.globalRequests), pgarray.Times(c.created), pgarray.Times(c.expires),
		pgarray.Texts(c.sent), pgarray.BigInts(c.positions), pgarray.Ints(c.deleted),
	}
}

// userMessageRead are the columns of a user message, as readUserMessage takes them.
const userMessageRead = `m.id, m.project, m.event_id, m.action_id, m.detail_id, m.message_level, m.resource_type,
    m.resource_uuid, m.request_id, m.global_request_id, m.created_at, m.expires_at, m.sent, m.deleted`

func readUserMessage(rows interface{ Scan(...any) error }, m *domain.UserMessage, more ...any) error {
	err := rows.Scan(append([]any{
		&m.ID, &m.Project, &m.EventID, &m.ActionID, &m.DetailID, &m.Level, &m.ResourceType,
		&m.ResourceUUID, &m.RequestID, &m.GlobalRequestID, &m.Created, &m.GuaranteedUntil, &m.Sent, &m.Deleted,
	}, more...)...)
	m.Created, m.GuaranteedUntil = m.Created.UTC(), m.GuaranteedUntil.UTC()
	return err
}

// loadUserMessages: $1 and $2 user messages by id, in the projects whose histories count
// for those that have expired.
var loadUserMessages = `
SELECT ` + userMessageRead + `, ` + eventstore.LastVersion("'user-message/' || m.project || '/' || m.id") + `
FROM user_messages m WHERE m.id = ANY ($2::uuid[])
UNION ALL
SELECT asked.id, asked.project, '', '', '', '', '', '', '', '', 'epoch'::timestamptz, 'epoch'::timestamptz, '', false, asked.version
FROM (
    SELECT r.id, r.project, ` + eventstore.LastVersion("'user-message/' || r.project || '/' || r.id") + ` AS version
    FROM (SELECT DISTINCT * FROM unnest($1::text[], $2::uuid[]) AS r (project, id)) AS r
    WHERE NOT EXISTS (SELECT FROM user_messages m WHERE m.id = r.id AND m.project = r.project)
) AS asked
WHERE asked.version > 0`

// UserMessages finds user messages by id, deleted ones as well, and the versions of their
// streams. Of one that has expired in the project that is asked about, nothing but that is
// known.
func (States) UserMessages(
	ctx context.Context, tx eventstore.Tx, refs []domain.UserMessageRef,
) (map[domain.UserMessageRef]eventstore.Versioned[domain.UserMessage], error) {
	projects, ids := make([]string, len(refs)), make([]uuid.UUID, len(refs))
	for i, ref := range refs {
		projects[i], ids[i] = ref.Project, ref.ID
	}
	rows, err := tx.QueryContext(ctx, loadUserMessages, pgarray.Texts(projects), pgarray.UUIDs(ids))
	found := make(map[domain.UserMessageRef]eventstore.Versioned[domain.UserMessage], len(refs))
	err = pgrows.Each("load user messages", rows, err, func() error {
		var its eventstore.Versioned[domain.UserMessage]
		if err := readUserMessage(rows, &its.State, &its.Version); err != nil {
			return err
		}
		ref := domain.UserMessageRef{Project: its.State.Project, ID: its.State.ID}
		if its.State.EventID == "" {
			its.State = domain.UserMessage{Gone: true}
		}
		found[ref] = its
		return nil
	})
	return found, err
}
