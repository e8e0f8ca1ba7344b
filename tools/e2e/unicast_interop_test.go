// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

// far lists the addresses of the host behind the router. routed lists protocols whose virtual
// addresses are in neither network, as hosts on both sides of a router need.
var (
	far    = []string{"198.18.1.2/24", "fe80::2/64", "2001:db8:1::2/64"}
	routed = []protocol{
		{"version 2", 2, "ipv4", []string{"198.18.9.10/32"}, "198.18.9.10"},
		{"version 3 over IPv4", 3, "ipv4", []string{"198.18.9.10/32"}, "198.18.9.10"},
		{"version 3 over IPv6", 3, "ipv6", []string{"fe80::12:33/64", "2001:db8:9::10/128"}, "2001:db8:9::10"},
	}
)

// newRoutedSite returns a site with the two routers in two networks, and an IP router between
// them.
func newRoutedSite(t *testing.T) *site {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	l := lab.ForTest(t)
	s := &site{t: t, ctx: ctx, lab: l, ports: make(map[*lab.Node]*lab.Port), holder: ifname}
	var err error
	s.lan, err = l.LAN("switch")
	s.ok(err)
	other, err := l.LAN("other")
	s.ok(err)
	s.a = s.host("a", 1)
	b, err := other.Host("b", ifname, far...)
	s.ok(err)
	s.b, s.ports[b.Node] = b.Node, b
	router, err := l.Node("router")
	s.ok(err)
	for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		s.ok(router.Sysctl(key, "1"))
	}
	_, err = s.lan.Connect(router, "eth0", "198.18.0.254/24", "2001:db8::fe/64")
	s.ok(err)
	_, err = other.Connect(router, "eth1", "198.18.1.254/24", "2001:db8:1::fe/64")
	s.ok(err)
	s.defaults(s.a, "198.18.0.254", "2001:db8::fe")
	s.defaults(s.b, "198.18.1.254", "2001:db8:1::fe")
	s.capture, err = s.lan.Capture()
	s.ok(err)
	t.Cleanup(func() { _ = s.capture.Close() })
	return s
}

// defaults gives a node default routes. The kernel removes them when its cable is pulled.
func (s *site) defaults(n *lab.Node, four, six string) {
	s.t.Helper()
	for _, gateway := range []string{four, six} {
		_, err := n.Run(s.ctx, "ip", "route", "replace", "default", "via", gateway, "dev", ifname)
		s.ok(err)
	}
}

// cast returns the unicast address of a family from a host's addresses.
func cast(addresses []string, family string) string {
	if family == "ipv6" {
		return netip.MustParsePrefix(addresses[2]).Addr().String()
	}
	return netip.MustParsePrefix(addresses[0]).Addr().String()
}

// failoverd with failoverd or keepalived over unicast: on a LAN, and with an IP router between
// them. Each of them is the Active that crashes, returns and stops.
func TestUnicastInterop(t *testing.T) {
	t.Attr("proves", "O-09")
	for _, between := range []string{"LAN", "router"} {
		for i := range protocols {
			for _, peer := range []string{"failoverd", "keepalived"} {
				proto, there := protocols[i], lab.Addresses(2)
				if between == "router" {
					proto, there = routed[i], far
				}
				t.Run(fmt.Sprintf("%s/%s/%s", between, proto.name, peer), func(t *testing.T) {
					t.Parallel()
					s := newSite
					if between == "router" {
						s = newRoutedSite
					}
					p := &castPair{pair: &pair{site: s(t), protocol: proto}, other: peer}
					p.here, p.there = cast(lab.Addresses(1), proto.family), cast(there, proto.family)
					p.failover()
				})
			}
		}
	}
}

// castPair is a failoverd on node a and its unicast peer on node b.
type castPair struct {
	*pair
	other       string
	here, there string // their addresses
}

func (p *castPair) daemonOn(n *lab.Node, priority int, own, peer string) *lab.Failoverd {
	p.t.Helper()
	args := []string{"--iface", ifname, "--vrid", "51", "--priority", fmt.Sprint(priority), "--vrrp-version", fmt.Sprint(p.version), "--peer", peer, "--source", own}
	for _, a := range p.addresses {
		args = append(args, "--vip", a)
	}
	return p.failoverd(n, args...)
}

// startOther starts the peer on node b.
func (p *castPair) startOther(priority int) *lab.Process {
	p.t.Helper()
	if p.other == "failoverd" {
		return p.daemonOn(p.b, priority, p.there, p.here).Process
	}
	peer, err := p.b.Keepalived(lab.KeepalivedConfig{
		Interface: ifname, Version: p.version, VRID: 51, Priority: priority, Interval: time.Second, Addresses: p.addresses,
		Source: p.there, Peers: []string{p.here},
	})
	p.ok(err)
	p.t.Cleanup(func() {
		if p.t.Failed() {
			p.t.Logf("keepalived wrote:\n%s", peer.Output())
		}
	})
	return peer
}

// holds checks that only the node has the addresses, for longer than the other one waits.
func (p *castPair) holds(n *lab.Node) {
	p.t.Helper()
	p.waitHolder(p.asked, n)
	time.Sleep(4500 * time.Millisecond)
	for _, one := range []*lab.Node{p.a, p.b} {
		holds, err := one.Holds(ifname, p.asked)
		p.ok(err)
		if holds != (one == n) {
			p.t.Errorf("%s has the address: %v; VRRP on the wire:\n%s", one.Name, holds, p.capture.VRRP())
		}
	}
}

func (p *castPair) failover() {
	a := p.daemonOn(p.a, 200, p.here, p.there)
	p.waitHolder(p.asked, p.a)
	b := p.startOther(100)
	p.waitHolder(p.asked, p.a)
	p.holds(p.a)

	p.ok(p.ports[p.a].Pull())
	p.waitHolder(p.asked, p.b)
	p.ok(p.ports[p.a].Plug())
	p.waitHolder(p.asked, p.a)

	p.stop(p.a, a)
	p.waitHolder(p.asked, p.b)
	a = p.daemonOn(p.a, 50, p.here, p.there)
	p.waitState(a, 0, p.family, "Backup")
	p.holds(p.b)
	code, err := b.Stop(p.ctx)
	p.ok(err)
	if code != 0 {
		p.t.Errorf("%s: exit code %d", p.other, code)
	}
	p.waitHolder(p.asked, p.a)
	p.stop(p.a, a)
}
