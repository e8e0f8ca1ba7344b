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
