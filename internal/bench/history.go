package bench

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"nabu/domain"
)

// history is a long one, written straight into the ledger: messages that are posted,
// claimed and deleted one by one. Half of them are gone soon, half stand in the queue while
// many others come; one in ten of all is never deleted.
type history struct {
	db     *sql.DB
	body   string
	queue  domain.QueueID
	number int64
	last   int64 // version of the queue's stream
	posted []domain.Place
}

// What becomes of a message, by how many later ones.
const (
	soon   = 50
	later  = 20_000
	spared = 10 // one of so many
)

const eventsPerInsert = 3000

// newHistory begins one with a queue that nobody has.
func newHistory(db *sql.DB, body int) *history {
	return &history{
		db: db, body: strings.ReplaceAll(messageBody(body), stampPlace, strings.Repeat("0", len(stampPlace))),
		queue: domain.QueueID{Project: project, Name: "history-" + strings.ToLower(rand.Text()[:8])},
	}
}

// write appends at least so many events, and returns the position behind which they stand.
func (h *history) write(ctx context.Context, events int) (after int64, err error) {
	for written := 0; written < events; {
		n, first, err := h.insert(ctx, min(eventsPerInsert, events-written))
		if err != nil {
			return 0, fmt.Errorf("write a history: %w", err)
		}
		if written == 0 {
			after = first - 1
		}
		written += n
	}
	return after, nil
}

// insert appends some events behind the head, holding the ledger's lock.
func (h *history) insert(ctx context.Context, most int) (n int, first int64, err error) {
	tx, err := h.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = tx.Rollback() }()
	var head sql.NullInt64
	if err := tx.QueryRowContext(ctx, `SELECT at_position FROM ledger.begin_batch(0, 0)`).Scan(&head); err != nil {
		return 0, 0, err
	}
	first = head.Int64 + 1
	events, err := h.events(first, most)
	if err != nil {
		return 0, 0, err
	}
	types, data, bodies := make([]string, len(events)), make([]string, len(events)), make([]sql.NullString, len(events))
	for i, e := range events {
		text, err := json.Marshal(e)
		if err != nil {
			return 0, 0, err
		}
		types[i], data[i] = e.EventType(), string(text)
		if bodied, has := e.(domain.Bodied); has {
			bodies[i] = sql.NullString{String: bodied.Bodies()[0], Valid: true}
		}
	}
	if _, err := tx.ExecContext(ctx, `
INSERT INTO ledger.events (position, id, batch, stream, version, type, data, bodies, project, recorded_at)
SELECT $1::bigint + n, gen_random_uuid(), $2::uuid, $3, $4::bigint + n, e.type, e.data::json,
    CASE WHEN e.body IS NOT NULL THEN ARRAY[e.body] END, $5, clock_timestamp()
FROM unnest($6::text[], $7::text[], $8::text[]) WITH ORDINALITY AS e (type, data, body, n)`,
		head.Int64, uuid.NewString(), h.queue.Stream(), h.last, project, pq.Array(types), pq.Array(data), pq.Array(bodies)); err != nil {
		return 0, 0, err
	}
	h.last += int64(len(events))
	return len(events), first, tx.Commit()
}

// events are the next ones, from a position on: the queue itself at first, then posts, each
// with the claim and the deletion of the message whose turn it is.
func (h *history) events(position int64, most int) (events []domain.Event, err error) {
	add := func(e domain.Event) { events = append(events, e) }
	next := func() int64 { return position + int64(len(events)) }
	if h.number == 0 {
		h.number = position
		add(domain.QueueCreated{Project: h.queue.Project, Name: h.queue.Name, Metadata: domain.Metadata{}})
	}
	for len(events) < most {
		place := domain.PlaceOf(next(), 0)
		add(domain.MessagesPosted{
			Project: project, Queue: h.queue.Name, Number: h.number, Client: sender,
			Messages: []domain.PostedMessage{{ID: idAt(place), TTL: 86400, Body: h.body}},
		})
		n := len(h.posted)
		h.posted = append(h.posted, place)
		ago := soon
		if n%2 == 1 {
			ago = later
		}
		if n < ago {
			continue
		}
		place = h.posted[n-ago]
		claim, err := uuid.NewV7()
		if err != nil {
			return nil, err
		}
		add(domain.MessagesClaimed{
			Project: project, Queue: h.queue.Name, Number: h.number, Claim: claim, TTL: 43200, Grace: 60, Counted: true,
			Messages: []domain.ClaimedMessage{{ID: idAt(place), Place: place}},
		})
		if n/2%spared != 0 {
			add(domain.MessagesDeleted{
				Project: project, Queue: h.queue.Name, Number: h.number,
				Messages: []domain.DeletedMessage{{ID: idAt(place), Place: place, Claim: &claim}},
			})
		}
	}
	return events, nil
}

func idAt(place domain.Place) domain.MessageID { return domain.NewMessageID(place, uint64(place)) }

// rowByRow folds the first events of a history as one would who thinks of one event at a
// time: with a statement for each row that it changes, prepared, in one transaction, into
// tables like the live ones. It returns how many events it did in a second.
func (h *history) rowByRow(ctx context.Context, after int64, events int) (perSecond float64, err error) {
	tx, err := h.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback() }() // the tables go as well
	if _, err := tx.ExecContext(ctx, `
CREATE SCHEMA nabu_bench;
CREATE TABLE nabu_bench.messages (LIKE live.messages INCLUDING ALL);
CREATE TABLE nabu_bench.claims (LIKE live.claims INCLUDING ALL)`); err != nil {
		return 0, err
	}
	rows, err := tx.QueryContext(ctx, `
SELECT position, type, data, bodies[1], recorded_at FROM ledger.events
WHERE position > $1 AND position <= $1::bigint + $2::bigint ORDER BY position`, after, events)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var history []naiveEvent
	began := time.Now()
	for rows.Next() {
		var e naiveEvent
		if err := rows.Scan(&e.position, &e.kind, &e.data, &e.body, &e.at); err != nil {
			return 0, err
		}
		history = append(history, e)
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	fold, err := prepareNaive(ctx, tx)
	if err != nil {
		return 0, err
	}
	for _, e := range history {
		if err := fold.apply(ctx, e); err != nil {
			return 0, fmt.Errorf("event %d: %w", e.position, err)
		}
	}
	return float64(len(history)) / time.Since(began).Seconds(), nil
}

// naiveEvent is an event as it stands in the ledger.
type naiveEvent struct {
	position int64
	kind     string
	data     []byte
	body     sql.NullString
	at       time.Time
}

// naiveFold are the statements of rowByRow.
type naiveFold struct{ post, hold, claim, remove, release *sql.Stmt }

func prepareNaive(ctx context.Context, tx *sql.Tx) (f naiveFold, err error) {
	for _, s := range []struct {
		into **sql.Stmt
		text string
	}{
		{&f.post, `INSERT INTO nabu_bench.messages (queue, place, id, client, ttl, created_at, visible_at, expires_at, body)
			VALUES ($1, $2, $3, $4, $5::int, $6, $6, $6::timestamptz + make_interval(secs => $5::int), $7)`},
		{&f.hold, `UPDATE nabu_bench.messages SET claim = $3, claim_ends = $4, claim_count = claim_count + 1 WHERE queue = $1 AND place = $2`},
		{&f.claim, `INSERT INTO nabu_bench.claims (queue, id, place, ttl, renewed_at, ends_at, held, places)
			VALUES ($1, $2, $3, $4, $5, $6, 1, ARRAY[$7::bigint])`},
		{&f.remove, `DELETE FROM nabu_bench.messages WHERE queue = $1 AND place = $2`},
		{&f.release, `UPDATE nabu_bench.claims SET held = held - 1 WHERE queue = $1 AND id = $2`},
	} {
		if *s.into, err = tx.PrepareContext(ctx, s.text); err != nil {
			return f, err
		}
	}
	return f, nil
}

func (f naiveFold) apply(ctx context.Context, e naiveEvent) error {
	exec := func(s *sql.Stmt, args ...any) error {
		_, err := s.ExecContext(ctx, args...)
		return err
	}
	switch e.kind {
	case domain.MessagesPosted{}.EventType():
		var posted domain.MessagesPosted
		if err := json.Unmarshal(e.data, &posted); err != nil {
			return err
		}
		m := posted.Messages[0]
		return exec(f.post, posted.Number, int64(domain.PlaceOf(e.position, 0)), m.ID.String(), posted.Client, m.TTL, e.at, e.body.String)
	case domain.MessagesClaimed{}.EventType():
		var claimed domain.MessagesClaimed
		if err := json.Unmarshal(e.data, &claimed); err != nil {
			return err
		}
		m, ends := claimed.Messages[0], e.at.Add(time.Duration(claimed.TTL)*time.Second)
		if err := exec(f.claim, claimed.Number, claimed.Claim.String(), int64(domain.PlaceOf(e.position, 0)), claimed.TTL, e.at, ends, int64(m.Place)); err != nil {
			return err
		}
		return exec(f.hold, claimed.Number, int64(m.Place), claimed.Claim.String(), ends)
	case domain.MessagesDeleted{}.EventType():
		var deleted domain.MessagesDeleted
		if err := json.Unmarshal(e.data, &deleted); err != nil {
			return err
		}
		m := deleted.Messages[0]
		if err := exec(f.remove, deleted.Number, int64(m.Place)); err != nil {
			return err
		}
		return exec(f.release, deleted.Number, m.Claim.String())
	}
	return nil
}
