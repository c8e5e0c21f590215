package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// Prepared runs statements on one connection, and prepares each that has parameters when it
// first comes: one more round trip then, and afterwards the server neither parses nor plans
// it. Of what the server does for a batch of one command that is a quarter. Only texts may be
// given that are constants of the program.
//
// lib/pq numbers the statements of a connection, so no pooler may stand between that gives
// out connections by the transaction. When the server does not know a statement, or knows
// one by its number that has more or fewer parameters, the statement fails before it begins,
// refused is called with the error, and from then on statements are sent as they are. For
// this to be all that can happen, no two statements of a program may have equally many.
//
// A Prepared is used by one goroutine at a time. It ends with the connection.
type Prepared struct {
	conn       *sql.Conn
	statements map[string]*sql.Stmt // nil: nothing is prepared any more
	refused    func(error)
}

// NewPrepared makes a Prepared of a connection.
func NewPrepared(conn *sql.Conn, refused func(error)) *Prepared {
	return &Prepared{conn: conn, statements: map[string]*sql.Stmt{}, refused: refused}
}

// statement is the prepared one, or nil if the text is to be sent.
func (p *Prepared) statement(ctx context.Context, query string, args []any) (*sql.Stmt, error) {
	if s := p.statements[query]; s != nil {
		return s, nil
	}
	if p.statements == nil || len(args) == 0 {
		return nil, nil
	}
	s, err := p.conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, p.note(err)
	}
	p.statements[query] = s
	return s, nil
}

// note looks whether an error says that nothing can be prepared, and passes it on.
func (p *Prepared) note(err error) error {
	if err != nil && p.statements != nil && isUnprepared(err) {
		p.statements = nil
		p.refused(err)
	}
	return err
}

// isUnprepared says that a prepared statement is not there, that there is another of its
// name, or that its parameters are another's.
func isUnprepared(err error) bool {
	return pq.As(err, pqerror.InvalidSQLStatementName, pqerror.DuplicatePstatement, pqerror.ProtocolViolation) != nil
}

// ExecContext carries a statement out.
func (p *Prepared) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	s, err := p.statement(ctx, query, args)
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		return p.conn.ExecContext(ctx, query, args...)
	}
	result, err := s.ExecContext(ctx, args...)
	return result, p.note(err)
}

// QueryContext asks for rows.
func (p *Prepared) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	s, err := p.statement(ctx, query, args)
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		return p.conn.QueryContext(ctx, query, args...)
	}
	rows, err := s.QueryContext(ctx, args...)
	return rows, p.note(err)
}

// QueryRowContext asks for one row.
func (p *Prepared) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	s, err := p.statement(ctx, query, args)
	switch {
	case err != nil:
		return noRow(err)
	case s == nil:
		return p.conn.QueryRowContext(ctx, query, args...)
	}
	row := s.QueryRowContext(ctx, args...)
	_ = p.note(row.Err())
	return row
}

// noRow is the row of a query that failed; database/sql makes one only of a query of its own.
func noRow(err error) *sql.Row {
	db := sql.OpenDB(unconnected{err})
	defer func() { _ = db.Close() }()
	return db.QueryRow("")
}

// unconnected fails to connect.
type unconnected struct{ why error }

func (u unconnected) Connect(context.Context) (driver.Conn, error) { return nil, u.why }

func (u unconnected) Driver() driver.Driver { return nil }
