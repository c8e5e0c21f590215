//go:build !linux

package main

import "testing"

func beginOnSmallDisk(t *testing.T) *tortured {
	t.Helper()
	t.Skip("a small disk to fill is made on Linux only")
	return nil
}

func fillDisk(*tortured, int) {}
