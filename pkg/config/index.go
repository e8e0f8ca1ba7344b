// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"slices"
)

// index finds those of thousands of routers that one may be in conflict with.
type index struct {
	names     map[string][]int
	vrids     map[spot][]int
	addresses map[netip.Addr][]int
	modes     map[string]map[string][]int // by interface and xdp_mode
}

type spot struct {
	name string
	vrid int
}

func newIndex() *index {
	return &index{
		names: make(map[string][]int), vrids: make(map[spot][]int),
		addresses: make(map[netip.Addr][]int), modes: make(map[string]map[string][]int),
	}
}

// add makes a router known by its number.
func (x *index) add(i int, r *Router) {
	x.names[r.Name] = append(x.names[r.Name], i)
	x.vrids[spot{r.Interface, r.VRID}] = append(x.vrids[spot{r.Interface, r.VRID}], i)
	for _, p := range r.places() {
		a := p.Address.Addr()
		x.addresses[a] = append(x.addresses[a], i)
	}
	if x.modes[r.Interface] == nil {
		x.modes[r.Interface] = make(map[string][]int)
	}
	x.modes[r.Interface][r.XDPMode] = append(x.modes[r.Interface][r.XDPMode], i)
}

// like returns the routers that have something of a router, or another way to
// receive on its interface, in order.
func (x *index) like(r *Router) []int {
	all := slices.Concat(x.names[r.Name], x.vrids[spot{r.Interface, r.VRID}])
	for _, p := range r.places() {
		all = append(all, x.addresses[p.Address.Addr()]...)
	}
	for mode, others := range x.modes[r.Interface] {
		if mode != r.XDPMode {
			all = append(all, others...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
