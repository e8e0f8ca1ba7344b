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

// firewall checks whether rules drop packets that failover needs. failoverd receives and
// sends in front of netfilter, so only the hooks of a device (netdev) see its advertisements.
// Those to unicast peers are an exception, because the kernel routes them. All hooks see ARP,
// neighbour discovery and the advertisements of other daemons.
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
				j.bad(Problem, "firewall", i.Name, fmt.Sprintf("%s drops ARP (%s): hosts can't find the MAC of the virtual addresses", d, d.Hook), persist,
					"nft insert rule "+d.Chain+" accept")
			}
		}
	}
	if hasFamily(routers, packet.IPv6) {
		j.discovery(i)
	}
	if len(j.findings) == before {
		j.good("firewall", i.Name, "no rule is certain to drop packets that failover needs")
	}
}

const persist = "let it through, now and in the file that has the rules"

// sent returns the advertisements that the routers send, without duplicates.
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

// advertisements checks whether rules drop an advertisement.
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
		j.bad(Problem, "firewall", i.Name, fmt.Sprintf("%s drops the advertisements that failoverd sends (%s): another host takes over", d, what), persist, allow(d, match, accept))
	}
	for _, d := range j.Ruleset.Drops(in, "ingress") {
		j.bad(Warning, "firewall", i.Name, fmt.Sprintf("%s drops advertisements (%s); failoverd receives in front of it, but other daemons of this host don't", d, what), persist, allow(d, "", accept))
	}
	others := slices.ContainsFunc(j.Daemons, func(d Daemon) bool { return d.Name != "failoverd" })
	for _, which := range []Packet{in, out} {
		hooks := []string{"prerouting", "input"}
		if which.In == "" {
			if !p.Multicast {
				continue // the loop over hooks has checked these
			}
			hooks = []string{"output", "postrouting"}
		}
		for _, d := range j.Ruleset.Drops(which, hooks...) {
			if !others {
				j.good("firewall", i.Name, "%s drops protocol %s (%s, %s); failoverd isn't affected, because it receives and sends in front of it, but keepalived would be", d, p.Number, p.Family, d.Hook)
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

// discovery checks whether rules drop packets of neighbour and multicast listener discovery.
func (j *judge) discovery(i *Interface) {
	for _, c := range []struct {
		kind, hook, what, accept string
		level                    Level
	}{
		{"nd-neighbor-solicit", "input", "neighbour solicitations: hosts can't find the MAC of the virtual IPv6 addresses", "icmpv6 type nd-neighbor-solicit accept", Problem},
		{"nd-neighbor-advert", "output", "neighbour advertisements: hosts can't find the MAC of the virtual IPv6 addresses", "icmpv6 type nd-neighbor-advert accept", Problem},
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

// managed adds the remedy for the program that manages the rules.
func (j *judge) managed(remedy string) string {
	switch {
	case j.Ruleset.uses("firewalld"):
		return remedy + "; with firewalld: firewall-cmd --permanent --add-protocol=vrrp && firewall-cmd --reload"
	case j.Ruleset.uses("ufw"):
		return remedy + "; with ufw: -A ufw-before-input -p vrrp -j ACCEPT in /etc/ufw/before.rules, then ufw reload"
	}
	return remedy
}

// allow returns the command that inserts an accepting rule in front of the others.
func allow(d Drop, match, accept string) string {
	words := strings.Fields(d.Chain)
	if words[0] == "netdev" {
		match = ""
	}
	return fmt.Sprintf("nft insert rule %s '%s'", d.Chain, match+accept)
}
