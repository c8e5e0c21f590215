package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// findPgbench is where PostgreSQL's own load generator is; empty: not here.
func findPgbench(environ []string) string {
	for _, entry := range environ {
		if dir, named := strings.CutPrefix(entry, "NABU_PG_BIN="); named {
			path := filepath.Join(dir, "pgbench")
			if _, err := exec.LookPath(path); err == nil {
				return path
			}
		}
	}
	path, err := exec.LookPath("pgbench")
	if err != nil {
		return ""
	}
	return path
}

// runPgbench makes the load by pgbench, which takes less of the machine than a Go
// program. It tells no quantiles.
func (l SkipLockedLoad) runPgbench(ctx context.Context) (_ *Measured, err error) {
	script, err := os.CreateTemp("", "nabu-bench-*.sql")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.Remove(script.Name())) }()
	_, err = script.WriteString(strings.TrimSpace(claimPlain) + " \\gset\n" + strings.Replace(deletePlain, "$1", ":ids", 1) + ";\n")
	if err := errors.Join(err, script.Close()); err != nil {
		return nil, err
	}
	if l.Warmup > 0 {
		if _, err := l.pgbench(ctx, script.Name(), l.Warmup); err != nil {
			return nil, err
		}
	}
	return l.pgbench(ctx, script.Name(), l.Duration)
}

// pgbench runs for a time, of at least a second.
func (l SkipLockedLoad) pgbench(ctx context.Context, script string, d time.Duration) (*Measured, error) {
	clients, seconds := strconv.Itoa(l.Connections), strconv.Itoa(max(1, int(d.Round(time.Second).Seconds())))
	cmd := exec.CommandContext(ctx, l.Pgbench, "--no-vacuum", "--protocol=prepared", "--client="+clients,
		"--jobs="+strconv.Itoa(min(2, l.Connections)), "--time="+seconds, "--file="+script, l.DatabaseURL)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	return readPgbench(string(out))
}

var (
	pgbenchPairs = regexp.MustCompile(`number of transactions actually processed: (\d+)`)
	pgbenchRate  = regexp.MustCompile(`tps = ([0-9.]+)`)
)

// readPgbench reads pgbench's report. What it calls a transaction is its script: a
// claim and a delete of ten.
func readPgbench(report string) (*Measured, error) {
	pairs, rate := pgbenchPairs.FindStringSubmatch(report), pgbenchRate.FindStringSubmatch(report)
	if pairs == nil || rate == nil {
		return nil, fmt.Errorf("pgbench's report is not understood: %s", report)
	}
	n, err := strconv.Atoi(pairs[1])
	if err != nil {
		return nil, fmt.Errorf("pgbench's report: %w", err)
	}
	perSecond, err := strconv.ParseFloat(rate[1], 64)
	if err != nil || perSecond <= 0 {
		return nil, fmt.Errorf("pgbench's report has no rate: %s", report)
	}
	return &Measured{
		Requests: 2 * n, Messages: 10 * n, Took: time.Duration(float64(n) / perSecond * float64(time.Second)),
	}, nil
}
