package projections

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgarray"
)

// Claims finds those of the claims that are live at a time, with the messages that
// they still hold.
func (States) Claims(
	ctx context.Context, tx eventstore.Tx, refs []domain.ClaimRef, at time.Time,
) (map[domain.ClaimRef]domain.Claim, error) {
	n := len(refs)
	projects, names, ids := make([]string, n), make([]string, n), make([]uuid.UUID, n)
	for i, ref := range refs {
		projects[i], names[i], ids[i] = ref.Queue.Project, ref.Queue.Name, ref.ID
	}
	rows, err := tx.QueryContext(ctx, `
SELECT asked.project, asked.name, c.id, m.id, m.place, c.queue, m.ttl, m.created_at, m.expires_at, m.claim_ends, m.claim_count
FROM unnest($1::text[], $2::text[], $3::uuid[]) AS asked (project, name, id)
JOIN queues q ON q.project = asked.project AND q.name = asked.name AND NOT q.deleted
JOIN claims c ON c.queue = q.number AND c.id = asked.id AND c.ends_at > $4::timestamptz AND NOT c.released
LEFT JOIN LATERAL (
    SELECT m.*
    FROM unnest(c.places) AS p (place)
    JOIN messages m ON m.queue = c.queue AND m.place = p.place AND m.claim = c.id
    WHERE m.expires_at > $4 AND m.place > q.purged
) AS m ON true
ORDER BY c.id, m.place`, pgarray.Texts(projects), pgarray.Texts(names), pgarray.UUIDs(ids), at)
	if err != nil {
		return nil, fmt.Errorf("load claims: %w", err)
	}
	defer rows.Close()
	found := make(map[domain.ClaimRef]domain.Claim, n)
	for rows.Next() {
		var ref domain.ClaimRef
		var id uuid.NullUUID
		var place, number, ttl, count sql.NullInt64
		var created, expires, ends sql.NullTime
		if err := rows.Scan(&ref.Queue.Project, &ref.Queue.Name, &ref.ID, &id, &place, &number, &ttl,
			&created, &expires, &ends, &count); err != nil {
			return nil, fmt.Errorf("load claims: %w", err)
		}
		claim := found[ref]
		claim.ID = ref.ID
		if id.Valid { // otherwise the one row of a claim that holds nothing any more
			claim.Messages = append(claim.Messages, domain.Message{
				ID: id.UUID, Place: domain.Place(place.Int64), QueueNumber: number.Int64, TTL: int(ttl.Int64),
				Created: created.Time, Expires: expires.Time, Claim: ref.ID, ClaimEnds: ends.Time, ClaimCount: int(count.Int64),
			})
		}
		found[ref] = claim
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("load claims: %w", err)
	}
	return found, nil
}

// freeBodies is how many bytes of bodies one load of free messages brings along.
// Whoever needs one that was left out reads it after the batch.
const freeBodies = 8 << 20

// Messages finds the messages that decisions need: by name, and the oldest free ones
// of queues.
func (States) Messages(
	ctx context.Context, tx eventstore.Tx, needs []domain.MessageNeed, free []domain.FreeNeed, at time.Time,
) (domain.LoadedMessages, error) {
	loaded := domain.LoadedMessages{}
	args := append(append(neededArgs(needs), freeArgs(free)...), at, freeBodies)
	rows, err := tx.QueryContext(ctx, loadMessages, args...)
	if err != nil {
		return loaded, fmt.Errorf("load messages: %w", err)
	}
	defer rows.Close()
	if err := scanLoadedRows(rows, needs, free, &loaded); err != nil {
		return loaded, fmt.Errorf("load messages: %w", err)
	}
	return loaded, nil
}

// MessagesAhead is the same as a statement without parameters: there are only numbers,
// times and UUIDs in it.
func (States) MessagesAhead(
	needs []domain.MessageNeed, free []domain.FreeNeed, at string, into *domain.LoadedMessages,
) (statement string, scan func(*sql.Rows) error) {
	var queues, purged, ids, places, claims arrayText
	for _, need := range needs {
		queues.number(need.Number)
		purged.number(int64(need.Purged))
		places.number(int64(domain.PostingPlace(need.ID)))
		ids.id(need.ID)
		claims.id(need.Claim)
	}
	var freeQueues, freePurged, marks, sinces, wants, most arrayText
	for _, need := range free {
		freeQueues.number(need.Number)
		freePurged.number(int64(need.Purged))
		marks.number(int64(need.Mark.Place))
		sinces.time(need.Mark.Since)
		wants.number(int64(need.Want))
		most.number(int64(need.MostClaims))
	}
	statement = `SELECT asked, named_lives, queue, place, id, client, ttl, created_at, expires_at, claim, claim_ends, claim_count, body
FROM load_messages(` + queues.quoted() + `, ` + purged.quoted() + `, ` + ids.quoted() + `, ` + places.quoted() + `, ` + claims.quoted() +
		`, ` + freeQueues.quoted() + `, ` + freePurged.quoted() + `, ` + marks.quoted() + `, ` + sinces.quoted() + `, ` + wants.quoted() +
		`, ` + most.quoted() + `, ` + at + `, ` + strconv.Itoa(freeBodies) + `)`
	return statement, func(rows *sql.Rows) error { return scanLoadedRows(rows, needs, free, into) }
}

// arrayText is an array as PostgreSQL writes it, of what needs no quotes.
type arrayText []byte

func (a *arrayText) separate() {
	if len(*a) > 0 {
		*a = append(*a, ',')
	}
}

func (a *arrayText) number(n int64) {
	a.separate()
	*a = strconv.AppendInt(*a, n, 10)
}

// id adds a UUID; the zero one is null.
func (a *arrayText) id(id uuid.UUID) {
	a.separate()
	if id == uuid.Nil {
		*a = append(*a, "NULL"...)
		return
	}
	*a = append(*a, id.String()...)
}

// time adds a time; the zero one is null.
func (a *arrayText) time(t time.Time) {
	a.separate()
	if t.IsZero() {
		*a = append(*a, "NULL"...)
		return
	}
	*a = t.UTC().AppendFormat(*a, time.RFC3339Nano)
}

func (a *arrayText) quoted() string { return `'{` + string(*a) + `}'` }

func scanLoadedRows(rows *sql.Rows, needs []domain.MessageNeed, free []domain.FreeNeed, loaded *domain.LoadedMessages) error {
	loaded.Messages = make(map[domain.MessageRef]domain.Message, len(needs))
	loaded.Live = map[domain.ClaimRef]bool{}
	loaded.Free = make(map[domain.QueueID]domain.FreeMessages, len(free))
	names := make(map[int64]domain.QueueID, len(free))
	for _, need := range free {
		names[need.Number] = need.Queue
	}
	for rows.Next() {
		if err := scanLoaded(rows, needs, names, loaded); err != nil {
			return err
		}
	}
	return rows.Err()
}

var loadMessages = `
SELECT asked, named_lives, queue, place, id, client, ttl, created_at, expires_at, claim, claim_ends, claim_count, body
FROM load_messages(` + parameters(1, 13) + `)`

func neededArgs(needs []domain.MessageNeed) []any {
	n := len(needs)
	queues, purged, places := make([]int64, n), make([]domain.Place, n), make([]domain.Place, n)
	ids, claims := make([]uuid.UUID, n), make([]uuid.UUID, n)
	for i, need := range needs {
		queues[i], purged[i], places[i] = need.Number, need.Purged, domain.PostingPlace(need.ID)
		ids[i], claims[i] = need.ID, need.Claim
	}
	return []any{
		pgarray.BigInts(queues), pgarray.BigInts(purged), pgarray.UUIDs(ids), pgarray.BigInts(places), pgarray.UUIDsOrNull(claims),
	}
}

func freeArgs(needs []domain.FreeNeed) []any {
	n := len(needs)
	queues, purged, marks := make([]int64, n), make([]domain.Place, n), make([]domain.Place, n)
	sinces, wants, most := make([]time.Time, n), make([]int, n), make([]int, n)
	for i, need := range needs {
		queues[i], purged[i], marks[i] = need.Number, need.Purged, need.Mark.Place
		sinces[i], wants[i], most[i] = need.Mark.Since, need.Want, need.MostClaims
	}
	return []any{
		pgarray.BigInts(queues), pgarray.BigInts(purged), pgarray.BigInts(marks), pgarray.TimesOrNull(sinces),
		pgarray.Ints(wants), pgarray.Ints(most),
	}
}

// scanLoaded reads a message that was asked for, a free one, or the row that ends the
// free ones of a queue.
func scanLoaded(rows *sql.Rows, needs []domain.MessageNeed, names map[int64]domain.QueueID, loaded *domain.LoadedMessages) error {
	var m domain.Message
	var asked, place, ttl, count sql.NullInt64
	var lives sql.NullBool
	var id, claim uuid.NullUUID
	var client, body sql.NullString
	var created, expires, ends sql.NullTime
	if err := rows.Scan(&asked, &lives, &m.QueueNumber, &place, &id, &client, &ttl, &created, &expires,
		&claim, &ends, &count, &body); err != nil {
		return err
	}
	m.ID, m.Place, m.Client, m.TTL = id.UUID, domain.Place(place.Int64), client.String, int(ttl.Int64)
	m.Created, m.Expires, m.ClaimCount, m.Body = created.Time, expires.Time, int(count.Int64), body.String
	m.Claim, m.ClaimEnds = claim.UUID, ends.Time
	if asked.Valid {
		need := needs[asked.Int64-1]
		loaded.Messages[need.MessageRef] = m
		if lives.Bool {
			loaded.Live[domain.ClaimRef{Queue: need.Queue, ID: need.Claim}] = true
		}
		return nil
	}
	name := names[m.QueueNumber]
	free := loaded.Free[name]
	if id.Valid {
		free.Messages = append(free.Messages, m)
	} else {
		free.Beyond = m.Place
	}
	loaded.Free[name] = free
	return nil
}

// Claim is a claim as a client sees it. Times are whole seconds.
type Claim struct {
	TTL      int
	Age      int // since it began, or began anew
	Messages []Message
}

// Claim finds a live claim of a queue and the messages that it still holds.
func (v *Views) Claim(ctx context.Context, ref domain.ClaimRef) (claim Claim, exists bool, err error) {
	ctx, cancel := within(ctx)
	defer cancel()
	rows, err := v.DB.QueryContext(ctx, `
SELECT c.ttl, greatest(floor(extract(epoch FROM t.now - c.renewed_at)), 0)::bigint, m.id, m.ttl, m.body, m.place, m.age
FROM queues q
CROSS JOIN (SELECT coalesce($4::timestamptz, statement_timestamp()) AS now) AS t
JOIN claims c ON c.queue = q.number AND c.id = $3 AND c.ends_at > t.now AND NOT c.released
LEFT JOIN LATERAL (
    SELECT `+messageColumns+`
    FROM unnest(c.places) AS p (place)
    JOIN messages m ON m.queue = c.queue AND m.place = p.place AND m.claim = c.id
    WHERE m.expires_at > t.now AND m.place > q.purged
) AS m ON true
WHERE q.project = $1 AND q.name = $2 AND NOT q.deleted
ORDER BY m.place`, ref.Queue.Project, ref.Queue.Name, ref.ID, v.now())
	if err != nil {
		return claim, false, fmt.Errorf("read claim: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id uuid.NullUUID
		var ttl, place, age sql.NullInt64
		var body []byte
		if err := rows.Scan(&claim.TTL, &claim.Age, &id, &ttl, &body, &place, &age); err != nil {
			return claim, false, fmt.Errorf("read claim: %w", err)
		}
		exists = true
		if id.Valid { // otherwise the one row of a claim that holds nothing any more
			claim.Messages = append(claim.Messages, Message{
				ID: id.UUID, TTL: int(ttl.Int64), Age: int(age.Int64), Body: body, Claim: ref.ID, Place: domain.Place(place.Int64),
			})
		}
	}
	if err := rows.Err(); err != nil {
		return claim, false, fmt.Errorf("read claim: %w", err)
	}
	return claim, exists, nil
}

// Stats is how many messages a queue has, and which stand at its ends.
type Stats struct {
	Claimed, Total int
	Oldest, Newest *MessageAge // nil in an empty queue
}

// MessageAge is a message and when it was posted.
type MessageAge struct {
	ID      domain.MessageID
	Age     int // whole seconds, never negative
	Created time.Time
}

// Stats counts a queue's messages, exactly: by what is kept count of, by what was
// posted since that was last moved on, and without what has expired or ended since
// the last sweep. A queue that is not there is an empty one.
func (v *Views) Stats(ctx context.Context, id domain.QueueID) (Stats, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	var s Stats
	var oldest, newest uuid.NullUUID
	var oldestAt, newestAt sql.NullTime
	var now time.Time
	err := v.DB.QueryRowContext(ctx, `
SELECT t.now,
    coalesce((SELECT n.messages FROM message_counts n WHERE n.queue = q.number), 0)
    + (SELECT count(*) FROM messages m WHERE m.queue = q.number AND m.place > greatest(q.purged,
        coalesce((SELECT n.upto FROM message_counts n WHERE n.queue = q.number), 0)))
    - (SELECT count(*) FROM messages m WHERE m.expires_at <= t.now AND m.queue = q.number AND m.place > q.purged),
    (SELECT coalesce(sum(c.held), 0) FROM claims c
        WHERE c.queue = q.number AND c.ends_at > t.now AND c.place > q.purged AND NOT c.released),
    o.id, o.created_at, n.id, n.created_at
FROM queues q
CROSS JOIN (SELECT coalesce($3::timestamptz, statement_timestamp()) AS now) AS t
LEFT JOIN LATERAL (
    SELECT m.id, m.created_at FROM messages m
    WHERE m.queue = q.number AND m.place > q.purged AND m.expires_at > t.now
    ORDER BY m.place LIMIT 1
) AS o ON true
LEFT JOIN LATERAL (
    SELECT m.id, m.created_at FROM messages m
    WHERE m.queue = q.number AND m.place > q.purged AND m.expires_at > t.now
    ORDER BY m.place DESC LIMIT 1
) AS n ON true
WHERE q.project = $1 AND q.name = $2 AND NOT q.deleted`, id.Project, id.Name, v.now()).Scan(
		&now, &s.Total, &s.Claimed, &oldest, &oldestAt, &newest, &newestAt)
	if errors.Is(err, sql.ErrNoRows) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read stats: %w", err)
	}
	s.Oldest, s.Newest = messageAge(oldest, oldestAt, now), messageAge(newest, newestAt, now)
	return s, nil
}

func messageAge(id uuid.NullUUID, at sql.NullTime, now time.Time) *MessageAge {
	if !id.Valid {
		return nil
	}
	return &MessageAge{ID: id.UUID, Age: max(int(now.Sub(at.Time)/time.Second), 0), Created: at.Time}
}
