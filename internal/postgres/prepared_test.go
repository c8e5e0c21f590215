package postgres

import (
	"context"
	"database/sql"
	"strings"
	"testing"
)

// newPrepared is a connection, a Prepared of it, and what that was refused with.
func newPrepared(t *testing.T) (*sql.Conn, *Prepared, *[]error) {
	t.Helper()
	s := sharedServer(t)
	conn, err := connect(t, s.URL(Admin, "postgres")).Conn(t.Context())
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	var refused []error
	return conn, NewPrepared(conn, func(err error) { refused = append(refused, err) }), &refused
}

// sum asks for the sum of two numbers in each of the ways that there are to ask.
func sum(ctx context.Context, p *Prepared, a, b int) (sums [2]int, err error) {
	const statement = `SELECT $1::int + $2::int`
	if err = p.QueryRowContext(ctx, statement, a, b).Scan(&sums[0]); err != nil {
		return sums, err
	}
	rows, err := p.QueryContext(ctx, statement, a, b)
	if err != nil {
		return sums, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := rows.Scan(&sums[1]); err != nil {
			return sums, err
		}
	}
	if err := rows.Err(); err != nil {
		return sums, err
	}
	_, err = p.ExecContext(ctx, statement, a, b)
	return sums, err
}

func statementsOf(t *testing.T, conn *sql.Conn) (n int) {
	t.Helper()
	check(t, conn.QueryRowContext(t.Context(), `SELECT count(*) FROM pg_prepared_statements`).Scan(&n))
	return n
}

func TestStatementsArePreparedOnce(t *testing.T) {
	conn, p, refused := newPrepared(t)
	for i := range 3 {
		if sums, err := sum(t.Context(), p, i, 2); err != nil || sums != [2]int{i + 2, i + 2} {
			t.Fatalf("%d + 2 = %v, %v", i, sums, err)
		}
	}
	var one int
	check(t, p.QueryRowContext(t.Context(), `SELECT 1`).Scan(&one)) // has no parameters
	if n := statementsOf(t, conn); n != 1 || one != 1 || len(*refused) > 0 {
		t.Errorf("%d statements, refused with %v", n, *refused)
	}
}

// TestAStatementThatCannotBePreparedSaysWhy also within a transaction, which it ends.
func TestAStatementThatCannotBePreparedSaysWhy(t *testing.T) {
	_, p, refused := newPrepared(t)
	ctx := t.Context()
	const wrong = `SELECT $1::int FROM nowhere`
	_, err := p.ExecContext(ctx, `BEGIN`)
	check(t, err)
	err = p.QueryRowContext(ctx, wrong, 1).Scan(new(int))
	contains(t, err, "nowhere", "does not exist")
	_, err = p.ExecContext(ctx, `ROLLBACK`)
	check(t, err)
	_, err = p.ExecContext(ctx, wrong, 1)
	contains(t, err, "nowhere")
	rows, err := p.QueryContext(ctx, wrong, 1)
	if err == nil {
		_ = rows.Close()
	}
	contains(t, err, "nowhere")
	if len(*refused) > 0 {
		t.Errorf("refused with %v", *refused)
	}
}

// TestWhatAPoolerDoesToStatements: the server forgets them, or has others of the same name. One
// statement fails, and from then on they are sent as they are.
func TestWhatAPoolerDoesToStatements(t *testing.T) {
	for name, test := range map[string]struct{ before, after, says string }{
		"gone":                  {"", `DEALLOCATE ALL`, "does not exist"},
		"there already":         {`PREPARE "1" AS SELECT 7`, "", "already exists"},
		"another, and unlike":   {"", `DEALLOCATE ALL; PREPARE "1" AS SELECT $1::text`, "parameters"},
		"gone in a transaction": {"", `DEALLOCATE ALL; BEGIN`, "does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, p, refused := newPrepared(t)
			do := func(statement string) {
				t.Helper()
				_, err := conn.ExecContext(t.Context(), statement)
				check(t, err)
			}
			if test.before != "" {
				do(test.before)
			} else if _, err := sum(t.Context(), p, 1, 1); err != nil {
				t.Fatal(err)
			}
			do(test.after)
			_, err := sum(t.Context(), p, 1, 2)
			contains(t, err, test.says)
			if strings.Contains(test.after, "BEGIN") {
				do(`ROLLBACK`)
			}
			for i := range 3 {
				if sums, err := sum(t.Context(), p, i, 2); err != nil || sums != [2]int{i + 2, i + 2} {
					t.Fatalf("%d + 2 = %v, %v", i, sums, err)
				}
			}
			if len(*refused) != 1 {
				t.Errorf("refused with %v", *refused)
			}
		})
	}
}
