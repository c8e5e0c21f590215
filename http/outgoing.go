package http

import (
	linked "container/list"
	"net"
	"sync"
)

// Bounds of what is kept for those who do not read their answers; bytes.
const (
	// maxUnread is for all connections together.
	maxUnread = 256 << 20
	// largeWrite is from where on a part of an answer counts. What is smaller takes no more than
	// the connection does by itself.
	largeWrite = 32 << 10
)

// outgoing are the large answers that are on their way out of the server. Each takes memory
// until its client has read it. When there are too many, the connection that has not moved for
// the longest time is closed: whoever reads is done long before.
type outgoing struct {
	most int // bytes; the answer that came last is let out in any case

	mu     sync.Mutex
	bytes  int
	oldest linked.List // of *parcel
}

// parcel is a part of an answer that is being written.
type parcel struct {
	conn net.Conn
	size int
	cut  bool
}

// bounded has the connections of a listener write within these bounds.
func (o *outgoing) bounded(l net.Listener) net.Listener { return &boundedListener{l, o} }

type boundedListener struct {
	net.Listener
	outgoing *outgoing
}

func (l *boundedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &boundedConn{conn, l.outgoing}, nil
}

type boundedConn struct {
	net.Conn
	outgoing *outgoing
}

func (c *boundedConn) Write(p []byte) (int, error) {
	if len(p) < largeWrite {
		return c.Conn.Write(p)
	}
	its := c.outgoing.begin(&parcel{conn: c.Conn, size: len(p)})
	defer c.outgoing.end(its)
	return c.Conn.Write(p)
}

// CloseWrite ends what is sent and not what comes. By it net/http takes leave of a client that
// still sends what was refused: a whole close would take the answer away from under it.
func (c *boundedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil // net/http closes it all in a moment
}

// begin counts a parcel, and closes connections if there are too many bytes under way.
func (o *outgoing) begin(p *parcel) *linked.Element {
	o.mu.Lock()
	defer o.mu.Unlock()
	its := o.oldest.PushBack(p)
	o.bytes += p.size
	for e := o.oldest.Front(); e != its && o.bytes > o.most; e = e.Next() {
		if slow := e.Value.(*parcel); !slow.cut {
			slow.cut = true
			o.bytes -= slow.size
			_ = slow.conn.Close() // which ends its write
		}
	}
	return its
}

func (o *outgoing) end(its *linked.Element) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p := o.oldest.Remove(its).(*parcel); !p.cut {
		o.bytes -= p.size
	}
}
