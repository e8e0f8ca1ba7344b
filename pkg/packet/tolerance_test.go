// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"
)

// K-08, V26, A-09: tolerated octets behind the message are cut off, and the checksum covers
// only the message. A message that is too short is still refused.
func TestTolerateTrailingOctets(t *testing.T) {
	t.Attr("proves", "K-08 A-09")
	tolerate := Tolerance{TrailingOctets: true}
	for _, c := range []struct {
		version  uint8
		src, dst string
		address  string
		form     Checksum
	}{
		{2, "192.0.2.2", "224.0.0.18", "192.0.2.1", ChecksumRFC9568},
		{3, "192.0.2.2", "224.0.0.18", "192.0.2.1", ChecksumRFC9568},
		{3, "192.0.2.2", "224.0.0.18", "192.0.2.1", ChecksumRFC5798},
		{3, "fe80::2", "ff02::12", "fe80::1", ChecksumRFC9568},
	} {
		src, dst := netip.MustParseAddr(c.src), netip.MustParseAddr(c.dst)
		a := Advertisement{Version: c.version, VRID: 51, Priority: 200, Interval: time.Second, Addresses: []netip.Addr{netip.MustParseAddr(c.address)}}
		message, err := a.AppendTo(nil, src, dst, c.form)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 2, 28} {
			d := Datagram{Source: src, Destination: dst, TTL: 255, Message: append(bytes.Clone(message), bytes.Repeat([]byte{0xa5}, n)...)}
			var got Advertisement
			if _, err := got.Decode(d); !errors.Is(err, ErrPacketLength) {
				t.Errorf("version %d, %d octets: %v", c.version, n, err)
			}
			form, err := got.DecodeTolerant(&d, tolerate)
			if err != nil || form != c.form || got.Priority != 200 || !bytes.Equal(d.Message, message) {
				t.Errorf("version %d, %d octets tolerated: %v, %v, %x", c.version, n, form, err, d.Message)
			}
		}
		d := Datagram{Source: src, Destination: dst, TTL: 255, Message: message[:len(message)-1]}
		if _, err := a.DecodeTolerant(&d, tolerate); !errors.Is(err, ErrPacketLength) {
			t.Errorf("version %d, cut: %v", c.version, err)
		}
	}
}

// E-04: an empty list, as keepalived sends it, is accepted only with NoAddress. An empty
// IPv6 list has no first address that could be a wrong one.
func TestTolerateNoAddress(t *testing.T) {
	t.Attr("proves", "E-04")
	for _, c := range []struct {
		version  uint8
		src, dst string
		form     Checksum
		length   int
	}{
		{2, "192.0.2.2", "224.0.0.18", ChecksumRFC9568, 16},
		{3, "192.0.2.2", "224.0.0.18", ChecksumRFC9568, 8},
		{3, "192.0.2.2", "224.0.0.18", ChecksumRFC5798, 8},
		{3, "fe80::2", "ff02::12", ChecksumRFC9568, 8},
	} {
		src, dst := netip.MustParseAddr(c.src), netip.MustParseAddr(c.dst)
		a := Advertisement{Version: c.version, VRID: 51, Priority: 200, Interval: time.Second}
		message, err := a.AppendTo(nil, src, dst, c.form)
		if err != nil || len(message) != c.length || message[3] != 0 {
			t.Fatalf("version %d from %s: %x, %v", c.version, src, message, err)
		}
		d := Datagram{Source: src, Destination: dst, TTL: 255, Message: message}
		for _, refusing := range []Tolerance{{}, {TrailingOctets: true, AnyFirstAddress: true, AuthTrailer: true}} {
			if _, err := a.DecodeTolerant(&d, refusing); !errors.Is(err, ErrAddrCount) {
				t.Errorf("version %d from %s with %+v: %v", c.version, src, refusing, err)
			}
		}
		got := Advertisement{Addresses: []netip.Addr{src}}
		if form, err := got.DecodeTolerant(&d, Tolerance{NoAddress: true}); err != nil || form != c.form || got.Priority != 200 || len(got.Addresses) != 0 {
			t.Errorf("version %d from %s: %v, %v, %+v", c.version, src, form, err, got)
		}
		d.Message = append(message, 1, 2, 3, 4)
		if _, err := a.DecodeTolerant(&d, Tolerance{NoAddress: true}); !errors.Is(err, ErrPacketLength) {
			t.Errorf("version %d from %s with octets behind: %v", c.version, src, err)
		}
	}
}

// K-07, V19: AnyFirstAddress accepts a first IPv6 address that isn't link-local.
func TestTolerateFirstAddress(t *testing.T) {
	t.Attr("proves", "K-07")
	src, dst := netip.MustParseAddr("fe80::2"), netip.MustParseAddr("ff02::12")
	a := Advertisement{Version: 3, VRID: 51, Priority: 200, Interval: time.Second, Addresses: []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("fe80::1")}}
	message, err := a.AppendTo(nil, src, dst, ChecksumRFC9568)
	if err != nil {
		t.Fatal(err)
	}
	d := Datagram{Source: src, Destination: dst, TTL: 255, Message: message}
	if _, err := a.Decode(d); !errors.Is(err, ErrFirstAddr) {
		t.Errorf("strict: %v", err)
	}
	if _, err := a.DecodeTolerant(&d, Tolerance{TrailingOctets: true}); !errors.Is(err, ErrFirstAddr) {
		t.Errorf("another tolerance: %v", err)
	}
	if _, err := a.DecodeTolerant(&d, Tolerance{AnyFirstAddress: true}); err != nil {
		t.Errorf("tolerated: %v", err)
	}
}
