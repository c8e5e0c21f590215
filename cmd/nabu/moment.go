package main

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"nabu/eventstore"
	"nabu/projections"
)

// moment is a flag's time: an instant, or so long ago. The zero moment is none.
type moment struct {
	text  string
	at    time.Time
	ago   time.Duration
	isAgo bool // it is so long ago, and at says nothing
}

func (m *moment) String() string { return m.text }
func (m *moment) Type() string   { return "time" }

// Set reads a time as RFC 3339 has it, or a duration.
func (m *moment) Set(text string) (err error) {
	its := moment{text: text}
	if its.at, err = time.Parse(time.RFC3339, text); err != nil {
		its.isAgo = true
		if its.ago, err = time.ParseDuration(text); err != nil || its.ago < 0 {
			return errors.New("must be a time such as 2026-03-01T10:00:00Z, or how long ago it was, such as 15m or 36h")
		}
	}
	*m = its
	return nil
}

func (m moment) given() bool { return m.text != "" }

// position is that of the last event before the moment; 0: there is none. What was so long
// ago is reckoned by the database's clock, as the times of events are.
func (m moment) position(ctx context.Context, db *sql.DB) (int64, error) {
	at := m.at
	if m.isAgo {
		now, err := (&projections.Views{DB: db}).Time(ctx)
		if err != nil {
			return 0, err
		}
		at = now.Add(-m.ago)
	}
	return eventstore.PositionBefore(ctx, db, at)
}
