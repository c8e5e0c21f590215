package pgtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"nabu/internal/postgres"
	"nabu/migrations"
)

// folderPrefix names the folders of private servers among the temporary files.
const folderPrefix = "nabu-pgtest-"

// common is the server that all tests of this process share.
var common lazyServer

// lazyServer starts a server when the first test asks for one.
type lazyServer struct {
	once   sync.Once
	server *server
	err    error
}

func (l *lazyServer) open(t testing.TB) *server {
	t.Helper()
	l.once.Do(func() { l.server, l.err = newServer(context.Background()) })
	if l.err != nil {
		t.Fatal("pgtest:", l.err)
	}
	return l.server
}

func (l *lazyServer) stop() error {
	if l.server == nil {
		return nil
	}
	return l.server.stop()
}

// server hands out databases: clones of a template, each for one test at a time.
type server struct {
	url    func(role, database string) string
	prefix string  // of all databases' names
	admin  *sql.DB // on a database that nobody gets
	end    func() error
	blank  blank
	pooler *pooler // nil: there is none

	mu    sync.Mutex
	made  int
	free  []*slot
	slots []*slot
}

// newServer takes the server that NABU_TEST_DATABASE_URL names, or starts one, and
// makes the template.
func newServer(ctx context.Context) (*server, error) {
	find := privateServer
	if url := os.Getenv("NABU_TEST_DATABASE_URL"); url != "" {
		if os.Getenv(poolerVariable) != "" {
			return nil, fmt.Errorf("%s is for a private server, not for that of NABU_TEST_DATABASE_URL", poolerVariable)
		}
		find = func(ctx context.Context) (*server, error) { return givenServer(ctx, url) }
	}
	s, err := find(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.makeTemplate(ctx); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// privateServer starts a server whose data may be lost with the power, but not before.
func privateServer(ctx context.Context) (*server, error) {
	sweep()
	dir, err := newFolder()
	if err != nil {
		return nil, err
	}
	private, err := postgres.Start(ctx, postgres.Config{
		DataDir:  filepath.Join(dir, "data"),
		Program:  "tests",
		Settings: map[string]string{"fsync": "off", "full_page_writes": "off", "max_connections": "300", "shared_buffers": "128MB"},
	})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s := &server{url: private.URL, prefix: "test_"}
	s.end = func() error {
		return errors.Join(s.pooler.stop(), private.Stop(context.Background()), os.RemoveAll(dir))
	}
	if program := os.Getenv(poolerVariable); program != "" {
		if s.pooler, err = startPooler(program, private, filepath.Join(dir, "data")); err != nil {
			return nil, errors.Join(err, s.end())
		}
	}
	s.admin, err = postgres.Open(s.url(postgres.Admin, "postgres"), 2)
	if err != nil {
		return nil, errors.Join(err, s.end())
	}
	return s, nil
}

// givenServer uses a server that others may use at the same time. There the roles
// need a password, which all test processes derive from the superuser's URL.
func givenServer(ctx context.Context, url string) (*server, error) {
	admin, err := postgres.Open(url, 2)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(url))
	password := hex.EncodeToString(sum[:])
	s := &server{
		prefix: fmt.Sprintf("nabu_test_%d_%s_", os.Getpid(), rand.Text()[:8]),
		admin:  admin,
		end:    func() error { return nil },
		url: func(role, database string) string {
			changes := map[string]string{"dbname": database, "user": role, "password": password}
			if role == postgres.Admin {
				changes = map[string]string{"dbname": database}
			}
			changed, _ := postgres.With(url, changes) // Open has accepted it
			return changed
		},
	}
	if err := postgres.CreateRoles(ctx, admin); err != nil {
		return nil, errors.Join(err, admin.Close())
	}
	if err := setPasswords(ctx, admin, password); err != nil {
		return nil, errors.Join(fmt.Errorf("set passwords: %w", err), admin.Close())
	}
	return s, nil
}

func setPasswords(ctx context.Context, admin *sql.DB, password string) error {
	tx, err := admin.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for _, statement := range []string{
		`SELECT pg_advisory_xact_lock(hashtext('nabu roles'))`,
		`ALTER ROLE nabu_owner PASSWORD '` + password + `'`,
		`ALTER ROLE nabu_app PASSWORD '` + password + `'`,
	} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// makeTemplate makes the database that all others are clones of.
func (s *server) makeTemplate(ctx context.Context) error {
	if err := postgres.CreateDatabase(ctx, s.admin, s.template(), ""); err != nil {
		return err
	}
	if err := migrations.Up(ctx, s.url(postgres.Owner, s.template())); err != nil {
		return err
	}
	admin, err := postgres.Open(s.url(postgres.Admin, s.template()), 1)
	if err != nil {
		return err
	}
	s.blank, err = remember(ctx, admin)
	return errors.Join(err, admin.Close(), s.leaveAlone(ctx, s.template()))
}

func (s *server) template() string { return s.prefix + "template" }

// leaveAlone ends all connections to a database. Closing a pool does not wait until
// the server has noticed, and a template must have no visitors.
func (s *server) leaveAlone(ctx context.Context, database string) error {
	_, err := s.admin.ExecContext(ctx, `
SELECT pg_terminate_backend(pid, 10000)
FROM pg_stat_activity
WHERE datname = $1 AND pid <> pg_backend_pid()`, database)
	if err != nil {
		return fmt.Errorf("end the connections to %s: %w", database, err)
	}
	return nil
}

func (s *server) nextName() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made++
	return fmt.Sprintf("%s%d", s.prefix, s.made)
}

func (s *server) drop(ctx context.Context, database string) error {
	if err := s.pooler.settle(ctx, database); err != nil {
		return err
	}
	_, err := s.admin.ExecContext(ctx, `DROP DATABASE "`+database+`" WITH (FORCE)`)
	if err != nil {
		return fmt.Errorf("drop %s: %w", database, err)
	}
	return nil
}

// stop ends the server, or on a server of others removes what the tests made.
func (s *server) stop() error {
	ctx := context.Background()
	for _, slot := range s.slots {
		_ = slot.admin.Close()
	}
	var err error
	if s.prefix != "test_" {
		for _, slot := range s.slots {
			err = errors.Join(err, s.drop(ctx, slot.name))
		}
		err = errors.Join(err, s.drop(ctx, s.template()))
	}
	return errors.Join(err, s.admin.Close(), s.end())
}

// newFolder makes a folder that a server of root's can reach, though it runs as
// another user.
func newFolder() (string, error) {
	dir, err := os.MkdirTemp("", folderPrefix)
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711)
}

// sweep removes the folders of test processes that were killed.
func sweep() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), folderPrefix+"*"))
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || time.Since(info.ModTime()) < time.Hour {
			continue
		}
		lock, err := os.Open(filepath.Join(dir, "data", "nabu.lock"))
		if err != nil {
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(dir)
		}
		_ = lock.Close()
	}
}
