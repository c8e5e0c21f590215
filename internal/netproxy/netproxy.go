// Package netproxy is a stretch of network on one machine that can be made slow, can
// stall, and can be cut. It stands between two processes in tests and in the bench, and
// knows nothing of what they say. It must never be part of the service.
package netproxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Proxy is an address that leads to a server.
type Proxy struct {
	listener        net.Listener
	network, server string
	serving         sync.WaitGroup

	mu      sync.Mutex
	delay   time.Duration
	stalled chan struct{} // closed when the stall is over; nil: there is none
	closed  bool
	conns   map[net.Conn]bool
}

// Start makes a way to a server over TCP on this machine. The server's network and
// address are as net.Dial takes them.
func Start(network, server string) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: listener, network: network, server: server, conns: map[net.Conn]bool{}}
	p.serving.Go(p.accept)
	return p, nil
}

// Address is where to connect to, host:port.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Host is the same in two parts.
func (p *Proxy) Host() (host, port string) {
	host, port, _ = net.SplitHostPort(p.Address())
	return host, port
}

// SetDelay makes everything that is sent from now on arrive so much later, in both
// directions: a round trip takes twice as long. It costs no bandwidth.
func (p *Proxy) SetDelay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Stall lets nothing through until Flow; connections stay open, and new ones come about
// and stay silent.
func (p *Proxy) Stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stalled == nil && !p.closed {
		p.stalled = make(chan struct{})
	}
}

// Flow ends a stall. What was sent during it arrives.
func (p *Proxy) Flow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flow()
}

func (p *Proxy) flow() {
	if p.stalled != nil {
		close(p.stalled)
		p.stalled = nil
	}
}

// Reset ends all connections the hard way. What was under way is lost.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reset()
}

func (p *Proxy) reset() {
	for conn := range p.conns {
		if tcp, isTCP := conn.(*net.TCPConn); isTCP {
			_ = tcp.SetLinger(0) // an RST instead of a FIN
		}
		_ = conn.Close()
	}
}

// Close ends the proxy and all connections through it, and waits for that.
func (p *Proxy) Close() error {
	err := p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.flow()
	p.reset()
	p.mu.Unlock()
	p.serving.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.serving.Go(func() { p.serve(client) })
	}
}

// serve connects a client with the server and carries until both directions ended.
func (p *Proxy) serve(client net.Conn) {
	server, err := net.Dial(p.network, p.server)
	if err != nil {
		_ = client.Close()
		return
	}
	defer p.forget(client, server)
	if !p.know(client, server) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.carry(client, server) })
	both.Go(func() { p.carry(server, client) })
	both.Wait()
}

func (p *Proxy) know(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		p.conns[conn] = true
	}
	return !p.closed
}

func (p *Proxy) forget(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		delete(p.conns, conn)
		_ = conn.Close()
	}
}

// parcel is bytes on their way.
type parcel struct {
	bytes []byte
	due   time.Time
}

// Bounds of what is on its way in one direction: so many parcels of so many bytes.
const (
	mostParcels = 256
	parcelSize  = 32 << 10
)

// carry brings what one side sends to the other. Reading goes on while parcels are on
// their way, so a delay is no limit to the bandwidth.
func (p *Proxy) carry(from, to net.Conn) {
	under := make(chan parcel, mostParcels)
	var delivering sync.WaitGroup
	delivering.Go(func() { p.deliver(under, from, to) })
	defer delivering.Wait()
	defer close(under)
	buffer := make([]byte, parcelSize)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			p.mu.Lock()
			due := time.Now().Add(p.delay)
			p.mu.Unlock()
			under <- parcel{append([]byte(nil), buffer[:n]...), due}
		}
		if err != nil {
			return
		}
	}
}

// deliver hands parcels over when they are due and the network flows. When one side has
// said its last, so is the other told; when it cannot be told, nobody need speak.
func (p *Proxy) deliver(under <-chan parcel, from, to net.Conn) {
	var failed error
	for parcel := range under {
		if failed != nil {
			continue
		}
		time.Sleep(time.Until(parcel.due))
		p.waitForFlow()
		if _, failed = to.Write(parcel.bytes); failed != nil {
			_ = from.Close()
		}
	}
	p.waitForFlow()
	if half, can := to.(interface{ CloseWrite() error }); can && failed == nil {
		failed = half.CloseWrite()
	}
	if failed != nil && !errors.Is(failed, io.EOF) {
		_ = to.Close()
	}
}

func (p *Proxy) waitForFlow() {
	p.mu.Lock()
	stalled := p.stalled
	p.mu.Unlock()
	if stalled != nil {
		<-stalled
	}
}
