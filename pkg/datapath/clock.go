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

// clockEvery is how often the kernel's programs are told the time of day anew. Until
// then it is off by what the clock was slewed by, 5 ms at most.
const clockEvery = 10 * time.Second

// clock tells the kernel's programs the time of day, by which they judge whether an
// authenticated advertisement is old. They know CLOCK_MONOTONIC only. A step of the
// clock is told at once. While the process hangs nothing is told: the programs go on
// with the clock as it was, by which the others' advertisements were good before.
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
	if err := errors.Join(c.arm(fd), c.tell()); err != nil {
		return nil, errors.Join(err, c.timer.Close())
	}
	go c.run()
	return c, nil
}

// arm has the timer come in clockEvery, and when somebody sets the clock.
func (c *clock) arm(fd int) error {
	at := unix.NsecToTimespec(time.Now().Add(clockEvery).UnixNano())
	spec := unix.ItimerSpec{Value: at, Interval: unix.NsecToTimespec(int64(clockEvery))}
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &spec, nil); err != nil {
		return fmt.Errorf("timerfd: %w", err)
	}
	return nil
}

// tell tells the time.
func (c *clock) tell() error {
	if err := c.offset.Set(uint64(offsetNow())); err != nil {
		return fmt.Errorf("tell the time of day: %w", err)
	}
	return nil
}

// offsetNow is how far CLOCK_REALTIME is ahead of CLOCK_MONOTONIC.
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
		_ = c.tell() // it was possible at the start
	}
}

func (c *clock) close() error {
	err := c.timer.Close()
	<-c.done
	return err
}
