// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"

	"github.com/failoverd/failoverd/pkg/doctor"
	"github.com/failoverd/failoverd/tools/lab"
)

// patient is a host in a LAN, which the doctor examines.
type patient struct {
	t    *testing.T
	ctx  context.Context
	node *lab.Node
	file string // the path of the configuration
}

func newPatient(t *testing.T) *patient {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	l := lab.ForTest(t)
	p := &patient{t: t, ctx: ctx, file: filepath.Join(t.TempDir(), "failoverd.yaml")}
	p.ok(os.WriteFile(p.file, []byte("routers: [{interface: eth0, vrid: 51, addresses: [198.18.0.10/24, 2001:db8::10/64]}]"), 0o644))
	lan, err := l.LAN("switch")
	p.ok(err)
	p.node, err = l.Node("patient")
	p.ok(err)
	_, err = lan.Connect(p.node, "eth0", "198.18.0.1/24", "2001:db8::1/64")
	p.ok(err)
	_, err = lan.Connect(p.node, "eth1", "203.0.113.1/24")
	p.ok(err)
	return p
}

func (p *patient) ok(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *patient) run(command string) {
	p.t.Helper()
	_, err := p.node.Run(p.ctx, "sh", "-ec", command)
	p.ok(err)
}

// examine runs the doctor on the host.
func (p *patient) examine() doctor.Report {
	p.t.Helper()
	before := p.state()
	c, err := p.node.Start(failoverctl(), "doctor", "--config", p.file, "-o", "json")
	p.ok(err)
	code, err := c.Wait(p.ctx)
	p.ok(err)
	var r doctor.Report
	if err := json.Unmarshal([]byte(c.Output()), &r); err != nil {
		p.t.Fatalf("%v: %s", err, c.Output())
	}
	if want := map[bool]int{true: 1, false: 0}[r.Worst() == doctor.Problem]; code != want {
		p.t.Errorf("exit code %d, want %d: %s", code, want, c.Output())
	}
	if after := p.state(); before != after {
		p.t.Errorf("the doctor has changed the host\nfrom %s\nto %s", before, after)
	}
	return r
}

// state returns the state that the doctor could change, without the state that the kernel and
// keepalived change meanwhile.
func (p *patient) state() string {
	p.t.Helper()
	out, err := p.node.Run(p.ctx, "sh", "-c", `ip -o link | grep -o '^[^<]*\|prog/xdp.*'; ip -o -4 addr | awk '$4 != "198.18.0.10/24" {print $2, $4}'
		for i in eth0 eth1; do tc filter show dev $i ingress; tc qdisc show dev $i; done
		find /run /sys/fs/bpf -not -path '*keepalived*'; nft list ruleset; bpftool net; sysctl -a -r 'eth|all' 2>/dev/null`)
	p.ok(err)
	return out
}

// find returns a finding that reports a fault.
func find(r doctor.Report, check string) (doctor.Finding, bool) {
	n := slices.IndexFunc(r.Findings, func(f doctor.Finding) bool { return f.Check == check && f.Level != doctor.OK })
	if n < 0 {
		return doctor.Finding{}, false
	}
	return r.Findings[n], true
}

// The doctor finds faults of a real host, and no longer finds them after the remedy.
func TestDoctor(t *testing.T) {
	for _, c := range []struct {
		name, check, says string
		level             doctor.Level
		damage            func(p *patient)
		cure              func(p *patient) // the remedy, if it isn't the commands of the finding
	}{
		{"rp_filter", "rp_filter", "eth1", doctor.Warning, func(p *patient) {
			p.ok(p.node.Sysctl("net.ipv4.conf.eth0.rp_filter", "1"))
			p.run("ip route add default via 203.0.113.254 dev eth1")
		}, nil},
		{"arp_ignore", "arp", "arp_ignore is 8", doctor.Problem, func(p *patient) {
			p.ok(p.node.Sysctl("net.ipv4.conf.eth0.arp_ignore", "8"))
		}, func(p *patient) { p.ok(p.node.Sysctl("net.ipv4.conf.eth0.arp_ignore", "1")) }},
		{"nft ingress", "firewall", "rule 2 of nft chain netdev guard in", doctor.Warning, func(p *patient) {
			p.run(`nft 'table netdev guard { chain in { type filter hook ingress device "eth0" priority 0; ip protocol 112 drop; }; }'`)
		}, nil},
		{"nft egress", "firewall", "another host takes over", doctor.Problem, func(p *patient) {
			p.run(`nft 'table netdev guard { chain out { type filter hook egress device "eth0" priority 0; meta l4proto { 88, 112 } counter drop; }; }'`)
		}, nil},
		{"neighbour discovery", "firewall", "neighbour solicitations", doctor.Problem, func(p *patient) {
			p.run(`nft 'table inet filter { chain input { type filter hook input priority 0; policy drop; iif lo accept; icmpv6 type mld-listener-query accept; ct state established,related accept; }; }'`)
		}, nil},
		{"keepalived", "daemon", "VRID 51", doctor.Problem, nil, nil},
		{"foreign XDP program", "xdp", "bystander", doctor.Warning, (*patient).occupy, nil},
		{"snooping bridge", "multicast", "br0", doctor.Warning, func(p *patient) {
			p.run("ip link add br0 type bridge forward_delay 0 mcast_snooping 1; ip link set eth0 master br0; ip link set br0 up; ip addr flush dev eth0; ip addr add 198.18.0.1/24 dev br0; ip addr add fe80::1/64 dev br0")
			p.ok(os.WriteFile(p.file, []byte("routers: [{interface: br0, vrid: 51, addresses: [198.18.0.10/24, 2001:db8::10/64]}]"), 0o644))
		}, nil},
		{"a port of a bridge", "interface", "run the router on br0", doctor.Problem, func(p *patient) {
			p.run("ip link add br0 type bridge forward_delay 0 mcast_snooping 0; ip link set eth0 master br0; ip link set br0 up")
		}, func(p *patient) { p.run("ip link set eth0 nomaster") }},
		{
			"no address", "address", "no IPv4 address", doctor.Problem, func(p *patient) { p.ok(p.node.RemoveAddress("eth0", "198.18.0.1/24")) },
			func(p *patient) { p.ok(p.node.AddAddress("eth0", "198.18.0.1/24")) },
		},
		{
			"a virtual address left", "address", "2001:db8::10", doctor.Problem, func(p *patient) { p.ok(p.node.AddAddress("eth0", "2001:db8::10/64")) },
			func(p *patient) { p.ok(p.node.RemoveAddress("eth0", "2001:db8::10/64")) },
		},
		{"a macvlan left", "daemon", "vrrp.51", doctor.Warning, func(p *patient) {
			p.run("ip link add vrrp.51 link eth0 address 00:00:5e:00:01:33 type macvlan mode private")
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPatient(t)
			if f, ok := find(p.examine(), c.check); ok {
				t.Fatalf("a finding before anything is wrong: %+v", f)
			}
			if c.damage != nil {
				c.damage(p)
			} else {
				c.cure = p.compete()
			}
			f, ok := find(p.examine(), c.check)
			if !ok || f.Level != c.level || !strings.Contains(f.Cause+f.Remedy, c.says) {
				t.Fatalf("finding %+v", f)
			}
			if c.cure != nil {
				c.cure(p)
			} else {
				p.run(strings.Join(f.Commands, "\n"))
			}
			if f, ok := find(p.examine(), c.check); ok {
				t.Errorf("a finding after the remedy: %+v", f)
			}
		})
	}
}

// occupy attaches an XDP program that isn't failoverd's.
func (p *patient) occupy() {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "bystander", Type: ebpf.XDP, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}, // XDP_PASS
	})
	p.ok(err)
	defer func() { _ = program.Close() }() // the interface keeps the program
	device, err := p.node.Netlink().LinkByName("eth0")
	p.ok(err)
	p.ok(p.node.Do(func() error {
		return netlink.LinkSetXdpFdWithFlags(device, program.FD(), nl.XDP_FLAGS_SKB_MODE)
	}))
}

// compete runs keepalived with failoverd's VRID, and returns a function that ends it.
func (p *patient) compete() func(*patient) {
	k, err := p.node.Keepalived(lab.KeepalivedConfig{
		Interface: "eth0", Version: 3, VRID: 51, Priority: 100, Interval: time.Second, Addresses: []string{"198.18.0.10/24"},
	})
	p.ok(err)
	_, err = k.WaitLine(p.ctx, 0, func(line string) bool { return strings.Contains(line, "BACKUP") })
	p.ok(err)
	return func(p *patient) {
		_, err := k.Stop(p.ctx)
		p.ok(err)
	}
}
