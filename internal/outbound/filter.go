package outbound

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// The import filter's defaults, Glance's.
var (
	ImportSchemes = []string{"http", "https"}
	ImportPorts   = []uint16{80, 443}
)

// Filter decides which URLs may be fetched from, by Glance's rules for imports: of each
// pair of lists one that allows switches off the one that denies. It is Glance's
// import_filtering_opts. The zero filter takes http and https at ports 80 and 443.
type Filter struct {
	AllowSchemes, DenySchemes []string // none of both: ImportSchemes are allowed
	AllowHosts, DenyHosts     []string // names or addresses, in any case
	AllowPorts, DenyPorts     []uint16 // none of both: ImportPorts are allowed
	// AllowNetworks may be fetched from though they are this machine or link-local.
	AllowNetworks []netip.Prefix
	// Resolver finds the addresses of names; nil: the machine's.
	Resolver *net.Resolver
}

// usualPorts are those of the schemes.
var usualPorts = map[string]uint16{"http": 80, "https": 443}

// CheckURL refuses a URL for its scheme, port or host, with ErrRefused. It looks nothing up:
// Guard and CheckHost see the addresses.
func (f *Filter) CheckURL(u *url.URL) error {
	port := usualPorts[u.Scheme]
	if text := u.Port(); text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return fmt.Errorf("%w: port %s", ErrRefused, text)
		}
		port = uint16(n)
	}
	if !passes(u.Scheme, f.AllowSchemes, f.DenySchemes, ImportSchemes) || usualPorts[u.Scheme] == 0 {
		return fmt.Errorf("%w: scheme %q", ErrRefused, u.Scheme)
	}
	if !passes(port, f.AllowPorts, f.DenyPorts, ImportPorts) {
		return fmt.Errorf("%w: port %d", ErrRefused, port)
	}
	if err := CheckHost(u.Hostname()); err != nil {
		return err
	}
	host := canonical(u.Hostname())
	if len(f.AllowHosts) > 0 && !f.names(host) || len(f.AllowHosts) == 0 && slices.ContainsFunc(f.DenyHosts, is(host)) {
		return fmt.Errorf("%w: host %s", ErrRefused, host)
	}
	return nil
}

// CheckHost refuses a host that is nowhere, or only where nothing may be fetched from. A host
// that the operator allows by its name may be anywhere. The answer holds for now: who
// fetches needs Guard besides.
func (f *Filter) CheckHost(ctx context.Context, host string) error {
	host = canonical(host)
	if f.names(host) {
		return nil
	}
	addrs, err := f.resolver().LookupNetIP(ctx, "ip", host)
	if _, unknown := errors.AsType[*net.DNSError](err); unknown {
		return fmt.Errorf("%w: host %s has no address", ErrRefused, host)
	}
	if err != nil {
		return fmt.Errorf("look up %s: %w", host, err)
	}
	guard := NewGuard(GuardConfig{Allow: f.AllowNetworks, AllowPrivate: true})
	for _, addr := range addrs {
		if err = guard.Check(netip.AddrPortFrom(addr, usualPorts["http"])); err == nil {
			return nil
		}
	}
	return err
}

// Guard is what looks at the addresses of a host that CheckURL has let pass. Private
// networks are the caller's choice.
func (f *Filter) Guard(host string, private bool) *Guard {
	// CheckURL has seen the port.
	cfg := GuardConfig{Allow: f.AllowNetworks, AnyPort: true, AllowPrivate: private}
	if f.names(canonical(host)) {
		cfg.Allow = everywhere
	}
	return NewGuard(cfg)
}

// everywhere is for hosts that the operator named.
var everywhere = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

// names tells whether the operator allows a host by its name.
func (f *Filter) names(host string) bool { return slices.ContainsFunc(f.AllowHosts, is(host)) }

func (f *Filter) resolver() *net.Resolver {
	if f.Resolver == nil {
		return net.DefaultResolver
	}
	return f.Resolver
}

func is(host string) func(string) bool {
	return func(one string) bool { return canonical(one) == host }
}

// canonical is a host as it is compared: in lower case, without the root's dot.
func canonical(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

func passes[T comparable](value T, allow, deny, usual []T) bool {
	if len(allow) == 0 && len(deny) == 0 {
		allow = usual
	}
	if len(allow) > 0 {
		return slices.Contains(allow, value)
	}
	return !slices.Contains(deny, value)
}
