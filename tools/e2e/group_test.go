// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
)

// All routers of a group are on one host: the first fault moves all of them, and they come back
// together.
func TestGroup(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i, n := range []string{"203.0.113.1/24", "203.0.113.2/24"} {
		node := s.a
		if i == 1 {
			node = s.b
		}
		_, err := s.lan.Connect(node, "eth1")
		s.ok(err)
		s.ok(node.AddAddress("eth1", n))
	}
	const text = `
routers:
  - {name: lan, interface: eth0, vrid: 51, priority: %d, interval: 100ms, addresses: [198.18.0.10/24]}
  - {name: wan, interface: eth1, vrid: 52, priority: %d, interval: 300ms, addresses: [203.0.113.10/24]}
groups:
  - {name: gateway, routers: [lan, wan]}
`
	a := s.withFile(s.a, fmt.Sprintf(text, 200, 200))
	b := s.withFile(s.b, fmt.Sprintf(text, 100, 100))
	both := func(c *configured, state string) {
		t.Helper()
		c.router("lan", "ipv4", inState(state))
		c.router("wan", "ipv4", inState(state))
	}
	both(a, "Active")
	both(b, "Backup")

	s.ok(s.a.SetDown("eth1"))
	both(b, "Active")
	down := a.router("lan", "ipv4", inState("Initialize"))
	if want := "group gateway: VRID 52 on eth1 (ipv4): interface is down"; down.Cause != want || down.Waiting != want {
		t.Errorf("the status says %q, %q, not %q", down.Cause, down.Waiting, want)
	}
	s.ok(s.a.SetUp("eth1"))
	both(a, "Active")
	both(b, "Backup")
	for _, name := range []string{"lan", "wan"} {
		if r := a.router(name, "ipv4", inState("Active")); r.BecameActive != 2 || r.Group != "group gateway" {
			t.Errorf("%s became Active %d times, not together and twice: %+v", name, r.BecameActive, r)
		}
	}

	// While one hears a better host, the other one doesn't take over.
	b.write(fmt.Sprintf(text, 100, 250))
	b.reload()
	held := b.router("wan", "ipv4", func(r control.Router) bool { return r.HeldBy != "" })
	if held.State != "Backup" || !strings.Contains(held.HeldBy, "VRID 51 on eth0") {
		t.Errorf("the router that is held: %+v", held)
	}
	both(a, "Active")
}

// The families of a router are on the same host, unless configured otherwise.
func TestFamiliesTogether(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const text = `
routers:
  - {name: web, interface: eth0, vrid: 51, priority: 200, interval: 100ms, addresses: [198.18.0.10/24, "2001:db8::10/64"], families_together: %v}
`
	c := s.withFile(s.a, fmt.Sprintf(text, true))
	c.router("web", "ipv4", inState("Active"))
	c.router("web", "ipv6", inState("Active"))
	s.ok(s.a.RemoveAddress("eth0", "fe80::1/64"))
	c.router("web", "ipv6", inState("Initialize"))
	four := c.router("web", "ipv4", inState("Initialize"))
	if !strings.Contains(four.Waiting, "router web: VRID 51 on eth0 (ipv6)") {
		t.Errorf("IPv4 is waiting for %q", four.Waiting)
	}
	c.write(fmt.Sprintf(text, false))
	c.reload()
	c.router("web", "ipv4", inState("Active"))
	time.Sleep(time.Second)
	c.router("web", "ipv6", inState("Initialize"))
}
