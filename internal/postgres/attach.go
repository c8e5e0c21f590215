package postgres

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
)

// Attach uses the server of another nabu that holds the data folder, if it answers;
// stopping it then does nothing. If nobody holds the folder it starts a server on the
// cluster that is there. It makes none: without one it fails with a NoDataError.
func Attach(ctx context.Context, cfg Config) (*Server, error) {
	cfg.existing = true
	return AttachOrMake(ctx, cfg)
}

// AttachOrMake is like Attach, and like Start where there is no cluster.
func AttachOrMake(ctx context.Context, cfg Config) (*Server, error) {
	return open(ctx, cfg, func(c cluster) *Server { return attach(ctx, cfg, c) })
}

// NoDataError says that there is no data folder, or no cluster of nabu's in it.
type NoDataError struct {
	Dir   string
	There bool // the folder is there, but has no cluster
}

func (e *NoDataError) Error() string {
	if e.There {
		return "there is no PostgreSQL of nabu's in folder " + e.Dir
	}
	return "there is no data folder " + e.Dir
}

// mustExist refuses a data folder in which nobody has begun to make a cluster.
func (c cluster) mustExist() error {
	if _, err := os.Stat(c.dataDir); errors.Is(err, fs.ErrNotExist) {
		return &NoDataError{Dir: c.dataDir}
	}
	for _, path := range []string{c.dir(), c.lockFile()} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return nil // what else is wrong is told later
		}
	}
	return &NoDataError{Dir: c.dataDir, There: true}
}

// attach finds the server that the holder of the data folder runs; nil if it does not
// answer now.
func attach(ctx context.Context, cfg Config, c cluster) *Server {
	dir, err := os.ReadFile(c.socketFile())
	if err != nil {
		return nil
	}
	s := &Server{cluster: c, socketDir: strings.TrimSpace(string(dir)), port: cfg.port(), log: cfg.Log}
	db, err := Open(s.URL(App, Database), 1)
	if err != nil {
		return nil
	}
	defer func() { _ = db.Close() }()
	if db.PingContext(ctx) != nil {
		return nil
	}
	return s
}
