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

// TestWhatIsWrongWithADatabaseIsSaid: by which setting, where, and what to do.
func TestWhatIsWrongWithADatabaseIsSaid(t *testing.T) {
	t.Parallel()
	server := pgtest.OpenServer(t, map[string]string{"fsync": "off"})
	app, owner := server.URL(postgres.App, postgres.Database), server.URL(postgres.Owner, postgres.Database)
	const nobody = "postgres://nabu_app@127.0.0.1:1/nabu?sslmode=disable"
	if _, err := adminOf(t, server, postgres.Database).Exec(`CREATE DATABASE bare OWNER nabu_owner`); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		args []string
		code int
		says []string
	}{
		"nobody there":       {[]string{"serve", "--database-url", nobody}, exitFailure, []string{"database_url: ", "nothing listens at 127.0.0.1:1"}},
		"no way around":      {[]string{"serve", "--database-url", app, "--direct-database-url", nobody}, exitFailure, []string{"direct_database_url: ", "127.0.0.1:1"}},
		"nobody to look at":  {[]string{"events", "--database-url", nobody, "--direct-database-url", owner}, exitFailure, []string{"database_url: ", "127.0.0.1:1"}},
		"nobody to ask":      {[]string{"migrate", "status", "--database-url", app, "--direct-database-url", nobody}, exitFailure, []string{"direct_database_url: ", "127.0.0.1:1"}},
		"no such database":   {[]string{"serve", "--database-url", server.URL(postgres.App, "nothing")}, exitMisconfigured, []string{"database_url: ", `no database "nothing"`, "CREATE DATABASE"}},
		"no such role":       {[]string{"events", "--database-url", server.URL("stranger", postgres.Database)}, exitMisconfigured, []string{"database_url: ", `does not let role "stranger" in`}},
		"no owner":           {[]string{"serve", "--database-url", server.URL(postgres.App, "bare")}, exitMisconfigured, []string{"set direct_database_url", "nabu_owner"}},
		"a misspelt setting": {[]string{"events", "--database-url", "postgres://nabu_app@127.0.0.1:1/nabu?sslmod=disable"}, exitMisconfigured, []string{"database_url", "unknown setting sslmod;"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			args := test.args
			if args[0] == "serve" {
				args = append(args, "--listen", "127.0.0.1:0")
			}
			err := run(context.Background(), args, cleanEnviron(), &bytes.Buffer{})
			if err == nil || exitCode(err) != test.code {
				t.Fatalf("code %d, not %d: %v", exitCode(err), test.code, err)
			}
			for _, words := range test.says {
				if !strings.Contains(err.Error(), words) {
					t.Errorf("%q is not in: %v", words, err)
				}
			}
		})
	}
}
