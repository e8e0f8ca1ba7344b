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

// gate is a listener that knows who connects, and lets in so many of those who
// may only read, and so many of each of them.
type gate struct {
	net.Listener
	most, each int

	mu      sync.Mutex
	readers map[uint32]int // by user
	all     int
}

func newGate(l net.Listener) *gate {
	most := connections
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil {
		most = int(min(connections, limit.Cur/descriptorsShare))
	}
	return &gate{Listener: l, most: most, each: max(most/usersShare, 1), readers: make(map[uint32]int)}
}

// enter lets a reader in, if there is a place.
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

// visitor is a connection with its user, as the kernel has it.
type visitor struct {
	net.Conn
	privileged bool
	leave      func()
}

// Accept waits for the next who may come in.
func (g *gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		user, known := userOf(conn)
		v := &visitor{Conn: conn, privileged: known && (user == 0 || int(user) == os.Geteuid()), leave: func() {}}
		if v.privileged {
			return v, nil
		}
		if g.enter(user) {
			v.leave = sync.OnceFunc(func() { g.leave(user) })
			return v, nil
		}
		_ = conn.Close() // nothing was said on it
	}
}

// Close closes the connection.
func (v *visitor) Close() error {
	v.leave()
	return v.Conn.Close()
}

// userOf returns the user at the other end.
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

// visitorKey finds the connection in a request's context.
type visitorKey struct{}

func withVisitor(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, visitorKey{}, c)
}

// mayChange reports whether the caller is root or the daemon's own user.
func mayChange(r *http.Request) bool {
	v, ok := r.Context().Value(visitorKey{}).(*visitor)
	return ok && v.privileged
}
