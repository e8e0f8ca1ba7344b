// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/router"
)

// besideMost is how many addresses are held back at other interfaces than their routers'.
const besideMost = 4096

// beside has other interfaces of this host that are in a router's network not answer for
// its addresses.
type beside struct {
	set   func(datapath.Link, map[packet.Key][]netip.Addr) error
	views func() map[router.ID]view
	host  func() []link.Interface
	log   *logrus.Logger

	knownViews, knownHost uintptr // what follow has seen
	told                  map[datapath.Link]map[packet.Key][]netip.Addr
	failed                string
	again                 bool // something failed
}

// follow tells the datapath what has changed.
func (b *beside) follow() {
	views, host := b.views(), b.host()
	seen, picture := reflect.ValueOf(views).Pointer(), reflect.ValueOf(host).Pointer()
	if seen == b.knownViews && picture == b.knownHost && !b.again {
		return
	}
	b.knownViews, b.knownHost = seen, picture
	want, all := besides(views, host)
	failed, again := "", false
	if !all {
		failed = "too many addresses are in networks that other interfaces are in too, these answer for some of them"
	}
	told := make(map[datapath.Link]map[packet.Key][]netip.Addr)
	for l := range b.told {
		if want[l] == nil {
			want[l] = nil // no longer
		}
	}
	for l, addresses := range want {
		if err := b.set(l, addresses); err != nil {
			failed, again = err.Error(), true
		}
		if len(addresses) > 0 {
			told[l] = addresses
		}
	}
	if failed != "" && failed != b.failed {
		b.log.Warnf("another interface in the same network may answer for virtual addresses: %s; set net.ipv4.conf.all.arp_ignore to 1", failed)
	}
	b.told, b.failed, b.again = told, failed, again
}

// besides returns the interfaces that are in the network of a router at another one, with
// its addresses, and whether these are all. It is about IPv4: with IPv6, Linux answers at
// the interface that has the address.
func besides(views map[router.ID]view, host []link.Interface) (want map[datapath.Link]map[packet.Key][]netip.Addr, all bool) {
	want = make(map[datapath.Link]map[packet.Key][]netip.Addr)
	devices := make(map[int]bool) // the routers' own
	for _, v := range views {
		devices[v.device] = devices[v.device] || v.device != v.ifindex
	}
	networks := make(map[netip.Prefix][]link.Interface)
	var lengths []int
	for _, i := range host {
		if !i.Up || i.MAC == (packet.MAC{}) || i.Kind == link.KindLoopback || devices[i.Index] {
			continue
		}
		for _, a := range i.Addresses {
			if p := a.Prefix.Masked(); p.Addr().Is4() && p.Bits() < 32 {
				networks[p] = append(networks[p], i)
				if !slices.Contains(lengths, p.Bits()) {
					lengths = append(lengths, p.Bits())
				}
			}
		}
	}
	n := 0
	for _, id := range slices.SortedFunc(maps.Keys(views), func(a, b router.ID) int { return int(a.VRID) - int(b.VRID) }) {
		v := views[id]
		if v.ifindex == 0 || id.Family != packet.IPv4 {
			continue
		}
		k := packet.Key{Ifindex: v.ifindex, Family: id.Family, VRID: id.VRID}
		for _, a := range append(v.config.OfFamily(packet.IPv4), v.config.Extras(packet.IPv4)...) {
			for _, bits := range lengths {
				network := netip.PrefixFrom(a.Addr(), bits).Masked()
				for _, i := range networks[network] {
					l := datapath.Link{Index: i.Index, Name: i.Name, Kind: i.Kind}
					if i.Index == v.ifindex || slices.Contains(want[l][k], a.Addr()) {
						continue
					}
					if n++; n > besideMost {
						return want, false
					}
					if want[l] == nil {
						want[l] = make(map[packet.Key][]netip.Addr)
					}
					want[l][k] = append(want[l][k], a.Addr())
				}
			}
		}
	}
	return want, true
}
