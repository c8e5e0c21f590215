// Command nabu is the whole service and the tools around it: it reads flags and
// environment, wires the parts together, runs them and stops them. It must never
// decide anything that a client can see.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"nabu/internal/postgres"
	"nabu/migrations"
	"nabu/projections"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), ends()...)
	context.AfterFunc(ctx, stop) // so that a second signal ends the program at once
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "nabu:", err)
		os.Exit(exitCode(err))
	}
}

// ends are the signals that stop the program. A hangup does when the terminal is closed, but
// not where nohup has the program ignore it.
func ends() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}

// run is the whole program; tests call it with arguments of their own. The
// environment comes as a list, since only a list shows a misspelt NABU_ variable.
func run(ctx context.Context, args []string, environ environment, out io.Writer) error {
	root := newRoot(environ)
	root.SetArgs(args)
	root.SetOut(out)
	return root.ExecuteContext(ctx)
}

// The program's exit codes.
const (
	exitFailure       = 1
	exitUsage         = 2
	exitLocked        = 3
	exitMisconfigured = 78 // EX_CONFIG of sysexits.h
)

// codedError is an error that ends the program with a code of its own.
type codedError struct {
	code int
	error
}

func (e *codedError) Unwrap() error { return e.error }

func misused(err error) error       { return &codedError{exitUsage, err} }
func misconfigured(err error) error { return &codedError{exitMisconfigured, err} }

func exitCode(err error) int {
	if coded, ok := errors.AsType[*codedError](err); ok {
		return coded.code
	}
	if errors.Is(err, postgres.ErrInUse) {
		return exitLocked
	}
	if _, missing := errors.AsType[*postgres.NotInstalledError](err); missing {
		return exitMisconfigured
	}
	if _, other := errors.AsType[*postgres.VersionError](err); other {
		return exitMisconfigured
	}
	if _, stale := errors.AsType[*projections.StaleError](err); stale {
		return exitMisconfigured
	}
	if _, later := errors.AsType[*migrations.UnknownError](err); later {
		return exitMisconfigured
	}
	return exitFailure
}
