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
	// connections is the maximum number of connections. They use at most 1/share of the
	// file descriptors of the process.
	connections = 256
	share       = 8
	// clientTimeout bounds the time for sending a request, and the time between requests.
	clientTimeout = 5 * time.Second
	// delivery bounds the time of a whole scrape.
	delivery = scrapeTime + 20*time.Second
)

// ErrTaken is returned for a port that another process listens on.
var ErrTaken = errors.New("another process listens there")

// Listen opens the address HOST:PORT, or :PORT for all addresses of the host.
func Listen(address string) (net.Listener, error) {
	_, port, _ := net.SplitHostPort(address)
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("metrics address %s: %w: choose another port", address, ErrTaken)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("metrics address %s: this host has no such address: use one of its own, or :%s for all of them", address, port)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("metrics address %s: only root may use port %s: choose one above 1023", address, port)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return nil, fmt.Errorf("metrics address %s: %w", address, err)
	case err != nil:
		return nil, fmt.Errorf("metrics address %s: %w: use an address of this host, like 127.0.0.1:9650", address, err)
	}
	return l, nil
}

// Serve serves h on l until ctx ends, which isn't an error, and closes l. The server logs its
// errors to errorLog.
func Serve(ctx context.Context, l net.Listener, h http.Handler, errorLog *log.Logger) error {
	p := newLimiter(l, most())
	s := http.Server{
		Handler:           http.MaxBytesHandler(h, 1<<16),
		ReadHeaderTimeout: clientTimeout,
		ReadTimeout:       clientTimeout,
		WriteTimeout:      delivery,
		IdleTimeout:       clientTimeout,
		MaxHeaderBytes:    1 << 13,
		ErrorLog:          errorLog,
		ConnState:         p.state,
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() }) // closes the listener too
	defer stop()
	if err := s.Serve(p); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics at %s: %w", l.Addr(), err)
	}
	return nil
}

// most returns the maximum number of connections.
func most() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return connections
	}
	return int(min(connections, limit.Cur/share))
}
