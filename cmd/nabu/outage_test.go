package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"nabu/commands"
)

// TestAnOutageDoesNotFloodTheLog: one line is enough for a while, whoever says it, and what has
// other reasons is said each time.
func TestAnOutageDoesNotFloodTheLog(t *testing.T) {
	for level, whole := range map[slog.Level]bool{slog.LevelInfo: false, slog.LevelDebug: true} {
		var out bytes.Buffer
		log := quieten(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level})))
		for _, about := range []*slog.Logger{log, log.With("consumer", "c")} {
			for _, err := range []error{
				fmt.Errorf("read: %w", io.EOF), commands.ErrUnreachable, context.DeadlineExceeded,
			} {
				about.Error("it failed", "error", err)
			}
		}
		if n := strings.Count(out.String(), "\n"); strings.Count(out.String(), "level=ERROR") != 1 || (n == 6) != whole {
			t.Errorf("at level %s it says:\n%s", level, out.String())
		}
		out.Reset()
		for range 2 {
			log.Warn("it failed", "error", &url.Error{Op: "Get", URL: "http://a", Err: context.DeadlineExceeded})
			log.Error("it failed", "error", errors.New("other"))
			log.Info("it goes on", "error", io.EOF)
		}
		if n := strings.Count(out.String(), "level=DEBUG"); n != 0 || strings.Count(out.String(), "\n") != 6 {
			t.Errorf("of other things it says:\n%s", out.String())
		}
	}
}
