package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// connectError wraps what went wrong before a connection was ready for use, when
// nothing can have been under way on it. It says where, and what can be done.
type connectError struct {
	cause          error
	at             string // host and port, or socket; empty: unknown
	role, database string
}

func (e *connectError) Unwrap() error { return e.cause }

func (e *connectError) Error() string {
	code := pqerror.Code("")
	if said := pq.As(e.cause); said != nil {
		code = said.Code
	}
	_, noHost := errors.AsType[*net.DNSError](e.cause)
	switch {
	case e.at == "" || errors.Is(e.cause, context.Canceled):
		return e.cause.Error()
	case errors.Is(e.cause, syscall.ECONNREFUSED), errors.Is(e.cause, fs.ErrNotExist):
		return fmt.Sprintf("nothing listens at %s: is PostgreSQL running, and is this its host and port? %v", e.at, e.cause)
	case noHost:
		return fmt.Sprintf("the host of %s is not found: %v", e.at, e.cause)
	case errors.Is(e.cause, pq.ErrSSLNotSupported):
		return fmt.Sprintf("PostgreSQL at %s has no TLS, which is asked for if nobody says otherwise: let it have a certificate, or add sslmode=disable to the connection string", e.at)
	case code == pqerror.InvalidCatalogName:
		return fmt.Sprintf("PostgreSQL at %s has no database %q: make it, with CREATE DATABASE %s OWNER nabu_owner, or name another", e.at, e.database, pq.QuoteIdentifier(e.database))
	case isMisconfigured(e.cause):
		return fmt.Sprintf("PostgreSQL at %s does not let role %q in: is there such a role, and are password and pg_hba.conf right? %v", e.at, e.role, e.cause)
	case code == pqerror.UndefinedObject:
		return fmt.Sprintf("PostgreSQL at %s does not know a setting of the connection string: %v", e.at, e.cause)
	}
	return fmt.Sprintf("connect to PostgreSQL at %s: %v", e.at, e.cause)
}

// IsNotConnected says that a connection did not come about.
func IsNotConnected(err error) bool {
	_, never := errors.AsType[*connectError](err)
	return never
}

// IsMisconfigured says that a connection did not come about, and that asking again will
// not change that: wrong password, no such database, no TLS.
func IsMisconfigured(err error) bool {
	unknown := pq.As(err, pqerror.UndefinedObject) != nil
	return IsNotConnected(err) && (unknown || isMisconfigured(err) || errors.Is(err, pq.ErrSSLNotSupported))
}

// IsForbidden says that the role lacks a right for a statement.
func IsForbidden(err error) bool { return pq.As(err, pqerror.InsufficientPrivilege) != nil }

// place is where a pool connects to, for errors: its first host.
func place(cfg pq.Config) string {
	port := strconv.Itoa(int(cfg.Port))
	if isSocket(cfg.Host) {
		return filepath.Join(cfg.Host, ".s.PGSQL."+port)
	}
	return net.JoinHostPort(cfg.Host, port)
}

// aboutConnecting are how the names of settings begin that concern the connection and
// that no server takes for a session.
var aboutConnecting = []string{"ssl", "host", "user", "port", "db", "conn", "target", "service"}

// noUnknown refuses what lib/pq would hand to the server as a parameter of the session
// though it can only be a misspelt setting of the connection.
func noUnknown(parameters map[string]string) error {
	for name := range parameters {
		if slices.ContainsFunc(aboutConnecting, func(beginning string) bool { return strings.HasPrefix(name, beginning) }) {
			return fmt.Errorf("the connection string has the unknown setting %s; known are host, port, user, password, dbname, sslmode, sslrootcert and others of libpq", name)
		}
	}
	return nil
}
