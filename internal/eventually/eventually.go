// Package eventually lets tests wait for what something else brings about.
package eventually

import (
	"testing"
	"time"
)

const (
	// patience is far longer than anything takes, also on a machine that does a lot besides.
	patience = time.Minute
	// rest is between one look and the next, or else twice as long as a look takes, whichever is
	// longer: what is waited for needs the cores as well.
	rest = time.Millisecond
)

// Holds waits until a condition holds, and fails the test with what that is when it did not within
// a minute. The condition is looked at by the test's own goroutine, nobody knows how often.
func Holds(t testing.TB, what string, condition func() bool) {
	t.Helper()
	Within(t, patience, what, condition)
}

// Within is Holds for less than a minute, where the condition would come to hold by itself after a
// while.
func Within(t testing.TB, patience time.Duration, what string, condition func() bool) {
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
