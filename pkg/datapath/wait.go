// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

// waiter waits on file descriptors and for a time, in the thread of its caller: Go's
// own timers may be a millisecond late, and whoever waits for a channel is woken by
// way of other threads.
type waiter struct {
	epoll, timer int
	events       [16]unix.EpollEvent
	until        vrrp.Instant // what the timer is set to
	armed        bool         // and it hasn't come yet

	mu    sync.Mutex // against a wake after the end, which would go to whoever has the descriptor then
	woken int
}

func newWaiter() (w *waiter, err error) {
	w = &waiter{epoll: -1, timer: -1, woken: -1}
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
// at the latest.
func (w *waiter) wait(until vrrp.Instant) error {
	if !w.armed || until != w.until {
		// A time of 0 would disarm it; what is past is over at once.
		at := unix.NsecToTimespec(max(int64(until), 1))
		if err := unix.TimerfdSettime(w.timer, unix.TFD_TIMER_ABSTIME, &unix.ItimerSpec{Value: at}, nil); err != nil {
			return fmt.Errorf("timerfd: %w", err)
		}
		w.until, w.armed = until, true
	}
	n, err := unix.EpollWait(w.epoll, w.events[:], -1)
	for errors.Is(err, unix.EINTR) { // by a signal of Go's scheduler
		n, err = unix.EpollWait(w.epoll, w.events[:], -1)
	}
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	for _, e := range w.events[:n] {
		if int(e.Fd) == w.timer {
			w.armed = false // it has to be set again, also to the same time
		}
	}
	return nil
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
	for _, fd := range []int{w.epoll, w.timer, w.woken} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	w.epoll, w.timer, w.woken = -1, -1, -1
	return errors.Join(errs...)
}
