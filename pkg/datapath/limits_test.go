// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/failoverd/failoverd/bpf"
	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// The limits that a configuration is checked against are the sizes of the maps.
func TestLimitsAreTheMaps(t *testing.T) {
	receive, err := bpf.LoadVrrp()
	if err != nil {
		t.Fatal(err)
	}
	fence, err := bpf.LoadVmac()
	if err != nil {
		t.Fatal(err)
	}
	all := maps.Clone(receive.Maps)
	maps.Copy(all, fence.Maps)
	for name, most := range map[string]uint32{
		"failover_router": RoutersMax, "failover_stamp": RoutersMax, "failover_lease": RoutersMax, "failover_proven": RoutersMax,
		"failover_address": AddressesMax, "failover_peer": PeersMax, "failover_keys": KeysMax, "failover_vmac": InterfacesMax,
	} {
		if all[name].MaxEntries != most {
			t.Errorf("%s has room for %d, want %d", name, all[name].MaxEntries, most)
		}
	}
}

// Routers fit until a map is full. After one that doesn't fit, a smaller one still may.
func TestFit(t *testing.T) {
	needs := slices.Repeat([]Need{{Interface: "eth0", Addresses: 255}}, 256)
	needs = append(needs, Need{Interface: "eth0", Addresses: 257}, Need{Interface: "eth0", Addresses: 256}, Need{Interface: "eth0"}, Need{Interface: "eth1", Addresses: 1})
	errs := Fit(needs)
	for i, err := range errs {
		wrong := i == 256 || i == 259
		if wrong != (err != nil) {
			t.Errorf("router %d: %v", i, err)
		}
		if wrong && !strings.Contains(err.Error(), "65536 virtual addresses") {
			t.Errorf("router %d: %v", i, err)
		}
	}
	for name, need := range map[string]Need{"failover_peer": {Peers: PeersMax + 1}, "failover_keys": {Keys: KeysMax + 1}} {
		if err := Fit([]Need{need})[0]; err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, many := range map[string][]Need{"failover_router": make([]Need, RoutersMax+1), "failover_vmac": everywhere(InterfacesMax + 1)} {
		errs := Fit(many)
		last := len(errs) - 1
		if errs[last-1] != nil || errs[last] == nil || !strings.Contains(errs[last].Error(), name) {
			t.Errorf("%s: %v, then %v", name, errs[last-1], errs[last])
		}
	}
}

func everywhere(n int) (all []Need) {
	for i := range n {
		all = append(all, Need{Interface: fmt.Sprint(i)})
	}
	return all
}

// A new router that doesn't fit into the maps leaves no entry behind. A change that doesn't
// fit leaves the router unchanged.
func TestRefusedRouterChangesNothing(t *testing.T) {
	w := newWire(t, ModeOff)
	k := packet.Key{Ifindex: w.ifindex, Family: packet.IPv4, VRID: 7}
	small := Router{Version: 3, Source: netip.MustParseAddr("192.0.2.3"), Running: true, MinPriority: 1, Addresses: list("192.0.2.70"), Accept: true}
	large := Router{
		Version: 2, Source: netip.MustParseAddr("192.0.2.4"), MinPriority: 9, Owner: true, VirtualMAC: true,
		Addresses: list("192.0.2.71", "192.0.2.72", "198.51.100.9"),
		Peers: map[netip.Addr]packet.Hops{
			netip.MustParseAddr("192.0.2.8"): packet.OnLink(), netip.MustParseAddr("192.0.2.9"): packet.OnLink(),
		},
		Verifier: rules{auth.Rules{Type: auth.HMAC, Keys: map[uint8]packet.HMACStates{1: {}, 2: {}}}},
	}
	for _, m := range []*ebpf.Map{
		w.dp.fence.objects.FailoverAddress, w.dp.objects.FailoverPeer, w.dp.objects.FailoverKeys,
		w.dp.objects.FailoverProven, w.dp.objects.FailoverRouter, w.dp.fence.objects.FailoverVmac,
	} {
		info, err := m.Info()
		if err != nil {
			t.Fatal(err)
		}
		t.Run(info.Name, func(t *testing.T) {
			for _, known := range []bool{false, true} {
				if known && (info.Name == "failover_router" || info.Name == "failover_vmac") {
					continue // its entry exists already
				}
				if known {
					if err := w.dp.SetRouter(k, small); err != nil {
						t.Fatal(err)
					}
				}
				empty := fill(t, m, 1)
				before := w.inKernel(t, m)
				slots, free := w.dp.slots, len(w.dp.free)
				err := w.dp.SetRouter(k, large)
				if err == nil || !strings.Contains(err.Error(), info.Name) || !strings.Contains(err.Error(), fmt.Sprint(m.MaxEntries())) {
					t.Errorf("known before: %v: the error is %v", known, err)
				}
				if got := w.inKernel(t, m); !cmp.Equal(got, before) {
					t.Errorf("known before: %v: the maps have changed: %s", known, cmp.Diff(before, got))
				}
				if got, is := w.dp.routers[k]; is != known || known && got.Version != small.Version {
					t.Errorf("known before: %v: it is %+v", known, got)
				}
				if used := (w.dp.slots - slots) - uint32(len(w.dp.free)-free); used != 0 {
					t.Errorf("known before: %v: it has kept %d slots", known, used)
				}
				empty()
				if err := w.dp.SetRouter(k, large); err != nil {
					t.Errorf("with room: %v", err)
				}
				if err := w.dp.DeleteRouter(k); err != nil {
					t.Error(err)
				}
				if n := len(w.inKernel(t, nil)); n != 0 {
					t.Errorf("%d entries are left of a deleted router", n)
				}
			}
		})
	}
}

// rules is a Verifier that has only Rules.
type rules struct{ are auth.Rules }

// Of several new routers, those for which there is room are registered, and the others leave nothing
// behind.
func TestSomeRoutersFit(t *testing.T) {
	w := newWire(t, ModeOff)
	const vrids, interfaces = 3, 4
	var keys []packet.Key
	var routers []Router
	for n := range vrids * interfaces {
		keys = append(keys, packet.Key{Ifindex: w.ifindex + n/vrids, Family: packet.IPv4, VRID: uint8(1 + n%vrids)})
		routers = append(routers, Router{Version: 3, Running: true, Addresses: list(fmt.Sprintf("192.0.2.%d", 10+n))})
	}
	empty := fill(t, w.dp.fence.objects.FailoverVmac, 0)
	if err := w.dp.fence.objects.FailoverVmac.Delete(^uint32(0)); err != nil { // one place
		t.Fatal(err)
	}
	errs := w.dp.SetRouters(keys, routers)
	for n, err := range errs {
		if fits := keys[n].Ifindex == w.ifindex; fits != (err == nil) || !fits && !strings.Contains(err.Error(), "failover_vmac") {
			t.Errorf("%+v: %v", keys[n], err)
		}
	}
	all := w.inKernel(t, w.dp.fence.objects.FailoverVmac)
	if len(w.dp.routers) != vrids || len(all) != 1+2*vrids {
		t.Errorf("%d routers and %d entries: %q", len(w.dp.routers), len(all), all)
	}
	if err := w.dp.fence.objects.FailoverVmac.Put(^uint32(0), bpf.VmacFailoverVmacs{}); err == nil {
		t.Error("the routers have no entry in failover_vmac")
	} else if err := w.dp.DeleteRouter(keys[0]); err != nil {
		t.Fatal(err)
	}
	w.dp.SetRouters(keys[:vrids], routers[:vrids])
	if !w.dp.Intact() {
		t.Error("the maps aren't as they must be")
	}
	for _, k := range keys {
		if err := w.dp.DeleteRouter(k); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.dp.fence.objects.FailoverVmac.Put(^uint32(0), bpf.VmacFailoverVmacs{}); err != nil {
		t.Fatal(err)
	}
	empty()
	if n := len(w.inKernel(t, nil)); n != 0 {
		t.Errorf("%d entries are left", n)
	}
}

func (r rules) Rules() auth.Rules { return r.are }

func (r rules) Verify(vrrp.Instant, *packet.Datagram, *packet.Advertisement) error { return nil }

// fill fills a map up to the given number of free places, or completely if the test's router
// needs only one entry in it. It returns a function that removes the entries again.
func fill(t *testing.T, m *ebpf.Map, places int) func() {
	t.Helper()
	if strings.Contains(m.String(), "failover_proven") || strings.Contains(m.String(), "failover_router") || strings.Contains(m.String(), "failover_vmac") {
		places = 0
	}
	key, value := make([]byte, m.KeySize()), make([]byte, m.ValueSize())
	var keys [][]byte
	for i := range m.MaxEntries() {
		binary.BigEndian.PutUint32(key, ^i)
		if err := m.Put(key, value); err != nil {
			break // full: the router has entries too
		}
		keys = append(keys, slices.Clone(key))
	}
	for range places {
		if err := m.Delete(keys[len(keys)-1]); err != nil {
			t.Fatal(err)
		}
		keys = keys[:len(keys)-1]
	}
	return func() {
		for _, key := range keys {
			if err := m.Delete(key); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// inKernel returns the entries of the kernel's maps. Of the filled map it returns only their
// number.
func (w *wire) inKernel(t *testing.T, filled *ebpf.Map) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	for _, m := range []*ebpf.Map{
		w.dp.fence.objects.FailoverAddress, w.dp.objects.FailoverPeer, w.dp.objects.FailoverKeys,
		w.dp.objects.FailoverProven, w.dp.objects.FailoverRouter, w.dp.fence.objects.FailoverVmac,
	} {
		var key, value []byte
		n := 0
		for entries := m.Iterate(); entries.Next(&key, &value); n++ {
			if m != filled {
				all[m.String()+string(key)] = slices.Clone(value)
			}
		}
		if m == filled {
			all[m.String()] = fmt.Append(nil, n)
		}
	}
	return all
}

// An address that moves from one router to another gets the second one's lease, whichever of
// the two is changed first. If the second one gives the address up and the first one still
// has it, it gets the first one's lease again.
func TestAddressMoves(t *testing.T) {
	w := newWire(t, ModeOff)
	moving := netip.MustParseAddr("192.0.2.20")
	one, other := packet.Key{Ifindex: w.ifindex, Family: packet.IPv4, VRID: 61}, packet.Key{Ifindex: w.ifindex, Family: packet.IPv4, VRID: 62}
	set := func(k packet.Key, addresses ...string) {
		t.Helper()
		if err := w.dp.SetRouter(k, Router{Version: 3, Running: true, Addresses: list(addresses...)}); err != nil {
			t.Fatal(err)
		}
	}
	is := func(what string, k packet.Key) {
		t.Helper()
		var slot bpf.VmacFailoverSlot
		err := w.dp.fence.objects.FailoverAddress.Lookup(addressKey(one, moving), &slot)
		if want, known := w.dp.routers[k]; !known && err == nil || known && (err != nil || slot.Slot != want.slot) {
			t.Errorf("%s: the address has slot %d, %v; that of VRID %d is %d", what, slot.Slot, err, k.VRID, want.slot)
		}
		bit := uint16(2)<<8 | 20
		var bits [1 << 10]uint64
		if err := w.dp.fence.objects.FailoverFilter.Get(&bits); err != nil {
			t.Fatal(err)
		}
		if _, known := w.dp.routers[k]; known != (bits[bit/64]&(1<<(bit%64)) != 0) {
			t.Errorf("%s: the address is in the programs' filter: %v, want %v", what, !known, known)
		}
	}
	set(one, "192.0.2.11", "192.0.2.20")
	set(other, "192.0.2.12")
	is("at the beginning", one)
	set(other, "192.0.2.12", "192.0.2.20")
	is("given first", other)
	set(one, "192.0.2.11")
	is("and then taken", other)
	set(other, "192.0.2.12")
	is("taken first", packet.Key{})
	set(one, "192.0.2.11", "192.0.2.20")
	is("and then given", one)
	set(other, "192.0.2.12", "192.0.2.20")
	if err := w.dp.DeleteRouter(one); err != nil {
		t.Fatal(err)
	}
	is("the one is gone", other)
	set(one, "192.0.2.11", "192.0.2.20")
	is("back", one)
	set(one, "192.0.2.11")
	is("given up again", other)
	if err := w.dp.DeleteRouter(other); err != nil {
		t.Fatal(err)
	}
	is("nobody's", packet.Key{})
}
