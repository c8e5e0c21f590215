//go:build !linux

package postgres

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// maxSocketPath is how long the path of a socket may be.
const maxSocketPath = 103

// tie does nothing here: only Linux signals the death of a parent.
func tie(*exec.Cmd, syscall.Signal) {}

// watch stops the server when nabu ends without having done so.
func watch(server *exec.Cmd) (stop func(), err error) { return startWatcher(server) }

// serversOf finds the server that wrote the cluster's postmaster.pid, if it lives.
func serversOf(cluster string) ([]int, error) {
	text, err := os.ReadFile(filepath.Join(cluster, "postmaster.pid"))
	if err != nil {
		return nil, nil // no file, no server
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return nil, nil // PostgreSQL explains it better
	}
	out, err := exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil || !strings.Contains(string(out), cluster) {
		return nil, nil // ps fails when there is no such process
	}
	return []int{pid}, nil
}

// dropStalePID leaves the file to PostgreSQL: without /proc nothing proves that no
// server is left.
func dropStalePID(string) error { return nil }
