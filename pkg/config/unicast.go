// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/failoverd/failoverd/pkg/packet"
)

// DefaultTTL is the default TTL or Hop Limit of unicast advertisements. No packet from
// beyond the link arrives with it (RFC 5082).
const DefaultTTL = 255

// Unicast are the peers to which a router advertises instead of to the group. The zero
// value is multicast.
type Unicast struct {
	// Sources are the addresses to advertise from, at most one of a family. The default of
	// a family is the interface's primary address.
	Sources []netip.Addr
	Peers   []Peer
	TTL     int // 1 to 255
}

// Peer is another host of the VRID.
type Peer struct {
	Address netip.Addr
	// MinTTL and MaxTTL limit the TTL or Hop Limit of its advertisements when they arrive,
	// 0 to 255. A MinTTL of AutoTTL is the router's own TTL for an IPv4 peer in a network
	// of the interface, and 0 for others.
	MinTTL, MaxTTL int
}

// AutoTTL is a MinTTL that depends on the network of the peer.
const AutoTTL = -1

// On reports whether the router has peers.
func (u Unicast) On() bool { return len(u.Peers) > 0 }

// OfFamily returns the peers of one family.
func (u Unicast) OfFamily(f packet.Family) []Peer {
	return slices.DeleteFunc(slices.Clone(u.Peers), func(p Peer) bool { return packet.FamilyOf(p.Address) != f })
}

// Addresses returns the addresses of the peers of one family.
func (u Unicast) Addresses(f packet.Family) (all []netip.Addr) {
	for _, p := range u.OfFamily(f) {
		all = append(all, p.Address)
	}
	return all
}

// Source returns the address to advertise from, the zero Addr for the default.
func (u Unicast) Source(f packet.Family) netip.Addr {
	for _, a := range u.Sources {
		if packet.FamilyOf(a) == f {
			return a
		}
	}
	return netip.Addr{}
}

// family returns the family of the peers and sources: IPv4 unless all are IPv6.
func (u Unicast) family() packet.Family {
	four := func(a netip.Addr) bool { return a.Is4() }
	if len(u.Peers) == 0 || slices.ContainsFunc(u.Sources, four) || len(u.OfFamily(packet.IPv4)) > 0 {
		return packet.IPv4
	}
	return packet.IPv6
}

// String is the value as it is written in the file.
func (u Unicast) String() string {
	if !u.On() {
		return Off
	}
	var g group
	g.add("peers", u.Peers, nil)
	switch len(u.Sources) {
	case 0:
	case 1:
		g.add("source", u.Sources[0], nil)
	default:
		g.add("source", u.Sources, nil)
	}
	g.add("ttl", u.TTL, DefaultTTL)
	return g.String()
}

// String is the value as it is written in the file.
func (p Peer) String() string {
	if p == NewPeer(p.Address) {
		return flow(p.Address)
	}
	var g group
	g.add("address", p.Address, nil)
	g.add("min_ttl", p.MinTTL, AutoTTL)
	g.add("max_ttl", p.MaxTTL, 255)
	return g.String()
}

// NewPeer returns a peer with the default limits.
func NewPeer(a netip.Addr) Peer { return Peer{Address: a, MinTTL: AutoTTL, MaxTTL: 255} }

// ParseHost parses the address of a host: of a peer or of this host.
func ParseHost(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil && strings.Contains(s, "/"):
		return a, fmt.Errorf("address %s: remove the prefix length, because it is the address of one host", quote(s))
	case err != nil:
		return a, fmt.Errorf("%s is not an address: write it like 192.0.2.3 or 2001:db8::3, names aren't looked up", quote(s))
	case a.Zone() != "":
		return a, fmt.Errorf("address %s: remove the zone, because the interface is known", quote(s))
	}
	a = a.Unmap()
	if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Is4() && (a.As4()[0] == 0 || a.As4()[0] == 127 || a.As4()[0] >= 240) {
		return a, fmt.Errorf("address %s can't be another host's: use its unicast address, like 192.0.2.3", quote(s))
	}
	return a, nil
}

// unicastProblems returns the problems of the peers. Item 0 is the whole group, the others
// are the peers and then the sources.
func (r Router) unicastProblems() (all []Problem) {
	u := r.Unicast
	add := func(item int, format string, args ...any) {
		all = append(all, Problem{Key: "unicast", Item: item, Text: fmt.Sprintf(format, args...)})
	}
	if u.TTL < 1 || u.TTL > 255 {
		add(0, "the TTL %d can't be sent: it is 1 to 255", u.TTL)
	}
	virtual := r.virtual()
	peersTwice := repeated(u.Peers, func(p Peer) netip.Addr { return p.Address })
	sourcesTwice := repeated(u.Sources, packet.FamilyOf)
	sources := map[packet.Family]netip.Addr{packet.IPv4: u.Source(packet.IPv4), packet.IPv6: u.Source(packet.IPv6)}
	for i, p := range u.Peers {
		if len(all) > maxProblems {
			break
		}
		f := packet.FamilyOf(p.Address)
		switch source := sources[f]; {
		case peersTwice[i]:
			add(1+i, "peer %s is given twice", p.Address)
		case virtual[p.Address]:
			add(1+i, "peer %s is one of the virtual addresses: give the other host's own address", p.Address)
		case p.Address == source:
			add(1+i, "peer %s is the source, which is this host's: give only the addresses of other hosts", p.Address)
		case !r.Has(f):
			add(1+i, "peer %s is %s, and the router doesn't advertise over %[2]s: remove it", p.Address, f)
		case source.IsLinkLocalUnicast() && source.Is6() && !p.Address.IsLinkLocalUnicast():
			add(1+i, "peer %s can't be reached from the link-local source %s: give another source", p.Address, source)
		}
		least := max(p.MinTTL, 0)
		if p.MinTTL < AutoTTL || least > p.MaxTTL || p.MaxTTL > 255 {
			add(1+i, "min_ttl %d and max_ttl %d allow no TTL: they are 0 to 255, and min_ttl isn't greater than max_ttl", least, p.MaxTTL)
		}
	}
	for i, a := range u.Sources {
		if len(all) > maxProblems {
			break
		}
		f := packet.FamilyOf(a)
		item := 1 + len(u.Peers) + i
		switch {
		case sourcesTwice[i]:
			add(item, "a second source for %s: a family has one", f)
		case !r.Has(f):
			add(item, "the source %s is %s, and the router doesn't advertise over %[2]s: remove it", a, f)
		case virtual[a] && !r.OwnsAddresses():
			add(item, "the source %s is one of the virtual addresses: give an address that stays on this host", a)
		}
	}
	for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
		if r.Has(f) && len(u.OfFamily(f)) == 0 {
			add(0, "the router advertises over %s, but has no %[1]s peer: add one, or put its %[1]s addresses into a router without unicast", f)
		}
	}
	return all
}

// unicastKeys returns the keys below unicast. It appends the nodes of the peers and of the
// sources to two lists.
func unicastKeys(peers, sources *[]*node) []key[Unicast] {
	return []key[Unicast]{
		{name: "peers", kind: kindPeers, required: true, below: below(peerKeys), doc: "The addresses of the other hosts, of each family that the router has addresses of. An entry is an address, or a group of `address`, `min_ttl` and `max_ttl`.", read: func(r *reader, n *node, u *Unicast) []*node {
			for _, item := range r.list(n, "peers", "peers: [192.0.2.3]") {
				if p, ok := r.peer(item); ok {
					u.Peers, *peers = append(u.Peers, p), append(*peers, r.value(item))
				}
			}
			return nil
		}},
		{name: "source", kind: kindHosts, doc: "The address of this host to advertise from, or a list of one for each family. It has to be on the interface. The default is the primary address of the interface; for IPv6 it is the link-local one if all peers are link-local, otherwise the first global one that isn't temporary.", read: func(r *reader, n *node, u *Unicast) []*node {
			list := []*node{n}
			if r.is(n, sequence) {
				list = r.list(n, "source", "")
			}
			for _, item := range list {
				if a, ok := r.host(item); ok {
					u.Sources, *sources = append(u.Sources, a), append(*sources, r.value(item))
				}
			}
			return nil
		}},
		{name: "ttl", kind: kindNumber, min: 1, max: 255, fallback: strconv.Itoa(DefaultTTL), doc: "The TTL or Hop Limit to send with.", read: func(r *reader, n *node, u *Unicast) []*node {
			if v, ok := r.number(n, "ttl"); ok {
				u.TTL = v
			}
			return nil
		}},
	}
}

func unicastKey() key[Router] {
	const name = "unicast"
	doc := "The hosts to advertise to one by one, where there is no multicast, as in most clouds, or where the hosts are in several networks. `off` advertises to the group. With peers, only peers are heard, and nothing that comes by multicast. Each host has its own list."
	return key[Router]{name: name, kind: kindGroup, fallback: Off, doc: doc, below: below(unicastKeys(nil, nil)), sample: "{peers: [192.0.2.3, {address: 198.51.100.3, min_ttl: 254}]}", read: func(r *reader, n *node, t *Router) []*node {
		if r.off(n) {
			return nil
		}
		var peers, sources []*node
		before := r.mistakes.count()
		t.Unicast.TTL = DefaultTTL
		if read(r, n, quote(name), &t.Unicast, unicastKeys(&peers, &sources), nil) && len(t.Unicast.Peers) == 0 && r.mistakes.count() == before {
			r.fail(n, "add `peers: [192.0.2.3]`", "%s has no peer: without one no host hears the router", quote(name))
		}
		return slices.Concat([]*node{r.value(n)}, peers, sources)
	}}
}

// host reads the address of a host.
func (r *reader) host(n *node) (netip.Addr, bool) {
	s, ok := r.text(n, "address")
	if !ok {
		return netip.Addr{}, false
	}
	a, err := ParseHost(s)
	if err != nil {
		r.fail(r.value(n), "", "%s", err)
	}
	return a, err == nil
}

// peer reads a peer: its address, or a group of keys with one.
func (r *reader) peer(n *node) (Peer, bool) {
	if r.is(n, mapping) {
		p, before := NewPeer(netip.Addr{}), r.mistakes.count()
		read(r, n, "the peer", &p, peerKeys, nil)
		if !p.Address.IsValid() && r.mistakes.count() == before {
			r.fail(n, "add `address: 192.0.2.3`", "the peer has no `address`")
		}
		return p, r.mistakes.count() == before
	}
	a, ok := r.host(n)
	return NewPeer(a), ok
}

var peerKeys = []key[Peer]{
	{name: "address", kind: kindText, required: true, doc: "The peer's address.", read: func(r *reader, n *node, p *Peer) []*node {
		p.Address, _ = r.host(n)
		return nil
	}},
	ttlKey("min_ttl", "The least TTL or Hop Limit of the peer's advertisements when they arrive. The default is the `ttl` for an IPv4 peer in a network of the interface, so that no host beyond the link can pretend to be the peer. For other peers it is 0, which accepts any. Behind routers it is 255 less the number of routers. Over IPv6 it is 255 if the peer runs failoverd; keepalived sends the kernel's 64.", func(p *Peer) *int { return &p.MinTTL }),
	ttlKey("max_ttl", "The greatest TTL or Hop Limit of the peer's advertisements. The default is 255.", func(p *Peer) *int { return &p.MaxTTL }),
}

func ttlKey(name, doc string, field func(*Peer) *int) key[Peer] {
	return key[Peer]{name: name, kind: kindNumber, doc: doc, max: 255, read: func(r *reader, n *node, p *Peer) []*node {
		v, ok := r.number(n, name)
		if ok && (v < 0 || v > 255) {
			r.fail(n, "", "%s is %d: it is 0 to 255", quote(name), v)
		} else if ok {
			*field(p) = v
		}
		return nil
	}}
}
