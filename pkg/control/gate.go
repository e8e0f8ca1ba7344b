// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// gate is a listener that knows who connects, and lets in so many of those who
// may only read.
type gate struct {
	net.Listener
	readers atomic.Int64
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
		v := &visitor{Conn: conn, privileged: privileged(conn), leave: func() {}}
		if v.privileged {
			return v, nil
		}
		if g.readers.Add(1) <= connections {
			v.leave = sync.OnceFunc(func() { g.readers.Add(-1) })
			return v, nil
		}
		g.readers.Add(-1)
		_ = conn.Close() // nothing was said on it
	}
}

// Close closes the connection.
func (v *visitor) Close() error {
	v.leave()
	return v.Conn.Close()
}

// privileged reports whether root or the daemon's own user is at the other end.
func privileged(conn net.Conn) bool {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return false
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return false
	}
	var cred *unix.Ucred
	if ctl := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); ctl != nil || err != nil {
		return false
	}
	return cred.Uid == 0 || int(cred.Uid) == os.Geteuid()
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
