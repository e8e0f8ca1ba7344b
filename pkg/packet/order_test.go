// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// raw is a datagram with faults that can be set one by one. Its checksum is computed by
// the tests' own function, not by the one under test.
type raw struct {
	d      Datagram
	badSum bool
}

func (r raw) datagram() Datagram {
	d := r.d
	d.Message = slices.Clone(d.Message)
	if len(d.Message) < headerLen {
		return d
	}
	d.Message[6], d.Message[7] = 0, 0
	covered := d.Message
	if d.Source.Is6() {
		s, g := d.Source.As16(), d.Destination.As16()
		covered = slices.Concat(s[:], g[:], binary.BigEndian.AppendUint32(nil, uint32(len(d.Message))), []byte{0, 0, 0, 112}, covered)
	}
	c := ^rfc1071(covered)
	if r.badSum {
		c ^= 0x0100
	}
	binary.BigEndian.PutUint16(d.Message[6:], c)
	return d
}

// if there are two faults, the reason is that of the first check. The
// rows are in the order of the checks, and every pair is tested.
func TestOrderOfChecks(t *testing.T) {
	t.Attr("proves", "R-03 R-04 R-05 R-06 R-07 R-08 R-09 R-10 R-11 R-12 R-21")
	type fault struct {
		name  string
		apply func(*raw)
		want  Reason
	}
	faults := []fault{
		{"R-03 TTL", func(r *raw) { r.d.TTL = 254 }, ErrTTL},
		{"R-04 version", func(r *raw) { r.d.Message[0] = 0x40 | r.d.Message[0]&0xf }, ErrVersion},
		{"R-05 seven octets", func(r *raw) { r.d.Message = r.d.Message[:7] }, ErrPacketLength},
		{"R-06 type", func(r *raw) { r.d.Message[0] = r.d.Message[0]&0xf0 | 2 }, ErrType},
		{"R-07 count", func(r *raw) { r.d.Message[3] = 0 }, ErrAddrCount},
		{"R-08 length", func(r *raw) { r.d.Message = append(r.d.Message, 0, 0) }, ErrPacketLength},
		{"R-09 interval", func(r *raw) { r.d.Message[4], r.d.Message[5] = 0, 0 }, ErrZeroInterval},
		{"R-10 first address", func(r *raw) { r.d.Message[8] = 0x20 }, ErrFirstAddr},
		{"R-11 checksum", func(r *raw) { r.badSum = true }, ErrChecksum},
		{"R-12 source", func(r *raw) {
			if r.d.Source.Is4() {
				r.d.Source = netip.MustParseAddr("224.0.0.5")
			} else {
				r.d.Source = netip.MustParseAddr("2001:db8::a")
			}
		}, ErrSource},
	}
	for _, id := range []string{"V01", "V04", "V06"} {
		d, err := ParseFrame(vectors(t)[id])
		if err != nil {
			t.Fatal(err)
		}
		try := func(name string, want error, apply ...func(*raw)) {
			t.Run(id+" "+name, func(t *testing.T) {
				r := raw{d: d}
				r.d.Message = slices.Clone(d.Message)
				// The fault of the earlier check is set last, because it may cut the message.
				for _, f := range slices.Backward(apply) {
					f(&r)
				}
				var a Advertisement
				if _, err := a.Decode(r.datagram()); !errors.Is(err, want) {
					t.Errorf("%v, want %v", err, want)
				}
			})
		}
		try("no fault", nil)
		for n, first := range faults {
			if first.want == ErrFirstAddr && d.Source.Is4() {
				continue // R-10 applies to IPv6
			}
			try(first.name, first.want, first.apply)
			for _, second := range faults[n+1:] {
				if second.want != ErrFirstAddr || d.Source.Is6() {
					try(first.name+" before "+second.name, first.want, first.apply, second.apply)
				}
			}
		}
	}
}

// Decode doesn't change the advertisement if it refuses the datagram.
func TestRefusedLeavesTheLast(t *testing.T) {
	frames := vectors(t)
	good, _, _, err := decode(frames["V02"])
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"V12", "V14", "V15", "V16", "V17", "V18", "V19", "V20", "V25", "V26"} {
		t.Run(id, func(t *testing.T) {
			d, err := ParseFrame(frames[id])
			if err != nil {
				t.Fatal(err)
			}
			a := good
			a.Addresses = slices.Clone(good.Addresses)
			if _, err := a.Decode(d); err == nil {
				t.Fatal("accepted")
			}
			same(t, good, a)
		})
	}
}

// An Advertisement that is decoded into again keeps nothing of the longer, authenticated one
// before.
func TestReused(t *testing.T) {
	frames := vectors(t)
	var a Advertisement
	for _, id := range []string{"V02", "V06", "V04", "V01", "V11"} {
		d, err := ParseFrame(frames[id])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Decode(d); err != nil {
			t.Fatal(err)
		}
		same(t, golden[id].ad, a)
	}
}

// P-06: the interval has twelve bits, and its extremes are decoded.
func TestIntervalExtremes(t *testing.T) {
	t.Attr("proves", "E-06 P-06")
	source := netip.MustParseAddr("192.0.2.2")
	for _, c := range []struct {
		name       string
		version    uint8
		four, five byte
		want       time.Duration
	}{
		{"P-06 1 cs", 3, 0, 1, 10 * time.Millisecond},
		{"P-06 256 cs", 3, 1, 0, 2560 * time.Millisecond},
		{"P-06 4095 cs", 3, 0x0f, 0xff, 40950 * time.Millisecond},
		{"P-06 reserved bits and 4095 cs", 3, 0xff, 0xff, 40950 * time.Millisecond},
		{"1.1 255 s", 2, 0, 255, 255 * time.Second},
		{"1.1 the authentication type is no part of it", 2, 1, 1, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := []byte{c.version<<4 | 1, 1, 100, 1, c.four, c.five, 0, 0, 192, 0, 2, 1}
			if c.version == 2 {
				m = append(m, make([]byte, 8)...)
			}
			var a Advertisement
			_, err := a.Decode(raw{d: Datagram{Source: source, Destination: IPv4.Group(), TTL: 255, Message: m}}.datagram())
			if err != nil || a.Interval != c.want {
				t.Errorf("%v, %v, want %v", a.Interval, err, c.want)
			}
		})
	}
	// E-06: reserved bits alone don't make an interval.
	m := []byte{0x31, 1, 100, 1, 0xf0, 0, 0, 0, 192, 0, 2, 1}
	var a Advertisement
	if _, err := a.Decode(raw{d: Datagram{Source: source, Destination: IPv4.Group(), TTL: 255, Message: m}}.datagram()); !errors.Is(err, ErrZeroInterval) {
		t.Errorf("interval 0xf000: %v, want %v", err, ErrZeroInterval)
	}
}

// the limits of the ranges of addresses.
func TestRanges(t *testing.T) {
	t.Attr("proves", "R-10 R-12")
	for _, c := range []struct {
		name, source, first string
		want                error
	}{
		{"R-10 begin of fe80::/10", "fe80::a", "fe80::", nil},
		{"R-10 end of fe80::/10", "fe80::a", "febf:ffff::1", nil},
		{"R-10 below fe80::/10", "fe80::a", "fe7f::1", ErrFirstAddr},
		{"R-10 above fe80::/10", "fe80::a", "fec0::1", ErrFirstAddr},
		{"R-10 multicast", "fe80::a", "ff80::1", ErrFirstAddr},
		{"R-10 unspecified", "fe80::a", "::", ErrFirstAddr},
		{"R-12 end of fe80::/10", "febf::a", "fe80::1", nil},
		{"R-12 above fe80::/10", "fec0::a", "fe80::1", ErrSource},
		{"R-12 IPv6 unspecified", "::", "fe80::1", ErrSource},
		{"R-12 IPv6 loopback", "::1", "fe80::1", ErrSource},
		{"R-12 IPv6 multicast", "ff02::12", "fe80::1", ErrSource},
		{"R-12 unspecified", "0.0.0.0", "192.0.2.1", ErrSource},
		{"R-12 above 0.0.0.0/8", "1.0.0.0", "192.0.2.1", nil},
		{"R-12 below the loopback", "126.255.255.255", "192.0.2.1", nil},
		{"R-12 loopback", "127.255.255.255", "192.0.2.1", ErrSource},
		{"R-12 above the loopback", "128.0.0.1", "192.0.2.1", nil},
		{"R-12 below multicast", "223.255.255.255", "192.0.2.1", nil},
		{"R-12 the group", "224.0.0.18", "192.0.2.1", ErrSource},
		{"R-12 broadcast", "255.255.255.255", "192.0.2.1", ErrSource},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := netip.MustParseAddr(c.source)
			m := slices.Concat([]byte{0x31, 1, 100, 1, 0, 100, 0, 0}, netip.MustParseAddr(c.first).AsSlice())
			var a Advertisement
			_, err := a.Decode(raw{d: Datagram{Source: source, Destination: FamilyOf(source).Group(), TTL: 255, Message: m}}.datagram())
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}
