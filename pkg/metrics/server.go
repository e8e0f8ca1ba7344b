// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"syscall"
	"time"
)

const (
	// connections is how many there are at most, unless the process may have few
	// descriptors: then they are a share of those.
	connections = 256
	share       = 8
	// patience is how long a client may take to ask, and to ask again.
	patience = 5 * time.Second
	// delivery is how long a scrape may take in all.
	delivery = scrapeTime + 20*time.Second
)

// ErrTaken is returned for a port that another process listens at.
var ErrTaken = errors.New("another process listens there")

// Listen opens the port to serve at: HOST:PORT, or :PORT for all addresses of
// the host.
func Listen(address string) (net.Listener, error) {
	_, port, _ := net.SplitHostPort(address)
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("metrics address %s: %w: choose another port", address, ErrTaken)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("metrics address %s: this host has no such address: give one of its own, or :%s for all of them", address, port)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("metrics address %s: port %s is for root: choose one from 1024 on", address, port)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return nil, fmt.Errorf("metrics address %s: %w", address, err)
	case err != nil:
		return nil, fmt.Errorf("metrics address %s: %w: give an address of this host, like 127.0.0.1:9650", address, err)
	}
	return l, nil
}

// Serve answers with h at l until ctx ends, which is not an error. Then l is
// closed. What keeps the server from serving goes to trouble.
func Serve(ctx context.Context, l net.Listener, h http.Handler, trouble *log.Logger) error {
	p := newPlaces(l, most())
	s := http.Server{
		Handler:           http.MaxBytesHandler(h, 1<<16),
		ReadHeaderTimeout: patience,
		ReadTimeout:       patience,
		WriteTimeout:      delivery,
		IdleTimeout:       patience,
		MaxHeaderBytes:    1 << 13,
		ErrorLog:          trouble,
		ConnState:         p.state,
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() }) // the listener goes with it
	defer stop()
	if err := s.Serve(p); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics at %s: %w", l.Addr(), err)
	}
	return nil
}

// most is how many connections there may be.
func most() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return connections
	}
	return int(min(connections, limit.Cur/share))
}
