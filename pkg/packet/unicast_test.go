// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// unicastFrame is an advertisement from one host to another.
func unicastFrame(t *testing.T, from, to string, ttl uint8, form Checksum) []byte {
	t.Helper()
	source := netip.MustParseAddr(from)
	a := Advertisement{Version: 3, VRID: 51, Priority: 200, Interval: time.Second, Addresses: addrs("192.0.2.1")}
	etherType := uint16(etherTypeIPv4)
	if source.Is6() {
		a.Addresses, etherType = addrs("fe80::1", "2001:db8::1"), etherTypeIPv6
	}
	frame := appendEthernet(nil, MAC{2, 0, 0, 0, 0, 2}, MAC{2, 0, 0, 0, 0, 1}, etherType)
	frame, err := AppendAdvertisementDatagram(frame, source, netip.MustParseAddr(to), ttl, &a, form)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// An advertisement can be sent to any host, and the checksum covers its address.
func TestUnicast(t *testing.T) {
	t.Attr("proves", "O-09")
	for _, c := range []struct {
		from, to string
		form     Checksum
	}{
		{"192.0.2.2", "192.0.2.3", ChecksumRFC9568},
		{"192.0.2.2", "198.51.100.3", ChecksumRFC5798},
		{"2001:db8::2", "2001:db8:1::3", ChecksumRFC9568},
		{"fe80::2", "fe80::3", ChecksumRFC9568},
	} {
		frame := unicastFrame(t, c.from, c.to, 64, c.form)
		d, err := ParseFrame(frame)
		if err != nil || !d.Unicast() || d.Source.String() != c.from || d.Destination.String() != c.to || d.TTL != 64 {
			t.Fatalf("%+v, %v", d, err)
		}
		for hops, want := range map[Hops]error{{0, 255}: nil, {64, 64}: nil, {65, 255}: ErrTTL, {0, 63}: ErrTTL, OnLink(): ErrTTL} {
			var a Advertisement
			form, err := a.DecodeWithin(&d, Tolerance{}, hops)
			if !errors.Is(err, want) || err == nil && (form != c.form || a.Priority != 200) {
				t.Errorf("%s to %s within %v: %+v, %v, %v", c.from, c.to, hops, a, form, err)
			}
		}
	}
}

// A unicast datagram that can't be read, and one to an address of no host, is ErrNotVRRP.
func TestUnicastNotOurs(t *testing.T) {
	t.Attr("proves", "R-01 O-09 X-06")
	four, six := unicastFrame(t, "192.0.2.2", "192.0.2.3", 255, ChecksumRFC9568), unicastFrame(t, "fe80::2", "fe80::3", 255, ChecksumRFC9568)
	put := func(frame []byte, at int, v ...byte) []byte {
		frame = slices.Clone(frame)
		copy(frame[at:], v)
		return frame
	}
	for name, frame := range map[string][]byte{
		"fragment":               put(four, 20, 0x20),
		"IHL 4":                  put(four, 14, 0x44),
		"beyond the frame":       put(four, 16, 0xff),
		"broadcast":              put(four, 30, 255, 255, 255, 255),
		"another group":          put(four, 30, 224, 0, 0, 19),
		"IPv6 beyond the frame":  put(six, 18, 0xff),
		"another IPv6 group":     put(six, 38, 0xff),
		"in a VLAN":              slices.Insert(slices.Clone(four), 12, 0x81, 0, 0, 7),
		"longer than a message":  append(put(six, 18, 0x10, 0x40), make([]byte, 4160)...),
		"a fragment in IPv6":     put(put(six, 20, 44), 54, 112),
		"IPv6 from another kind": put(six, 20, 51),
	} {
		if d, err := ParseFrame(frame); !errors.Is(err, ErrNotVRRP) {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
	for source, want := range map[string]error{"2001:db8::2": nil, "fe80::2": nil, "ff02::2": ErrSource, "::": ErrSource, "::1": ErrSource} {
		d := Datagram{Source: netip.MustParseAddr(source), Destination: netip.MustParseAddr("2001:db8::3"), TTL: 255}
		a := Advertisement{Version: 3, VRID: 51, Priority: 200, Interval: time.Second, Addresses: addrs("fe80::1")}
		var err error
		if d.Message, err = a.AppendTo(nil, d.Source, d.Destination, ChecksumRFC9568); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Decode(d); !errors.Is(err, want) {
			t.Errorf("from %s: %v, want %v", source, err, want)
		}
	}
}
