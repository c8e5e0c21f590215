package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a nabu of the bench's own, apart from the process that makes the load.
type Process struct {
	// Address is where it listens, host:port.
	Address string
	// Started is when it was started, ReadyAfter how long it took to say so.
	Started    time.Time
	ReadyAfter time.Duration

	cmd   *exec.Cmd
	ended chan struct{}
	mu    sync.Mutex
	last  [][]byte // the last lines it wrote
}

// ReadyMessage is what a nabu logs when it serves, with its address as "url".
const ReadyMessage = "ready"

const startTimeout = 60 * time.Second

// StartProcess starts a nabu and waits until it is ready. Its log has to be JSON.
func StartProcess(ctx context.Context, binary string, environ []string, args ...string) (*Process, error) {
	p := &Process{cmd: exec.Command(binary, args...), ended: make(chan struct{})}
	p.cmd.Env = environ
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = write, write
	p.Started = time.Now()
	err = p.cmd.Start()
	_ = write.Close()
	if err != nil {
		_ = read.Close()
		return nil, fmt.Errorf("start nabu: %w", err)
	}
	ready := make(chan string, 1)
	go p.attend(read, ready)
	patience := time.NewTimer(startTimeout)
	defer patience.Stop()
	select {
	case p.Address = <-ready:
		p.ReadyAfter = time.Since(p.Started)
		return p, nil
	case <-p.ended:
		return nil, fmt.Errorf("nabu ended before it was ready: %s", p.LastWords())
	case <-patience.C:
		err = errors.New("nabu is not ready after " + startTimeout.String())
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.Kill()
	return nil, err
}

// attend reads what the process writes until it ends.
func (p *Process) attend(output io.ReadCloser, ready chan<- string) {
	lines := bufio.NewScanner(output)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct{ Msg, URL string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == ReadyMessage {
			if u, err := url.Parse(line.URL); err == nil {
				select {
				case ready <- u.Host:
				default:
				}
			}
		}
		p.keep(lines.Bytes())
	}
	_ = output.Close()
	_ = p.cmd.Wait()
	close(p.ended)
}

func (p *Process) keep(line []byte) {
	const most = 20
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = append(p.last, slices.Clone(line))
	if len(p.last) > most {
		p.last = p.last[1:]
	}
}

// LastWords is the end of what the process wrote.
func (p *Process) LastWords() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(bytes.Join(p.last, []byte("\n")))
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Kill ends the process without a chance to do anything about it.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// Stop asks the process to end and waits for it.
func (p *Process) Stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	patience := time.NewTimer(startTimeout)
	defer patience.Stop()
	select {
	case <-p.ended:
	case <-patience.C:
		p.Kill()
		return errors.New("nabu did not stop and was killed")
	}
	if !p.cmd.ProcessState.Success() {
		return fmt.Errorf("nabu stopped with %s: %s", p.cmd.ProcessState, p.LastWords())
	}
	return nil
}

// Memory is how many bytes of the machine's memory the process holds now, and held
// at most; zero where the system does not tell.
func (p *Process) Memory() (now, most int64) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return 0, 0
	}
	return memoryLine(status, "VmRSS:"), memoryLine(status, "VmHWM:")
}

func memoryLine(status []byte, name string) int64 {
	for line := range bytes.Lines(status) {
		if rest, found := bytes.CutPrefix(line, []byte(name)); found {
			kilobytes, _ := strconv.ParseInt(strings.Fields(string(rest))[0], 10, 64)
			return kilobytes << 10
		}
	}
	return 0
}
