// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// A host answers for a virtual address as long as its lease lasts, and for its
// own addresses always, by TCX and by classifiers.
func TestFence(t *testing.T) {
	for _, way := range []string{"tcx", "classifiers"} {
		t.Run(way, func(t *testing.T) {
			w := newWire(t, ModeOff)
			client, err := w.lab.Node("client")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.lan.Connect(client, "eth0", "192.0.2.9/24", "fe80::9/64"); err != nil {
				t.Fatal(err)
			}
			for _, a := range []string{"192.0.2.1/24", "192.0.2.3/24", "fe80::1/64", "fe80::3/64"} {
				if err := w.here.AddAddress("eth0", a); err != nil {
					t.Fatal(err)
				}
			}
			if w.dp.unfenced != nil {
				t.Fatal(w.dp.unfenced)
			}
			a := w.dp.attached[w.ifindex]
			if way == "classifiers" {
				err := w.here.Do(func() error {
					for _, l := range a.fence {
						if err := errors.Join(l.Unpin(), l.Close()); err != nil {
							return err
						}
					}
					a.fence = nil
					return w.dp.attachClassifiers(a, Link{Index: w.ifindex, Name: "eth0"},
						classifier{w.dp.fence.objects.FailoverIngress, netlink.HANDLE_MIN_INGRESS, "ingress", 1},
						classifier{w.dp.fence.objects.FailoverEgress, netlink.HANDLE_MIN_EGRESS, "egress", 1})
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			var keys []Key
			for f, addresses := range map[packet.Family][]netip.Addr{packet.IPv4: list("192.0.2.1"), packet.IPv6: list("fe80::1")} {
				k := Key{Ifindex: w.ifindex, Family: f, VRID: 51}
				keys = append(keys, k)
				if err := w.dp.SetRouter(k, Router{Version: 3, Running: true, Addresses: addresses, VirtualMAC: true, Accept: true}); err != nil {
					t.Fatal(err)
				}
			}
			own, err := w.here.MAC("eth0")
			if err != nil {
				t.Fatal(err)
			}
			answered := func(what, mac string, addresses ...string) {
				t.Helper()
				for _, address := range addresses {
					got, err := client.WhoHas("eth0", netip.MustParseAddr(address), 300*time.Millisecond)
					if err != nil {
						t.Fatal(err)
					}
					if strings.Join(got, " ") != mac {
						t.Errorf("%s: %s is answered for by %v, want %q", what, address, got, mac)
					}
				}
			}
			// What is sent to the virtual MAC arrives, and the answer comes from it.
			pinged := func(address string) {
				t.Helper()
				p, err := client.Ping(netip.MustParseAddr(address), 10*time.Millisecond)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				if _, err := p.WaitReply(ctx, time.Now()); err != nil {
					t.Errorf("ping %s: %v", address, err)
				}
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			}
			lease := func(until vrrp.Instant) {
				for _, k := range keys {
					w.dp.Answer(k, until)
				}
			}
			answered("no lease", "", "192.0.2.1", "fe80::1")
			lease(monotonic().Add(time.Hour))
			answered("lease", "00:00:5e:00:01:33", "192.0.2.1")
			answered("lease", "00:00:5e:00:02:33", "fe80::1")
			pinged("192.0.2.1")
			// Another list of addresses changes nothing for those on both.
			for addresses, mac := range map[string]string{"192.0.2.1 192.0.2.3": "00:00:5e:00:01:33", "192.0.2.1": own} {
				k := Key{Ifindex: w.ifindex, Family: packet.IPv4, VRID: 51}
				if err := w.dp.SetRouter(k, Router{Version: 3, Running: true, Addresses: list(strings.Fields(addresses)...), VirtualMAC: true, Accept: true}); err != nil {
					t.Fatal(err)
				}
				answered(addresses, mac, "192.0.2.3")
				answered(addresses, "00:00:5e:00:01:33", "192.0.2.1")
			}
			if err := w.dp.SetRouter(Key{Ifindex: w.ifindex, Family: packet.IPv4, VRID: 51}, Router{Version: 3, Running: true, Addresses: list("192.0.2.1"), VirtualMAC: true, Accept: true}); err != nil {
				t.Fatal(err)
			}
			lease(monotonic() - 1)
			answered("expired", "", "192.0.2.1", "fe80::1")
			answered("own addresses", own, "192.0.2.3", "fe80::3")
			for _, k := range keys {
				if err := w.dp.DeleteRouter(k); err != nil {
					t.Fatal(err)
				}
			}
			answered("no virtual router", own, "192.0.2.1", "fe80::1")
			if err := w.here.Do(func() error { return w.dp.Detach(w.ifindex) }); err != nil {
				t.Error(err)
			}
			device, err := w.here.Netlink().LinkByName("eth0")
			if err != nil {
				t.Fatal(err)
			}
			qdiscs, err := w.here.Netlink().QdiscList(device)
			if err != nil || slices.ContainsFunc(qdiscs, func(q netlink.Qdisc) bool { return q.Type() == "clsact" }) {
				t.Errorf("left behind: %v, %v", qdiscs, err)
			}
		})
	}
}
