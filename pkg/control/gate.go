// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"net"
	"net/http"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// gate is a listener that identifies the user of each connection. It limits the number of
// connections of users who may only read.
type gate struct {
	net.Listener
	most, each int // limits for all users together, and for each user

	mu      sync.Mutex
	readers map[uint32]int // connections of each user
	all     int
}

func newGate(l net.Listener) *gate {
	most := connections
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil {
		most = int(min(connections, limit.Cur/descriptorShare))
	}
	return &gate{Listener: l, most: most, each: max(most/userShare, 1), readers: make(map[uint32]int)}
}

// enter counts a connection of a user, and returns false if a limit is reached.
func (g *gate) enter(user uint32) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all >= g.most || g.readers[user] >= g.each {
		return false
	}
	g.all++
	g.readers[user]++
	return true
}

func (g *gate) leave(user uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.readers[user]--; g.readers[user] == 0 {
		delete(g.readers, user)
	}
}

// clientConn is a connection to a client.
type clientConn struct {
	net.Conn
	privileged bool // the kernel says that the client is root or the daemon's own user
	leave      func()
}

// Accept returns the next connection that is within the limits, and closes the others.
func (g *gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		user, known := userOf(conn)
		v := &clientConn{Conn: conn, privileged: known && (user == 0 || int(user) == os.Geteuid()), leave: func() {}}
		if v.privileged {
			return v, nil
		}
		if g.enter(user) {
			v.leave = sync.OnceFunc(func() { g.leave(user) })
			return v, nil
		}
		_ = conn.Close() // nothing was sent on it
	}
}

// Close closes the connection.
func (v *clientConn) Close() error {
	v.leave()
	return v.Conn.Close()
}

// userOf returns the user at the other end of a connection, if the kernel knows it.
func userOf(conn net.Conn) (user uint32, known bool) {
	const nobody = 1<<32 - 1
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return nobody, false
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return nobody, false
	}
	var cred *unix.Ucred
	if ctl := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); ctl != nil || err != nil {
		return nobody, false
	}
	return cred.Uid, true
}

// connKey is the key of the connection in the context of a request.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// mayChange reports whether the caller is root or the daemon's own user.
func mayChange(r *http.Request) bool {
	v, ok := r.Context().Value(connKey{}).(*clientConn)
	return ok && v.privileged
}
