// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/tools/lab"
)

// Extra addresses, also of another family and on another interface, are on the Active, which
// announces and fences them like the others. No advertisement names them.
func TestExtraAddresses(t *testing.T) {
	inModes(t, func(s *site) {
		beside, err := s.lab.LAN("beside")
		s.ok(err)
		for _, n := range []*lab.Node{s.a, s.b} {
			_, err := beside.Connect(n, "eth1")
			s.ok(err)
		}
		other, err := beside.Capture()
		s.ok(err)
		s.t.Cleanup(func() { _ = other.Close() })
		const extra = `    extra_addresses: [198.18.0.20/24, "2001:db8::20/64", {address: 203.0.113.10/24, interface: eth1}]
`
		file := func(priority int, extra string) string {
			return fmt.Sprintf(`
routers:
  - name: web
    interface: eth0
    vrid: 51
    priority: %d
    interval: 200ms
    virtual_mac: %s
    addresses: [198.18.0.10/24]
%s`, priority, s.mode, extra)
		}
		here := []string{"198.18.0.10", "198.18.0.20", "2001:db8::20"}
		holder := func(n *lab.Node) {
			s.t.Helper()
			for _, a := range here {
				s.waitHolder(a, n)
			}
			s.ok(lab.WaitHolds(s.ctx, "eth1", "203.0.113.10", []*lab.Node{s.a, s.b}, n))
		}
		a := s.withFile(s.a, file(200, extra))
		a.router("web", "ipv4", inState("Active"))
		holder(s.a)
		if r := a.router("web", "ipv4", inState("Active")); len(r.Extra) != 3 || r.Extra[2] != "203.0.113.10/24 on eth1" {
			s.t.Errorf("the extra addresses in the status are %q", r.Extra)
		}
		b := s.withFile(s.b, file(100, extra))
		b.router("web", "ipv4", inState("Backup"))
		for _, address := range here {
			s.answeredBy(address, s.a)
			_, err := s.capture.Wait(s.ctx, 0, func(f lab.Frame) bool { return f.From == "a" && f.Announces(address, s.macOf(s.a, "198.18.0.10")) })
			s.ok(err)
		}
		own, err := s.a.MAC("eth1")
		s.ok(err)
		_, err = other.Wait(s.ctx, 0, func(f lab.Frame) bool { return f.From == "a" && f.Announces("203.0.113.10", own) })
		s.ok(err)
		for _, f := range s.capture.Frames() {
			if adv, _, _, ok := f.Advertisement(); ok && (len(adv.Addresses) != 1 || adv.Addresses[0] != netip.MustParseAddr("198.18.0.10")) {
				s.t.Fatalf("an advertisement has the addresses %v", adv.Addresses)
			}
		}

		// An extra address that another program removes is added again.
		eth1, err := s.a.Netlink().LinkByName("eth1")
		s.ok(err)
		placed, err := netlink.ParseAddr("203.0.113.10/24")
		s.ok(err)
		s.ok(s.a.Netlink().AddrDel(eth1, placed))
		holder(s.a)
		// The log reports it after it was added again, which may take a moment.
		s.until("one address was put back", func() bool {
			stats, err := a.client.Stats(s.ctx)
			s.ok(err)
			return slices.ContainsFunc(stats.Routers[0].Counters, func(c control.Counter) bool { return c.Name == "restored" && c.Value == 1 })
		})

		a.write(file(200, ""))
		a.reload()
		s.waitHolder("198.18.0.20")
		s.waitHolder("2001:db8::20")
		s.ok(lab.WaitHolds(s.ctx, "eth1", "203.0.113.10", []*lab.Node{s.a, s.b}))
		a.write(file(200, extra))
		a.reload()
		holder(s.a)
		if r := a.router("web", "ipv4", inState("Active")); r.BecameActive != 1 {
			s.t.Errorf("became Active %d times", r.BecameActive)
		}

		s.ok(a.Signal(syscall.SIGKILL))
		<-a.Done()
		b.router("web", "ipv4", inState("Active"))
		for _, address := range here {
			s.waitHolder(address, s.a, s.b)
			s.answeredBy(address, s.b)
		}
		p, err := s.a.Start(failoverd(), "--cleanup")
		s.ok(err)
		code, err := p.Wait(s.ctx)
		s.ok(err)
		if code != 0 {
			s.t.Errorf("--cleanup: exit code %d: %s", code, p.Output())
		}
		holder(s.b)
		if _, err := b.Stop(s.ctx); err != nil {
			s.t.Fatal(err)
		}
		for _, address := range here {
			s.waitHolder(address)
		}
		s.ok(lab.WaitHolds(s.ctx, "eth1", "203.0.113.10", []*lab.Node{s.a, s.b}))
	})
}
