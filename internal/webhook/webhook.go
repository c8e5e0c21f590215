// Package webhook calls the addresses that subscribers gave: one POST, with bounds on
// everything that the other side may do. It must never call an address that the operator
// has not opened and that is not public.
package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"nabu/internal/outbound"
)

// ErrRefused: nabu does not call this address, whatever answers there.
var ErrRefused = outbound.ErrRefused

// Bounds of one call.
const (
	// DefaultTimeout is how long a call may take, from the name's lookup to the answer's end.
	DefaultTimeout = 10 * time.Second
	maxResponse    = 64 << 10 // bytes of a body that are read, and of an answer's head
	maxRedirects   = 3
	maxErrorText   = 200 // characters
)

// Config is what a sender is made of.
type Config struct {
	// Allow are networks that may be called at any port, whatever they are. Elsewhere
	// addresses must be public and have one of Ports (none: 80 and 443).
	Allow []netip.Prefix
	Ports []uint16
	// AllowLoopback opens this machine's own addresses, but for those in Listens.
	AllowLoopback bool
	// Listens are nabu's own addresses, which are never called.
	Listens []netip.AddrPort
	// Timeout of a call; 0: DefaultTimeout.
	Timeout time.Duration
	// Resolver finds the addresses of names; nil: the machine's.
	Resolver *net.Resolver
	// PerHost is how many idle connections are kept to one host; 0: 2.
	PerHost int
}

// Outcome is what a call has led to.
type Outcome string

// The outcomes.
const (
	Delivered Outcome = "delivered"
	Retry     Outcome = "retry"   // no answer in time, or one that says: not now
	Dropped   Outcome = "dropped" // refused by the subscriber, or an address that is not called
)

// Result is how a call went.
type Result struct {
	Outcome Outcome
	Status  int    // of the answer; 0: there was none
	Error   string // why there was none, or why it does not count; empty otherwise
	// RetryAfter is how long the subscriber asks to be left alone; 0: it does not.
	RetryAfter time.Duration
	// Unreachable: there was no connection. It says something of the host.
	Unreachable bool
	// Unanswered: there was a connection, and no answer that can be read. It says something
	// of this subscriber, and nothing of others on its host.
	Unanswered bool
}

// Call is a request to be made.
type Call struct {
	URL    string
	Body   []byte
	Header map[string]string // what net/http must decide by itself is left out
	// Fixed headers count more than those in Header.
	Fixed map[string]string
}

// Sender makes calls. It is safe for concurrent use.
type Sender struct {
	client  *http.Client
	timeout time.Duration
	guard   *outbound.Guard
	now     func() time.Time
}

// New makes a sender. Close gives its idle connections back.
func New(cfg Config) *Sender {
	g := outbound.NewGuard(outbound.GuardConfig{
		Allow: cfg.Allow, Ports: cfg.Ports, AllowLoopback: cfg.AllowLoopback, Listens: cfg.Listens,
	})
	timeout := cfg.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	dialer := &net.Dialer{Timeout: timeout, Control: g.Control, Resolver: cfg.Resolver}
	return &Sender{
		timeout: timeout, guard: g, now: time.Now,
		client: &http.Client{
			Transport: &http.Transport{
				Proxy:                  nil, // one from the environment would dial in our place, unguarded
				DialContext:            dialer.DialContext,
				DisableCompression:     true,
				MaxResponseHeaderBytes: maxResponse,
				MaxIdleConnsPerHost:    cfg.PerHost,
				MaxIdleConns:           500,
				IdleConnTimeout:        30 * time.Second,
				TLSHandshakeTimeout:    timeout,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Close gives idle connections back.
func (s *Sender) Close() { s.client.CloseIdleConnections() }

// Send makes one call. It ends within the timeout, whatever the other side does.
func (s *Sender) Send(ctx context.Context, c Call) Result {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	to, err := url.Parse(c.URL)
	if err != nil {
		return refused(fmt.Errorf("%w: the URL cannot be read", ErrRefused))
	}
	for range maxRedirects + 1 {
		result, next := s.post(ctx, to, c)
		if next == nil {
			return result
		}
		if !strings.EqualFold(next.Hostname(), to.Hostname()) || to.Scheme == "https" && next.Scheme != "https" {
			result.Outcome, result.Error = Dropped, "redirected to another host"
			return result
		}
		to = next
	}
	return Result{Outcome: Dropped, Error: fmt.Sprintf("redirected more than %d times", maxRedirects)}
}

// escapeQuery escapes what may not stand in a query as it is, and nothing that may: net/url does so with
// paths alone, and a space would end the address in the request's first line.
func escapeQuery(query string) string {
	var escaped strings.Builder
	for _, c := range []byte(query) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			fmt.Fprintf(&escaped, "%%%02X", c)
		} else {
			escaped.WriteByte(c)
		}
	}
	return escaped.String()
}

// post makes one request, and tells where it is sent on to, if it is. Go's own client
// would follow some redirects with a GET, which delivers nothing.
func (s *Sender) post(ctx context.Context, to *url.URL, c Call) (Result, *url.URL) {
	if to.Scheme != "http" && to.Scheme != "https" {
		return refused(fmt.Errorf("%w: scheme %q", ErrRefused, to.Scheme)), nil
	}
	if err := outbound.CheckHost(to.Hostname()); err != nil {
		return refused(err), nil
	}
	at := *to
	at.RawQuery = escapeQuery(to.RawQuery)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), strings.NewReader(string(c.Body)))
	if err != nil {
		return refused(fmt.Errorf("%w: the URL cannot be read", ErrRefused)), nil
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "nabu")
	setHeaders(req.Header, c.Header)
	setHeaders(req.Header, c.Fixed)
	connected := false
	req = req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected = true },
	}))
	answer, err := s.client.Do(req)
	if err != nil {
		return failed(err, connected), nil
	}
	defer func() { _ = answer.Body.Close() }()
	// What is read to its end leaves a connection that can be used again; what says more
	// than anybody wants to know is cut off.
	_, _ = io.CopyN(io.Discard, answer.Body, maxResponse)
	if target, again := redirect(answer, to); again {
		return Result{Status: answer.StatusCode}, target
	}
	return s.judge(answer), nil
}

// Headers that say how the request is sent, or where to.
var ours = map[string]bool{
	"Host": true, "Content-Length": true, "Transfer-Encoding": true, "Connection": true, "Trailer": true,
	"Te": true, "Upgrade": true, "Keep-Alive": true, "Proxy-Connection": true, "Expect": true,
}

func setHeaders(to http.Header, headers map[string]string) {
	for name, value := range headers {
		canonical := http.CanonicalHeaderKey(name)
		if !ours[canonical] && httpguts.ValidHeaderFieldName(name) && httpguts.ValidHeaderFieldValue(value) {
			to.Set(canonical, value)
		}
	}
}

// redirect is where an answer wants the same request to be sent. See Other (303) says that
// it was taken.
func redirect(answer *http.Response, from *url.URL) (*url.URL, bool) {
	switch answer.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, false
	}
	target, err := from.Parse(answer.Header.Get("Location"))
	return target, err == nil && answer.Header.Get("Location") != ""
}

// judge is what an answer means. As in Zaqar's documentation 4xx is final; 429 is the
// exception that tells when to come back.
func (s *Sender) judge(answer *http.Response) Result {
	result := Result{Status: answer.StatusCode}
	switch {
	case answer.StatusCode < 400:
		result.Outcome = Delivered
	case answer.StatusCode >= 500, answer.StatusCode == http.StatusTooManyRequests:
		result.Outcome = Retry
		result.RetryAfter = retryAfter(answer.Header.Get("Retry-After"), s.now())
	default:
		result.Outcome = Dropped
	}
	return result
}

// retryAfter reads the header in its two forms, seconds and date.
func retryAfter(text string, now time.Time) time.Duration {
	seconds, err := strconv.ParseInt(strings.TrimSpace(text), 10, 32)
	if err == nil || errors.Is(err, strconv.ErrRange) { // then it is the most there can be
		return max(0, time.Duration(seconds)*time.Second)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

func refused(err error) Result {
	return Result{Outcome: Dropped, Error: ErrorText(err)}
}

// failed is what it means that there was no answer, or not even a connection.
func failed(err error, connected bool) Result {
	if errors.Is(err, ErrRefused) {
		return refused(err)
	}
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		err = urlErr.Err // without the URL, which may hold a password
	}
	text := ErrorText(err)
	if errors.Is(err, context.DeadlineExceeded) {
		text = "no answer in time"
	}
	return Result{Outcome: Retry, Error: text, Unreachable: !connected, Unanswered: connected}
}

// ErrorText is an error as a history can keep it: printable, and not long.
func ErrorText(err error) string {
	text := strings.Map(func(char rune) rune {
		if char < ' ' || char == utf8.RuneError {
			return ' '
		}
		return char
	}, err.Error())
	if chars := []rune(text); len(chars) > maxErrorText {
		text = string(chars[:maxErrorText-1]) + "…"
	}
	return text
}
