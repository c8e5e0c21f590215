package main

import (
	"io"
	"log/slog"
	"os"

	"github.com/mattn/go-isatty"
)

// newLog makes the log that the settings ask for: text for people, JSON for
// programs.
func newLog(cfg config, out io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		level = slog.LevelInfo // the settings' own check allows nothing else
	}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: withUnits}
	if cfg.LogFormat == "text" || cfg.LogFormat != "json" && isTerminal(out) {
		return slog.New(slog.NewTextHandler(out, options))
	}
	return slog.New(slog.NewJSONHandler(out, options))
}

// withUnits has a duration say its unit: as JSON it would be a bare number of nanoseconds.
func withUnits(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// logEnd has programs that read the log find in it why nabu ends. The reason also is the
// last line on stderr, where people look who have the log as text.
func logEnd(log *slog.Logger, err error) {
	if _, forPrograms := log.Handler().(*slog.JSONHandler); forPrograms && err != nil {
		log.Error("nabu ends because of an error", "error", err)
	}
}

func isTerminal(out io.Writer) bool {
	f, isFile := out.(*os.File)
	return isFile && isatty.IsTerminal(f.Fd())
}
