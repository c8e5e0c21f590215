package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"nabu/internal/pgtest"
	"nabu/internal/postgres"
)

// lookers are commands that work on what is there. They make no data, and want a ledger.
var lookers = map[string][]string{
	"events":       {"events"},
	"consumers":    {"consumers", "list"},
	"retry":        {"consumers", "retry", "notifier"},
	"replay":       {"replay"},
	"check":        {"replay", "--check"},
	"keys":         {"keys", "list"},
	"destroy keys": {"keys", "destroy", "q", "--project", "p1", "--yes"},
}

func TestOnlyServeMakesData(t *testing.T) {
	t.Parallel()
	tests := map[string][]string{"status": {"migrate", "status"}}
	for name, args := range lookers {
		tests[name] = args
	}
	for name, args := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := newDataDir(t)
			err := run(context.Background(), append(args, "--data-dir", data), cleanEnviron(), &bytes.Buffer{})
			if err == nil || exitCode(err) != exitMisconfigured || !strings.Contains(err.Error(), "there is no data folder "+data+"; nabu serve makes one") {
				t.Errorf("it says %v", err)
			}
			if _, err := os.Stat(data); err == nil {
				t.Error("a data folder was made")
			}
		})
	}
}

func TestADatabaseWithoutLedgerIsNamed(t *testing.T) {
	t.Parallel()
	server := pgtest.OpenServer(t, map[string]string{"fsync": "off"})
	for name, args := range lookers {
		err := run(context.Background(), append(args, urlsOf(server)...), cleanEnviron(), &bytes.Buffer{})
		want := "database " + postgres.Redact(server.URL(postgres.App, postgres.Database)) + " has no ledger yet: nabu serve or nabu migrate up makes it"
		if err == nil || err.Error() != want {
			t.Errorf("%s says %v, want %s", name, err, want)
		}
	}
}
