package http

import (
	"context"
	"errors"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// closeExpired is the code with which a connection ends whose token has: Zaqar's own.
const closeExpired websocket.StatusCode = 4003

// socket is a connection. One goroutine reads its frames and answers them, one after the
// other; those of its subscriptions write besides.
type socket struct {
	*Server
	// handshake is the request that it came with, without anything large; its frames
	// put their headers over those.
	handshake *http.Request
	conn      *websocket.Conn
	ctx       context.Context // ends with the connection
	cancel    context.CancelFunc
	// turn is held while a frame is carried out and answered.
	turn   sync.Mutex
	ended  bool      // under turn: nothing more is carried out
	known  *Caller   // under turn: who it is since it has authenticated; nil: nobody yet
	asked  time.Time // under turn: when it last asked for something
	pushes pushes
	keeper *time.Timer
	expiry *time.Timer // of what it has authenticated with; nil: that does not expire
}

func newSocket(s *Server, r *http.Request) *socket {
	kept := &http.Request{Method: r.Method, URL: r.URL, Host: r.Host, RemoteAddr: r.RemoteAddr, Header: http.Header{}}
	for name, values := range r.Header {
		if strings.HasPrefix(name, "X-") {
			kept.Header[name] = values
		}
	}
	w := &socket{Server: s, handshake: kept, asked: time.Now()}
	w.pushes.everybodys, w.pushes.most = &s.sockets.pushes, int64(s.WebSockets.Max)*pushesEach
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

// begin takes the connection over.
func (w *socket) begin(conn *websocket.Conn) {
	w.conn = conn
	w.keeper = time.AfterFunc(math.MaxInt64, w.keepAlive) // it resets itself, and must find itself
	w.keeper.Reset(w.WebSockets.Ping)
}

// serve reads and answers frames until the connection ends.
func (w *socket) serve() {
	defer w.pushes.wait()
	defer w.cut()
	for w.next() {
	}
}

// next waits for a frame and answers it, or tells that there is none to come.
func (w *socket) next() bool {
	// The wait for a frame has no end of its own: keepAlive cuts the connection.
	kind, r, err := w.conn.Reader(context.Background())
	if err != nil {
		return false
	}
	buffer := getBuffer()
	defer putBuffer(buffer)
	slow := time.AfterFunc(w.WebSockets.Write, w.cut)
	*buffer, err = readFrame(r, *buffer, int(w.maxFrame()))
	if slow.Stop(); err != nil {
		return false
	}
	w.turn.Lock()
	defer w.turn.Unlock()
	if w.ended {
		return true // the client is told by the close
	}
	w.asked = time.Now()
	return w.answer(kind == websocket.MessageBinary, *buffer) == nil
}

// readFrame reads into a buffer what a frame holds. Of one that is larger than most it keeps
// a byte more than that, for handle to refuse it: a connection that ended on what is still
// being sent would not tell the client why.
func readFrame(r io.Reader, into []byte, most int) ([]byte, error) {
	for {
		if len(into) > most {
			_, err := io.Copy(io.Discard, r) // the connection bounds it
			return into[:most+1], err
		}
		if len(into) == cap(into) {
			into = slices.Grow(into, 512)
		}
		n, err := r.Read(into[len(into):cap(into)])
		into = into[:len(into)+n]
		if errors.Is(err, io.EOF) {
			return into[:min(len(into), most+1)], nil
		}
		if err != nil {
			return into, err
		}
	}
}

// write sends a JSON text, as MessagePack if that is asked for. A client that does not
// read is cut off.
func (w *socket) write(binary bool, text []byte) error {
	ctx, cancel := context.WithTimeout(w.ctx, w.WebSockets.Write)
	defer cancel()
	if !binary {
		return w.conn.Write(ctx, websocket.MessageText, text)
	}
	buffer := getBuffer()
	defer putBuffer(buffer)
	*buffer = appendMessagePack(*buffer, string(text))
	return w.conn.Write(ctx, websocket.MessageBinary, *buffer)
}

// keepAlive asks the client whether it is there, and ends connections that nobody uses.
func (w *socket) keepAlive() {
	if !w.turn.TryLock() {
		w.keeper.Reset(w.WebSockets.Ping) // it is being answered
		return
	}
	idle := time.Since(w.asked) > w.WebSockets.Idle && w.pushes.none()
	w.turn.Unlock()
	if idle {
		w.end(websocket.StatusGoingAway, "nothing was asked for too long")
		return
	}
	ctx, cancel := context.WithTimeout(w.ctx, w.WebSockets.Ping)
	defer cancel()
	if err := w.conn.Ping(ctx); err != nil {
		w.cut()
		return
	}
	w.keeper.Reset(w.WebSockets.Ping)
}

// end lets the frame that is being carried out be answered, carries out no other, and
// takes leave of the client.
func (w *socket) end(code websocket.StatusCode, reason string) {
	w.turn.Lock()
	w.ended = true
	w.turn.Unlock()
	w.pushes.leave("")
	_ = w.conn.Close(code, reason) // the client may be gone already
	w.cut()
}

// cut ends the connection without a word.
func (w *socket) cut() {
	w.cancel()
	w.pushes.leave("")
	w.keeper.Stop()
	_ = w.conn.CloseNow()
}

// authenticated remembers who the client is, until that expires.
func (w *socket) authenticated(caller Caller) {
	w.known = &caller
	w.pushes.leave(caller.Project)
	if w.expiry != nil {
		w.expiry.Stop()
		w.expiry = nil
	}
	if !caller.Expires.IsZero() {
		w.expiry = time.AfterFunc(time.Until(caller.Expires), func() { w.end(closeExpired, "the token has expired") })
	}
}

// request is the handshake with a frame's headers over its own.
func (w *socket) request(header http.Header) *http.Request {
	r := *w.handshake
	if len(r.Header) > 0 {
		whole := maps.Clone(r.Header)
		maps.Copy(whole, header)
		header = whole
	}
	r.Header = header
	return r.WithContext(w.ctx)
}
