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

// routeInterval is the least time between two dumps of routes: there may be a million of
// them.
const routeInterval = 200 * time.Millisecond

// RouteMonitor tracks which of the watched routes exist. It ignores events for other routes,
// of which a routing daemon may change thousands in a second.
type RouteMonitor struct {
	handle  *Handle
	changes func()        // called when a watched route may have changed
	begin   chan struct{} // closed when the first route is watched

	mu     sync.Mutex
	wanted []routing.Sought
	there  map[routing.Sought]bool
	events *nl.NetlinkSocket // joins the groups when the first route is watched
}

// NewRouteMonitor returns a RouteMonitor for the network namespace of the calling thread. Run
// calls changes when a watched route may have changed; it must not block.
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
	// The timeout lets Run notice that its context has ended.
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

// Watch sets the routes to watch. It replaces those of earlier calls.
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

// Has reports whether a watched route exists and is usable.
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
		relevant, err := m.receive()
		if err != nil {
			return fmt.Errorf("receive route events: %w", err)
		}
		if !relevant {
			continue
		}
		for m.look() != nil && ctx.Err() == nil {
			pause(ctx, retryDelay)
		}
		m.changes()
		pause(ctx, routeInterval)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// receive waits for events until the socket's timeout, and reports whether one may be about
// a watched route.
func (m *RouteMonitor) receive() (bool, error) {
	messages, _, err := m.events.Receive()
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return false, nil
	case errors.Is(err, unix.ENOBUFS): // events were lost
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
		return true // an event of a link: IPv4 routes vanish with their link, without an event
	}), nil
}

// isAbout reports whether the message of a route is about a watched one.
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

// look dumps the tables of the watched routes, and records which of them exist.
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
				if w.Table == r.Table && matches(w, found) {
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

// matches reports whether a route of the kernel is the watched one and is usable: it is a
// unicast route, and the link of one of its next hops has a carrier.
func matches(r routing.Sought, found netlink.Route) bool {
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
