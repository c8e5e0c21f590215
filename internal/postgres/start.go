package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// Config says where the private server lives.
type Config struct {
	DataDir    string            // nabu's data folder; the cluster is DataDir/postgres
	BinDir     string            // NABU_PG_BIN; empty: find the programs
	RuntimeDir string            // XDG_RUNTIME_DIR: where the socket's folder goes; empty: the folder for temporary files
	Settings   map[string]string // extra server settings (tests: fsync=off)
	Log        *slog.Logger      // nil: silent
	Program    string            // who holds the data folder, for those who find it held ("nabu serve")
	WaitLock   time.Duration     // how long to wait for another holder of the data folder

	existing bool // make nothing: the cluster has to be there
}

// DefaultDataDir is where nabu's data goes if nobody says: a place that the server's
// user can reach even when nabu is root, else the user's own place for data.
func DefaultDataDir(getenv func(string) string, euid int, goos string) (string, error) {
	home := getenv("HOME")
	switch data := getenv("XDG_DATA_HOME"); {
	case euid == 0:
		return "/var/lib/nabu", nil
	case goos == "darwin" && home != "":
		return filepath.Join(home, "Library", "Application Support", "nabu"), nil
	case filepath.IsAbs(data):
		return filepath.Join(data, "nabu"), nil
	case filepath.IsAbs(home):
		return filepath.Join(home, ".local", "share", "nabu"), nil
	}
	return "", errors.New("neither HOME nor XDG_DATA_HOME says where data goes: name a data folder")
}

// Start takes the data folder, makes the cluster if there is none, and starts the
// server. It returns when the server answers. ctx bounds the start, not the server.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	return open(ctx, cfg, func(cluster) *Server { return nil })
}

// open waits until the data folder is free, or until held finds a server to use.
func open(ctx context.Context, cfg Config, held func(cluster) *Server) (*Server, error) {
	dataDir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	c := cluster{dataDir: dataDir}
	if cfg.existing {
		err = c.mustExist()
	} else if err = makeDataDir(dataDir); err != nil {
		err = fmt.Errorf("data folder: %w", err)
	}
	if err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Program == "" {
		cfg.Program = "nabu"
	}
	var s *Server
	var inUse error
	err = until(ctx, cfg.WaitLock, func() (bool, error) {
		l, err := takeLock(dataDir, c.lockFile(), cfg.Program)
		if errors.Is(err, ErrInUse) {
			told := inUse != nil
			inUse, s = err, held(c)
			if s == nil && !told {
				cfg.Log.Info("waiting until another nabu leaves the data folder", "at_most", cfg.WaitLock.String(), "reason", err)
			}
			return s != nil, nil
		}
		if err != nil {
			if errors.Is(err, fs.ErrPermission) {
				err = fmt.Errorf("%w: this is for the account that nabu runs as, and root", err)
			}
			return true, fmt.Errorf("lock the data folder: %w", err)
		}
		s, err = startWith(ctx, cfg, c, l)
		return true, err
	}, func() error { return inUse })
	return s, err
}

// makeDataDir makes the data folder if it is not there. Root's lets others pass, for
// one of them runs the server; what is in it lets them do no more than they must.
func makeDataDir(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711
	}
	if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(dir, mode) // whatever the umask
}

// startWith starts the server under a lock, which it releases if that fails.
func startWith(ctx context.Context, cfg Config, c cluster, l *lock) (*Server, error) {
	s := &Server{
		cluster: c,
		port:    cfg.port(),
		log:     cfg.Log,
		lock:    l,
		unwatch: func() {},
		unasked: make(chan struct{}),
		asked:   make(chan struct{}),
	}
	if err := s.start(ctx, cfg); err != nil {
		stopping, cancel := context.WithTimeout(context.Background(), killLimit)
		defer cancel()
		_ = s.Stop(stopping) // the reason for the failure is what counts
		return nil, err
	}
	return s, nil
}

func (cfg Config) port() string {
	if port, given := cfg.Settings["port"]; given {
		return port
	}
	return defaultPort
}

func (s *Server) start(ctx context.Context, cfg Config) error {
	p, err := s.prepare(ctx, cfg)
	if err != nil {
		return err
	}
	if err := s.launch(p, cfg.Settings); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	if err := s.waitUntilReady(ctx); err != nil {
		return err
	}
	if err := s.furnish(ctx); err != nil {
		return err
	}
	s.log.Info("private PostgreSQL is ready", "data", s.cluster.dir(), "version", p.major, "programs", p.dir)
	return nil
}

// prepare leaves everything in place for the server to start.
func (s *Server) prepare(ctx context.Context, cfg Config) (programs, error) {
	major, err := majorOfData(s.cluster.dir())
	if err != nil {
		return programs{}, err
	}
	if major == 0 && cfg.existing {
		return programs{}, &NoDataError{Dir: s.cluster.dataDir, There: true}
	}
	account, err := serverAccount(s.cluster.dir())
	if err != nil {
		return programs{}, err
	}
	s.cluster.account = account
	if err := account.reach(s.cluster.dataDir); err != nil {
		return programs{}, fmt.Errorf("data folder %s: %w", s.cluster.dataDir, err)
	}
	p, err := findPrograms(ctx, cfg.BinDir, s.cluster.dir(), major, account)
	if err != nil {
		return p, err
	}
	if major == 0 {
		s.log.Info("making a new private PostgreSQL", "data", s.cluster.dir(), "version", p.major)
		if err := s.cluster.make(ctx, p, cfg.Settings["fsync"] != "off"); err != nil {
			return p, fmt.Errorf("make a PostgreSQL cluster: %w", err)
		}
	}
	if err := s.waitForFormer(ctx); err != nil {
		return p, err
	}
	if err := s.cluster.writeAccess(s.users()); err != nil {
		return p, err
	}
	dir, err := makeSocketDir(socketBases(cfg.RuntimeDir, account.switched), s.cluster.dataDir, s.port, account)
	if err != nil {
		return p, err
	}
	s.socketDir = dir
	return p, account.reach(dir)
}

// users are the accounts that may connect.
func (s *Server) users() []string {
	users := []string{s.cluster.account.name, "root"}
	return slices.Compact(users)
}

// waitForFormer waits for the server of a nabu that was killed: it is on its way out.
func (s *Server) waitForFormer(ctx context.Context) error {
	dir, err := filepath.EvalSymlinks(s.cluster.dir())
	if err != nil {
		return err
	}
	var pids []int
	err = until(ctx, leaveLimit, func() (bool, error) {
		pids, err = serversOf(dir)
		return len(pids) == 0, err
	}, func() error {
		return fmt.Errorf("PostgreSQL (pid %s) still runs on %s, though no nabu does: stop it (kill -INT the lowest)", list(pids), dir)
	})
	if err != nil {
		return err
	}
	return dropStalePID(dir)
}

// launch starts the server's process, apart from the signals of nabu's terminal.
func (s *Server) launch(p programs, changes map[string]string) error {
	said, err := os.OpenFile(s.cluster.startLog(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = said.Close() }()
	cmd := exec.Command(p.path("postgres"), s.cluster.arguments(s.socketDir, changes)...)
	cmd.Dir = s.cluster.dir()
	cmd.Env = environment()
	cmd.Stdout, cmd.Stderr = said, said // until its own log is open
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: s.cluster.account.credential()}
	tie(cmd, syscall.SIGINT)
	if s.process, err = startProcess(cmd); err != nil {
		return err
	}
	s.watched.Go(s.watch)
	if s.unwatch, err = watch(cmd); err != nil {
		s.unwatch = func() {}
	}
	return err
}

func (s *Server) waitUntilReady(ctx context.Context) error {
	db, err := Open(s.URL(Admin, "postgres"), 1)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	var last error
	lastSign := time.Now()
	return until(ctx, time.Duration(1<<62), func() (bool, error) {
		last = db.PingContext(ctx)
		if err := s.Err(); err != nil {
			return false, err
		}
		if pq.As(last, pqerror.CannotConnectNow) != nil {
			lastSign = time.Now()
		}
		if last != nil && time.Since(lastSign) > readyLimit {
			return false, fmt.Errorf("PostgreSQL does not answer: %w\n%s", last, s.lastWords())
		}
		return last == nil, nil
	}, nil)
}

// furnish makes sure of roles and database, and says where the server is.
func (s *Server) furnish(ctx context.Context) error {
	err := s.withAdmin("postgres", func(db *sql.DB) error {
		if err := CreateRoles(ctx, db); err != nil {
			return err
		}
		if err := CreateDatabase(ctx, db, Database, ""); err != nil {
			return err
		}
		return compressWAL(ctx, db, Database)
	})
	if err != nil {
		return err
	}
	err = s.withAdmin(Database, func(db *sql.DB) error {
		_, err := db.ExecContext(ctx, `REVOKE CREATE ON SCHEMA public FROM PUBLIC`)
		return err
	})
	if err != nil {
		return fmt.Errorf("close schema public: %w", err)
	}
	return s.cluster.writeFile(s.cluster.socketFile(), s.socketDir+"\n")
}

func (s *Server) withAdmin(database string, use func(*sql.DB) error) error {
	db, err := Open(s.URL(Admin, database), 1)
	if err != nil {
		return err
	}
	return errors.Join(use(db), db.Close())
}
