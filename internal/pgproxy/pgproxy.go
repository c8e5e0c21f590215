// Package pgproxy stands between a client and PostgreSQL in tests. It counts round
// trips and cuts connections at a chosen one, before the server has seen it or
// before the client has its answer. It must never be part of the program.
package pgproxy

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// Cut is what happens to a round trip.
type Cut int

// The cuts.
const (
	Pass   Cut = iota // nothing: the request and its answer go through
	Before            // the connection ends, the server has not seen the request
	After             // the connection ends when the server has answered
)

// Proxy is a socket that leads to a server.
type Proxy struct {
	folder string
	server string
	trips  atomic.Int64
	opened atomic.Int64

	mu     sync.Mutex
	decide func(trip int64) Cut
	conns  map[net.Conn]bool
}

// New makes a proxy in front of the server that a URL names by its socket folder
// (host=...). It ends with the test.
func New(t testing.TB, serverURL string) *Proxy {
	t.Helper()
	// A test's own folder may be too long for a socket's path.
	folder, err := os.MkdirTemp("", "pgproxy")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{folder: folder, server: filepath.Join(socketFolder(t, serverURL), ".s.PGSQL.5432"), conns: map[net.Conn]bool{}}
	listener, err := net.Listen("unix", filepath.Join(folder, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Add(1)
	go func() {
		defer serving.Done()
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(client) })
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		p.CutAll()
		serving.Wait()
		_ = os.RemoveAll(folder)
	})
	return p
}

func socketFolder(t testing.TB, serverURL string) string {
	t.Helper()
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query().Get("host")
}

// URL leads to the same database through the proxy.
func (p *Proxy) URL(serverURL string) string {
	u, err := url.Parse(serverURL)
	if err != nil {
		panic(err)
	}
	query := u.Query()
	query.Set("host", p.folder)
	u.RawQuery = query.Encode()
	return u.String()
}

// Trips is how many round trips there were so far, those of connecting aside.
func (p *Proxy) Trips() int64 { return p.trips.Load() }

// Opened is how many connections there were so far.
func (p *Proxy) Opened() int64 { return p.opened.Load() }

// OnTrip sets what happens to each round trip from now on; they are counted from 1
// on again.
func (p *Proxy) OnTrip(decide func(trip int64) Cut) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trips.Store(0)
	p.decide = decide
}

// CutAll ends all connections.
func (p *Proxy) CutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		_ = conn.Close()
	}
}

func (p *Proxy) serve(client net.Conn) {
	server, err := net.Dial("unix", p.server)
	if err != nil {
		_ = client.Close()
		return
	}
	p.opened.Add(1)
	p.mu.Lock()
	p.conns[client], p.conns[server] = true, true
	p.mu.Unlock()
	var swallow atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		answers(client, server, &swallow)
		_ = client.Close()
	}()
	p.requests(client, server, &swallow)
	_ = server.Close()
	<-done
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}

// requests passes on what the client sends, message by message. A simple query and
// a Sync each ask for one answer: that is a round trip.
func (p *Proxy) requests(client, server net.Conn, swallow *atomic.Bool) {
	defer client.Close()
	if !passStartup(client, server) {
		return
	}
	for {
		message, err := readMessage(client)
		if err != nil {
			return
		}
		if message[0] == 'Q' || message[0] == 'S' {
			switch p.trip() {
			case Before:
				return
			case After:
				swallow.Store(true)
			}
		}
		if _, err := server.Write(message); err != nil {
			return
		}
	}
}

// readMessage reads a message: its type, its length and that many bytes.
func readMessage(from io.Reader) ([]byte, error) {
	header := make([]byte, 5)
	if _, err := io.ReadFull(from, header); err != nil {
		return nil, err
	}
	message := append(header, make([]byte, binary.BigEndian.Uint32(header[1:])-4)...)
	_, err := io.ReadFull(from, message[5:])
	return message, err
}

func (p *Proxy) trip() Cut {
	p.mu.Lock()
	defer p.mu.Unlock()
	trip := p.trips.Add(1)
	if p.decide == nil {
		return Pass
	}
	return p.decide(trip)
}

// passStartup passes on the first message, which has no type.
func passStartup(client, server net.Conn) bool {
	length := make([]byte, 4)
	if _, err := io.ReadFull(client, length); err != nil {
		return false
	}
	body := make([]byte, binary.BigEndian.Uint32(length)-4)
	if _, err := io.ReadFull(client, body); err != nil {
		return false
	}
	_, err := server.Write(append(length, body...))
	return err == nil
}

// answers passes on what the server sends. An answer that is to be swallowed is
// read to its end, when the server is done with the request; then all is over.
func answers(client io.Writer, server net.Conn, swallow *atomic.Bool) {
	from := bufio.NewReader(server)
	for {
		message, err := readMessage(from)
		if err != nil {
			return
		}
		if !swallow.Load() {
			if _, err := client.Write(message); err != nil {
				return
			}
		} else if message[0] == 'Z' { // ready for the next query
			return
		}
	}
}
