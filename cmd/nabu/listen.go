package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"nabu/http"
)

// listeners are where requests come in.
type listeners struct {
	net.Listener              // for all APIs
	images       net.Listener // for the Image API alone; nil: there is none
}

// listen opens what the settings say.
func (c config) listen(ctx context.Context) (l listeners, err error) {
	var listening net.ListenConfig
	if l.Listener, err = listening.Listen(ctx, "tcp", c.Listen); err != nil {
		return l, fmt.Errorf("listen: %w", err)
	}
	if c.Images.Listen == "" {
		return l, nil
	}
	if l.images, err = listening.Listen(ctx, "tcp", c.Images.Listen); err != nil {
		return l, errors.Join(fmt.Errorf("image_listen: %w", err), l.Listener.Close())
	}
	return l, nil
}

// addrs are the addresses of all.
func (l listeners) addrs() []net.Addr {
	if l.images == nil {
		return []net.Addr{l.Addr()}
	}
	return []net.Addr{l.Addr(), l.images.Addr()}
}

// Close takes no further connections.
func (l listeners) Close() error {
	if l.images == nil {
		return l.Listener.Close()
	}
	return errors.Join(l.Listener.Close(), l.images.Close())
}

// serve has a server answer until it is shut down or one of the listeners fails, which ends
// the other one as well.
func (l listeners) serve(s *http.Server) error {
	if l.images == nil {
		return s.Serve(l.Listener)
	}
	ended := make(chan error, 2)
	go func() { ended <- s.Serve(l.Listener) }()
	go func() { ended <- s.ServeImages(l.images) }()
	if err := <-ended; err != nil {
		_ = l.Close()
		<-ended
		return err
	}
	return <-ended // it is being shut down too, and closes its listener by itself
}
