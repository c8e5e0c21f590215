package pgtest

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"nabu/internal/postgres"
)

// poolerVariable names a pgbouncer; the role that serves then reaches its databases
// through it, in transaction mode.
const poolerVariable = "NABU_TEST_PGBOUNCER"

// Pooled tells whether DB leads through a transaction pooler.
func Pooled() bool { return os.Getenv(poolerVariable) != "" }

// pooler is a pgbouncer before the tests' server.
type pooler struct {
	dir   string
	cmd   *exec.Cmd
	ended chan struct{}
}

// poolerSettings: fewer backends than a test has connections, so that they are shared.
const poolerSettings = `[databases]
* = host=%[1]s port=%[2]s
[pgbouncer]
unix_socket_dir = %[3]s
listen_port = 5432
auth_type = trust
auth_file = %[3]s/users
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
	text := fmt.Sprintf(poolerSettings, to.Query().Get("host"), to.Query().Get("port"), p.dir)
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
	return p.waitUntilReady()
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

func (p *pooler) stop() error {
	if p == nil {
		return nil
	}
	if p.cmd != nil && p.cmd.Process != nil {
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	return os.RemoveAll(p.dir)
}
