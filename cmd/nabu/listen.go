package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"nabu/http"
)

// listeners are where requests come in.
type listeners struct {
	net.Listener // for all APIs
	alone        []aloneListener
}

// aloneListener is where an API stands alone, at the root.
type aloneListener struct {
	net.Listener
	aloneAddress
}

// aloneAddress is what the settings say of an API that may stand alone.
type aloneAddress struct {
	api, name    string // of the API
	key, address string // of the setting
}

// aloneAddresses are those that APIs have of their own.
func (c config) aloneAddresses() (addresses []aloneAddress) {
	for _, a := range []aloneAddress{
		{http.ImageAPI, "Image API", "image_listen", c.Images.Listen},
		{http.VolumeAPI, "Block Storage API", "volume_listen", c.Volumes.Listen},
		{http.ComputeAPI, "Compute API", "compute_listen", c.Computes.Listen},
	} {
		if a.address != "" {
			addresses = append(addresses, a)
		}
	}
	return addresses
}

// checkAddresses refuses one at which another listens already.
func (c config) checkAddresses() error {
	taken := []aloneAddress{{key: "listen", address: c.Listen}}
	for _, a := range c.aloneAddresses() {
		for _, b := range taken {
			if clash(a.address, b.address) {
				return fmt.Errorf("%s must not be %s, as %s is %s", a.key, a.address, b.key, b.address)
			}
		}
		taken = append(taken, a)
	}
	return nil
}

// clash tells whether two addresses cannot both be listened at: their ports are the same, and their
// hosts as well, or one of them is every address of the other's kind. Any free port may be had twice.
func clash(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	if hostA == hostB || hostA == "" || hostB == "" {
		return true
	}
	ipA, errA := netip.ParseAddr(hostA)
	ipB, errB := netip.ParseAddr(hostB)
	return errA == nil && errB == nil && ipA.Is4() == ipB.Is4() && (ipA == ipB || ipA.IsUnspecified() || ipB.IsUnspecified())
}

// listen opens what the settings say.
func (c config) listen(ctx context.Context) (l listeners, err error) {
	if l.Listener, err = listenAt(ctx, c.Listen); err != nil {
		return l, fmt.Errorf("listen: %w", err)
	}
	for _, a := range c.aloneAddresses() {
		its, err := listenAt(ctx, a.address)
		if err != nil {
			return l, errors.Join(fmt.Errorf("%s: %w", a.key, err), l.Close())
		}
		l.alone = append(l.alone, aloneListener{its, a})
	}
	return l, nil
}

// listenAt listens at an address of the settings. One of IPv4 means IPv4 alone: Go takes
// 0.0.0.0 for every address, those of IPv6 too.
func listenAt(ctx context.Context, address string) (net.Listener, error) {
	network := "tcp"
	if at, err := netip.ParseAddrPort(address); err == nil && at.Addr().Is4() {
		network = "tcp4"
	}
	return new(net.ListenConfig).Listen(ctx, network, address)
}

// addrs are the addresses of all.
func (l listeners) addrs() []net.Addr {
	addrs := []net.Addr{l.Addr()}
	for _, its := range l.alone {
		addrs = append(addrs, its.Addr())
	}
	return addrs
}

// Close takes no further connections.
func (l listeners) Close() error {
	err := l.Listener.Close()
	for _, its := range l.alone {
		err = errors.Join(err, its.Close())
	}
	return err
}

// serve has a server answer until it is shut down or one of the listeners fails, which ends
// the others as well.
func (l listeners) serve(s *http.Server) error {
	ended := make(chan error, 1+len(l.alone))
	go func() { ended <- s.Serve(l.Listener) }()
	for _, its := range l.alone {
		go func() { ended <- s.ServeAlone(its.api, its.Listener) }()
	}
	var failed error
	for range cap(ended) { // of a server that is shut down, each closes its listener by itself
		if err := <-ended; err != nil && failed == nil {
			failed = err
			_ = l.Close()
		}
	}
	return failed
}
