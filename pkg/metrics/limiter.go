// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// limiter is a listener that limits the number of connections. When the limit is reached, a
// new connection replaces the one that has made no progress for longest. If a source has more
// than 1/largePart of the connections, one of its own is replaced. So clients that are idle,
// never finish a request or never read the answer don't keep out those that ask and read at
// once.
type limiter struct {
	net.Listener
	most int

	mu    sync.Mutex
	open  map[*limitedConn]bool
	moves uint64 // counts the progress of all connections
}

// limitedConn is a connection that a limiter accepted.
type limitedConn struct {
	net.Conn
	limiter *limiter
	source  netip.Addr
	moved   uint64 // value of moves at its last progress
}

func newLimiter(l net.Listener, most int) *limiter {
	return &limiter{Listener: l, most: max(most, 1), open: make(map[*limitedConn]bool)}
}

// unread is the size of the send buffer, in bytes. The kernel keeps that much of an answer for
// a client that doesn't read.
const unread = 128 << 10

// Accept returns the next connection, and closes another one if there are too many.
func (p *limiter) Accept() (net.Conn, error) {
	conn, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(unread)
	}
	g := &limitedConn{Conn: conn, limiter: p, source: sourceOf(conn)}
	if out := p.admit(g); out != nil {
		if tcp, ok := out.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // drops the unread part of the answer
		}
		_ = out.Conn.Close()
	}
	return g, nil
}

// admit adds a connection. It returns the one that it replaces, or nil.
func (p *limiter) admit(g *limitedConn) (out *limitedConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.open) >= p.most {
		out = p.slowest()
		delete(p.open, out)
	}
	p.moves++
	g.moved = p.moves
	p.open[g] = true
	return out
}

// largePart is the divisor for the share of connections that one source may have before it
// counts as large.
const largePart = 4

// slowest returns the connection to replace.
func (p *limiter) slowest() (slowest *limitedConn) {
	from := make(map[netip.Addr]int, len(p.open))
	most := p.most / largePart
	for g := range p.open {
		from[g.source]++
		most = max(most, from[g.source])
	}
	noLarge := most == p.most/largePart // no source has a large share
	for g := range p.open {
		if (noLarge || from[g.source] == most) && (slowest == nil || g.moved < slowest.moved) {
			slowest = g
		}
	}
	return slowest
}

// state is the ConnState hook of the server. A new state, like after a complete request or
// answer, is progress.
func (p *limiter) state(c net.Conn, _ http.ConnState) {
	if g, ok := c.(*limitedConn); ok {
		p.move(g)
	}
}

func (p *limiter) move(g *limitedConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moves++
	g.moved = p.moves
}

// Write writes to the connection. A complete write is progress.
func (g *limitedConn) Write(b []byte) (int, error) {
	n, err := g.Conn.Write(b)
	if err == nil {
		g.limiter.move(g)
	}
	return n, err
}

// Close closes the connection and removes it from the limiter.
func (g *limitedConn) Close() error {
	g.limiter.mu.Lock()
	delete(g.limiter.open, g)
	g.limiter.mu.Unlock()
	return g.Conn.Close()
}

// sourceOf returns the source of a connection: the address of the host for IPv4, and the /64
// network for IPv6, because an IPv6 host may use any address of its network.
func sourceOf(c net.Conn) netip.Addr {
	remote, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	a := remote.Addr().Unmap().WithZone("")
	if a.IsLoopback() {
		return netip.IPv6Unspecified() // the host has millions of loopback addresses
	}
	if a.Is6() && !a.IsLinkLocalUnicast() {
		if network, err := a.Prefix(64); err == nil {
			return network.Addr()
		}
	}
	return a
}
