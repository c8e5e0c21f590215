// Package outbound decides what nabu may call in somebody's name: Guard looks at the address
// when it is about to be dialled, Filter at a URL. It must never call anything itself, but
// for looking up a name.
package outbound

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"code.dny.dev/ssrf"
)

// ErrRefused: nabu does not call this address, whatever answers there.
var ErrRefused = errors.New("the address is refused")

// loopback are a machine's addresses of itself.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// metadata are addresses that look public, or like those of a private network, and at which
// a cloud tells its machines' secrets. The others are link-local or shared, and refused as such.
var (
	metadata        = netip.MustParsePrefix("168.63.129.16/32")
	privateMetadata = netip.MustParsePrefix("fd00:ec2::254/128")
)

// GuardConfig is what a guard is made of.
type GuardConfig struct {
	// Allow are networks that may be called at any port, whatever they are. Elsewhere
	// addresses must be public and have one of Ports (none: 80 and 443).
	Allow []netip.Prefix
	Ports []uint16
	// AnyPort takes any port, in place of Ports.
	AnyPort bool
	// AllowPrivate lets addresses of private networks (RFC 1918 and RFC 4193) count as public.
	AllowPrivate bool
	// AllowLoopback opens this machine's own addresses, but for those in Listens.
	AllowLoopback bool
	// Listens are nabu's own addresses, which are never called.
	Listens []netip.AddrPort
}

// Guard decides which addresses may be dialled. It sees each address when the name has
// been resolved, so a name that changes its meaning in between does not help anybody.
type Guard struct {
	// Public refuses what nobody has opened and is not public. Tests look through it.
	Public func(netip.AddrPort) error

	opened   []netip.Prefix
	port     func(uint16) bool
	private  bool
	listens  []netip.AddrPort
	ownAddrs func() ([]net.Addr, error)
}

// NewGuard makes a guard. Ports 80 and 443 are open where the configuration names none.
func NewGuard(cfg GuardConfig) *Guard {
	opened := slices.Clone(cfg.Allow)
	if cfg.AllowLoopback {
		opened = append(opened, loopback...)
	}
	ports := cfg.Ports
	if len(ports) == 0 {
		ports = []uint16{80, 443}
	}
	withPorts := ssrf.WithPorts(ports...)
	if cfg.AnyPort {
		withPorts = ssrf.WithAnyPort()
	}
	return &Guard{
		opened: opened, listens: cfg.Listens, ownAddrs: net.InterfaceAddrs,
		Public:  ssrf.New(withPorts, ssrf.WithDeniedV4Prefixes(metadata)).SafeAddrPort,
		private: cfg.AllowPrivate, port: func(port uint16) bool { return cfg.AnyPort || slices.Contains(ports, port) },
	}
}

// Control is what net.Dialer asks with the address that it is about to connect to.
func (g *Guard) Control(network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("%w: network %s", ErrRefused, network)
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s", ErrRefused, address)
	}
	return g.Check(to)
}

// Check refuses an address.
func (g *Guard) Check(to netip.AddrPort) error {
	to = netip.AddrPortFrom(to.Addr().Unmap().WithZone(""), to.Port())
	if g.isOwn(to) {
		return fmt.Errorf("%w: %s is nabu itself", ErrRefused, to)
	}
	for _, prefix := range g.opened {
		if prefix.Contains(to.Addr()) {
			return nil
		}
	}
	if g.private && IsPrivate(to.Addr()) && g.port(to.Port()) {
		return nil
	}
	if err := g.Public(to); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil
}

// IsPrivate tells whether an address is one of a private network, and no cloud's metadata.
func IsPrivate(addr netip.Addr) bool {
	return addr.IsPrivate() && !privateMetadata.Contains(addr)
}

// isOwn tells whether nabu listens at an address: a message to itself could make another
// one, for ever.
func (g *Guard) isOwn(to netip.AddrPort) bool {
	for _, l := range g.listens {
		if l.Port() != to.Port() {
			continue
		}
		listens := l.Addr().Unmap()
		switch {
		case listens == to.Addr(), to.Addr().IsUnspecified():
			return true
		case listens.IsUnspecified() && (to.Addr().IsLoopback() || g.isHere(to.Addr())):
			return true
		}
	}
	return false
}

// isHere tells whether an address is one of this machine's.
func (g *Guard) isHere(addr netip.Addr) bool {
	own, err := g.ownAddrs()
	if err != nil {
		return true // who cannot know does not call
	}
	return slices.ContainsFunc(own, func(a net.Addr) bool {
		network, ok := a.(*net.IPNet)
		if !ok {
			return false
		}
		here, ok := netip.AddrFromSlice(network.IP)
		return ok && here.Unmap() == addr
	})
}

// CheckHost refuses a host of a URL that is a number in one of the forms that some
// resolvers take for an address (2130706433, 0x7f.1, 0177.0.0.1) and others for a name.
func CheckHost(host string) error {
	if host == "" {
		return fmt.Errorf("%w: the URL names no host", ErrRefused)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil // for the guard
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	last := labels[len(labels)-1]
	if _, err := strconv.ParseUint(last, 0, 64); err == nil || isDigits(last) {
		return fmt.Errorf("%w: %s is neither a name nor an address", ErrRefused, host)
	}
	return nil
}

func isDigits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}
