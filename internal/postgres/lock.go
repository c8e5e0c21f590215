package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// ErrInUse says that another nabu holds the data folder.
var ErrInUse = errors.New("data folder is in use")

// InUseError names who holds the data folder.
type InUseError struct {
	Dir    string
	Holder string // "nabu serve (pid 17)"
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("data folder %s is in use by %s", e.Dir, e.Holder)
}

func (e *InUseError) Is(target error) bool { return target == ErrInUse }

// lock is the right to run a server on a data folder. The kernel takes it back when
// nabu ends, however it ends; the server does not inherit it.
type lock struct{ file *os.File }

// takeLock locks the file at once or returns an InUseError that names the holder.
func takeLock(dir, path, program string) (*lock, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = &InUseError{Dir: dir, Holder: holder(path)}
	}
	if err == nil {
		err = writeHolder(file, program)
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &lock{file}, nil
}

// release gives the lock back. The file stays: removing it could part two holders.
// Closing alone would not do: a program that is being started at this moment has a
// copy of the descriptor until it runs, and the lock with it.
func (l *lock) release() {
	_ = l.file.Truncate(0)
	_ = syscall.Flock(int(l.file.Fd()), syscall.LOCK_UN)
	_ = l.file.Close()
}

func writeHolder(file *os.File, program string) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := fmt.Fprintf(file, "%s (pid %d)\n", program, os.Getpid())
	return err
}

// holder is what the file says about who locked it. It may just have been locked.
func holder(path string) string {
	text, err := os.ReadFile(path)
	if who := strings.TrimSpace(string(text)); err == nil && who != "" {
		return who
	}
	return "another nabu"
}

// until asks again and again, at short intervals, until try is done or fails. It
// gives up when the time is over, with what gaveUp says, or when ctx ends.
func until(ctx context.Context, limit time.Duration, try func() (done bool, err error), gaveUp func() error) error {
	const interval = 20 * time.Millisecond
	end := time.Now().Add(limit)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if done, err := try(); done || err != nil {
			return err
		}
		if time.Now().After(end) {
			return gaveUp()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
