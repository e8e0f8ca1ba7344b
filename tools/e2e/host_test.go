// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"

	"github.com/failoverd/failoverd/tools/lab"

	"github.com/vishvananda/netlink"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/transmit"
)

// An address that is on another interface keeps its router waiting, and no other router. On an
// interface that answers no ARP the fence is enough.
func TestAddressElsewhere(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, err := s.lan.Connect(s.a, "eth1", "203.0.113.9/24", "198.18.0.30/25")
	s.ok(err)
	s.ok(s.a.AddAddress("lo", "198.18.0.20/32"))
	a := s.withFile(s.a, `
routers:
  - {name: one, interface: eth0, vrid: 51, interval: 100ms, addresses: [198.18.0.10/24]}
  - {name: silent, interface: eth0, vrid: 52, interval: 100ms, addresses: [198.18.0.20/24]}
  - {name: elsewhere, interface: eth0, vrid: 53, interval: 100ms, addresses: [198.18.0.30/24]}
`)
	a.router("one", "ipv4", inState("Active"))
	a.router("silent", "ipv4", inState("Active"))
	remedy := "ip addr del 198.18.0.30/25 dev eth1"
	a.router("elsewhere", "ipv4", func(r control.Router) bool {
		return r.State == "Initialize" && strings.Contains(r.Waiting, remedy)
	})
	_, err = a.WaitLine(s.ctx, 0, func(l string) bool { return strings.Contains(l, "198.18.0.20 is also on lo") })
	s.ok(err)
	_, err = s.a.Run(s.ctx, "sh", "-c", remedy)
	s.ok(err)
	a.router("elsewhere", "ipv4", inState("Active"))
	s.pinged(s.c, "198.18.0.10", "198.18.0.20", "198.18.0.30")
}

// After its MTU was too low for IPv6 for a moment, an interface is a member of the multicast group
// again.
func TestMemberAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.withFile(s.a, `
routers:
  - {name: web, interface: eth0, vrid: 51, interval: 100ms, addresses: ["2001:db8::10/64"]}
`)
	a.router("web", "ipv6", inState("Active"))
	eth0, err := s.a.Netlink().LinkByName(ifname)
	s.ok(err)
	s.ok(s.a.Netlink().LinkSetMTU(eth0, 1200))
	a.router("web", "ipv6", inState("Initialize"))
	s.ok(s.a.Netlink().LinkSetMTU(eth0, 1500))
	for _, address := range lab.Addresses(1)[1:] { // the kernel removed them with IPv6
		s.ok(s.a.AddAddress(ifname, address))
	}
	a.router("web", "ipv6", inState("Active"))
	s.until("is a member again", func() (member bool) {
		s.ok(s.a.Do(func() error {
			members, err := transmit.Members(packet.IPv6)
			member = members[eth0.Attrs().Index]
			return err
		}))
		return member
	})
}

// On a container's macvlan, which receives frames to its own MAC only, auto uses no virtual MAC
// and says why.
func TestOnMacvlan(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	eth0, err := s.a.Netlink().LinkByName(ifname)
	s.ok(err)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = "mv0", eth0.Attrs().Index
	s.ok(s.a.Netlink().LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}))
	for _, address := range lab.Addresses(1) {
		s.ok(s.a.RemoveAddress(ifname, address))
	}
	s.ok(s.a.SetUp("mv0"))
	s.ok(s.a.AddAddress("mv0", lab.Addresses(1)[0]))
	a := s.withFile(s.a, "routers: [{name: web, interface: mv0, vrid: 51, interval: 100ms, addresses: [198.18.0.10/24]}]\n")
	r := a.router("web", "ipv4", inState("Active"))
	if r.VirtualMAC != "off" {
		t.Errorf("virtual MAC %s", r.VirtualMAC)
	}
	_, err = a.WaitLine(s.ctx, 0, func(l string) bool { return strings.Contains(l, "mv0 is a macvlan") })
	s.ok(err)
	s.pinged(s.c, "198.18.0.10")
}

// An interface without MAC addresses is refused, and the error names it. No frame is sent.
func TestWithoutMACs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, err := s.a.Run(s.ctx, "ip", "tuntap", "add", "tun0", "mode", "tun")
	s.ok(err)
	s.ok(s.a.SetUp("tun0"))
	s.ok(s.a.AddAddress("tun0", "203.0.113.1/24"))
	f := s.failoverd(s.a, "--iface", "tun0", "--vip", "203.0.113.10/24", "--peer", "203.0.113.2")
	code, err := f.Wait(s.ctx)
	s.ok(err)
	if code == 0 || !strings.Contains(f.Output(), "tun0 (tuntap) has no MAC addresses") {
		t.Errorf("exit code %d: %s", code, f.Output())
	}
}
