// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"
	"time"
)

// authVectors are frames of keepalived. Its HMAC key has the octets 0 to 31, its AH
// password is failovr1.
func authVectors(t testing.TB) map[string][]byte {
	t.Helper()
	return readFrames(t, "testdata/auth.json")
}

func authKey() *TrailerKey {
	var secret [32]byte
	for i := range secret {
		secret[i] = uint8(i)
	}
	return NewTrailerKey(secret[:])
}

var authTolerance = Tolerance{AuthTrailer: true, AuthHeader: true}

// authentic decodes a frame and verifies its trailer or header.
func authentic(t *testing.T, frame []byte) (Advertisement, Datagram, bool) {
	t.Helper()
	var a Advertisement
	d, err := ParseFrame(frame)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.DecodeTolerant(&d, authTolerance); err != nil {
		t.Fatalf("%v: %x", err, frame)
	}
	if d.Header != nil {
		return a, d, NewHeaderKey([]byte("failovr1")).Verify(&d)
	}
	return a, d, authKey().Verify(&d)
}

// the frames of keepalived are authentic, and signing the same
// datagram gives the same octets.
func TestAuthAsKeepalived(t *testing.T) {
	t.Attr("proves", "A-04 A-05 A-09")
	frames := authVectors(t)
	frames["V27"] = vectors(t)["V27"]
	for id, frame := range frames {
		a, d, ok := authentic(t, frame)
		if !ok {
			t.Errorf("%s isn't authentic", id)
			continue
		}
		plain, err := AppendAdvertisementDatagram(nil, d.Source, d.Destination, 255, &a, checksumForm(&Datagram{Source: d.Source, Destination: d.Destination, Message: d.Message, Trailer: d.Trailer}, a.Version))
		if err != nil {
			t.Fatal(err)
		}
		var again []byte
		if sequence, inHeader := d.HeaderSequence(); inHeader {
			again = WithHeader(plain)
			copy(again[4:6], IPOf(frame)[4:6]) // the identification
			setLength(again)
			NewHeaderKey([]byte("failovr1")).Sign(again, sequence)
		} else {
			trailer, _ := d.ParseTrailer()
			again = WithTrailer(plain)
			authKey().Sign(again, trailer)
			if again[0]>>4 == 4 {
				copy(again[4:6], IPOf(frame)[4:6])
				setLength(again)
			} else {
				copy(again[1:4], IPOf(frame)[1:4]) // the flow label
			}
		}
		if !bytes.HasPrefix(IPOf(frame), again) {
			t.Errorf("%s, signed again:\n%x, not\n%x", id, again, IPOf(frame))
		}
	}
}

// the examples of the draft's appendix. The key has the octets 0 to 31, and the
// IPv6 checksum covers the trailer.
func TestAuthDraftVectors(t *testing.T) {
	t.Attr("proves", "A-09")
	for _, v := range []struct{ source, destination, message string }{
		{"198.51.100.10", "224.0.0.18", "3133c80100644402c0000264" + "010100006800000080000000" + "1b84bc4e8e43892dc6d98448f8ee2265"},
		{"fe80::10", "fe80::20", "3133c8010064a2e9" + "fe800000000000000000000000000100" + "010100006800000080000000" + "c8c56146ebfd66ee10ec4d8186461b78"},
	} {
		message, err := hex.DecodeString(v.message)
		if err != nil {
			t.Fatal(err)
		}
		d := Datagram{Source: netip.MustParseAddr(v.source), Destination: netip.MustParseAddr(v.destination), TTL: 255, Message: message}
		var a Advertisement
		if _, err := a.DecodeTolerant(&d, authTolerance); err != nil {
			t.Fatal(err)
		}
		trailer, ok := d.ParseTrailer()
		if want := (Trailer{1, 0x6800000080000000}); !ok || trailer != want || !authKey().Verify(&d) {
			t.Errorf("from %s: %+v, %v", v.source, trailer, ok)
		}
		// Any flipped bit outside of the checksum is detected.
		for at := range message {
			for bit := range 8 {
				message[at] ^= 1 << bit
				if got := authKey().Verify(&d); got != (at == 6 || at == 7) {
					t.Errorf("from %s: bit %d of octet %d flipped, and it's authentic: %v", v.source, bit, at, got)
				}
				message[at] ^= 1 << bit
			}
		}
		d.Source = d.Source.Next()
		if authKey().Verify(&d) {
			t.Errorf("it's authentic from %s too", d.Source)
		}
	}
}

// Any flipped bit in an Authentication Header or in what it covers is detected. It
// doesn't cover TOS, fragment field and checksum of the IPv4 header.
func TestAuthHeaderFlipped(t *testing.T) {
	t.Attr("proves", "A-04")
	frame := authVectors(t)["AH-1"]
	_, d, ok := authentic(t, frame)
	if !ok {
		t.Fatal("it isn't authentic")
	}
	key := NewHeaderKey([]byte("failovr1"))
	for _, part := range [][]byte{d.Header, d.Message} {
		for at := range part {
			part[at] ^= 1
			if key.Verify(&d) {
				t.Errorf("octet %d of %d flipped, and it's authentic", at, len(part))
			}
			part[at] ^= 1
		}
	}
	for name, change := range map[string]func(*Datagram){
		"source":         func(d *Datagram) { d.Source = d.Source.Next() },
		"destination":    func(d *Datagram) { d.Destination = d.Destination.Next() },
		"identification": func(d *Datagram) { d.Identification++ },
		"TTL":            func(d *Datagram) { d.TTL-- },
		"length":         func(d *Datagram) { d.Message = d.Message[:len(d.Message)-4] },
		"password":       func(*Datagram) { key = NewHeaderKey([]byte("failovr2")) },
	} {
		changed := d
		change(&changed)
		if key.Verify(&changed) {
			t.Errorf("%s changed, and it's authentic", name)
		}
	}
}

// the password is left-aligned in the Authentication Data.
func TestWithPassword(t *testing.T) {
	t.Attr("proves", "A-03")
	a := Advertisement{Version: 2, VRID: 53, Priority: 200, Interval: time.Second, Addresses: addrs("192.0.2.130")}
	plain, err := AppendAdvertisementFrame(nil, VirtualMAC(IPv4, 53), netip.MustParseAddr("192.0.2.2"), &a, ChecksumRFC9568)
	if err != nil {
		t.Fatal(err)
	}
	frame := InFrame(plain, WithPassword(IPOf(plain), [8]byte([]byte("failovr1"))))
	if want := vectors(t)["V02"]; !bytes.Equal(frame, want) {
		t.Errorf("%x, not\n%x", frame, want)
	}
}

// Neither signing nor verifying allocates.
func TestAuthAllocates(t *testing.T) {
	trailer, header := authKey(), NewHeaderKey([]byte("failovr1"))
	frames := authVectors(t)
	_, trailed, _ := authentic(t, frames["H6-1"])
	_, headed, _ := authentic(t, frames["AH-1"])
	if n := testing.AllocsPerRun(100, func() {
		trailer.Sign(IPOf(frames["H6-1"]), Trailer{1, 2})
		header.Sign(IPOf(frames["AH-1"]), 1)
		if !trailer.Verify(&trailed) || !header.Verify(&headed) {
			t.Error("not authentic")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Separating and verifying a trailer doesn't panic for any octets, and random octets
// don't verify.
func FuzzTrailer(f *testing.F) {
	for id, frame := range authVectors(f) {
		if d, err := ParseFrame(frame); err == nil && d.Header == nil {
			f.Add(d.Message, id == "H6-1")
		}
	}
	key := NewTrailerKey([]byte("no one's key, of 32 octets at least"))
	f.Fuzz(func(t *testing.T, message []byte, v6 bool) {
		d := Datagram{Source: netip.MustParseAddr("192.0.2.2"), Destination: IPv4.Group(), TTL: 255, Message: message}
		if v6 {
			d.Source, d.Destination = netip.MustParseAddr("fe80::2"), IPv6.Group()
		}
		var a Advertisement
		if _, err := a.DecodeTolerant(&d, authTolerance); err != nil {
			return
		}
		if _, ok := d.ParseTrailer(); ok && len(d.Trailer) != TrailerLen {
			t.Errorf("a trailer of %d octets", len(d.Trailer))
		}
		if key.Verify(&d) {
			t.Error("authentic")
		}
	})
}

// Verifying an Authentication Header doesn't panic for any octets, and random octets
// don't verify.
func FuzzHeader(f *testing.F) {
	f.Add(authVectors(f)["AH-1"])
	f.Add(vectors(f)["V27"])
	key := NewHeaderKey([]byte("nobody's"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		d, err := ParseFrame(frame)
		if err != nil {
			return
		}
		var a Advertisement
		if _, err := a.DecodeTolerant(&d, authTolerance); err != nil {
			return
		}
		if _, ok := d.HeaderSequence(); ok != (d.Header != nil) {
			t.Error("a header without a sequence number, or the other way round")
		}
		if key.Verify(&d) {
			t.Error("authentic")
		}
	})
}
