package http

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/labstack/echo/v4"
)

// idleTransfer is how long a request or its answer may stand still on its way through.
const idleTransfer = 60 * time.Second

// Bounds of what is taken from a real service.
const (
	maxUpstreamHeader = 1 << 20 // bytes
	upstreamIdle      = 32      // connections that wait for the next request
)

var errStoodStill = errors.New("the real service did not answer in time")

// upstream is the real service that an API passes requests on to.
type upstream struct {
	url      *url.URL
	prefix   string
	endpoint func(echo.Context) string // where its clients reach the API
	// owned are the paths that nabu serves, in segments; those that begin with a colon stand
	// for anything.
	owned [][]string
	proxy *httputil.ReverseProxy
	idle  func() time.Duration
}

// passOn gives requests to the real service as they came, without the prefix, and its
// answers to the clients. Images take longer than other requests may, so there is no end as
// long as they move.
func (s *Server) passOn(prefix string, at *url.URL, endpoint func(echo.Context) string) echo.HandlerFunc {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.DisableCompression = true // what is sent passes as it is
	transport.MaxResponseHeaderBytes = maxUpstreamHeader
	transport.MaxIdleConnsPerHost = upstreamIdle
	u := &upstream{url: at, prefix: prefix, endpoint: endpoint, owned: s.ownedPaths(prefix), idle: func() time.Duration { return s.idleTransfer }}
	u.proxy = &httputil.ReverseProxy{
		Transport: transport, Rewrite: u.rewrite, ModifyResponse: u.modify,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) { w.(*finalAnswer).failure = err },
		ErrorLog:     slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
	}
	return u.pass
}

// pass passes one request on.
func (u *upstream) pass(c echo.Context) error {
	came := c.Request()
	switch {
	case came.Method == anyOtherMethod: // or one that nobody knows
		return echo.ErrMethodNotAllowed
	case came.URL.Opaque != "" || leadsUp(came.URL.Path) || u.owns(came.URL.Path):
		return echo.ErrNotFound
	}
	ctx, cancel := context.WithCancelCause(came.Context())
	defer cancel(nil)
	m := &moving{connection: http.NewResponseController(c.Response()), idle: u.idle()}
	m.stuck = time.AfterFunc(m.idle, func() { cancel(errStoodStill) })
	defer m.end()
	r := came.Clone(context.WithValue(ctx, passageKey{}, &passage{c, m}))
	m.read(false)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &movingBody{r.Body, m.read, &m.broken}
	} else {
		m.read(true)
	}
	answer := &finalAnswer{Response: c.Response(), header: http.Header{}}
	u.proxy.ServeHTTP(answer, r)
	switch {
	case answer.failure == nil:
		return nil
	case came.Context().Err() != nil:
		return answer.failure
	case errors.Is(context.Cause(ctx), errStoodStill):
		m.write(false) // there is to be time to say so
		return echo.NewHTTPError(http.StatusGatewayTimeout).SetInternal(errors.Join(errStoodStill, answer.failure))
	case m.broken.Load():
		return echo.NewHTTPError(http.StatusBadRequest).SetInternal(answer.failure)
	}
	return echo.NewHTTPError(http.StatusBadGateway).SetInternal(answer.failure)
}

// rewrite makes a request the one that the real service gets. One that its client gave no name
// bears nabu's, so that both logs tell of the same. What a client says of proxies before
// nabu counts for nothing but the addresses, and it does not choose which of the services at the
// address is asked.
func (u *upstream) rewrite(p *httputil.ProxyRequest) {
	c := passageOf(p.In.Context()).call
	p.Out.URL = &url.URL{Path: u.without(p.In.URL.Path), RawQuery: p.In.URL.RawQuery}
	if p.In.URL.RawPath != "" {
		p.Out.URL.RawPath = u.without(p.In.URL.RawPath)
	}
	p.Out.URL = joinURL(u.url, p.Out.URL)
	p.Out.Host = u.url.Host
	for _, name := range untrusted {
		p.Out.Header.Del(name)
	}
	maps.DeleteFunc(p.Out.Header, func(name string, _ []string) bool { return ambiguous(name) })
	p.Out.Header["X-Forwarded-For"] = p.In.Header["X-Forwarded-For"]
	p.SetXForwarded()
	reached, err := url.Parse(u.endpoint(c))
	if err == nil {
		p.Out.Header.Set("X-Forwarded-Host", reached.Host)
		p.Out.Header.Set("X-Forwarded-Proto", reached.Scheme)
		if path := strings.TrimRight(reached.Path, "/"); path != "" {
			p.Out.Header.Set("X-Forwarded-Prefix", path)
		}
	}
	p.Out.Header.Set("X-Real-Ip", c.RealIP())
	if p.Out.Header.Get(headerRequestID) == "" {
		p.Out.Header.Set(headerRequestID, requestID(c))
	}
}

// untrusted are headers by which a proxy would tell a service of another request than the one
// that it gets, and those that lead past nabu.
var untrusted = []string{
	"Upgrade", "X-Forwarded-Prefix", "X-Forwarded-Port", "X-Forwarded-Server", "X-Forwarded-Ssl", "X-Forwarded-Protocol", "X-Forwarded-Scheme",
	"X-Forwarded-Path", "X-Forwarded-Uri", "X-Url-Scheme", "X-Original-Url", "X-Original-Uri", "X-Original-Host", "X-Rewrite-Url", "X-Host",
	"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Script-Name",
}

// ambiguous tells of a header that some services take for another one: WSGI makes no
// difference between a dash and an underscore. The names of an image's properties have
// underscores of their own.
func ambiguous(name string) bool {
	return strings.Contains(name, "_") && !strings.HasPrefix(name, "X-Image-Meta-")
}

// without is a path as it is at the real service.
func (u *upstream) without(path string) string {
	return "/" + strings.TrimPrefix(strings.TrimPrefix(path, u.prefix), "/")
}

// joinURL is a path at an address that may have one itself.
func joinURL(at, its *url.URL) *url.URL {
	joined := *its
	joined.Scheme, joined.Host = at.Scheme, at.Host
	if its.RawPath != "" || at.RawPath != "" {
		joined.RawPath = strings.TrimRight(at.EscapedPath(), "/") + its.EscapedPath()
	}
	joined.Path = strings.TrimRight(at.Path, "/") + its.Path
	return &joined
}

// modify gives the answer time for as long as it moves. Where it leads to the real service it
// leads through nabu.
func (u *upstream) modify(r *http.Response) error {
	its := passageOf(r.Request.Context())
	its.moving.write(false)
	r.Body = &movingBody{r.Body, its.moving.write, nil}
	location, err := url.Parse(r.Header.Get(headerLocation))
	base := strings.TrimRight(u.url.Path, "/")
	if err != nil || !strings.HasPrefix(location.Path, base+"/") || location.Host != "" && location.Host != u.url.Host {
		return nil
	}
	rest := *location
	rest.Scheme, rest.Host = "", ""
	r.Header.Set(headerLocation, u.endpoint(its.call)+strings.TrimPrefix(rest.String(), base))
	return nil
}

// finalAnswer is what the real service answers at last. What it says before that is not the
// client's business, and echo would take it for the answer.
type finalAnswer struct {
	*echo.Response
	header  http.Header
	begun   bool
	failure error // why there is none
}

// Header is that of the answer, or of whatever is said before it.
func (a *finalAnswer) Header() http.Header {
	if a.begun {
		return a.Response.Header()
	}
	return a.header
}

// WriteHeader begins the answer. Headers of nabu's own give way to the real service's.
func (a *finalAnswer) WriteHeader(status int) {
	if status < http.StatusOK || a.begun {
		return
	}
	a.begun = true
	maps.Copy(a.Response.Header(), a.header)
	a.Response.WriteHeader(status)
}

// Write writes some of the answer.
func (a *finalAnswer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.Response.Write(p)
}

// Flush sends what there is.
func (a *finalAnswer) Flush() { a.Response.Flush() }

// Unwrap hides what would lead past the answer.
func (a *finalAnswer) Unwrap() http.ResponseWriter { return nil }

// Hijack: nobody speaks with the real service past nabu.
func (a *finalAnswer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, http.ErrNotSupported
}

// ownedPaths are the paths under a prefix that nabu serves.
func (s *Server) ownedPaths(prefix string) (owned [][]string) {
	for _, t := range s.tables() {
		if t.prefix != prefix {
			continue
		}
		for _, r := range t.routes {
			for _, address := range t.addresses(prefix, r.path) {
				owned = append(owned, segments(address))
			}
		}
	}
	return owned
}

// segments are the parts of a path, however it is spelt.
func segments(path string) (parts []string) {
	for part := range strings.FieldsFuncSeq(path, func(char rune) bool { return char == '/' || char == '\\' }) {
		part, _, _ = strings.Cut(part, ";")
		part = strings.TrimFunc(part, func(char rune) bool { return char <= ' ' || unicode.IsSpace(char) })
		if part != "" && part != "." {
			parts = append(parts, strings.ToLower(part))
		}
	}
	return parts
}

// owns tells whether a path, which is none of those that nabu serves, is one of them in
// another spelling. Some services take one for the other, and would then be asked for what nabu
// keeps.
func (u *upstream) owns(path string) bool {
	asked := segments(path)
	if len(asked) == 0 {
		return false
	}
	bare := slices.Clone(asked)
	bare[len(bare)-1], _, _ = strings.Cut(bare[len(bare)-1], ".") // of a format such as .json
	return slices.ContainsFunc(u.owned, func(its []string) bool { return fits(its, asked) || fits(its, bare) })
}

func fits(pattern, path []string) bool {
	for i, part := range pattern {
		if i >= len(path) || part[0] != ':' && part != path[i] {
			return false
		}
	}
	return len(pattern) == len(path)
}

// leadsUp tells whether a path may lead out of where the real service stands: there may be
// others at the same address.
func leadsUp(path string) bool {
	return slices.Contains(strings.FieldsFunc(path, func(char rune) bool { return char == '/' || char == '\\' }), "..")
}

// passage is a request on its way through.
type passage struct {
	call   echo.Context
	moving *moving
}

type passageKey struct{}

func passageOf(ctx context.Context) *passage { return ctx.Value(passageKey{}).(*passage) }

// moving puts off the ends that the server has set to a request.
type moving struct {
	connection *http.ResponseController
	idle       time.Duration
	stuck      *time.Timer // ends what stands still
	broken     atomic.Bool // the client's body was
	over       atomic.Bool
}

// read puts off the end of the request, or takes it away when all of it is there. Whatever
// cannot be set is as it was.
func (m *moving) read(done bool) {
	if m.over.Load() {
		return
	}
	end := time.Now().Add(m.idle)
	if done {
		end = time.Time{}
	}
	_ = m.connection.SetReadDeadline(end)
	m.write(done)
}

// write puts off the end of the answer. What is stuck is ended before its connection is, so
// that there is time to say so.
func (m *moving) write(bool) {
	if m.over.Load() {
		return
	}
	m.stuck.Reset(m.idle)
	_ = m.connection.SetWriteDeadline(time.Now().Add(2 * m.idle))
}

func (m *moving) end() {
	m.over.Store(true)
	m.stuck.Stop()
}

// movingBody is a body that tells when it moves.
type movingBody struct {
	io.ReadCloser
	moves  func(done bool)
	broken *atomic.Bool // it ended by a failure; nil: nobody asks
}

func (b *movingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.broken != nil && err != nil && !errors.Is(err, io.EOF) {
		b.broken.Store(true)
	}
	b.moves(err != nil)
	return n, err
}
