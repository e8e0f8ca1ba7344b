// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// FuzzRoundTrip makes advertisements with arbitrary fields. One that can be encoded decodes
// to the same fields, and encodes to the same octets again.
func FuzzRoundTrip(f *testing.F) {
	for _, frame := range vectors(f) {
		a, d, form, err := decode(frame)
		if err != nil {
			continue
		}
		var list []byte
		for _, addr := range a.Addresses {
			list = append(list, addr.AsSlice()...)
		}
		f.Add(a.Version, a.VRID, a.Priority, a.AuthType, int64(a.Interval/centisecond), list, a.AuthData[:], d.Source.AsSlice(), uint8(form))
	}
	f.Fuzz(func(t *testing.T, version, vrid, priority, authType uint8, interval int64, list, auth, from []byte, form uint8) {
		source, ok := netip.AddrFromSlice(from)
		if !ok || source.Is4In6() || !saneSource(&Datagram{Source: source, Destination: FamilyOf(source).Group()}) {
			return // not a source of a router
		}
		a := Advertisement{Version: version, VRID: vrid, Priority: priority, Interval: time.Duration(interval) * centisecond}
		if version == 2 {
			a.AuthType = authType
			copy(a.AuthData[:], auth)
		}
		for one := range slices.Chunk(list, FamilyOf(source).size()) {
			addr, ok := netip.AddrFromSlice(one)
			if !ok {
				return // the last address is truncated
			}
			a.Addresses = append(a.Addresses, addr)
		}
		frame, err := AppendAdvertisementFrame(nil, MAC{}, source, &a, Checksum(form))
		if err != nil {
			if len(frame) != 0 {
				t.Errorf("refused for %v, and yet %x", err, frame)
			}
			return
		}
		got, d, gotForm, err := decode(frame)
		if source.Is6() && !a.Addresses[0].IsLinkLocalUnicast() {
			if !errors.Is(err, ErrFirstAddr) {
				t.Errorf("first address %v: %v, want %v", a.Addresses[0], err, ErrFirstAddr)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		// With a pseudo-header whose sum is ffff both forms are right.
		neutral := fold(pseudo(d.Source, d.Destination, ProtocolVRRP, len(d.Message))) == 0xffff
		if gotForm != Checksum(form) && !neutral {
			t.Errorf("checksum %v, want %v", gotForm, Checksum(form))
		}
		same(t, a, got)
		again, err := got.AppendTo(nil, d.Source, d.Destination, Checksum(form))
		if err != nil || !bytes.Equal(again, d.Message) {
			t.Errorf("%x became %x, %v", d.Message, again, err)
		}
	})
}

// FuzzFrame decodes arbitrary frames. What it accepts lies within the frame, has valid
// fields, and encodes to the same message.
func FuzzFrame(f *testing.F) {
	for _, frame := range vectors(f) {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		d, err := ParseFrame(frame)
		if err != nil {
			return
		}
		var a Advertisement
		form, err := a.Decode(d)
		if errors.Is(err, ErrChecksum) {
			// The fuzzer rarely finds the right checksum, so it is set here.
			d = raw{d: d}.datagram()
			form, err = a.Decode(d)
		}
		if err != nil {
			same(t, Advertisement{}, a)
			return
		}
		if d.TTL != 255 || !saneSource(&d) || !d.Unicast() && d.Destination != FamilyOf(d.Source).Group() || len(a.Addresses) != int(d.Message[3]) {
			t.Errorf("accepted: %+v", d)
		}
		if a.VRID == 0 {
			return // only the router can refuse this VRID
		}
		again, err := a.AppendTo(nil, d.Source, d.Destination, form)
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Clone(d.Message)
		if a.Version == 3 {
			// The reserved bits are sent as 0 (P-06), which changes the checksum.
			reserved := uint32(want[4]&0xf0) << 8
			want[4] &= 0xf
			c := uint32(binary.BigEndian.Uint16(want[6:])) + reserved
			binary.BigEndian.PutUint16(want[6:], uint16(c>>16+c&0xffff))
		}
		// Ones' complement has two zeros, and only one of them is encoded.
		if binary.BigEndian.Uint16(want[6:]) == 0xffff {
			want[6], want[7] = 0, 0
		}
		if !bytes.Equal(again, want) {
			t.Errorf("%x became %x", want, again)
		}
	})
}
