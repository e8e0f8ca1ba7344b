// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

// inReceiveModes runs a test with each way to receive.
func inReceiveModes(t *testing.T, test func(s *site, mode string)) {
	t.Helper()
	t.Parallel()
	for _, mode := range []string{"native", "generic", "tc", "off"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			test(newSite(t), mode)
		})
	}
}

// castFile returns a file with a router of both families that has the other host as its peer.
func castFile(peer, priority int, mode, more string) string {
	return fmt.Sprintf(`
global: {xdp_mode: %s}
routers:
  - name: web
    interface: eth0
    vrid: 51
    priority: %d
    interval: 200ms
    addresses: [198.18.0.10/24, 2001:db8::10/64]
    unicast:
      peers: [198.18.0.%d, {address: "2001:db8::%x", min_ttl: 255}]
%s`, mode, priority, peer, peer, more)
}

// sentBy returns the advertisements that a node has sent since the given frame.
func (s *site) sentBy(n *lab.Node, since int) (all []lab.Frame) {
	for _, f := range s.capture.Frames()[since:] {
		if _, _, _, ok := f.Advertisement(); ok && f.From == n.Name {
			all = append(all, f)
		}
	}
	return all
}

// toPeer checks that advertisements go from a node's own MAC and address to the other's, and
// nowhere else.
func (s *site) toPeer(frames []lab.Frame, from, to *lab.Node) {
	s.t.Helper()
	source, destination := s.mac(from), s.mac(to)
	for _, f := range frames {
		if got := net.HardwareAddr(f.Data[6:12]).String(); got != source {
			s.t.Errorf("the source MAC is %s, want %s: %v", got, source, f)
		}
		if got := net.HardwareAddr(f.Data[:6]).String(); got != destination {
			s.t.Errorf("the destination MAC is %s, want %s: %v", got, destination, f)
		}
	}
	if len(frames) == 0 {
		s.t.Errorf("%s sent nothing; VRRP on the wire:\n%s", from.Name, s.capture.VRRP())
	}
}

// counter returns a counter, summed over the routers.
func (c *configured) counter(name string) uint64 {
	c.t.Helper()
	stats, err := c.client.Stats(c.ctx)
	c.ok(err)
	for _, one := range stats.Global {
		if one.Name == name {
			return one.Value
		}
	}
	c.t.Fatalf("no counter %s", name)
	return 0
}

// waitCounter waits until a counter has risen.
func (c *configured) waitCounter(name string, before uint64) {
	c.t.Helper()
	for c.counter(name) == before {
		if c.ctx.Err() != nil {
			c.t.Fatalf("counter %s stays at %d", name, before)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// O-09: two unicast routers fail over like multicast ones. They send nothing to the multicast
// group, and no kernel answers that VRRP is unreachable.
func TestUnicast(t *testing.T) {
	t.Attr("proves", "O-09")
	inReceiveModes(t, func(s *site, mode string) {
		a := s.withFile(s.a, castFile(2, 200, mode, ""))
		for _, f := range []string{"ipv4", "ipv6"} {
			a.router("web", f, inState("Active"))
		}
		b := s.withFile(s.b, castFile(1, 100, mode, ""))
		for _, f := range []string{"ipv4", "ipv6"} {
			b.router("web", f, inState("Backup"))
		}
		both := len(s.capture.Frames())
		for _, f := range []string{"ipv4", "ipv6"} {
			b.router("web", f, func(r control.Router) bool {
				return r.State == "Backup" && r.ActivePriority == 200 && len(r.Peers) == 1 && r.Peers[0].LastHeard != nil && r.Peers[0].MinTTL == 255
			})
		}
		s.waitHolder("198.18.0.10", s.a)
		s.waitHolder("2001:db8::10", s.a)
		s.answeredBy("198.18.0.10", s.a)
		s.answeredBy("2001:db8::10", s.a)
		s.toPeer(s.sentBy(s.a, 0), s.a, s.b)
		if r := a.router("web", "ipv6", inState("Active")); r.Source != "2001:db8::1" || r.VirtualMAC != "off" {
			s.t.Errorf("advertises from %s, virtual MAC %s", r.Source, r.VirtualMAC)
		}

		s.strangers(b)

		s.ok(s.ports[s.a].Pull())
		for _, f := range []string{"ipv4", "ipv6"} {
			b.router("web", f, inState("Active"))
		}
		s.ok(s.ports[s.a].Plug())
		for _, f := range []string{"ipv4", "ipv6"} {
			a.router("web", f, inState("Active"))
			b.router("web", f, inState("Backup"))
		}
		for _, f := range s.capture.Frames()[both:] {
			if f.Data[12] == 8 && f.Data[13] == 0 && f.Data[23] == 1 && f.Data[34] == 3 || f.Data[12] == 0x86 && f.Data[20] == 58 && f.Data[54] < 128 {
				s.t.Errorf("an ICMP error: %x", f.Data)
			}
		}
		s.stop(s.a, a.Failoverd)
		b.router("web", "ipv4", func(r control.Router) bool { return r.State == "Active" && strings.Contains(r.Cause, "priority 0") })
		s.stop(s.b, b.Failoverd)
		for _, f := range s.capture.Frames() {
			if f.Data[0]&1 != 0 && (f.Data[12] == 8 && f.Data[13] == 0 && f.Data[23] == packet.ProtocolVRRP || f.Data[12] == 0x86 && f.Data[20] == packet.ProtocolVRRP) {
				s.t.Errorf("an advertisement to the multicast group: %v", f)
			}
		}
	})
}

// strangers sends advertisements that node b, a Backup, must ignore: from a host that isn't a
// peer, from a peer through an IP router, and by multicast.
func (s *site) strangers(b *configured) {
	s.t.Helper()
	mac, err := net.ParseMAC(s.mac(s.b))
	s.ok(err)
	for _, c := range []struct {
		counter, from, to string
		ttl               uint8
	}{
		{"peer_errors", "198.18.0.77", "198.18.0.2", 255},
		{"ip_ttl_errors", "198.18.0.1", "198.18.0.2", 254},
		{"cast_errors", "198.18.0.1", "224.0.0.18", 255},
		{"peer_errors", "2001:db8::77", "2001:db8::2", 255},
		{"ip_ttl_errors", "2001:db8::1", "2001:db8::2", 254},
		{"cast_errors", "fe80::1", "ff02::12", 255},
	} {
		source := netip.MustParseAddr(c.from)
		a := packet.Advertisement{Version: 3, VRID: 51, Priority: 255, Interval: 10 * time.Millisecond, Addresses: []netip.Addr{netip.MustParseAddr("198.18.0.10")}}
		frame := slices.Concat(mac, []byte{2, 0, 0, 0, 0, 77, 8, 0})
		if source.Is6() {
			a.Addresses[0] = netip.MustParseAddr("fe80::12:33")
			frame[12], frame[13] = 0x86, 0xdd
		}
		frame, err = packet.AppendAdvertisementDatagram(frame, source, netip.MustParseAddr(c.to), c.ttl, &a, packet.ChecksumRFC9568)
		s.ok(err)
		before := b.counter(c.counter)
		s.ok(s.ports[s.b].Deliver(frame))
		b.waitCounter(c.counter, before)
	}
	b.problem("ipv6", control.Peers, "2001:db8::77")
	b.problem("ipv6", control.Peers, "fe80::1")
	for _, f := range []string{"ipv4", "ipv6"} {
		if r := b.router("web", f, inState("Backup")); r.ActivePriority != 200 {
			s.t.Errorf("it heeded a host that isn't its peer: %+v", r)
		}
	}
}

// A reload changes the peers without leaving the state, and advertisements go to the MAC of the
// peer in the kernel's neighbour table.
func TestUnicastPeersChange(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.withFile(s.a, castFile(2, 200, "auto", ""))
	a.router("web", "ipv4", inState("Active"))
	a.write(strings.Replace(castFile(2, 200, "auto", ""), "peers: [", "peers: [198.18.0.100, ", 1))
	if changes := a.reload(); len(changes) != 1 || changes[0].What != "changed" || !strings.Contains(changes[0].Details[0], "198.18.0.100") {
		t.Errorf("changes: %+v", changes)
	}
	both := len(s.capture.Frames())
	for _, n := range []*lab.Node{s.b, s.c} {
		mac, err := net.ParseMAC(s.mac(n))
		s.ok(err)
		_, err = s.capture.Wait(s.ctx, both, func(f lab.Frame) bool {
			_, _, _, ok := f.Advertisement()
			return ok && bytes.Equal(f.Data[:6], mac)
		})
		s.ok(err)
	}
	if r := a.router("web", "ipv4", inState("Active")); r.BecameActive != 1 {
		t.Errorf("it became Active %d times", r.BecameActive)
	}

	_, err := s.b.Run(s.ctx, "ip", "link", "set", ifname, "address", "02:00:00:00:00:0b")
	s.ok(err)
	_, err = s.b.Run(s.ctx, "ping", "-c", "1", "-W", "10", "198.18.0.1") // its ARP tells a of the change
	s.ok(err)
	since := len(s.capture.Frames())
	_, err = s.capture.Wait(s.ctx, since, func(f lab.Frame) bool {
		_, d, _, ok := f.Advertisement()
		return ok && d.Destination.String() == "198.18.0.2" && net.HardwareAddr(f.Data[:6]).String() == "02:00:00:00:00:0b"
	})
	s.ok(err)
	s.stop(s.a, a.Failoverd)
}

// An unreachable peer delays no advertisement to the others, and the host answers as before.
func TestUnicastUnreachable(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	// The kernel takes an IPv4 address without a route for a neighbour.
	_, err := s.a.Run(s.ctx, "ip", "-6", "route", "add", "unreachable", "2001:db8:bad::/48")
	s.ok(err)
	a := s.withFile(s.a, strings.Replace(castFile(2, 200, "auto", ""), "peers: [", `peers: ["2001:db8:bad::3", 203.0.113.3, `, 1))
	a.router("web", "ipv6", inState("Active"))
	_, err = a.WaitLine(s.ctx, 0, func(line string) bool { return strings.Contains(line, "to 2001:db8:bad::3: ") })
	s.ok(err)
	for range 20 {
		since := len(s.capture.Frames())
		_, err := s.capture.Wait(s.ctx, since, func(f lab.Frame) bool {
			_, d, _, ok := f.Advertisement()
			return ok && d.Destination.String() == "2001:db8::2"
		})
		s.ok(err)
	}
	s.answeredBy("198.18.0.10", s.a)
	s.answeredBy("2001:db8::10", s.a)
	s.stop(s.a, a.Failoverd)
}

// A unicast Active that was stopped sends nothing to its peer before it knows that another router
// took over.
func TestUnicastStale(t *testing.T) {
	inReceiveModes(t, func(s *site, mode string) {
		a := s.withFile(s.a, castFile(2, 200, mode, "    preempt: false\n"))
		for _, f := range []string{"ipv4", "ipv6"} {
			a.router("web", f, inState("Active"))
		}
		b := s.withFile(s.b, castFile(1, 100, mode, ""))
		for _, f := range []string{"ipv4", "ipv6"} {
			b.router("web", f, func(r control.Router) bool { return r.State == "Backup" && r.ActivePriority == 200 })
		}
		stopped := len(a.Lines())
		s.ok(a.Signal(syscall.SIGSTOP))
		for _, f := range []string{"ipv4", "ipv6"} {
			b.router("web", f, inState("Active"))
		}
		since := len(s.capture.Frames())
		for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
			from := since
			for range 2 { // when the second has arrived, the first has too
				n, err := s.capture.Wait(s.ctx, from, func(frame lab.Frame) bool {
					_, d, _, ok := frame.Advertisement()
					return ok && frame.From == s.b.Name && packet.FamilyOf(d.Source) == f
				})
				s.ok(err)
				from = n + 1
			}
		}
		s.answeredBy("198.18.0.10", s.b)
		since = len(s.capture.Frames())
		s.ok(a.Signal(syscall.SIGCONT))
		for _, f := range []string{"ipv4", "ipv6"} {
			s.waitState(a.Failoverd, stopped, f, "Backup")
		}
		s.waitHolder("198.18.0.10", s.b)
		for _, f := range s.sentBy(s.a, since) {
			s.t.Errorf("the stopped router sent %v", f)
		}
		s.stop(s.a, a.Failoverd)
		s.stop(s.b, b.Failoverd)
	})
}

// A failoverd that only listens shows unicast routers, with the command that backs them up.
func TestUnicastWatch(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"auto", "off"} {
		s := newSite(t)
		a := s.withFile(s.a, castFile(2, 150, "auto", ""))
		a.router("web", "ipv4", inState("Active"))
		w, err := s.b.Start(failoverd(), "--iface", ifname, "--xdp-mode", mode)
		s.ok(err)
		for _, want := range []string{"--peer 198.18.0.1 --source 198.18.0.2 --vip 198.18.0.10/24", "--peer 2001:db8::1 --source 2001:db8::2 --vip fe80::12:33/64 --vip 2001:db8::10/64"} {
			_, err = w.WaitLine(s.ctx, 0, func(l string) bool { return strings.Contains(l, want) })
			s.ok(err)
		}
		code, err := w.Stop(s.ctx)
		s.ok(err)
		if code != 0 {
			t.Errorf("exit code %d:\n%s", code, w.Output())
		}
		s.stop(s.a, a.Failoverd)
	}
}
