package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"nabu/internal/netproxy"
	"nabu/internal/postgres"
)

// networkDelay is how long everything takes between nabu and its PostgreSQL, in each
// direction: a round trip is two milliseconds longer than none.
const networkDelay = time.Millisecond

// measureDelay posts to a nabu beside its PostgreSQL, and to one that is some way off, and
// leaves neither behind.
func measureDelay(ctx context.Context, s *stage, r *Report) error {
	return s.apart(func(own *stage) error { return own.measureDelay(ctx, r) })
}

func (s *stage) measureDelay(ctx context.Context, r *Report) error {
	const connections = 128
	lines, err := s.measure(ctx, replicas("no network", connections, 1), distant(networkDelay.String()+" of network", connections))
	if err != nil {
		return err
	}
	r.Lines = append(r.Lines, lines...)
	r.least(fmt.Sprintf("%v of network delay / none, %d connections", networkDelay, connections), ratio(lines[1].runs, lines[0].runs), "", delayToNone)
	return nil
}

// distant posts to a nabu that reaches its PostgreSQL through a slow network.
func distant(name string, connections int) scenario {
	return scenario{name, connections, func(ctx context.Context, s *stage) (*Measured, *Check, error) {
		address, err := s.distantAddress(ctx)
		if err != nil {
			return nil, nil, err
		}
		return s.post(ctx, connections, 1, 1, address)
	}}
}

// distantNabu is a nabu and the network before its PostgreSQL.
type distantNabu struct {
	*Process
	network *netproxy.Proxy
}

func (d *distantNabu) stop() error {
	if d == nil {
		return nil
	}
	return errors.Join(d.Stop(), d.network.Close())
}

// distantAddress is where the nabu behind the slow network listens.
func (s *stage) distantAddress(ctx context.Context) (string, error) {
	if s.distant != nil {
		return s.distant.Address, nil
	}
	urls := make([]string, 2)
	for i, role := range []string{postgres.App, postgres.Owner} {
		var err error
		if urls[i], err = s.database(ctx, role); err != nil {
			return "", err
		}
	}
	kind, server, err := postgres.Address(urls[0])
	if err != nil {
		return "", err
	}
	network, err := netproxy.Start(kind, server)
	if err != nil {
		return "", err
	}
	network.SetDelay(networkDelay)
	host, port := network.Host()
	for i := range urls {
		if urls[i], err = postgres.With(urls[i], map[string]string{"host": host, "port": port}); err != nil {
			return "", errors.Join(err, network.Close())
		}
	}
	p, err := s.serve(ctx, "--database-url", urls[0], "--direct-database-url", urls[1])
	if err != nil {
		return "", errors.Join(err, network.Close())
	}
	s.distant = &distantNabu{p, network}
	return p.Address, nil
}
