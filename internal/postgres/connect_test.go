package postgres

import (
	"context"
	"io"
	"net"
	"testing"
)

// TestAServerWithoutTLSIsToldApart: what to do about it is said.
func TestAServerWithoutTLSIsToldApart(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.ReadFull(conn, make([]byte, 8)) // the question for TLS
		_, _ = conn.Write([]byte("N"))
		_ = conn.Close()
	}()
	err = connect(t, "postgres://nabu_app@"+l.Addr().String()+"/nabu").PingContext(context.Background())
	check(t, l.Close())
	<-answered
	contains(t, err, l.Addr().String(), "has no TLS", "sslmode=disable")
	if !IsMisconfigured(err) || !IsNotConnected(err) {
		t.Error("it counts as something that passes")
	}
}
