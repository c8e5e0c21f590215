package main

import (
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"nabu/internal/postgres"
	"nabu/internal/sealing"
)

func oneOf(allowed ...string) func(string) error {
	return func(text string) error {
		if !slices.Contains(allowed, text) {
			return fmt.Errorf("must be %s, not %q", strings.Join(allowed, " or "), text)
		}
		return nil
	}
}

// someOf is a rule for lists with commas between the items.
func someOf(allowed ...string) func(string) error {
	return func(text string) error {
		for item := range strings.SplitSeq(text, ",") {
			if !slices.Contains(allowed, item) {
				return fmt.Errorf("must be one or several of %s, with commas between, not %q", strings.Join(allowed, ", "), text)
			}
		}
		return nil
	}
}

// between is a rule for numbers; put has seen that it is one.
func between(low, high int) func(string) error {
	return func(text string) error {
		if n, _ := strconv.Atoi(text); n < low || n > high {
			return fmt.Errorf("must be between %d and %d, not %d", low, high, n)
		}
		return nil
	}
}

// positive is a rule for durations; put has seen that it is one.
func positive(text string) error {
	if d, _ := time.ParseDuration(text); d <= 0 {
		return fmt.Errorf("must be longer than nothing, not %s", d)
	}
	return nil
}

// programs is the rule for the folder of PostgreSQL's programs.
func programs(text string) error {
	if _, err := os.Stat(filepath.Join(text, "postgres")); err != nil {
		return fmt.Errorf("must be a folder with PostgreSQL's programs: %w", err)
	}
	return nil
}

// masterKeys is the rule for a file of master keys.
func masterKeys(path string) error {
	if _, err := sealing.ReadMasters(path); err != nil {
		return fmt.Errorf("must be a file of master keys: %w", err)
	}
	return nil
}

// connectionString refuses what cannot be read. Nothing is connected to.
func connectionString(text string) error {
	db, err := postgres.Open(text, 1)
	if err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	return db.Close()
}

// origins refuses patterns that cannot match anything.
func origins(text string) error {
	for pattern := range strings.SplitSeq(text, ",") {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return fmt.Errorf("must be hosts such as console.example.org or https://*.example.org, with commas between, not %q", text)
		}
	}
	return nil
}

func address(text string) error {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return fmt.Errorf("must be an address and a port such as 127.0.0.1:8888, not %q", text)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("must have a port between 0 and 65535, not %q", port)
	}
	return nil
}
