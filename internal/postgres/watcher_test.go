package postgres

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// helpWatch starts a stand-in for the server and a watcher, and waits to be killed.
func helpWatch(dir string) error {
	server := exec.Command("/bin/sh", "-c", `trap 'echo >"$1/stopped"; exit' INT; echo >"$1/running"; while :; do sleep 0.05; done`, "sh", dir)
	server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := server.Start(); err != nil {
		return err
	}
	if _, err := startWatcher(server); err != nil {
		return err
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestWatcherStopsTheServerOfAKilledNabu(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	helper, lines := startHelper(t, "watch", dir)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("the helper says %q", lines.Text())
	}
	eventually(t, "the server runs", func() bool { return exists(filepath.Join(dir, "running")) })
	kill(helper)
	eventually(t, "the server was stopped", func() bool { return exists(filepath.Join(dir, "stopped")) })
}

func TestWatcherThatIsStoppedLeavesTheServerAlone(t *testing.T) {
	t.Parallel()
	server := exec.Command("sleep", "600")
	server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	check(t, server.Start())
	defer kill(server)
	stop, err := startWatcher(server)
	check(t, err)
	stop() // returns when the watcher has ended
	check(t, server.Process.Signal(syscall.Signal(0)))
}
