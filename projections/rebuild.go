package projections

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgrows"
)

// Rebuilding makes read models anew out of the history while the service serves, and puts
// them in the place of the live ones.
type Rebuilding struct {
	// DB leads to the database directly, as a role that owns the read models or is a
	// member of the one that does; two connections.
	DB          *sql.DB
	Projections []Projection
	// Tell is told how far it has come; nil: nobody is. It is called from Run.
	Tell func(Progress)
	// Slice is how many events are folded at once, at most; 0: as many as is good.
	Slice int
}

// How many events are missing when a swap may begin, and how many it may find missing once
// it has the ledger's lock: a batch of each replica may come first.
const (
	closeEnough = 200
	mostBehind  = 2000
)

// Run rebuilds. Whenever it ends, by an error, by ctx or because the process is killed,
// the live read models are whole: the old ones, or the new ones. What is left of the
// others is removed by the next one. It fails with ErrBusy when another is at work.
func (r Rebuilding) Run(ctx context.Context) (err error) {
	c, err := startCopy(ctx, r.DB, nextSchema, r.Projections, r.Slice, r.Tell)
	if err != nil {
		return err
	}
	defer func() { err = c.clear(ctx, err, nextSchema, oldSchema) }()
	if err := c.bulk(ctx); err != nil {
		return err
	}
	for try := 0; ; {
		if err := c.catchUp(ctx); err != nil {
			return err
		}
		c.report(Swapping)
		err := c.swap(ctx)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errBehind):
		case inTheWay(err):
			if err := pause(ctx, try); err != nil {
				return err
			}
			try++
		default:
			return err
		}
	}
}

// bulk folds what history there is. Indexes that no fold needs are made afterwards.
func (c *copying) bulk(ctx context.Context) error {
	indexes, err := c.dropIndexes(ctx)
	if err != nil {
		return err
	}
	if err := c.look(ctx, c.conn); err != nil {
		return err
	}
	c.report(Folding)
	if err := c.advance(ctx, c.head); err != nil {
		return err
	}
	c.report(Indexing)
	if c.schema == nextSchema {
		if err := c.keep(ctx); err != nil {
			return err
		}
	}
	for _, index := range indexes {
		if _, err := c.conn.ExecContext(ctx, index); err != nil {
			return fmt.Errorf("make an index: %w", err)
		}
	}
	return c.analyze(ctx)
}

// keep makes the tables survive a crash: what is left of a long history is logged once.
func (c *copying) keep(ctx context.Context) error {
	tx, err := c.conn.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("log the tables: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	for _, statement := range []string{`SET LOCAL search_path = ` + c.schema, setLogged("LOGGED")} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("log the tables: %w", err)
		}
	}
	return tx.Commit()
}

// dropIndexes drops the indexes that belong to no constraint, and returns the statements
// that make them again.
func (c *copying) dropIndexes(ctx context.Context) (statements []string, err error) {
	rows, err := c.conn.QueryContext(ctx, `
SELECT pg_get_indexdef(i.indexrelid), format('%I.%I', n.nspname, x.relname)
FROM pg_index i
JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = x.relnamespace
WHERE n.nspname = $1 AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)`, c.schema)
	var names []string
	err = pgrows.Each("list indexes", rows, err, func() error {
		var statement, name string
		if err := rows.Scan(&statement, &name); err != nil {
			return err
		}
		statements, names = append(statements, statement), append(names, name)
		return nil
	})
	if err != nil || len(names) == 0 {
		return nil, err
	}
	if _, err := c.conn.ExecContext(ctx, `DROP INDEX `+strings.Join(names, ", ")); err != nil {
		return nil, fmt.Errorf("drop indexes: %w", err)
	}
	return statements, nil
}

// analyze gives the tables the statistics that views are planned by. The rest of a vacuum
// is autovacuum's.
func (c *copying) analyze(ctx context.Context) error {
	tables, err := c.tables(ctx, c.schema)
	if err != nil {
		return err
	}
	if _, err := c.conn.ExecContext(ctx, `ANALYZE `+strings.Join(tables, ", ")); err != nil {
		return fmt.Errorf("analyze: %w", err)
	}
	return nil
}

// tables are the tables in a schema that the projections have, with its name. They are in
// the order in which views come to most of them, so that who locks them all does not meet
// somebody who has one and waits for another.
func (c *copying) tables(ctx context.Context, schema string) ([]string, error) {
	rows, err := c.conn.QueryContext(ctx, `
SELECT format('%I.%I', $1::text, relname)
FROM pg_class WHERE relkind = 'r' AND relnamespace = $2::regnamespace AND EXISTS (
    SELECT FROM pg_class t WHERE t.relname = pg_class.relname AND t.relkind = 'r' AND t.relnamespace = $1::regnamespace)
ORDER BY relname DESC`, schema, c.schema)
	return pgrows.Collect("list tables", rows, err, func(name *string) error { return rows.Scan(name) })
}

// catchUp folds what has come since, until there is so little that a swap may begin. As
// long as each round leaves half of what the one before left, clients notice nothing. When
// it does not, the rebuild takes no more rests; and when they still append faster than it
// folds, they wait for it, a moment at a time. A check makes nobody wait: it folds the rest
// when it compares.
func (c *copying) catchUp(ctx context.Context) error {
	for last, slow := int64(math.MaxInt64), 0; ; {
		if err := c.look(ctx, c.conn); err != nil {
			return err
		}
		missing := c.head - c.position
		if missing <= closeEnough {
			return nil
		}
		c.report(CatchingUp)
		if missing > last/2 {
			slow++
		}
		last, c.restless = missing, slow > 0
		var err error
		switch {
		case slow < 2:
			err = c.advance(ctx, c.head)
		case c.schema == nextSchema:
			if err = c.foldBehindLock(ctx); inTheWay(err) { // somebody holds the lock for very long
				err = pause(ctx, 0)
			}
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// foldBehindLock folds no more than a swap may find missing, while nobody appends.
func (c *copying) foldBehindLock(ctx context.Context) error {
	tx, err := c.conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return fmt.Errorf("fold: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	head, err := eventstore.Lock(ctx, tx)
	if err != nil {
		return err
	}
	upto := min(head.Position, c.position+mostBehind)
	if err := c.finish(ctx, tx, upto); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("fold: %w", err)
	}
	c.position = upto
	return nil
}

// errBehind: too much has been appended since the last look.
var errBehind = errors.New("too far behind the ledger's head for a swap")

// swapStall is how long a swap waits, behind the ledger's lock, for those who are reading
// the live tables.
const swapStall = "30ms"

// swap folds the last events behind the ledger's lock, and moves the live tables and
// functions away and the new ones to their place, all in one transaction: whoever comes
// later finds either. A vacuum that is at work on the live tables is waited for before
// the lock is taken, for it would be longer in the way than anybody may wait.
func (c *copying) swap(ctx context.Context) error {
	live, err := c.tables(ctx, liveSchema)
	if err != nil {
		return err
	}
	tx, err := c.conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return fmt.Errorf("swap: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	if err := lockTables(ctx, tx, live, "SHARE UPDATE EXCLUSIVE"); err != nil {
		return err
	}
	head, err := eventstore.Lock(ctx, tx)
	if err != nil {
		return err
	}
	if c.head = head.Position; c.head-c.position > mostBehind {
		return errBehind
	}
	if err := c.finish(ctx, tx, c.head); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `SET LOCAL statement_timeout = '`+swapStall+`'`); err != nil {
		return fmt.Errorf("swap: %w", err)
	}
	// A consumer locks its checkpoint before it writes to its tables, so this comes first.
	if err := c.putCheckpoints(ctx, tx); err != nil {
		return err
	}
	if err := lockTables(ctx, tx, live, "ACCESS EXCLUSIVE"); err != nil {
		return err
	}
	if err := c.move(ctx, tx); err != nil {
		return err
	}
	if err := Sign(ctx, tx, c.projections); err != nil {
		return err
	}
	if err := c.record(ctx, tx, head); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("swap: %w", err)
	}
	c.position = head.Position + 1
	return nil
}

// finish folds what is left up to a position, in a transaction.
func (c *copying) finish(ctx context.Context, tx eventstore.Tx, upto int64) error {
	for slice, err := range inSlices(eventstore.ReadAll(ctx, tx, c.position, upto), c.slice) {
		if err != nil {
			return err
		}
		if err := c.apply(ctx, tx, slice); err != nil {
			return err
		}
	}
	return nil
}

// putCheckpoints puts the consumers of projections that follow the feed to where their new
// tables are.
func (c *copying) putCheckpoints(ctx context.Context, tx eventstore.Tx) error {
	for _, p := range c.projections {
		if !p.async() {
			continue
		}
		if err := eventstore.PutCheckpoint(ctx, tx, p.Name, c.head); err != nil {
			return err
		}
	}
	return nil
}

func lockTables(ctx context.Context, tx eventstore.Tx, tables []string, mode string) error {
	if len(tables) == 0 {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `LOCK TABLE `+strings.Join(tables, ", ")+` IN `+mode+` MODE`); err != nil {
		return fmt.Errorf("lock the live tables: %w", err)
	}
	return nil
}

// swapObjects moves what next has: first the tables and functions of the same names from
// live to old, then its own to live.
const swapObjects = `
SET LOCAL statement_timeout = '5s'; SET LOCAL synchronous_commit = on;
CREATE SCHEMA ` + oldSchema + `;
COMMENT ON SCHEMA ` + oldSchema + ` IS '` + schemaMark + `';
DO $$
DECLARE
    o record;
BEGIN
    FOR o IN
        SELECT s.name AS source, CASE s.name WHEN 'live' THEN 'old' ELSE 'live' END AS target,
            format('%s %I.%s', m.kind, s.name, m.name) AS name
        FROM (
            SELECT c.relnamespace AS schema, 'TABLE' AS kind, quote_ident(c.relname) AS name, c.relname AS plain
            FROM pg_class c WHERE c.relkind = 'r'
            UNION ALL
            SELECT p.pronamespace, 'FUNCTION',
                format('%I(%s)', p.proname, pg_get_function_identity_arguments(p.oid)), p.proname
            FROM pg_proc p
        ) AS m
        JOIN (SELECT n.oid, n.nspname AS name FROM pg_namespace n WHERE n.nspname IN ('live', 'next')) AS s ON s.oid = m.schema
        WHERE s.name = 'next'
            OR m.kind = 'TABLE' AND EXISTS (
                SELECT FROM pg_class c WHERE c.relnamespace = 'next'::regnamespace AND c.relkind = 'r' AND c.relname = m.plain)
            OR m.kind = 'FUNCTION' AND EXISTS (
                SELECT FROM pg_proc p WHERE p.pronamespace = 'next'::regnamespace AND p.proname = m.plain)
        ORDER BY s.name -- live before next
    LOOP
        EXECUTE format('ALTER %s SET SCHEMA %I', o.name, o.target);
    END LOOP;
END
$$`

func (c *copying) move(ctx context.Context, tx eventstore.Tx) error {
	if _, err := tx.ExecContext(ctx, swapObjects); err != nil {
		return fmt.Errorf("swap: %w", err)
	}
	return nil
}

// record appends that the read models are new ones. So an executor that has decided on the
// old ones finds that the ledger has moved on, and forgets what it remembers of them.
func (c *copying) record(ctx context.Context, tx eventstore.Tx, head eventstore.Head) error {
	rebuilt := domain.ReadModelsRebuilt{}
	for _, p := range c.projections {
		rebuilt.Projections = append(rebuilt.Projections, p.Name)
	}
	var version int64
	if err := tx.QueryRowContext(ctx, `SELECT `+eventstore.LastVersion("$1"), rebuilt.Stream()).Scan(&version); err != nil {
		return fmt.Errorf("record the rebuild: %w", err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("record the rebuild: %w", err)
	}
	batch := eventstore.Batch{ID: id, Head: head, Events: []eventstore.NewEvent{{Event: rebuilt, Version: version + 1}}}
	if _, err := eventstore.Append(ctx, tx, &batch); err != nil {
		return fmt.Errorf("record the rebuild: %w", err)
	}
	return nil
}
