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

// waiter waits for file descriptors and for a time. It is accurate to microseconds, while
// Go's timers may be a millisecond late.
type waiter struct {
	epoll, timer int
	events       [16]unix.EpollEvent
	arrived      int          // the number of valid events
	until        vrrp.Instant // the time that the timer is set to
	armed        bool         // the timer is set and hasn't fired yet

	// pollable is a duplicate of epoll that is registered with Go's netpoller. It lets
	// wait block only the goroutine. It is nil while waitInThread is used.
	pollable *os.File
	raw      syscall.RawConn
	pollFunc func(uintptr) bool // w.poll; made once, so that wait doesn't allocate
	err      error              // the error of the last poll

	// mu keeps wake from writing to woken after close: by then another file may have
	// the descriptor.
	mu    sync.Mutex
	woken int
}

func newWaiter() (w *waiter, err error) {
	w = &waiter{epoll: -1, timer: -1, woken: -1}
	w.pollFunc = func(uintptr) bool { return w.poll() }
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

// add adds a descriptor to wait for. It is edge-triggered, so the caller must drain the
// descriptor until it is empty.
func (w *waiter) add(fd int) error {
	err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(fd)})
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// wait returns when a descriptor becomes readable, or at the given time. It blocks only
// the goroutine; the thread runs other goroutines meanwhile.
func (w *waiter) wait(until vrrp.Instant) error {
	if err := w.arm(until); err != nil {
		return err
	}
	if w.pollable == nil && w.makePollable() != nil {
		return w.waitInThread(until, true) // running out of descriptors must not end the event loop
	}
	if err := errors.Join(w.raw.Read(w.pollFunc), w.err); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	w.noteTimer()
	return nil
}

// makePollable registers a duplicate of the epoll instance with Go's netpoller.
func (w *waiter) makePollable() error {
	fd, err := unix.FcntlInt(uintptr(w.epoll), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	// os.NewFile registers only non-blocking descriptors with the netpoller.
	if err := unix.SetNonblock(fd, true); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	w.pollable = os.NewFile(uintptr(fd), "epoll")
	w.raw, err = w.pollable.SyscallConn()
	return err
}

// poll reads the pending events, and reports whether there are any or an error occurred.
// The system call doesn't block, so poll makes it raw: an ordinary system call would wake
// the runtime's monitor thread (sysmon).
func (w *waiter) poll() bool {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(w.epoll), uintptr(unsafe.Pointer(&w.events[0])), uintptr(len(w.events)), 0, 0, 0)
	if errno != 0 {
		w.arrived, w.err = 0, errno
		return true
	}
	w.arrived, w.err = int(n), nil
	return n > 0
}

// waitInThread is like wait, but blocks the thread, so that no other thread has to wake
// the goroutine. With long the thread gives up its processor (P) before it blocks.
func (w *waiter) waitInThread(until vrrp.Instant, long bool) error {
	if err := w.arm(until); err != nil {
		return err
	}
	if w.pollable != nil { // otherwise the netpoller would wake for each event too
		err := w.pollable.Close()
		w.pollable, w.raw = nil, nil
		if err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
	}
	look := w.block
	if long {
		look = w.blockLong
	}
	n, errno := look()
	for errno == unix.EINTR { // Go's scheduler sends signals
		n, errno = look()
	}
	if errno != 0 {
		return fmt.Errorf("epoll: %w", errno)
	}
	w.arrived = n
	w.noteTimer()
	return nil
}

// block waits for events.
func (w *waiter) block() (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(w.epoll), uintptr(unsafe.Pointer(&w.events[0])), uintptr(len(w.events)), forEver, 0, 0)
	return int(n), errno
}

// blockLong is like block, but the thread gives up its processor (P) first. Otherwise
// sysmon checks every 20 µs, for 10 ms, whether to take the processor away. The stack
// must not grow between the two runtime calls.
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

const forEver = ^uintptr(0) // epoll's timeout -1

// The runtime keeps these functions for packages that link to them (go.dev/issue/67401).
//
//go:linkname entersyscallblock runtime.entersyscallblock
func entersyscallblock()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()

// arm sets the timer to the given time.
func (w *waiter) arm(until vrrp.Instant) error {
	if w.armed && until == w.until {
		return nil
	}
	// 0 would disarm the timer. A time in the past fires at once.
	at := unix.NsecToTimespec(max(int64(until), 1))
	if err := unix.TimerfdSettime(w.timer, unix.TFD_TIMER_ABSTIME, &unix.ItimerSpec{Value: at}, nil); err != nil {
		return fmt.Errorf("timerfd: %w", err)
	}
	w.until, w.armed = until, true
	return nil
}

// noteTimer clears armed if the timer has fired.
func (w *waiter) noteTimer() {
	for _, e := range w.events[:w.arrived] {
		if int(e.Fd) == w.timer {
			w.armed = false // arm must set it again, even for the same time
		}
	}
}

// wake ends the current wait, or the next one. Any goroutine may call it.
func (w *waiter) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.woken >= 0 {
		// The counter is never read: only 2^64 writes would fill it.
		_, _ = unix.Write(w.woken, binary.NativeEndian.AppendUint64(nil, 1))
	}
}

func (w *waiter) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	if w.pollable != nil {
		errs = append(errs, w.pollable.Close())
		w.pollable = nil
	}
	for _, fd := range []int{w.epoll, w.timer, w.woken} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	w.epoll, w.timer, w.woken = -1, -1, -1
	return errors.Join(errs...)
}
