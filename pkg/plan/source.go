// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"slices"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
)

// Source returns the address to advertise from: the configured one, or the primary address of the
// interface (RFC 9568 §1.7) without the excluded ones; the zero Addr if there is none.
func Source(r *config.Router, i *link.Interface, f packet.Family, exclude link.AddressSet) netip.Addr {
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

// OnLinkOnly reports whether an IPv6 router sends from a link-local address: always to the
// multicast group, and to unicast peers if all of them are link-local.
func OnLinkOnly(u config.Unicast) bool {
	return !slices.ContainsFunc(u.OfFamily(packet.IPv6), func(p config.Peer) bool { return !p.Address.IsLinkLocalUnicast() })
}

// mayKeepSource reports whether the router may continue to advertise from an address.
func (v *VirtualRouter) mayKeepSource(from netip.Addr) bool {
	if given := v.Router.Unicast.Source(v.Family); given.IsValid() {
		return from == given
	}
	return from.Is4() || from.IsLinkLocalUnicast() == OnLinkOnly(v.Router.Unicast)
}

// usable reports whether an address is on the interface and can be used as a source.
func usable(i *link.Interface, addr netip.Addr) bool {
	return slices.ContainsFunc(i.Addresses, func(a link.Address) bool {
		return a.Prefix.Addr() == addr && !a.Tentative && !a.DADFailed
	})
}

// hops returns the router's peers on an interface, with the limits of the TTL of packets from
// them. A packet from a neighbour arrives with the TTL with which it was sent, and the router
// expects its own TTL, because it knows no better value. That keeps distant hosts from
// impersonating the peer. For IPv6, keepalived sends with the kernel's Hop Limit, so there is no
// limit unless it is configured.
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

// neighbor reports whether an address is in one of the interface's networks.
func neighbor(i *link.Interface, a netip.Addr) bool {
	return slices.ContainsFunc(i.Addresses, func(own link.Address) bool {
		return own.Prefix.Bits() < a.BitLen() && own.Prefix.Masked().Contains(a)
	})
}
