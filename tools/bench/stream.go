// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

const (
	streamPort = "7"
	// streamPatience is the time without an answer after which a connection counts as broken.
	streamPatience = 5 * time.Second
)

// echo returns everything that it receives on TCP connections to a node, as any of its addresses.
type echo struct {
	listener net.Listener
	done     sync.WaitGroup
	mu       sync.Mutex
	open     []net.Conn // also those that have ended
}

func startEcho(n *lab.Node) (*echo, error) {
	e := &echo{}
	if err := n.Do(func() (err error) { e.listener, err = net.Listen("tcp", ":"+streamPort); return err }); err != nil {
		return nil, err
	}
	e.done.Go(func() {
		for {
			c, err := e.listener.Accept()
			if err != nil {
				return // closed
			}
			e.mu.Lock()
			e.open = append(e.open, c)
			e.mu.Unlock()
			e.done.Go(func() {
				_, _ = io.Copy(c, c) // the client counts broken connections
				_ = c.Close()
			})
		}
	})
	return e, nil
}

func (e *echo) close() error {
	err := e.listener.Close()
	e.mu.Lock()
	for _, c := range e.open { // the end of a client may not have arrived after a failover
		_ = c.Close()
	}
	e.mu.Unlock()
	e.done.Wait()
	return err
}

// stream is a client that sends 64 octets over a TCP connection each millisecond, waits for its echo,
// and connects again when the connection breaks.
type stream struct {
	node   *lab.Node
	to     string
	ended  chan struct{}
	done   sync.WaitGroup
	mu     sync.Mutex
	breaks []time.Time
}

func startStream(n *lab.Node, to string) *stream {
	s := &stream{node: n, to: net.JoinHostPort(to, streamPort), ended: make(chan struct{})}
	s.done.Go(func() {
		for s.connection() {
		}
	})
	return s
}

// connection is one connection. It returns false when the stream was closed.
func (s *stream) connection() bool {
	var c net.Conn
	err := s.node.Do(func() (err error) { c, err = net.DialTimeout("tcp", s.to, time.Second); return err })
	if err != nil { // the address isn't there yet, or no longer
		return s.pause(10 * time.Millisecond)
	}
	defer func() { _ = c.Close() }()
	message := make([]byte, 64)
	for s.pause(time.Millisecond) {
		err := c.SetDeadline(time.Now().Add(streamPatience))
		if err == nil {
			_, err = c.Write(message)
		}
		if err == nil {
			_, err = io.ReadFull(c, message)
		}
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.breaks = append(s.breaks, time.Now())
			return true
		}
	}
	return false
}

func (s *stream) pause(d time.Duration) bool {
	select {
	case <-s.ended:
		return false
	case <-time.After(d):
		return true
	}
}

// broken returns the number of connections that have broken since a moment.
func (s *stream) broken(since time.Time) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.breaks {
		if at.After(since) {
			n++
		}
	}
	return n
}

func (s *stream) close() {
	close(s.ended)
	s.done.Wait()
}

// clientOf starts a stream to an address, which the hosts echo. stop ends all of it.
func clientOf(client *lab.Node, address string, hosts ...*lab.Node) (s *stream, stop func() error, err error) {
	var echoes []*echo
	closeAll := func() (err error) {
		for _, e := range echoes {
			err = errors.Join(err, e.close())
		}
		return err
	}
	for _, n := range hosts {
		e, err := startEcho(n)
		if err != nil {
			return nil, nil, errors.Join(err, closeAll())
		}
		echoes = append(echoes, e)
	}
	s = startStream(client, address)
	return s, func() error {
		s.close()
		return closeAll()
	}, nil
}
