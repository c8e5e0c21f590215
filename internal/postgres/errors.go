package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"slices"
	"syscall"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// IsBadData says that PostgreSQL refuses the data itself: a value it cannot hold,
// or a row that breaks a constraint. The same statement would be refused again.
func IsBadData(err error) bool {
	class := classOf(err)
	return class == pqerror.ClassDataException || class == pqerror.ClassIntegrityConstraintViolation
}

// IsConstraint says that the data breaks a constraint of the tables, and so what they
// rely on.
func IsConstraint(err error) bool {
	return classOf(err) == pqerror.ClassIntegrityConstraintViolation
}

// IsConnectionLost says that the connection broke under a statement: whether that
// had an effect is unknown. A connection that never came about is not lost but
// unavailable, and a context that ended is neither.
func IsConnectionLost(err error) bool {
	if _, never := errors.AsType[*connectError](err); never {
		return false
	}
	if e := pq.As(err); e != nil {
		return classOf(err) == pqerror.ClassConnectionException || slices.Contains(endsConnection, e.Code)
	}
	if dial, ok := errors.AsType[*net.OpError](err); ok {
		return dial.Op != "dial"
	}
	return slices.ContainsFunc(brokenConnection, func(broken error) bool { return errors.Is(err, broken) })
}

// IsUnavailable says that the same work may well succeed a little later: the server
// is away, full or busy, or somebody else was in the way. Nothing was done.
func IsUnavailable(err error) bool {
	if _, never := errors.AsType[*connectError](err); never {
		return !isMisconfigured(err) && !errors.Is(err, context.Canceled)
	}
	if e := pq.As(err); e != nil {
		return classOf(err) == pqerror.ClassInsufficientResources || slices.Contains(passes, e.Code)
	}
	dial, ok := errors.AsType[*net.OpError](err)
	return ok && dial.Op == "dial"
}

// endsConnection are the conditions after which the server hangs up.
var endsConnection = []pqerror.Code{
	pqerror.AdminShutdown,
	pqerror.CrashShutdown,
	pqerror.CannotConnectNow,
	pqerror.IdleSessionTimeout,
	pqerror.IdleInTransactionSessionTimeout,
	pqerror.TransactionTimeout,
}

// brokenConnection is how a connection that ends without a word shows itself.
var brokenConnection = []error{
	driver.ErrBadConn,
	sql.ErrConnDone,
	io.EOF,
	io.ErrUnexpectedEOF,
	net.ErrClosed,
	syscall.ECONNRESET,
	syscall.EPIPE,
}

// passes are the conditions that waiting cures.
var passes = []pqerror.Code{
	pqerror.LockNotAvailable,
	pqerror.QueryCanceled,
	pqerror.CannotConnectNow,
	pqerror.TRSerializationFailure,
	pqerror.TRDeadlockDetected,
}

// isMisconfigured says that the server answered a new connection, and that asking
// again will not change the answer: wrong password, no such database.
func isMisconfigured(err error) bool {
	class := classOf(err)
	return class == pqerror.ClassInvalidAuthorizationSpecification || class == pqerror.ClassInvalidCatalogName
}

// classOf is the first two letters of the SQLSTATE that an error carries, if any.
func classOf(err error) pqerror.Class {
	e := pq.As(err)
	if e == nil || len(e.Code) != 5 {
		return ""
	}
	return e.Code.Class()
}
