package postgres

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// A watcher waits for a line from nabu. If its input ends without one, nabu was
// killed, and the server has to go as well.
const watcherScript = `read -r line || kill -INT "$1"`

// startWatcher starts a watcher of the server where the kernel does not do its work.
// It runs as the server's account and outside of nabu's process group.
func startWatcher(server *exec.Cmd) (stop func(), err error) {
	input, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/bin/sh", "-c", watcherScript, "sh", strconv.Itoa(server.Process.Pid))
	cmd.Dir = "/"
	cmd.Stdin = input
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: server.SysProcAttr.Credential}
	err = cmd.Start()
	_ = input.Close()
	if err != nil {
		_ = ours.Close()
		return nil, fmt.Errorf("start the watcher of the server: %w", err)
	}
	return func() {
		_, _ = ours.WriteString("\n")
		_ = ours.Close()
		_ = cmd.Wait()
	}, nil
}
