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

	"nabu/domain"
	"nabu/eventstore"
)

// The schemas of read models. Only live is ever read by clients; the others come and go
// with a rebuild or a check.
const (
	liveSchema    = "live"
	nextSchema    = "next"    // what is to become live
	oldSchema     = "old"     // what was live
	scratchSchema = "scratch" // what live is compared with
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

// become makes a session, or only its transaction, work as the owner of the read models.
func become(ctx context.Context, tx eventstore.Tx, local bool) error {
	var role string
	err := tx.QueryRowContext(ctx, `
SELECT set_config('role', pg_get_userbyid(n.nspowner)::text, $1)
FROM pg_namespace n WHERE n.nspname = '`+liveSchema+`'`, local).Scan(&role)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNoReadModels
	}
	if err != nil {
		return fmt.Errorf("work as the owner of the read models: %w", err)
	}
	return nil
}

// schemaMark is the comment on a schema that nabu may remove.
const schemaMark = "made by nabu replay, and removed by it"

func (c *copying) create(ctx context.Context) error {
	tx, err := c.conn.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("make tables beside the live ones: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	statements := []string{
		`CREATE SCHEMA ` + c.schema, `COMMENT ON SCHEMA ` + c.schema + ` IS '` + schemaMark + `'`,
		`SET LOCAL search_path = ` + c.schema,
	}
	for _, p := range c.projections {
		statements = append(statements, p.DDL)
	}
	statements = append(statements, setLogged("UNLOGGED"))
	for _, statement := range statements {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("make tables beside the live ones: %w", err)
		}
	}
	return tx.Commit()
}

// setLogged is a statement that makes the tables of the current schema such that survive a
// crash ("LOGGED"), or such that are made with less to write ("UNLOGGED").
func setLogged(how string) string {
	return `DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace LOOP
        EXECUTE 'ALTER TABLE ' || name || ' SET ` + how + `';
    END LOOP;
END
$$`
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
			slice, bytes = append(slice, e), bytes+size(e.Event)
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

// size is how many bytes of bodies an event has.
func size(e domain.Event) int {
	bodied, ok := e.(domain.Bodied)
	if !ok {
		return 0
	}
	n := 0
	for _, body := range bodied.Bodies() {
		n += len(body)
	}
	return n
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

// Bounds of removing a schema: how long a statement of somebody else's may be made to
// wait, and how long to try.
const (
	removeStall   = "30ms"
	clearPatience = 10 * time.Second
)

// removeSchema removes a schema that a rebuild or a check has made, if it is there. Nobody
// waits for it longer than a moment. A schema of the same name that is somebody else's is
// an error.
func removeSchema(ctx context.Context, db *sql.DB, name string) error {
	deadline := time.Now().Add(clearPatience)
	for try := 0; ; try++ {
		err := tryRemoveSchema(ctx, db, name)
		if err == nil || !inTheWay(err) || time.Now().After(deadline) {
			return err
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

func tryRemoveSchema(ctx context.Context, db *sql.DB, name string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("remove schema %s: %w", name, err)
	}
	defer func() { _ = tx.Rollback() }()
	if err := become(ctx, tx, true); err != nil {
		return err
	}
	var mark sql.NullString
	err = tx.QueryRowContext(ctx, `SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = $1`, name).Scan(&mark)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil && mark.String != schemaMark {
		return fmt.Errorf("schema %s is not nabu's, and nabu replay needs the name", name)
	}
	if err == nil {
		_, err = tx.ExecContext(ctx, `SET LOCAL client_min_messages = warning; SET LOCAL lock_timeout = '`+removeStall+`';
DROP SCHEMA `+name+` CASCADE`)
	}
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		return fmt.Errorf("remove schema %s: %w", name, err)
	}
	return nil
}

// inTheWay tells whether somebody else's work was in the way of a lock for a moment.
func inTheWay(err error) bool {
	return pq.As(err, pqerror.LockNotAvailable, pqerror.QueryCanceled, pqerror.TRDeadlockDetected) != nil
}

// pause waits before another try: a moment at first, in which whoever had to wait gets on,
// and longer each time, for somebody may be in the way for hours.
func pause(ctx context.Context, tries int) error {
	select {
	case <-time.After(min(shortPause<<min(tries, 10), longPause)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

const (
	shortPause = 100 * time.Millisecond
	longPause  = 5 * time.Second
)
