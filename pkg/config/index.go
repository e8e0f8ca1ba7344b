// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"

	"github.com/failoverd/failoverd/pkg/packet"
)

// index has the first of thousands of routers that has something which no other
// can have, by its number.
type index struct {
	names     map[string]int
	vrids     map[vridSpot]int
	addresses map[addressSpot]int
	modes     map[string]int // by interface: the first that receives there
}

type vridSpot struct {
	name   string
	vrid   int
	family packet.Family
}

// addressSpot is where an address may be once: on the host, and a link-local one
// on an interface.
type addressSpot struct {
	address netip.Addr
	name    string
}

func (p place) spot() addressSpot {
	a := p.Address.Addr()
	if a.IsLinkLocalUnicast() {
		return addressSpot{a, p.Interface}
	}
	return addressSpot{address: a}
}

func newIndex() *index {
	return &index{names: make(map[string]int), vrids: make(map[vridSpot]int), addresses: make(map[addressSpot]int), modes: make(map[string]int)}
}

// add makes a router known by its number.
func (x *index) add(i int, r *Router) {
	first(x.names, r.Name, i)
	for _, family := range []packet.Family{packet.IPv4, packet.IPv6} {
		if r.Has(family) {
			first(x.vrids, vridSpot{r.Interface, r.VRID, family}, i)
		}
	}
	for _, p := range r.places() {
		first(x.addresses, p.spot(), i)
	}
	first(x.modes, r.Interface, i)
}

// first keeps the first value of a key.
func first[K comparable, V any](m map[K]V, key K, value V) {
	if _, known := m[key]; !known {
		m[key] = value
	}
}
