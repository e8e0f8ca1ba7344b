// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/tools/lab"
)

// A router without authentication beside an Active with HMAC becomes Active too, and says why. The
// advertisements of an authenticated router with another VRID are no problem.
func TestBesideAuthentication(t *testing.T) {
	t.Parallel()
	for _, receive := range []string{"generic", "tc", "off"} {
		t.Run(receive, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			keys := newKeyring(t, 1)
			b := s.withFile(s.b, keys.file(100, receive, "enforce", 1))
			b.router("web", "ipv4", inState("Active"))
			b.router("web", "ipv6", inState("Active"))
			c := s.withFile(s.c, "global: {xdp_mode: "+receive+"}\nrouters:\n  - {name: web, interface: eth0, vrid: 52, interval: 200ms, addresses: [198.18.0.20/24]}\n")
			a := s.withFile(s.a, "global: {xdp_mode: "+receive+"}\nrouters:\n  - {name: web, interface: eth0, vrid: 51, interval: 200ms, addresses: [198.18.0.10/24]}\n")
			a.router("web", "ipv4", inState("Active"))
			if p := a.problem("ipv4", control.Authentication, "198.18.0.2"); !strings.Contains(p.Text, "because it uses another type of authentication") || p.Remedy == "" {
				t.Errorf("problem %+v", p)
			}
			c.waitCounter("vrid_errors", c.counter("vrid_errors"))
			for _, o := range []*configured{a, c} {
				if n := o.counter("packet_length_errors"); n > 0 {
					t.Errorf("%d packets had a wrong length", n)
				}
			}
		})
	}
}

// Another host that already has a virtual address is reported when the router takes over.
func TestAddressInUse(t *testing.T) {
	t.Parallel()
	for family, address := range map[string]string{"ipv4": "198.18.0.10", "ipv6": "2001:db8::10"} {
		t.Run(family, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			bits := map[string]string{"ipv4": "/24", "ipv6": "/128"}[family]
			args := []string{"address", "add", address + bits, "dev", ifname}
			if family == "ipv6" {
				args = append(args, "nodad")
			}
			_, err := s.c.Run(s.ctx, "ip", args...)
			s.ok(err)
			a := s.withFile(s.a, "routers:\n  - {name: web, interface: eth0, vrid: 51, addresses: [198.18.0.10/24, fe80::12:33/64, 2001:db8::10/64]}\n")
			if p := a.problem(family, control.AddressInUse, s.mac(s.c)); !strings.Contains(p.Text, "already had "+address) || p.Remedy == "" {
				t.Errorf("problem %+v", p)
			}
			a.router("web", family, inState("Active")) // nevertheless
		})
	}
}

// One of two owners yields. Both report the problem, and the owner that yielded reports it as long
// as it lasts.
func TestTwoOwners(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const text = "routers:\n  - {name: web, interface: eth0, vrid: 51, priority: 255, interval: 100ms, addresses: [198.18.0.10/24]}\n"
	for _, n := range []*lab.Node{s.a, s.b} {
		_, err := n.Run(s.ctx, "ip", "address", "add", "198.18.0.10/24", "dev", ifname)
		s.ok(err)
	}
	b := s.withFile(s.b, text)
	b.router("web", "ipv4", inState("Active"))
	a := s.withFile(s.a, text)
	a.problem("ipv4", control.TwoOwners, "198.18.0.2")
	b.problem("ipv4", control.TwoOwners, "198.18.0.1")
	a.router("web", "ipv4", inState("Backup"))
}

// A router on a port of a bridge reports that no host reaches it, with every virtual MAC.
func TestBridgePort(t *testing.T) {
	t.Parallel()
	for _, mac := range []string{"bpf", "off"} {
		t.Run(mac, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			for _, args := range []string{"link add br0 type bridge", "link set br0 up", "link set eth0 master br0"} {
				_, err := s.a.Run(s.ctx, "ip", strings.Fields(args)...)
				s.ok(err)
			}
			a := s.withFile(s.a, "routers:\n  - {name: web, interface: eth0, vrid: 51, interval: 100ms, virtual_mac: "+mac+", addresses: [198.18.0.10/24]}\n")
			a.router("web", "ipv4", inState("Active"))
			p := a.problem("ipv4", control.BridgePort, "br0")
			if _, err := s.c.Run(s.ctx, "ping", "-c", "2", "-W", "2", "198.18.0.10"); err == nil || !strings.Contains(p.Remedy, "run the router on br0") {
				t.Errorf("reachable: %v, problem %+v", err == nil, p)
			}
			_, err := s.a.Run(s.ctx, "ip", "link", "set", "eth0", "nomaster")
			s.ok(err)
			a.without("ipv4", control.BridgePort)
			s.pinged(s.c, "198.18.0.10")
		})
	}
}

// After a stop by a signal, failoverd doesn't tell an administrator to remove an address from the
// host that rightly took over.
func TestNoConflictAfterAStop(t *testing.T) {
	t.Parallel()
	for _, mac := range []string{"bpf", "off"} {
		t.Run(mac, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			const text = "routers:\n  - {name: web, interface: eth0, vrid: 51, priority: %d, interval: 100ms, virtual_mac: %s, addresses: [198.18.0.10/24, fe80::12:33/64, 2001:db8::10/64]}\n"
			a := s.withFile(s.a, fmt.Sprintf(text, 200, mac))
			b := s.withFile(s.b, fmt.Sprintf(text, 100, mac))
			for range 3 {
				for _, family := range eachFamily {
					a.router("web", family, inState("Active"))
					b.router("web", family, inState("Backup"))
				}
				s.ok(a.Signal(syscall.SIGSTOP))
				for _, family := range eachFamily {
					b.router("web", family, inState("Active"))
				}
				time.Sleep(1500 * time.Millisecond) // until it has announced the addresses and asked for their owner
				s.ok(a.Signal(syscall.SIGCONT))
			}
			time.Sleep(5 * time.Second) // until it has asked several times
			for _, c := range []*configured{a, b} {
				s.ok(c.client.Events(s.ctx, 0, false, func(e control.Event) error {
					if e.Kind == "problem" && strings.HasPrefix(e.Text, control.AddressConflict) {
						t.Errorf("event %+v", e)
					}
					return nil
				}))
			}
		})
	}
}
