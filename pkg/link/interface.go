// SPDX-License-Identifier: Apache-2.0

// Package link is the host's side of rtnetlink: which interfaces and addresses
// there are, how they change, and the virtual addresses that are put on them,
// with a journal from which a later run can undo what a killed one left.
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

// dumpTries is how often a listing is tried that changes keep interrupting.
const dumpTries = 10

// Interface is a network interface as it was at one moment.
type Interface struct {
	Index int
	Name  string
	// Kind is rtnetlink's: "veth", "bridge", "vlan", "bond"…; empty for a
	// hardware device.
	Kind string
	// Encapsulation is what its frames begin with, in the netlink package's words:
	// "ether", "none", "ppp"…
	Encapsulation string
	Parent        int // of a VLAN or the like: the index of the interface below
	Master        int // of a port: the index of its bridge, bond or VRF
	MAC           packet.MAC
	NoARP         bool // IFF_NOARP: it doesn't answer for its addresses
	Passthru      bool // a macvlan or macvtap: its mode is passthru
	// Up is IFF_UP, the administrator's wish; Running is IFF_RUNNING, a
	// carrier.
	Up, Running bool
	MTU         int
	Addresses   []Address // in the kernel's order
	// Generation tells it from an interface that was removed and had the same Index. It is
	// known in the pictures of a Monitor only.
	Generation int
}

// Is reports whether it is the same device, whatever has changed of it. Both are of one
// Monitor.
func (i *Interface) Is(o *Interface) bool { return i.Index == o.Index && i.Generation == o.Generation }

// Address is an address on an interface.
type Address struct {
	Prefix     netip.Prefix
	Secondary  bool // IPv4: behind another address of its subnet
	Tentative  bool // IPv6: duplicate address detection is not finished
	DADFailed  bool // IPv6: it is a duplicate
	Deprecated bool
	Temporary  bool // IPv6: it changes every day or so (RFC 8981)
	Host       bool // valid inside the host only
}

// Handle has netlink sockets of the network namespace that it was opened in.
type Handle struct {
	h     *netlink.Handle
	adder *nl.NetlinkSocket // for several requests at once,
	seq   uint32            // the last number of one
}

// NewHandle opens them.
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

// Interfaces lists all interfaces with their addresses.
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
			i.Parent = 0 // it is in another network namespace, and has that one's number
		}
		switch {
		case a.RawFlags&unix.IFF_LOOPBACK != 0:
			i.Kind = KindLoopback
		case i.Kind == "device": // netlink's word for no kind
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

// PrimaryIPv4 returns the address to send IPv4 advertisements from: the first
// that is neither secondary nor one of those to exclude, else the first that
// is not excluded; the zero Addr if there is none.
func PrimaryIPv4(i Interface, exclude []netip.Addr) netip.Addr {
	var second netip.Addr
	for _, a := range i.Addresses {
		addr := a.Prefix.Addr()
		switch {
		case !addr.Is4() || a.Host || slices.Contains(exclude, addr):
		case !a.Secondary:
			return addr
		case !second.IsValid():
			second = addr
		}
	}
	return second
}

// LinkLocalIPv6 returns the address to send IPv6 advertisements from: the
// first link-local one that is usable and not to be excluded, without a zone;
// the zero Addr if there is none.
func LinkLocalIPv6(i Interface, exclude []netip.Addr) netip.Addr {
	return firstIPv6(i, exclude, netip.Addr.IsLinkLocalUnicast)
}

// GlobalIPv6 returns the address to send IPv6 advertisements from to peers
// beyond the link: like LinkLocalIPv6, but the first of another scope.
func GlobalIPv6(i Interface, exclude []netip.Addr) netip.Addr {
	return firstIPv6(i, exclude, netip.Addr.IsGlobalUnicast)
}

func firstIPv6(i Interface, exclude []netip.Addr, scope func(netip.Addr) bool) netip.Addr {
	for _, a := range i.Addresses {
		addr := a.Prefix.Addr()
		// A deprecated one is another Virtual Router's, or about to go.
		if addr.Is6() && scope(addr) && !a.Tentative && !a.DADFailed && !a.Deprecated && !a.Temporary && !slices.Contains(exclude, addr) {
			return addr
		}
	}
	return netip.Addr{}
}

// AddressElsewhere finds the interface other than ifindex that has addr.
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

// Settled returns the interface as it is when duplicate address detection has
// found no duplicates.
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
