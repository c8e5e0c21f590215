// Package eventually lets tests wait for what something else brings about.
package eventually

import (
	"testing"
	"time"
)

const (
	// patience is far longer than anything takes, also on a machine that does a lot besides.
	patience = time.Minute
	// rest is between one look and the next, or twice as long as a look takes: whatever is
	// waited for needs the cores as well.
	rest = time.Millisecond
)

// Holds waits until a condition holds, and fails the test with what that is when it does not
// within a minute. The condition is looked at by the test's own goroutine.
func Holds(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		began := time.Now()
		if condition() {
			return
		}
		if began.After(deadline) {
			t.Fatalf("within %v it never came to this: %s", patience, what)
		}
		<-time.After(max(rest, 2*time.Since(began)))
	}
}
