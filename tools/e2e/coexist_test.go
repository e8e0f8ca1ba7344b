// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/failoverd/failoverd/pkg/datapath"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/tools/lab"
)

// On a bridge the host's ports keep forwarding the frames of others, including those to the
// virtual MAC, in both states.
func TestOnBridge(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	// Router a is a bridge between the LAN and a guest behind it.
	guest, err := s.lab.Node("guest")
	s.ok(err)
	s.ok(lab.Cable(s.a, guest, "guest0", nil, []string{"198.18.0.60/24", "2001:db8::60/64"}))
	for _, c := range [][]string{
		{"ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0"},
		{"ip", "link", "set", "br0", "address", s.mac(s.a)},
		{"ip", "link", "set", ifname, "master", "br0"},
		{"ip", "link", "set", "guest0", "master", "br0"},
		{"ip", "link", "set", "br0", "up"},
		{"ip", "addr", "flush", "dev", ifname},
		{"ip", "addr", "add", "198.18.0.1/24", "dev", "br0"},
		{"ip", "addr", "add", "2001:db8::1/64", "dev", "br0"},
		{"ip", "addr", "add", "fe80::1/64", "dev", "br0"},
	} {
		_, err := s.a.Run(s.ctx, c[0], c[1:]...)
		s.ok(err)
	}
	onBridge := slices.Clone(bothFamilies)
	onBridge[slices.Index(onBridge, ifname)] = "br0"
	a := s.failoverd(s.a, append(onBridge, "--priority", "200")...)
	line := max(s.waitState(a, 0, "ipv4", "Active"), s.waitState(a, 0, "ipv6", "Active"))
	b := s.failoverd(s.b, bothFamilies...)
	s.waitState(b, 0, "ipv4", "Backup")
	s.waitState(b, 0, "ipv6", "Backup")

	talks := func(when string) {
		t.Helper()
		for n, client := range []*lab.Node{s.c, guest} {
			for _, address := range []string{virtual4, virtual6} {
				p, err := client.Ping(netip.MustParseAddr(address), 10*time.Millisecond)
				s.ok(err)
				if _, err := p.WaitReply(s.ctx, time.Now()); err != nil {
					t.Errorf("%s: client %d has no answer from %s: %v", when, n, address, err)
				}
				s.ok(p.Close())
			}
		}
	}
	talks("Active on the bridge")
	// The other router takes over. The guest's frames to the virtual MAC pass the bridge of a
	// Backup.
	s.stop(s.b, b)
	b = s.failoverd(s.b, append(bothFamilies, "--priority", "250")...)
	s.waitState(a, line, "ipv4", "Backup")
	s.waitState(a, line, "ipv6", "Backup")
	s.waitHolder(virtual6, s.b)
	talks("Backup on the bridge")
	s.stop(s.b, b)
	code, err := a.Stop(s.ctx)
	s.ok(err)
	if code != 0 {
		t.Errorf("exit code %d:\n%s", code, a.Output())
	}
}

// A firewall sees packets to the virtual addresses on the interface where an administrator expects
// them.
func TestWithFirewall(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const rules = `
table inet filter {
	chain input {
		type filter hook input priority 0; policy drop;
		ct state established,related accept
		iifname "eth0" ip protocol 112 accept
		iifname "eth0" ip6 nexthdr 112 accept
		iifname "eth0" icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
		iifname "eth0" ip daddr 198.18.0.10 icmp type echo-request counter accept
		iifname "eth0" ip6 daddr 2001:db8::10 icmpv6 type echo-request counter accept
	}
}`
	for _, n := range []*lab.Node{s.a, s.b} {
		_, err := n.Run(s.ctx, "sh", "-c", fmt.Sprintf("nft -f - <<'END'%s\nEND", rules))
		s.ok(err)
	}
	a := s.failoverd(s.a, append(bothFamilies, "--priority", "200")...)
	s.waitHolder(virtual4, s.a)
	s.waitHolder(virtual6, s.a)
	b := s.failoverd(s.b, bothFamilies...)
	line := max(s.waitState(b, 0, "ipv4", "Backup"), s.waitState(b, 0, "ipv6", "Backup"))
	s.pinged(s.c, virtual4, virtual6)
	s.stop(s.a, a)
	s.waitState(b, line, "ipv4", "Active")
	s.waitState(b, line, "ipv6", "Active")
	s.pinged(s.c, virtual4, virtual6)
	s.stop(s.b, b)
}

// A firewall at a hook before the stack drops what the host sends and what its sockets receive,
// but nothing that a program before that hook handles. failoverctl doctor says which.
func TestDeviceFirewall(t *testing.T) {
	for name, c := range map[string]struct {
		hook, mode string
		on         int // 0: the Active's host, 1: the Backup's
		hears      bool
	}{
		"ingress, tc":     {"ingress", "tc", 1, true},
		"ingress, xdp":    {"ingress", "generic", 1, true},
		"ingress, socket": {"ingress", "off", 1, true},
		"egress":          {"egress", "tc", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			_, err := []*lab.Node{s.a, s.b}[c.on].Run(s.ctx, "nft", fmt.Sprintf(`table netdev guard { chain c { type filter hook %s device "eth0" priority 0; ip protocol 112 drop; }; }`, c.hook))
			s.ok(err)
			const text = "routers: [{name: web, interface: eth0, vrid: 51, interval: 100ms, priority: %d, addresses: [198.18.0.10/24]}]"
			a := s.withFile(s.a, fmt.Sprintf(text, 200))
			if c.hook != "egress" {
				a.router("web", "ipv4", inState("Active"))
			}
			b := s.withFile(s.b, fmt.Sprintf(text, 100)+"\nglobal: {xdp_mode: "+c.mode+"}\n")
			b.router("web", "ipv4", func(r control.Router) bool {
				if c.hears {
					return r.State == "Backup" && r.Active == "198.18.0.1" && r.LastHeard > 0
				}
				return r.State == "Active"
			})
			if c.hook == "egress" { // the other program stays, and the log says why
				a.router("web", "ipv4", func(r control.Router) bool {
					return r.State == "Backup" && slices.ContainsFunc(r.Problems, func(p control.Problem) bool { return p.Kind == control.CannotSend })
				})
			}
			s.stop(s.b, b.Failoverd)
			s.stop(s.a, a.Failoverd)
		})
	}
}

// pinged waits for answers from the addresses.
func (s *site) pinged(client *lab.Node, addresses ...string) {
	s.t.Helper()
	for _, address := range addresses {
		p, err := client.Ping(netip.MustParseAddr(address), 10*time.Millisecond)
		s.ok(err)
		_, err = p.WaitReply(s.ctx, time.Now())
		s.ok(err)
		s.ok(p.Close())
	}
}

// The host still makes temporary addresses (RFC 8981) and uses them as source addresses, and never
// uses a virtual address as one.
func TestPrivacyAddresses(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ok(s.a.Sysctl("net.ipv6.conf.eth0.use_tempaddr", "2"))
	_, err := s.a.Run(s.ctx, "ip", "addr", "add", "2001:db8:2::1/64", "dev", ifname, "mngtmpaddr")
	s.ok(err)
	a := s.failoverd(s.a, append(bothFamilies, "--vip", "2001:db8:2::10/64")...)
	s.waitHolder(virtual6, s.a)
	s.waitHolder("2001:db8:2::10", s.a)
	var source string
	for end := time.Now().Add(patience); !strings.HasPrefix(source, "2001:db8:2:0:") && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		out, err := s.a.Run(s.ctx, "ip", "-6", "route", "get", "2001:db8:2::99")
		s.ok(err)
		_, rest, _ := strings.Cut(out, " src ")
		source, _, _ = strings.Cut(rest, " ")
		if source == "2001:db8:2::10" {
			t.Fatalf("the kernel chose the virtual address as source: %s", out)
		}
	}
	if !strings.HasPrefix(source, "2001:db8:2:0:") {
		t.Errorf("it sends from %s, which isn't a temporary address", source)
	}
	s.pinged(s.c, virtual6)
	s.stop(s.a, a)
}

// A hypervisor that drops frames from other MACs is reported as a problem, with a remedy.
func TestGuardedPort(t *testing.T) {
	for _, guarded := range []bool{true, false} {
		t.Run(fmt.Sprint("guarded ", guarded), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			if guarded {
				guard, err := s.ports[s.a].Guard()
				s.ok(err)
				t.Cleanup(func() { _ = guard.Close() })
			}
			s.pinged(s.a, "198.18.0.100") // so that it learns a neighbour
			a := s.failoverd(s.a, append(bothFamilies, "--log-level", "debug")...)
			_, err := a.WaitLine(s.ctx, 0, func(line string) bool {
				if guarded {
					return strings.Contains(line, "lets no other MAC through") && strings.Contains(line, "virtual_mac: off")
				}
				return strings.Contains(line, "the virtual MAC is let through")
			})
			s.ok(err)
			if !guarded && strings.Contains(a.Output(), "no other MAC") {
				t.Errorf("the log reports a hypervisor that filters, but there is none:\n%s", a.Output())
			}
			s.stop(s.a, a)
		})
	}
}

// TC programs of others that accept all packets don't disable the virtual MAC and the fence, if
// they are attached before failoverd starts.
func TestBesideTC(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		s.bystander(s.a, at, nil)
	}
	a := s.failoverd(s.a, append(bothFamilies, "--priority", "200")...)
	s.waitHolder(virtual4, s.a)
	s.waitHolder(virtual6, s.a)
	s.pinged(s.c, virtual4, virtual6)
	macs, err := s.c.WhoHas(ifname, netip.MustParseAddr(virtual4), time.Second)
	s.ok(err)
	if !slices.Equal(macs, []string{virtualMAC(virtual4)}) {
		t.Errorf("the address is at the MACs %v", macs)
	}
	index := s.index(s.a)
	ahead := func() (names []string) {
		s.ok(s.a.Do(func() (err error) {
			names, err = datapath.Ahead(index)
			return err
		}))
		return names
	}
	if names := ahead(); len(names) > 0 {
		t.Errorf("the programs in front are %v", names)
	}
	s.bystander(s.a, ebpf.AttachTCXIngress, link.Head())
	if names := ahead(); len(names) != 1 || !strings.HasPrefix(names[0], "bystander") {
		t.Errorf("the programs in front are %v", names)
	}
	s.stop(s.a, a)
}

func (s *site) index(n *lab.Node) int {
	s.t.Helper()
	device, err := n.Netlink().LinkByName(ifname)
	s.ok(err)
	return device.Attrs().Index
}

// bystander attaches a TC program that isn't failoverd's and passes everything.
func (s *site) bystander(n *lab.Node, at ebpf.AttachType, anchor link.Anchor) {
	s.t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "bystander", Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}, // TC_ACT_OK
	})
	s.ok(err)
	defer func() { _ = program.Close() }() // the link keeps the program
	index := s.index(n)
	s.ok(n.Do(func() error {
		l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: program, Attach: at, Anchor: anchor})
		if err == nil {
			s.t.Cleanup(func() { _ = l.Close() })
		}
		return err
	}))
}
