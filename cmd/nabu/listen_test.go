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

func TestClash(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"127.0.0.1:8888", "127.0.0.1:8888", true},
		{"127.0.0.1:8888", "127.0.0.1:8889", false},
		{"127.0.0.1:8888", "127.0.0.2:8888", false},
		{"127.0.0.1:8888", "0.0.0.0:8888", true},
		{"127.0.0.1:8888", ":8888", true},
		{"localhost:8888", ":8888", true},
		{"localhost:8888", "localhost:8888", true},
		{"[::1]:8888", "[::]:8888", true},
		{"[::1]:8888", "[0:0::1]:8888", true},
		{"[::1]:8888", "0.0.0.0:8888", false},
		{"127.0.0.1:0", "127.0.0.1:0", false},
	} {
		if clash(test.a, test.b) != test.want || clash(test.b, test.a) != test.want {
			t.Errorf("%s and %s: not %v", test.a, test.b, test.want)
		}
	}
}
