package postgres

import (
	"context"
	"database/sql"
	"log/slog"
	"sync"
	"time"

	"github.com/lib/pq/pqerror"
)

// Presence tells the log when a database can no longer be reached and when it is back: one
// line each, however many pools, requests and readers find out. It looks at nothing by itself
// and learns it from the connections that its pools try to make.
type Presence struct {
	log *slog.Logger
	url string

	mu      sync.Mutex
	away    bool
	changed time.Time // when away became what it is
}

// NewPresence is that of the database at a URL, which is there so far.
func NewPresence(url string, log *slog.Logger) *Presence {
	return &Presence{log: log.With("database", Redact(url)), url: url}
}

// OpenImpatient is OpenImpatient for a pool at the URL.
func (p *Presence) OpenImpatient(maxConns int, answer time.Duration) (*sql.DB, error) {
	return openPool(p.url, maxConns, answer, p)
}

// OpenWriter is OpenWriter for a pool at the URL.
func (p *Presence) OpenWriter(answer time.Duration) (*sql.DB, error) {
	return openPool(p.url, 1, answer, p)
}

// tried takes note of how an attempt to connect went. What began before the last change says
// nothing of what is now, and nor does an attempt that its caller gave up, or one that a
// server answers which is full.
func (p *Presence) tried(ctx context.Context, began time.Time, err error) {
	if err != nil && (!IsUnavailable(err) || ctx.Err() != nil || classOf(err) == pqerror.ClassInsufficientResources) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away == (err != nil) || began.Before(p.changed) {
		return
	}
	lasted := time.Since(p.changed)
	p.away, p.changed = err != nil, time.Now()
	if p.away {
		p.log.Warn("the database is away", "because", err)
	} else {
		p.log.Info("the database is back", "after", lasted.Round(time.Millisecond))
	}
}
