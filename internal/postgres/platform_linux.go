package postgres

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// maxSocketPath is how long the path of a socket may be.
const maxSocketPath = 107

// tie makes the kernel send a signal to the child when the thread that started it
// ends, and so when nabu ends, however it ends.
func tie(cmd *exec.Cmd, signal syscall.Signal) {
	cmd.SysProcAttr.Pdeathsig = signal
}

// watch has nothing to add to tie.
func watch(*exec.Cmd) (stop func(), err error) { return func() {}, nil }

// serversOf lists the processes of PostgreSQL that work in a cluster's folder, which
// each of them does from its first moment to its last.
func serversOf(cluster string) ([]int, error) {
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, entry := range processes {
		pid, err := strconv.Atoi(entry.Name())
		if err == nil && worksIn(pid, cluster) && isPostgres(pid) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// worksIn is false as well for processes of other users, who cannot be servers of
// our cluster.
func worksIn(pid int, cluster string) bool {
	dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return err == nil && dir == cluster
}

func isPostgres(pid int) bool {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return err == nil && strings.HasPrefix(string(name), "postgres")
}

// dropStalePID removes the postmaster.pid of a server that is gone if the number in it
// now belongs to something else, which PostgreSQL would take for the old server. In a
// container that starts again this is common: all numbers are low, and nabu's own
// threads count too. The caller holds the lock and has seen no server in the folder.
func dropStalePID(cluster string) error {
	path := filepath.Join(cluster, "postmaster.pid")
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return nil // PostgreSQL explains it better
	}
	dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	if !isZombie(pid) && (err != nil || dir == cluster) {
		return nil
	}
	return os.Remove(path)
}

// isZombie tells whether a process has ended and only waits for its parent to take
// note, which in some containers nobody ever does. PostgreSQL takes it for alive.
func isZombie(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	return strings.HasPrefix(state, "Z")
}
