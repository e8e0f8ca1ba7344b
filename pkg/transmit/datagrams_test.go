// SPDX-License-Identifier: Apache-2.0

package transmit

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

// datagram returns an advertisement with the given priority.
func datagram(t *testing.T, from, to string, priority uint8) []byte {
	t.Helper()
	source := netip.MustParseAddr(from)
	a := packet.Advertisement{Version: 3, VRID: 51, Priority: priority, Interval: time.Second, Addresses: []netip.Addr{netip.MustParseAddr("198.18.0.10")}}
	if source.Is6() {
		a.Addresses[0] = netip.MustParseAddr("fe80::10")
	}
	b, err := packet.AppendAdvertisementDatagram(nil, source, netip.MustParseAddr(to), 64, &a, packet.ChecksumRFC9568)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// O-09: the kernel's routes and neighbour table decide where datagrams go. They leave unchanged
// and in their order, and one that can't be sent doesn't stop the others.
func TestDatagrams(t *testing.T) {
	t.Attr("proves", "O-09")
	l := lab.ForTest(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	lan, err := l.LAN("lan")
	if err != nil {
		t.Fatal(err)
	}
	nodes := make(map[string]*lab.Node)
	for name, addresses := range map[string][]string{
		"host": {"198.18.0.1/24", "2001:db8::1/64"}, "peer": {"198.18.0.2/24", "2001:db8::2/64"}, "gateway": {"198.18.0.254/24", "2001:db8::fe/64"},
	} {
		if nodes[name], err = l.Node(name); err == nil {
			err = nodes[name].Sysctl("net.ipv6.conf.default.accept_dad", "0")
		}
		if err == nil {
			_, err = lan.Connect(nodes[name], "eth0", addresses...)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	host := nodes["host"]
	for _, route := range [][]string{
		{"-4", "203.0.113.0/24", "via", "198.18.0.254"},
		{"-6", "2001:db8:1::/48", "via", "2001:db8::fe"},
		{"-6", "unreachable", "2001:db8:bad::/48"},
	} {
		if _, err := host.Run(ctx, "ip", append([]string{route[0], "route", "add"}, route[1:]...)...); err != nil {
			t.Fatal(err)
		}
	}
	capture, err := lan.Capture()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = capture.Close() })
	device, err := host.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		family    packet.Family
		from      string
		to        []string
		by        []string // the node whose MAC is the destination
		forbidden string
	}{
		{packet.IPv4, "198.18.0.1", []string{"198.18.0.2", "203.0.113.9"}, []string{"peer", "gateway"}, ""},
		{packet.IPv6, "2001:db8::1", []string{"2001:db8::2", "2001:db8:1::9"}, []string{"peer", "gateway"}, "2001:db8:bad::1"},
	} {
		var d *Datagrams
		if err := host.Do(func() (err error) { d, err = OpenDatagrams(device.Attrs().Index, c.family); return err }); err != nil {
			t.Fatal(err)
		}
		refused := 0
		if c.forbidden != "" {
			d.Queue(datagram(t, c.from, c.forbidden, 1))
			refused = 1
		}
		for n, to := range c.to {
			d.Queue(datagram(t, c.from, to, uint8(100+n)))
		}
		sent, unsent := flush(d)
		var unreachable *UnreachableError
		if sent != len(c.to) || len(unsent) != refused {
			t.Errorf("%s: %d sent, %v", c.family, sent, unsent)
		}
		if refused == 1 && (!errors.As(unsent[0], &unreachable) || unreachable.To.String() != c.forbidden || !errors.Is(unsent[0], unix.ENETUNREACH)) {
			t.Errorf("%s: the first is refused: %v", c.family, unsent[0])
		}
		if sent, unsent := flush(d); sent != 0 || len(unsent) != 0 {
			t.Errorf("%s: nothing was queued: %d sent, %v", c.family, sent, unsent)
		}
		for n, by := range c.by {
			mac, err := nodes[by].MAC("eth0")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := capture.Wait(ctx, 0, func(f lab.Frame) bool {
				a, got, _, ok := f.Advertisement()
				return ok && f.From == "host" && a.Priority == uint8(100+n) && got.TTL == 64 && got.Source.String() == c.from &&
					got.Destination.String() == c.to[n] && net.HardwareAddr(f.Data[:6]).String() == mac
			}); err != nil {
				t.Errorf("%s to %s by %s: %v", c.family, c.to[n], by, err)
			}
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestDatagramAllocations(t *testing.T) {
	for f, self := range map[packet.Family]string{packet.IPv4: "127.0.0.1", packet.IPv6: "::1"} {
		n, err := lab.ForTest(t).Node("host")
		if err != nil {
			t.Fatal(err)
		}
		if err := n.SetUp("lo"); err != nil {
			t.Fatal(err)
		}
		var d *Datagrams
		if err := n.Do(func() (err error) { d, err = OpenDatagrams(1, f); return err }); err != nil {
			t.Fatal(err)
		}
		frame := datagram(t, self, self, 1)
		unsent := func(_ int, err error) { t.Error(err) }
		if allocated := testing.AllocsPerRun(100, func() {
			for range 8 {
				d.Queue(frame)
			}
			if sent := d.Flush(unsent); sent != 8 {
				t.Fatal(sent)
			}
		}); allocated != 0 {
			t.Errorf("%s: a flush allocates %v times", f, allocated)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}
