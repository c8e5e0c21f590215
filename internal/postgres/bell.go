package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lib/pq"
)

// Bell tells the processes that share a database that something has happened there, by
// NOTIFY and LISTEN. It says no more than that, and a ring may get lost: whoever relies
// on more asks the database now and then.
type Bell struct {
	url   string
	heard func()
	log   *slog.Logger

	rung chan struct{}
	own  atomic.Int64 // process id of the session that rings; what it rings is no news
}

// The bell's pace.
const (
	ringEvery     = 75 * time.Millisecond // at most, however often something happens
	ringPause     = time.Second           // after a failure
	ringAnswer    = 10 * time.Second      // most that the server may be silent
	pingEvery     = 45 * time.Second      // so that a connection that died silently is noticed
	minReconnect  = 100 * time.Millisecond
	maxReconnect  = time.Second
	listenTimeout = "5" // seconds to connect
)

// bellChannel is what is notified.
const bellChannel = "nabu_feed"

// NewBell makes a bell. The URL must lead to the database directly: a pooler that gives
// out connections by the transaction passes no notification on, without a word. heard is
// called when another bell has rung, or may have while this one could not hear; it must
// not block for long. Run makes it work.
func NewBell(url string, heard func(), log *slog.Logger) *Bell {
	return &Bell{url: url, heard: heard, log: log, rung: make(chan struct{}, 1)}
}

// Ring lets the others hear that something has happened. It never blocks.
func (b *Bell) Ring() {
	select {
	case b.rung <- struct{}{}:
	default: // it is about to
	}
}

// Run rings and listens until ctx ends.
func (b *Bell) Run(ctx context.Context) error {
	db, err := OpenImpatient(b.url, 1, ringAnswer)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	s, err := parse(b.url)
	if err != nil {
		return fmt.Errorf("database URL: %w", err)
	}
	cfg, err := configure(b.url)
	if err != nil {
		return fmt.Errorf("database URL: %w", err)
	}
	s["sslmode"], s["connect_timeout"], s["application_name"] = string(cfg.SSLMode), listenTimeout, cfg.ApplicationName
	var listening sync.WaitGroup
	defer listening.Wait()
	listening.Go(func() { b.listen(ctx, s.String()) })
	b.ring(ctx, db)
	return nil
}

// listen passes on what is heard. After a gap in which nothing could be heard it calls
// as well.
func (b *Bell) listen(ctx context.Context, dsn string) {
	listener := pq.NewListener(dsn, minReconnect, maxReconnect, func(event pq.ListenerEventType, err error) {
		if err != nil && ctx.Err() == nil {
			b.log.Debug("the connection that listens for other nabus is interrupted", "event", event.String(), "error", err)
		}
	})
	var asking sync.WaitGroup
	defer asking.Wait()
	asking.Go(func() { // waits for the first connection
		if err := listener.Listen(bellChannel); err == nil {
			b.heard()
		}
	})
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		select {
		case n, open := <-listener.NotificationChannel():
			if !open {
				return
			}
			if n == nil || int64(n.BePid) != b.own.Load() {
				b.heard()
			}
		case <-ping.C:
			asking.Go(func() { _ = listener.Ping() }) // a failure makes it connect anew
		}
	}
}

// ring notifies, now and then.
func (b *Bell) ring(ctx context.Context, db *sql.DB) {
	var conn *sql.Conn
	defer func() { dropConn(conn) }()
	for {
		select {
		case <-b.rung:
		case <-ctx.Done():
			return
		}
		pause := ringEvery
		var err error
		if conn, err = b.notify(ctx, db, conn); err != nil && ctx.Err() == nil {
			b.log.Debug("other nabus could not be told of new events", "error", err)
			pause = ringPause
			b.Ring()
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// notify rings once, and returns the connection for the next time. A notification
// writes nothing, so nothing has to reach the disk.
func (b *Bell) notify(ctx context.Context, db *sql.DB, conn *sql.Conn) (*sql.Conn, error) {
	if conn == nil {
		var err error
		if conn, err = db.Conn(ctx); err != nil {
			return nil, fmt.Errorf("connect: %w", err)
		}
		var pid int64
		if err := conn.QueryRowContext(ctx, `SELECT pg_backend_pid()`).Scan(&pid); err != nil {
			dropConn(conn)
			return nil, fmt.Errorf("notify: %w", err)
		}
		b.own.Store(pid)
	}
	if _, err := conn.ExecContext(ctx, `BEGIN; SET LOCAL synchronous_commit = off; NOTIFY `+bellChannel+`; COMMIT`); err != nil {
		dropConn(conn)
		return nil, fmt.Errorf("notify: %w", err)
	}
	return conn, nil
}

// dropConn throws a connection away, whatever state it is in.
func dropConn(conn *sql.Conn) {
	if conn != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		_ = conn.Close()
	}
}
