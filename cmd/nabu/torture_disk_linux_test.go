package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"nabu/internal/eventually"
)

// smallDisk is how many bytes the disk has that is filled: enough for a PostgreSQL and
// some minutes of load.
const smallDisk = "1g"

// beginOnSmallDisk is a nabu whose PostgreSQL has a disk of its own.
func beginOnSmallDisk(t *testing.T) *tortured {
	t.Helper()
	dir := filepath.Dir(newDataDir(t))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+smallDisk+",mode=0711"); err != nil {
		t.Skipf("only root may mount the small disk that is to be filled: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return beginOnServer(t, filepath.Join(dir, "data"), map[string]string{"max_wal_size": "64MB", "min_wal_size": "32MB"}, 1)
}

// fillDisk leaves no room until requests fail, and then gives it back. A PostgreSQL that
// could not go on without room is started by whoever looks after it.
func fillDisk(w *tortured, _ int) {
	pauseUpTo(300 * time.Millisecond)
	ballast := filepath.Join(filepath.Dir(w.config.DataDir), "ballast")
	failed := w.load.failures.Load()
	eventually.Holds(w.T, "requests fail when the disk is full", func() bool {
		w.fill(ballast)
		return w.load.failures.Load() > failed+20
	})
	if err := os.Remove(ballast); err != nil {
		w.Fatal(err)
	}
	select {
	case <-w.server.Done():
		w.Logf("PostgreSQL ended on a full disk: %v", w.server.Err())
		w.restartServer()
	default:
	}
}

// fill makes a file as long as the disk allows.
func (w *tortured) fill(path string) {
	w.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for _, size := range []int{1 << 20, 4 << 10} {
		for err == nil {
			_, err = file.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			w.Fatal(err)
		}
		err = nil
	}
}
