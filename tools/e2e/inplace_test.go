// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

// unmoved checks that no router has left its state since it had that number of transitions.
func (s *site) unmoved(what string, all map[*configured]int) {
	s.t.Helper()
	for c, before := range all {
		if got := c.Transitions(); len(got) != before {
			s.t.Errorf("%s: transitions: %+v", what, got[before:])
		}
	}
}

// A reload changes how an Active has its virtual MAC, and the Active stays what it is: no other
// host takes over, and the client reaches the addresses at their new MAC.
func TestReloadVirtualMAC(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.holder = ""
	file := func(priority int, mode string) string {
		return fmt.Sprintf("routers:\n  - {name: web, interface: eth0, vrid: 51, priority: %d, interval: 1s, virtual_mac: %q, addresses: [%s/24, \"%s/64\"]}\n", priority, mode, virtual4, virtual6)
	}
	is := func(state, mode string) func(control.Router) bool {
		return func(r control.Router) bool { return r.State == state && r.VirtualMAC == mode }
	}
	a := s.withFile(s.a, file(200, "bpf"))
	b := s.withFile(s.b, file(100, "bpf"))
	for _, f := range []string{"ipv4", "ipv6"} {
		a.router("web", f, is("Active", "bpf"))
		b.router("web", f, func(r control.Router) bool { return r.State == "Backup" && r.Active != "" })
	}
	s.waitHolder(virtual4, s.a)
	s.waitHolder(virtual6, s.a)
	before := map[*configured]int{a: len(a.Transitions()), b: len(b.Transitions())}
	var pings []*lab.Pinger
	for _, address := range []string{virtual4, virtual6} {
		p, err := s.c.Ping(netip.MustParseAddr(address), 5*time.Millisecond)
		s.ok(err)
		pings = append(pings, p)
	}
	for _, mode := range []string{"off", "macvlan", "bpf", "macvlan", "off", "bpf"} {
		since := time.Now()
		for c, priority := range map[*configured]int{b: 100, a: 200} {
			c.write(file(priority, mode))
			if changes := c.reload(); len(changes) != 1 || changes[0].What != "changed" {
				t.Errorf("%s: changes %+v", mode, changes)
			}
		}
		for _, f := range []string{"ipv4", "ipv6"} {
			a.router("web", f, is("Active", mode))
			b.router("web", f, is("Backup", mode))
		}
		s.mode = mode
		for n, address := range []string{virtual4, virtual6} {
			s.answeredBy(address, s.a)
			_, err := pings[n].WaitReply(s.ctx, time.Now())
			s.ok(err)
			t.Logf("%s: %s did not answer for %v", mode, address, pings[n].Outage(since).Round(time.Millisecond))
		}
		for _, host := range []*lab.Node{s.a, s.b} {
			s.until("the macvlans are as they must be", func() bool {
				links, err := host.Run(s.ctx, "ip", "-o", "link", "show")
				s.ok(err)
				return strings.Contains(links, "vrrp") == (mode == "macvlan")
			})
		}
		time.Sleep(4 * time.Second) // longer than Active_Down_Interval
		s.unmoved(mode, before)
	}
	s.stop(s.a, a.Failoverd)
	b.router("web", "ipv4", inState("Active"))
	s.stop(s.b, b.Failoverd)
	s.clean(s.a)
}

// A reload changes the version of an Active and of a Backup, and neither leaves its state if the
// other one speaks both versions.
func TestReloadVersion(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	file := func(priority int, version string) string {
		return fmt.Sprintf("routers:\n  - {name: web, interface: eth0, vrid: 51, priority: %d, interval: 1s, version: %s, addresses: [%s/24]}\n", priority, version, virtual4)
	}
	a := s.withFile(s.a, file(200, "2"))
	a.router("web", "ipv4", inState("Active"))
	b := s.withFile(s.b, file(100, "2"))
	b.router("web", "ipv4", func(r control.Router) bool { return r.State == "Backup" && r.Active != "" })
	before := map[*configured]int{a: len(a.Transitions()), b: len(b.Transitions())}
	for _, step := range []struct {
		on      *configured
		version string
	}{{b, "3, dual: true"}, {a, "3"}, {b, "3"}, {b, "3, dual: true"}, {a, "2"}, {b, "2"}} {
		step.on.write(file(map[*configured]int{a: 200, b: 100}[step.on], step.version))
		if changes := step.on.reload(); len(changes) != 1 || changes[0].What != "changed" {
			t.Errorf("%s: changes %+v", step.version, changes)
		}
		time.Sleep(5 * time.Second) // longer than Active_Down_Interval
		s.unmoved(step.version, before)
		var last packet.Advertisement
		for _, f := range s.capture.Frames() {
			if v, _, _, ok := f.Advertisement(); ok {
				last = v
			}
		}
		if step.on == a && fmt.Sprint(last.Version) != step.version {
			t.Errorf("it advertises version %d instead of %s", last.Version, step.version)
		}
		s.answeredBy(virtual4, s.a)
	}
	s.stop(s.a, a.Failoverd)
	b.router("web", "ipv4", inState("Active"))
	s.stop(s.b, b.Failoverd)
}
