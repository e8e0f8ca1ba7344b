// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/packet"
)

// Missing names an entry that was deleted from the kernel's maps, and Restore writes it again.
func TestMissing(t *testing.T) {
	w := newWire(t, ModeOff)
	k := packet.Key{Ifindex: w.ifindex, Family: packet.IPv4, VRID: 7}
	peer, address := netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("192.0.2.70")
	if err := w.dp.SetRouter(k, Router{
		Version: 3, Source: netip.MustParseAddr("192.0.2.3"), Running: true, Addresses: []netip.Addr{address},
		Peers:    map[netip.Addr]packet.Hops{peer: packet.OnLink()},
		Verifier: rules{auth.Rules{Type: auth.HMAC, Keys: map[uint8]packet.HMACStates{1: {}}}},
	}); err != nil {
		t.Fatal(err)
	}
	if got := w.dp.Routers(); !slices.Equal(got, []packet.Key{k}) {
		t.Errorf("known: %v", got)
	}
	if r, known := w.dp.Router(k); !known || r.Version != 3 {
		t.Errorf("known: %+v", r)
	}
	if missing := w.dp.Missing(k); missing != nil || !w.dp.Intact() {
		t.Errorf("at the beginning: %v", missing)
	}
	for what, remove := range map[string]func() error{
		"entry failover_router":         func() error { return w.dp.objects.FailoverRouter.Delete(kernelKey(k)) },
		"peer 192.0.2.9":                func() error { return w.dp.objects.FailoverPeer.Delete(peerKey(k, peer)) },
		"key 1":                         func() error { return w.dp.objects.FailoverKeys.Delete(w.dp.routers[k].keys[0]) },
		"fenced address 192.0.2.70":     func() error { return w.dp.fence.objects.FailoverAddress.Delete(addressKey(k, address)) },
		"virtual MAC 00:00:5e:00:01:07": func() error { return w.dp.fence.objects.FailoverVmac.Delete(uint32(k.Ifindex)) },
	} {
		if err := remove(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if missing := w.dp.Missing(k); !slices.Equal(missing, []string{"the kernel's " + what}) {
			t.Errorf("without the %s: %v", what, missing)
		}
		if w.dp.Intact() {
			t.Errorf("intact without the %s", what)
		}
		if err := w.dp.Restore(k); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if missing := w.dp.Missing(k); missing != nil || !w.dp.Intact() {
			t.Errorf("with the %s again: %v", what, missing)
		}
	}
	if err := w.dp.DeleteRouter(k); err != nil {
		t.Fatal(err)
	}
	if len(w.dp.Routers()) != 0 {
		t.Error("a deleted router is still registered")
	}
}

// BenchmarkIntact measures Intact with a thousand routers.
func BenchmarkIntact(b *testing.B) {
	w := newWire(b, ModeOff)
	for n := range 1000 {
		k := packet.Key{Ifindex: w.ifindex + n/250, Family: packet.IPv4, VRID: uint8(1 + n%250)}
		if err := w.dp.SetRouter(k, Router{Version: 3, Source: netip.MustParseAddr("192.0.2.3"), Running: true, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})}}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if !w.dp.Intact() {
			b.Fatal("not intact")
		}
	}
}

// BenchmarkLook measures Look, which runs every second for up to hundreds of interfaces.
func BenchmarkLook(b *testing.B) {
	w := newWire(b, ModeTC)
	_ = w.here.Do(func() error {
		for b.Loop() {
			if all := w.dp.Look(); len(all) > 0 {
				b.Fatal(all)
			}
		}
		return nil
	})
}
