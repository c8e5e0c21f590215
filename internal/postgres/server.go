// Package postgres is nabu's way to PostgreSQL: pools of connections, what errors
// mean, and a private server for those who bring none. It must never delete data,
// never keep a password, and never leave a server behind.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	defaultPort = "5432" // only a part of the socket's name

	// readyLimit counts from the server's last sign of life: after a crash it says
	// that it recovers, for as long as that takes.
	readyLimit = 60 * time.Second

	// leaveLimit is how long a killed nabu's server may take to write what it holds.
	leaveLimit = 60 * time.Second

	// killLimit is how long a server may take for a shutdown without writing.
	killLimit = 10 * time.Second
)

// Server is a private PostgreSQL: a child of this process, or another nabu's.
type Server struct {
	cluster   cluster
	socketDir string
	port      string
	log       *slog.Logger

	// Of a server that is another nabu's, the rest is empty.
	lock      *lock
	process   *process
	unwatch   func()
	asked     chan struct{} // closed when somebody asked for the end
	unasked   chan struct{} // closed when the end came although nobody had asked
	failure   error         // how it came, to be read after that
	watched   sync.WaitGroup
	stop      sync.Once
	stopError error
}

// watch tells an end that somebody asked for from one that nobody did.
func (s *Server) watch() {
	<-s.process.ended
	select {
	case <-s.asked:
		return
	default:
	}
	how := s.process.err
	if how == nil {
		how = errors.New("exit status 0")
	}
	s.failure = fmt.Errorf("PostgreSQL wrote:\n%s\nPostgreSQL ended by itself: %w%s", s.lastWords(), how, s.cluster.fullDisk())
	close(s.unasked)
}

// URL is the connection string of a role and a database, through the socket.
func (s *Server) URL(role, database string) string {
	u := url.URL{
		Scheme: "postgres",
		User:   url.User(role),
		Path:   "/" + database,
		RawQuery: url.Values{
			"host":    {s.socketDir},
			"port":    {s.port},
			"sslmode": {"disable"},
		}.Encode(),
	}
	return u.String()
}

// DataDir is the data folder, with its whole path.
func (s *Server) DataDir() string { return s.cluster.dataDir }

// Attached says that the server is another nabu's.
func (s *Server) Attached() bool { return s.lock == nil }

// PID is the server's process; 0 if it is another nabu's.
func (s *Server) PID() int {
	if s.process == nil {
		return 0
	}
	return s.process.cmd.Process.Pid
}

// Done is closed when the server ended although nobody asked. It never is for
// another nabu's server.
func (s *Server) Done() <-chan struct{} { return s.unasked }

// Err says how the server ended if nobody had asked, with its last words; else nil.
func (s *Server) Err() error {
	select {
	case <-s.unasked:
		return s.failure
	default:
		return nil
	}
}

// Stop ends the server and gives the data folder back. The server closes connections
// and writes what it holds; if ctx ends before that is done, it is made to end at
// once, and recovers at its next start. All but the first call return what that did.
func (s *Server) Stop(ctx context.Context) error {
	if s.Attached() {
		return nil
	}
	s.stop.Do(func() {
		close(s.asked)
		s.stopError = s.end(ctx)
		s.unwatch()
		s.watched.Wait()
		s.leave()
		s.lock.release()
	})
	return s.stopError
}

// end ends the process, the harder the longer it takes.
func (s *Server) end(ctx context.Context) error {
	if s.process == nil {
		return nil
	}
	_ = s.process.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-s.process.ended:
		return nil
	case <-ctx.Done():
	}
	_ = s.process.cmd.Process.Signal(syscall.SIGQUIT)
	patience := time.NewTimer(killLimit)
	defer patience.Stop()
	select {
	case <-s.process.ended:
	case <-patience.C:
		_ = s.process.cmd.Process.Kill()
		<-s.process.ended
	}
	return fmt.Errorf("PostgreSQL did not shut down in time and was cut off; it will recover at its next start: %w", ctx.Err())
}

// leave removes what only a running server needs.
func (s *Server) leave() {
	_ = os.Remove(s.cluster.socketFile())
	if s.socketDir != "" {
		_ = removeSocket(s.socketDir, s.port)
		_ = os.Remove(s.socketDir)
	}
}

// lastWords is the end of what the server wrote: before its log was open, and in it.
func (s *Server) lastWords() string {
	const most = 12
	// What is said before the server has its own log comes last: it is the reason.
	lines := append(tail(newestFile(filepath.Join(s.cluster.dir(), "log"))), tail(s.cluster.startLog())...)
	lines = slices.DeleteFunc(lines, func(line string) bool {
		return line == "" || strings.Contains(line, "redirecting log output") || strings.Contains(line, "Future log output")
	})
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}

// leastRoom is how much room on its disk a server needs to start, in bytes: a segment of the WAL.
const leastRoom = 1 << 20

// fullDisk says that the cluster's disk is full, if it is.
func (c cluster) fullDisk() string {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(c.dir(), &disk); err != nil || disk.Bavail*uint64(disk.Bsize) >= leastRoom {
		return ""
	}
	return "; its disk is full: make room for " + c.dir() + ", and start nabu again"
}

// newestFile is the file of a folder that was written to last.
func newestFile(dir string) string {
	entries, _ := os.ReadDir(dir)
	var newest fs.FileInfo
	for _, entry := range entries {
		info, err := entry.Info()
		if err == nil && info.Mode().IsRegular() && (newest == nil || info.ModTime().After(newest.ModTime())) {
			newest = info
		}
	}
	if newest == nil {
		return ""
	}
	return filepath.Join(dir, newest.Name())
}

// tail is the last lines of a file, or none if it cannot be read.
func tail(path string) []string {
	const most = 8 << 10
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }()
	whole := true
	if info, err := file.Stat(); err == nil && info.Size() > most {
		_, err = file.Seek(-most, io.SeekEnd)
		whole = err != nil
	}
	text, _ := io.ReadAll(io.LimitReader(file, most))
	lines := strings.Split(string(text), "\n")
	if !whole {
		lines = lines[1:]
	}
	return lines
}
