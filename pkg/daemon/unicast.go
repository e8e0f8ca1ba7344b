// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/transmit"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// openSocket makes what a Virtual Router's advertisements come and go by: the
// group's membership, or a socket for its peers.
func (p *port) openSocket(m *member) error {
	f := m.id.Family
	if !m.config.Unicast.On() {
		if err := p.conn.Join(f); err != nil {
			return fmt.Errorf("join the %s group: %w", f, err)
		}
		return nil
	}
	if p.unicast[f] != nil {
		return nil
	}
	d, err := transmit.OpenDatagrams(p.bound.Index, f)
	if err != nil {
		return fmt.Errorf("open a socket to the peers: %w", err)
	}
	if p.unicast == nil {
		p.unicast = make(map[packet.Family]*transmit.Datagrams)
	}
	p.unicast[f] = d
	return nil
}

func (p *port) closeSockets() error {
	var errs []error
	for _, d := range p.unicast {
		errs = append(errs, d.Close())
	}
	p.unicast = nil
	if p.conn != nil {
		errs = append(errs, p.conn.Close())
	}
	return errors.Join(errs...)
}

// suits reports whether the router may go on to advertise from the address.
func (m *member) suits(from netip.Addr) bool {
	if given := m.config.Unicast.Source(m.id.Family); given.IsValid() {
		return from == given
	}
	return from.Is4() || from.IsLinkLocalUnicast() == onLinkOnly(m.config.Unicast)
}

// hops are the router's peers on an interface, with the limits of the TTL of
// what they send. That of a neighbour arrives as it was sent: as this router
// does it, for want of more. It keeps others from passing for the peer. Over IPv6
// keepalived sends the kernel's Hop Limit, so only who knows better can tell.
func (m *member) hops(i link.Interface) map[netip.Addr]packet.Hops {
	all := make(map[netip.Addr]packet.Hops)
	for _, p := range m.config.Unicast.OfFamily(m.id.Family) {
		least := p.MinTTL
		if least == config.AutoTTL {
			least = 0
			if p.Address.Is4() && neighbor(i, p.Address) {
				least = min(m.config.Unicast.TTL, p.MaxTTL)
			}
		}
		all[p.Address] = packet.Hops{Min: uint8(least), Max: uint8(p.MaxTTL)}
	}
	return all
}

// neighbor reports whether an address belongs to one of the interface's networks.
func neighbor(i link.Interface, a netip.Addr) bool {
	return slices.ContainsFunc(i.Addresses, func(own link.Address) bool {
		return own.Prefix.Bits() < a.BitLen() && own.Prefix.Masked().Contains(a)
	})
}

// onLinkOnly reports whether an IPv6 router needs no more than a link-local
// address: to the group it must have one, to peers if all of them have.
func onLinkOnly(u config.Unicast) bool {
	return !slices.ContainsFunc(u.OfFamily(packet.IPv6), func(p config.Peer) bool { return !p.Address.IsLinkLocalUnicast() })
}

// source returns the address to advertise from: the one that is given, or the
// primary address of the interface (RFC 9568 §1.7); the zero Addr if it has none.
func source(r config.Router, i link.Interface, f packet.Family, exclude []netip.Addr) netip.Addr {
	given := r.Unicast.Source(f)
	switch {
	case given.IsValid() && usable(i, given):
		return given
	case given.IsValid():
		return netip.Addr{}
	case f == packet.IPv4:
		return link.PrimaryIPv4(i, exclude)
	case onLinkOnly(r.Unicast):
		return link.LinkLocalIPv6(i, exclude)
	}
	return link.GlobalIPv6(i, exclude)
}

// describePeers says what is known of a router's peers.
func describePeers(s router.Status, v view, now vrrp.Instant) []control.Peer {
	var all []control.Peer
	for _, p := range s.Peers {
		hops := v.peers[p.Address]
		peer := control.Peer{Address: p.Address.String(), MinTTL: int(hops.Min), MaxTTL: int(hops.Max)}
		if p.LastHeard != 0 {
			ago := now.Sub(p.LastHeard).Seconds()
			peer.LastHeard = &ago
		}
		all = append(all, peer)
	}
	return all
}
