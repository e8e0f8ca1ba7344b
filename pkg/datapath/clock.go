// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// clockInterval is the interval at which the offset between the clocks is measured again.
// In between it is wrong by as much as the kernel slews the clock, at most 5 ms.
const clockInterval = 10 * time.Second

// clock keeps failover_clock current: the offset from CLOCK_MONOTONIC, the only clock that
// the kernel's programs can read, to the time of day. They need it to refuse authenticated
// advertisements that are too old. A step of the clock updates the offset at once. While
// the process hangs the offset stays the same, so advertisements that were accepted before
// still are.
type clock struct {
	offset *ebpf.Variable
	timer  *os.File
	done   chan struct{}
}

func newClock(offset *ebpf.Variable) (*clock, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("timerfd: %w", err)
	}
	c := &clock{offset: offset, timer: os.NewFile(uintptr(fd), "timerfd"), done: make(chan struct{})}
	if err := errors.Join(c.arm(fd), c.update()); err != nil {
		return nil, errors.Join(err, c.timer.Close())
	}
	go c.run()
	return c, nil
}

// arm sets the timer to fire after each clockInterval. A step of the clock ends a read
// of the timer with ECANCELED.
func (c *clock) arm(fd int) error {
	at := unix.NsecToTimespec(time.Now().Add(clockInterval).UnixNano())
	spec := unix.ItimerSpec{Value: at, Interval: unix.NsecToTimespec(int64(clockInterval))}
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &spec, nil); err != nil {
		return fmt.Errorf("timerfd: %w", err)
	}
	return nil
}

// update writes the current offset.
func (c *clock) update() error {
	if err := c.offset.Set(uint64(offsetNow())); err != nil {
		return fmt.Errorf("set failover_clock: %w", err)
	}
	return nil
}

// offsetNow returns CLOCK_REALTIME minus CLOCK_MONOTONIC, in nanoseconds.
func offsetNow() int64 {
	var real unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_REALTIME, &real)
	return real.Nano() - int64(monotonic())
}

func (c *clock) run() {
	defer close(c.done)
	var expirations [8]byte
	for {
		_, err := c.timer.Read(expirations[:])
		if errors.Is(err, unix.ECANCELED) { // the clock was set
			if raw, rawErr := c.timer.SyscallConn(); rawErr == nil {
				_ = raw.Control(func(fd uintptr) { err = c.arm(int(fd)) })
			}
		}
		if err != nil {
			return
		}
		_ = c.update() // newClock has shown that it works
	}
}

func (c *clock) close() error {
	err := c.timer.Close()
	<-c.done
	return err
}
