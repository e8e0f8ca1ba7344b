// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/transmit"
	"github.com/failoverd/failoverd/tools/lab"
)

// asker adds a host that sends ARP requests and neighbour solicitations.
func (w *wire) asker(t *testing.T, addresses ...string) *lab.Node {
	t.Helper()
	client, err := w.lab.Node("client")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.lan.Connect(client, "eth0", addresses...); err != nil {
		t.Fatal(err)
	}
	return client
}

// answered checks which MACs answer for an address. It retries if some are expected, because
// answers may take a while.
func answered(t *testing.T, client *lab.Node, what, address string, want ...string) {
	t.Helper()
	slices.Sort(want)
	for end := time.Now().Add(time.Minute); ; {
		got, err := client.WhoHas("eth0", netip.MustParseAddr(address), 300*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		if slices.Equal(got, want) {
			return
		}
		if len(want) == 0 || time.Now().After(end) {
			t.Errorf("%s: %s is answered for by %v, want %v", what, address, got, want)
			return
		}
	}
}

// An owner answers for its addresses like any host, even without failoverd. It stops only
// if its lease has ended and another router is known to be Active.
func TestFenceOwner(t *testing.T) {
	for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
		t.Run(f.String(), func(t *testing.T) {
			w := newWire(t, ModeOff)
			client := w.asker(t, "192.0.2.9/24", "fe80::9/64")
			address := map[packet.Family]string{packet.IPv4: "192.0.2.1", packet.IPv6: "fe80::1"}[f]
			other := map[packet.Family]string{packet.IPv4: "192.0.2.2", packet.IPv6: "fe80::2"}[f]
			if err := w.here.AddAddress("eth0", address+map[packet.Family]string{packet.IPv4: "/24", packet.IPv6: "/64"}[f]); err != nil {
				t.Fatal(err)
			}
			own, err := w.here.MAC("eth0")
			if err != nil {
				t.Fatal(err)
			}
			virtual := packet.VirtualMAC(f, 51).String()
			k := packet.Key{Ifindex: w.ifindex, Family: f, VRID: 51}
			if err := w.dp.SetRouter(k, Router{Version: 3, Running: true, Addresses: list(address), Owner: true, VirtualMAC: true, Accept: true}); err != nil {
				t.Fatal(err)
			}
			var capture *lab.Capture
			if capture, err = w.lan.Capture(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = capture.Close() })
			advertise := func(conn *transmit.Conn, mac byte, from string, vrid, priority uint8, interval time.Duration) {
				t.Helper()
				a := packet.Advertisement{Version: 3, VRID: vrid, Priority: priority, Interval: interval, Addresses: list(address)}
				frame, err := packet.AppendAdvertisementFrame(nil, packet.MAC{2, 0, 0, 0, 0, mac}, list(from)[0], &a, packet.ChecksumRFC9568)
				if err != nil {
					t.Fatal(err)
				}
				conn.Queue(frame)
				err = nil
				if conn.Flush(func(_ int, e error) { err = e }); err != nil {
					t.Fatal(err)
				}
			}
			hears := func(vrid, priority uint8, interval time.Duration) {
				advertise(w.conn, 9, other, vrid, priority, interval)
			}
			answered(t, client, "nobody else is heard", address, own)
			hears(52, 100, 40*time.Second)
			answered(t, client, "another router's Active is heard", address, own)
			hears(51, 100, 40*time.Second)
			answered(t, client, "another host is Active", address)
			w.lease(k).Answer(monotonic().Add(time.Hour))
			answered(t, client, "the lease lasts", address, virtual)
			w.lease(k).Answer(1)
			answered(t, client, "the lease has ended", address)

			// Announcements don't leave, and advertisements leave only by their own lease.
			var out *transmit.Conn
			if err := w.here.Do(func() (err error) { out, err = transmit.Open(w.ifindex); return err }); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = out.Close() })
			announce := packet.AppendGratuitousARP
			if f == packet.IPv6 {
				announce = packet.AppendUnsolicitedNA
			}
			frame, err := announce(nil, packet.MAC{2, 0, 0, 0, 0, 0x0b}, list(address)[0])
			if err != nil {
				t.Fatal(err)
			}
			out.Queue(frame)
			out.Flush(func(int, error) {}) // the kernel may report that it was dropped
			a := packet.Advertisement{Version: 3, VRID: 51, Priority: 255, Interval: time.Second, Addresses: list(address)}
			if frame, err = packet.AppendAdvertisementFrame(nil, packet.MAC{2, 0, 0, 0, 0, 0x0b}, list(address)[0], &a, packet.ChecksumRFC9568); err != nil {
				t.Fatal(err)
			}
			out.Queue(frame)
			out.Flush(func(int, error) {})
			w.lease(k).Advertise(monotonic().Add(time.Hour))
			advertise(out, 0x0b, address, 51, 254, time.Second)
			var seen []string
			if _, err := capture.Wait(t.Context(), 0, func(f lab.Frame) bool {
				if f.From == "here" && f.Answers(list(address)[0]) != "" {
					seen = append(seen, "an announcement")
				}
				a, _, _, ok := f.Advertisement()
				if ok && f.From == "here" && a.Priority == 255 {
					seen = append(seen, "an advertisement without a lease")
				}
				return ok && a.Priority == 254
			}); err != nil {
				t.Error(err)
			}
			// Announcements don't count: the host has answered before the other router was
			// Active, and while the lease lasted.
			if slices.Contains(seen, "an advertisement without a lease") {
				t.Errorf("it has sent %s", strings.Join(seen, ", "))
			}
			hears(51, 0, 40*time.Second)
			answered(t, client, "the other one has left", address, own)
			hears(51, 100, 10*time.Millisecond)
			answered(t, client, "the other one is silent", address, own)
		})
	}
}

// A sibling doesn't answer for the addresses, whether the lease lasts or not, until
// SetSibling ends the fencing.
func TestBeside(t *testing.T) {
	w := newWire(t, ModeOff)
	client := w.asker(t, "192.0.2.9/24")
	if _, err := w.lan.Connect(w.here, "eth1", "192.0.2.5/24"); err != nil {
		t.Fatal(err)
	}
	if err := w.here.AddAddress("eth0", "192.0.2.1/24"); err != nil {
		t.Fatal(err)
	}
	second, err := w.here.Netlink().LinkByName("eth1")
	if err != nil {
		t.Fatal(err)
	}
	first, err := w.here.MAC("eth0")
	if err != nil {
		t.Fatal(err)
	}
	mac, eth1 := second.Attrs().HardwareAddr.String(), Link{Index: second.Attrs().Index, Name: "eth1", Kind: "veth"}
	k := packet.Key{Ifindex: w.ifindex, Family: packet.IPv4, VRID: 51}
	set := func(addresses map[packet.Key][]netip.Addr) {
		t.Helper()
		if err := w.here.Do(func() error { return w.dp.SetSibling(eth1, addresses) }); err != nil {
			t.Fatal(err)
		}
	}
	router := func() {
		t.Helper()
		if err := w.dp.SetRouter(k, Router{Version: 3, Running: true, Addresses: list("192.0.2.1"), VirtualMAC: true, Accept: true}); err != nil {
			t.Fatal(err)
		}
		w.lease(k).Answer(monotonic().Add(time.Hour))
	}
	router()
	answered(t, client, "before SetSibling", "192.0.2.1", "00:00:5e:00:01:33", mac)
	set(map[packet.Key][]netip.Addr{k: list("192.0.2.1")})
	answered(t, client, "Active", "192.0.2.1", "00:00:5e:00:01:33")
	answered(t, client, "its own address", "192.0.2.5", first, mac)
	w.lease(k).Answer(1)
	answered(t, client, "the lease has ended", "192.0.2.1")
	if err := w.dp.DeleteRouter(k); err != nil {
		t.Fatal(err)
	}
	answered(t, client, "the router is gone", "192.0.2.1", first, mac)
	router()
	set(map[packet.Key][]netip.Addr{k: list("192.0.2.1")})
	answered(t, client, "it is back", "192.0.2.1", "00:00:5e:00:01:33")
	// A router at the sibling itself replaces this attachment.
	if err := w.here.Do(func() error {
		if _, err := w.dp.Attach(eth1, ModeTC, false); err != nil {
			return err
		}
		return w.dp.Attached(eth1.Index)
	}); err != nil {
		t.Fatal(err)
	}
	answered(t, client, "with a router at eth1", "192.0.2.1", "00:00:5e:00:01:33")
	if err := w.here.Do(func() error { return w.dp.Detach(eth1.Index) }); err != nil {
		t.Fatal(err)
	}
	set(map[packet.Key][]netip.Addr{k: list("192.0.2.1")})
	answered(t, client, "that router is gone", "192.0.2.1", "00:00:5e:00:01:33")
	set(nil)
	answered(t, client, "fencing has ended", "192.0.2.1", "00:00:5e:00:01:33", mac)
	if _, still := w.dp.attached[eth1.Index]; still || len(w.dp.Siblings()) != 0 {
		t.Errorf("something is left at eth1: %v", w.dp.Siblings())
	}
}

// No frame leaves from the virtual MAC of a router that isn't Active, whichever program sends
// it. It would make switches send frames for the Active to this host.
func TestNothingLeavesFromABackupsMAC(t *testing.T) {
	w := newWire(t, ModeOff)
	capture, err := w.lan.Capture()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = capture.Close() })
	var out *transmit.Conn
	if err := w.here.Do(func() (err error) { out, err = transmit.Open(w.ifindex); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.Close() })
	sent := byte(0)
	// leaves reports whether an ARP probe from the MAC leaves. The probe names no address of
	// the router. A second probe from another MAC always leaves.
	leaves := func(mac packet.MAC) (left bool) {
		t.Helper()
		seen := false
		for _, m := range []packet.MAC{mac, {2, 0, 0, 0, 0, 0x0b}} {
			sent++
			frame, err := packet.AppendARPProbe(nil, m, netip.AddrFrom4([4]byte{203, 0, 113, sent}))
			if err != nil {
				t.Fatal(err)
			}
			out.Queue(frame)
			out.Flush(func(int, error) {}) // the kernel may report that it was dropped
		}
		if _, err := capture.Wait(t.Context(), 0, func(f lab.Frame) bool {
			asks := func(n byte) bool {
				return f.From == "here" && len(f.Data) >= 42 && f.Data[12] == 8 && f.Data[13] == 6 && f.Data[38] == 203 && f.Data[41] == n
			}
			seen = seen || asks(sent-1)
			return asks(sent)
		}); err != nil {
			t.Fatal(err)
		}
		return seen
	}
	for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
		mac := packet.VirtualMAC(f, 51)
		if !leaves(mac) {
			t.Errorf("%s: nothing leaves from the MAC of a router that isn't here", f)
		}
		for _, owner := range []bool{false, true} {
			k := packet.Key{Ifindex: w.ifindex, Family: f, VRID: 51}
			if err := w.dp.SetRouter(k, Router{Version: 3, Running: true, Addresses: list("192.0.2.1"), Owner: owner, VirtualMAC: true, Accept: true}); err != nil {
				t.Fatal(err)
			}
			if leaves(mac) {
				t.Errorf("%s: something leaves from a Backup's virtual MAC", f)
			}
			if !leaves(packet.VirtualMAC(f, 52)) {
				t.Errorf("%s: nothing leaves from the virtual MAC of another VRID", f)
			}
			w.lease(k).Answer(monotonic().Add(time.Hour))
			if !leaves(mac) {
				t.Errorf("%s: nothing leaves from an Active's virtual MAC", f)
			}
			if err := w.dp.DeleteRouter(k); err != nil {
				t.Fatal(err)
			}
		}
	}
}
