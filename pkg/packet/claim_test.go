// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"bytes"
	"net/netip"
	"testing"
)

// Announcements and replies claim an address for a MAC. Probes and other frames don't.
func TestClaims(t *testing.T) {
	four, six, own := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10"), netip.MustParseAddr("fe80::1")
	mac := MAC{2, 0, 0, 0, 0, 9}
	frame := func(b []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	arp, na := frame(AppendGratuitousARP(nil, mac, four)), frame(AppendUnsolicitedNA(nil, mac, six))
	answer, bare := bytes.Clone(arp), bytes.Clone(na[:14+40+24])
	answer[21] = 2
	routed, broken := bytes.Clone(na), bytes.Clone(na)
	routed[21], broken[14+40+25] = 254, 0
	wide := bytes.Clone(arp)
	wide[18] = 8
	for _, x := range []struct {
		name  string
		frame []byte
		want  netip.Addr // zero: no claim
	}{
		{"gratuitous ARP", arp, four},
		{"ARP answer", answer, four},
		{"ARP probe", frame(AppendARPProbe(nil, mac, four)), netip.Addr{}},
		{"ARP of other lengths", wide, netip.Addr{}},
		{"short ARP", arp[:41], netip.Addr{}},
		{"neighbour advertisement", na, six},
		{"neighbour advertisement without option", bare, six},
		{"neighbour advertisement with an empty option", broken, six},
		{"neighbour advertisement from beyond the link", routed, netip.Addr{}},
		{"short neighbour advertisement", na[:14+40+23], netip.Addr{}},
		{"neighbour solicitation", frame(AppendNeighborSolicitation(nil, mac, own, six)), netip.Addr{}},
		{"nothing", nil, netip.Addr{}},
	} {
		c, ok := ParseClaim(x.frame)
		if ok != x.want.IsValid() || ok && (c.Address != x.want || c.MAC != mac) {
			t.Errorf("%s: %+v, %v", x.name, c, ok)
		}
	}
}

func TestNeighborSolicitation(t *testing.T) {
	own, six := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("2001:db8::12:3456")
	b, err := AppendNeighborSolicitation(nil, MAC{2, 0, 0, 0, 0, 9}, own, six)
	if err != nil {
		t.Fatal(err)
	}
	want := []byte{
		0x33, 0x33, 0xff, 0x12, 0x34, 0x56, 2, 0, 0, 0, 0, 9, 0x86, 0xdd,
	}
	if !bytes.HasPrefix(b, want) {
		t.Errorf("%x", b)
	}
	message := b[14+40:]
	if len(message) != 32 || message[0] != 135 || [16]byte(message[8:24]) != six.As16() || !bytes.Equal(message[24:], []byte{1, 1, 2, 0, 0, 0, 0, 9}) {
		t.Errorf("%x", message)
	}
	if acc := sum(pseudo(own, netip.MustParseAddr("ff02::1:ff12:3456"), 58, 32), message); fold(acc) != 0xffff {
		t.Errorf("checksum: %x", fold(acc))
	}
	if _, err := AppendNeighborSolicitation(nil, MAC{}, own, netip.MustParseAddr("192.0.2.1")); err == nil {
		t.Error("an IPv4 address is asked for by ARP")
	}
}
