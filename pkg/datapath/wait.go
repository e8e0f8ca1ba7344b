// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

// waiter waits on file descriptors and for a time, to the microsecond: Go's own timers
// may be a millisecond late.
type waiter struct {
	epoll, timer int
	events       [16]unix.EpollEvent
	arrived      int          // how many of them are valid
	until        vrrp.Instant // what the timer is set to
	armed        bool         // and it hasn't come yet

	// The runtime waits for the epoll instance too, by way of a copy of its
	// descriptor, while goroutines and not threads do.
	known *os.File
	raw   syscall.RawConn
	look  func(uintptr) bool // w.poll, made once
	err   error              // of the last look

	mu    sync.Mutex // against a wake after the end, which would go to whoever has the descriptor then
	woken int
}

func newWaiter() (w *waiter, err error) {
	w = &waiter{epoll: -1, timer: -1, woken: -1}
	w.look = func(uintptr) bool { return w.poll() }
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return w, fmt.Errorf("epoll: %w", err)
	}
	if w.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return w, fmt.Errorf("timerfd: %w", err)
	}
	if w.woken, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return w, fmt.Errorf("eventfd: %w", err)
	}
	return w, errors.Join(w.add(w.timer), w.add(w.woken))
}

// add waits for a descriptor too. It is reported once for each arrival: who
// drains it must drain it until it is empty.
func (w *waiter) add(fd int) error {
	err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(fd)})
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// wait returns when one of the descriptors has something new, and at the given time
// at the latest. Only the goroutine waits: its thread serves others meanwhile.
func (w *waiter) wait(until vrrp.Instant) error {
	if err := w.arm(until); err != nil {
		return err
	}
	if w.known == nil && w.makeKnown() != nil {
		return w.waitInThread(until, true) // no descriptor is left, which must not end the loop
	}
	if err := errors.Join(w.raw.Read(w.look), w.err); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	w.settle()
	return nil
}

// makeKnown has the runtime wait for the epoll instance.
func (w *waiter) makeKnown() error {
	fd, err := unix.FcntlInt(uintptr(w.epoll), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	// The runtime takes what doesn't block.
	if err := unix.SetNonblock(fd, true); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	w.known = os.NewFile(uintptr(fd), "epoll")
	w.raw, err = w.known.SyscallConn()
	return err
}

// poll says whether there is something new, or an error. It is called on each wait and
// takes no time, so that the runtime needn't know of it: that would wake its monitor.
func (w *waiter) poll() bool {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(w.epoll), uintptr(unsafe.Pointer(&w.events[0])), uintptr(len(w.events)), 0, 0, 0)
	if errno != 0 {
		w.arrived, w.err = 0, errno
		return true
	}
	w.arrived, w.err = int(n), nil
	return n > 0
}

// waitInThread is wait, but the thread waits: no other one lies between what is new and
// the return. It is one that waits for long if Go's runtime is to know of it at once.
func (w *waiter) waitInThread(until vrrp.Instant, long bool) error {
	if err := w.arm(until); err != nil {
		return err
	}
	if w.known != nil { // or the runtime would wake for each arrival
		err := w.known.Close()
		w.known, w.raw = nil, nil
		if err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
	}
	look := w.block
	if long {
		look = w.blockLong
	}
	n, errno := look()
	for errno == unix.EINTR { // by a signal of Go's scheduler
		n, errno = look()
	}
	if errno != 0 {
		return fmt.Errorf("epoll: %w", errno)
	}
	w.arrived = n
	w.settle()
	return nil
}

func (w *waiter) block() (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(w.epoll), uintptr(unsafe.Pointer(&w.events[0])), uintptr(len(w.events)), forEver, 0, 0)
	return int(n), errno
}

// blockLong is block, but the thread gives its place for goroutines away before: otherwise
// the runtime's monitor looks every 20 µs, for 10 ms, whether it has to take it away. The
// stack mustn't grow in between.
//
//go:nosplit
//go:noinline
//go:norace
func (w *waiter) blockLong() (int, unix.Errno) {
	entersyscallblock()
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(w.epoll), uintptr(unsafe.Pointer(&w.events[0])), uintptr(len(w.events)), forEver, 0, 0)
	exitsyscall()
	return int(n), errno
}

const forEver = ^uintptr(0) // -1 as a time for epoll

// The runtime lets packages use these and keeps them as they are (go.dev/issue/67401).
//
//go:linkname entersyscallblock runtime.entersyscallblock
func entersyscallblock()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()

// arm sets the timer.
func (w *waiter) arm(until vrrp.Instant) error {
	if w.armed && until == w.until {
		return nil
	}
	// A time of 0 would disarm it; what is past is over at once.
	at := unix.NsecToTimespec(max(int64(until), 1))
	if err := unix.TimerfdSettime(w.timer, unix.TFD_TIMER_ABSTIME, &unix.ItimerSpec{Value: at}, nil); err != nil {
		return fmt.Errorf("timerfd: %w", err)
	}
	w.until, w.armed = until, true
	return nil
}

// settle looks whether the timer has come.
func (w *waiter) settle() {
	for _, e := range w.events[:w.arrived] {
		if int(e.Fd) == w.timer {
			w.armed = false // it has to be set again, also to the same time
		}
	}
}

// wake ends the wait, or the next one. Any goroutine may call it.
func (w *waiter) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.woken >= 0 {
		// Nobody reads it: it is full after 2^64 times.
		_, _ = unix.Write(w.woken, binary.NativeEndian.AppendUint64(nil, 1))
	}
}

func (w *waiter) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	if w.known != nil {
		errs = append(errs, w.known.Close())
		w.known = nil
	}
	for _, fd := range []int{w.epoll, w.timer, w.woken} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	w.epoll, w.timer, w.woken = -1, -1, -1
	return errors.Join(errs...)
}
