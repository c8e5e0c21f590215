package reactors

import (
	"context"
	"errors"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/projections"
)

// Bounds of what a worker takes at a time. What all of them hold together has one too, as
// far as each can have something.
const (
	pageEvents = 50
	leastBytes = 16 << 10
	mostBytes  = 1 << 20
	allBytes   = 64 << 20
	leastDue   = 5
	mostDue    = 50
	allDue     = 5000
)

// What else happened in a queue is passed over a stretch at a time, and when it was long
// the cursor moves past it: nobody has to go through it again.
const (
	maxPassed   = 20_000 // versions
	leastPassed = 1000
)

var postedType = []string{domain.MessagesPosted{}.EventType()}

// read reads the next posts to the queue.
func (w *worker) read(ctx context.Context) ([]eventstore.RecordedEvent, error) {
	if err := w.takeRead(ctx); err != nil {
		return nil, err
	}
	defer func() { <-w.reads }()
	stream := w.s.Queue.Stream()
	if w.version == unknown {
		// The event at the cursor may hold more messages: it is read once more.
		position, _ := w.cursor.Parts()
		version, err := eventstore.VersionAt(ctx, w.Ledger, stream, position-1)
		if err != nil {
			return nil, err
		}
		w.version = version
	}
	for {
		upto := w.version + maxPassed
		events, err := eventstore.ReadStreamOf(ctx, w.Ledger, stream, w.version, upto, postedType, pageEvents,
			w.share(leastBytes, mostBytes, allBytes))
		if err != nil || len(events) > 0 {
			return events, err
		}
		if passed, err := w.pass(ctx, stream, upto); !passed || err != nil {
			return nil, err
		}
	}
}

// takeRead waits until the ledger may be read.
func (w *worker) takeRead(ctx context.Context) error {
	select {
	case w.reads <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pass goes past a stretch of the stream in which no post was found. That is to be believed
// only as far as the stream was known to go before anybody looked; passed is true when it is
// worth another look.
func (w *worker) pass(ctx context.Context, stream string, upto int64) (passed bool, err error) {
	if end := min(w.end, upto); end > w.version {
		version, position, err := eventstore.StreamEnd(ctx, w.Ledger, stream, end)
		if err != nil {
			return false, err
		}
		w.version, w.cursor, w.skipped = version, max(w.cursor, domain.PlaceOf(position, 0)), maxSkipped
		return true, w.tell()
	}
	w.end, _, err = eventstore.StreamEnd(ctx, w.Ledger, stream, w.version+maxPassed)
	return w.end-w.version >= leastPassed, err
}

// messagesOf are the messages of a post in plain text, and the place of the last one. Those
// that nobody can read any more are left out. Who has expired is not asked for a key.
func (w *worker) messagesOf(ctx context.Context, recorded eventstore.RecordedEvent) (messages []notified, end domain.Place, err error) {
	posted, isPost := recorded.Event.(domain.MessagesPosted)
	if !isPost {
		return nil, 0, nil
	}
	end = domain.PlaceOf(recorded.Position, len(posted.Messages)-1)
	opened, err := w.Open(ctx, posted)
	locked, isLocked := errors.AsType[*domain.Error](err)
	switch {
	case isLocked:
		opened = posted
	case err != nil:
		return nil, 0, err
	}
	for _, its := range opened.Messages {
		m := notifiedOf(recorded.RecordedAt, its)
		if isLocked {
			m.locked = locked
		}
		messages = append(messages, m)
	}
	return messages, end, nil
}

// find reads the messages of what waits. One that nobody can read any more is the zero
// value, which has expired.
func (w *worker) find(ctx context.Context, due []projections.Waiting) (map[domain.Place]notified, error) {
	var positions []int64
	asked, wanted := map[int64]bool{}, map[domain.Place]bool{}
	for _, waiting := range due {
		position, _ := waiting.Place.Parts()
		if wanted[waiting.Place] = true; waiting.Owes == "" && !asked[position] {
			asked[position] = true
			positions = append(positions, position)
		}
	}
	if len(positions) == 0 {
		return nil, nil
	}
	if err := w.takeRead(ctx); err != nil {
		return nil, err
	}
	defer func() { <-w.reads }()
	events, err := eventstore.ReadPositions(ctx, w.Ledger, positions)
	if err != nil {
		return nil, err
	}
	found := make(map[domain.Place]notified, len(due))
	for _, recorded := range events {
		messages, _, err := w.messagesOf(ctx, recorded)
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			if wanted[m.place] {
				found[m.place] = m
			}
		}
	}
	return found, nil
}
