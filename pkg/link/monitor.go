// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// pace is the least time between two listings of all interfaces: a burst of
// events is looked at once at its beginning and once at its end.
const pace = 10 * time.Millisecond

// gather is how long more new addresses are waited for after one: a router that becomes
// Active may have hundreds, and listing them again and again delays those to come.
const gather = 100 * time.Millisecond

// restTimes is how many times as long as a listing took there is none: with hundreds of
// interfaces that change all the time it would take a processor.
const restTimes = 4

// eventBuffer is for the events, in octets, that come while they aren't looked at.
const eventBuffer = 4 << 20

// retry is how long to wait after a listing that failed.
const retry = 100 * time.Millisecond

// Monitor keeps a current picture of the interfaces. An event only says that
// something changed; the picture itself is always a complete listing, so a
// lost event costs nothing but the time until the next one.
type Monitor struct {
	handle  *Handle
	events  *nl.NetlinkSocket
	changes chan struct{}

	ended map[int]int // how many interfaces of an index have been removed

	mu       sync.Mutex
	snapshot []Interface
	begun    time.Time // the picture
	told     []func()
}

// NewMonitor subscribes to changes and takes the first picture.
func NewMonitor() (*Monitor, error) {
	handle, err := NewHandle()
	if err != nil {
		return nil, err
	}
	events, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		handle.Close()
		return nil, fmt.Errorf("subscribe to interface events: %w", err)
	}
	m := &Monitor{handle: handle, events: events, changes: make(chan struct{}, 1), ended: make(map[int]int), begun: time.Now()}
	// What doesn't fit is looked for all the same.
	_ = unix.SetsockoptInt(events.GetFd(), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, eventBuffer)
	if m.snapshot, err = handle.Interfaces(); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// Close closes the sockets. Run must have returned, or never been called.
func (m *Monitor) Close() {
	m.events.Close()
	m.handle.Close()
}

// Changes delivers a value after the picture may have changed.
func (m *Monitor) Changes() <-chan struct{} { return m.changes }

// Tell has f called, too, after the picture may have changed. It must not wait.
func (m *Monitor) Tell(f func()) {
	m.mu.Lock()
	m.told = append(m.told, f)
	m.mu.Unlock()
}

// Snapshot returns the current picture. It must not be modified.
func (m *Monitor) Snapshot() []Interface {
	all, _ := m.Picture()
	return all
}

// Picture returns Snapshot's, and when it was begun: what was so before is in it.
func (m *Monitor) Picture() (all []Interface, begun time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.snapshot, m.begun
}

// Run follows the interfaces until ctx ends, which is not an error.
func (m *Monitor) Run(ctx context.Context) error {
	// The netlink package's Receive would have to end now and then to notice ctx.
	fd, err := unix.FcntlInt(uintptr(m.events.GetFd()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("receive interface events: %w", err)
	}
	events := os.NewFile(uintptr(fd), "netlink")
	defer func() { _ = events.Close() }()
	conn, err := events.SyscallConn()
	if err != nil {
		return fmt.Errorf("receive interface events: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = events.SetReadDeadline(time.Unix(1, 0)) })()
	for ctx.Err() == nil {
		var received error
		err := conn.Read(func(fd uintptr) bool {
			_, _, received = unix.Recvfrom(int(fd), nil, unix.MSG_DONTWAIT|unix.MSG_PEEK)
			return !errors.Is(received, unix.EAGAIN)
		})
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case err == nil:
			err = received
		}
		more := errors.Is(err, unix.ENOBUFS) // events lost: look all the same
		if err != nil && !more && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("receive interface events: %w", err)
		}
		for waited := time.Duration(0); !more && waited < gather && ctx.Err() == nil; waited += pace {
			if more, err = m.discard(); err != nil {
				return err
			}
			if !more {
				pause(ctx, pace)
			}
		}
		began := time.Now()
		for m.look() != nil && ctx.Err() == nil {
			// The last picture is better than none; it will be possible again.
			pause(ctx, retry)
			began = time.Now()
		}
		pause(ctx, max(pace, min(gather, restTimes*time.Since(began))))
	}
	return nil
}

func (m *Monitor) look() error {
	// Everything that is already queued is part of the coming picture.
	if _, err := m.discard(); err != nil {
		return err
	}
	begun := time.Now()
	all, err := m.handle.Interfaces()
	if err != nil {
		return err
	}
	for n := range all {
		all[n].Generation = m.ended[all[n].Index]
	}
	m.mu.Lock()
	m.snapshot, m.begun = all, begun
	told := m.told
	m.mu.Unlock()
	for _, f := range told {
		f()
	}
	select {
	case m.changes <- struct{}{}:
	default:
	}
	return nil
}

// discard takes the events that are there, and reports whether one of them was another
// one than of a new address, or may have been.
func (m *Monitor) discard() (more bool, err error) {
	var message [unix.SizeofNlMsghdr + unix.SizeofIfInfomsg]byte
	for {
		n, _, err := unix.Recvfrom(m.events.GetFd(), message[:], unix.MSG_DONTWAIT)
		switch {
		case err == nil:
			kind := binary.NativeEndian.Uint16(message[4:]) // nlmsg_type
			more = more || n < unix.SizeofNlMsghdr || kind != unix.RTM_NEWADDR
			// A bridge's port that is one no longer has a family.
			if kind == unix.RTM_DELLINK && n == len(message) && message[unix.SizeofNlMsghdr] == unix.AF_UNSPEC {
				m.ended[int(int32(binary.NativeEndian.Uint32(message[unix.SizeofNlMsghdr+4:])))]++
			}
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOBUFS):
			more = true
		case errors.Is(err, unix.EAGAIN):
			return more, nil
		default:
			return more, fmt.Errorf("receive interface events: %w", err)
		}
	}
}
