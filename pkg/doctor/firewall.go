// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/failoverd/failoverd/pkg/packet"
)

// firewall judges what is dropped. failoverd receives and sends in front of
// netfilter: only the hooks of a device (netdev) see its advertisements. ARP,
// neighbour discovery and other daemons' advertisements are another matter.
func (j *judge) firewall(i *Interface) {
	if j.Ruleset == nil {
		return
	}
	before := len(j.findings)
	routers := j.onInterface(i.Name)
	if hasFamily(routers, packet.IPv4) {
		group := netip.AddrFrom4([4]byte{224, 0, 0, 18})
		j.advertisements(i, Packet{Family: "ipv4", Protocol: "vrrp", Number: "112", Destination: group, Multicast: true}, "meta l4proto 112 accept")
		for _, p := range []Packet{{Family: "arp", In: i.Name}, {Family: "arp", Out: i.Name}} {
			for _, d := range j.Ruleset.Drops(p, map[bool]string{true: "input", false: "output"}[p.Out == ""]) {
				j.bad(Problem, "firewall", i.Name, fmt.Sprintf("%s drops ARP (%s): nobody is told where the virtual addresses are", d, d.Hook), persist,
					"nft insert rule "+d.Chain+" accept")
			}
		}
	}
	if hasFamily(routers, packet.IPv6) {
		group := netip.MustParseAddr("ff02::12")
		j.advertisements(i, Packet{Family: "ipv6", Protocol: "vrrp", Number: "112", Destination: group, Multicast: true}, "meta l4proto 112 accept")
		j.discovery(i)
	}
	if len(j.findings) == before {
		j.good("firewall", i.Name, "nothing is certain to be dropped that failover needs")
	}
}

const persist = "let it through, here and in the file that the rules come from"

// advertisements judges whether VRRP gets through.
func (j *judge) advertisements(i *Interface, p Packet, accept string) {
	out, in := p, p
	out.Out, in.In = i.Name, i.Name
	for _, d := range j.Ruleset.Drops(out, "egress") {
		j.bad(Problem, "firewall", i.Name, fmt.Sprintf("%s drops the advertisements that failoverd sends (%s, protocol 112): every other host takes over", d, p.Family), persist, allow(d, "", accept))
	}
	for _, d := range j.Ruleset.Drops(in, "ingress") {
		if i.Receive == "af_packet" {
			j.bad(Problem, "firewall", i.Name, fmt.Sprintf("%s drops advertisements (%s, protocol 112) before the socket that receives", d, p.Family), persist, allow(d, "", accept))
			continue
		}
		j.bad(Warning, "firewall", i.Name, fmt.Sprintf("%s drops advertisements (%s, protocol 112); failoverd receives in front of it, but wouldn't with an AF_PACKET socket, nor do others here", d, p.Family), persist, allow(d, "", accept))
	}
	others := slices.ContainsFunc(j.Daemons, func(d Daemon) bool { return d.Name != "failoverd" })
	for _, which := range []Packet{in, out} {
		hooks := []string{"prerouting", "input"}
		if which.In == "" {
			hooks = []string{"output", "postrouting"}
		}
		for _, d := range j.Ruleset.Drops(which, hooks...) {
			if !others {
				j.good("firewall", i.Name, "%s drops protocol 112 (%s, %s); failoverd isn't hindered, for it receives and sends in front of it, but keepalived would be", d, p.Family, d.Hook)
				continue
			}
			match := fmt.Sprintf("iifname %q ", i.Name)
			if which.In == "" {
				match = fmt.Sprintf("oifname %q ", i.Name)
			}
			j.bad(Warning, "firewall", i.Name, fmt.Sprintf("%s drops protocol 112 (%s, %s): failoverd receives and sends in front of it, but the other VRRP daemon of this host doesn't", d, p.Family, d.Hook),
				j.managed(persist), allow(d, match, accept))
		}
	}
}

// discovery judges what IPv6 needs to find the virtual addresses.
func (j *judge) discovery(i *Interface) {
	for _, c := range []struct {
		kind, hook, what, accept string
		level                    Level
	}{
		{"nd-neighbor-solicit", "input", "neighbour solicitations: nobody is told where the virtual IPv6 addresses are", "icmpv6 type nd-neighbor-solicit accept", Problem},
		{"nd-neighbor-advert", "output", "neighbour advertisements: nobody is told where the virtual IPv6 addresses are", "icmpv6 type nd-neighbor-advert accept", Problem},
		{"mld-listener-query", "input", "MLD queries: a switch that snoops multicast stops passing ff02::12, the group of VRRP over IPv6", "icmpv6 type mld-listener-query accept", Warning},
		{"mld2-listener-report", "output", "MLD reports: a switch that snoops multicast doesn't pass ff02::12, the group of VRRP over IPv6", "icmpv6 type mld2-listener-report accept", Warning},
	} {
		p := Packet{Family: "ipv6", Protocol: "ipv6-icmp", Number: "58", Type: c.kind, Multicast: c.kind != "nd-neighbor-advert"}
		match := fmt.Sprintf("iifname %q ", i.Name)
		if p.In = i.Name; c.hook == "output" {
			p.In, p.Out = "", i.Name
			match = fmt.Sprintf("oifname %q ", i.Name)
		}
		for _, d := range j.Ruleset.Drops(p, c.hook) {
			j.bad(c.level, "firewall", i.Name, fmt.Sprintf("%s drops %s", d, c.what), persist, allow(d, match, c.accept))
		}
	}
}

// managed adds how the program that made the rules is told.
func (j *judge) managed(remedy string) string {
	switch {
	case j.Ruleset.uses("firewalld"):
		return remedy + "; with firewalld: firewall-cmd --permanent --add-protocol=vrrp && firewall-cmd --reload"
	case j.Ruleset.uses("ufw"):
		return remedy + "; with ufw: -A ufw-before-input -p vrrp -j ACCEPT in /etc/ufw/before.rules, then ufw reload"
	}
	return remedy
}

// allow is the command that inserts a rule in front of those that drop.
func allow(d Drop, match, accept string) string {
	words := strings.Fields(d.Chain)
	if words[0] == "netdev" {
		match = ""
	}
	return fmt.Sprintf("nft insert rule %s '%s'", d.Chain, match+accept)
}
