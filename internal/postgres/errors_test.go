package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// kinds is what the three questions say about an error.
type kinds struct{ badData, lost, unavailable bool }

func kindsOf(err error) kinds {
	return kinds{IsBadData(err), IsConnectionLost(err), IsUnavailable(err)}
}

func TestErrorsOfTheServer(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	db := connect(t, s.URL(App, Database))
	other := connect(t, s.URL(Admin, Database))
	run := func(statements ...string) func() error {
		return func() error {
			tx, err := db.Begin()
			check(t, err)
			defer func() { _ = tx.Rollback() }()
			for _, statement := range statements {
				if _, err = tx.Exec(statement); err != nil {
					break
				}
			}
			return err
		}
	}
	tests := map[string]struct {
		fails func() error
		want  kinds
	}{
		"a number that is none":  {run(`SELECT 'x'::int`), kinds{badData: true}},
		"text with a NUL":        {run(`SELECT E'\\u0000'::jsonb #>> '{}'`), kinds{badData: true}},
		"a row that is there":    {run(`CREATE TEMPORARY TABLE one (n int PRIMARY KEY)`, `INSERT INTO one VALUES (1), (1)`), kinds{badData: true}},
		"a table that is not":    {run(`SELECT FROM missing`), kinds{}},
		"a statement that lasts": {run(`SET LOCAL statement_timeout = 10`, `SELECT pg_sleep(60)`), kinds{unavailable: true}},
		"a lock that is held": {func() error {
			tx, err := other.Begin()
			check(t, err)
			defer func() { _ = tx.Rollback() }()
			_, err = tx.Exec(`SELECT pg_advisory_xact_lock(4711)`)
			check(t, err)
			return run(`SET LOCAL lock_timeout = 10`, `SELECT pg_advisory_xact_lock(4711)`)()
		}, kinds{unavailable: true}},
		"a connection that is cut": {run(`SELECT pg_terminate_backend(pg_backend_pid())`), kinds{lost: true}},
		"a transaction that is cut": {func() error {
			tx, err := db.Begin()
			check(t, err)
			var pid int
			check(t, tx.QueryRow(`SELECT pg_backend_pid()`).Scan(&pid))
			exec1(t, other, `SELECT pg_terminate_backend($1, 10000)`, pid)
			return tx.Commit()
		}, kinds{lost: true}},
		"a role that is not": {func() error {
			return connect(t, s.URL("nobody_at_all", Database)).Ping()
		}, kinds{}},
		"a database that is not": {func() error {
			return connect(t, s.URL(App, "nothing_at_all")).Ping()
		}, kinds{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := tt.fails()
			if err == nil {
				t.Fatal("no error")
			}
			if got := kindsOf(fmt.Errorf("wrapped: %w", err)); got != tt.want {
				t.Errorf("%v is %+v, want %+v", err, got, tt.want)
			}
		})
	}
}

func TestErrorsWithoutAServer(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"nobody listens":      "postgres://127.0.0.1:" + freePort(t) + "/nabu?user=ann",
		"no socket":           "host=/nowhere user=ann",
		"nobody at any place": "postgres://127.0.0.1:" + freePort(t) + ",127.0.0.1:" + freePort(t) + "/nabu?user=ann",
	} {
		t.Run(name, func(t *testing.T) {
			err := connect(t, text).Ping()
			if got := kindsOf(err); got != (kinds{unavailable: true}) {
				t.Errorf("%v is %+v", err, got)
			}
		})
	}
}

func TestErrorsOfAServerThatIsKilled(t *testing.T) {
	t.Parallel()
	s := start(t, config(newDataDir(t)))
	db := connect(t, s.URL(App, Database))
	tx, err := db.Begin()
	check(t, err)
	defer func() { _ = tx.Rollback() }()
	pids, err := serversOf(filepath.Join(s.cluster.dataDir, "postgres"))
	check(t, err)
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-s.Done()
	_, err = tx.Exec(`SELECT 1`)
	if got := kindsOf(err); got != (kinds{lost: true}) {
		t.Errorf("%v is %+v", err, got)
	}
}

func TestErrorsByTheirCode(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err  error
		want kinds
	}{
		"nothing":              {nil, kinds{}},
		"a full server":        {&pq.Error{Code: pqerror.TooManyConnections}, kinds{unavailable: true}},
		"a full disk":          {&pq.Error{Code: pqerror.DiskFull}, kinds{unavailable: true}},
		"a deadlock":           {&pq.Error{Code: pqerror.TRDeadlockDetected}, kinds{unavailable: true}},
		"a starting server":    {&pq.Error{Code: pqerror.CannotConnectNow}, kinds{lost: true, unavailable: true}},
		"a stopping server":    {&pq.Error{Code: pqerror.AdminShutdown}, kinds{lost: true}},
		"a broken protocol":    {&pq.Error{Code: "08P01"}, kinds{lost: true}},
		"no code":              {&pq.Error{}, kinds{}},
		"a read that fails":    {&net.OpError{Op: "read", Err: errors.New("timed out")}, kinds{lost: true}},
		"a finished pool":      {sql.ErrConnDone, kinds{lost: true}},
		"a caller that left":   {&connectError{cause: context.Canceled}, kinds{}},
		"a standby":            {&connectError{cause: errors.New("session is read-only")}, kinds{unavailable: true}},
		"no row":               {sql.ErrNoRows, kinds{}},
		"a context that ended": {context.DeadlineExceeded, kinds{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := kindsOf(tt.err); got != tt.want {
				t.Errorf("%v is %+v, want %+v", tt.err, got, tt.want)
			}
		})
	}
}
