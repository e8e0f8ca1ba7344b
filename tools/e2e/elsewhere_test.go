// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

// An advertised address lives on another interface: it moves with the router, is announced and
// answered there, and the router waits while that interface is down. A reload moves it to another
// interface without leaving the state.
func TestAddressOnAnotherInterface(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	lan, err := s.lab.LAN("other")
	s.ok(err)
	capture, err := lan.Capture()
	s.ok(err)
	t.Cleanup(func() { _ = capture.Close() })
	other := make(map[*lab.Node]*lab.Port)
	for n, address := range map[*lab.Node]string{s.a: "203.0.113.1/24", s.b: "203.0.113.2/24", s.c: "203.0.113.100/24"} {
		other[n], err = lan.Connect(n, "eth1", address)
		s.ok(err)
	}
	const (
		before = "routers: [{name: web, interface: eth0, vrid: 51, interval: 200ms, addresses: [198.18.0.10/24, {address: 203.0.113.10/24, interface: eth1}], priority: "
		after  = "routers: [{name: web, interface: eth0, vrid: 51, interval: 200ms, addresses: [198.18.0.10/24, {address: 203.0.113.10/24, interface: eth0}], priority: "
	)
	on := func(ifname string, want *lab.Node) {
		t.Helper()
		s.ok(lab.WaitHolds(s.ctx, ifname, "203.0.113.10/24", []*lab.Node{s.a, s.b}, want))
		s.waitHolder("198.18.0.10", want)
	}
	answers := func(want *lab.Node) {
		t.Helper()
		var got []string
		for s.ctx.Err() == nil && !slices.Equal(got, []string{want.Name}) {
			got, err = capture.WhoAnswers(s.c, "eth1", netip.MustParseAddr("203.0.113.10"), 200*time.Millisecond)
			s.ok(err)
		}
		if s.ctx.Err() != nil {
			t.Fatalf("%v answer for 203.0.113.10, want %s", got, want.Name)
		}
	}
	a := s.withFile(s.a, before+"200}]\n")
	a.router("web", "ipv4", inState("Active"))
	b := s.withFile(s.b, before+"100}]\n")
	b.router("web", "ipv4", inState("Backup"))
	on("eth1", s.a)
	answers(s.a)

	frames := len(capture.Frames())
	s.ok(other[s.a].Pull())
	a.router("web", "ipv4", inState("Initialize"))
	on("eth1", s.b)
	mac, err := s.b.MAC("eth1")
	s.ok(err)
	_, err = capture.Wait(s.ctx, frames, func(f lab.Frame) bool { return f.From == s.b.Name && f.Announces("203.0.113.10", mac) })
	s.ok(err)
	answers(s.b)
	s.ok(other[s.a].Plug())
	a.router("web", "ipv4", inState("Active"))
	on("eth1", s.a)
	answers(s.a)

	b.write(after + "100}]\n")
	b.reload()
	a.write(after + "200}]\n")
	was := a.router("web", "ipv4", inState("Active"))
	a.reload()
	on("eth0", s.a)
	if r := a.router("web", "ipv4", inState("Active")); r.BecameActive != was.BecameActive {
		t.Errorf("it left its state for the reload: %+v", r)
	}
	if holds, err := s.a.Holds("eth1", "203.0.113.10"); holds || err != nil {
		t.Errorf("the address is still on eth1: %v", err)
	}
	s.stop(s.a, a.Failoverd)
	on("eth0", s.b)
	s.stop(s.b, b.Failoverd)
}
