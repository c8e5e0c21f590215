package bench

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"nabu/internal/postgres"
)

// stage holds the servers that the scenarios need, each started when one first
// asks for it.
type stage struct {
	Options
	dir      string // for the data folder
	nabu     *Process
	baseline *Process
	replicas []*Process
	distant  *distantNabu
	server   *postgres.Server // nabu's private one
	filled   map[int]*Posted  // queues to list, by their size
	supplies map[int]*supply  // queues to claim from, by their size
	posts    float64          // per second, of 32 connections that wait for nothing else
}

// ownPageSize is the page size of a nabu of the bench's own, so that checking takes
// no longer than measuring.
const ownPageSize = 1000

func newStage(o Options) *stage {
	return &stage{Options: o, filled: map[int]*Posted{}, supplies: map[int]*supply{}}
}

// close stops what was started and removes the data.
func (s *stage) close() error {
	problems := []error{s.distant.stop()}
	for _, p := range append(s.replicas, s.baseline, s.nabu) {
		if p != nil {
			problems = append(problems, p.Stop())
		}
	}
	if s.dir != "" {
		problems = append(problems, os.RemoveAll(s.dir))
	}
	return errors.Join(problems...)
}

// address is where the nabu under load listens.
func (s *stage) address(ctx context.Context) (string, error) {
	if s.Address != "" {
		return s.Address, nil
	}
	if err := s.startOwn(ctx); err != nil {
		return "", err
	}
	return s.nabu.Address, nil
}

func (s *stage) pageSize() int {
	if s.Address != "" {
		return idsPerRequest
	}
	return ownPageSize
}

// startOwn starts a nabu with a private PostgreSQL in a new folder.
func (s *stage) startOwn(ctx context.Context) (err error) {
	if s.nabu != nil {
		return nil
	}
	if s.dir == "" {
		if s.dir, err = os.MkdirTemp("", "nabu-bench-"); err != nil {
			return err
		}
		// The server does not run as root, and has to get through.
		if err := os.Chmod(s.dir, 0o711); err != nil {
			return err
		}
	}
	args := []string{"--data-dir", s.dataDir()}
	if s.Encrypt {
		path := filepath.Join(s.dir, "keys")
		key := make([]byte, 32)
		_, _ = rand.Read(key) // never fails
		if err := os.WriteFile(path, []byte("bench "+base64.StdEncoding.EncodeToString(key)), 0o600); err != nil {
			return err
		}
		args = append(args, "--encryption-keys-file", path)
	}
	s.nabu, err = s.serve(ctx, args...)
	return err
}

// metadata is that of the queues that scenarios make; empty: none.
func (s *stage) metadata() string {
	if s.Encrypt {
		return `{"_enable_encrypt_messages": true}`
	}
	return ""
}

func (s *stage) dataDir() string { return filepath.Join(s.dir, "data") }

// serve starts a nabu on a port that is free.
func (s *stage) serve(ctx context.Context, args ...string) (*Process, error) {
	common := []string{"serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--max-messages-per-page", fmt.Sprint(ownPageSize)}
	return StartProcess(ctx, s.Binary, s.Environ, append(common, args...)...)
}

// baselineAddress is where the server listens that decodes and answers the same
// requests as nabu, and stores nothing.
func (s *stage) baselineAddress(ctx context.Context) (_ string, err error) {
	if s.baseline == nil {
		s.baseline, err = StartProcess(ctx, s.Binary, s.Environ, "bench-baseline")
		if err != nil {
			return "", err
		}
	}
	return s.baseline.Address, nil
}

// database is a connection string to nabu's database as a role, unless the caller
// gave one.
func (s *stage) database(ctx context.Context, role string) (string, error) {
	if s.DatabaseURL != "" {
		return s.DatabaseURL, nil
	}
	if s.Address != "" {
		return "", errors.New("this scenario needs the database behind the nabu at --url: give --database-url")
	}
	if err := s.startOwn(ctx); err != nil {
		return "", err
	}
	if s.server == nil {
		server, err := postgres.Attach(ctx, postgres.Config{DataDir: s.dataDir(), Program: "nabu bench"})
		if err != nil {
			return "", fmt.Errorf("reach the PostgreSQL of the nabu under load: %w", err)
		}
		s.server = server
	}
	return s.server.URL(role, postgres.Database), nil
}

// replica is the address of the n-th of several nabus on one PostgreSQL.
func (s *stage) replica(ctx context.Context, n int) (string, error) {
	for len(s.replicas) <= n {
		app, err := s.database(ctx, postgres.App)
		if err != nil {
			return "", err
		}
		owner, err := s.database(ctx, postgres.Owner)
		if err != nil {
			return "", err
		}
		p, err := s.serve(ctx, "--database-url", app, "--direct-database-url", owner)
		if err != nil {
			return "", err
		}
		s.replicas = append(s.replicas, p)
	}
	return s.replicas[n].Address, nil
}

// queueOf is a queue with at least so many messages.
func (s *stage) queueOf(ctx context.Context, messages int) (*Posted, error) {
	if s.filled[messages] == nil {
		address, err := s.address(ctx)
		if err != nil {
			return nil, err
		}
		filled, err := Fill(ctx, address, messages, s.Body)
		if err != nil {
			return nil, err
		}
		if err := s.tidy(ctx, messages); err != nil {
			return nil, err
		}
		s.filled[messages] = filled
	}
	return s.filled[messages], nil
}

// supply is a new queue to claim from.
func (s *stage) supply(ctx context.Context) (*supply, error) {
	address, err := s.address(ctx)
	if err != nil {
		return nil, err
	}
	queue := newSupply(address, s.Body)
	if s.Encrypt {
		return queue, queue.Create(s.metadata())
	}
	return queue, nil
}

// supplyOf is a queue to claim from that has about so many messages, as long as
// whoever claims tops it up.
func (s *stage) supplyOf(ctx context.Context, messages int) (*supply, error) {
	if s.supplies[messages] == nil {
		queue, err := s.supply(ctx)
		if err != nil {
			return nil, err
		}
		s.progress(fmt.Sprintf("filling a queue with %d messages", messages))
		if err := queue.Fill(ctx, messages); err != nil {
			return nil, err
		}
		if err := s.tidy(ctx, messages); err != nil {
			return nil, err
		}
		s.supplies[messages] = queue
	}
	return s.supplies[messages], nil
}

// leastTidied is from how many messages on it is worth while to tidy up behind a fill.
const leastTidied = 100_000

// tidy vacuums what so many messages were just added to, so that autovacuum does not do it
// while something else is measured. It does nothing where the database is not known.
func (s *stage) tidy(ctx context.Context, messages int) error {
	if messages < leastTidied || s.Address != "" && s.DatabaseURL == "" {
		return nil
	}
	url, err := s.database(ctx, postgres.App)
	if err != nil {
		return err
	}
	db, err := postgres.Open(url, 1)
	if err != nil {
		return fmt.Errorf("tidy up: %w", err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(ctx, `VACUUM (ANALYZE) messages, tasks`); err != nil {
		return fmt.Errorf("tidy up: %w", err)
	}
	return nil
}
