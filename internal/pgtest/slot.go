package pgtest

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"nabu/internal/postgres"
)

// maxGrown is by how many bytes a database's tables may have grown in a test. Beyond, the
// dead rows would be walked over by the next test, which may count what it reads.
const maxGrown = 512 << 10

// slot is a database that goes from test to test.
type slot struct {
	name  string
	admin *sql.DB
}

// blank is what an empty migrated database looks like, and how to get back to it.
type blank struct {
	shape string
	size  int64
	reset string
}

// shapeSQL describes a database's schemas and tables, and says how large they are.
const shapeSQL = `
SELECT coalesce(string_agg(format('%s.%s %s %s %s', n.nspname, c.relname, c.relkind, c.relnatts, c.relowner::regrole),
                           E'\n' ORDER BY n.nspname, c.relname), ''),
       coalesce(sum(pg_relation_size(c.oid)), 0)
FROM pg_namespace n
LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`

// take hands out a free database, or makes one more.
func (s *server) take(ctx context.Context) (*slot, error) {
	if slot := s.takeFree(); slot != nil {
		return slot, nil
	}
	name := s.nextName()
	if err := postgres.CreateDatabase(ctx, s.admin, name, s.template()); err != nil {
		return nil, err
	}
	admin, err := postgres.Open(s.url(postgres.Admin, name), 1)
	if err != nil {
		return nil, err
	}
	made := &slot{name, admin}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slots = append(s.slots, made)
	return made, nil
}

func (s *server) takeFree() *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) == 0 {
		return nil
	}
	last := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	return last
}

// giveBack empties a database for the next test. One that has changed its shape, or
// has grown large, is dropped.
func (s *server) giveBack(ctx context.Context, used *slot) error {
	if err := s.pooler.settle(ctx, used.name); err != nil {
		return err
	}
	kept, err := s.blank.restore(ctx, used.admin)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if kept {
		s.free = append(s.free, used)
		return nil
	}
	_ = used.admin.Close()
	for i, known := range s.slots {
		if known == used {
			s.slots = append(s.slots[:i], s.slots[i+1:]...)
			break
		}
	}
	return s.drop(ctx, used.name)
}

// remember makes a migrated database a template: it looks at its shape and keeps a
// copy of the rows that migrations wrote.
func remember(ctx context.Context, admin *sql.DB) (blank, error) {
	tables, err := column(ctx, admin, `
SELECT format('%I.%I', n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('ledger', 'live', 'secrets') AND c.relkind IN ('r', 'p') AND NOT c.relispartition
ORDER BY 1`)
	if err != nil {
		return blank{}, err
	}
	if _, err := admin.ExecContext(ctx, `CREATE SCHEMA pgtest`); err != nil {
		return blank{}, err
	}
	// Triggers refuse to delete from the ledger; a replica fires none.
	reset := []string{"BEGIN", "SET LOCAL session_replication_role = replica"}
	for i, table := range tables {
		reset = append(reset, "DELETE FROM "+table)
		var filled bool
		if err := admin.QueryRowContext(ctx, "SELECT EXISTS (SELECT FROM "+table+")").Scan(&filled); err != nil {
			return blank{}, err
		}
		if !filled {
			continue
		}
		kept := fmt.Sprintf("pgtest.kept%d", i)
		if _, err := admin.ExecContext(ctx, "CREATE TABLE "+kept+" AS TABLE "+table); err != nil {
			return blank{}, err
		}
		reset = append(reset, "INSERT INTO "+table+" OVERRIDING SYSTEM VALUE TABLE "+kept)
	}
	sequences, err := column(ctx, admin, `
SELECT format('SELECT setval(%L, %s, %L)', format('%I.%I', schemaname, sequencename), coalesce(last_value, start_value), last_value IS NOT NULL)
FROM pg_sequences WHERE schemaname IN ('ledger', 'live', 'secrets')`)
	if err != nil {
		return blank{}, err
	}
	reset = append(append(reset, sequences...), "COMMIT")
	shape, size, err := shapeOf(ctx, admin)
	return blank{shape, size, strings.Join(reset, ";\n")}, err
}

// restore brings a database back to what it was, unless that takes a new one.
func (b blank) restore(ctx context.Context, admin *sql.DB) (kept bool, err error) {
	_, err = admin.ExecContext(ctx, `
SELECT pg_terminate_backend(pid, 10000)
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'`)
	if err != nil {
		return false, fmt.Errorf("end the connections of a test: %w", err)
	}
	shape, size, err := shapeOf(ctx, admin)
	if err != nil || shape != b.shape || size > b.size+maxGrown {
		return false, err
	}
	if _, err := admin.ExecContext(ctx, b.reset); err != nil {
		return false, fmt.Errorf("empty a database: %w", err)
	}
	return true, nil
}

func shapeOf(ctx context.Context, admin *sql.DB) (shape string, size int64, err error) {
	if err := admin.QueryRowContext(ctx, shapeSQL).Scan(&shape, &size); err != nil {
		return "", 0, fmt.Errorf("look at the shape of a database: %w", err)
	}
	return shape, size, nil
}

// column is the only column of all rows.
func column(ctx context.Context, db *sql.DB, query string) ([]string, error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var values []string
	for rows.Next() {
		var value string
		if err := rows.Scan(&value); err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return values, rows.Err()
}
