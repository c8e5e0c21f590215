package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/lib/pq"
)

const (
	connectTimeout = 10 * time.Second
	maxIdleTime    = 5 * time.Minute
	// maxConnLife brings pools back to the preferred host some time after a failover.
	maxConnLife = time.Hour
)

// Open makes a pool. It sets what must never depend on a default: binary parameters
// (one round trip for each statement, and nothing prepared by name unless by a
// Prepared, so a transaction pooler may stand between), the application's name, a bound on
// connecting, TCP keepalive and the sslmode. It connects to nothing yet, and its
// errors never carry the password.
func Open(url string, maxConns int) (*sql.DB, error) { return openPool(url, maxConns, 0, nil) }

// OpenWriter makes a pool of one connection whose server must answer each request
// within a time; otherwise the connection counts as lost. A context's deadline would
// do the same, but lib/pq and database/sql start a goroutine each for every statement
// whose context can end, and a writer that batches waits for both: without them it
// carries a tenth more.
func OpenWriter(url string, answer time.Duration) (*sql.DB, error) {
	return openPool(url, 1, answer, nil)
}

// OpenImpatient is Open for statements that are short: a server that leaves a request
// without an answer for so long counts as lost. lib/pq asks a server to cancel what a
// context has ended, but then waits for the server's word, which one that is frozen never
// gives.
func OpenImpatient(url string, maxConns int, answer time.Duration) (*sql.DB, error) {
	return openPool(url, maxConns, answer, nil)
}

func openPool(url string, maxConns int, answer time.Duration, presence *Presence) (*sql.DB, error) {
	cfg, err := configure(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	inner, err := pq.NewConnectorConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	inner.Dialer(dialer{answer: answer, Dialer: &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable:   true,
		Idle:     30 * time.Second,
		Interval: 10 * time.Second,
		Count:    3,
	}}})
	db := sql.OpenDB(connector{inner, cfg, presence})
	db.SetMaxOpenConns(maxConns)
	db.SetMaxIdleConns(maxConns)
	db.SetConnMaxIdleTime(maxIdleTime)
	db.SetConnMaxLifetime(maxConnLife)
	return db, nil
}

// configure is what Open hands to lib/pq.
func configure(url string) (pq.Config, error) {
	s, err := parse(url)
	if err != nil {
		return pq.Config{}, err
	}
	if err := oneKindOfHost(s["host"]); err != nil {
		return pq.Config{}, err
	}
	cfg, err := pq.NewConfig(s.String())
	if err != nil {
		return pq.Config{}, withoutPassword(err, s["password"])
	}
	if err := noUnknown(cfg.Runtime); err != nil {
		return pq.Config{}, err
	}
	cfg.BinaryParameters = true
	if cfg.ApplicationName == "" {
		cfg.ApplicationName = "nabu"
	}
	if cfg.ConnectTimeout <= 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	if cfg.SSLMode == "" {
		cfg.SSLMode = pq.SSLModeRequire // what lib/pq does today when nobody says anything
	}
	return cfg, nil
}

// oneKindOfHost refuses socket folders and host names in one list: lib/pq takes the
// first one's kind for all of them, and would leave out TLS on the network.
func oneKindOfHost(hosts string) error {
	list := strings.Split(hosts, ",")
	for _, host := range list {
		if isSocket(host) != isSocket(list[0]) {
			return errors.New("a list of hosts has either socket folders or host names, not both")
		}
	}
	return nil
}

func isSocket(host string) bool { return filepath.IsAbs(host) || strings.HasPrefix(host, "@") }

// withoutPassword replaces an error that quotes the password.
func withoutPassword(err error, password string) error {
	if password != "" && strings.Contains(err.Error(), password) {
		return errors.New("a setting has a value that is not allowed")
	}
	return err
}

// connector marks what fails before a connection is ready, so that it is never
// mistaken for a connection that broke under a statement.
type connector struct {
	inner    *pq.Connector
	cfg      pq.Config // for errors
	presence *Presence // is told how it went; nil: nobody is
}

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	began := time.Now()
	conn, err := c.inner.Connect(ctx)
	if err != nil {
		err = &connectError{err, place(c.cfg), c.cfg.User, c.cfg.Database}
	}
	if c.presence != nil {
		c.presence.tried(ctx, began, err)
	}
	return conn, err
}

func (c connector) Driver() driver.Driver { return c.inner.Driver() }

// dialer gives lib/pq the three methods it asks for.
type dialer struct {
	*net.Dialer
	answer time.Duration // 0: no bound
}

func (d dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.Dialer.DialContext(ctx, network, address)
	if err != nil || d.answer == 0 {
		return conn, err
	}
	return impatient{conn, d.answer}, nil
}

func (d dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

func (d dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

// impatient is a connection on which an answer must come soon after a request.
type impatient struct {
	net.Conn
	answer time.Duration
}

func (c impatient) Write(request []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.answer)); err != nil {
		return 0, err
	}
	return c.Conn.Write(request)
}
