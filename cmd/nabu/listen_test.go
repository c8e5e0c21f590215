package main

import (
	"net"
	"strconv"
	"testing"
)

// TestAnAddressOfIPv4IsNoneOfIPv6: who listens at every address of IPv4 is not reached by
// IPv6.
func TestAnAddressOfIPv4IsNoneOfIPv6(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"0.0.0.0:0", "127.0.0.1:0"} {
		listener, err := listenAt(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		at := listener.Addr().(*net.TCPAddr)
		if at.IP.To4() == nil {
			t.Errorf("%s listens at %s", address, at)
		}
		if conn, err := net.Dial("tcp6", net.JoinHostPort("::1", strconv.Itoa(at.Port))); err == nil {
			_ = conn.Close()
			t.Errorf("%s lets in by IPv6", address)
		}
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	}
	if listener, err := listenAt(t.Context(), "localhost:0"); err != nil {
		t.Errorf("a name: %v", err)
	} else if err := listener.Close(); err != nil {
		t.Error(err)
	}
}
