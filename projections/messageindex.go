package projections

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgarray"
	"nabu/internal/pgrows"
)

// MessageIndex finds the events that concern a message.
var MessageIndex = Projection{Name: "message-index", DDL: mustDDL("messageindex"), Apply: applyToMessageIndex}

// MessageIndexTypes are the events that the message index is made of. A message's id
// itself leads to the event that posted it.
var MessageIndexTypes = []string{
	domain.MessagesClaimed{}.EventType(), domain.ClaimRenewed{}.EventType(), domain.ClaimReleased{}.EventType(),
	domain.MessagesDeleted{}.EventType(), domain.MessagesPopped{}.EventType(),
	domain.MessagesMovedOut{}.EventType(), domain.MessagesMovedIn{}.EventType(),
	domain.QueuePurged{}.EventType(), domain.QueueDeleted{}.EventType(), domain.MessagesSwept{}.EventType(),
	domain.DeliveriesAttempted{}.EventType(),
}

// messageEvent is an event that concerns the message posted at a place.
type messageEvent struct {
	message  domain.Place
	position int64
}

// messageRange is an event that concerns what stood between two places of a queue.
type messageRange struct {
	queue       int64
	first, last domain.Place
	position    int64
}

// endOfQueue is behind every place.
const endOfQueue = domain.Place(math.MaxInt64)

func applyToMessageIndex(ctx context.Context, tx eventstore.Tx, history []eventstore.RecordedEvent) error {
	events, ranges := foldMessageIndex(history)
	if len(events) > 0 {
		begun := stretch(history[0].Position, indexedEvents)
		if err := call(ctx, tx, "index_messages", append([]any{begun}, messageEventArgs(events)...)); err != nil {
			return err
		}
	}
	if len(ranges) == 0 {
		return nil
	}
	n := len(ranges)
	queues, first, last, positions := make([]int64, n), make([]domain.Place, n), make([]domain.Place, n), make([]int64, n)
	for i, r := range ranges {
		queues[i], first[i], last[i], positions[i] = r.queue, r.first, r.last, r.position
	}
	if _, err := tx.ExecContext(ctx, `
INSERT INTO message_ranges (queue, first, last, position)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
ON CONFLICT DO NOTHING`,
		pgarray.BigInts(queues), pgarray.BigInts(first), pgarray.BigInts(last), pgarray.BigInts(positions)); err != nil {
		return fmt.Errorf("index ranges of messages: %w", err)
	}
	return nil
}

// At how many positions the messages were posted that a row of the index is about, and at how
// many are the events that concern them.
const (
	indexedPostings = 16
	indexedEvents   = 256
)

// stretch is where the stretch of so many positions begins that has a position.
func stretch(position, size int64) int64 { return position - position%size }

// stretches is the key of a row of message_events.
type stretches struct{ posted, recorded int64 }

func (e messageEvent) stretches() stretches {
	posted, _ := e.message.Parts()
	return stretches{stretch(posted, indexedPostings), stretch(e.position, indexedEvents)}
}

// messageEventArgs are one element for each row of message_events, with its pairs.
func messageEventArgs(events []messageEvent) []any {
	groups := together(events, messageEvent.stretches)
	n := len(groups)
	posted, recorded := make([]int64, n), make([]int64, n)
	messages, positions := make([][]byte, n), make([][]byte, n)
	for i, pairs := range groups {
		key := pairs[0].stretches()
		posted[i], recorded[i] = key.posted, key.recorded
		messages[i] = arrayText(pairs, func(text []byte, e messageEvent) []byte {
			return strconv.AppendInt(text, int64(e.message-domain.PlaceOf(key.posted, 0)), 10)
		})
		positions[i] = arrayText(pairs, func(text []byte, e messageEvent) []byte {
			return strconv.AppendInt(text, e.position-key.recorded, 10)
		})
	}
	return []any{pgarray.BigInts(posted), pgarray.BigInts(recorded), pgarray.Texts(messages), pgarray.Texts(positions)}
}

// indexedPositions are the positions of the events that concern a message, in order.
func indexedPositions(ctx context.Context, tx eventstore.Tx, id domain.MessageID) ([]int64, error) {
	place := domain.PostingPlace(id)
	posting, _ := place.Parts()
	from := stretch(posting, indexedPostings)
	return int64s(ctx, tx, "look into the index", `
SELECT e.recorded_from + pair.position
FROM message_events e
CROSS JOIN LATERAL unnest(e.messages, e.positions) AS pair (message, position)
WHERE e.posted_from = $1 AND $2 = ANY (e.messages) AND pair.message = $2
ORDER BY 1
LIMIT $3`, from, int64(place-domain.PlaceOf(from, 0)), maxStory)
}

// foldMessageIndex gathers what the index is made of, that of messages in the order of events.
func foldMessageIndex(history []eventstore.RecordedEvent) (events []messageEvent, ranges []messageRange) {
	for _, recorded := range history {
		for _, id := range messagesOf(recorded.Event) {
			events = append(events, messageEvent{domain.PostingPlace(id), recorded.Position})
		}
		add := func(queue int64, first, last domain.Place) {
			ranges = append(ranges, messageRange{queue, first, last, recorded.Position})
		}
		switch e := recorded.Event.(type) {
		case domain.QueuePurged:
			add(e.Number, 0, domain.PlaceOf(recorded.Position, 0))
		case domain.QueueDeleted:
			add(e.Number, 0, endOfQueue)
		case domain.MessagesSwept:
			if e.Upto > 0 {
				add(e.Number, 0, e.Upto)
			}
			for _, r := range e.Expired {
				add(e.Number, r.First, r.Last)
			}
		}
	}
	slices.SortFunc(events, func(a, b messageEvent) int {
		return cmp.Or(cmp.Compare(a.position, b.position), cmp.Compare(a.message, b.message))
	})
	return slices.Compact(events), ranges
}

// messagesOf are the messages that an event names, without those it posts. One may be among
// them several times.
func messagesOf(event domain.Event) (ids []domain.MessageID) {
	switch e := event.(type) {
	case domain.MessagesClaimed:
		for _, m := range e.Messages {
			ids = append(ids, m.ID)
		}
	case domain.ClaimRenewed:
		for _, m := range e.Messages {
			ids = append(ids, m.ID)
		}
	case domain.ClaimReleased:
		ids = appendIDs(ids, e.Messages)
	case domain.MessagesDeleted:
		for _, m := range e.Messages {
			ids = append(ids, m.ID)
		}
	case domain.MessagesPopped:
		ids = appendIDs(ids, e.Messages)
	case domain.MessagesMovedOut:
		ids = appendIDs(ids, e.Messages)
	case domain.MessagesMovedIn:
		for _, m := range e.Messages {
			ids = append(ids, m.ID)
		}
	case domain.DeliveriesAttempted:
		for _, a := range e.Attempts {
			if a.Message != (domain.MessageID{}) { // it is no question
				ids = append(ids, a.Message)
			}
		}
	}
	return ids
}

func appendIDs(ids []domain.MessageID, messages []domain.MessageAt) []domain.MessageID {
	for _, m := range messages {
		ids = append(ids, m.ID)
	}
	return ids
}

// maxStory bounds the events of a story.
const maxStory = 10_000

// MessageStory is everything that concerns one message: events from the one that posted it to the
// one that took its row away, in order. What the index does not know yet is missing. It refuses with
// domain.NotFound when no message was ever posted with this id.
func (v *Views) MessageStory(ctx context.Context, id domain.MessageID) ([]eventstore.RecordedEvent, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	tx, err := v.DB.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("read the story of message %s: %w", id, err)
	}
	defer func() { _ = tx.Rollback() }()
	story, err := messageStory(ctx, tx, id)
	if refused := (*domain.Error)(nil); err != nil && !errors.As(err, &refused) {
		err = fmt.Errorf("read the story of message %s: %w", id, err)
	}
	return story, err
}

func messageStory(ctx context.Context, tx eventstore.Tx, id domain.MessageID) ([]eventstore.RecordedEvent, error) {
	positions, err := indexedPositions(ctx, tx, id)
	if err != nil {
		return nil, err
	}
	posting, _ := domain.PostingPlace(id).Parts()
	story, err := eventstore.ReadPositions(ctx, tx, append([]int64{posting}, positions...))
	if err != nil {
		return nil, err
	}
	story = slices.DeleteFunc(story, func(e eventstore.RecordedEvent) bool { return !concerns(e.Event, id) })
	lives := livesOf(story, id)
	if len(lives) == 0 {
		return nil, domain.Errorf(domain.NotFound, "no message was ever posted with the id %s", id)
	}
	for _, l := range lives {
		ends, err := l.ends(ctx, tx)
		if err != nil {
			return nil, err
		}
		story = append(story, ends...)
	}
	slices.SortFunc(story, func(a, b eventstore.RecordedEvent) int { return cmp.Compare(a.Position, b.Position) })
	return story, nil
}

// concerns tells whether an event names a message: the index knows only its place.
func concerns(event domain.Event, id domain.MessageID) bool {
	if posted, ok := event.(domain.MessagesPosted); ok {
		return slices.ContainsFunc(posted.Messages, func(m domain.PostedMessage) bool { return m.ID == id })
	}
	return slices.Contains(messagesOf(event), id)
}

// life is a message's stay in one queue.
type life struct {
	queue      int64
	place      domain.Place
	from, upto int64 // positions of its first and last event; upto 0: none has ended it
	expires    time.Time
}

// livesOf are a message's stays, in order.
func livesOf(events []eventstore.RecordedEvent, id domain.MessageID) (lives []life) {
	for _, recorded := range events {
		at := recorded.RecordedAt
		switch e := recorded.Event.(type) {
		case domain.MessagesPosted:
			i := slices.IndexFunc(e.Messages, func(m domain.PostedMessage) bool { return m.ID == id })
			lives = append(lives, life{
				queue: e.Number, place: domain.PlaceOf(recorded.Position, i), from: recorded.Position,
				expires: at.Add(time.Duration(e.Messages[i].TTL) * time.Second),
			})
		case domain.MessagesMovedIn:
			i := slices.IndexFunc(e.Messages, func(m domain.MovedMessage) bool { return m.ID == id })
			lives = append(lives, life{
				queue: e.Number, place: domain.PlaceOf(recorded.Position, i), from: recorded.Position,
				expires: e.Messages[i].Expires,
			})
		case domain.MessagesClaimed:
			extend(lives, id, e.Messages, domain.ClaimLife{TTL: e.TTL, Grace: e.Grace}, at)
		case domain.ClaimRenewed:
			extend(lives, id, e.Messages, domain.ClaimLife{TTL: e.TTL, Grace: e.Grace}, at)
		case domain.MessagesDeleted, domain.MessagesPopped, domain.MessagesMovedOut:
			if n := len(lives); n > 0 {
				lives[n-1].upto = recorded.Position
			}
		}
	}
	return lives
}

// extend lets the last life go on where a claim has made it longer.
func extend(lives []life, id domain.MessageID, claimed []domain.ClaimedMessage, claim domain.ClaimLife, at time.Time) {
	for _, m := range claimed {
		if n := len(lives); n > 0 && m.ID == id && m.Extended {
			lives[n-1].expires = at.Add(time.Duration(claim.TTL+claim.Grace) * time.Second)
		}
	}
}

// maxEnds bounds the events that are looked at for the end of a life. All but one or two
// are purges between the one that ended it and the sweep behind that.
const maxEnds = 100

// ends are the events that ended a life without naming the message: the purge or deletion
// of its queue, and the sweep that took its row away.
func (l life) ends(ctx context.Context, tx eventstore.Tx) ([]eventstore.RecordedEvent, error) {
	if l.upto > 0 {
		return nil, nil
	}
	positions, err := int64s(ctx, tx, "look for the end", `
SELECT r.position
FROM message_ranges r
CROSS JOIN LATERAL (SELECT e.recorded_at FROM ledger.events e WHERE e.position = r.position LIMIT 1) AS e
WHERE r.queue = $1 AND r.last >= $2 AND r.first <= $2 AND r.position > $3
    AND (r.first = 0 OR e.recorded_at >= $4)
ORDER BY r.position
LIMIT $5`, l.queue, int64(l.place), l.from, l.expires, maxEnds)
	if err != nil {
		return nil, err
	}
	events, err := eventstore.ReadPositions(ctx, tx, positions)
	if err != nil {
		return nil, err
	}
	for i, e := range events {
		if _, isSweep := e.Event.(domain.MessagesSwept); !isSweep {
			continue
		}
		if i == 0 {
			return events[:1], nil
		}
		return []eventstore.RecordedEvent{events[0], e}, nil
	}
	return events[:min(len(events), 1)], nil
}

// int64s are the numbers of a statement's only column.
func int64s(ctx context.Context, tx eventstore.Tx, doing, query string, args ...any) ([]int64, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	return pgrows.Collect(doing, rows, err, func(n *int64) error { return rows.Scan(n) })
}
