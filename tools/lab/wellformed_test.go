// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// vectors reads the frames that all decoders are tested with.
func vectors(t *testing.T) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile("../../pkg/packet/testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []struct{ ID, Hex string }
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]byte)
	for _, v := range list {
		if all[v.ID], err = hex.DecodeString(v.Hex); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestWellFormedGood(t *testing.T) {
	all := vectors(t)
	for _, c := range []struct{ id, want string }{
		{"V01", "advertisement from 192.0.2.2 version 2 VRID 52 priority 200 interval 1s [192.0.2.129] message"},
		{"V03", "advertisement from 192.0.2.2 version 2 VRID 52 priority 0 interval 1s [192.0.2.129] message"},
		{"V04", "advertisement from 192.0.2.2 version 3 VRID 51 priority 200 interval 1s [192.0.2.1] message"},
		{"V05", "advertisement from 192.0.2.2 version 3 VRID 51 priority 200 interval 1s [192.0.2.1] pseudo-header"},
		{"V06", "advertisement from fe80::a version 3 VRID 51 priority 200 interval 1s [fe80::1 2001:db8:0:1::1] pseudo-header"},
		{"V07", "advertisement from 192.0.2.2 version 3 VRID 51 priority 0 interval 1s [192.0.2.1] message"},
		{"V11", "advertisement from 192.0.2.2 version 3 VRID 51 priority 200 interval 250ms [192.0.2.1] message"},
		{"T01", "gratuitous ARP [192.0.2.1]"},
		{"T02", "unsolicited neighbour advertisement [fe80::1]"},
		{"V27", "other []"}, // in an Authentication Header
	} {
		s, err := WellFormed(all[c.id])
		got := fmt.Sprintf("%s from %s version %d VRID %d priority %d interval %v %v %s", s.Kind, s.Source, s.Version, s.VRID, s.Priority, s.Interval, s.Addresses, s.Checksum)
		if s.Kind != KindAdvertisement {
			got = fmt.Sprint(s.Kind, " ", s.Addresses)
		}
		if err != nil || got != c.want {
			t.Errorf("%s: got %s, %v, want %s", c.id, got, err, c.want)
		}
	}
}

// Vectors that failoverd rejects, or accepts from other routers only, are malformed when
// failoverd sends them.
func TestWellFormedVectors(t *testing.T) {
	all := vectors(t)
	for id, want := range map[string]string{
		"V02": "authentication type is 1",
		"V08": "reserved bits are 0xf",
		"V12": "TTL is fe",
		"V13": "hop limit is 40",
		"V14": "version and type are 0x41",
		"V15": "version and type are 0x32",
		"V16": "message has 12 octets, but 2 addresses make it 16",
		"V17": "VRRP checksum is wrong",
		"V18": "address count is 0",
		"V19": "first address 2001:db8:0:1::1 isn't link-local",
		"V20": "interval is 0",
		"V25": "message has 36 octets, but 7 addresses make it 44",
		"V26": "message has 40 octets, but 1 addresses make it 12",
		"V29": "destination MAC is 02000000000b",
	} {
		if _, err := WellFormed(all[id]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", id, err, want)
		}
	}
}

// set returns a change that overwrites octets of a frame.
func set(at int, octets ...byte) func([]byte) []byte {
	return func(f []byte) []byte {
		copy(f[at:], octets)
		return f
	}
}

// grow returns a change that appends octets to a frame.
func grow(octets ...byte) func([]byte) []byte {
	return func(f []byte) []byte { return append(f, octets...) }
}

// sign corrects the checksums of a changed frame, so that only the change itself is wrong.
func sign(f []byte) {
	ip := f[14:]
	put := func(m []byte, at int, parts ...[]byte) {
		m[at], m[at+1] = 0, 0
		binary.BigEndian.PutUint16(m[at:], ^internetSum(append(parts, m)...))
	}
	switch binary.BigEndian.Uint16(f[12:]) {
	case 0x0800:
		put(ip[:20], 10)
		if end := int(binary.BigEndian.Uint16(ip[2:])); end >= 28 && end <= len(ip) {
			put(ip[20:end], 6)
		}
	case 0x86dd:
		end := 40 + int(binary.BigEndian.Uint16(ip[4:]))
		if end < 48 || end > len(ip) {
			return
		}
		at := 6
		if ip[6] == 58 {
			at = 2
		}
		put(ip[40:end], at, pseudoIPv6(ip, ip[6], end-40))
	}
}

// A wrong value in any field is found, with correct checksums.
func TestWellFormedBroken(t *testing.T) {
	all := vectors(t)
	for _, c := range []struct {
		id, want string
		change   func([]byte) []byte
	}{
		{"V04", "destination MAC", set(0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)},
		{"V04", "source MAC", set(6, 1)},
		{"V04", "source MAC", set(6, 0, 0, 0, 0, 0, 0)},
		{"V04", "IP version and header length", set(14, 0x46)},
		{"V04", "TOS", set(15, 0)},
		{"V04", "IP total length", set(16, 0, 27)},
		{"V04", "IP total length", set(16, 0, 47)},
		{"V04", "message has 13 octets", set(16, 0, 33)},
		{"V04", "fragment", set(20, 0x20, 0)},
		{"V04", "fragment", set(20, 0, 1)},
		{"V04", "fragment", set(20, 0x80, 0)},
		{"V04", "TTL", set(22, 254)},
		{"V04", "source 0.0.2.2", set(26, 0)},
		{"V04", "source 127.0.2.2", set(26, 127)},
		{"V04", "source 224.0.2.2", set(26, 224)},
		{"V04", "IP destination", set(30, 224, 0, 0, 1)},
		{"V04", "version and type", set(34, 0x32)},
		{"V04", "version and type", set(34, 0x11)},
		{"V04", "VRID", set(35, 0)},
		{"V04", "address count", set(37, 0)},
		{"V04", "message has 12 octets", set(37, 2)},
		{"V04", "reserved bits", set(38, 0x10)},
		{"V04", "interval", set(38, 0, 0)},
		{"V04", "address 0.0.0.0", set(42, 0, 0, 0, 0)},
		{"V04", "address 224.0.0.1", set(42, 224, 0, 0, 1)},
		{"V04", "padding", set(59, 1)},
		{"V04", "frame has 61 octets", grow(0)},
		{"V01", "authentication type", set(38, 1)},
		{"V01", "interval", set(39, 0)},
		{"V01", "authentication data", set(53, 1)},
		{"V01", "message has 20 octets", set(34, 0x31)},
		{"V06", "destination MAC", set(5, 1)},
		{"V06", "source MAC", set(6, 0x33)},
		{"V06", "IP version, traffic class", set(14, 0x60)},
		{"V06", "IP version, traffic class", set(17, 1)},
		{"V06", "IPv6 payload length", set(18, 0, 7)},
		{"V06", "IPv6 payload length", set(18, 0, 41)},
		{"V06", "frame has 94 octets", set(18, 0, 39)},
		{"V06", "frame has 95 octets", grow(0)},
		{"V06", "hop limit", set(21, 64)},
		{"V06", "source 2001:", set(22, 0x20, 0x01)},
		{"V06", "IP destination", set(53, 1)},
		{"V06", "version and type", set(54, 0x41)},
		{"V06", "message has 40 octets", set(54, 0x21)},
		{"V06", "message has 40 octets", set(57, 1)},
		{"V06", "first address", set(62, 0x20, 0x01)},
		{"V06", "address ff02::1", set(78, 0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)},
		{"T01", "destination MAC", set(0, 0)},
		{"T01", "source MAC", set(6, 1)},
		{"T01", "hardware type", set(15, 6)},
		{"T01", "protocol type", set(16, 0x86, 0xdd)},
		{"T01", "address lengths", set(18, 8)},
		{"T01", "address lengths", set(19, 16)},
		{"T01", "operation", set(21, 2)},
		{"T01", "sender hardware address", set(27, 0x34)},
		{"T01", "target hardware address", set(37, 0x34)},
		{"T01", "address 0.0.0.0", func(f []byte) []byte { return set(28, 0, 0, 0, 0)(set(38, 0, 0, 0, 0)(f)) }},
		{"T01", "padding", set(50, 1)},
		{"T01", "frame has 61 octets", grow(0)},
		{"T02", "destination MAC", set(5, 2)},
		{"T02", "source MAC", set(6, 1)},
		{"T02", "IP version, traffic class", set(14, 0x6c)},
		{"T02", "IPv6 payload length", set(19, 24)},
		{"T02", "hop limit", set(21, 64)},
		{"T02", "IP source", set(37, 2)},
		{"T02", "IP destination", set(53, 2)},
		{"T02", "code", set(55, 1)},
		{"T02", "flags", set(58, 0x20)},
		{"T02", "flags", set(58, 0x80)},
		{"T02", "flags", set(61, 1)},
		{"T02", "address ff80::1", set(62, 0xff)},
		{"T02", "option", set(78, 1)},
		{"T02", "option", set(79, 2)},
		{"T02", "target link-layer address", set(85, 0x34)},
		{"T02", "frame has 85 octets", func(f []byte) []byte { return f[:85] }},
		{"T02", "frame has 87 octets", grow(0)},
	} {
		f := c.change(bytes.Clone(all[c.id]))
		sign(f)
		if _, err := WellFormed(f); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error about: %s", c.id, err, c.want)
		}
	}
}

// Every flipped bit is found, except in the source MAC, which no checksum covers, and where it
// makes the frame one of another kind.
func TestWellFormedDamaged(t *testing.T) {
	all := vectors(t)
	kind := map[string][]int{
		"V01": {12, 13, 23}, "V04": {12, 13, 23}, "V05": {12, 13, 23}, "V06": {12, 13, 20},
		// An ARP packet with two different addresses is a request, and a neighbour
		// advertisement with the Solicited flag is a reply.
		"T01": {12, 13, 28, 29, 30, 31, 38, 39, 40, 41}, "T02": {12, 13, 20, 54, 58},
	}
	for id, other := range kind {
		for n := range len(all[id]) * 8 {
			at := n / 8
			if at >= 6 && at < 12 && id[0] == 'V' {
				continue
			}
			f := bytes.Clone(all[id])
			f[at] ^= 1 << (n % 8)
			s, err := WellFormed(f)
			if err == nil && (s.Kind != KindOther || !slices.Contains(other, at)) {
				t.Errorf("%s: bit %d of octet %d is not found", id, n%8, at)
			}
		}
	}
}

// A host that still has an address replies to the announcement of another host. The unicast
// reply is no announcement.
func TestWellFormedAnswer(t *testing.T) {
	f := bytes.Clone(vectors(t)["T01"])
	copy(f, []byte{0, 0, 0x5e, 0, 1, 0x33})
	f[21] = 2
	if s, err := WellFormed(f); s.Kind != KindOther || err != nil {
		t.Errorf("%v, %v", s.Kind, err)
	}
}

// A frame that is cut anywhere doesn't make WellFormed panic.
func TestWellFormedShort(t *testing.T) {
	for id, f := range vectors(t) {
		for n := range len(f) {
			_, _ = WellFormed(f[:n])
		}
		if s, err := WellFormed(f[:min(len(f), 13)]); s.Kind != KindOther || err != nil {
			t.Errorf("%s: %v, %v", id, s.Kind, err)
		}
	}
}

func TestWellFormedInterval(t *testing.T) {
	f := bytes.Clone(vectors(t)["V04"])
	copy(f[38:], []byte{0x0f, 0xff})
	sign(f)
	if s, err := WellFormed(f); err != nil || s.Interval != 40950*time.Millisecond {
		t.Errorf("%v, %v", s.Interval, err)
	}
}
