package outbound

import (
	"net"
	"net/netip"
	"testing"
)

// TestWhatTheOperatorOpens: a network with any port, link-local ones too, but never nabu.
func TestWhatTheOperatorOpens(t *testing.T) {
	g := NewGuard(GuardConfig{
		Allow:   []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("169.254.169.254/32"), netip.MustParsePrefix("fd00::/8")},
		Listens: []netip.AddrPort{netip.MustParseAddrPort("10.1.0.1:8888"), netip.MustParseAddrPort("[::]:9292")}, AllowLoopback: true,
	})
	g.ownAddrs = func() ([]net.Addr, error) {
		return []net.Addr{&net.IPNet{IP: net.ParseIP("10.1.0.1"), Mask: net.CIDRMask(16, 32)}}, nil
	}
	for to, allowed := range map[string]bool{
		"10.1.2.3:6379": true, "10.2.0.1:80": false, "169.254.169.254:80": true, "169.254.169.253:80": false,
		"[fd00::1]:1": true, "[fe80::1]:80": false, "127.0.0.1:8080": true, "[::1]:1": true, "[::ffff:127.0.0.1]:1": true,
		"10.1.0.1:8888": false, "10.1.0.1:8889": true, "[::ffff:10.1.0.1]:8888": false,
		"127.0.0.1:9292": false, "10.1.0.1:9292": false, "[::1]:9292": false, "0.0.0.0:9292": false, "10.1.0.2:9292": true,
		"93.184.216.34:80": true, "93.184.216.34:8080": false, "0.0.0.0:80": false,
	} {
		err := g.Check(netip.MustParseAddrPort(to))
		if (err == nil) != allowed {
			t.Errorf("%s: %v", to, err)
		}
	}
}

// TestPrivateNetworksMayBeOpened: at the ports that count everywhere, and never a cloud's
// metadata or this machine.
func TestPrivateNetworksMayBeOpened(t *testing.T) {
	g := NewGuard(GuardConfig{AllowPrivate: true, Ports: []uint16{80, 8080}})
	for to, allowed := range map[string]bool{
		"10.2.0.1:80": true, "192.168.1.1:8080": true, "[fd00::1]:80": true, "[::ffff:10.2.0.1]:80": true, "10.2.0.1:22": false,
		"[fd00:ec2::254]:80": false, "169.254.169.254:80": false, "168.63.129.16:80": false, "100.100.100.200:80": false,
		"127.0.0.1:80": false, "[::1]:80": false, "0.0.0.0:80": false, "[64:ff9b::a00:1]:80": false, "93.184.216.34:8080": true,
	} {
		if err := g.Check(netip.MustParseAddrPort(to)); (err == nil) != allowed {
			t.Errorf("%s: %v", to, err)
		}
	}
}
