package projections

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"nabu/eventstore"
)

// Progress is how far a rebuild or a check has come.
type Progress struct {
	Step     Step
	Position int64 // of the last event that was folded
	Head     int64 // of the ledger, when it was last asked
}

// Step is what a rebuild or a check is doing.
type Step string

// The steps, in order.
const (
	Folding    Step = "folding"
	Indexing   Step = "making indexes"
	CatchingUp Step = "catching up"
	Swapping   Step = "swapping"
	Clearing   Step = "clearing up"
	Comparing  Step = "comparing"
)

// ErrBusy: another rebuild or check is at work on the same database.
var ErrBusy = errors.New("another replay is at work on this database")

// ErrNoReadModels: the database has none.
var ErrNoReadModels = errors.New("the database has no schema live: its migrations have not run")

// A long history is folded in slices with a rest after each, as a share of the time that it
// took: so those who are served meanwhile wait half as long at worst, for a quarter of the
// rebuild's rate.
const (
	sliceEvents = 5_000
	sliceBytes  = 16 << 20 // of bodies
	sliceRest   = 2        // an n-th
)

// busyPatience is how long to wait for another rebuild or check. One that was killed
// goes on until its database session notices.
const busyPatience = "10s"

// copying folds the history into tables beside the live ones, on a connection of its own.
type copying struct {
	db          *sql.DB
	conn        *sql.Conn
	schema      string
	projections []Projection
	slice       int  // most events of a slice
	restless    bool // there is no time for rests
	position    int64
	head        int64
	step        Step
	tell        func(Progress)
	// follows is the consumer whose checkpoint the copy is made up to; empty: it is made up
	// to the ledger's head.
	follows string
}

// startCopy takes the right to rebuild and to check, removes what others have left behind
// and makes empty tables. clear gives everything back.
func startCopy(ctx context.Context, db *sql.DB, schema string, projections []Projection, slice int, tell func(Progress)) (_ *copying, err error) {
	if slice == 0 {
		slice = sliceEvents
	}
	c := &copying{db: db, schema: schema, projections: projections, slice: slice, step: Folding, tell: tell}
	if c.conn, err = db.Conn(ctx); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.end(ctx))
		}
	}()
	if err := c.prepare(ctx); err != nil {
		return nil, err
	}
	for _, left := range []string{nextSchema, oldSchema, scratchSchema} {
		if err := removeSchema(ctx, db, left); err != nil {
			return nil, err
		}
	}
	return c, c.create(ctx)
}

// prepare sets up the session: it works as the role that owns the read models, and what it
// writes needs no flush before the swap. A client that is gone is noticed also in the
// middle of a statement, where the system can do that.
func (c *copying) prepare(ctx context.Context) error {
	if err := become(ctx, c.conn, false); err != nil {
		return err
	}
	if _, err := c.conn.ExecContext(ctx, `
SET synchronous_commit = off; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0;
SET client_min_messages = warning; SET lock_timeout = '`+busyPatience+`'`); err != nil {
		return fmt.Errorf("prepare the session: %w", err)
	}
	_, _ = c.conn.ExecContext(ctx, `SET client_connection_check_interval = '1s'`)
	_, err := c.conn.ExecContext(ctx, `SELECT pg_advisory_lock(7881299347898371)`)
	if e := pq.As(err, pqerror.LockNotAvailable); e != nil {
		return ErrBusy
	}
	if err != nil {
		return fmt.Errorf("take the right to replay: %w", err)
	}
	if _, err := c.conn.ExecContext(ctx, `SET lock_timeout = 0`); err != nil {
		return fmt.Errorf("prepare the session: %w", err)
	}
	return nil
}

// clear removes schemas that are of no use any more and gives everything back, however the
// work went. It returns the failure with what went wrong here; if ctx has ended, that is
// the failure, whatever it broke.
func (c *copying) clear(ctx context.Context, failure error, schemas ...string) error {
	c.report(Clearing)
	if ctx.Err() != nil && failure != nil {
		failure = ctx.Err()
	}
	clearing := context.WithoutCancel(ctx)
	for _, name := range schemas {
		failure = errors.Join(failure, removeSchema(clearing, c.db, name))
	}
	return errors.Join(failure, c.end(clearing))
}

// end gives the connection back, and with it the right to replay.
func (c *copying) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearPatience)
	defer cancel()
	_, _ = c.conn.ExecContext(ctx, `SELECT pg_advisory_unlock_all()`)
	_ = c.conn.Raw(func(any) error { return driver.ErrBadConn }) // nobody else wants such a session
	if err := c.conn.Close(); err != nil && !errors.Is(err, driver.ErrBadConn) && !errors.Is(err, sql.ErrConnDone) {
		return err
	}
	return nil
}

// look reads how far the copy is to be made.
func (c *copying) look(ctx context.Context, tx eventstore.Tx) (err error) {
	if c.follows != "" {
		c.head, err = eventstore.ReadCheckpoint(ctx, tx, c.follows)
		return err
	}
	head, err := eventstore.ReadHead(ctx, tx)
	c.head = head.Position
	return err
}

func (c *copying) report(step Step) {
	c.step = step
	if c.tell != nil {
		c.tell(Progress{Step: step, Position: c.position, Head: max(c.head, c.position)})
	}
}

// advance folds the history up to a position. While one slice is written the next is read,
// on another connection.
func (c *copying) advance(ctx context.Context, upto int64) error {
	ctx, stop := context.WithCancel(ctx)
	pieces := make(chan piece)
	var reading sync.WaitGroup
	after := c.position
	reading.Go(func() {
		defer close(pieces)
		read(ctx, c.db, after, upto, c.slice, pieces)
	})
	defer reading.Wait()
	defer stop()
	for p := range pieces {
		if p.err != nil {
			return p.err
		}
		began := time.Now()
		if err := c.write(ctx, p.events); err != nil {
			return err
		}
		c.report(c.step)
		if c.restless {
			continue
		}
		rest := time.NewTimer(time.Since(began) / sliceRest)
		select {
		case <-rest.C:
		case <-ctx.Done():
		}
		rest.Stop()
	}
	return ctx.Err()
}

// piece is a slice of history, or why there is none.
type piece struct {
	events []eventstore.RecordedEvent
	err    error
}

// read reads the history in slices. It ends with ctx.
func read(ctx context.Context, tx eventstore.Tx, after, upto int64, most int, pieces chan<- piece) {
	for events, err := range inSlices(eventstore.ReadAll(ctx, tx, after, upto), most) {
		select {
		case pieces <- piece{events, err}:
		case <-ctx.Done():
			return
		}
	}
}

// inSlices cuts history into slices of so many events, and of sliceBytes, at most. An error
// ends the sequence.
func inSlices(history iter.Seq2[eventstore.RecordedEvent, error], most int) iter.Seq2[[]eventstore.RecordedEvent, error] {
	return func(yield func([]eventstore.RecordedEvent, error) bool) {
		var slice []eventstore.RecordedEvent
		bytes := 0
		for e, err := range history {
			if err != nil {
				yield(nil, err)
				return
			}
			slice, bytes = append(slice, e), bytes+eventstore.BodyBytes(e.Event)
			if len(slice) < most && bytes < sliceBytes {
				continue
			}
			if !yield(slice, nil) {
				return
			}
			slice, bytes = nil, 0
		}
		if len(slice) > 0 {
			yield(slice, nil)
		}
	}
}

// write folds a slice in a transaction of its own.
func (c *copying) write(ctx context.Context, events []eventstore.RecordedEvent) error {
	tx, err := c.conn.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("fold: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	if err := c.apply(ctx, tx, events); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("fold: %w", err)
	}
	c.position = events[len(events)-1].Position
	return nil
}

// apply brings the tables forward in a transaction. As in a batch, rows are looked up by
// the keys, whatever the statistics of a table say that was just made.
func (c *copying) apply(ctx context.Context, tx eventstore.Tx, events []eventstore.RecordedEvent) error {
	if len(events) == 0 {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `
SET LOCAL search_path = `+c.schema+`;
SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off; SET LOCAL enable_sort = off; SET LOCAL jit = off`); err != nil {
		return fmt.Errorf("fold: %w", err)
	}
	for _, p := range c.projections {
		if err := p.Apply(ctx, tx, events); err != nil {
			return fmt.Errorf("fold %d to %d into %s: %w", events[0].Position, events[len(events)-1].Position, p.Name, err)
		}
	}
	return nil
}
