// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"

	"github.com/failoverd/failoverd/pkg/packet"
)

// index finds among thousands of routers the first that has a name, a VRID or an address,
// which no other router can have. Its values are indexes of routers.
type index struct {
	names     map[string]int
	vrids     map[vridSpot]int
	addresses map[netip.Addr]int32
	linkLocal map[addressSpot]int32 // link-local addresses
	modes     map[string]int        // by interface
}

type vridSpot struct {
	name   string
	vrid   int
	family packet.Family
}

// addressSpot is an address on an interface.
type addressSpot struct {
	address netip.Addr
	name    string
}

// has returns the router that has an address. Each interface can have the same link-local
// address.
func (x *index) has(p place) (router int32, ok bool) {
	if a := p.Address.Addr(); a.IsLinkLocalUnicast() {
		router, ok = x.linkLocal[addressSpot{a, p.Interface}]
	} else {
		router, ok = x.addresses[a]
	}
	return router, ok
}

func newIndex() *index {
	return &index{
		names: make(map[string]int), vrids: make(map[vridSpot]int), modes: make(map[string]int),
		addresses: make(map[netip.Addr]int32), linkLocal: make(map[addressSpot]int32),
	}
}

// add adds a router.
func (x *index) add(i int, r *Router) {
	first(x.names, r.Name, i)
	for _, family := range []packet.Family{packet.IPv4, packet.IPv6} {
		if r.Has(family) {
			first(x.vrids, vridSpot{r.Interface, r.VRID, family}, i)
		}
	}
	for _, p := range r.places() {
		if a := p.Address.Addr(); a.IsLinkLocalUnicast() {
			first(x.linkLocal, addressSpot{a, p.Interface}, int32(i))
		} else {
			first(x.addresses, a, int32(i))
		}
	}
	first(x.modes, r.Interface, i)
}

// first adds a value unless the key has one.
func first[K comparable, V any](m map[K]V, key K, value V) {
	if _, known := m[key]; !known {
		m[key] = value
	}
}
