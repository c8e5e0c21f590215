package netproxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a proxy before a server that says again what it hears.
func echo(t *testing.T) *Proxy {
	t.Helper()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	p, err := Start("tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

type talk struct {
	*testing.T
	net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, p *Proxy) talk {
	t.Helper()
	conn, err := net.Dial("tcp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return talk{t, conn, bufio.NewReader(conn)}
}

func (c talk) say(text string) {
	c.Helper()
	if _, err := io.WriteString(c.Conn, text+"\n"); err != nil {
		c.Fatal(err)
	}
}

func (c talk) hears(want string) {
	c.Helper()
	line, err := c.in.ReadString('\n')
	if err != nil || line != want+"\n" {
		c.Fatalf("heard %q, error %v", line, err)
	}
}

func TestADelayHoldsBothDirections(t *testing.T) {
	t.Parallel()
	p := echo(t)
	c := dial(t, p)
	c.say("before")
	c.hears("before")
	const delay = 20 * time.Millisecond
	p.SetDelay(delay)
	sent := time.Now()
	for range 10 {
		c.say("later")
	}
	for range 10 {
		c.hears("later")
	}
	if took := time.Since(sent); took < 2*delay {
		t.Errorf("round trips took %v", took)
	}
}

func TestAStallHoldsUntilTheFlow(t *testing.T) {
	t.Parallel()
	p := echo(t)
	c := dial(t, p)
	c.say("one")
	c.hears("one")
	p.Stall()
	c.say("two")
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var late net.Error
	if _, err := c.in.ReadByte(); !errors.As(err, &late) || !late.Timeout() {
		t.Fatalf("during a stall came %v", err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	p.Flow()
	c.hears("two")
}

func TestAResetEndsConnectionsAndLetsNewOnesIn(t *testing.T) {
	t.Parallel()
	p := echo(t)
	c := dial(t, p)
	c.say("one")
	c.hears("one")
	p.Reset()
	if _, err := c.in.ReadByte(); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("after a reset came %v", err)
	}
	again := dial(t, p)
	again.say("two")
	again.hears("two")
}

func TestTheEndIsPassedOn(t *testing.T) {
	t.Parallel()
	c := dial(t, echo(t))
	c.say("last")
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.hears("last")
	if _, err := c.in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Fatalf("after the end came %v", err)
	}
}
