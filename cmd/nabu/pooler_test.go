package main

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
)

// backends is a database of which only the backends' numbers can be asked. Pooled,
// a connection has a backend only inside a transaction or a statement, and gets the
// one that was last given back; otherwise it has one of its own.
type backends struct {
	pooled bool
	made   int64
	free   []int64
}

func (b *backends) Connect(context.Context) (driver.Conn, error) {
	c := &backendConn{pool: b}
	if !b.pooled {
		c.take()
	}
	return c, nil
}

func (b *backends) Driver() driver.Driver { return nil }

type backendConn struct {
	pool *backends
	pid  int64
}

func (c *backendConn) take() {
	if n := len(c.pool.free); n > 0 {
		c.pid, c.pool.free = c.pool.free[n-1], c.pool.free[:n-1]
		return
	}
	c.pool.made++
	c.pid = c.pool.made
}

func (c *backendConn) giveBack() {
	if c.pool.pooled {
		c.pool.free = append(c.pool.free, c.pid)
		c.pid = 0
	}
}

func (c *backendConn) Begin() (driver.Tx, error) {
	if c.pool.pooled {
		c.take()
	}
	return c, nil
}

func (c *backendConn) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	if c.pid == 0 {
		c.take()
		defer c.giveBack()
	}
	return &backendRows{pid: c.pid}, nil
}

func (c *backendConn) Commit() error   { c.giveBack(); return nil }
func (c *backendConn) Rollback() error { c.giveBack(); return nil }
func (c *backendConn) Close() error    { return nil }

func (c *backendConn) Prepare(string) (driver.Stmt, error) {
	return nil, errors.New("nothing can be prepared")
}

type backendRows struct{ pid int64 }

func (r *backendRows) Columns() []string { return []string{"pg_backend_pid"} }
func (r *backendRows) Close() error      { return nil }

func (r *backendRows) Next(row []driver.Value) error {
	if r.pid == 0 {
		return io.EOF
	}
	row[0], r.pid = r.pid, 0
	return nil
}
