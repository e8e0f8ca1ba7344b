// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
)

// besideMost is how many addresses are held back at other interfaces than their routers'.
const besideMost = 4096

// Seat is where a Virtual Router is on the host.
type Placement struct {
	packet.Key
	Device    int // that its addresses are put on: the interface or its macvlan
	Addresses []netip.Addr
}

// Beside returns the other interfaces that are in the network of a Virtual Router, by
// index, with the addresses that they must not answer for, and whether these are all. It
// is about IPv4: with IPv6, Linux answers at the interface that has the address.
func SuppressARP(seats []Placement, host []link.Interface) (want map[int]map[packet.Key][]netip.Addr, all bool) {
	want = make(map[int]map[packet.Key][]netip.Addr)
	networks, lengths := ofNetworks(seats, host)
	seats = slices.SortedFunc(slices.Values(seats), func(a, b Placement) int {
		return cmp.Or(cmp.Compare(a.VRID, b.VRID), cmp.Compare(a.Ifindex, b.Ifindex))
	})
	n := 0
	for _, s := range seats {
		if s.Ifindex == 0 || s.Family != packet.IPv4 {
			continue
		}
		for _, a := range s.Addresses {
			for _, bits := range lengths {
				for _, i := range networks[netip.PrefixFrom(a, bits).Masked()] {
					if i == s.Ifindex || slices.Contains(want[i][s.Key], a) {
						continue
					}
					if n++; n > besideMost {
						return want, false
					}
					if want[i] == nil {
						want[i] = make(map[packet.Key][]netip.Addr)
					}
					want[i][s.Key] = append(want[i][s.Key], a)
				}
			}
		}
	}
	return want, true
}

// ofNetworks returns the interfaces that are in each network of IPv4, by index, and the
// lengths of the networks' prefixes. The routers' macvlans are none of them.
func ofNetworks(seats []Placement, host []link.Interface) (all map[netip.Prefix][]int, lengths []int) {
	devices := make(map[int]bool)
	for _, s := range seats {
		devices[s.Device] = devices[s.Device] || s.Device != s.Ifindex
	}
	all = make(map[netip.Prefix][]int)
	for _, i := range host {
		if !i.Up || i.MAC == (packet.MAC{}) || i.Kind == link.KindLoopback || devices[i.Index] {
			continue
		}
		for _, a := range i.Addresses {
			if p := a.Prefix.Masked(); p.Addr().Is4() && p.Bits() < 32 {
				all[p] = append(all[p], i.Index)
				if !slices.Contains(lengths, p.Bits()) {
					lengths = append(lengths, p.Bits())
				}
			}
		}
	}
	return all, lengths
}
