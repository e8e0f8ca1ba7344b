// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The RouteMonitor notices routes that appear and vanish, whatever the cause.
func TestRoutes(t *testing.T) {
	n, port, _ := newHost(t, "198.51.100.1/24", "2001:db8::1/64")
	changed := make(chan struct{}, 1)
	var m *RouteMonitor
	err := n.Do(func() (err error) {
		m, err = NewRouteMonitor(func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	var done sync.WaitGroup
	done.Go(func() {
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer func() { cancel(); done.Wait(); m.Close() }()

	key := func(prefix, via string, table int) routing.Sought {
		r := routing.Sought{Prefix: netip.MustParsePrefix(prefix), Table: table}
		if via != "" {
			r.Via = netip.MustParseAddr(via)
		}
		return r
	}
	net4, other, defaults, six, table := key("10.7.0.0/16", "", 254), key("10.7.0.0/16", "198.51.100.9", 254), key("0.0.0.0/0", "", 254), key("2001:db8:7::/48", "2001:db8::9", 254), key("10.8.0.0/16", "", 100)
	if err := m.Watch([]routing.Sought{net4, other, defaults, six, table}); err != nil {
		t.Fatal(err)
	}
	ip := func(line string) {
		t.Helper()
		if out, err := n.Run(ctx, "ip", strings.Fields(line)...); err != nil {
			t.Fatalf("ip %s: %v: %s", line, err, out)
		}
	}
	has := func(want bool, routes ...routing.Sought) {
		t.Helper()
		for _, r := range routes {
			for m.Has(r) != want {
				select {
				case <-changed:
				case <-ctx.Done():
					t.Fatalf("%+v is there: %t", r, !want)
				}
			}
		}
	}
	has(false, net4, other, defaults, six, table)
	ip("route add 10.7.0.0/16 via 198.51.100.8")
	ip("-6 route add 2001:db8:7::/48 via 2001:db8::9")
	ip("route add 10.8.0.0/16 via 198.51.100.8 table 100")
	ip("route add default dev eth0")
	has(true, net4, six, table, defaults)
	has(false, other)
	// Older versions of ip don't support these.
	replace := func(r *netlink.Route, prefix string) {
		t.Helper()
		var err error
		if r.Dst, err = netlink.ParseIPNet(prefix); err == nil {
			err = n.Netlink().RouteReplace(r)
		}
		if err != nil {
			t.Fatalf("replace the route to %s: %v", prefix, err)
		}
	}
	device, err := n.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	index := device.Attrs().Index
	replace(&netlink.Route{MultiPath: []*netlink.NexthopInfo{
		{LinkIndex: index, Gw: net.IPv4(198, 51, 100, 8)}, {LinkIndex: index, Gw: net.IPv4(198, 51, 100, 9)},
	}}, "10.7.0.0/16")
	has(true, net4, other)
	replace(&netlink.Route{Type: unix.RTN_UNREACHABLE, Table: 100}, "10.8.0.0/16")
	has(false, table)

	// Without a carrier the routes stay in the table, but aren't usable.
	if err := port.Pull(); err != nil {
		t.Fatal(err)
	}
	has(false, net4, other, defaults)
	if err := port.Plug(); err != nil {
		t.Fatal(err)
	}
	has(true, net4, other, defaults)
	// IPv4 routes vanish with the interface, without an event.
	if err := n.SetDown("eth0"); err != nil {
		t.Fatal(err)
	}
	has(false, net4, other, defaults, six)
	if err := m.Watch(nil); err != nil {
		t.Fatal(err)
	}
	if err := m.Watch([]routing.Sought{table}); err != nil || m.Has(table) {
		t.Errorf("an unreachable route is there, %v", err)
	}
}
