// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
)

// With without_carrier an Active stays Active when its interface loses the carrier, and says so.
// It leaves when the interface is set down.
func TestWithoutCarrier(t *testing.T) {
	for _, mode := range []string{"bpf", "off"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			a := s.withFile(s.a, "routers: [{name: web, interface: eth0, vrid: 51, interval: 100ms, without_carrier: true, virtual_mac: "+mode+", addresses: [198.18.0.10/24]}]\n")
			began := a.router("web", "ipv4", inState("Active"))
			s.waitHolder("198.18.0.10", s.a)

			s.ok(s.ports[s.a].Pull())
			a.problem("ipv4", control.NoCarrier, "")
			s.waitHolder("198.18.0.10", s.a)
			s.ok(s.ports[s.a].Plug())
			a.without("ipv4", control.NoCarrier)
			s.answeredBy("198.18.0.10", s.a)
			if r := a.router("web", "ipv4", inState("Active")); r.Since.Sub(began.Since).Abs() > time.Millisecond {
				t.Errorf("it wasn't Active all the time: since %v and since %v", began.Since, r.Since)
			}

			l, err := s.a.Netlink().LinkByName(ifname)
			s.ok(err)
			s.ok(s.a.Netlink().LinkSetDown(l))
			a.router("web", "ipv4", inState("Initialize"))
			s.ok(s.a.Netlink().LinkSetUp(l))
			a.router("web", "ipv4", inState("Active"))
			s.stop(s.a, a.Failoverd)
		})
	}
}

// With add_addresses a router of priority 255 is Active at once, and has its addresses only while
// it is, as keepalived does it.
func TestAddAddresses(t *testing.T) {
	for _, mode := range []string{"bpf", "off"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			text := "routers: [{name: web, interface: eth0, vrid: 51, interval: 200ms, add_addresses: true, virtual_mac: " + mode + ", addresses: [198.18.0.10/24, 2001:db8::10/64], priority: "
			b := s.withFile(s.b, text+"100}]\n")
			b.router("web", "ipv4", inState("Active"))
			for range 2 {
				a := s.withFile(s.a, text+"255}]\n")
				a.router("web", "ipv4", inState("Active"))
				s.waitHolder("198.18.0.10", s.a)
				s.waitHolder("2001:db8::10", s.a)
				s.answeredBy("198.18.0.10", s.a)
				b.router("web", "ipv4", inState("Backup"))

				s.stop(s.a, a.Failoverd)
				s.waitHolder("198.18.0.10", s.b)
				s.waitHolder("2001:db8::10", s.b)
				s.answeredBy("198.18.0.10", s.b)
			}
			// With another priority the key has no effect.
			a := s.withFile(s.a, text+"255}]\n")
			a.router("web", "ipv4", inState("Active"))
			a.write(text + "200}]\n")
			a.reload()
			a.router("web", "ipv4", inState("Active"))
			s.waitHolder("198.18.0.10", s.a)
			s.stop(s.a, a.Failoverd)
			s.stop(s.b, b.Failoverd)
		})
	}
}
