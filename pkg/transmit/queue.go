// SPDX-License-Identifier: Apache-2.0

package transmit

import (
	"errors"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	priorityControl = 7 // TC_PRIO_CONTROL
	sendBuffer      = 4 << 20
)

// message is struct mmsghdr of sendmmsg(2).
type message struct {
	header unix.Msghdr
	sent   uint32
	_      [4]byte
}

// queue is what the next Flush sends through a socket.
type queue struct {
	fd       int
	frames   [][]byte
	vectors  []unix.Iovec
	messages []message
}

// prefer has a socket's frames go ahead of bulk traffic in the interface's queue,
// as the network's own control traffic does, with room for a burst.
func prefer(fd int) error {
	return errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, priorityControl),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer),
	)
}

// Queue adds a frame to what the next Flush sends. The frame is not copied: it
// must stay as it is until then.
func (q *queue) Queue(frame []byte) {
	if len(frame) > 0 {
		q.frames = append(q.frames, frame)
	}
}

// Queued is how many frames the next Flush sends: the number of the next one that
// is queued.
func (q *queue) Queued() int { return len(q.frames) }

// Flush sends what is queued, all of it in one system call if the kernel takes it,
// and never waits. It calls unsent for each frame that could not be sent, in their
// order, with its number from 0 and the error, and returns how many were sent. A
// frame that could not be sent is dropped and keeps no other one from leaving.
func (q *queue) Flush(unsent func(n int, err error)) (sent int) {
	q.prepare()
	sent = q.flush(unsent)
	q.reset()
	return sent
}

// flush sends what is prepared.
func (q *queue) flush(unsent func(n int, err error)) (sent int) {
	for at := 0; at < len(q.messages); {
		n, errno := q.send(q.messages[at:])
		switch {
		case errno == 0:
			sent += n
			at += n
		case errno == unix.EINTR:
		case ofInterface(errno):
			for ; at < len(q.messages); at++ {
				unsent(at, errno)
			}
		default:
			unsent(at, errno)
			at++
		}
	}
	return sent
}

// ofInterface reports whether an error concerns whatever is sent on an interface.
func ofInterface(errno unix.Errno) bool {
	switch errno {
	case unix.ENETDOWN, unix.ENXIO, unix.ENODEV, unix.EBADF:
		return true
	}
	return false
}

func (q *queue) reset() {
	clear(q.frames)
	q.frames = q.frames[:0]
}

func (q *queue) prepare() {
	n := len(q.frames)
	if cap(q.messages) < n {
		q.messages, q.vectors = make([]message, n, 2*n), make([]unix.Iovec, n, 2*n)
	}
	q.messages, q.vectors = q.messages[:n], q.vectors[:n]
	for i, frame := range q.frames {
		q.vectors[i].Base = &frame[0]
		q.vectors[i].SetLen(len(frame))
		q.messages[i] = message{header: unix.Msghdr{Iov: &q.vectors[i]}}
		q.messages[i].header.SetIovlen(1)
	}
}

// send doesn't wait, so Go's runtime needn't know of it: it would wake its monitor for it.
func (q *queue) send(m []message) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(q.fd),
		uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), unix.MSG_DONTWAIT, 0, 0)
	runtime.KeepAlive(q)
	return int(n), errno
}
