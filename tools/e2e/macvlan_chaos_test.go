// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"testing"

	"github.com/failoverd/failoverd/tools/lab"
)

// An Active on a macvlan hears a router that preempts it and sends from the same virtual MAC, with
// every way to receive.
func TestMacvlanIsPreempted(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"off", "tc", "generic"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			config := "global: {xdp_mode: " + mode + "}\nrouters:\n  - {name: web, interface: eth0, vrid: 51, interval: 100ms, priority: %d, virtual_mac: macvlan, addresses: [198.18.0.10/24, \"2001:db8::10/64\"]}\n"
			b := s.withFile(s.b, fmt.Sprintf(config, 100))
			b.router("web", "ipv4", inState("Active"))
			b.router("web", "ipv6", inState("Active"))
			a := s.withFile(s.a, fmt.Sprintf(config, 200))
			for _, family := range []string{"ipv4", "ipv6"} {
				a.router("web", family, inState("Active"))
				b.router("web", family, inState("Backup"))
			}
			s.stop(s.a, a.Failoverd)
			s.stop(s.b, b.Failoverd)
		})
	}
}

// Macvlans on an interface whose MTU was too low for IPv6 take part again after it was raised.
func TestMacvlanAfterLowMTU(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.withFile(s.a, `routers:
  - {name: web, interface: eth0, vrid: 51, interval: 100ms, virtual_mac: macvlan, addresses: [198.18.0.10/24, "2001:db8::10/64"]}
  - {name: db, interface: eth0, vrid: 52, interval: 100ms, virtual_mac: macvlan, addresses: [198.18.0.20/24]}
`)
	active := func() {
		t.Helper()
		a.router("web", "ipv4", inState("Active"))
		a.router("web", "ipv6", inState("Active"))
		a.router("db", "ipv4", inState("Active"))
		for _, address := range []string{"198.18.0.10", "2001:db8::10", "198.18.0.20"} {
			s.answeredBy(address, s.a)
		}
	}
	active()
	_, err := s.a.Run(s.ctx, "ip", "link", "set", "eth0", "mtu", "70")
	s.ok(err)
	a.router("web", "ipv6", inState("Initialize"))
	_, err = s.a.Run(s.ctx, "ip", "link", "set", "eth0", "mtu", "1500")
	s.ok(err)
	for _, address := range lab.Addresses(1)[1:] {
		s.ok(s.a.AddAddress(ifname, address))
	}
	active()
	s.stop(s.a, a.Failoverd)
}
