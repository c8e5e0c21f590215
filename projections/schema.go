package projections

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

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
