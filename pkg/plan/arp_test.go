// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"testing"

	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
)

func TestBeside(t *testing.T) {
	on := func(index int, address string) link.Interface {
		return link.Interface{Index: index, Up: true, MAC: packet.MAC{2, 0, 0, 0, 0, byte(index)}, Addresses: []link.Address{{Prefix: netip.MustParsePrefix(address)}}}
	}
	own, same, wider, apart, macvlan, down := on(1, "192.0.2.1/24"), on(2, "192.0.2.2/24"), on(3, "192.0.0.3/16"), on(4, "198.51.100.4/24"), on(5, "192.0.2.5/24"), on(6, "192.0.2.6/24")
	down.Up = false
	address := netip.MustParseAddr("192.0.2.10")
	key := packet.Key{Ifindex: 1, Family: packet.IPv4, VRID: 51}
	seats := []Placement{
		{Key: key, Device: 5, Addresses: []netip.Addr{address}},
		{Key: packet.Key{Family: packet.IPv4, VRID: 52}, Addresses: []netip.Addr{address}}, // nowhere
		{Key: packet.Key{Ifindex: 1, Family: packet.IPv6, VRID: 51}, Device: 1, Addresses: []netip.Addr{netip.MustParseAddr("2001:db8::10")}},
	}
	want, all := SuppressARP(seats, []link.Interface{own, same, wider, apart, macvlan, down})
	if !all || len(want) != 2 {
		t.Fatalf("beside are %v, all %v", want, all)
	}
	for _, i := range []int{2, 3} {
		if got := want[i]; len(got) != 1 || len(got[key]) != 1 || got[key][0] != address {
			t.Errorf("interface %d holds back %v", i, got)
		}
	}
	for n := range besideMost {
		seats[0].Addresses = append(seats[0].Addresses, netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)}))
	}
	if _, all := SuppressARP(seats, []link.Interface{own, same, wider}); all {
		t.Error("so many addresses are all held back")
	}
}
