// SPDX-License-Identifier: Apache-2.0

package link

import (
	"net/netip"
	"slices"
)

// Values of Interface.Kind.
const (
	// KindLoopback is the kind of the loopback interface. rtnetlink has no kind for it.
	KindLoopback = "loopback"
	// KindVLAN is the kind of a VLAN on top of another interface.
	KindVLAN = "vlan"
	// KindBridge and KindVRF are kinds of interfaces that have others as their ports.
	KindBridge = "bridge"
	KindVRF    = "vrf"

	kindMacvlan = "macvlan" // the kind of a Device too
	kindMacvtap = "macvtap"
	kindIPvlan  = "ipvlan"
	kindIPvtap  = "ipvtap"
	kindDummy   = "dummy"
)

// encapEthernet is the netlink package's name of ARPHRD_ETHER.
const encapEthernet = "ether"

// IsEthernet reports whether the interface carries Ethernet frames. Interfaces of tun,
// WireGuard, PPP, GRE, IPIP, SIT or InfiniBand don't.
func (i Interface) IsEthernet() bool { return i.Encapsulation == encapEthernet }

// OneMAC returns the reason why the interface never receives frames to a second MAC: the
// interface below it delivers only those to its own. It is empty if frames to other MACs
// arrive, or if that is unknown.
func (i Interface) OneMAC() string {
	switch i.Kind {
	case kindMacvlan, kindMacvtap:
		if i.Passthru {
			return "" // it receives everything that the interface below receives
		}
		return i.Name + " is a " + i.Kind + ", which gets frames to its own MAC only"
	case kindIPvlan, kindIPvtap:
		return i.Name + " is an " + i.Kind + ", which shares the MAC of the interface below and gets packets to its own addresses only"
	}
	return ""
}

// SharesMAC reports whether the interface shares the MAC of the interface below it. A device
// with another MAC can't be put on top of it.
func (i Interface) SharesMAC() bool { return i.Kind == kindIPvlan || i.Kind == kindIPvtap }

// Silent reports whether the interface never announces its addresses to other hosts. Load
// balancers and kube-proxy put addresses on such an interface, and another interface answers
// for them.
func (i Interface) Silent() bool {
	return i.Kind == KindLoopback || i.Kind == kindDummy || i.NoARP
}

// MasterOf returns the bridge, bond or VRF that an interface is a port of, false if it is no
// port.
func MasterOf(i Interface, all []Interface) (Interface, bool) {
	n := slices.IndexFunc(all, func(m Interface) bool { return m.Index == i.Master })
	if i.Master == 0 || n < 0 {
		return Interface{}, false
	}
	return all[n], true
}

// Find returns the interface's entry for an address, false if it doesn't have the address.
func (i Interface) Find(addr netip.Addr) (Address, bool) {
	n := slices.IndexFunc(i.Addresses, func(a Address) bool { return a.Prefix.Addr() == addr })
	if n < 0 {
		return Address{}, false
	}
	return i.Addresses[n], true
}
