// SPDX-License-Identifier: Apache-2.0

// Package link reads and changes the host's network configuration through rtnetlink. It
// watches interfaces, addresses and routes, and adds and removes virtual addresses,
// macvlans, routes and rules. A journal records the changes, so that a later run can undo
// those of a killed one.
package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/packet"
)

// dumpTries is the number of attempts to get a dump that no change interrupts.
const dumpTries = 10

// Interface is the state of a network interface at one moment.
type Interface struct {
	Index int
	Name  string
	// Kind is rtnetlink's kind: "veth", "bridge", "vlan", "bond"…; empty for a hardware
	// device.
	Kind string
	// Encapsulation is the link type, in the netlink package's words: "ether", "none",
	// "ppp"…
	Encapsulation string
	Parent        int // the index of the interface below a VLAN, a macvlan or the like; 0: none
	Master        int // the index of the bridge, bond or VRF that it is a port of; 0: none
	MAC           packet.MAC
	NoARP         bool // IFF_NOARP: it doesn't answer for its addresses
	Passthru      bool // a macvlan or macvtap in mode passthru
	// Up is IFF_UP: the administrator has brought it up. Running is IFF_RUNNING: it has
	// a carrier.
	Up, Running bool
	MTU         int
	Addresses   []Address // in the kernel's order
	// Generation distinguishes it from a removed interface with the same Index. Only a
	// Monitor sets it.
	Generation int
}

// Is reports whether i and o are the same interface at different moments. Both must come
// from one Monitor.
func (i *Interface) Is(o *Interface) bool { return i.Index == o.Index && i.Generation == o.Generation }

// Address is an address on an interface.
type Address struct {
	Prefix     netip.Prefix
	Secondary  bool // IPv4: its subnet has another, primary address
	Tentative  bool // IPv6: duplicate address detection is not finished
	DADFailed  bool // IPv6: it is a duplicate
	Deprecated bool
	Temporary  bool // IPv6: a temporary address (RFC 8981), which changes about once a day
	Host       bool // its scope is the host
}

// Handle holds netlink sockets of the network namespace in which it was opened.
type Handle struct {
	h     *netlink.Handle
	adder *nl.NetlinkSocket // for several requests in one message
	seq   uint32            // the last sequence number sent through adder
}

// NewHandle opens a Handle in the network namespace of the calling thread.
func NewHandle() (*Handle, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	adder, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		h.Close()
		return nil, err
	}
	return &Handle{h: h, adder: adder}, nil
}

// Close closes the sockets.
func (h *Handle) Close() {
	h.h.Close()
	h.adder.Close()
}

// Interfaces returns all interfaces with their addresses.
func (h *Handle) Interfaces() ([]Interface, error) {
	// A dump that a change interrupts is inconsistent.
	for try := 1; ; try++ {
		all, err := h.interfaces()
		if err == nil || try == dumpTries || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
}

func (h *Handle) interfaces() ([]Interface, error) {
	links, err := h.h.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	addresses, err := h.h.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	byIndex := make(map[int][]Address, len(links))
	for _, a := range addresses {
		byIndex[a.LinkIndex] = append(byIndex[a.LinkIndex], address(a))
	}
	all := make([]Interface, 0, len(links))
	for _, l := range links {
		a := l.Attrs()
		i := Interface{
			Index:     a.Index,
			Name:      a.Name,
			Kind:      l.Type(),
			Parent:    a.ParentIndex,
			Master:    a.MasterIndex,
			Up:        a.RawFlags&unix.IFF_UP != 0,
			Running:   a.RawFlags&unix.IFF_RUNNING != 0,
			MTU:       a.MTU,
			Addresses: byIndex[a.Index],

			Encapsulation: a.EncapType,
			NoARP:         a.RawFlags&unix.IFF_NOARP != 0,
			Passthru:      passthru(l),
		}
		copy(i.MAC[:], a.HardwareAddr)
		if a.NetNsID >= 0 {
			i.Parent = 0 // the parent is in another network namespace, where the index belongs
		}
		switch {
		case a.RawFlags&unix.IFF_LOOPBACK != 0:
			i.Kind = KindLoopback
		case i.Kind == "device": // the netlink package's word for no kind
			i.Kind = ""
		}
		all = append(all, i)
	}
	return all, nil
}

func passthru(l netlink.Link) bool {
	switch l := l.(type) {
	case *netlink.Macvlan:
		return l.Mode == netlink.MACVLAN_MODE_PASSTHRU
	case *netlink.Macvtap:
		return l.Mode == netlink.MACVLAN_MODE_PASSTHRU
	}
	return false
}

func address(a netlink.Addr) Address {
	ip, _ := netip.AddrFromSlice(a.IP)
	bits, _ := a.Mask.Size()
	return Address{
		Prefix:     netip.PrefixFrom(ip.Unmap(), bits),
		Secondary:  ip.Unmap().Is4() && a.Flags&unix.IFA_F_SECONDARY != 0,
		Tentative:  a.Flags&unix.IFA_F_TENTATIVE != 0 && a.Flags&unix.IFA_F_OPTIMISTIC == 0,
		DADFailed:  a.Flags&unix.IFA_F_DADFAILED != 0,
		Deprecated: a.Flags&unix.IFA_F_DEPRECATED != 0,
		Temporary:  ip.Unmap().Is6() && a.Flags&unix.IFA_F_TEMPORARY != 0,
		Host:       a.Scope >= unix.RT_SCOPE_HOST,
	}
}

// AddressSet is a set of addresses.
type AddressSet map[netip.Addr]bool

// NewAddressSet returns a set of these addresses.
func NewAddressSet(addresses ...netip.Addr) AddressSet {
	all := make(AddressSet, len(addresses))
	all.Add(addresses...)
	return all
}

// Add adds addresses.
func (s AddressSet) Add(addresses ...netip.Addr) {
	for _, a := range addresses {
		s[a] = true
	}
}

// PrimaryIPv4 returns the address to send IPv4 advertisements from: the first primary
// address that isn't excluded, else the first secondary one that isn't excluded, else the
// zero Addr.
func PrimaryIPv4(i Interface, exclude AddressSet) netip.Addr {
	var second netip.Addr
	for _, a := range i.Addresses {
		addr := a.Prefix.Addr()
		switch {
		case !addr.Is4() || a.Host || exclude[addr]:
		case !a.Secondary:
			return addr
		case !second.IsValid():
			second = addr
		}
	}
	return second
}

// LinkLocalIPv6 returns the address to send IPv6 advertisements from: the first usable
// link-local one that isn't excluded, without a zone, or the zero Addr.
func LinkLocalIPv6(i Interface, exclude AddressSet) netip.Addr {
	return firstIPv6(i, exclude, netip.Addr.IsLinkLocalUnicast)
}

// GlobalIPv6 returns the address to send IPv6 advertisements from to peers beyond the link.
// It is like LinkLocalIPv6, but for global unicast addresses.
func GlobalIPv6(i Interface, exclude AddressSet) netip.Addr {
	return firstIPv6(i, exclude, netip.Addr.IsGlobalUnicast)
}

func firstIPv6(i Interface, exclude AddressSet, scope func(netip.Addr) bool) netip.Addr {
	for _, a := range i.Addresses {
		addr := a.Prefix.Addr()
		// A deprecated address belongs to another Virtual Router or is about to expire.
		if addr.Is6() && scope(addr) && !a.Tentative && !a.DADFailed && !a.Deprecated && !a.Temporary && !exclude[addr] {
			return addr
		}
	}
	return netip.Addr{}
}

// AddressElsewhere returns an interface other than ifindex that has addr, false if there is
// none.
func AddressElsewhere(all []Interface, addr netip.Addr, ifindex int) (Interface, bool) {
	for _, i := range all {
		if i.Index != ifindex && i.has(addr) {
			return i, true
		}
	}
	return Interface{}, false
}

// CarriesVLANs reports whether VLAN devices are on top of the interface.
func CarriesVLANs(all []Interface, ifindex int) bool {
	return slices.ContainsFunc(all, func(i Interface) bool { return i.Kind == KindVLAN && i.Parent == ifindex })
}

// Settled returns the interface as it will be after duplicate address detection, if that
// finds no duplicates.
func (i Interface) Settled() Interface {
	i.Addresses = slices.Clone(i.Addresses)
	for n := range i.Addresses {
		i.Addresses[n].Tentative = false
	}
	return i
}

func (i Interface) has(addr netip.Addr) bool {
	return slices.ContainsFunc(i.Addresses, func(a Address) bool { return a.Prefix.Addr() == addr })
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
