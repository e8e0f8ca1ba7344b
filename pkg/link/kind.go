// SPDX-License-Identifier: Apache-2.0

package link

import (
	"net/netip"
	"slices"
)

// The kinds of interfaces, as rtnetlink has them, that matter to somebody.
const (
	// KindLoopback is the Kind of the loopback interface.
	KindLoopback = "loopback"
	// KindVLAN is that of a VLAN on top of another interface.
	KindVLAN = "vlan"
	// KindBridge and KindVRF are those of interfaces that have others as their ports.
	KindBridge = "bridge"
	KindVRF    = "vrf"

	kindMacvlan = "macvlan" // also that of a Device
	kindMacvtap = "macvtap"
	kindIPvlan  = "ipvlan"
	kindIPvtap  = "ipvtap"
	kindDummy   = "dummy"
)

// encapEthernet is what the netlink package calls ARPHRD_ETHER.
const encapEthernet = "ether"

// IsEthernet reports whether frames with Ethernet's header and MACs go over the
// interface. They don't over tun, WireGuard, PPP, GRE, IPIP, SIT or InfiniBand.
func (i Interface) IsEthernet() bool { return i.Encapsulation == encapEthernet }

// OneMAC says why frames to a second MAC never get to the interface: what is below
// delivers those to its own only. It is empty if they do, or nothing is known.
func (i Interface) OneMAC() string {
	switch i.Kind {
	case kindMacvlan, kindMacvtap:
		if i.Passthru {
			return "" // it has all that the one below receives
		}
		return i.Name + " is a " + i.Kind + ", which gets frames to its own MAC only"
	case kindIPvlan, kindIPvtap:
		return i.Name + " is an " + i.Kind + ", which shares the MAC of the interface below and gets packets to its own addresses only"
	}
	return ""
}

// SharesMAC reports whether the interface has the MAC of the one below it, so that no
// device with another one can be put on top.
func (i Interface) SharesMAC() bool { return i.Kind == kindIPvlan || i.Kind == kindIPvtap }

// Silent reports whether nobody beyond the host is told of an address on the interface:
// that of a load balancer or of kube-proxy, which other interfaces answer for.
func (i Interface) Silent() bool {
	return i.Kind == KindLoopback || i.Kind == kindDummy || i.NoARP
}

// MasterOf returns the interface that one is a port of: a bridge, a bond, a VRF.
func MasterOf(i Interface, all []Interface) (Interface, bool) {
	n := slices.IndexFunc(all, func(m Interface) bool { return m.Index == i.Master })
	if i.Master == 0 || n < 0 {
		return Interface{}, false
	}
	return all[n], true
}

// Find returns an address of the interface.
func (i Interface) Find(addr netip.Addr) (Address, bool) {
	n := slices.IndexFunc(i.Addresses, func(a Address) bool { return a.Prefix.Addr() == addr })
	if n < 0 {
		return Address{}, false
	}
	return i.Addresses[n], true
}
