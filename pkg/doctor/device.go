// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/plan"
)

func (j *judge) presence(i *Interface) {
	switch {
	case !i.Present:
		j.bad(Problem, "interface", i.Name, "the interface doesn't exist; failoverd waits for it", "create it, or name another one in the configuration (ip link lists them)")
	case !i.Up:
		j.bad(Problem, "interface", i.Name, "the interface is down", "bring it up", "ip link set "+i.Name+" up")
	case !i.Running:
		j.bad(Problem, "interface", i.Name, "the interface has no carrier", "plug the cable in, or check the port of the switch or the device below the interface")
	}
}

func (j *judge) device(i *Interface) {
	before := len(j.findings)
	uses := j.usesVirtualMAC(i)
	if !i.Ethernet {
		j.bad(Problem, "interface", i.Name, "it isn't an Ethernet interface: VRRP isn't defined for it", "run the router on an Ethernet interface")
		return
	}
	if !i.Multicast {
		j.bad(Problem, "interface", i.Name, "the MULTICAST flag is off: neither advertisements nor neighbour discovery work", "set the flag", "ip link set "+i.Name+" multicast on")
	}
	if i.NoARP {
		j.bad(Problem, "interface", i.Name, "the NOARP flag is set: hosts can't find the MAC of the addresses", "clear the flag", "ip link set "+i.Name+" arp on")
	}
	if i.Master != "" && slices.Contains([]string{"bridge", "bond", "team", "openvswitch"}, i.MasterKind) {
		j.bad(Problem, "interface", i.Name, fmt.Sprintf("it is a port of the %s %s, which has the host's addresses and takes all packets that arrive", i.MasterKind, i.Master),
			"run the router on "+i.Master)
	}
	if i.Wireless && uses {
		j.bad(Warning, "interface", i.Name, "it is wireless: an access point only passes frames of the MAC that joined", "use virtual MAC mode off on all hosts")
	}
	if i.OneMAC != "" && slices.ContainsFunc(j.onInterface(i.Name), func(r config.Router) bool { return r.VirtualMAC == config.VirtualMACBPF }) {
		j.bad(Problem, "interface", i.Name, i.OneMAC+": no host reaches the virtual MAC", "use virtual MAC mode auto or off, or run the router on the interface below")
	}
	if strings.HasPrefix(i.BondMode, "balance-alb") || strings.HasPrefix(i.BondMode, "balance-tlb") {
		j.bad(Warning, "interface", i.Name, "bond mode "+i.BondMode+" sends from the MACs of its ports and rewrites ARP replies: the virtual MAC is lost",
			"use mode active-backup or 802.3ad, or virtual MAC mode off on all hosts")
	}
	for _, r := range j.onInterface(i.Name) {
		for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
			if text, remedy := r.TooLong(f, i.MTU); text != "" {
				j.bad(Problem, "mtu", i.Name, text, remedy)
			}
		}
	}
	if len(j.findings) == before {
		j.good("interface", i.Name, "%s, MTU %d", kind(i), i.MTU)
	}
}

func kind(i *Interface) string {
	switch {
	case i.Kind != "":
		return "a " + i.Kind + " device"
	case i.Driver != "":
		return "a NIC of the driver " + i.Driver
	}
	return "a NIC"
}

// usesVirtualMAC reports whether a router of the interface may use a virtual MAC.
func (j *judge) usesVirtualMAC(i *Interface) bool {
	routers := j.onInterface(i.Name)
	return len(routers) == 0 || slices.ContainsFunc(routers, func(r config.Router) bool { return r.VirtualMAC != config.VirtualMACOff })
}

func (j *judge) reception(i *Interface) {
	if i.Receive != "" {
		j.good("receive", i.Name, "receives by %s: %s", i.Receive, i.ReceiveWhy)
	}
	if i.Occupant != "" {
		off := map[string]string{"native": "xdpdrv", "generic": "xdpgeneric"}[i.OccupantMode]
		cause := fmt.Sprintf("the XDP program %s (%s) of another owner sees each packet before failoverd does", i.Occupant, i.OccupantMode)
		if i.Receive == "af_packet" {
			cause += "; failoverd receives by a socket behind it, which a hung or busy host reads late"
		}
		j.bad(Warning, "xdp", i.Name, cause,
			"make sure that it passes IP protocol 112 and the packets to the virtual addresses; if it isn't needed, detach it (with bpftool link detach if it has a link)",
			"ip link set dev "+i.Name+" "+off+" off")
	}
	if len(i.Ahead) > 0 {
		remedy := "restart failoverd, which attaches its programs in front of the existing ones, or make sure that this program leaves IP protocol 112, ARP and neighbour discovery to the programs behind it (TCX_NEXT)"
		if i.Receive == "tc" {
			remedy += ", or receive in front of it with xdp_mode: generic"
		}
		j.bad(Warning, "tc", i.Name, fmt.Sprintf("the TC program %s of another owner runs before failoverd's: a program that accepts packets itself (TC_ACT_OK, as Cilium does) keeps them from failoverd", strings.Join(i.Ahead, ", ")), remedy)
	}
	if i.LRO && (i.Receive == "xdp-native" || i.Driver != "" && i.Kind == "") {
		j.bad(Warning, "offload", i.Name, "large receive offload is on: drivers refuse XDP with it or lose packets, and a router must not use it", "turn it off",
			"ethtool -K "+i.Name+" lro off")
	}
}

func (j *judge) addresses(i *Interface) {
	before := len(j.findings)
	routers := j.onInterface(i.Name)
	for _, r := range routers {
		for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
			own, what, example := i.Primary, "IPv4", "192.0.2.2/24"
			if f == packet.IPv6 {
				own, what, example = i.LinkLocal, "IPv6 link-local", "fe80::2/64"
			}
			if r.Has(f) && !own.IsValid() {
				j.bad(Problem, "address", i.Name, fmt.Sprintf("it has no %s address of its own that %s can send advertisements from", what, r.Name),
					fmt.Sprintf("add one beside the virtual addresses, for example ip addr add %s dev %s", example, i.Name))
			}
		}
		if j.Status == nil && !r.OwnsAddresses() {
			j.leftover(i, r)
		}
	}
	for _, o := range i.Obstacles {
		if j.Status == nil && o.Code == plan.AddressElsewhere { // a running failoverd reports this itself
			j.bad(Problem, "address", i.Name, o.Text, o.Remedy)
		}
	}
	for _, d := range i.Doubts {
		if d.Code != plan.BridgePort { // device has it
			j.bad(Warning, "address", i.Name, d.Text, d.Remedy)
		}
	}
	if v6 := i.Settings6; v6["disable_ipv6"] == 1 && hasFamily(routers, packet.IPv6) {
		j.bad(Problem, "ipv6", i.Name, "IPv6 is disabled on it, but a router has IPv6 addresses", "enable IPv6", "sysctl -w net.ipv6.conf."+setting(i.Name)+".disable_ipv6=0")
	}
	if len(j.findings) == before && len(routers) > 0 {
		var own []string
		for _, a := range []netip.Addr{i.Primary, i.LinkLocal} {
			if a.IsValid() {
				own = append(own, a.String())
			}
		}
		j.good("address", i.Name, "has its own addresses to send advertisements from: %s", strings.Join(own, ", "))
	}
}

// leftover checks for virtual addresses on the interface while no failoverd runs.
func (j *judge) leftover(i *Interface, r config.Router) {
	for _, p := range r.Addresses {
		if r.InterfaceOf(p.Addr()) == i.Name && slices.ContainsFunc(i.Addresses, func(a netip.Prefix) bool { return a.Addr() == p.Addr() }) {
			j.bad(Problem, "address", i.Name, fmt.Sprintf("it has the virtual address %s, but no failoverd runs: two hosts may answer for the address", p.Addr()),
				fmt.Sprintf("if a killed failoverd left it behind, failoverd --cleanup removes it; otherwise ip addr del %s dev %s", p, i.Name))
		}
	}
}

// hasFamily reports whether a router has addresses of the family. Without routers, which
// means without a configuration, it returns true.
func hasFamily(routers []config.Router, f packet.Family) bool {
	return len(routers) == 0 || slices.ContainsFunc(routers, func(r config.Router) bool { return r.Has(f) })
}

// setting returns the name of an interface in the form that sysctl needs.
func setting(name string) string { return strings.ReplaceAll(name, ".", "/") }
