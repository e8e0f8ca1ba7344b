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

	"golang.org/x/sys/unix"

	"github.com/vishvananda/netlink"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/transmit"
	"github.com/failoverd/failoverd/pkg/vrrp"
	"github.com/failoverd/failoverd/tools/lab"
)

// With TCX and with classifiers, a host answers for a virtual address as long as the lease
// lasts, and for its own addresses always.
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
			var keys []packet.Key
			for f, addresses := range map[packet.Family][]netip.Addr{packet.IPv4: list("192.0.2.1"), packet.IPv6: list("fe80::1")} {
				k := packet.Key{Ifindex: w.ifindex, Family: f, VRID: 51}
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
					answered(t, client, what, address, strings.Fields(mac)...)
				}
			}
			// Packets to the virtual MAC arrive, and the answers come from it.
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
					w.lease(k).Answer(until)
				}
			}
			answered("no lease", "", "192.0.2.1", "fe80::1")
			lease(monotonic().Add(time.Hour))
			answered("lease", "00:00:5e:00:01:33", "192.0.2.1")
			answered("lease", "00:00:5e:00:02:33", "fe80::1")
			pinged("192.0.2.1")
			// Changing the list of addresses doesn't affect those that stay.
			for addresses, mac := range map[string]string{"192.0.2.1 192.0.2.3": "00:00:5e:00:01:33", "192.0.2.1": own} {
				k := packet.Key{Ifindex: w.ifindex, Family: packet.IPv4, VRID: 51}
				if err := w.dp.SetRouter(k, Router{Version: 3, Running: true, Addresses: list(strings.Fields(addresses)...), VirtualMAC: true, Accept: true}); err != nil {
					t.Fatal(err)
				}
				answered(addresses, mac, "192.0.2.3")
				answered(addresses, "00:00:5e:00:01:33", "192.0.2.1")
			}
			if err := w.dp.SetRouter(packet.Key{Ifindex: w.ifindex, Family: packet.IPv4, VRID: 51}, Router{Version: 3, Running: true, Addresses: list("192.0.2.1"), VirtualMAC: true, Accept: true}); err != nil {
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

// A unicast router's advertisements to its peers leave as long as its lease lasts. Those to
// the group with the same VRID always leave, because they may be another program's.
func TestFenceUnicast(t *testing.T) {
	t.Attr("proves", "O-09")
	w := newWire(t, ModeOff)
	client, err := w.lab.Node("client")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.lan.Connect(client, "eth0", "192.0.2.9/24", "2001:db8::9/64"); err != nil {
		t.Fatal(err)
	}
	if err := w.here.Sysctl("net.ipv6.conf.eth0.accept_dad", "0"); err != nil {
		t.Fatal(err)
	}
	capture, err := w.lan.Capture()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = capture.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, c := range []struct {
		family                    packet.Family
		own, prefix, peer, router string
	}{
		{packet.IPv4, "192.0.2.3", "/24", "192.0.2.9", "192.0.2.1"},
		{packet.IPv6, "2001:db8::3", "/64", "2001:db8::9", "fe80::1"},
	} {
		if err := w.here.AddAddress("eth0", c.own+c.prefix); err != nil {
			t.Fatal(err)
		}
		settled(ctx, t, w.here)
		own, peer := netip.MustParseAddr(c.own), netip.MustParseAddr(c.peer)
		k := packet.Key{Ifindex: w.ifindex, Family: c.family, VRID: 51}
		if err := w.dp.SetRouter(k, Router{Version: 3, Source: own, Running: true, Addresses: list(c.router), Peers: map[netip.Addr]packet.Hops{peer: packet.OnLink()}}); err != nil {
			t.Fatal(err)
		}
		var out *transmit.Datagrams
		var group *transmit.Conn
		err := w.here.Do(func() (err error) {
			if out, err = transmit.OpenDatagrams(w.ifindex, c.family); err == nil {
				group, err = transmit.Open(w.ifindex)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		// arrives sends an advertisement of VRID 51, and after it one of VRID 52, which
		// always arrives. It checks whether the first one arrives.
		arrives := func(priority uint8, want bool) {
			t.Helper()
			a := packet.Advertisement{Version: 3, VRID: 51, Priority: priority, Interval: time.Second, Addresses: list(c.router)}
			for _, a.VRID = range []uint8{51, 52} {
				b, err := packet.AppendAdvertisementDatagram(nil, own, peer, 255, &a, packet.ChecksumRFC9568)
				if err != nil {
					t.Fatal(err)
				}
				out.Queue(b)
			}
			var failed error
			if sent := out.Flush(func(_ int, err error) { failed = err }); sent != 2 && want || failed != nil && want {
				t.Errorf("%d sent, %v", sent, failed)
			}
			got := false
			_, err := capture.Wait(ctx, 0, func(f lab.Frame) bool {
				a, _, _, ok := f.Advertisement()
				ok = ok && a.Priority == priority && f.From == "here"
				got = got || ok && a.VRID == 51
				return ok && a.VRID == 52
			})
			if err != nil || got != want {
				t.Errorf("%s, priority %d: arrived %v, want %v; %v", c.family, priority, got, want, err)
			}
		}
		arrives(100, false)
		w.lease(k).Advertise(monotonic().Add(time.Hour))
		arrives(101, true)
		w.lease(k).Advertise(0)
		arrives(102, false)
		a := packet.Advertisement{Version: 3, VRID: 51, Priority: 103, Interval: time.Second, Addresses: list(c.router)}
		source := own
		if c.family == packet.IPv6 {
			source = netip.MustParseAddr("fe80::3")
		}
		frame, err := packet.AppendAdvertisementFrame(nil, packet.MAC{2, 0, 0, 0, 0, 0x0b}, source, &a, packet.ChecksumRFC9568)
		if err != nil {
			t.Fatal(err)
		}
		group.Queue(frame)
		err = nil
		if group.Flush(func(_ int, e error) { err = e }); err != nil {
			t.Error(err)
		}
		if _, err := capture.Wait(ctx, 0, func(f lab.Frame) bool { a, _, _, ok := f.Advertisement(); return ok && a.Priority == 103 }); err != nil {
			t.Error(err)
		}
		if err := errors.Join(out.Close(), group.Close()); err != nil {
			t.Error(err)
		}
	}
}

// settled waits until no IPv6 address is tentative. Without duplicate address detection too,
// the kernel clears that flag a little later.
func settled(ctx context.Context, t *testing.T, n *lab.Node) {
	t.Helper()
	for ctx.Err() == nil {
		all, err := n.Netlink().AddrList(nil, netlink.FAMILY_V6)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(all, func(a netlink.Addr) bool { return a.Flags&unix.IFA_F_TENTATIVE != 0 }) {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("an address stays tentative")
}
