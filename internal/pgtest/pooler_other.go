//go:build !linux

package pgtest

import "syscall"

// tied is nothing special where the system has no way to say it.
func tied() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
