// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"slices"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
)

// Source returns the address to advertise from: the one that is given, or the primary
// address of the interface (RFC 9568 §1.7), which isn't among those excluded; the zero
// Addr if it has none.
func Source(r *config.Router, i *link.Interface, f packet.Family, exclude []netip.Addr) netip.Addr {
	given := r.Unicast.Source(f)
	switch {
	case given.IsValid() && usable(i, given):
		return given
	case given.IsValid():
		return netip.Addr{}
	case f == packet.IPv4:
		return link.PrimaryIPv4(*i, exclude)
	case OnLinkOnly(r.Unicast):
		return link.LinkLocalIPv6(*i, exclude)
	}
	return link.GlobalIPv6(*i, exclude)
}

// OnLinkOnly reports whether an IPv6 router needs no more than a link-local address: to
// the group it must have one, to peers if all of them have.
func OnLinkOnly(u config.Unicast) bool {
	return !slices.ContainsFunc(u.OfFamily(packet.IPv6), func(p config.Peer) bool { return !p.Address.IsLinkLocalUnicast() })
}

// suits reports whether the router may go on to advertise from the address.
func (v *VirtualRouter) suits(from netip.Addr) bool {
	if given := v.Router.Unicast.Source(v.Family); given.IsValid() {
		return from == given
	}
	return from.Is4() || from.IsLinkLocalUnicast() == OnLinkOnly(v.Router.Unicast)
}

// usable reports whether an address is on the interface and can be sent from.
func usable(i *link.Interface, addr netip.Addr) bool {
	return slices.ContainsFunc(i.Addresses, func(a link.Address) bool {
		return a.Prefix.Addr() == addr && !a.Tentative && !a.DADFailed
	})
}

// hops are the router's peers on an interface, with the limits of the TTL of what they
// send. That of a neighbour arrives as it was sent: this router expects its own, because
// it knows no better. It keeps others from passing for the peer. Over IPv6 keepalived
// sends the kernel's Hop Limit, so only somebody who knows better can tell.
func (v *VirtualRouter) hops(i *link.Interface) map[netip.Addr]packet.Hops {
	peers := v.Router.Unicast.OfFamily(v.Family)
	if len(peers) == 0 {
		return nil
	}
	all := make(map[netip.Addr]packet.Hops, len(peers))
	for _, p := range peers {
		least := p.MinTTL
		if least == config.AutoTTL {
			least = 0
			if p.Address.Is4() && neighbor(i, p.Address) {
				least = min(v.Router.Unicast.TTL, p.MaxTTL)
			}
		}
		all[p.Address] = packet.Hops{Min: uint8(least), Max: uint8(p.MaxTTL)}
	}
	return all
}

// neighbor reports whether an address belongs to one of the interface's networks.
func neighbor(i *link.Interface, a netip.Addr) bool {
	return slices.ContainsFunc(i.Addresses, func(own link.Address) bool {
		return own.Prefix.Bits() < a.BitLen() && own.Prefix.Masked().Contains(a)
	})
}
