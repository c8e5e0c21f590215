package postgres

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// settings are what a connection string says, whichever of the two forms it has.
type settings map[string]string

// shown are the settings that a log may name, with their values. What is not
// listed may be a password, or half of one that was written without escaping.
var shown = []string{
	"host", "hostaddr", "port", "user", "dbname",
	"application_name", "connect_timeout", "load_balance_hosts", "passfile", "service",
	"sslmode", "sslnegotiation", "sslrootcert", "target_session_attrs",
}

// otherScheme is how URLs begin that are not PostgreSQL's, such as those of SQLAlchemy.
var otherScheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`)

// nameLetters are what a setting's name may consist of.
const nameLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_."

// Redact is the connection string as a log may show it: key=value, without any
// password, and with no word that could be a part of one.
func Redact(url string) string {
	s, err := parse(url)
	if err != nil {
		return "(an unreadable connection string)"
	}
	if s["sslinline"] != "" {
		delete(s, "sslrootcert") // the certificate itself, not a path
	}
	var words []string
	for _, key := range shown {
		if value, given := s[key]; given {
			words = append(words, key+"="+quote(value))
			delete(s, key)
		}
	}
	if len(s) > 0 {
		words = append(words, "…")
	}
	return strings.Join(words, " ")
}

// With is the connection string with some settings replaced, as key=value. It is
// for reaching another database of the same server, or as another role.
func With(url string, changes map[string]string) (string, error) {
	s, err := parse(url)
	if err != nil {
		return "", err
	}
	maps.Copy(s, changes)
	return s.String(), nil
}

// WithDefault is the connection string with a setting that holds unless it has one already.
func WithDefault(url, key, value string) (string, error) {
	s, err := parse(url)
	if err != nil {
		return "", err
	}
	if _, given := s[key]; !given {
		s[key] = value
	}
	return s.String(), nil
}

// Address is where the first host of a connection string listens, as net.Dial takes it.
func Address(url string) (network, address string, err error) {
	s, err := parse(url)
	if err != nil {
		return "", "", err
	}
	host, _, _ := strings.Cut(s["host"], ",")
	port, _, _ := strings.Cut(s["port"], ",")
	if port == "" {
		port = defaultPort
	}
	switch {
	case host == "":
		return "", "", errors.New("the connection string names no host")
	case isSocket(host):
		return "unix", filepath.Join(host, ".s.PGSQL."+port), nil
	}
	return "tcp", net.JoinHostPort(host, port), nil
}

// String is the key=value form, in the order of the keys.
func (s settings) String() string {
	words := make([]string, 0, len(s))
	for _, key := range slices.Sorted(maps.Keys(s)) {
		words = append(words, key+"="+quote(s[key]))
	}
	return strings.Join(words, " ")
}

// parse reads both forms of a connection string. Its errors never quote the string:
// where it is wrong, a password may be anywhere.
func parse(text string) (settings, error) {
	s, err := parseEither(text)
	if err != nil {
		return nil, err
	}
	for key, value := range s {
		if key == "" || strings.Trim(key, nameLetters) != "" {
			return nil, errors.New("the connection string has a setting with a name that none can have")
		}
		if !utf8.ValidString(value) || strings.Contains(value, "\x00") {
			return nil, errors.New("the connection string has bytes that are no text")
		}
	}
	return s, nil
}

func parseEither(text string) (settings, error) {
	switch {
	case strings.TrimSpace(text) == "":
		return nil, errors.New("the connection string is empty")
	case strings.HasPrefix(text, "postgres://"), strings.HasPrefix(text, "postgresql://"):
		return parseURL(text)
	case otherScheme.MatchString(text): // is not quoted: it may be a part of a password
		return nil, errors.New("the connection string begins like a URL of something else; it must begin with postgres:// (or postgresql://)")
	case strings.Contains(text, "="):
		return parsePairs(text)
	}
	return nil, errors.New("the connection string is neither postgres://… nor key=value")
}

// parseURL reads libpq's URLs, which are wider than those of net/url: several
// hosts with a port each, and a socket folder in the place of the host.
func parseURL(text string) (settings, error) {
	_, rest, _ := strings.Cut(text, "://")
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, rest := rest[:end], rest[end:]
	if strings.ContainsAny(rest, "@#") {
		return nil, errors.New("the database URL has a @ or # behind the host; in a user name or password write / as %2F, ? as %3F, # as %23, @ as %40")
	}
	path, query, _ := strings.Cut(rest, "?")
	s := settings{}
	for _, read := range []func() error{
		func() error { return s.readQuery(query) },
		func() error { return s.readAuthority(authority) },
		func() error { return s.readPart("dbname", strings.TrimPrefix(path, "/")) },
	} {
		if err := read(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s settings) readAuthority(authority string) error {
	hosts := authority
	if at := strings.LastIndex(authority, "@"); at >= 0 {
		hosts = authority[at+1:]
		user, password, _ := strings.Cut(authority[:at], ":")
		if err := errors.Join(s.readPart("user", user), s.readPart("password", password)); err != nil {
			return err
		}
	}
	if hosts == "" {
		return nil
	}
	var names, ports []string
	for part := range strings.SplitSeq(hosts, ",") {
		name, port, err := splitHost(part)
		if err != nil {
			return err
		}
		names, ports = append(names, name), append(ports, port)
	}
	if err := s.readPart("host", strings.Join(names, ",")); err != nil {
		return err
	}
	if list := strings.Join(ports, ","); strings.Trim(list, ",") != "" {
		s["port"] = list
	}
	return nil
}

// splitHost parts a host from its port, which may be missing.
func splitHost(part string) (name, port string, err error) {
	switch {
	case strings.HasSuffix(part, "]"):
		name = strings.TrimSuffix(strings.TrimPrefix(part, "["), "]")
	case !strings.Contains(part, ":"):
		name = part
	default:
		name, port, err = net.SplitHostPort(part)
	}
	if err != nil || strings.Trim(port, "0123456789") != "" {
		return "", "", errors.New("the database URL has something else than a number as port")
	}
	return name, port, nil
}

// readPart takes over one percent-encoded part of a URL, unless it is empty.
func (s settings) readPart(key, text string) error {
	value, err := url.PathUnescape(text)
	if err != nil {
		return fmt.Errorf("the database URL has a %% that is no escape in its %s; write it as %%25", key)
	}
	if value != "" {
		s[key] = value
	}
	return nil
}

func (s settings) readQuery(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("the database URL has settings behind the ? that cannot be read")
	}
	for key := range values {
		s[key] = values.Get(key)
	}
	return nil
}

// parsePairs reads words like host=db1 and password='two words', where a backslash
// keeps the character behind it as it is.
func parsePairs(text string) (settings, error) {
	s := settings{}
	rest := strings.TrimSpace(text)
	for rest != "" {
		key, after, found := strings.Cut(rest, "=")
		key = strings.TrimSpace(key)
		if !found || key == "" || strings.ContainsFunc(key, unicode.IsSpace) {
			return nil, errors.New("the connection string has a word without =; a value with a space stands in single quotes")
		}
		value, after, err := cutValue(strings.TrimLeftFunc(after, unicode.IsSpace))
		if err != nil {
			return nil, err
		}
		s[key] = value
		rest = strings.TrimSpace(after)
	}
	return s, nil
}

// cutValue takes the first value off a text.
func cutValue(text string) (value, rest string, err error) {
	var b strings.Builder
	quoted := strings.HasPrefix(text, "'")
	text = strings.TrimPrefix(text, "'")
	escaped := false
	for i, r := range text {
		switch {
		case escaped:
			b.WriteRune(r)
			escaped = false
		case r == '\\':
			escaped = true
		case quoted && r == '\'':
			return b.String(), text[i+1:], nil
		case !quoted && unicode.IsSpace(r):
			return b.String(), text[i:], nil
		default:
			b.WriteRune(r)
		}
	}
	if quoted || escaped {
		return "", "", errors.New("the connection string ends inside a quoted or escaped value")
	}
	return b.String(), "", nil
}

// quote writes a value so that parsePairs, lib/pq and libpq read it back.
func quote(value string) string {
	if value != "" && !strings.ContainsFunc(value, func(r rune) bool {
		return unicode.IsSpace(r) || r == '\'' || r == '\\'
	}) {
		return value
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}
