package projections

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgarray"
)

// Messages are the messages in each queue.
var Messages = Projection{Name: "messages", DDL: mustDDL("messages"), Apply: applyToMessages}

// postedRows are posted messages, column by column.
type postedRows struct {
	queues, places []int64
	ids            []uuid.UUID
	clients        []string
	ttls, delays   []int
	bodies         []string
}

func (rows *postedRows) add(position int64, e domain.MessagesPosted) {
	for i, m := range e.Messages {
		rows.queues = append(rows.queues, e.Number)
		rows.places = append(rows.places, int64(domain.PlaceOf(position, i)))
		rows.ids = append(rows.ids, m.ID)
		rows.clients = append(rows.clients, e.Client)
		rows.ttls = append(rows.ttls, m.TTL)
		rows.delays = append(rows.delays, m.Delay)
		rows.bodies = append(rows.bodies, m.Body)
	}
}

func (rows *postedRows) args() []any {
	return []any{
		pgarray.BigInts(rows.queues), pgarray.BigInts(rows.places), pgarray.UUIDs(rows.ids), pgarray.Texts(rows.clients),
		pgarray.Ints(rows.ttls), pgarray.Ints(rows.delays), pgarray.Texts(rows.bodies),
	}
}

// applyToMessages adds what was posted and takes away what has gone. A message that
// comes and goes within the slice is added first.
func applyToMessages(ctx context.Context, tx eventstore.Tx, history []eventstore.RecordedEvent) error {
	var posted postedRows
	var times []time.Time
	var queues, places []int64
	for _, recorded := range history {
		switch e := recorded.Event.(type) {
		case domain.MessagesPosted:
			posted.add(recorded.Position, e)
			for range e.Messages {
				times = append(times, recorded.RecordedAt)
			}
		case domain.MessagesDeleted:
			for _, m := range e.Messages {
				queues, places = append(queues, e.Number), append(places, int64(m.Place))
			}
		}
	}
	if len(times) > 0 {
		args := append(posted.args(), pgarray.Times(times))
		if _, err := tx.ExecContext(ctx, `
INSERT INTO messages (queue, place, id, client, ttl, created_at, visible_at, expires_at, body)
SELECT m.queue, m.place, m.id, m.client, m.ttl, m.at,
    m.at + make_interval(secs => m.delay), m.at + make_interval(secs => m.ttl), m.body
FROM unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::text[], $5::int[], $6::int[], $7::text[], $8::timestamptz[])
    AS m (queue, place, id, client, ttl, delay, body, at)`, args...); err != nil {
			return fmt.Errorf("insert messages: %w", err)
		}
	}
	if len(places) > 0 {
		if _, err := tx.ExecContext(ctx, `
DELETE FROM messages m
USING unnest($1::bigint[], $2::bigint[]) AS gone (queue, place)
WHERE m.queue = gone.queue AND m.place = gone.place`,
			pgarray.BigInts(queues), pgarray.BigInts(places)); err != nil {
			return fmt.Errorf("delete messages: %w", err)
		}
	}
	return nil
}

// Covers tells whether all events are posts of messages.
func (Inlines) Covers(events []eventstore.NewEvent) bool {
	for _, e := range events {
		if _, posted := e.Event.(domain.MessagesPosted); !posted {
			return false
		}
	}
	return true
}

// AppendAndApply writes a batch of nothing but posts in one round trip.
func (p Inlines) AppendAndApply(ctx context.Context, tx eventstore.Tx, b *eventstore.Batch) (at time.Time, covered bool, err error) {
	if !p.Covers(b.Events) {
		return at, false, nil
	}
	var posted postedRows
	for i, e := range b.Events {
		posted.add(b.Head.Position+int64(i)+1, e.Event.(domain.MessagesPosted))
	}
	args, err := b.AppendArgs()
	if err != nil {
		return at, true, err
	}
	at, err = eventstore.ScanTime(tx.QueryRowContext(ctx, `
SELECT append_messages($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
    $17, $18, $19, $20, $21, $22, $23)`, append(args, posted.args()...)...))
	return at, true, err
}

// Messages finds those of the messages that are alive at a time.
func (States) Messages(
	ctx context.Context, tx eventstore.Tx, refs []domain.MessageRef, at time.Time,
) (map[domain.MessageRef]domain.Message, error) {
	n := len(refs)
	projects, names, ids, places := make([]string, n), make([]string, n), make([]uuid.UUID, n), make([]domain.Place, n)
	for i, ref := range refs {
		projects[i], names[i], ids[i], places[i] = ref.Queue.Project, ref.Queue.Name, ref.ID, domain.PostingPlace(ref.ID)
	}
	rows, err := tx.QueryContext(ctx, `
SELECT asked.project, asked.name, m.id, m.place, m.queue
FROM unnest($1::text[], $2::text[], $3::uuid[], $4::bigint[]) AS asked (project, name, id, place)
JOIN queues q ON q.project = asked.project AND q.name = asked.name AND NOT q.deleted
JOIN messages m ON m.queue = q.number AND m.place = asked.place AND m.id = asked.id
WHERE m.expires_at > $5::timestamptz`,
		pgarray.Texts(projects), pgarray.Texts(names), pgarray.UUIDs(ids), pgarray.BigInts(places), at)
	if err != nil {
		return nil, fmt.Errorf("load messages: %w", err)
	}
	defer rows.Close()
	found := make(map[domain.MessageRef]domain.Message, n)
	for rows.Next() {
		var ref domain.MessageRef
		var m domain.Message
		if err := rows.Scan(&ref.Queue.Project, &ref.Queue.Name, &ref.ID, &m.Place, &m.QueueNumber); err != nil {
			return nil, fmt.Errorf("load messages: %w", err)
		}
		m.ID = ref.ID
		found[ref] = m
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("load messages: %w", err)
	}
	return found, nil
}

// Message is a message as a client sees it. Times are whole seconds.
type Message struct {
	ID   domain.MessageID
	TTL  int
	Age  int // since posting, never negative
	Body []byte
	// Place is where it stands; a page that ends with it goes on after it.
	Place domain.Place
}

const messageColumns = `m.id, m.ttl, m.body, m.place,
    greatest(floor(extract(epoch FROM t.now - m.created_at)), 0)::bigint AS age`

// MessageList asks for a page of a queue's messages, oldest first.
type MessageList struct {
	Queue domain.QueueID
	After domain.Place // only messages behind this place
	Limit int
	// Client is whose messages are left out, unless Echo.
	Client string
	Echo   bool
	// IncludeDelayed: also messages whose delay is not over. Messages of a queue
	// that has no default delay are listed in any case.
	IncludeDelayed bool
	// DefaultDelay is the server's, for queues that set none; seconds.
	DefaultDelay int
}

// MessagePage is a page of messages.
type MessagePage struct {
	Messages []Message
	// IncludeDelayed as it was in effect.
	IncludeDelayed bool
}

// Messages lists messages. It costs the rows it returns and those that it has to
// leave out between them, however many the queue holds. A queue that is not there
// is an empty one.
func (v *Views) Messages(ctx context.Context, list MessageList) (MessagePage, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	rows, err := v.DB.QueryContext(ctx, `
SELECT q.include_delayed, m.id, m.ttl, m.body, m.place, m.age
FROM (
    SELECT q.number, $6 OR coalesce(nullif(q.default_delay, 0), $7::int) = 0 AS include_delayed,
        coalesce($8::timestamptz, statement_timestamp()) AS now
    FROM queues q
    WHERE q.project = $1 AND q.name = $2 AND NOT q.deleted
) AS q
LEFT JOIN LATERAL (
    SELECT `+messageColumns+`
    FROM messages m, (SELECT q.now) AS t
    WHERE m.queue = q.number AND m.place > $3 AND m.expires_at > t.now
        AND (m.visible_at <= t.now OR q.include_delayed)
        AND ($5 OR m.client <> $4)
    ORDER BY m.place
    LIMIT $9
) AS m ON true
ORDER BY m.place`,
		list.Queue.Project, list.Queue.Name, int64(list.After), list.Client, list.Echo,
		list.IncludeDelayed, list.DefaultDelay, v.now(), list.Limit)
	if err != nil {
		return MessagePage{}, fmt.Errorf("list messages: %w", err)
	}
	defer rows.Close()
	page := MessagePage{Messages: make([]Message, 0, list.Limit), IncludeDelayed: list.IncludeDelayed || list.DefaultDelay == 0}
	for rows.Next() {
		var id uuid.NullUUID
		var ttl, place, age sql.NullInt64
		var body []byte
		if err := rows.Scan(&page.IncludeDelayed, &id, &ttl, &body, &place, &age); err != nil {
			return MessagePage{}, fmt.Errorf("list messages: %w", err)
		}
		if id.Valid { // otherwise the one row of an empty queue
			page.Messages = append(page.Messages, Message{
				ID: id.UUID, TTL: int(ttl.Int64), Age: int(age.Int64), Body: body, Place: domain.Place(place.Int64),
			})
		}
	}
	if err := rows.Err(); err != nil {
		return MessagePage{}, fmt.Errorf("list messages: %w", err)
	}
	return page, nil
}

// MessagesByID finds those of the messages that are in the queue and have not
// expired, in the queue's order.
func (v *Views) MessagesByID(ctx context.Context, queue domain.QueueID, ids []domain.MessageID) ([]Message, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	places := make([]domain.Place, len(ids))
	for i, id := range ids {
		places[i] = domain.PostingPlace(id)
	}
	rows, err := v.DB.QueryContext(ctx, `
SELECT DISTINCT ON (m.place) `+messageColumns+`
FROM unnest($3::uuid[], $4::bigint[]) AS asked (id, place)
JOIN queues q ON q.project = $1 AND q.name = $2 AND NOT q.deleted
JOIN messages m ON m.queue = q.number AND m.place = asked.place AND m.id = asked.id,
    (SELECT coalesce($5::timestamptz, statement_timestamp()) AS now) AS t
WHERE m.expires_at > t.now
ORDER BY m.place`,
		queue.Project, queue.Name, pgarray.UUIDs(ids), pgarray.BigInts(places), v.now())
	if err != nil {
		return nil, fmt.Errorf("find messages: %w", err)
	}
	defer rows.Close()
	var found []Message
	for rows.Next() {
		var m Message
		if err := rows.Scan(&m.ID, &m.TTL, &m.Body, &m.Place, &m.Age); err != nil {
			return nil, fmt.Errorf("find messages: %w", err)
		}
		found = append(found, m)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("find messages: %w", err)
	}
	return found, nil
}
