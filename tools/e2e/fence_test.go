// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

// fenced stops an Active with a signal, and checks that it gives no answer from the moment in
// which the other router takes over.
func (s *site) fenced(signal syscall.Signal) (a, b *lab.Failoverd) {
	t := s.t
	t.Helper()
	args := []string{"--iface", ifname, "--vip", "198.18.0.10/24", "--vip", "2001:db8::10/64", "--vrid", "51", "--interval", "200ms"}
	a = s.failoverd(s.a, append(args, "--priority", "200")...)
	s.waitHolder("198.18.0.10", s.a)
	s.waitHolder("2001:db8::10", s.a)
	b = s.failoverd(s.b, append(args, "--priority", "100")...)
	line := max(s.waitState(b, 0, "ipv4", "Backup"), s.waitState(b, 0, "ipv6", "Backup"))
	s.answeredBy("198.18.0.10", s.a)
	s.answeredBy("2001:db8::10", s.a)

	s.ok(a.Signal(signal))
	for _, f := range []string{"ipv4", "ipv6"} {
		s.waitState(b, line, f, "Active")
	}
	// The first router still has the addresses, but must not answer for them.
	s.waitHolder("198.18.0.10", s.a, s.b)
	s.waitHolder("2001:db8::10", s.a, s.b)
	s.answeredBy("198.18.0.10", s.b)
	s.answeredBy("2001:db8::10", s.b)
	first := s.mac(s.a)
	for id, to := range []string{"198.18.0.10", "2001:db8::10"} {
		from := "198.18.0.100"
		if netip.MustParseAddr(to).Is6() {
			from = "2001:db8::64"
		}
		s.inject(s.c, echo(t, s.mac(s.c), first, from, to, uint16(id+1)))
	}
	time.Sleep(500 * time.Millisecond)
	for _, f := range s.capture.Frames() {
		if f.From == s.a.Name && repliesTo(f.Data) != 0 {
			t.Errorf("the first router answered a ping: %v", f)
		}
	}
	return a, b
}

// An Active whose process hangs stops answering before the Backup takes over. After it goes on,
// one router answers again: here the first one, because it has the higher priority.
func TestFenceHang(t *testing.T) {
	inModes(t, (*site).fenceHang)
}

func (s *site) fenceHang() {
	t := s.t
	a, b := s.fenced(syscall.SIGSTOP)
	line, stopped := len(a.Lines()), len(s.capture.Frames())
	s.ok(a.Signal(syscall.SIGCONT))
	// It yields to the router that took over, and then preempts it.
	for _, f := range []string{"ipv4", "ipv6"} {
		line := s.waitState(a, line, f, "Backup")
		s.waitState(a, line, f, "Active")
	}
	if out := a.Output(); !strings.Contains(out, "because this router hadn't advertised") {
		t.Errorf("the log does not say why it yields:\n%s", out)
	}
	for _, address := range []string{"198.18.0.10", "2001:db8::10"} {
		// Between the two states it may have had no addresses for a moment.
		_, err := s.capture.Wait(s.ctx, stopped, func(f lab.Frame) bool { return f.From == s.a.Name && f.Announces(address, s.macOf(s.a, address)) })
		s.ok(err)
		s.waitHolder(address, s.a)
		s.answeredBy(address, s.a)
	}
	if out := a.Output(); strings.Contains(out, "dropped") {
		t.Errorf("its own fence dropped what it sent:\n%s", out)
	}
	s.stop(s.a, a)
	s.stop(s.b, b)
}

// An Active that was killed stops answering too, and stays silent. The next start removes the
// fence, and so does --cleanup.
func TestFenceKilled(t *testing.T) {
	inModes(t, (*site).fenceKilled)
}

func (s *site) fenceKilled() {
	t := s.t
	_, b := s.fenced(syscall.SIGKILL)
	out, err := s.a.Run(s.ctx, "bpftool", "map", "dump", "pinned", "/sys/fs/bpf/failoverd/maps/failover_lease")
	s.ok(err)
	for _, field := range []string{"answer", "active", "family", "vrid", "virtual_mac", "fenced_in"} {
		if !strings.Contains(out, field) {
			t.Errorf("bpftool does not show the lease with its %s: %.200s", field, out)
		}
	}
	p, err := s.a.Start(failoverd(), "--cleanup")
	s.ok(err)
	code, err := p.Wait(s.ctx)
	s.ok(err)
	if code != 0 || !slices.ContainsFunc(p.Lines(), func(l lab.Line) bool { return strings.Contains(l.Text, "failover_egress") }) {
		t.Errorf("--cleanup: exit code %d:\n%s", code, p.Output())
	}
	s.clean(s.a)
	s.answeredBy("198.18.0.10", s.b)
	s.stop(s.b, b)
}

// An Active that goes on after another router took over sends nothing from the virtual MACs before
// it knows that. It then yields, although it has the higher priority.
func TestStaleActiveYields(t *testing.T) {
	inModes(t, (*site).staleYields)
}

func (s *site) staleYields() {
	t := s.t
	a := s.failoverd(s.a, append(bothFamilies, "--priority", "200", "--no-preempt")...)
	for _, address := range virtuals {
		s.waitHolder(address, s.a)
	}
	b := s.failoverd(s.b, bothFamilies...)
	line := max(s.waitState(b, 0, "ipv4", "Backup"), s.waitState(b, 0, "ipv6", "Backup"))
	stopped := len(a.Lines())
	s.ok(a.Signal(syscall.SIGSTOP))
	for _, f := range []string{"ipv4", "ipv6"} {
		s.waitState(b, line, f, "Active")
	}
	for _, address := range virtuals {
		s.waitHolder(address, s.a, s.b)
	}
	for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
		from := 0
		for range 2 { // when the second has arrived, the first has too
			n, err := s.capture.Wait(s.ctx, from, func(frame lab.Frame) bool {
				_, d, _, ok := frame.Advertisement()
				return ok && frame.From == s.b.Name && packet.FamilyOf(d.Source) == f
			})
			s.ok(err)
			from = n + 1
		}
	}
	at := len(s.capture.Frames())
	s.ok(a.Signal(syscall.SIGCONT))
	for _, f := range []string{"ipv4", "ipv6"} {
		s.waitState(a, stopped, f, "Backup")
	}
	for _, address := range virtuals {
		s.waitHolder(address, s.b)
	}
	for _, address := range virtuals {
		s.answeredBy(address, s.b)
	}
	for _, f := range s.capture.Frames()[at:] {
		if f.From == s.a.Name && f.Data[6] == 0 && f.Data[8] == 0x5e {
			t.Errorf("a frame from a virtual MAC: %v", f)
		}
	}
	s.stop(s.a, a)
	s.stop(s.b, b)
}

// The kernel of a killed Active stops answering as soon as it receives a better router, although
// the lease would last longer.
func TestKilledActiveYields(t *testing.T) {
	inModes(t, (*site).killedActiveYields)
}

func (s *site) killedActiveYields() {
	a := s.withFile(s.a, fmt.Sprintf("routers:\n  - {name: web, interface: eth0, vrid: 51, priority: 200, interval: 5s, virtual_mac: %q, addresses: [198.18.0.10/24]}\n", s.mode))
	a.router("web", "ipv4", inState("Active"))
	s.waitHolder("198.18.0.10", s.a)
	s.ok(a.Signal(syscall.SIGKILL))
	_, err := a.Wait(s.ctx)
	s.ok(err)
	s.answeredBy("198.18.0.10", s.a) // by the lease
	rival := packet.Advertisement{Version: 3, VRID: 51, Priority: 201, Interval: 5 * time.Second, Addresses: []netip.Addr{netip.MustParseAddr("198.18.0.10")}}
	frame, err := packet.AppendAdvertisementFrame(nil, packet.VirtualMAC(packet.IPv4, 51), netip.MustParseAddr("198.18.0.2"), &rival, packet.ChecksumRFC9568)
	s.ok(err)
	s.inject(s.b, frame)
	got, err := s.capture.WhoAnswers(s.c, ifname, netip.MustParseAddr("198.18.0.10"), time.Second)
	s.ok(err)
	if len(got) > 0 {
		s.t.Errorf("%v still answers", got)
	}
	p, err := s.a.Start(failoverd(), "--cleanup")
	s.ok(err)
	code, err := p.Wait(s.ctx)
	s.ok(err)
	if code != 0 {
		s.t.Errorf("--cleanup: exit code %d:\n%s", code, p.Output())
	}
	s.clean(s.a)
}
