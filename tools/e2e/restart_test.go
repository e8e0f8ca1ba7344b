// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

// crash is a pair of routers, of which the Active is killed and started again.
type crash struct {
	*site
	active, backup *configured
	hook           string // the program of the hooks
	called         string // the file that it writes to
	killed         int    // the number of frames before the kill
	links          string // the links that attached the programs before the kill
}

const crashFile = `
global: {notify: %s}
routers:
  - {name: web, interface: eth0, vrid: 51, priority: %d, interval: %s, virtual_mac: "%s", addresses: [198.18.0.10/24, "2001:db8::10/64"%s]}
`

func (s *site) crash(interval string) *crash {
	s.t.Helper()
	dir := s.t.TempDir()
	c := &crash{site: s, called: filepath.Join(dir, "called")}
	c.hook = s.program(dir, "hook", "echo \"$@\" >> "+c.called)
	c.active = s.withFile(s.a, c.file(200, interval, ""))
	for _, f := range []string{"ipv4", "ipv6"} {
		c.active.router("web", f, inState("Active"))
	}
	c.backup = s.withFile(s.b, c.file(100, interval, ""))
	for _, f := range []string{"ipv4", "ipv6"} {
		c.backup.router("web", f, func(r control.Router) bool { return r.State == "Backup" && r.Active != "" })
		s.waitState(c.backup.Failoverd, 0, f, "Backup")
	}
	s.until("the hook ran", func() bool { return len(s.lines(c.called)) > 0 })
	c.answered(s.a)
	return c
}

func (c *crash) file(priority int, interval, more string) string {
	return fmt.Sprintf(crashFile, c.hook, priority, interval, c.mode, more)
}

func (c *crash) answered(by *lab.Node) {
	c.t.Helper()
	for _, address := range []string{"198.18.0.10", "2001:db8::10"} {
		c.answeredBy(address, by)
	}
}

// attached returns the IDs of the links that attach the programs on the first host.
func (c *crash) attached() string {
	c.t.Helper()
	var all []string
	for _, name := range []string{"ingress", "egress"} {
		out, err := c.a.Run(c.ctx, "bpftool", "link", "show", "pinned", "/sys/fs/bpf/failoverd/links/eth0/"+name)
		c.ok(err)
		id, _, _ := strings.Cut(out, ":")
		all = append(all, id)
	}
	return strings.Join(all, " ")
}

// neverBoth asks for the addresses for a while. Two hosts must never answer the same question.
func (c *crash) neverBoth(d time.Duration) {
	c.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		for _, address := range []string{"198.18.0.10", "2001:db8::10"} {
			got, err := c.capture.WhoAnswers(c.c, ifname, netip.MustParseAddr(address), 50*time.Millisecond)
			c.ok(err)
			if len(got) > 1 {
				c.t.Errorf("%v answer for %s; VRRP on the wire:\n%s", got, address, c.capture.VRRP())
			}
		}
	}
}

// kill kills the Active.
func (c *crash) kill() {
	c.t.Helper()
	c.links = c.attached()
	c.killed = len(c.capture.Frames())
	c.ok(c.active.Signal(syscall.SIGKILL))
	_, err := c.active.Wait(c.ctx)
	c.ok(err)
}

// advertised returns the priorities that a host has advertised since the kill.
func (c *crash) advertised(n *lab.Node) (all []int) {
	for _, f := range c.capture.Frames()[c.killed:] {
		if a, _, _, ok := f.Advertisement(); ok && f.From == n.Name {
			all = append(all, int(a.Priority))
		}
	}
	return all
}

// aloneOnTheWire checks that since the kill only the first host has advertised, with its priority.
func (c *crash) aloneOnTheWire() {
	c.t.Helper()
	for _, f := range c.capture.Frames()[c.killed:] {
		if a, d, _, ok := f.Advertisement(); ok && (f.From != c.a.Name || a.Priority != 200) {
			c.t.Errorf("%s advertises priority %d: %v", f.From, a.Priority, d)
		}
	}
}

// untouched checks that no more hooks were called than these, and that the program that watches the
// addresses of the first host has seen no change.
func (c *crash) untouched(called []string, watch *lab.Process) {
	c.t.Helper()
	if got := c.lines(c.called); !slices.Equal(got, called) {
		c.t.Errorf("hooks ran: %v, before %v", got, called)
	}
	if out := watch.Output(); strings.Contains(out, "198.18.0.10") || strings.Contains(out, "2001:db8::10") {
		c.t.Errorf("an address was added or removed:\n%s", out)
	}
}

// A router that was Active when failoverd was killed stays Active if failoverd starts again while
// its lease lasts: the addresses never leave the host, and nobody else notices anything.
func TestContinueAfterKill(t *testing.T) {
	inModes(t, (*site).continueAfterKill)
}

func (s *site) continueAfterKill() {
	t := s.t
	c := s.crash("2s")
	watch, err := s.a.Start("ip", "monitor", "address")
	s.ok(err)
	called := s.lines(c.called)
	transitions := len(c.backup.Transitions())
	for range 2 {
		c.kill()
		c.active = s.withFile(s.a, c.file(200, "2s", ""))
		for _, f := range []string{"ipv4", "ipv6"} {
			r := c.active.router("web", f, inState("Active"))
			if !strings.Contains(r.Cause, "continued as Active after a crash") {
				t.Errorf("the status says %q", r.Cause)
			}
		}
		c.answered(s.a)
		if links := c.attached(); links != c.links {
			t.Errorf("the programs are attached by the links %s, before by %s", links, c.links)
		}
		time.Sleep(8 * time.Second) // longer than Active_Down_Interval
		c.answered(s.a)
		c.aloneOnTheWire()
		for _, all := range c.active.Transitions() {
			if all.To != "Active" || all.From != "Initialize" {
				t.Errorf("a transition of the router that continues: %+v", all)
			}
		}
	}
	if got := c.backup.Transitions(); len(got) != transitions {
		t.Errorf("transitions of the Backup: %v", got[transitions:])
	}
	c.untouched(called, watch)
	continued := 0
	s.ok(c.active.client.Events(s.ctx, 0, false, func(e control.Event) error {
		if e.Kind == "transition" && strings.HasPrefix(e.Text, "continued as Active after a crash") {
			continued++
		}
		return nil
	}))
	if continued != 2 {
		t.Errorf("%d events about it in the history, want one of each family", continued)
	}
	// What it inherited is its own: a graceful stop hands over and leaves nothing.
	s.stop(s.a, c.active.Failoverd)
	for _, f := range []string{"ipv4", "ipv6"} {
		c.backup.router("web", f, inState("Active"))
	}
	c.answered(s.b)
	s.stop(s.b, c.backup.Failoverd)
}

// A start after the lease has ended cleans up and is Backup, because another router is Active.
func TestNoContinueAfterLease(t *testing.T) {
	inModes(t, (*site).noContinueAfterLease)
}

func (s *site) noContinueAfterLease() {
	c := s.crash("200ms")
	c.kill()
	for _, f := range []string{"ipv4", "ipv6"} {
		c.backup.router("web", f, inState("Active"))
	}
	// With a lower priority it doesn't preempt.
	c.active = s.withFile(s.a, c.file(50, "200ms", ""))
	for _, f := range []string{"ipv4", "ipv6"} {
		c.active.router("web", f, inState("Backup"))
	}
	for _, address := range []string{"198.18.0.10", "2001:db8::10"} {
		s.waitHolder(address, s.b)
	}
	c.answered(s.b)
	if got := c.advertised(s.a); len(got) > 0 {
		s.t.Errorf("the first router advertised %v", got)
	}
	s.stop(s.a, c.active.Failoverd)
	s.stop(s.b, c.backup.Failoverd)
}

// A router that has other addresses after the crash starts anew.
func TestContinueChanged(t *testing.T) {
	inModes(t, (*site).continueChanged)
}

func (s *site) continueChanged() {
	c := s.crash("2s")
	c.kill()
	c.active = s.withFile(s.a, c.file(200, "2s", ", 198.18.0.11/24"))
	for _, f := range []string{"ipv4", "ipv6"} {
		s.waitState(c.active.Failoverd, 0, f, "Backup")
	}
	if out := c.active.Output(); !strings.Contains(out, "its addresses have changed") || !strings.Contains(out, "removed a leftover of a killed run") {
		s.t.Errorf("the log does not say why it starts anew:\n%s", out)
	}
	for _, f := range []string{"ipv4", "ipv6"} {
		s.waitState(c.active.Failoverd, 0, f, "Active")
	}
	c.answered(s.a)
	s.answeredBy("198.18.0.11", s.a)
	s.stop(s.a, c.active.Failoverd)
	s.stop(s.b, c.backup.Failoverd)
}

// At a short interval the lease ends about when the start does. Whatever becomes of it, never do
// two hosts answer.
func TestContinueShortInterval(t *testing.T) {
	inModes(t, (*site).continueShortInterval)
}

func (s *site) continueShortInterval() {
	t := s.t
	c := s.crash("100ms")
	for range 3 {
		c.kill()
		c.active = s.withFile(s.a, c.file(200, "100ms", ""))
		c.neverBoth(1500 * time.Millisecond)
		for _, f := range []string{"ipv4", "ipv6"} {
			c.active.router("web", f, inState("Active")) // at the latest by preemption
			c.backup.router("web", f, inState("Backup"))
		}
		c.answered(s.a)
		if got := c.advertised(s.a); slices.Contains(got, 0) {
			t.Errorf("it advertised %v", got)
		}
	}
	s.stop(s.a, c.active.Failoverd)
	s.stop(s.b, c.backup.Failoverd)
}

// A router also continues with the other ways to receive and to advertise, and keeps its routes.
func TestContinueWays(t *testing.T) {
	for name, keys := range map[string][2]string{
		"generic XDP": {"xdp_mode: generic", "xdp_mode: generic"},
		"native XDP":  {"xdp_mode: native", "xdp_mode: native"},
		"unicast":     {"unicast: {peers: [198.18.0.2]}", "unicast: {peers: [198.18.0.1]}"},
		"routes":      {"routes: [{to: 203.0.113.0/24, via: 198.18.0.100}]", "preempt: true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			file := func(priority int, keys string) string {
				return fmt.Sprintf("routers:\n  - {name: web, interface: eth0, vrid: 51, priority: %d, interval: 2s, addresses: [198.18.0.10/24], %s}\n", priority, keys)
			}
			a := s.withFile(s.a, file(200, keys[0]))
			a.router("web", "ipv4", inState("Active"))
			b := s.withFile(s.b, file(100, keys[1]))
			b.router("web", "ipv4", func(r control.Router) bool { return r.State == "Backup" && r.Active == "198.18.0.1" })
			s.waitHolder("198.18.0.10", s.a)
			before := len(b.Transitions())
			watch, err := s.a.Start("ip", "monitor", "address", "route")
			s.ok(err)
			s.ok(a.Signal(syscall.SIGKILL))
			_, err = a.Wait(s.ctx)
			s.ok(err)
			a = s.withFile(s.a, file(200, keys[0]))
			s.waitState(a.Failoverd, 0, "ipv4", "Active")
			time.Sleep(8 * time.Second) // longer than Active_Down_Interval
			s.answeredBy("198.18.0.10", s.a)
			if got := a.Transitions(); len(got) != 1 || !strings.HasPrefix(got[0].Cause, "continued as Active after a crash") {
				t.Errorf("transitions: %+v", got)
			}
			if got := b.Transitions(); len(got) != before {
				t.Errorf("transitions of the Backup: %+v", got[before:])
			}
			if out := watch.Output(); strings.Contains(out, "198.18.0.10") || strings.Contains(out, "203.0.113.0") {
				t.Errorf("an address or a route was added or removed:\n%s", out)
			}
			s.stop(s.a, a.Failoverd)
			b.router("web", "ipv4", inState("Active"))
			s.stop(s.b, b.Failoverd)
		})
	}
}

// A router doesn't continue if its kernel has heard a better one since the crash, although the
// lease would last longer.
func TestNoContinueBehindBetter(t *testing.T) {
	inModes(t, (*site).noContinueBehindBetter)
}

func (s *site) noContinueBehindBetter() {
	t := s.t
	file := fmt.Sprintf("routers:\n  - {name: web, interface: eth0, vrid: 51, priority: 200, interval: 5s, virtual_mac: %q, addresses: [198.18.0.10/24]}\n", s.mode)
	a := s.withFile(s.a, file)
	a.router("web", "ipv4", inState("Active"))
	s.waitHolder("198.18.0.10", s.a)
	s.ok(a.Signal(syscall.SIGKILL))
	_, err := a.Wait(s.ctx)
	s.ok(err)
	rival := packet.Advertisement{Version: 3, VRID: 51, Priority: 201, Interval: 5 * time.Second, Addresses: []netip.Addr{netip.MustParseAddr("198.18.0.10")}}
	frame, err := packet.AppendAdvertisementFrame(nil, packet.VirtualMAC(packet.IPv4, 51), netip.MustParseAddr("198.18.0.2"), &rival, packet.ChecksumRFC9568)
	s.ok(err)
	s.inject(s.b, frame)
	got, err := s.capture.WhoAnswers(s.c, ifname, netip.MustParseAddr("198.18.0.10"), time.Second)
	s.ok(err)
	killed := len(s.capture.Frames())
	a = s.withFile(s.a, file)
	s.waitState(a.Failoverd, 0, "ipv4", "Backup")
	s.waitHolder("198.18.0.10")
	for _, f := range s.capture.Frames()[killed:] {
		if _, _, _, ok := f.Advertisement(); ok && f.From == s.a.Name {
			t.Errorf("it advertises: %v", f)
		}
	}
	if len(got) > 0 {
		t.Errorf("%v still answers", got)
	}
	s.stop(s.a, a.Failoverd)
}

// A start that is killed at any moment leaves nothing that answers without a lease, and the next
// start copes with it.
func TestContinueKilledAgain(t *testing.T) {
	inModes(t, (*site).continueKilledAgain)
}

func (s *site) continueKilledAgain() {
	t := s.t
	c := s.crash("1s")
	c.kill()
	for n := range 12 {
		p := s.withFile(s.a, c.file(200, "1s", ""))
		time.Sleep(time.Duration(20+15*n) * time.Millisecond)
		s.ok(p.Signal(syscall.SIGKILL))
		_, err := p.Wait(s.ctx)
		s.ok(err)
	}
	got, err := s.capture.WhoAnswers(s.c, ifname, netip.MustParseAddr("198.18.0.10"), 500*time.Millisecond)
	s.ok(err)
	if len(got) > 1 {
		t.Errorf("%v answer", got)
	}
	// Whether or not the last one continued, its lease ends.
	for _, f := range []string{"ipv4", "ipv6"} {
		c.backup.router("web", f, inState("Active"))
	}
	c.answered(s.b)
	c.active = s.withFile(s.a, c.file(200, "1s", ""))
	for _, f := range []string{"ipv4", "ipv6"} {
		c.active.router("web", f, inState("Active"))
	}
	c.answered(s.a)
	s.stop(s.a, c.active.Failoverd)
	s.stop(s.b, c.backup.Failoverd)
}

// A router that must wait for longer than its lease lasts loses it, and its addresses, before
// another host takes over.
func TestContinueDelayed(t *testing.T) {
	inModes(t, (*site).continueDelayed)
}

func (s *site) continueDelayed() {
	c := s.crash("2s")
	c.kill()
	c.active = s.withFile(s.a, strings.Replace(c.file(200, "2s", ""), "global: {", "global: {startup_delay: 10s, ", 1))
	c.neverBoth(2 * time.Second)
	for _, f := range []string{"ipv4", "ipv6"} {
		c.backup.router("web", f, inState("Active"))
	}
	for _, address := range []string{"198.18.0.10", "2001:db8::10"} {
		s.waitHolder(address, s.b)
	}
	if out := c.active.Output(); !strings.Contains(out, "was Active when failoverd was killed, and doesn't continue") {
		s.t.Errorf("the log does not say that it doesn't continue:\n%s", out)
	}
	for _, f := range []string{"ipv4", "ipv6"} { // it preempts after the delay
		c.active.router("web", f, inState("Active"))
	}
	c.answered(s.a)
	s.stop(s.a, c.active.Failoverd)
	s.stop(s.b, c.backup.Failoverd)
}

// A router of version 2, one with authentication, and one whose host owns the addresses continue after
// a crash and a restart too, and the Backup notices nothing.
func TestContinueKinds(t *testing.T) {
	t.Parallel()
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("0123456789abcdef", 4)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, kind := range map[string]struct {
		priority int
		keys     string
	}{
		"version 2": {200, "version: 2"},
		"HMAC":      {200, "authentication: {type: hmac, keys: [{id: 1, file: " + key + "}]}"},
		"owner":     {255, "version: 3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.inMode("bpf")
			file := func(priority int) string {
				return fmt.Sprintf("routers:\n  - {name: web, interface: eth0, vrid: 51, priority: %d, interval: 2s, %s, addresses: [198.18.0.10/24]}\n", priority, kind.keys)
			}
			if kind.priority == 255 {
				s.ok(s.a.AddAddress(ifname, "198.18.0.10/24"))
			}
			text := file(kind.priority)
			active := s.withFile(s.a, text)
			active.router("web", "ipv4", inState("Active"))
			s.waitHolder("198.18.0.10", s.a)
			backup := s.withFile(s.b, file(100))
			backup.router("web", "ipv4", func(r control.Router) bool { return r.State == "Backup" && r.Active != "" })
			before := map[*configured]int{backup: len(backup.Transitions())}
			s.ok(active.Signal(syscall.SIGKILL))
			_, err := active.Wait(s.ctx)
			s.ok(err)
			active = s.withFile(s.a, text)
			if r := active.router("web", "ipv4", inState("Active")); !strings.Contains(r.Cause, "continued as Active after a crash") {
				t.Errorf("the status says %q", r.Cause)
			}
			active.restart()
			if r := active.router("web", "ipv4", inState("Active")); !strings.Contains(r.Cause, "continued as Active after a restart") {
				t.Errorf("the status says %q", r.Cause)
			}
			s.answeredBy("198.18.0.10", s.a)
			s.unmoved(name, before)
			_, err = active.Stop(s.ctx)
			s.ok(err)
			if kind.priority == 255 {
				s.ok(s.a.RemoveAddress(ifname, "198.18.0.10/24"))
			}
			s.clean(s.a)
			s.stop(s.b, backup.Failoverd)
		})
	}
}
