package postgres

import (
	"os/exec"
	"runtime"
)

// process is a running program of PostgreSQL.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed at its end
	err   error         // how it ended; to be read after that
}

// startProcess starts a program and waits for it on a thread of the operating system
// that does nothing else: Linux sends the signal of tie when the thread that started
// the program ends, and Go may end its threads at any time.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.ended)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}
