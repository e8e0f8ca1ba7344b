// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/packet"
)

// firewall judges what is dropped. failoverd receives and sends in front of
// netfilter: only the hooks of a device (netdev) see its advertisements, but for
// those to unicast peers, which leave by the kernel's routes. ARP, neighbour
// discovery and other daemons' advertisements are another matter.
func (j *judge) firewall(i *Interface) {
	if j.Ruleset == nil {
		return
	}
	before := len(j.findings)
	routers := j.onInterface(i.Name)
	for _, p := range sent(routers) {
		j.advertisements(i, p, "meta l4proto "+p.Number+" accept")
	}
	if hasFamily(routers, packet.IPv4) {
		for _, p := range []Packet{{Family: "arp", In: i.Name}, {Family: "arp", Out: i.Name}} {
			for _, d := range j.Ruleset.Drops(p, map[bool]string{true: "input", false: "output"}[p.Out == ""]) {
				j.bad(Problem, "firewall", i.Name, fmt.Sprintf("%s drops ARP (%s): nobody is told where the virtual addresses are", d, d.Hook), persist,
					"nft insert rule "+d.Chain+" accept")
			}
		}
	}
	if hasFamily(routers, packet.IPv6) {
		j.discovery(i)
	}
	if len(j.findings) == before {
		j.good("firewall", i.Name, "nothing is certain to be dropped that failover needs")
	}
}

const persist = "let it through, here and in the file that the rules come from"

// sent returns the advertisements of routers, each way once.
func sent(routers []config.Router) (all []Packet) {
	add := func(p Packet) {
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	for _, r := range routers {
		p := Packet{Protocol: "vrrp", Number: "112"}
		if r.Authentication.Type == auth.Header {
			p = Packet{Protocol: "ah", Number: "51"}
		}
		for _, peer := range r.Unicast.Peers {
			p.Family, p.Destination = packet.FamilyOf(peer.Address).String(), peer.Address
			add(p)
		}
		if r.Unicast.On() {
			continue
		}
		p.Multicast = true
		for f, group := range map[packet.Family]string{packet.IPv4: "224.0.0.18", packet.IPv6: "ff02::12"} {
			if r.Has(f) {
				p.Family, p.Destination = f.String(), netip.MustParseAddr(group)
				add(p)
			}
		}
	}
	slices.SortFunc(all, func(a, b Packet) int { return a.Destination.Compare(b.Destination) })
	return all
}

// advertisements judges whether VRRP gets through.
func (j *judge) advertisements(i *Interface, p Packet, accept string) {
	out, in := p, p
	out.Out, in.In = i.Name, i.Name
	what := p.Family + ", protocol " + p.Number
	hooks, match := []string{"egress"}, ""
	if !p.Multicast {
		hooks, match = []string{"egress", "output", "postrouting"}, fmt.Sprintf("oifname %q ", i.Name)
		what += ", to " + p.Destination.String()
	}
	for _, d := range j.Ruleset.Drops(out, hooks...) {
		j.bad(Problem, "firewall", i.Name, fmt.Sprintf("%s drops the advertisements that failoverd sends (%s): every other host takes over", d, what), persist, allow(d, match, accept))
	}
	for _, d := range j.Ruleset.Drops(in, "ingress") {
		j.bad(Warning, "firewall", i.Name, fmt.Sprintf("%s drops advertisements (%s); failoverd receives in front of it, but others here don't", d, what), persist, allow(d, "", accept))
	}
	others := slices.ContainsFunc(j.Daemons, func(d Daemon) bool { return d.Name != "failoverd" })
	for _, which := range []Packet{in, out} {
		hooks := []string{"prerouting", "input"}
		if which.In == "" {
			if !p.Multicast {
				continue // see above
			}
			hooks = []string{"output", "postrouting"}
		}
		for _, d := range j.Ruleset.Drops(which, hooks...) {
			if !others {
				j.good("firewall", i.Name, "%s drops protocol %s (%s, %s); failoverd isn't hindered, because it receives and sends in front of it, but keepalived would be", d, p.Number, p.Family, d.Hook)
				continue
			}
			match := fmt.Sprintf("iifname %q ", i.Name)
			if which.In == "" {
				match = fmt.Sprintf("oifname %q ", i.Name)
			}
			j.bad(Warning, "firewall", i.Name, fmt.Sprintf("%s drops protocol %s (%s, %s): failoverd receives and sends in front of it, but the other VRRP daemon of this host doesn't", d, p.Number, p.Family, d.Hook),
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
