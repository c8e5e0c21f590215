package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// How long nabu is looked at before it counts as quiet, and is waited for at most: a million
// messages are swept in half a minute.
const (
	quietTime   = 500 * time.Millisecond
	settleBound = 2 * time.Minute
)

// settle brings to an end what was begun before, so that it is not measured: what nabu does in
// the background, garbage, and pages on their way to the disk. The kernel would write those half
// a minute later, hundreds of megabytes at once after a queue was filled, and flushes wait behind
// them. It is this machine's disk that is settled, and so that of the PostgreSQL that runs on it.
func (s *stage) settle(ctx context.Context) {
	address := s.Address
	if address == "" && s.nabu != nil {
		address = s.nabu.Address
	}
	if address != "" {
		if err := untilQuiet(ctx, address, quietTime, settleBound); err != nil {
			s.progress("nabu does not come to rest: " + err.Error())
		}
	}
	runtime.GC()
	syscall.Sync()
}

// untilQuiet waits until nabu's consumers have handled the whole ledger and nothing has been
// added to it for a while: what sweeps records what it does.
func untilQuiet(ctx context.Context, address string, quiet, most time.Duration) error {
	c := newConn(address, requestTimeout)
	defer c.close()
	for began, before := time.Now(), -1.0; ; pause(ctx, quiet) {
		head, lag, err := backlog(c)
		switch {
		case err != nil:
			return err
		case lag == 0 && head == before:
			return nil
		case time.Since(began) > most || ctx.Err() != nil:
			return fmt.Errorf("after %v the ledger has %.0f events, of which %.0f are to be handled", most, head, lag)
		}
		before = head
	}
}

// backlog reads out of nabu's metrics how many events there are, and how many of them a
// consumer has still to handle.
func backlog(c *conn) (head, lag float64, err error) {
	r, err := c.do(getRequest("/metrics"))
	if err := wanted(r, err, "GET /metrics", http.StatusOK); err != nil {
		return 0, 0, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(r.body)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.ParseFloat(value, 64)
		switch {
		case err != nil: // a comment
		case name == "nabu_ledger_head_position":
			head = n
		case strings.HasPrefix(name, "nabu_consumer_lag_events{"):
			lag = max(lag, n)
		}
	}
	return head, lag, nil
}
