// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

// fenced lets an Active stop short by a signal, and checks that from the moment
// in which the other router takes over nobody gets an answer from the first.
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
	// The addresses are still on the first; it must not answer for them.
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
			t.Errorf("the first router answers a ping: %v", f)
		}
	}
	return a, b
}

// An Active whose process hangs stops answering before the Backup takes over.
// When it goes on, there is one again that answers: here the first, for it has
// the higher priority.
func TestFenceHang(t *testing.T) {
	inModes(t, (*site).fenceHang)
}

func (s *site) fenceHang() {
	t := s.t
	a, b := s.fenced(syscall.SIGSTOP)
	line, stopped := len(a.Lines()), len(s.capture.Frames())
	s.ok(a.Signal(syscall.SIGCONT))
	// It yields to the one that took over, and preempts in order.
	for _, f := range []string{"ipv4", "ipv6"} {
		line := s.waitState(a, line, f, "Backup")
		s.waitState(a, line, f, "Active")
	}
	if out := a.Output(); !strings.Contains(out, "because this router hadn't advertised") {
		t.Errorf("it doesn't say why it yields:\n%s", out)
	}
	for _, address := range []string{"198.18.0.10", "2001:db8::10"} {
		// Between the two states the addresses may have been away.
		_, err := s.capture.Wait(s.ctx, stopped, func(f lab.Frame) bool { return f.From == s.a.Name && f.Announces(address, s.macOf(s.a, address)) })
		s.ok(err)
		s.waitHolder(address, s.a)
		s.answeredBy(address, s.a)
	}
	if out := a.Output(); strings.Contains(out, "dropped") {
		t.Errorf("its own fence held back what it sent:\n%s", out)
	}
	s.stop(s.a, a)
	s.stop(s.b, b)
}

// An Active that is killed stops answering too, and goes on not to; the next
// start takes the fence away, and --cleanup does.
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
		t.Errorf("cleanup ended with %d:\n%s", code, p.Output())
	}
	s.clean(s.a)
	s.answeredBy("198.18.0.10", s.b)
	s.stop(s.b, b)
}

// An Active that goes on after another one took over says nothing from the
// virtual MACs before it knows, and then gives way although its priority is the
// higher one.
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
		for range 2 { // with the second the first has arrived
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
			t.Errorf("from a virtual MAC: %v", f)
		}
	}
	s.stop(s.a, a)
	s.stop(s.b, b)
}
