package postgres

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/lib/pq"
)

func TestParse(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text string
		want settings
	}{
		"a URL":              {"postgres://ann:secret@db1:5433/nabu?sslmode=require", settings{"user": "ann", "password": "secret", "host": "db1", "port": "5433", "dbname": "nabu", "sslmode": "require"}},
		"the other scheme":   {"postgresql://db1/nabu", settings{"host": "db1", "dbname": "nabu"}},
		"hosts with ports":   {"postgres://db1:5433,db2,[::1]:5434/nabu", settings{"host": "db1,db2,::1", "port": "5433,,5434", "dbname": "nabu"}},
		"ports behind":       {"postgres://db1,db2/nabu?port=5433,5434", settings{"host": "db1,db2", "port": "5433,5434", "dbname": "nabu"}},
		"an address alone":   {"postgres://[fe80::1]", settings{"host": "fe80::1"}},
		"a socket as host":   {"postgres://%2Frun%2Fpg/nabu", settings{"host": "/run/pg", "dbname": "nabu"}},
		"a socket behind":    {"postgres:///nabu?host=/run/pg", settings{"host": "/run/pg", "dbname": "nabu"}},
		"escapes":            {"postgres://a%40b:p%2Fq%20+@db1/n%61bu", settings{"user": "a@b", "password": "p/q +", "host": "db1", "dbname": "nabu"}},
		"an @ in a password": {"postgres://ann:p@ss:word@db1", settings{"user": "ann", "password": "p@ss:word", "host": "db1"}},
		"pairs":              {"host=db1 port = 5433 password='two words' dbname=", settings{"host": "db1", "port": "5433", "password": "two words", "dbname": ""}},
		"escapes in pairs":   {`password='it\'s' user=a\ b`, settings{"password": "it's", "user": "a b"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parse(tt.text)
			check(t, err)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			again, err := parse(got.String())
			check(t, err)
			if diff := cmp.Diff(got, again); diff != "" {
				t.Errorf("as pairs: %s", diff)
			}
		})
	}
}

func TestAddress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"postgres://ann@db1/nabu":                      "tcp db1:5432",
		"postgres://db1:5433,db2/nabu":                 "tcp db1:5433",
		"host=::1 port=5434,5435":                      "tcp [::1]:5434",
		"postgres:///nabu?host=/run/pg&port=5433":      "unix /run/pg/.s.PGSQL.5433",
		"host=/run/pg dbname=nabu password='a secret'": "unix /run/pg/.s.PGSQL.5432",
	} {
		network, address, err := Address(text)
		check(t, err)
		if got := network + " " + address; got != want {
			t.Errorf("%q leads to %s, not to %s", text, got, want)
		}
	}
	if _, _, err := Address("dbname=nabu"); err == nil {
		t.Error("a connection string without a host has an address")
	}
}

func TestUnreadableConnectionStringsAreRefusedWithoutTheirPassword(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ text, says string }{
		"nothing":                     {" ", "empty"},
		"another scheme":              {"mysql://ann:SECRET@db1/nabu", "must begin with postgres://"},
		"a scheme of SQLAlchemy":      {"mysql+pymysql://ann:SECRET@db1/nabu?charset=utf8", "must begin with postgres://"},
		"its scheme for PostgreSQL":   {"postgresql+psycopg2://ann:SECRET@db1/nabu", "must begin with postgres:// (or postgresql://)"},
		"a word":                      {"SECRET", "neither"},
		"a port that is none":         {"postgres://db1:SECRET/nabu", "port"},
		"a slash in a password":       {"postgres://ann:SEC/RET@db1/nabu", "%2F"},
		"a question in a password":    {"postgres://ann:SEC?RET@db1/nabu", "%3F"},
		"a hash in a password":        {"postgres://ann:SEC#RET@db1/nabu", "%23"},
		"a percent in a password":     {"postgres://ann:SECRET%zz@db1/nabu", "%25"},
		"a space in a password":       {"host=db1 password=half SECRET", "single quotes"},
		"an open quote":               {"host=db1 password='SECRET", "quoted"},
		"settings that are none":      {"postgres://db1/nabu?SECRET=%zz", "settings"},
		"an sslmode that is none":     {"postgres://ann:SECRET@db1/nabu?sslmode=maybe", "sslmode"},
		"a password in a wrong place": {"host=db1 password=SECRET sslmode=SECRET", "not allowed"},
		"a socket among hosts":        {"host=db1,/run/pg password=SECRET", "not both"},
		"bytes that are no text":      {"postgres://ann:SECRET%ff@db1", "no text"},
		"a name that is none":         {"host=db1 SEC@RET=", "name"},
		"more ports than hosts":       {"host=db1,db2,db3 port=1,2 password=SECRET", "port numbers"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Open(tt.text, 1)
			contains(t, err, "database URL", tt.says)
			if strings.Contains(err.Error(), "SEC") || strings.Contains(err.Error(), "RET") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ text, want string }{
		"a URL":              {"postgres://ann:SECRET@db1:5433/nabu?sslmode=verify-full", "host=db1 port=5433 user=ann dbname=nabu sslmode=verify-full …"},
		"without a password": {"postgres://ann@db1/nabu", "host=db1 user=ann dbname=nabu"},
		"several hosts":      {"postgres://ann:SECRET@db1,db2:5433/nabu?target_session_attrs=read-write", "host=db1,db2 port=,5433 user=ann dbname=nabu target_session_attrs=read-write …"},
		"pairs":              {"user=ann password='SEC RET' host=db1", "host=db1 user=ann …"},
		"a misspelt key":     {"user=ann pasword=SECRET", "user=ann …"},
		"a password behind":  {"postgres://db1/nabu?password=SECRET", "host=db1 dbname=nabu …"},
		"a key as text":      {"host=db1 sslinline=true sslkey='SECRET' sslrootcert='SECRET'", "host=db1 …"},
		"not readable":       {"postgres://ann:SEC/RET@db1", "(an unreadable connection string)"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Redact(tt.text); got != tt.want {
				t.Errorf("got %s", got)
			}
		})
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("", "", "db1")
	f.Add("/", "@", "db1,db2:5432")
	f.Add("12?password=", "#", "[::1]")
	f.Add("'", "\\", "%2Frun")
	f.Add(":", " host=", "")
	f.Fuzz(func(t *testing.T, before, after, host string) {
		password := before + "SECRET" + after
		if strings.Contains(strings.ToUpper(host), "SECRET") {
			t.Skip()
		}
		for _, text := range []string{
			"postgres://ann:" + password + "@" + host + "/nabu",
			"postgres://ann:" + url.QueryEscape(password) + "@" + host + "/nabu",
			"postgres://" + host + "/nabu?user=ann&password=" + url.QueryEscape(password),
			"host=" + quote(host) + " password=" + quote(password),
		} {
			if got := Redact(text); strings.Contains(got, "SECRET") {
				t.Errorf("%s becomes %s", text, got)
			}
			if _, err := configure(text); err != nil && strings.Contains(err.Error(), "SECRET") {
				t.Errorf("%s is refused with %v", text, err)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"postgres://a:b@c:1,d/e?f=g", "host=a port='b c' d=\\e", "postgres://%2Frun", "a = b c=''", "host=\xb6"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		once, err := parse(text)
		if err != nil || len(once) == 0 {
			return
		}
		again, err := parse(once.String())
		if err != nil {
			t.Fatalf("%q is written as %q: %v", text, once, err)
		}
		if diff := cmp.Diff(once, again); diff != "" {
			t.Error(diff)
		}
	})
}

func TestOpenLeavesNothingToDefaults(t *testing.T) {
	t.Parallel()
	type chosen struct {
		sslmode pq.SSLMode
		name    string
		timeout time.Duration
		binary  bool
	}
	tests := map[string]struct {
		text string
		want chosen
	}{
		"the network":           {"postgres://db1/nabu", chosen{pq.SSLModeRequire, "nabu", 10 * time.Second, true}},
		"a socket":              {"host=/run/pg", chosen{pq.SSLModeDisable, "nabu", 10 * time.Second, true}},
		"the operator's choice": {"postgres://db1/nabu?sslmode=verify-full", chosen{pq.SSLModeVerifyFull, "nabu", 10 * time.Second, true}},
		"the system's roots":    {"postgres://db1/nabu?sslrootcert=system", chosen{pq.SSLModeVerifyFull, "nabu", 10 * time.Second, true}},
		"a name and a limit": {
			"postgres://db1/nabu?application_name=mine&connect_timeout=3&binary_parameters=no",
			chosen{pq.SSLModeRequire, "mine", 3 * time.Second, true},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg, err := configure(tt.text)
			check(t, err)
			got := chosen{cfg.SSLMode, cfg.ApplicationName, cfg.ConnectTimeout, cfg.BinaryParameters}
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestWithChangesSettings(t *testing.T) {
	t.Parallel()
	got, err := With("postgres://ann:secret@db1/nabu?sslmode=require", map[string]string{"user": App, "password": "it's", "dbname": "other"})
	check(t, err)
	if want := `dbname=other host=db1 password='it\'s' sslmode=require user=nabu_app`; got != want {
		t.Errorf("got %s", got)
	}
}

func TestTLSAndSeveralHosts(t *testing.T) {
	t.Parallel()
	dir := newDataDir(t)
	files := filepath.Dir(dir)
	makeCertificates(t, files)
	port := freePort(t)
	hba := "local all all peer map=nabu\nhostssl all all 127.0.0.1/32 trust\n"
	check(t, os.WriteFile(filepath.Join(files, "hba.conf"), []byte(hba), 0o644))
	cfg := config(dir)
	for setting, value := range map[string]string{
		"listen_addresses": "127.0.0.1",
		"port":             port,
		"ssl":              "on",
		"ssl_cert_file":    filepath.Join(files, "server.crt"),
		"ssl_key_file":     filepath.Join(files, "server.key"),
		"hba_file":         filepath.Join(files, "hba.conf"),
	} {
		cfg.Settings[setting] = value
	}
	start(t, cfg)
	root := filepath.Join(files, "root.crt")
	dead := freePort(t)
	accepted := map[string]string{
		"any certificate":             "postgres://nabu_app@127.0.0.1:%s/nabu",
		"the certificate's authority": "postgres://nabu_app@127.0.0.1:%s/nabu?sslmode=verify-ca&sslrootcert=" + root,
		"the certificate's name":      "postgres://nabu_app@127.0.0.1:%s/nabu?sslmode=verify-full&sslrootcert=" + root,
		"pairs":                       "host=127.0.0.1 port=%s user=nabu_app dbname=nabu sslmode=verify-full sslrootcert=" + root,
		"a dead host first":           "postgres://nabu_app@127.0.0.1:" + dead + ",127.0.0.1:%s/nabu?target_session_attrs=read-write&sslmode=verify-full&sslrootcert=" + root,
		"hosts in any order":          "postgres://nabu_app@127.0.0.1:" + dead + ",127.0.0.1:%s/nabu?load_balance_hosts=random",
	}
	for name, text := range accepted {
		t.Run(name, func(t *testing.T) {
			db := connect(t, fmt.Sprintf(text, port))
			if got := query(t, db, `SELECT ssl || ' ' || application_name FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE pid = pg_backend_pid()`); got != "true nabu" {
				t.Errorf("the connection is %s", got)
			}
		})
	}
	refused := map[string]struct{ text, says string }{
		"an unknown authority": {"postgres://nabu_app@127.0.0.1:%s/nabu?sslmode=verify-full", "certificate"},
		"another name":         {"postgres://nabu_app@localhost:%s/nabu?hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert=" + root, "localhost"},
		"no TLS":               {"postgres://nabu_app@127.0.0.1:%s/nabu?sslmode=disable", "no encryption"},
		"no standby":           {"postgres://nabu_app@127.0.0.1:" + dead + ",127.0.0.1:%s/nabu?target_session_attrs=standby", "standby"},
	}
	for name, tt := range refused {
		t.Run(name, func(t *testing.T) {
			contains(t, connect(t, fmt.Sprintf(tt.text, port)).PingContext(context.Background()), tt.says)
		})
	}
}

// freePort is a port that nobody listened on a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer func() { _ = l.Close() }()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// makeCertificates writes an authority and a certificate of its for 127.0.0.1.
func makeCertificates(t *testing.T, dir string) {
	t.Helper()
	authority := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "authority"},
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	authorityKey := newKey(t)
	signed, err := x509.CreateCertificate(rand.Reader, authority, authority, &authorityKey.PublicKey, authorityKey)
	check(t, err)
	writePEM(t, filepath.Join(dir, "root.crt"), "CERTIFICATE", signed)

	server := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: "server"},
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	serverKey := newKey(t)
	signed, err = x509.CreateCertificate(rand.Reader, server, authority, &serverKey.PublicKey, authorityKey)
	check(t, err)
	writePEM(t, filepath.Join(dir, "server.crt"), "CERTIFICATE", signed)
	key, err := x509.MarshalPKCS8PrivateKey(serverKey)
	check(t, err)
	path := filepath.Join(dir, "server.key")
	writePEM(t, path, "PRIVATE KEY", key)
	check(t, os.Chmod(path, 0o600)) // PostgreSQL refuses a key that others can read
	a, err := serverAccount(filepath.Join(dir, "nothing"))
	check(t, err)
	check(t, a.own(path))
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return key
}

func writePEM(t *testing.T, path, kind string, bytes []byte) {
	t.Helper()
	check(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), 0o644))
}

// TestAWriterDoesNotWaitForever: a server that is silent for too long counts as lost,
// although the context of the statement never ends; one that answers in time does not.
func TestAWriterDoesNotWaitForever(t *testing.T) {
	s := sharedServer(t)
	db, err := OpenWriter(s.URL(Admin, "postgres"), 300*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for range 3 { // each answer has a time of its own
		if _, err := db.Exec(`SELECT pg_sleep($1)`, 0.15); err != nil {
			t.Fatalf("an answer in time: %v", err)
		}
	}
	if _, err := db.Exec(`SELECT pg_sleep($1)`, 60); !IsConnectionLost(err) {
		t.Fatalf("a silent server: %v", err)
	}
	if _, err := db.Exec(`SELECT $1::int`, 1); err != nil {
		t.Fatalf("afterwards: %v", err)
	}
}
