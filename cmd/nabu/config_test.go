package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// load reads settings as a command does.
func load(t *testing.T, args []string, environ environment, file string) (config, sources, error) {
	t.Helper()
	if file != "" {
		path := filepath.Join(t.TempDir(), "nabu.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	c := &cobra.Command{}
	addSettings(c)
	if err := c.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return loadConfig(c.Flags(), append(environ, "HOME=/home/ann"))
}

func TestEachLayerCountsMoreThanTheOneBelow(t *testing.T) {
	tests := map[string]struct {
		args    []string
		environ environment
		file    string
		listen  string
		source  string
	}{
		"the default":                      {nil, nil, "", "127.0.0.1:8888", "default"},
		"the file over the default":        {nil, nil, "listen: 127.0.0.1:1", "127.0.0.1:1", "file "},
		"the environment over the file":    {nil, environment{"NABU_LISTEN=127.0.0.1:2"}, "listen: 127.0.0.1:1", "127.0.0.1:2", "environment NABU_LISTEN"},
		"a flag over the environment":      {[]string{"--listen", "127.0.0.1:3"}, environment{"NABU_LISTEN=127.0.0.1:2"}, "", "127.0.0.1:3", "flag --listen"},
		"a flag over the file":             {[]string{"--listen=127.0.0.1:3"}, nil, "listen: 127.0.0.1:1", "127.0.0.1:3", "flag --listen"},
		"an empty variable is not set":     {nil, environment{"NABU_LISTEN="}, "listen: 127.0.0.1:1", "127.0.0.1:1", "file "},
		"the last of two variables counts": {nil, environment{"NABU_LISTEN=127.0.0.1:2", "NABU_LISTEN=127.0.0.1:4"}, "", "127.0.0.1:4", "environment NABU_LISTEN"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			cfg, from, err := load(t, test.args, test.environ, test.file)
			if err != nil {
				t.Fatal(err)
			}
			if cfg.Listen != test.listen || !strings.HasPrefix(from["listen"], test.source) {
				t.Errorf("listen is %s from %s, not %s from %s", cfg.Listen, from["listen"], test.listen, test.source)
			}
		})
	}
}

func TestEveryKindOfValueIsRead(t *testing.T) {
	cfg, _, err := load(t,
		[]string{"--insecure-noauth", "--shutdown-timeout", "1m30s"},
		environment{"NABU_MAX_CONNECTIONS=9", "NABU_LOG_REQUESTS=true", "NABU_ENV=production"},
		"max_message_ttl: 600\ndefault_message_ttl: 300\nclient_id_uuid_safe: off\n")
	if err != nil {
		t.Fatal(err)
	}
	if !cfg.InsecureNoAuth || cfg.ShutdownTimeout != 90*time.Second || cfg.MaxConnections != 9 || !cfg.LogRequests ||
		cfg.Env != production || cfg.Limits.MaxMessageTTL != 600 || cfg.Limits.DefaultMessageTTL != 300 || cfg.ClientIDUUIDSafe != "off" {
		t.Errorf("read %+v", cfg)
	}
}

// TestDefaultsFollowTheirMaxima: one setting is enough to lower a maximum.
func TestDefaultsFollowTheirMaxima(t *testing.T) {
	cfg, from, err := load(t, []string{"--max-message-ttl", "600", "--max-claim-ttl", "120"}, nil, "max_claim_grace: 60\nmax_message_delay: 5\n")
	if err != nil {
		t.Fatal(err)
	}
	l := cfg.Limits
	if l.DefaultMessageTTL != 600 || l.DefaultClaimTTL != 120 || l.DefaultClaimGrace != 60 || l.DefaultMessageDelay != 0 || cfg.Computes.EventTTL != 600 {
		t.Errorf("read %+v, event_ttl %d", l, cfg.Computes.EventTTL)
	}
	if from["default_message_ttl"] != "default, as max_message_ttl" || from["default_claim_grace"] != "default" {
		t.Errorf("the values come from %s and %s", from["default_message_ttl"], from["default_claim_grace"])
	}
	for most, below := range map[string]string{
		"max_message_ttl": "default_message_ttl", "max_message_delay": "default_message_delay", "max_claim_ttl": "default_claim_ttl",
		"max_claim_grace": "default_claim_grace",
	} {
		if _, _, err := load(t, nil, environment{"NABU_" + strings.ToUpper(most) + "=60"}, below+": 61\n"); err == nil || !strings.Contains(err.Error(), below) {
			t.Errorf("%s above %s: error %v", below, most, err)
		}
	}
	if _, _, err := load(t, []string{"--max-message-ttl", "59"}, nil, ""); err == nil || !strings.Contains(err.Error(), "max_message_ttl (flag --max-message-ttl) must") {
		t.Errorf("a maximum that is too low: error %v", err)
	}
}

func TestTheDirectWayIsTheOnlyOneUnlessNamed(t *testing.T) {
	cfg, _, err := load(t, []string{"--database-url", "postgres://pool/nabu"}, nil, "")
	if err != nil || cfg.DirectDatabaseURL != "postgres://pool/nabu" {
		t.Errorf("the direct URL is %q, error %v", cfg.DirectDatabaseURL, err)
	}
	cfg, _, err = load(t, []string{"--database-url", "postgres://pool/nabu", "--direct-database-url", "postgres://db/nabu"}, nil, "")
	if err != nil || cfg.DirectDatabaseURL != "postgres://db/nabu" {
		t.Errorf("the direct URL is %q, error %v", cfg.DirectDatabaseURL, err)
	}
}

func TestTheSigningKeyMayBeInAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(" sample key\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, from, err := load(t, []string{"--signed-url-secret-key-file", path}, nil, "")
	if err != nil || cfg.SignedURLSecretKey != " sample key" {
		t.Errorf("the key is %q, error %v", cfg.SignedURLSecretKey, err)
	}
	var out strings.Builder
	if err := showConfig(&out, asTable, cfg, from, true); err != nil || strings.Contains(out.String(), "sample key") {
		t.Errorf("shown as %s, error %v", out.String(), err)
	}
}

func TestBadSettingsAreNamed(t *testing.T) {
	tests := map[string]struct{ flag, variable, file, says string }{
		"an unknown key in the file":              {"", "", "lisen: 127.0.0.1:1", "nabu.yaml: unknown setting lisen; did you mean listen?"},
		"an unknown variable":                     {"", "NABU_MAX_MESAGE_TTL=1", "", "unknown setting NABU_MAX_MESAGE_TTL; did you mean NABU_MAX_MESSAGE_TTL?"},
		"a key like no other":                     {"", "", "colour: red", "unknown setting colour"},
		"the second unknown key":                  {"", "NABU_LISTN=1", "evn: production", "evn; did you mean env?"},
		"a word for a number":                     {"", "", "max_connections: many", `nabu.yaml) must be a whole number, not "many"`},
		"a fraction for a number":                 {"", "", "max_connections: 1.5", `must be a whole number, not "1.5"`},
		"a number out of bounds":                  {"", "NABU_MAX_CONNECTIONS=1", "", "max_connections (environment NABU_MAX_CONNECTIONS) must be between 9 and 1000, not 1"},
		"a number for a switch":                   {"", "", "log_requests: 7", `must be true or false, not "7"`},
		"a duration without a unit":               {"--shutdown-timeout=30", "", "", "shutdown_timeout (flag --shutdown-timeout) must be a duration such as 30s or 5m"},
		"no time at all":                          {"--shutdown-timeout=0s", "", "", "must be longer than nothing"},
		"an address without a port":               {"--listen=localhost", "", "", "listen (flag --listen) must be an address and a port"},
		"an empty address":                        {"--listen=", "", "", "listen (flag --listen) must be an address and a port"},
		"a port that is none":                     {"--listen=localhost:http", "", "", "must have a port between 0 and 65535"},
		"a choice that is none":                   {"", "NABU_AUTH_STRATEGY=keystone", "", `must be noauth, not "keystone"`},
		"a type of subscribers that needs trusts": {"", "", "subscriber_types: http,trust+http", `must be one or several of http, https, mailto, with commas between, not "http,trust+http"`},
		"a short life of subscriptions":           {"--default-subscription-ttl=59", "", "", "default_subscription_ttl (flag --default-subscription-ttl) must be between 60"},
		"a list":                                  {"", "", "listen: [127.0.0.1:1]", "must be a text, not a list or a group"},
		"nothing":                                 {"", "", "listen:", "nabu.yaml) has no value"},
		"a limit under a constant":                {"", "NABU_MAX_MESSAGE_TTL=59", "", "max_message_ttl (environment NABU_MAX_MESSAGE_TTL) must be between 60"},
		"a default above its limit":               {"", "NABU_MAX_MESSAGE_TTL=100", "default_message_ttl: 200", "nabu.yaml) must be between 60 and 100 (max_message_ttl), not 200"},
		"a direct URL alone":                      {"--direct-database-url=postgres://db/nabu", "", "", "direct_database_url (flag --direct-database-url) is of no use without database_url"},
		"a key twice":                             {"--signed-url-secret-key=k", "NABU_SIGNED_URL_SECRET_KEY_FILE=/nowhere", "", "only one of the two"},
		"a key file that is not there":            {"", "NABU_SIGNED_URL_SECRET_KEY_FILE=/nowhere", "", "signed_url_secret_key_file (environment NABU_SIGNED_URL_SECRET_KEY_FILE): open /nowhere"},
		"an empty key file":                       {"", "NABU_SIGNED_URL_SECRET_KEY_FILE=/dev/null", "", "/dev/null is empty"},
		"no life":                                 {"--max-signed-url-life=-1", "", "", "max_signed_url_life (flag --max-signed-url-life) must be between 0"},
		"a URL that is none":                      {"--database-url=mysql", "", "", "database_url (flag --database-url) cannot be read"},
		"a file that is not there":                {"", "NABU_CONFIG=/nowhere/nabu.yaml", "", "/nowhere/nabu.yaml"},
		"the same key twice":                      {"", "", "env: production\nenv: production", "already defined"},
		"a file as oslo.config has it":            {"", "", "[DEFAULT]\nlisten = 1", "without [sections]"},
		"a file beside that is not there":         {"", "", "encryption_keys_file: keys", "/keys: no such file"},
		"no YAML":                                 {"", "", "listen = 1", "nabu.yaml is not YAML; a setting is a line such as"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var args []string
			if test.flag != "" {
				args = []string{test.flag}
			}
			_, _, err := load(t, args, environment{test.variable}, test.file)
			if err == nil {
				t.Fatal("was taken")
			}
			if exitCode(err) != exitMisconfigured {
				t.Errorf("exit code %d", exitCode(err))
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("%q does not say %q", err, test.says)
			}
		})
	}
}

func TestKubernetesVariablesAreNoSettings(t *testing.T) {
	_, _, err := load(t, nil, environment{
		"NABU_SERVICE_HOST=10.0.0.1", "NABU_SERVICE_PORT=8888", "NABU_SERVICE_PORT_HTTP=8888",
		"NABU_PORT=tcp://10.0.0.1:8888", "NABU_PORT_8888_TCP=tcp://10.0.0.1:8888", "NABU_PORT_8888_TCP_ADDR=10.0.0.1",
		"NABU_POSTGRES_SERVICE_HOST=10.0.0.2", "NABU_POSTGRES_PORT=tcp://10.0.0.2:5432",
	}, "")
	if err != nil {
		t.Error(err)
	}
	if _, _, err := load(t, nil, environment{"NABU_PORT=8888"}, ""); err == nil {
		t.Error("a port that no cluster writes like that was taken for one")
	}
}

func TestTheFileMayBeNamedByTheEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "some.yaml")
	if err := os.WriteFile(path, []byte("log_level: debug"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, from, err := load(t, nil, environment{"NABU_CONFIG=" + path}, "")
	if err != nil || cfg.LogLevel != "debug" || from["log_level"] != "file "+path {
		t.Errorf("log_level is %s from %s, error %v", cfg.LogLevel, from["log_level"], err)
	}
}

func TestLevenshtein(t *testing.T) {
	for _, test := range []struct {
		a, b     string
		distance int
	}{{"", "", 0}, {"listen", "listen", 0}, {"lisen", "listen", 1}, {"listen", "", 6}, {"kitten", "sitting", 3}, {"env", "evn", 2}} {
		if got := levenshtein(test.a, test.b); got != test.distance {
			t.Errorf("from %q to %q: %d, not %d", test.a, test.b, got, test.distance)
		}
	}
}

// TestTheDocumentListsTheSettings compares the table in docs/operating.md with the
// settings: a line for each, in their order, and no other.
func TestTheDocumentListsTheSettings(t *testing.T) {
	text, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "| setting | default | meaning |\n| --- | --- | --- |\n")
	if !found {
		t.Fatal("docs/operating.md has no table of the settings")
	}
	table, _, _ := strings.Cut(after, "\n\n")
	var want strings.Builder
	for _, s := range settings {
		fallback := s.fallback
		if fallback != "" {
			fallback = "`" + fallback + "`"
		}
		want.WriteString("| `" + s.key + "` | " + fallback + " | " + s.help + " |\n")
	}
	if strings.TrimSpace(table) != strings.TrimSpace(want.String()) {
		t.Errorf("the table in docs/operating.md has to be\n%s", want.String())
	}
}
