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

// queue holds the frames that the next Flush sends through a socket.
type queue struct {
	fd       int
	frames   [][]byte
	vectors  []unix.Iovec
	messages []message
}

// prioritize gives a socket the priority of network control traffic, so that its frames leave
// before bulk traffic in the interface's queue. It also enlarges the send buffer for bursts.
func prioritize(fd int) error {
	return errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, priorityControl),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer),
	)
}

// Queue queues a frame for the next Flush. It doesn't copy the frame, so the caller must not
// change the frame before that.
func (q *queue) Queue(frame []byte) {
	if len(frame) > 0 {
		q.frames = append(q.frames, frame)
	}
}

// Queued returns the number of queued frames. It is also the number that Flush gives to the
// frame that is queued next.
func (q *queue) Queued() int { return len(q.frames) }

// Flush sends the queued frames, if possible in one system call. It never blocks. It calls
// unsent for each frame that could not be sent, in the order of the frames, with the number of
// the frame (from 0) and the error. It returns the number of frames sent. A frame that can't
// be sent is dropped; the others are sent nevertheless.
func (q *queue) Flush(unsent func(n int, err error)) (sent int) {
	q.prepare()
	sent = q.flush(unsent)
	q.reset()
	return sent
}

// flush sends the messages that prepare has made.
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

// ofInterface reports whether an error affects all frames on the interface.
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

// send calls sendmmsg. It doesn't block, so it makes a raw system call: an ordinary one would
// wake the monitor thread (sysmon) of Go's runtime.
func (q *queue) send(m []message) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(q.fd),
		uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), unix.MSG_DONTWAIT, 0, 0)
	runtime.KeepAlive(q)
	return int(n), errno
}
