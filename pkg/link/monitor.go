// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// listInterval is the least time between two dumps of all interfaces. A burst of events
// leads to one dump at its beginning and one at its end.
const listInterval = 10 * time.Millisecond

// gatherTime is how long the monitor waits for more addresses after a new one. A router that
// becomes Active may add hundreds, and dumping all of them repeatedly delays the rest.
const gatherTime = 100 * time.Millisecond

// restFactor limits the processor time of dumps: after a dump the monitor pauses for
// restFactor times its duration, at most gatherTime. Without it, hundreds of interfaces that
// change all the time would keep a processor busy.
const restFactor = 4

// deferTime is how long a change of interfaces that nobody watches may wait for the next
// dump. On a host with containers, interfaces come and go all the time.
const deferTime = 2 * time.Second

// eventBuffer is the size of the socket's receive buffer in octets. It holds the events that
// arrive between two reads.
const eventBuffer = 4 << 20

// eventSize is the size of the buffer for one event in octets. A longer event is truncated,
// which does no harm.
const eventSize = 32 << 10

// retryDelay is the pause after a dump that failed.
const retryDelay = 100 * time.Millisecond

// Monitor keeps a current picture of the interfaces. An event only tells that something has
// changed. The picture is always a complete dump, so a lost event only delays the picture
// until the next event.
type Monitor struct {
	handle  *Handle
	events  *nl.NetlinkSocket
	changes chan struct{}

	ended map[int]int // by index, the number of interfaces that have been removed

	mu          sync.Mutex
	snapshot    []Interface
	begun       time.Time // when the dump of the snapshot began
	subscribers []func()
	watchers    map[string][]string // the names that each caller of Watch watches
	watched     map[string]bool     // the union of watchers; nil: all interfaces are watched
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
	// An error only leaves the buffer smaller. Lost events lead to a dump too.
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

// Changes delivers a value when the picture may have changed.
func (m *Monitor) Changes() <-chan struct{} { return m.changes }

// Subscribe makes Run call f when the picture may have changed. f must not block.
func (m *Monitor) Subscribe(f func()) {
	m.mu.Lock()
	m.subscribers = append(m.subscribers, f)
	m.mu.Unlock()
}

// Watch sets the names of the interfaces that a caller watches; who identifies the caller. A
// change of a watched interface, or of one above or below it, leads to a new picture at once.
// So does a change of any address that isn't IPv6 link-local. All other changes may wait for
// deferTime. Before the first call of Watch all interfaces are watched.
func (m *Monitor) Watch(who string, names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watchers == nil {
		m.watchers = make(map[string][]string)
	}
	m.watchers[who] = names
	m.watched = make(map[string]bool)
	for _, names := range m.watchers {
		for _, n := range names {
			m.watched[n] = true
		}
	}
}

// Snapshot returns the current picture. The caller must not modify it.
func (m *Monitor) Snapshot() []Interface {
	all, _ := m.Picture()
	return all
}

// Picture returns the current picture, and when its dump began: the picture has all changes
// that were made before.
func (m *Monitor) Picture() (all []Interface, begun time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.snapshot, m.begun
}

// Run follows the interfaces until ctx ends, which is not an error.
func (m *Monitor) Run(ctx context.Context) error {
	// The netlink package's Receive isn't used, because it notices the end of ctx only by
	// timing out regularly.
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
	waiting := false // deferred events are pending
	until := func(t time.Time) {
		_ = events.SetReadDeadline(t)
		if ctx.Err() != nil {
			_ = events.SetReadDeadline(time.Unix(1, 0)) // AfterFunc may have set its deadline before
		}
	}
	for ctx.Err() == nil {
		var received error
		err := conn.Read(func(fd uintptr) bool {
			_, _, received = unix.Recvfrom(int(fd), nil, unix.MSG_DONTWAIT|unix.MSG_PEEK)
			return !errors.Is(received, unix.EAGAIN)
		})
		pending := idle
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			pending = immediate
		case err == nil:
			err = received
		}
		switch {
		case pending != idle:
		case errors.Is(err, unix.ENOBUFS): // events were lost
			pending = immediate
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("receive interface events: %w", err)
		default:
			if pending, err = m.discard(); err != nil {
				return err
			}
		}
		if pending <= deferred {
			if pending == deferred && !waiting {
				waiting = true
				until(time.Now().Add(deferTime))
			}
			continue
		}
		for waited := time.Duration(0); pending < immediate && waited < gatherTime && ctx.Err() == nil; waited += listInterval {
			pause(ctx, listInterval)
			more, err := m.discard()
			if err != nil {
				return err
			}
			pending = max(pending, more)
		}
		if waiting {
			waiting = false
			until(time.Time{})
		}
		began := time.Now()
		for m.look() != nil && ctx.Err() == nil {
			// Keep the old picture and try again.
			pause(ctx, retryDelay)
			began = time.Now()
		}
		pause(ctx, max(listInterval, min(gatherTime, restFactor*time.Since(began))))
	}
	return nil
}

// urgency says how soon events have to lead to a new picture.
type urgency int

const (
	idle      urgency = iota // no events
	deferred                 // within deferTime: changes of interfaces that nobody watches
	gathered                 // within gatherTime: new addresses, of which more may follow
	immediate                // at once
)

// look takes a new picture and notifies the subscribers.
func (m *Monitor) look() error {
	// The coming dump includes all events that are queued now.
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
	subscribers := m.subscribers
	m.mu.Unlock()
	for _, f := range subscribers {
		f()
	}
	select {
	case m.changes <- struct{}{}:
	default:
	}
	return nil
}

// discard reads all queued events and returns the highest urgency of them.
func (m *Monitor) discard() (all urgency, err error) {
	message := make([]byte, eventSize)
	for {
		n, _, err := unix.Recvfrom(m.events.GetFd(), message, unix.MSG_DONTWAIT)
		switch {
		case err == nil:
			all = max(all, m.classify(message[:n]))
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOBUFS):
			all = immediate
		case errors.Is(err, unix.EAGAIN):
			return all, nil
		default:
			return all, fmt.Errorf("receive interface events: %w", err)
		}
	}
}

// classify returns the urgency of an event.
func (m *Monitor) classify(message []byte) urgency {
	if len(message) < unix.SizeofNlMsghdr+unix.SizeofIfAddrmsg {
		return immediate
	}
	body := message[unix.SizeofNlMsghdr:]
	switch kind := binary.NativeEndian.Uint16(message[4:]); kind { // nlmsg_type
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		address := nl.DeserializeIfAddrmsg(body)
		if !m.watches(int(address.Index)) && linkLocal(body) {
			return deferred
		}
		if kind == unix.RTM_NEWADDR {
			return gathered
		}
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if len(body) < unix.SizeofIfInfomsg {
			return immediate
		}
		l := nl.DeserializeIfInfomsg(body)
		// The event for a port that leaves its bridge has a family. Only the one for a
		// removed interface has none.
		if kind == unix.RTM_DELLINK && l.Family == unix.AF_UNSPEC {
			m.ended[int(l.Index)]++
		}
		if !m.watches(int(l.Index)) && !m.watchesAttributes(body[unix.SizeofIfInfomsg:]) {
			return deferred
		}
	}
	return immediate
}

// linkLocal reports whether an event is about an IPv6 link-local address.
func linkLocal(body []byte) bool {
	attributes, err := nl.ParseRouteAttr(body[unix.SizeofIfAddrmsg:])
	if err != nil {
		return false
	}
	for _, a := range attributes {
		if a.Attr.Type == unix.IFA_ADDRESS {
			ip, ok := netip.AddrFromSlice(a.Value)
			return ok && ip.Is6() && ip.IsLinkLocalUnicast()
		}
	}
	return false
}

// watchesAttributes reports whether an interface is watched, judged by the attributes of its
// event: its name, its parent and its master.
func (m *Monitor) watchesAttributes(body []byte) bool {
	attributes, err := nl.ParseRouteAttr(body)
	if err != nil {
		return true
	}
	related := make(map[uint16]int)
	for _, a := range attributes {
		switch a.Attr.Type {
		case unix.IFLA_IFNAME:
			m.mu.Lock()
			watched := m.watched[unix.ByteSliceToString(a.Value)]
			m.mu.Unlock()
			if watched {
				return true
			}
		case unix.IFLA_LINK, unix.IFLA_MASTER, unix.IFLA_LINK_NETNSID:
			if len(a.Value) == 4 {
				related[a.Attr.Type] = int(binary.NativeEndian.Uint32(a.Value))
			}
		}
	}
	if _, elsewhere := related[unix.IFLA_LINK_NETNSID]; elsewhere {
		delete(related, unix.IFLA_LINK)
	}
	delete(related, unix.IFLA_LINK_NETNSID)
	for _, ifindex := range related {
		if m.watches(ifindex) {
			return true
		}
	}
	return false
}

// watches reports whether an interface, or one above or below it, is watched. It judges by
// the last picture.
func (m *Monitor) watches(ifindex int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watched == nil {
		return true
	}
	for n := range m.snapshot {
		i := &m.snapshot[n]
		if ifindex != 0 && m.watched[i.Name] && (i.Index == ifindex || i.Master == ifindex || i.Parent == ifindex) {
			return true
		}
	}
	return false
}
