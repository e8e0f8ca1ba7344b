// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/tools/lab"
)

var both = []string{"--iface", ifname, "--vip", "198.18.0.10/24", "--vip", "2001:db8::10/64", "--interval", "100ms"}

func args(priority int, more ...string) []string {
	return append(append(append([]string{}, both...), "--priority", fmt.Sprint(priority)), more...)
}

// With every way to receive, a pair handles a crash, a return and a graceful stop alike.
func TestModes(t *testing.T) {
	t.Attr("proves", "D-01 D-02 S-A1 S-B2 S-B3")
	for _, mode := range []string{"auto", "native", "generic", "tc", "off"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			a := s.failoverd(s.a, args(200, "--xdp-mode", mode)...)
			b := s.failoverd(s.b, args(100, "--xdp-mode", mode)...)
			s.waitHolder("198.18.0.10", s.a)
			s.waitHolder("2001:db8::10", s.a)
			s.answeredBy("198.18.0.10", s.a)
			s.answeredBy("2001:db8::10", s.a)

			want := map[string]string{"auto": "tc", "tc": "tc", "native": "xdp-native", "generic": "xdp-generic", "off": "af_packet"}[mode]
			if out := a.Output(); !strings.Contains(out, `"receive":"`+want+`"`) {
				t.Errorf("the log does not say that it receives by %s:\n%s", want, out)
			}

			s.ok(s.ports[s.a].Pull())
			s.waitHolder("198.18.0.10", s.b)
			s.waitHolder("2001:db8::10", s.b)
			s.answeredBy("198.18.0.10", s.b)
			s.ok(s.ports[s.a].Plug())
			s.waitHolder("198.18.0.10", s.a)
			s.waitHolder("2001:db8::10", s.a)

			s.stop(s.a, a)
			s.waitHolder("198.18.0.10", s.b)
			s.answeredBy("198.18.0.10", s.b)
			s.answeredBy("2001:db8::10", s.b)
			s.stop(s.b, b)
		})
	}
}

// A Backup with preempt false doesn't preempt.
func TestNoPreempt(t *testing.T) {
	t.Attr("proves", "K-17 S-B4")
	s := newSite(t)
	a := s.failoverd(s.a, args(100)...)
	s.waitHolder("198.18.0.10", s.a)
	b := s.failoverd(s.b, args(200, "--no-preempt")...)
	s.waitState(b, 0, "ipv4", "Backup")
	time.Sleep(time.Second) // ten intervals
	s.answeredBy("198.18.0.10", s.a)
	s.stop(s.a, a)
	s.waitHolder("198.18.0.10", s.b)
	s.stop(s.b, b)
}

// SIGINT, and SIGHUP of a closed terminal, stop failoverd like SIGTERM: an Active sends priority
// 0.
func TestInterrupt(t *testing.T) {
	t.Attr("proves", "O-06 S-A1")
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			a := s.failoverd(s.a, args(100)...)
			s.waitHolder("198.18.0.10", s.a)
			s.waitHolder("2001:db8::10", s.a)
			frames := len(s.capture.Frames())
			s.ok(a.Signal(signal))
			code, err := a.Wait(s.ctx)
			s.ok(err)
			if code != 0 {
				t.Errorf("exit code %d", code)
			}
			for _, v4 := range []bool{true, false} {
				_, err := s.capture.Wait(s.ctx, frames, func(f lab.Frame) bool {
					a, d, _, ok := f.Advertisement()
					return ok && a.Priority == 0 && d.Source.Is4() == v4
				})
				s.ok(err)
			}
			s.clean(s.a)
		})
	}
}

// A reader of the log that stops reading delays nothing, and failoverd can still be stopped.
func TestLogIsNotRead(t *testing.T) {
	s := newSite(t)
	r, w, err := os.Pipe()
	s.ok(err)
	defer r.Close()
	defer w.Close()
	fd := int(w.Fd())
	s.ok(unix.SetNonblock(fd, true))
	for err == nil { // fill it
		_, err = unix.Write(fd, make([]byte, 4096))
	}
	s.ok(unix.SetNonblock(fd, false))
	cmd := exec.Command(failoverd(), args(100)...)
	cmd.Stderr = w
	s.ok(s.a.Do(cmd.Start))
	s.waitHolder("198.18.0.10", s.a)
	s.waitHolder("2001:db8::10", s.a)
	s.ok(s.ports[s.a].Pull())
	s.waitHolder("198.18.0.10")
	s.ok(s.ports[s.a].Plug())
	s.waitHolder("198.18.0.10", s.a)
	s.ok(cmd.Process.Signal(syscall.SIGTERM))
	s.ok(cmd.Wait())
	s.clean(s.a)
}

// A reader of the log that goes away doesn't affect the addresses.
func TestLogReaderEnds(t *testing.T) {
	s := newSite(t)
	command := strings.Join(append([]string{failoverd()}, args(100)...), " ")
	_, err := s.a.Start("sh", "-c", "exec "+command+" --log-level debug 2>&1 | head -n 1")
	s.ok(err)
	s.waitHolder("198.18.0.10", s.a)
	// Nobody reads the log from here on.
	s.ok(s.ports[s.a].Pull())
	s.waitHolder("198.18.0.10")
	s.ok(s.ports[s.a].Plug())
	s.waitHolder("198.18.0.10", s.a)
	s.answeredBy("198.18.0.10", s.a)
}

// After SIGKILL the addresses are still there. The next start removes them before it takes part,
// and --cleanup removes them too.
func TestKilled(t *testing.T) {
	t.Attr("proves", "O-06")
	for how, mode := range map[string]string{"next start": "generic", "next start, TC": "tc", "--cleanup": "auto"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			a := s.failoverd(s.a, args(200, "--xdp-mode", mode)...)
			s.waitHolder("198.18.0.10", s.a)
			s.waitHolder("2001:db8::10", s.a)
			b := s.failoverd(s.b, args(100)...)
			s.waitState(b, 0, "ipv4", "Backup")
			s.ok(a.Signal(syscall.SIGKILL))
			_, err := a.Wait(s.ctx)
			s.ok(err)
			s.waitHolder("198.18.0.10", s.a, s.b)
			left := leftovers(t, s.ctx, s.a)
			for _, want := range []string{"198.18.0.10", "2001:db8::10", "fe80::12:33", "/run/failoverd", "/sys/fs/bpf/failoverd"} {
				if !strings.Contains(left, want) {
					t.Errorf("%s is gone already, left behind are only: %s", want, left)
				}
			}

			if how != "--cleanup" {
				a = s.failoverd(s.a, args(50, "--xdp-mode", mode)...)
				s.waitState(a, 0, "ipv4", "Backup")
				s.waitHolder("198.18.0.10", s.b)
				s.answeredBy("198.18.0.10", s.b)
				if out := a.Output(); !strings.Contains(out, "removed a leftover of a killed run") || mode == "generic" && !strings.Contains(out, "replaced in place") {
					t.Errorf("the log does not say what it found:\n%s", out)
				}
				s.stop(s.a, a)
				return
			}
			p, err := s.a.Start(failoverd(), "--cleanup")
			s.ok(err)
			code, err := p.Wait(s.ctx)
			s.ok(err)
			if out := p.Output(); code != 0 || !strings.Contains(out, "removed address 198.18.0.10/24 from eth0") || !strings.Contains(out, "removed BPF object") {
				t.Errorf("exit code %d:\n%s", code, out)
			}
			s.clean(s.a)
			s.answeredBy("198.18.0.10", s.b)

			// --cleanup doesn't touch what a running failoverd uses.
			p, err = s.b.Start(failoverd(), "--cleanup")
			s.ok(err)
			code, err = p.Wait(s.ctx)
			s.ok(err)
			if out := p.Output(); code != 0 || !strings.HasPrefix(out, "kept everything of process ") || !strings.HasSuffix(out, ": it is a running failoverd\nthere is nothing to remove\n") {
				t.Errorf("exit code %d:\n%s", code, out)
			}
			s.answeredBy("198.18.0.10", s.b)
			s.stop(s.b, b)
		})
	}
}

// A process that was stopped across its deadline and goes on doesn't take over from an Active that
// was alive all the time.
func TestStoppedBackup(t *testing.T) {
	t.Attr("proves", "TM-02")
	for _, mode := range []string{"auto", "off"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			// Slow enough for the Active to keep its rhythm on a busy machine.
			slow := []string{"--xdp-mode", mode, "--interval", "500ms"}
			s.failoverd(s.a, args(200, slow...)...)
			s.waitHolder("198.18.0.10", s.a)
			b := s.failoverd(s.b, args(100, slow...)...)
			s.waitState(b, 0, "ipv4", "Backup")
			s.waitState(b, 0, "ipv6", "Backup")
			time.Sleep(time.Second) // so that it has heard the Active
			seen := len(b.Transitions())
			for range 2 {
				s.ok(b.Signal(syscall.SIGSTOP))
				time.Sleep(5 * time.Second) // more than two Active_Down_Intervals
				s.ok(b.Signal(syscall.SIGCONT))
				time.Sleep(500 * time.Millisecond)
			}
			if got := b.Transitions(); len(got) != seen {
				t.Errorf("a false failover: %+v", got[seen:])
			}
		})
	}
}

// A change of the interface takes the Virtual Routers, Active or Backup, to Initialize. They come
// back when the interface is as before.
func TestInterfaceEvents(t *testing.T) {
	t.Attr("proves", "S-X3")
	for _, event := range []struct {
		name  string
		cause string
		// away changes the interface, back undoes the change.
		away, back func(s *site) error
	}{
		{
			"down and up", "interface is down",
			func(s *site) error { return s.a.SetDown(ifname) },
			func(s *site) error {
				if err := s.a.SetUp(ifname); err != nil {
					return err
				}
				// The kernel has flushed the IPv6 addresses.
				for _, a := range lab.Addresses(1)[1:] {
					if err := s.a.AddAddress(ifname, a); err != nil && !strings.Contains(err.Error(), "exists") {
						return err
					}
				}
				return nil
			},
		},
		{
			"carrier", "interface is down",
			func(s *site) error { return s.ports[s.a].Pull() },
			func(s *site) error { return s.ports[s.a].Plug() },
		},
		{
			"loses its address", "interface has no address to send from",
			func(s *site) error {
				return firstError(s.a.RemoveAddress(ifname, lab.Addresses(1)[0]), s.a.RemoveAddress(ifname, lab.Addresses(1)[1]))
			},
			func(s *site) error {
				return firstError(s.a.AddAddress(ifname, lab.Addresses(1)[0]), s.a.AddAddress(ifname, lab.Addresses(1)[1]))
			},
		},
		{
			"renamed", "interface was renamed",
			func(s *site) error { return s.a.Rename(ifname, "lan0") },
			func(s *site) error { return s.a.Rename("lan0", ifname) },
		},
		{
			"deleted and recreated", "interface was removed",
			func(s *site) error { return s.ports[s.a].Disconnect() },
			func(s *site) (err error) {
				s.ports[s.a], err = s.lan.Connect(s.a, ifname, lab.Addresses(1)...)
				return err
			},
		},
	} {
		for _, state := range []string{"Active", "Backup"} {
			t.Run(event.name+" while "+state, func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				priority := map[string]int{"Active": 200, "Backup": 50}[state]
				// The interval is long enough for a busy machine, because a failover fails the test.
				b := s.failoverd(s.b, args(100, "--interval", "500ms")...)
				s.waitHolder("198.18.0.10", s.b)
				a := s.failoverd(s.a, args(priority, "--interval", "500ms")...)
				winner := map[string]*lab.Node{"Active": s.a, "Backup": s.b}[state]
				settled := func(from int) {
					for _, family := range []string{"ipv4", "ipv6"} {
						s.waitState(a, from, family, state)
					}
					s.waitHolder("198.18.0.10", winner)
					s.waitHolder("2001:db8::10", winner)
					s.answeredBy("198.18.0.10", winner)
					s.answeredBy("2001:db8::10", winner)
				}
				// left checks the transition to Initialize and returns the line after it.
				left := func(from int) (line int) {
					for _, family := range []string{"ipv4", "ipv6"} {
						tr, n, err := a.WaitTransition(s.ctx, from, func(tr lab.Transition) bool { return tr.Family == family && tr.To == "Initialize" })
						s.ok(err)
						// The second family may go because the first one went.
						if tr.From != state || !strings.HasSuffix(tr.Cause, event.cause) {
							t.Errorf("%s went from %s to Initialize because %q", family, tr.From, tr.Cause)
						}
						line = max(line, n+1)
					}
					return line
				}
				settled(0)

				line := len(a.Lines())
				s.ok(event.away(s))
				after := left(line)
				if event.name != "renamed" {
					s.waitHolder("198.18.0.10", s.b)
					s.answeredBy("198.18.0.10", s.b)
					s.ok(event.back(s))
					settled(after)
				} else {
					// failoverd follows the renamed interface. Here it gets its name back.
					for _, family := range []string{"ipv4", "ipv6"} {
						s.waitState(a, line, family, state)
					}
					line = len(a.Lines())
					s.ok(event.back(s))
					settled(left(line))
				}
				s.stop(s.a, a)
				s.stop(s.b, b)
			})
		}
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// The interface's own addresses stay, even if they became secondary to a virtual one.
func TestOwnAddressesStay(t *testing.T) {
	s := newSite(t)
	a := s.failoverd(s.a, args(100)...)
	s.waitHolder("198.18.0.10", s.a)
	s.ok(s.a.AddAddress(ifname, "198.18.0.33/24"))
	// Now the virtual address is the primary one of the subnet, and failoverd has to send from the
	// other one.
	s.ok(s.a.Sysctl("net.ipv4.conf.eth0.promote_secondaries", "1"))
	s.ok(s.a.RemoveAddress(ifname, "198.18.0.1/24"))
	s.ok(s.a.Sysctl("net.ipv4.conf.eth0.promote_secondaries", "0"))
	_, line, err := a.WaitTransition(s.ctx, 0, func(tr lab.Transition) bool { return tr.Family == "ipv4" && tr.To == "Initialize" })
	s.ok(err)
	s.waitState(a, line, "ipv4", "Active")
	s.waitHolder("198.18.0.10", s.a)
	code, err := a.Stop(s.ctx)
	s.ok(err)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	s.clean(s.a)
	if holds, err := s.a.Holds(ifname, "198.18.0.33/24"); !holds || err != nil {
		t.Errorf("198.18.0.33 is gone: %v", err)
	}
}

// A virtual address that another program removes is added again.
func TestAddressesAreRestored(t *testing.T) {
	s := newSite(t)
	a := s.failoverd(s.a, args(100)...)
	for _, address := range []string{"198.18.0.10/24", "2001:db8::10/64"} {
		s.waitHolder(address, s.a)
		time.Sleep(300 * time.Millisecond) // three advertisements: a steady state
		frames := len(s.capture.Frames())
		s.ok(s.a.RemoveAddress(ifname, address))
		_, err := a.WaitLine(s.ctx, 0, func(l string) bool {
			return strings.Contains(l, "removed by another program") && strings.Contains(l, address)
		})
		s.ok(err)
		s.waitHolder(address, s.a)
		s.answeredBy(strings.Split(address, "/")[0], s.a)
		address, _, _ := strings.Cut(address, "/")
		_, err = s.capture.Wait(s.ctx, frames, func(f lab.Frame) bool { return f.Announces(address, virtualMAC(address)) })
		s.ok(err)
	}
	if n := len(a.Transitions()); n != 4 {
		t.Errorf("%d transitions: %+v", n, a.Transitions())
	}
	s.stop(s.a, a)
}

// The program of a killed run is detached if the next run doesn't use it.
func TestKilledThenWithoutXDP(t *testing.T) {
	s := newSite(t)
	a := s.failoverd(s.a, args(100)...)
	s.waitHolder("198.18.0.10", s.a)
	s.ok(a.Signal(syscall.SIGKILL))
	_, err := a.Wait(s.ctx)
	s.ok(err)
	a = s.failoverd(s.a, args(100, "--xdp-mode", "off")...)
	s.waitState(a, 0, "ipv4", "Active")
	out, err := s.a.Run(s.ctx, "ip", "-o", "link", "show", ifname)
	s.ok(err)
	if strings.Contains(out, "xdp") {
		t.Errorf("an XDP program is still there: %s", out)
	}
	s.stop(s.a, a)
}

// The source address stays the same while possible (RFC 9568 §1.7). Another address on the
// interface, even a virtual one of another program, changes nothing.
func TestSourceStays(t *testing.T) {
	t.Attr("proves", "D-25")
	s := newSite(t)
	a := s.failoverd(s.a, args(100)...)
	s.waitState(a, 0, "ipv4", "Active")
	s.waitState(a, 0, "ipv6", "Active") // the log may report it later
	seen := len(a.Transitions())
	for _, address := range []string{"fe80::1234/64", "198.18.0.77/24", "192.0.2.7/24"} {
		s.ok(s.a.AddAddress(ifname, address))
	}
	// A second failoverd with IPv6 on the same interface adds its addresses too.
	b := s.failoverd(s.a, "--iface", ifname, "--vip", "2001:db8::20/64", "--vrid", "52", "--interval", "100ms")
	s.waitState(b, 0, "ipv6", "Active")
	time.Sleep(time.Second) // ten intervals
	if got := a.Transitions(); len(got) != seen {
		t.Errorf("it changed its state: %+v", got[seen:])
	}
	if got := b.Transitions(); len(got) != 2 {
		t.Errorf("the second failoverd changed its state: %+v", got)
	}
	code, err := b.Stop(s.ctx)
	s.ok(err)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	s.stop(s.a, a)
}

// failoverd unmounts a BPF file system that it had to mount, also after kill -9.
func TestBPFFileSystem(t *testing.T) {
	s := newSite(t)
	s.ok(s.a.Do(func() error { return unix.Unmount("/sys/fs/bpf", 0) }))
	before := host(s, s.a)
	start := func() *lab.Failoverd {
		a := s.failoverd(s.a, args(100)...)
		for _, family := range []string{"ipv4", "ipv6"} {
			s.waitState(a, 0, family, "Active")
		}
		s.waitHolder("198.18.0.10", s.a)
		s.waitHolder("2001:db8::10", s.a)
		if _, err := s.a.Run(s.ctx, "bpftool", "map", "show", "pinned", "/sys/fs/bpf/failoverd/maps/failover_count"); err != nil {
			t.Error(err)
		}
		return a
	}
	kill := func(a *lab.Failoverd) {
		s.ok(a.Signal(syscall.SIGKILL))
		_, err := a.Wait(s.ctx)
		s.ok(err)
	}
	unchanged := func() {
		t.Helper()
		if after := host(s, s.a); after != before {
			t.Errorf("the host has changed from\n%s\nto\n%s", before, after)
		}
	}
	s.stop(s.a, start())
	unchanged()
	kill(start())
	s.stop(s.a, start())
	unchanged()
	kill(start())
	p, err := s.a.Start(failoverd(), "--cleanup")
	s.ok(err)
	_, err = p.Wait(s.ctx)
	s.ok(err)
	if out := p.Output(); !strings.Contains(out, "removed BPF file system on /sys/fs/bpf") {
		t.Errorf("the log has only:\n%s", out)
	}
	unchanged()
}

// A new hardware address is announced, and the state stays. With a virtual MAC the addresses stay
// at that.
func TestHardwareAddressChanges(t *testing.T) {
	for _, mode := range []string{"bpf", "off"} {
		t.Run(mode, func(t *testing.T) { hardwareAddressChanges(t, mode) })
	}
}

func hardwareAddressChanges(t *testing.T, mode string) {
	s := newSite(t)
	a := s.failoverd(s.a, append(args(100), "--virtual-mac", mode)...)
	s.waitHolder("198.18.0.10", s.a)
	s.waitHolder("2001:db8::10", s.a)
	frames := len(s.capture.Frames())
	const mac = "02:00:00:00:47:11"
	_, err := s.a.Run(s.ctx, "ip", "link", "set", ifname, "address", mac)
	s.ok(err)
	for _, address := range []string{"198.18.0.10", "2001:db8::10"} {
		at := mac
		if mode == "bpf" {
			at = virtualMAC(address)
		}
		_, err := s.capture.Wait(s.ctx, frames, func(f lab.Frame) bool { return f.Announces(address, at) })
		s.ok(err)
		s.answeredBy(address, s.a)
	}
	if n := len(a.Transitions()); n != 4 {
		t.Errorf("%d transitions: %+v", n, a.Transitions())
	}
	s.stop(s.a, a)
}

// One failoverd serves two networks: each address is on the interface of its network, and one
// network may fail alone.
func TestTwoInterfaces(t *testing.T) {
	t.Attr("proves", "D-26")
	s := newSite(t)
	other, err := s.lab.LAN("other")
	s.ok(err)
	for n, node := range []*lab.Node{s.a, s.b} {
		_, err := other.Connect(node, "eth1", fmt.Sprintf("192.0.2.%d/24", n+1))
		s.ok(err)
	}
	two := []string{"--iface", "eth0", "--iface", "eth1", "--vip", "192.0.2.10/24", "--vip", "198.18.0.10/24", "--interval", "100ms"}
	a := s.failoverd(s.a, append(two, "--priority", "200")...)
	b := s.failoverd(s.b, two...)
	holds := func(ifname, address string, want *lab.Node) {
		t.Helper()
		s.ok(lab.WaitHolds(s.ctx, ifname, address, []*lab.Node{s.a, s.b}, want))
	}
	holds("eth0", "198.18.0.10", s.a)
	holds("eth1", "192.0.2.10", s.a)
	s.ok(s.ports[s.a].Pull())
	holds("eth0", "198.18.0.10", s.b)
	holds("eth1", "192.0.2.10", s.a)
	s.ok(s.ports[s.a].Plug())
	holds("eth0", "198.18.0.10", s.a)
	s.stop(s.a, a)
	holds("eth1", "192.0.2.10", s.b)
	s.stop(s.b, b)
}

// bpftool shows an administrator the programs and maps while failoverd runs.
func TestBpftool(t *testing.T) {
	s := newSite(t)
	s.failoverd(s.a, args(200)...)
	s.waitHolder("198.18.0.10", s.a)
	b := s.failoverd(s.b, args(100, "--xdp-mode", "generic")...)
	s.waitState(b, 0, "ipv4", "Backup")
	time.Sleep(500 * time.Millisecond) // some advertisements

	programs, err := s.b.Run(s.ctx, "bpftool", "prog", "show", "pinned", "/sys/fs/bpf/failoverd/progs/failover_vrrp")
	s.ok(err)
	if !strings.Contains(programs, "xdp  name failover_vrrp") {
		t.Errorf("bpftool prog: %s", programs)
	}
	net, err := s.b.Run(s.ctx, "bpftool", "net")
	s.ok(err)
	if !strings.Contains(net, ifname) || !strings.Contains(net, "generic") {
		t.Errorf("bpftool net: %s", net)
	}
	links, err := s.b.Run(s.ctx, "bpftool", "link", "show", "pinned", "/sys/fs/bpf/failoverd/links/eth0/xdp")
	s.ok(err)
	if !strings.Contains(links, "xdp  prog") {
		t.Errorf("bpftool link: %s", links)
	}

	for _, m := range []struct{ name, field string }{
		{"failover_count", "delivered"},
		{"failover_count", "checksum_errors"},
		{"failover_router", "vrid"},
		{"failover_router", "running"},
		{"failover_stamp", "received"},
		{"failover_last", "ifindex"},
		{"failover_lease", "active"},
		{"failover_lease", "answer"},
		{"failover_vmac", "slot"},
	} {
		out, err := s.b.Run(s.ctx, "bpftool", "map", "dump", "pinned", "/sys/fs/bpf/failoverd/maps/"+m.name)
		s.ok(err)
		if !strings.Contains(out, `"`+m.field+`":`) {
			t.Errorf("bpftool map dump of %s has no field %s: %.2000s", m.name, m.field, out)
		}
	}
	// The counters increase.
	out, err := s.b.Run(s.ctx, "bpftool", "-j", "map", "dump", "pinned", "/sys/fs/bpf/failoverd/maps/failover_count")
	s.ok(err)
	var dump []struct {
		Formatted struct {
			Values []struct {
				Value map[string]uint64 `json:"value"`
			} `json:"values"`
		} `json:"formatted"`
	}
	s.ok(json.Unmarshal([]byte(out), &dump))
	var delivered uint64
	for _, v := range dump[0].Formatted.Values {
		delivered += v.Value["delivered"]
	}
	if delivered == 0 {
		t.Errorf("no advertisement was counted as delivered: %.2000s", out)
	}
}

// failoverd without a router shows the virtual router of a keepalived.
func TestWatch(t *testing.T) {
	for _, proto := range protocols {
		for _, mode := range []string{"auto", "off"} {
			t.Run(proto.name+"/"+mode, func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				p := &pair{site: s, protocol: proto}
				p.startPeer(150)
				p.waitHolder(p.asked, s.b)
				before := host(s, s.a)
				w, err := s.a.Start(failoverd(), "--iface", ifname, "--xdp-mode", mode)
				s.ok(err)
				source := map[string]string{"ipv4": "198.18.0.2", "ipv6": "fe80::2"}[proto.family]
				want := fmt.Sprintf("eth0 VRID 51 %s version %d: Active %s, priority 150, every 1s", proto.family, proto.version, source)
				line, err := w.WaitLine(s.ctx, 0, func(l string) bool { return strings.Contains(l, want) })
				s.ok(err)
				shown := w.Lines()[line].Text
				for _, a := range proto.addresses {
					if a, _, _ = strings.Cut(a, "/"); !strings.Contains(shown, a) {
						t.Errorf("address %s is not in: %s", a, shown)
					}
				}
				if proto.version == 3 && proto.family == "ipv4" && !strings.Contains(shown, "checksum rfc5798") {
					t.Errorf("the checksum form is not in: %s", shown)
				}
				_, err = w.WaitLine(s.ctx, 0, func(l string) bool {
					return strings.Contains(l, "sudo failoverd --iface eth0 --vrid 51 --priority 100") && strings.Contains(l, "--vip "+proto.addresses[0])
				})
				s.ok(err)

				// It reports that the Active is silent.
				s.ok(s.ports[s.b].Pull())
				_, err = w.WaitLine(s.ctx, line, func(l string) bool { return strings.Contains(l, "silent, no router is Active") })
				s.ok(err)
				s.ok(s.ports[s.b].Plug())

				s.ok(w.Signal(syscall.SIGINT))
				code, err := w.Wait(s.ctx)
				s.ok(err)
				if code != 0 {
					t.Errorf("exit code %d:\n%s", code, w.Output())
				}
				for _, f := range s.capture.Frames() {
					if _, _, _, ok := f.Advertisement(); ok && f.From == s.a.Name {
						t.Errorf("it took part, although it should only listen: %v", f)
					}
				}
				if after := host(s, s.a); after != before {
					t.Errorf("the host has changed from\n%s\nto\n%s", before, after)
				}
			})
		}
	}
}
