package pgtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"nabu/internal/postgres"
)

// poolerVariable names a pgbouncer; the role that serves then reaches its databases
// through it, in transaction mode.
const poolerVariable = "NABU_TEST_PGBOUNCER"

// Pooled tells whether DB leads through a transaction pooler.
func Pooled() bool { return os.Getenv(poolerVariable) != "" }

// shownLog is how much is shown of the end of the log of one that ended by itself, in bytes.
const shownLog = 2000

// pooler is a pgbouncer before the tests' server.
type pooler struct {
	dir   string
	cmd   *exec.Cmd
	ended chan struct{}
	admin *sql.DB // on its console
}

// poolerSettings: fewer backends than a test has connections, so that they are shared.
const poolerSettings = `[databases]
* = host=%[1]s port=%[2]s
[pgbouncer]
unix_socket_dir = %[3]s
listen_port = 5432
auth_type = trust
auth_file = %[3]s/users
stats_users = %[4]s
pool_mode = transaction
default_pool_size = 6
max_client_conn = 1000
ignore_startup_parameters = extra_float_digits
logfile = %[3]s/log
`

// startPooler starts a pgbouncer before a server that is reached by socket, as the
// server's own account: pgbouncer does not run as root.
func startPooler(program string, server *postgres.Server, data string) (*pooler, error) {
	dir, err := os.MkdirTemp("", "nabu-pooler-")
	if err != nil {
		return nil, err
	}
	p := &pooler{dir: dir, ended: make(chan struct{})}
	if err := p.start(program, server, data); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		return nil, errors.Join(fmt.Errorf("start pgbouncer: %w\n%s", err, log), p.stop())
	}
	return p, nil
}

func (p *pooler) start(program string, server *postgres.Server, data string) error {
	to, err := url.Parse(server.URL(postgres.App, ""))
	if err != nil {
		return err
	}
	settings := filepath.Join(p.dir, "settings")
	text := fmt.Sprintf(poolerSettings, to.Query().Get("host"), to.Query().Get("port"), p.dir, postgres.App)
	users := fmt.Sprintf("%q \"\"\n", postgres.App)
	if err := errors.Join(os.WriteFile(settings, []byte(text), 0o644), os.WriteFile(filepath.Join(p.dir, "users"), []byte(users), 0o644)); err != nil {
		return err
	}
	p.cmd = exec.Command(program, "-q", settings)
	p.cmd.Dir = p.dir
	p.cmd.SysProcAttr = tied()
	if os.Geteuid() == 0 {
		owner, err := os.Stat(filepath.Join(data, "postgres"))
		if err != nil {
			return err
		}
		account := owner.Sys().(*syscall.Stat_t)
		if err := os.Chown(p.dir, int(account.Uid), int(account.Gid)); err != nil {
			return err
		}
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: account.Uid, Gid: account.Gid}
	}
	if err := p.run(); err != nil {
		return err
	}
	if err := p.waitUntilReady(); err != nil {
		return err
	}
	console, err := p.url(server.URL(postgres.App, "pgbouncer"))
	if err != nil {
		return err
	}
	p.admin, err = postgres.Open(console, 1)
	return err
}

// run starts the process on a thread that waits for it: it ends with that thread.
func (p *pooler) run() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.ended)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
		}
	}()
	return <-started
}

func (p *pooler) waitUntilReady() error {
	const patience = 10 * time.Second
	for began := time.Now(); time.Since(began) < patience; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("unix", filepath.Join(p.dir, ".s.PGSQL.5432"))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.ended:
			return errors.New("it ended")
		default:
		}
	}
	return errors.New("it does not answer")
}

// url is the connection string of a database through the pooler.
func (p *pooler) url(server string) (string, error) {
	return postgres.With(server, map[string]string{"host": p.dir, "port": "5432"})
}

// settle waits until the pooler neither logs in to a database nor cancels anything there, after
// the last client has left. A backend must not be ended before: pgbouncer 1.18 to 1.20 exit when
// one speaks up whose statement they cancel (https://github.com/pgbouncer/pgbouncer/pull/927),
// and after a login that was cut short all refuse their clients for a while (server_login_retry).
func (p *pooler) settle(ctx context.Context, database string) error {
	if p == nil {
		return nil
	}
	const patience = 10 * time.Second
	var busy string
	for began := time.Now(); time.Since(began) < patience; time.Sleep(time.Millisecond) {
		var err error
		if busy, err = p.busyWith(ctx, database); busy == "" || err != nil {
			return err
		}
	}
	return fmt.Errorf("pgbouncer is still at work in %s: %s", database, busy)
}

// busyWith names what is under way in a database, as the columns of SHOW POOLS do.
func (p *pooler) busyWith(ctx context.Context, database string) (string, error) {
	rows, err := p.admin.QueryContext(ctx, "SHOW POOLS")
	if err != nil {
		return "", fmt.Errorf("ask pgbouncer for its pools: %w", err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		return "", err
	}
	values, into := make([]string, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	var busy []string
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return "", err
		}
		if values[slices.Index(columns, "database")] != database {
			continue
		}
		for i, column := range columns {
			if isWork(column) && values[i] != "0" {
				busy = append(busy, column+" "+values[i])
			}
		}
	}
	return strings.Join(busy, ", "), rows.Err()
}

func isWork(column string) bool {
	return column == "cl_active" || column == "cl_waiting" || column == "sv_login" || strings.Contains(column, "cancel")
}

// stop ends the process. It is an error that it has ended by itself.
func (p *pooler) stop() error {
	if p == nil {
		return nil
	}
	var err error
	if p.admin != nil {
		_ = p.admin.Close()
	}
	if p.cmd != nil && p.cmd.Process != nil {
		select {
		case <-p.ended:
			log, _ := os.ReadFile(filepath.Join(p.dir, "log"))
			err = fmt.Errorf("pgbouncer ended by itself, %v:\n%s", p.cmd.ProcessState, log[max(0, len(log)-shownLog):])
		default:
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}
