package commands_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"
	"maps"
	"sync"
	"testing"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"nabu/internal/postgres"
)

// blow is what happens to a call of the driver.
type blow int

const (
	passes     blow = iota
	unseen          // it fails, and the server has not seen it
	unanswered      // it fails after the server has carried it out
	refused         // the server gives it up
	forgotten       // if it is of a prepared statement, the server does not know that
)

// faulty is lib/pq, of which any call may fail.
type faulty struct {
	dsn   string
	inner driver.Driver

	mu     sync.Mutex
	calls  int
	decide func(call int) blow
	inputs map[string]int // of the prepared statements, how many parameters they have
}

// openFaulty makes a pool of one connection over a driver that can fail.
func openFaulty(t testing.TB, url string) (*faulty, *sql.DB) {
	t.Helper()
	dsn, err := postgres.With(url, map[string]string{"binary_parameters": "yes"})
	if err != nil {
		t.Fatal(err)
	}
	f := &faulty{dsn: dsn, inner: &pq.Driver{}, inputs: map[string]int{}}
	db := sql.OpenDB(f)
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = db.Close() })
	return f, db
}

// onCall sets what happens to each call from now on; they are counted from 1 on again.
func (f *faulty) onCall(decide func(call int) blow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls, f.decide = 0, decide
}

// call is what happens to the next call, which is not of a prepared statement.
func (f *faulty) call() blow {
	if b := f.callOfStatement(); b != forgotten {
		return b
	}
	return passes
}

func (f *faulty) callOfStatement() blow {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.decide == nil {
		return passes
	}
	return f.decide(f.calls)
}

// struck is what a call that failed says.
func (b blow) struck() error {
	switch b {
	case forgotten:
		return &pq.Error{Severity: "ERROR", Code: pqerror.InvalidSQLStatementName, Message: `prepared statement "1" does not exist`}
	case refused:
		return &pq.Error{Severity: "ERROR", Code: pqerror.QueryCanceled, Message: "canceling statement due to statement timeout"}
	}
	return io.ErrUnexpectedEOF
}

func (f *faulty) Driver() driver.Driver { return f.inner }

func (f *faulty) Connect(context.Context) (driver.Conn, error) {
	if b := f.call(); b != passes {
		return nil, b.struck()
	}
	conn, err := f.inner.Open(f.dsn)
	if err != nil {
		return nil, err
	}
	return faultyConn{conn.(connection), f}, nil
}

// connection is what database/sql asks lib/pq's connections for.
type connection interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.NamedValueChecker
	driver.SessionResetter
	driver.Validator
}

type faultyConn struct {
	connection
	f *faulty
}

func (c faultyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	b := c.f.call()
	if b == unseen || b == refused {
		return nil, b.struck()
	}
	result, err := c.connection.ExecContext(ctx, query, args)
	if b == unanswered && err == nil {
		return nil, b.struck()
	}
	return result, err
}

func (c faultyConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	b := c.f.call()
	if b == unseen || b == refused {
		return nil, b.struck()
	}
	return c.f.rows(b)(c.connection.QueryContext(ctx, query, args))
}

func (c faultyConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	b := c.f.call()
	if b == unseen || b == refused {
		return nil, b.struck()
	}
	s, err := c.connection.PrepareContext(ctx, query)
	if b == unanswered && err == nil {
		return nil, b.struck()
	}
	if err != nil {
		return nil, err
	}
	c.f.note(query, s.NumInput())
	return faultyStmt{s.(statement), c.f}, nil
}

func (f *faulty) note(query string, inputs int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inputs[query] = inputs
}

// prepared are the statements that were, and how many parameters each has.
func (f *faulty) prepared() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.inputs)
}

// statement is what database/sql asks lib/pq's statements for.
type statement interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

type faultyStmt struct {
	statement
	f *faulty
}

func (s faultyStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	b := s.f.callOfStatement()
	if b == unseen || b == refused || b == forgotten {
		return nil, b.struck()
	}
	result, err := s.statement.ExecContext(ctx, args)
	if b == unanswered && err == nil {
		return nil, b.struck()
	}
	return result, err
}

func (s faultyStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	b := s.f.callOfStatement()
	if b == unseen || b == refused || b == forgotten {
		return nil, b.struck()
	}
	return s.f.rows(b)(s.statement.QueryContext(ctx, args))
}

// rows are those of a query that was carried out, if its caller is to learn of it.
func (f *faulty) rows(b blow) func(driver.Rows, error) (driver.Rows, error) {
	return func(rows driver.Rows, err error) (driver.Rows, error) {
		if err != nil {
			return nil, err
		}
		if b == unanswered {
			_ = rows.Close() // reads to the end
			return nil, b.struck()
		}
		return &faultyRows{resultSets: rows.(resultSets), f: f}, nil
	}
}

type resultSets interface {
	driver.Rows
	driver.RowsNextResultSet
}

// faultyRows may fail at their first row.
type faultyRows struct {
	resultSets
	f     *faulty
	begun bool
}

func (r *faultyRows) Next(row []driver.Value) error {
	if !r.begun {
		r.begun = true
		if b := r.f.call(); b != passes {
			return b.struck()
		}
	}
	return r.resultSets.Next(row)
}
