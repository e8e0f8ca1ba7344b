// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// routePace is the least time between two listings of routes: there may be a
// million of them.
const routePace = 200 * time.Millisecond

// RouteMonitor knows which of some routes are there. A routing daemon may change
// thousands of others in a second: they are looked past.
type RouteMonitor struct {
	handle  *Handle
	changes func()        // is called when the picture may have changed
	begin   chan struct{} // closed when there is a route to look for

	mu     sync.Mutex
	wanted []routing.Sought
	there  map[routing.Sought]bool
	events *nl.NetlinkSocket // once a route is wanted
}

// NewRouteMonitor opens what a RouteMonitor needs in the network namespace of the
// calling thread. Changes is called after some of the routes may have changed; it
// must not wait.
func NewRouteMonitor(changes func()) (*RouteMonitor, error) {
	handle, err := NewHandle()
	if err != nil {
		return nil, err
	}
	events, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		handle.Close()
		return nil, fmt.Errorf("subscribe to route events: %w", err)
	}
	m := &RouteMonitor{handle: handle, changes: changes, begin: make(chan struct{}), events: events}
	// A receive that ends now and then is how Run notices its context.
	if err := events.SetReceiveTimeout(&unix.Timeval{Usec: 200_000}); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// Close closes the sockets. Run must have returned, or never been called.
func (m *RouteMonitor) Close() {
	m.events.Close()
	m.handle.Close()
}

// Watch has these routes looked for, and no others.
func (m *RouteMonitor) Watch(wanted []routing.Sought) error {
	m.mu.Lock()
	same := slices.Equal(m.wanted, wanted)
	m.wanted = slices.Clone(wanted)
	first := len(wanted) > 0 && m.there == nil
	m.mu.Unlock()
	if first {
		for _, group := range []int{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE} {
			if err := unix.SetsockoptInt(m.events.GetFd(), unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group); err != nil {
				return fmt.Errorf("subscribe to route events: %w", err)
			}
		}
	}
	if len(wanted) == 0 || same {
		return nil
	}
	if err := m.look(); err != nil {
		return err
	}
	if first {
		close(m.begin)
	}
	return nil
}

// Has reports whether a route that is watched is there.
func (m *RouteMonitor) Has(r routing.Sought) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.there[r]
}

// Run follows the routes until ctx ends, which is not an error.
func (m *RouteMonitor) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-m.begin:
	}
	for ctx.Err() == nil {
		concerns, err := m.receive()
		if err != nil {
			return fmt.Errorf("receive route events: %w", err)
		}
		if !concerns {
			continue
		}
		for m.look() != nil && ctx.Err() == nil {
			pause(ctx, retry)
		}
		m.changes()
		pause(ctx, routePace)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// receive waits for events for a while, and reports whether one may be about a
// route that is looked for.
func (m *RouteMonitor) receive() (bool, error) {
	messages, _, err := m.events.Receive()
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return false, nil
	case errors.Is(err, unix.ENOBUFS): // events lost: look all the same
		return true, nil
	case err != nil:
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(messages, func(msg syscall.NetlinkMessage) bool {
		switch msg.Header.Type {
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			return m.isAbout(msg.Data)
		}
		return true // an IPv4 route goes with its link, without a word
	}), nil
}

// isAbout reports whether a route's message is about one that is looked for.
func (m *RouteMonitor) isAbout(data []byte) bool {
	if len(data) < unix.SizeofRtMsg {
		return true
	}
	msg := nl.DeserializeRtMsg(data)
	return slices.ContainsFunc(m.wanted, func(r routing.Sought) bool {
		if r.Prefix.Bits() != int(msg.Dst_len) || (msg.Family == unix.AF_INET) != r.Prefix.Addr().Is4() {
			return false
		}
		attrs, err := nl.ParseRouteAttr(data[unix.SizeofRtMsg:])
		if err != nil {
			return true
		}
		for _, a := range attrs {
			if a.Attr.Type == unix.RTA_DST {
				dst, _ := netip.AddrFromSlice(a.Value)
				return dst == r.Prefix.Addr()
			}
		}
		return r.Prefix.Bits() == 0
	})
}

// look finds out which of the routes are there.
func (m *RouteMonitor) look() error {
	m.mu.Lock()
	wanted := slices.Clone(m.wanted)
	m.mu.Unlock()
	there := make(map[routing.Sought]bool)
	for i, r := range wanted {
		asked := slices.ContainsFunc(wanted[:i], func(o routing.Sought) bool {
			return o.Table == r.Table && o.Prefix.Addr().Is4() == r.Prefix.Addr().Is4()
		})
		if asked {
			continue
		}
		family := netlink.FAMILY_V6
		if r.Prefix.Addr().Is4() {
			family = netlink.FAMILY_V4
		}
		err := m.handle.h.RouteListFilteredIter(family, &netlink.Route{Table: r.Table}, netlink.RT_FILTER_TABLE, func(found netlink.Route) bool {
			for _, w := range wanted {
				if w.Table == r.Table && is(w, found) {
					there[w] = true
				}
			}
			return true
		})
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("list routes: %w", err)
		}
	}
	m.mu.Lock()
	m.there = there
	m.mu.Unlock()
	return nil
}

// is reports whether a route of the kernel's is the one that is looked for, and
// can be used: it forwards, and one of its links has a carrier.
func is(r routing.Sought, found netlink.Route) bool {
	prefix := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if found.Family == unix.AF_INET6 {
		prefix = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if found.Dst != nil {
		a, _ := netip.AddrFromSlice(found.Dst.IP)
		bits, _ := found.Dst.Mask.Size()
		prefix = netip.PrefixFrom(a.Unmap(), bits)
	}
	if prefix != r.Prefix || found.Type != unix.RTN_UNICAST {
		return false
	}
	hops := found.MultiPath
	if len(hops) == 0 {
		hops = []*netlink.NexthopInfo{{Gw: found.Gw, Flags: found.Flags}}
	}
	return slices.ContainsFunc(hops, func(h *netlink.NexthopInfo) bool {
		if h.Flags&(unix.RTNH_F_DEAD|unix.RTNH_F_LINKDOWN) != 0 {
			return false
		}
		gateway, _ := netip.AddrFromSlice(h.Gw)
		return !r.Via.IsValid() || gateway.Unmap() == r.Via
	})
}
