// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/packet"
)

// settings checks the sysctl settings that affect packets to the virtual addresses.
func (j *judge) settings(i *Interface) {
	if i.Settings4 == nil {
		return
	}
	before := len(j.findings)
	routers := j.onInterface(i.Name)
	change := func(name string, value int) string {
		return fmt.Sprintf("sysctl -w net.ipv4.conf.%s.%s=%d", setting(i.Name), name, value)
	}
	if hasFamily(routers, packet.IPv4) {
		j.pathFilter(i, change("rp_filter", 2))
		j.arp(i, routers)
	}
	if slices.ContainsFunc(routers, func(r config.Router) bool { return r.VirtualMAC == config.VirtualMACOff }) {
		if i.Settings4["drop_gratuitous_arp"] == 1 {
			j.bad(Warning, "arp", i.Name, "drop_gratuitous_arp is 1: after a failover this host goes on sending to the old Active, because without a virtual MAC the MAC of the addresses changes",
				"accept gratuitous ARP (in net.ipv4.conf.all too)", change("drop_gratuitous_arp", 0), "sysctl -w net.ipv4.conf.all.drop_gratuitous_arp=0")
		}
		if i.Settings6["drop_unsolicited_na"] == 1 {
			j.bad(Warning, "ndp", i.Name, "drop_unsolicited_na is 1: after a failover this host goes on sending to the old Active, because without a virtual MAC the MAC of the addresses changes",
				"accept unsolicited neighbour advertisements (in net.ipv6.conf.all too)", "sysctl -w net.ipv6.conf."+setting(i.Name)+".drop_unsolicited_na=0", "sysctl -w net.ipv6.conf.all.drop_unsolicited_na=0")
		}
	}
	for _, r := range routers {
		if r.Accepts() {
			continue
		}
		if r.Has(packet.IPv4) && i.Settings4["forwarding"] == 0 {
			j.bad(Problem, "forwarding", i.Name, r.Name+" is a gateway (accept: false), but the host doesn't forward IPv4", "enable forwarding", "sysctl -w net.ipv4.ip_forward=1")
		}
		if r.Has(packet.IPv6) && i.Settings6 != nil && i.Settings6["forwarding"] == 0 {
			j.bad(Problem, "forwarding", i.Name, r.Name+" is a gateway (accept: false), but the host doesn't forward IPv6", "enable forwarding", "sysctl -w net.ipv6.conf.all.forwarding=1")
		}
	}
	if len(j.findings) == before {
		j.good("sysctl", i.Name, "rp_filter %d, arp_ignore %d, arp_announce %d and arp_filter %d don't hinder access to the addresses",
			i.Settings4["rp_filter"], i.Settings4["arp_ignore"], i.Settings4["arp_announce"], i.Settings4["arp_filter"])
	}
}

// pathFilter checks rp_filter. The strict mode is fine if answers leave by the interface that
// the packets arrived on.
func (j *judge) pathFilter(i *Interface, loosen string) {
	if i.Settings4["rp_filter"] != 1 {
		return
	}
	const remedy = "use the loose mode, and add it to /etc/sysctl.d"
	switch {
	case i.Twin != "":
		j.bad(Warning, "rp_filter", i.Name, fmt.Sprintf("rp_filter is strict, and %s is in the same network: packets to the virtual addresses are dropped if the answer would leave through %s", i.Twin, i.Twin), remedy, loosen)
	case i.DefaultRoute != "":
		j.bad(Warning, "rp_filter", i.Name, fmt.Sprintf("rp_filter is strict, and the default route leads through %s: packets to the virtual addresses that arrive here from other networks are dropped", i.DefaultRoute), remedy, loosen)
	}
}

// arp checks whether the host answers ARP for the virtual addresses.
func (j *judge) arp(i *Interface, routers []config.Router) {
	ignore := i.Settings4["arp_ignore"]
	alone := slices.ContainsFunc(routers, func(r config.Router) bool {
		return slices.ContainsFunc(r.Local(packet.IPv4), func(p netip.Prefix) bool { return p.Bits() == 32 })
	})
	answer := []string{
		fmt.Sprintf("sysctl -w net.ipv4.conf.%s.arp_ignore=1", setting(i.Name)), "sysctl -w net.ipv4.conf.all.arp_ignore=1",
	}
	switch {
	case ignore == 8:
		j.bad(Problem, "arp", i.Name, "arp_ignore is 8: the host answers no ARP request, not even for the virtual addresses", "make it answer for the addresses of the interface", answer...)
	case ignore == 2 && alone:
		j.bad(Problem, "arp", i.Name, "arp_ignore is 2, and a virtual address has the prefix length 32: no host is in its network, so the host answers none",
			"give the address the prefix length of the network, or make the host answer all", answer...)
	}
	if i.Settings4["arp_filter"] == 1 && i.Twin != "" {
		j.bad(Warning, "arp", i.Name, fmt.Sprintf("arp_filter is 1, and %s is in the same network: the host answers for the virtual addresses only those hosts that it sends to through %s", i.Twin, i.Name),
			"make it answer on the interface that has the address", fmt.Sprintf("sysctl -w net.ipv4.conf.%s.arp_filter=0", setting(i.Name)), "sysctl -w net.ipv4.conf.all.arp_filter=0")
	}
}

// multicast checks the bridge of an interface. A snooping switch must pass 224.0.0.18 to all
// ports, but ff02::12 only to ports that joined the group.
func (j *judge) multicast(i *Interface) {
	b := i.Bridge
	if b == nil {
		return
	}
	switch {
	case !b.Snooping:
		j.good("multicast", i.Name, "the bridge %s passes multicast to all ports", b.Name)
	case b.Querier:
		j.good("multicast", i.Name, "the bridge %s snoops multicast and is a querier", b.Name)
	case !hasFamily(j.onInterface(i.Name), packet.IPv6):
		j.good("multicast", i.Name, "the bridge %s snoops multicast, but passes 224.0.0.18 to all ports", b.Name)
	default:
		j.bad(Warning, "multicast", i.Name, fmt.Sprintf("the bridge %s snoops multicast and isn't a querier: if the network has no other querier, snooping switches stop passing ff02::12, the group of VRRP over IPv6, after some minutes", b.Name),
			"make it a querier, or enable an MLD querier on a switch of the network", "ip link set dev "+b.Name+" type bridge mcast_querier 1")
	}
}

// managers checks the other programs that manage the addresses of the interface.
func (j *judge) managers(i *Interface) {
	if n := i.Networkd; n != nil {
		switch {
		case n.Keep == "yes" || n.Keep == "static":
			j.good("networkd", i.Name, "systemd-networkd keeps addresses of other programs (KeepConfiguration=%s)", n.Keep)
		case n.File != "":
			dir := fmt.Sprintf("/etc/systemd/network/%s.d", base(n.File))
			j.bad(Warning, "networkd", i.Name, "systemd-networkd removes the virtual addresses when it restarts; failoverd puts them back, but for a moment they are missing",
				"make it keep addresses of other programs", "D="+dir+"; mkdir -p $D",
				`printf '[Network]\nKeepConfiguration=static\n' > $D/failoverd.conf && networkctl reload`)
		}
	}
	if !i.NetworkManager {
		return
	}
	macvlan := slices.ContainsFunc(j.onInterface(i.Name), func(r config.Router) bool { return r.VirtualMAC == config.VirtualMACMacvlan })
	if macvlan {
		j.bad(Warning, "networkmanager", i.Name, "NetworkManager may take over the macvlans of the virtual routers",
			"make it ignore them", "cd /etc/NetworkManager/conf.d",
			`printf '[keyfile]\nunmanaged-devices=interface-name:vrrp[46]-*\n' > failoverd.conf`, "nmcli general reload")
		return
	}
	j.good("networkmanager", i.Name, "NetworkManager removes the virtual addresses when the connection is activated again (nmcli connection up); failoverd puts them back")
}

func base(path string) string { return path[strings.LastIndex(path, "/")+1:] }
