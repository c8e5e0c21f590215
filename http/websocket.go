package http

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/labstack/echo/v4"
)

// webSocketPaths are those of the Messaging API that also take a WebSocket, where a
// client asks for one.
var webSocketPaths = []string{"/v2", "/v2/", "/ws"}

// WebSockets bounds what connections may cost. What is zero takes the default.
type WebSockets struct {
	// Origins are the hosts, or schemes and hosts, of the pages from which browsers may
	// connect, besides nabu's own; "*" stands for any text without a slash. Programs that
	// are no browsers need none.
	Origins []string
	// Max is how many connections there may be; 1000.
	Max int
	// Ping is how often a client has to show that it is there; 30 s.
	Ping time.Duration
	// Idle is how long a client may ask for nothing, if it is not subscribed; an hour.
	Idle time.Duration
	// Write is how long a client may take to read an answer, and to send one request
	// once it has begun; 10 s.
	Write time.Duration
}

func (w WebSockets) withDefaults() WebSockets {
	w.Max = orElse(w.Max, 1000)
	w.Ping = orElse(w.Ping, 30*time.Second)
	w.Idle = orElse(w.Idle, time.Hour)
	w.Write = orElse(w.Write, 10*time.Second)
	return w
}

func orElse[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

// orWebSocket makes a WebSocket of a request that asks for one, and leaves others to
// their handler. Who it is says its frames, so there is nothing to check before.
func (s *Server) orWebSocket(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		if !asksFor(r.Header["Connection"], "upgrade") || !asksFor(r.Header["Upgrade"], "websocket") {
			return next(c)
		}
		if err := s.checkHandshake(r); err != nil {
			return err
		}
		return s.sockets.open(s, c)
	}
}

// asksFor tells whether a list in headers has an item.
func asksFor(headers []string, item string) bool {
	for _, header := range headers {
		for its := range strings.SplitSeq(header, ",") {
			if strings.EqualFold(strings.TrimSpace(its), item) {
				return true
			}
		}
	}
	return false
}

// checkHandshake refuses what the library would refuse in words of its own.
func (s *Server) checkHandshake(r *http.Request) error {
	if !r.ProtoAtLeast(1, 1) {
		return badRequest("Invalid handshake", "The request must be of HTTP/1.1.")
	}
	if r.Header.Get("Sec-Websocket-Version") != "13" {
		return badRequest("Invalid handshake", "Sec-WebSocket-Version must be 13.")
	}
	keys := r.Header["Sec-Websocket-Key"]
	if len(keys) != 1 {
		return badRequest("Invalid handshake", "There must be one Sec-WebSocket-Key.")
	}
	if key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(keys[0])); err != nil || len(key) != 16 {
		return badRequest("Invalid handshake", "Sec-WebSocket-Key must be 16 bytes in base64.")
	}
	if !s.allowsOrigin(r) {
		return problemf(http.StatusForbidden, "Not authorized", "Pages of this origin may not connect.")
	}
	return nil
}

// allowsOrigin tells whether a handshake does not come from a page of somebody else: a
// browser lets every page connect to every address that it can reach, and says with
// Origin whose page it is.
func (s *Server) allowsOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	page, err := url.Parse(strings.ToLower(origin))
	if err != nil || page.Host == "" {
		return false
	}
	return strings.EqualFold(page.Host, r.Host) || slices.ContainsFunc(s.WebSockets.Origins, func(allowed string) bool {
		its := page.Host
		if strings.Contains(allowed, "://") {
			its = page.Scheme + "://" + page.Host
		}
		matches, err := path.Match(strings.ToLower(allowed), its)
		return matches && err == nil
	})
}

// needsWebSocket answers requests for the path that has nothing else.
func (s *Server) needsWebSocket(c *call) error {
	c.Response().Header().Set("Upgrade", "websocket")
	return problemf(http.StatusUpgradeRequired, "Upgrade required", "Here is a WebSocket and nothing else.")
}

// sockets are the connections of a server.
type sockets struct {
	mu      sync.Mutex
	all     map[*socket]bool // true: it is open
	closing bool
	running sync.WaitGroup
	pushes  atomic.Int64 // subscriptions of all connections
}

var errTooManySockets = problemf(http.StatusServiceUnavailable, "Service temporarily unavailable",
	"There are too many connections, or the server is stopping.")

// open makes a connection of a request and leaves it to a goroutine of its own: what
// HTTP has kept for the request is given back.
func (open *sockets) open(s *Server, c echo.Context) error {
	w := newSocket(s, c.Request())
	if !open.reserve(w, s.WebSockets.Max) {
		return errTooManySockets
	}
	conn, err := websocket.Accept(c.Response(), c.Request(), &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		open.remove(w)
		s.Log.Warn("websocket failed", "request_id", requestID(c), "error", err)
		return nil // it has its answer, or can get none
	}
	conn.SetReadLimit(max(s.maxFrame(), maxDiscarded))
	if !open.add(w, conn) {
		open.remove(w)
		_ = conn.CloseNow()
		return nil
	}
	go func() {
		defer open.remove(w)
		w.serve()
	}()
	return nil
}

// maxFrame is how large a frame may be, with what is around a body; bytes.
func (s *Server) maxFrame() int64 {
	return 2 * int64(max(s.Limits.MaxMessagesPostSize, s.Limits.MaxQueueMetadata, maxClaimBody))
}

// reserve counts a connection, unless there are too many or the server stops.
func (open *sockets) reserve(w *socket, most int) bool {
	open.mu.Lock()
	defer open.mu.Unlock()
	if open.closing || len(open.all) >= most {
		return false
	}
	if open.all == nil {
		open.all = map[*socket]bool{}
	}
	open.all[w] = false
	open.running.Add(1)
	return true
}

// add has the connection end with the server, unless that stops already.
func (open *sockets) add(w *socket, conn *websocket.Conn) bool {
	open.mu.Lock()
	defer open.mu.Unlock()
	if open.closing {
		return false
	}
	w.begin(conn)
	open.all[w] = true
	return true
}

func (open *sockets) remove(w *socket) {
	open.mu.Lock()
	delete(open.all, w)
	open.mu.Unlock()
	open.running.Done()
}

// count is how many connections are open.
func (open *sockets) count() (n int) {
	open.mu.Lock()
	defer open.mu.Unlock()
	for _, isOpen := range open.all {
		if isOpen {
			n++
		}
	}
	return n
}

// shutdown lets no further connection in, answers the requests under way, and tells the
// clients to go. It waits no longer than ctx.
func (open *sockets) shutdown(ctx context.Context) error {
	open.mu.Lock()
	open.closing = true
	left := make([]*socket, 0, len(open.all))
	for w, isOpen := range open.all {
		if isOpen {
			left = append(left, w)
		}
	}
	open.mu.Unlock()
	for _, w := range left {
		go w.end(websocket.StatusGoingAway, "the server is stopping")
	}
	gone := make(chan struct{})
	go func() {
		open.running.Wait()
		close(gone)
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
	}
	for _, w := range left {
		w.cut()
	}
	<-gone
	return errors.Join(ctx.Err(), errSocketsCut)
}

var errSocketsCut = errors.New("websockets were cut off")
