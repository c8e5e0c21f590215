package postgres

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestServerKeepsRowsOverARestart(t *testing.T) {
	t.Parallel()
	cfg := Config{DataDir: newDataDir(t)}
	first := start(t, cfg)
	owner := connect(t, first.URL(Owner, Database))
	exec1(t, owner, `CREATE SCHEMA ledger`)
	exec1(t, owner, `CREATE TABLE ledger.kept AS SELECT 'row' AS value`)
	check(t, first.Stop(context.Background()))
	check(t, first.Stop(context.Background())) // again changes nothing

	second := start(t, cfg)
	owner = connect(t, second.URL(Owner, Database))
	if got := query(t, owner, `SELECT value FROM kept`); got != "row" {
		t.Errorf("kept %q", got)
	}
	if err := second.Err(); err != nil {
		t.Errorf("a running server has ended: %v", err)
	}
}

func TestServerIsSafeByDefault(t *testing.T) {
	t.Parallel()
	s := start(t, Config{DataDir: newDataDir(t)})
	app := connect(t, s.URL(App, Database))
	for setting, want := range map[string]string{
		"fsync":              "on",
		"synchronous_commit": "on",
		"full_page_writes":   "on",
		"data_checksums":     "on",
		"listen_addresses":   "",
		"TimeZone":           "UTC",
		"search_path":        "live, ledger",
		"server_encoding":    "UTF8",
		// Vacuum has a pace.
		"autovacuum_vacuum_cost_delay": "1ms",
		"autovacuum_vacuum_cost_limit": "300",
	} {
		if got := query(t, app, `SELECT current_setting($1)`, setting); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
	if got := query(t, app, `SHOW backend_flush_after`); got != "512kB" && runtime.GOOS == "linux" {
		t.Errorf("backend_flush_after is %s", got)
	}
	compression := query(t, app, `SELECT coalesce('lz4' = ANY (enumvals), false)::text || ' ' || setting FROM pg_settings WHERE name = 'wal_compression'`)
	if compression != "true lz4" && compression != "false off" {
		t.Errorf("whether there is LZ4, and how the WAL is compressed: %s", compression)
	}
	if got := query(t, app, `SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolsuper`); got != Admin {
		t.Errorf("superusers are %s", got)
	}
	if _, err := app.Exec(`CREATE TABLE public.mine (n int)`); err == nil {
		t.Error("nabu_app may write to schema public")
	}
	info, err := os.Stat(s.socketDir)
	check(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("the socket's folder has mode %o", info.Mode().Perm())
	}
	group, err := syscall.Getpgid(s.PID())
	check(t, err)
	if group == syscall.Getpgrp() {
		t.Error("the server gets the signals of nabu's terminal")
	}
}

func TestRolesOfTheServerMakeSchemasForEachOther(t *testing.T) {
	t.Parallel()
	s := start(t, config(newDataDir(t)))
	exec1(t, connect(t, s.URL(Owner, Database)), `CREATE SCHEMA live AUTHORIZATION nabu_app`)
	app := connect(t, s.URL(App, Database))
	exec1(t, app, `CREATE TABLE inlive (n int)`)
	exec1(t, app, `CREATE TEMPORARY TABLE scratch (n int)`)
	exec1(t, app, `CREATE SCHEMA next`)
}

func TestSecondStartIsRefused(t *testing.T) {
	t.Parallel()
	cfg := config(newDataDir(t))
	start(t, cfg)
	_, err := Start(context.Background(), cfg)
	if !errors.Is(err, ErrInUse) {
		t.Fatalf("second start: %v", err)
	}
	contains(t, err, "data folder "+cfg.DataDir+" is in use by nabu serve (pid "+strconv.Itoa(os.Getpid())+")")
}

func TestStartWaitsForTheHolderToLeave(t *testing.T) {
	t.Parallel()
	cfg := config(newDataDir(t))
	cfg.WaitLock = time.Minute
	holder, err := Start(context.Background(), cfg)
	check(t, err)
	second := make(chan error, 1)
	go func() {
		s, err := Start(context.Background(), cfg)
		if err == nil {
			err = s.Stop(context.Background())
		}
		second <- err
	}()
	check(t, holder.Stop(context.Background()))
	check(t, <-second)
}

func TestAttachUsesTheServerOfAnother(t *testing.T) {
	t.Parallel()
	cfg := config(newDataDir(t))
	holder := start(t, cfg)

	attached, err := Attach(context.Background(), cfg)
	check(t, err)
	if !attached.Attached() || attached.URL(App, Database) != holder.URL(App, Database) {
		t.Errorf("attached to %s", attached.URL(App, Database))
	}
	check(t, attached.Stop(context.Background()))
	query(t, connect(t, holder.URL(App, Database)), `SELECT 'still here'`)
}

func TestAttachStartsAServerIfNobodyRunsOne(t *testing.T) {
	t.Parallel()
	cfg := config(newDataDir(t))
	made, err := AttachOrMake(context.Background(), cfg)
	check(t, err)
	check(t, made.Stop(context.Background()))
	s, err := Attach(context.Background(), cfg)
	check(t, err)
	if made.Attached() || s.Attached() {
		t.Error("attached to nothing")
	}
	check(t, s.Stop(context.Background()))
}

// TestAttachMakesNothing: not even a file in a folder that is somebody else's.
func TestAttachMakesNothing(t *testing.T) {
	t.Parallel()
	cfg := config(newDataDir(t))
	_, err := Attach(context.Background(), cfg)
	contains(t, err, "there is no data folder "+cfg.DataDir)
	if exists(cfg.DataDir) {
		t.Error("a data folder was made")
	}
	check(t, makeDataDir(cfg.DataDir))
	_, err = Attach(context.Background(), cfg)
	contains(t, err, "there is no PostgreSQL of nabu's in folder "+cfg.DataDir)
	if rest, err := os.ReadDir(cfg.DataDir); err != nil || len(rest) > 0 {
		t.Errorf("%v was made, %v", rest, err)
	}
	l, err := takeLock(cfg.DataDir, cluster{dataDir: cfg.DataDir}.lockFile(), "nabu serve")
	check(t, err)
	l.release() // of a nabu that was killed before it had made its cluster
	_, err = Attach(context.Background(), cfg)
	contains(t, err, "there is no PostgreSQL of nabu's")
}

func TestAttachToAHolderWithoutServerIsRefused(t *testing.T) {
	t.Parallel()
	cfg := config(newDataDir(t))
	check(t, makeDataDir(cfg.DataDir))
	l, err := takeLock(cfg.DataDir, cluster{dataDir: cfg.DataDir}.lockFile(), "nabu replay")
	check(t, err)
	defer l.release()
	var said strings.Builder
	cfg.Log, cfg.WaitLock = slog.New(slog.NewTextHandler(&said, nil)), 100*time.Millisecond
	_, err = Attach(context.Background(), cfg)
	contains(t, err, "in use by nabu replay (pid ")
	if strings.Count(said.String(), "waiting until another nabu leaves") != 1 || !strings.Contains(said.String(), "nabu replay (pid ") {
		t.Errorf("the log says %q", said.String())
	}
}

func TestKilledNabuTakesItsServerAlong(t *testing.T) {
	t.Parallel()
	cfg := config(newDataDir(t))
	helper := startServing(t, cfg.DataDir)
	attached, err := Attach(context.Background(), cfg)
	check(t, err)
	owner := connect(t, attached.URL(Owner, Database))
	exec1(t, owner, `CREATE SCHEMA ledger`)
	exec1(t, owner, `CREATE TABLE ledger.kept AS SELECT 'row' AS value`)

	kill(helper)
	eventually(t, "the server is gone", func() bool { return len(servers(t, cfg)) == 0 })

	s := start(t, cfg)
	if got := query(t, connect(t, s.URL(Owner, Database)), `SELECT value FROM kept`); got != "row" {
		t.Errorf("kept %q", got)
	}
}

func TestStartWaitsForTheServerOfAKilledNabu(t *testing.T) {
	t.Parallel()
	cfg := config(newDataDir(t))
	helper := startServing(t, cfg.DataDir)
	former := postmaster(t, cfg)
	var held []int // the processes without which the server cannot leave
	for _, pid := range servers(t, cfg) {
		if pid != former {
			held = append(held, pid)
		}
	}
	if len(held) == 0 {
		t.Skip("this system does not tell which processes a server has")
	}
	signal := func(s syscall.Signal) {
		for _, pid := range held {
			_ = syscall.Kill(pid, s)
		}
	}
	signal(syscall.SIGSTOP)
	t.Cleanup(func() { signal(syscall.SIGCONT) })
	kill(helper)

	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := Start(ctx, cfg); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("start beside a former server: %v", err)
	}
	if postmaster(t, cfg) != former {
		t.Error("the pid file of a living server was touched")
	}
	signal(syscall.SIGCONT)
	start(t, cfg)
}

// A container starts its processes with the same low numbers each time.
func TestStalePIDOfAnotherProcessIsNoObstacle(t *testing.T) {
	t.Parallel()
	cfg := config(newDataDir(t))
	check(t, start(t, cfg).Stop(context.Background()))
	a, err := serverAccount(filepath.Join(cfg.DataDir, "postgres"))
	check(t, err)
	other := exec.Command("sleep", "600")
	other.Dir = "/"
	other.SysProcAttr = &syscall.SysProcAttr{Credential: a.credential()}
	check(t, other.Start())
	defer kill(other)
	path := filepath.Join(cfg.DataDir, "postgres", "postmaster.pid")
	check(t, os.WriteFile(path, []byte(strconv.Itoa(other.Process.Pid)+"\n/elsewhere\n1700000000\n5432\n\n\n\n"), 0o600))
	check(t, os.Chown(path, a.uid, a.gid))
	start(t, cfg)
}

func TestServerThatDiesIsNoticed(t *testing.T) {
	t.Parallel()
	cfg := config(newDataDir(t))
	s, err := Start(context.Background(), cfg)
	check(t, err)
	check(t, syscall.Kill(s.PID(), syscall.SIGKILL))
	<-s.Done()
	contains(t, s.Err(), "PostgreSQL ended by itself", "killed")
	check(t, s.Stop(context.Background()))
	start(t, cfg)
}

func TestStopDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	cfg := config(newDataDir(t))
	s, err := Start(context.Background(), cfg)
	check(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	contains(t, s.Stop(ctx), "recover at its next start")
	start(t, cfg)
}

func TestDataOfAnotherMajorIsRefusedAndUntouched(t *testing.T) {
	t.Parallel()
	cfg := config(newDataDir(t))
	check(t, start(t, cfg).Stop(context.Background()))
	folder := filepath.Join(cfg.DataDir, "postgres")
	check(t, os.WriteFile(filepath.Join(folder, "PG_VERSION"), []byte("13\n"), 0o600))
	before := fingerprint(t, folder)

	_, err := Start(context.Background(), cfg)
	e, ok := errors.AsType[*VersionError](err)
	if !ok || e.Data != 13 || len(e.Programs) == 0 {
		t.Fatalf("start: %v", err)
	}
	contains(t, err, folder, "PostgreSQL 13", "of version "+strconv.Itoa(e.Programs[0]), "Nothing was changed")
	if fingerprint(t, folder) != before {
		t.Error("the folder was changed")
	}
}

func TestForeignFolderIsRefusedAndUntouched(t *testing.T) {
	t.Parallel()
	cfg := config(newDataDir(t))
	folder := filepath.Join(cfg.DataDir, "postgres")
	check(t, makeDataDir(cfg.DataDir))
	check(t, os.Mkdir(folder, 0o711))
	check(t, os.WriteFile(filepath.Join(folder, "letter"), []byte("dear"), 0o600))
	a, err := serverAccount(filepath.Join(cfg.DataDir, "nothing"))
	check(t, err)
	check(t, os.Chown(folder, a.uid, a.gid))
	before := fingerprint(t, folder)
	_, err = Start(context.Background(), cfg)
	contains(t, err, folder, "is not empty")
	if fingerprint(t, folder) != before {
		t.Error("the folder was changed")
	}
}

func TestKilledFirstStartIsRepeated(t *testing.T) {
	t.Parallel()
	cfg := config(newDataDir(t))
	helper, _ := startHelper(t, "serve", cfg.DataDir)
	unfinished := func(pattern string) []string {
		paths, err := filepath.Glob(filepath.Join(cfg.DataDir, pattern))
		check(t, err)
		return paths
	}
	eventually(t, "initdb has begun", func() bool {
		return len(unfinished(filepath.Join(unfinishedPattern, "global"))) > 0
	})
	kill(helper)
	start(t, cfg)
	if left := unfinished(unfinishedPattern); len(left) > 0 {
		t.Errorf("left behind: %s", left)
	}
}

func TestFailedInitdbSaysWhy(t *testing.T) {
	t.Parallel()
	cfg := config(newDataDir(t))
	p, err := findPrograms(t.Context(), "", "", 0, account{})
	check(t, err)
	cfg.BinDir = filepath.Dir(cfg.DataDir)
	check(t, os.Symlink(p.path("postgres"), filepath.Join(cfg.BinDir, "postgres")))
	script := "#!/bin/sh\necho 15 >\"$2/PG_VERSION\"\necho the disk is full\nexit 1\n"
	check(t, os.WriteFile(filepath.Join(cfg.BinDir, "initdb"), []byte(script), 0o755))
	_, err = Start(context.Background(), cfg)
	contains(t, err, "initdb", "the disk is full")

	cfg.BinDir = ""
	start(t, cfg)
}

func TestServerThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	cfg := config(newDataDir(t))
	cfg.Settings["shared_buffers"] = "much"
	_, err := Start(context.Background(), cfg)
	contains(t, err, "PostgreSQL ended by itself", "shared_buffers")
}

func TestFolderThatTheServerCannotReachIsNamed(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root's server runs as another user")
	}
	closed := t.TempDir()
	check(t, os.Chmod(closed, 0o700))
	_, err := Start(context.Background(), config(filepath.Join(closed, "data")))
	contains(t, err, "nabu is root", "cannot pass folder "+filepath.Dir(closed)+" (mode 0700)")
}

func TestLongTemporaryFolderIsPassedOver(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	check(t, os.MkdirAll(long, 0o700))
	cfg := config(newDataDir(t))
	t.Setenv("TMPDIR", long)
	cfg.RuntimeDir = long
	start(t, cfg)
}

func TestLongSocketPathIsRefused(t *testing.T) {
	t.Parallel()
	long := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	check(t, os.MkdirAll(long, 0o700))
	_, err := makeSocketDir([]string{"", "/missing", long}, "/data", defaultPort, account{})
	contains(t, err, long, strconv.Itoa(maxSocketPath), "XDG_RUNTIME_DIR")
}

func TestSocketFolderOfSomebodyElseIsRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]func(path string) error{
		"others can enter it":    func(path string) error { return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, 0o755)) },
		"a link":                 func(path string) error { return os.Symlink(t.TempDir(), path) },
		"a file":                 func(path string) error { return os.WriteFile(path, nil, 0o700) },
		"it belongs to somebody": func(path string) error { return errors.Join(os.Mkdir(path, 0o700), os.Chown(path, 4711, 4711)) },
	}
	for name, plant := range tests {
		t.Run(name, func(t *testing.T) {
			if name == "it belongs to somebody" && os.Geteuid() != 0 {
				t.Skip("only root can give a folder away")
			}
			base := filepath.Dir(newDataDir(t))
			a := account{name: "me", uid: os.Geteuid(), gid: os.Getegid()}
			dir, err := makeSocketDir([]string{base}, "/data", defaultPort, a)
			check(t, err)
			check(t, os.Remove(dir))
			check(t, plant(dir))
			_, err = makeSocketDir([]string{base}, "/data", defaultPort, a)
			contains(t, err, dir, "somebody else")
		})
	}
}

func TestDefaultDataDir(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		env  map[string]string
		euid int
		goos string
		want string
	}{
		"root":                  {map[string]string{"HOME": "/root"}, 0, "linux", "/var/lib/nabu"},
		"a user":                {map[string]string{"HOME": "/home/ann"}, 1000, "linux", "/home/ann/.local/share/nabu"},
		"a user who chose":      {map[string]string{"HOME": "/home/ann", "XDG_DATA_HOME": "/data"}, 1000, "linux", "/data/nabu"},
		"a relative choice":     {map[string]string{"HOME": "/home/ann", "XDG_DATA_HOME": "data"}, 1000, "linux", "/home/ann/.local/share/nabu"},
		"a user of macOS":       {map[string]string{"HOME": "/Users/ann"}, 501, "darwin", "/Users/ann/Library/Application Support/nabu"},
		"a user without folder": {nil, 1000, "linux", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := DefaultDataDir(func(key string) string { return tt.env[key] }, tt.euid, tt.goos)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// servers are the processes that work on the cluster.
func servers(t *testing.T, cfg Config) []int {
	t.Helper()
	pids, err := serversOf(filepath.Join(cfg.DataDir, "postgres"))
	check(t, err)
	return pids
}

// postmaster is the number in the cluster's postmaster.pid.
func postmaster(t *testing.T, cfg Config) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(cfg.DataDir, "postgres", "postmaster.pid"))
	check(t, err)
	pid, err := strconv.Atoi(strings.SplitN(string(text), "\n", 2)[0])
	check(t, err)
	return pid
}

// fingerprint changes with any file of a folder.
func fingerprint(t *testing.T, root string) [sha256.Size]byte {
	t.Helper()
	sum := sha256.New()
	check(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		_, _ = sum.Write([]byte(path))
		_, _ = sum.Write(text)
		return err
	}))
	return [sha256.Size]byte(sum.Sum(nil))
}
