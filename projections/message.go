package projections

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgarray"
	"nabu/internal/pgrows"
)

// postedRows are posted messages, column by column.
type postedRows struct {
	queues, places []int64
	ids            []uuid.UUID
	clients        []string
	ttls, delays   []int
	bodies         []string
	keys           []uuid.UUID // empty where nothing is sealed
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
	if e.Key != uuid.Nil || len(rows.keys) > 0 {
		rows.keys = append(rows.keys, make([]uuid.UUID, len(rows.ids)-len(rows.keys))...)
		for i := len(rows.keys) - len(e.Messages); i < len(rows.keys); i++ {
			rows.keys[i] = e.Key
		}
	}
}

func (rows *postedRows) args() []any {
	return []any{
		pgarray.BigInts(rows.queues), pgarray.BigInts(rows.places), pgarray.UUIDs(rows.ids), pgarray.Texts(rows.clients),
		pgarray.Ints(rows.ttls), pgarray.Ints(rows.delays), pgarray.UUIDsOrNull(rows.keys), pgarray.Texts(rows.bodies),
	}
}

// Covers tells whether AppendAndApply can write all these events.
func (Inlines) Covers(events []eventstore.NewEvent) bool {
	for _, e := range events {
		switch e.Event.(type) {
		case domain.MessagesPosted, domain.MessagesClaimed, domain.ClaimRenewed, domain.ClaimReleased,
			domain.MessagesDeleted, domain.MessagesPopped, domain.MessagesMovedOut, domain.MessagesMovedIn:
		default:
			return false
		}
	}
	return true
}

// AppendAndApply writes a batch that changes messages and claims alone in one round
// trip. The batch must have its time, unless there is nothing in it but posts.
func (p Inlines) AppendAndApply(ctx context.Context, tx eventstore.Tx, b *eventstore.Batch) (at time.Time, covered bool, err error) {
	if !p.Covers(b.Events) {
		return at, false, nil
	}
	args, err := b.AppendArgs()
	if err != nil {
		return at, true, err
	}
	if onlyPosts(b.Events) {
		at, err = appendMessages(ctx, tx, b, args)
		return at, true, err
	}
	c := foldMessages(b.Recorded(b.Now))
	row := tx.QueryRowContext(ctx, appendAndWrite, append(args, c.args()...)...)
	var written any // nothing, in its only column
	if err := row.Scan(&at, &written); errors.Is(err, sql.ErrNoRows) {
		return at, true, eventstore.ErrStale
	} else if err != nil {
		return at, true, fmt.Errorf("append and write messages: %w", err)
	}
	if !at.Equal(b.Now) {
		return at, true, fmt.Errorf("the batch's time is %s, not %s", at, b.Now)
	}
	return at, true, nil
}

// appendAndWrite writes only when the batch was appended.
var appendAndWrite = `
SELECT a.at, write_messages(` + placeholders(eventstore.AppendParameters+1, writeArgs) + `)
FROM (SELECT ledger.append(` + placeholders(1, eventstore.AppendParameters) + `) AS at OFFSET 0) AS a
WHERE a.at IS NOT NULL`

func onlyPosts(events []eventstore.NewEvent) bool {
	for _, e := range events {
		if _, posted := e.Event.(domain.MessagesPosted); !posted {
			return false
		}
	}
	return true
}

// appendMessages writes a batch of posts, whose time the database may still give.
func appendMessages(ctx context.Context, tx eventstore.Tx, b *eventstore.Batch, args []any) (time.Time, error) {
	var posted postedRows
	for i, e := range b.Events {
		posted.add(b.Head.Position+int64(i)+1, e.Event.(domain.MessagesPosted))
	}
	return eventstore.ScanTime(tx.QueryRowContext(ctx, appendPosts, append(args, posted.args()...)...))
}

var appendPosts = `SELECT append_messages(` + placeholders(1, eventstore.AppendParameters+8) + `)`

// findMessages is an SQL join: the message m that an asked id, at the place that it
// carries, names in the queue q. One that was moved stands elsewhere. OFFSET 0 keeps the
// lookups by the keys, also where the statistics say that there are no messages.
const findMessages = `
CROSS JOIN LATERAL (
    (SELECT m.* FROM messages m WHERE m.queue = q.number AND m.place = asked.place AND m.id = asked.id OFFSET 0)
    UNION ALL
    SELECT m.* FROM (SELECT * FROM messages m WHERE m.moved AND m.id = asked.id OFFSET 0) AS m WHERE m.queue = q.number
) AS m`

// Message is a message as a client sees it. Times are whole seconds.
type Message struct {
	ID   domain.MessageID
	TTL  int
	Age  int    // since posting, never negative
	Body []byte // as it was posted; of a Message that goes into Open: as it is stored
	// Key is what the stored body is sealed with; zero: it is plain.
	Key domain.KeyID
	// Claim is the live claim that holds it, or zero.
	Claim domain.ClaimID
	// ClaimCount is how often it was claimed; only where a command tells it.
	ClaimCount int
	// Place is where it stands; a page that ends with it goes on after it.
	Place domain.Place
}

const messageColumns = `m.id, m.ttl, m.key, m.body, m.place, CASE WHEN m.claim_ends > t.now THEN m.claim END AS claim,
    greatest(floor(extract(epoch FROM t.now - m.created_at)), 0)::bigint AS age`

// MessageList asks for a page of a queue's messages, oldest first.
type MessageList struct {
	Queue domain.QueueID
	After domain.Place // only messages behind this place
	// Marker, if not zero, is a message behind whose place the list begins while it is
	// in the queue; After is where it stood when it was posted.
	Marker domain.MessageID
	Limit  int
	// Client is whose messages are left out, unless Echo.
	Client string
	Echo   bool
	// IncludeDelayed: also messages whose delay is not over. Messages of a queue
	// that has no default delay are listed in any case, unless DelayOnAnyQueue.
	IncludeDelayed bool
	// IncludeClaimed: also messages that a claim holds.
	IncludeClaimed bool
	// DefaultDelay is the server's, for queues that set none; seconds.
	DefaultDelay int
	// DelayOnAnyQueue: a queue without a default delay may hold delayed messages too.
	DelayOnAnyQueue bool
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
SELECT q.include_delayed, m.id, m.ttl, m.key, m.body, m.place, m.claim, m.age
FROM (
    SELECT q.number, greatest(q.purged, coalesce(
            (SELECT n.place FROM (SELECT * FROM messages n WHERE n.moved AND n.id = $10 OFFSET 0) AS n
            WHERE n.queue = q.number AND n.place > q.purged AND n.expires_at > coalesce($8::timestamptz, statement_timestamp())), $3)) AS after,
        $6 OR NOT $12 AND coalesce(nullif(q.default_delay, 0), $7::int) = 0 AS include_delayed,
        coalesce($8::timestamptz, statement_timestamp()) AS now
    FROM queues q
    WHERE q.project = $1 AND q.name = $2 AND NOT q.deleted
) AS q
LEFT JOIN LATERAL (
    SELECT `+messageColumns+`
    FROM messages m, (SELECT q.now) AS t
    WHERE m.queue = q.number AND m.place > q.after AND m.expires_at > t.now
        AND (m.visible_at <= t.now OR q.include_delayed)
        AND ($11 OR m.claim_ends IS NULL OR m.claim_ends <= t.now)
        AND ($5 OR m.client <> $4) AND `+isReadable+`
    ORDER BY m.place
    LIMIT $9
) AS m ON true
ORDER BY m.place`,
		list.Queue.Project, list.Queue.Name, int64(list.After), list.Client, list.Echo,
		list.IncludeDelayed, list.DefaultDelay, v.now(), list.Limit, list.Marker, list.IncludeClaimed, list.DelayOnAnyQueue)
	page := MessagePage{
		Messages:       make([]Message, 0, list.Limit),
		IncludeDelayed: list.IncludeDelayed || !list.DelayOnAnyQueue && list.DefaultDelay == 0,
	}
	err = pgrows.Each("list messages", rows, err, func() error {
		var id, claim, key uuid.NullUUID
		var ttl, place, age sql.NullInt64
		var body []byte
		if err := rows.Scan(&page.IncludeDelayed, &id, &ttl, &key, &body, &place, &claim, &age); err != nil {
			return err
		}
		if id.Valid { // otherwise the one row of an empty queue
			page.Messages = append(page.Messages, Message{
				ID: id.UUID, TTL: int(ttl.Int64), Age: int(age.Int64), Key: key.UUID, Body: body,
				Claim: claim.UUID, Place: domain.Place(place.Int64),
			})
		}
		return nil
	})
	if err != nil {
		return MessagePage{}, err
	}
	page.Messages, err = v.Open(ctx, list.Queue.Project, page.Messages)
	return page, err
}

// NextFree tells how long it takes until something in a queue becomes free by itself, the
// end of a claim or of a delay, as far as that is known; it may turn out to be nothing.
func (v *Views) NextFree(ctx context.Context, queue domain.QueueID) (after time.Duration, known bool, err error) {
	ctx, cancel := within(ctx)
	defer cancel()
	var seconds sql.NullFloat64
	// As in loadMessages, the tables are named before the function is called.
	err = v.DB.QueryRowContext(ctx, `
WITH locked AS (SELECT FROM claims, messages)
SELECT extract(epoch FROM next_free(q.number, t.now) - t.now)::float8
FROM queues q, (SELECT coalesce($3::timestamptz, statement_timestamp()) AS now) AS t
WHERE q.project = $1 AND q.name = $2 AND NOT q.deleted`, queue.Project, queue.Name, v.now()).Scan(&seconds)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, false, fmt.Errorf("look for what becomes free: %w", err)
	}
	return time.Duration(seconds.Float64 * float64(time.Second)), seconds.Valid, nil
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
JOIN queues q ON q.project = $1 AND q.name = $2 AND NOT q.deleted`+findMessages+`
CROSS JOIN (SELECT coalesce($5::timestamptz, statement_timestamp()) AS now) AS t
WHERE m.expires_at > t.now AND m.place > q.purged AND `+isReadable+`
ORDER BY m.place`,
		queue.Project, queue.Name, pgarray.UUIDs(ids), pgarray.BigInts(places), v.now())
	found, err := pgrows.Collect("find messages", rows, err, func(m *Message) error {
		var claim, key uuid.NullUUID
		err := rows.Scan(&m.ID, &m.TTL, &key, &m.Body, &m.Place, &claim, &m.Age)
		m.Claim, m.Key = claim.UUID, key.UUID
		return err
	})
	if err != nil {
		return nil, err
	}
	return v.Open(ctx, queue.Project, found)
}

// Bodies reads the bodies of messages that were put in these places, as they are
// stored, out of the history: they are there also when the message has gone.
func (v *Views) Bodies(ctx context.Context, places []domain.Place) (map[domain.Place]string, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	return eventstore.Bodies(ctx, v.DB, places)
}
