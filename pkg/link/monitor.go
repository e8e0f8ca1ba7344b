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

// pace is the least time between two listings of all interfaces: a burst of
// events is looked at once at its beginning and once at its end.
const pace = 10 * time.Millisecond

// gather is how long more new addresses are waited for after one: a router that becomes
// Active may have hundreds, and listing them again and again delays those to come.
const gather = 100 * time.Millisecond

// restTimes is how many times as long as a listing took there is none: with hundreds of
// interfaces that change all the time it would take a processor.
const restTimes = 4

// lazily is how much later a change is looked at that concerns none of the interfaces that
// somebody has asked for with Watch. On a host with containers, interfaces come and go all
// the time.
const lazily = 2 * time.Second

// eventBuffer is for the events, in octets, that come while they aren't looked at.
const eventBuffer = 4 << 20

// eventSize is for one of them; one that is longer is cut, and looked at all the same.
const eventSize = 32 << 10

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
	watchers map[string][]string
	watched  map[string]bool // the names of all of them; nil: all interfaces are
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

// Subscribe has f called, too, after the picture may have changed. It must not wait.
func (m *Monitor) Subscribe(f func()) {
	m.mu.Lock()
	m.told = append(m.told, f)
	m.mu.Unlock()
}

// Watch says which interfaces somebody is interested in: a change of them, or of those
// above and below them, is looked at as soon as it comes. So is a change of an address,
// except for IPv6 link-local ones; everything else is looked at a little later. Until
// somebody watches, all interfaces are watched.
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
	waiting := false // for lazily to be over
	until := func(t time.Time) {
		_ = events.SetReadDeadline(t)
		if ctx.Err() != nil {
			_ = events.SetReadDeadline(time.Unix(1, 0)) // this one may have come before
		}
	}
	for ctx.Err() == nil {
		var received error
		err := conn.Read(func(fd uintptr) bool {
			_, _, received = unix.Recvfrom(int(fd), nil, unix.MSG_DONTWAIT|unix.MSG_PEEK)
			return !errors.Is(received, unix.EAGAIN)
		})
		haste := none
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			haste = soon
		case err == nil:
			err = received
		}
		switch {
		case haste != none:
		case errors.Is(err, unix.ENOBUFS): // events lost: look all the same
			haste = soon
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("receive interface events: %w", err)
		default:
			if haste, err = m.discard(); err != nil {
				return err
			}
		}
		if haste <= late {
			if haste == late && !waiting {
				waiting = true
				until(time.Now().Add(lazily))
			}
			continue
		}
		for waited := time.Duration(0); haste < soon && waited < gather && ctx.Err() == nil; waited += pace {
			pause(ctx, pace)
			more, err := m.discard()
			if err != nil {
				return err
			}
			haste = max(haste, more)
		}
		if waiting {
			waiting = false
			until(time.Time{})
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

// How soon events are looked at.
type haste int

const (
	none  haste = iota // there were none
	late               // of interfaces that nobody watches
	burst              // of new addresses, of which there may be more
	soon
)

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

// discard takes the events that are there, and says how soon they are to be looked at.
func (m *Monitor) discard() (all haste, err error) {
	message := make([]byte, eventSize)
	for {
		n, _, err := unix.Recvfrom(m.events.GetFd(), message, unix.MSG_DONTWAIT)
		switch {
		case err == nil:
			all = max(all, m.judge(message[:n]))
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOBUFS):
			all = soon
		case errors.Is(err, unix.EAGAIN):
			return all, nil
		default:
			return all, fmt.Errorf("receive interface events: %w", err)
		}
	}
}

// judge says how soon an event is to be looked at.
func (m *Monitor) judge(message []byte) haste {
	if len(message) < unix.SizeofNlMsghdr+unix.SizeofIfAddrmsg {
		return soon
	}
	body := message[unix.SizeofNlMsghdr:]
	switch kind := binary.NativeEndian.Uint16(message[4:]); kind { // nlmsg_type
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		address := nl.DeserializeIfAddrmsg(body)
		if !m.concerns(int(address.Index)) && linkLocal(body) {
			return late
		}
		if kind == unix.RTM_NEWADDR {
			return burst
		}
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if len(body) < unix.SizeofIfInfomsg {
			return soon
		}
		l := nl.DeserializeIfInfomsg(body)
		// A bridge's port that is one no longer has a family.
		if kind == unix.RTM_DELLINK && l.Family == unix.AF_UNSPEC {
			m.ended[int(l.Index)]++
		}
		if !m.concerns(int(l.Index)) && !m.concernsAttributes(body[unix.SizeofIfInfomsg:]) {
			return late
		}
	}
	return soon
}

// linkLocal reports whether the address of an event is an IPv6 link-local one.
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

// concernsAttributes reports whether somebody watches an interface by what an event says of
// it: its name, or those above and below it.
func (m *Monitor) concernsAttributes(body []byte) bool {
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
		if m.concerns(ifindex) {
			return true
		}
	}
	return false
}

// concerns reports whether somebody watches an interface, as the last picture has it, or one
// that is above or below it.
func (m *Monitor) concerns(ifindex int) bool {
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
