package projections

import (
	"context"
	"fmt"
	"math"
	"time"

	"nabu/domain"
	"nabu/eventstore"
)

// Posting is a message as it was posted, whatever has become of it since.
type Posting struct {
	Message // its body as it is stored
	// Visible is when its delay is over.
	Visible time.Time
	// Delayed: it was not to be seen at once.
	Delayed bool
	// Never: it expires before it can be seen.
	Never bool
}

// Postings are messages posted to a queue, in order.
type Postings struct {
	Messages []Posting
	// Version of the queue's stream up to which there are no others: the next ones are
	// behind it.
	Version int64
}

// How much is read of a queue's history at once; the bytes besides those of one request.
const (
	postingEvents = 100
	postingBytes  = 256 << 10
)

var postingTypes = []string{domain.MessagesPosted{}.EventType()}

// PostingsEnd is the version of a queue's stream now. What is posted from now on comes
// after it.
func (v *Views) PostingsEnd(ctx context.Context, queue domain.QueueID) (version int64, err error) {
	ctx, cancel := within(ctx)
	defer cancel()
	version, _, err = eventstore.StreamEnd(ctx, v.DB, queue.Stream(), math.MaxInt64)
	return version, err
}

// Postings reads messages that were posted to a queue after a version of its stream, out
// of the history. They are all of what some requests have posted. The same version: there
// are no more.
func (v *Views) Postings(ctx context.Context, queue domain.QueueID, after int64) (Postings, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	page := Postings{}
	var err error
	if page.Version, _, err = eventstore.StreamEnd(ctx, v.DB, queue.Stream(), math.MaxInt64); err != nil || page.Version == after {
		return page, err
	}
	events, err := eventstore.ReadStreamOf(ctx, v.DB, queue.Stream(), after, math.MaxInt64, postingTypes, postingEvents, postingBytes)
	if err != nil {
		return page, err
	}
	for _, e := range events {
		posted, ok := e.Event.(domain.MessagesPosted)
		if !ok {
			return page, fmt.Errorf("event %d is a %T", e.Position, e.Event)
		}
		for i, m := range posted.Messages {
			page.Messages = append(page.Messages, Posting{
				Message: Message{ID: m.ID, TTL: m.TTL, Body: []byte(m.Body), Key: posted.Key, Place: domain.PlaceOf(e.Position, i)},
				Visible: e.RecordedAt.Add(time.Duration(m.Delay) * time.Second), Delayed: m.Delay > 0, Never: m.Delay >= m.TTL,
			})
		}
		page.Version = e.Version
	}
	return page, nil
}

// Time is the time by which questions are answered now.
func (v *Views) Time(ctx context.Context) (now time.Time, err error) {
	ctx, cancel := within(ctx)
	defer cancel()
	if err = v.DB.QueryRowContext(ctx, `SELECT coalesce($1::timestamptz, statement_timestamp())`, v.now()).Scan(&now); err != nil {
		return now, fmt.Errorf("read the time: %w", err)
	}
	return now, nil
}
