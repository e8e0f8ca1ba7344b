// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// places is a listener with so many places for connections. When all are taken, the
// next connection gets that of another: of the one that has come no further for
// longest, and if an address has a large part of the places, of one of its. So who holds places by doing nothing, by a
// request that never ends or by an answer that is never read, holds them against
// itself, and keeps nobody out who asks and reads at once.
type places struct {
	net.Listener
	most int

	mu    sync.Mutex
	taken map[*guest]bool
	moves uint64 // that connections have made
}

// guest is a connection that has a place.
type guest struct {
	net.Conn
	at     *places
	source netip.Addr
	moved  uint64 // when it came further: the count of all moves
}

func newPlaces(l net.Listener, most int) *places {
	return &places{Listener: l, most: max(most, 1), taken: make(map[*guest]bool)}
}

// unread is how much of an answer the kernel keeps for a client that doesn't read it, in
// octets.
const unread = 128 << 10

// Accept waits for the next connection and gives it a place.
func (p *places) Accept() (net.Conn, error) {
	conn, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(unread)
	}
	g := &guest{Conn: conn, at: p, source: sourceOf(conn)}
	if out := p.admit(g); out != nil {
		if tcp, ok := out.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // what it doesn't read isn't kept
		}
		_ = out.Conn.Close()
	}
	return g, nil
}

// admit gives a connection a place, and returns the one that had it.
func (p *places) admit(g *guest) (out *guest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.taken) >= p.most {
		out = p.slowest()
		delete(p.taken, out)
	}
	p.moves++
	g.moved = p.moves
	p.taken[g] = true
	return out
}

// largePart of the places is one in so many.
const largePart = 4

// slowest is the connection whose place is given to another.
func (p *places) slowest() (slowest *guest) {
	from := make(map[netip.Addr]int, len(p.taken))
	most := p.most / largePart
	for g := range p.taken {
		from[g.source]++
		most = max(most, from[g.source])
	}
	anybody := most == p.most/largePart // nobody has more than that
	for g := range p.taken {
		if (anybody || from[g.source] == most) && (slowest == nil || g.moved < slowest.moved) {
			slowest = g
		}
	}
	return slowest
}

// state notes that a connection has come further: its request is there, or the
// answer is written.
func (p *places) state(c net.Conn, _ http.ConnState) {
	if g, ok := c.(*guest); ok {
		p.move(g)
	}
}

func (p *places) move(g *guest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moves++
	g.moved = p.moves
}

// Write writes to the connection, which comes further with what is taken.
func (g *guest) Write(b []byte) (int, error) {
	n, err := g.Conn.Write(b)
	if err == nil {
		g.at.move(g)
	}
	return n, err
}

// Close closes the connection. Its place is free.
func (g *guest) Close() error {
	g.at.mu.Lock()
	delete(g.at.taken, g)
	g.at.mu.Unlock()
	return g.Conn.Close()
}

// sourceOf is whom a connection comes from: a host, or of IPv6 a network, because a
// host has as many addresses there as it wants.
func sourceOf(c net.Conn) netip.Addr {
	remote, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	a := remote.Addr().Unmap().WithZone("")
	if a.IsLoopback() {
		return netip.IPv6Unspecified() // this host has millions of them
	}
	if a.Is6() && !a.IsLinkLocalUnicast() {
		if network, err := a.Prefix(64); err == nil {
			return network.Addr()
		}
	}
	return a
}
