// SPDX-License-Identifier: Apache-2.0

package link

import (
	"strings"
	"testing"

	"github.com/failoverd/failoverd/pkg/packet"
)

// A device is up only while it has its addresses, and gets no other addresses. On a port of a
// bridge AddDevice fails with the reason.
func TestDevice(t *testing.T) {
	t.Attr("proves", "S-C3")
	n, _, h := newHost(t, "192.0.2.2/24", "fe80::2/64")
	ctx := t.Context()
	do := func(f func() error) {
		t.Helper()
		if err := n.Do(f); err != nil {
			t.Fatal(err)
		}
	}
	parent := find(t, h, "eth0")
	w := NewWorker(h, nil, nil)
	for family, virtual := range map[packet.Family][]string{
		packet.IPv4: {"192.0.2.10/24"},
		packet.IPv6: {"fe80::12:33/64", "2001:db8::10/64"},
	} {
		d := NewDevice(parent.Index, family, 51)
		var index int
		do(func() (err error) {
			index, err = h.AddDevice(d, parent.Name)
			return err
		})
		i := find(t, h, d.Name)
		if i.Index != index || i.Up || !d.Is(i) || i.MAC != packet.VirtualMAC(family, 51) {
			t.Errorf("made %+v", i)
		}
		w.Adopt(index)
		if err := work(w, Job{Ifindex: index, Assign: true, Prefixes: prefixes(virtual...)}); err != nil {
			t.Fatal(err)
		}
		i = find(t, h, d.Name)
		if !i.Up || len(i.Addresses) != len(virtual) {
			t.Errorf("with its addresses: %+v", i)
		}
		for _, p := range prefixes(virtual...) {
			if !i.has(p.Addr()) {
				t.Errorf("without %s: %+v", p, i)
			}
		}
		if err := work(w, Job{Ifindex: index, Prefixes: prefixes(virtual...)}); err != nil {
			t.Fatal(err)
		}
		if i = find(t, h, d.Name); i.Up || len(i.Addresses) > 0 {
			t.Errorf("without: %+v", i)
		}
		do(func() error {
			_, err := h.AddDevice(d, parent.Name)
			if err == nil || !strings.Contains(err.Error(), "ip link del "+d.Name) {
				t.Errorf("a second one: %v", err)
			}
			return nil
		})
		if err := h.DeleteDevice(index); err != nil {
			t.Error(err)
		}
		if err := h.DeleteDevice(index); err != nil {
			t.Errorf("one that is gone: %v", err)
		}
		w.Forget(index)
	}

	do(func() error {
		settings, err := ParentSettings(parent.Index, "eth0", false)
		if err != nil || len(settings) != 2 {
			t.Errorf("settings %+v, %v", settings, err)
		}
		for _, s := range settings {
			if err := s.Set(); err != nil {
				return err
			}
		}
		if again, err := ParentSettings(parent.Index, "eth0", false); err != nil || len(again) != 0 {
			t.Errorf("settings that are there: %+v, %v", again, err)
		}
		for _, s := range settings {
			if restored, err := s.Restore(); !restored || err != nil {
				t.Errorf("%+v: restored %v, %v", s, restored, err)
			}
			if restored, err := s.Restore(); restored || err != nil {
				t.Errorf("%+v, changed meanwhile: restored %v, %v", s, restored, err)
			}
		}
		return nil
	})

	for _, command := range []string{"link add br0 type bridge", "link set eth0 master br0"} {
		if _, err := n.Run(ctx, "ip", strings.Fields(command)...); err != nil {
			t.Fatal(err)
		}
	}
	do(func() error {
		if _, err := h.AddDevice(NewDevice(parent.Index, packet.IPv4, 51), parent.Name); err == nil || !strings.Contains(err.Error(), "part of a bridge") {
			t.Errorf("on a port of a bridge: %v", err)
		}
		return nil
	})
}

// With an MTU that is too small for IPv6, AddDevice fails for an IPv6 router, with the reason.
// The device of an IPv4 router is created, and is stale when the MTU is large enough again.
func TestDeviceBelowIPv6(t *testing.T) {
	n, _, h := newHost(t, "192.0.2.2/24")
	eth0, err := n.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Netlink().LinkSetMTU(eth0, 1200); err != nil {
		t.Fatal(err)
	}
	add := func(f packet.Family) (err error) {
		_ = n.Do(func() error { _, err = h.AddDevice(NewDevice(eth0.Attrs().Index, f, 51), "eth0"); return nil })
		return err
	}
	if err := add(packet.IPv6); err == nil || !strings.Contains(err.Error(), "less than 1280") {
		t.Errorf("IPv6: %v", err)
	}
	if err := add(packet.IPv4); err != nil {
		t.Fatalf("IPv4: %v", err)
	}
	stale := func() bool {
		all, err := h.Interfaces()
		if err != nil {
			t.Fatal(err)
		}
		return Stale(find(t, h, NewDevice(eth0.Attrs().Index, packet.IPv4, 51).Name), all)
	}
	if stale() {
		t.Error("stale below the MTU of IPv6")
	}
	if err := n.Netlink().LinkSetMTU(eth0, 1500); err != nil {
		t.Fatal(err)
	}
	if !stale() {
		t.Error("not stale though the interface below has IPv6 again")
	}
}

func TestStaleOutsideTheVRF(t *testing.T) {
	vrf, bridge := Interface{Index: 5, Kind: KindVRF}, Interface{Index: 6, Kind: KindBridge}
	for _, c := range []struct {
		device, below int
		stale         bool
	}{{0, 0, false}, {5, 5, false}, {0, 5, true}, {5, 0, true}, {0, 6, false}, {5, 6, true}} {
		device := Interface{Index: 3, Parent: 2, MTU: 1500, Master: c.device}
		all := []Interface{{Index: 2, MTU: 1500, Master: c.below}, device, vrf, bridge}
		if got := Stale(device, all); got != c.stale {
			t.Errorf("in %d above one in %d: %v", c.device, c.below, got)
		}
	}
	if Stale(Interface{Index: 3, Parent: 2, Master: 5}, []Interface{vrf}) {
		t.Error("the interface below is gone")
	}
}
