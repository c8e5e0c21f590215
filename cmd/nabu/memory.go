package main

import "runtime/debug"

// What the garbage collector may use. nabu keeps little and makes a lot that dies
// with its request: with Go's own setting the collector would run hundreds of times
// a second under load, which cost a third of the posts and more. A run takes a few
// milliseconds of one of the cores, which answers then wait for.
const (
	collectorPercent = 1000
	// The collector works harder from here on. It is far above what nabu needs.
	softMemoryLimit = 256 << 20
)

// tuneCollector sets the collector for a server, unless the operator did.
func tuneCollector(environ environment) {
	if environ.get("GOGC") == "" {
		debug.SetGCPercent(collectorPercent)
	}
	if environ.get("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(softMemoryLimit)
	}
}
