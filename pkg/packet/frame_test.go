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

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// P-11: the checks of the headers, before the message is read.
func TestFrames(t *testing.T) {
	t.Attr("proves", "R-01 R-02 P-11")
	put := func(at int, v ...byte) func([]byte) []byte {
		return func(f []byte) []byte { copy(f[at:], v); return f }
	}
	tag := func(outer uint16, f func([]byte) []byte) func([]byte) []byte {
		return func(frame []byte) []byte {
			return slices.Insert(f(frame), 12, byte(outer>>8), byte(outer), 0x20, 7)
		}
	}
	plain := func(f []byte) []byte { return f }
	for _, c := range []struct {
		name, id string
		f        func([]byte) []byte
		want     error
	}{
		{"R-01 UDP", "V04", put(23, 17), ErrNotVRRP},
		{"R-01 neighbour of the group", "V04", put(33, 17), ErrNotVRRP},
		{"R-01 IPv6 neighbour of the group", "V06", put(53, 0x16), ErrNotVRRP},
		{"R-01 IPv6 Next Header 51", "V06", put(20, 51), ErrNotVRRP},
		{"R-01 ethertype says IPv4, header says 6", "V04", put(14, 0x65), ErrNotVRRP},
		{"R-01 ethertype says IPv6, header says 4", "V06", put(14, 0x4c), ErrNotVRRP},
		{"R-02 more fragments", "V04", put(20, 0x20), ErrFragment},
		{"R-02 offset in the low octet", "V04", put(21, 1), ErrFragment},
		{"R-02 offset in the high octet", "V04", put(20, 0x10), ErrFragment},
		{"R-02 don't fragment is no fragment", "V04", put(20, 0x40), nil},
		{"R-02 fragment before lengths", "V04", put(14, 0x44, 0, 0, 0, 0, 0, 0x20), ErrFragment},
		{"R-02 IHL 4", "V04", put(14, 0x44), ErrIPMalformed},
		{"R-02 total length below the header", "V04", put(16, 0, 19), ErrIPMalformed},
		{"R-02 total length below a long header", "V04", put(14, 0x4f), ErrIPMalformed},
		{"R-02 total length beyond the frame", "V04", put(16, 0, 47), ErrIPMalformed},
		{"R-02 IPv6 length beyond the frame", "V06", put(18, 0, 41), ErrIPMalformed},
		{"R-02 IPv6 length of 65535", "V06", put(18, 0xff, 0xff), ErrIPMalformed},
		{"R-05 IPv6 without a message", "V06", put(18, 0, 0), ErrPacketLength},
		{"P-11 IPv6 padding", "V06", func(f []byte) []byte { return append(f, 1, 2, 3, 4) }, nil},
		{"P-11 padding that isn't zero", "V04", func(f []byte) []byte { f[46], f[59] = 0xff, 0xff; return f }, nil},
		{"P-11 no padding at all", "V04", func(f []byte) []byte { return f[:46] }, nil},
		{"P-12 any DSCP", "V04", put(15, 0), nil},
		{"P-10 any source MAC", "V04", put(6, 2, 0, 0, 0, 0, 0x0a), nil},
		{"K-08 one octet behind version 2", "V01", put(17, 41), ErrPacketLength},
		{"K-08 one octet behind version 3", "V04", put(17, 33), ErrPacketLength},
		{"K-08 one octet behind IPv6", "V06", func(f []byte) []byte { f[19]++; return append(f, 0) }, ErrPacketLength},
		{"K-08 a whole address behind IPv6", "V06", func(f []byte) []byte { f[19] += 16; return append(f, f[62:78]...) }, ErrPacketLength},
		{"X-01 802.1Q", "V06", tag(0x8100, plain), ErrTagged},
		{"X-01 802.1ad", "V04", tag(0x88a8, plain), ErrTagged},
		{"X-01 802.1Q in 802.1ad", "V04", tag(0x88a8, tag(0x8100, plain)), ErrTagged},
		{"X-01 tagged fragment", "V04", tag(0x8100, put(20, 0x20)), ErrTagged},
		{"X-01 tagged and malformed", "V04", tag(0x8100, put(14, 0x44)), ErrTagged},
		{"X-01 tagged, and not ours", "V04", tag(0x8100, put(23, 17)), ErrNotVRRP},
		{"X-01 tag without an ethertype", "V04", func(f []byte) []byte { return append(f[:12], 0x81, 0, 0) }, ErrNotVRRP},
	} {
		t.Run(c.name, func(t *testing.T) {
			frame := c.f(slices.Clone(vectors(t)[c.id]))
			if len(frame) > 34 {
				sumHeader(frame)
			}
			if _, _, _, err := decode(frame); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// R-02, P-11: the message is found behind a header of any length.
func TestIPOptions(t *testing.T) {
	t.Attr("proves", "R-02 P-11")
	for words := 5; words <= 15; words++ {
		frame := slices.Clone(vectors(t)["V04"][:46])
		options := slices.Repeat([]byte{1}, (words-5)*4) // no operation
		frame = slices.Insert(frame, 34, options...)
		frame[14], frame[17] = 0x40|byte(words), byte(words*4+12)
		sumHeader(frame)
		got, _, _, err := decode(frame)
		if err != nil {
			t.Errorf("IHL %d: %v", words, err)
			continue
		}
		same(t, golden["V04"].ad, got)
	}
}

// an IPv4 header with a wrong checksum is malformed, whichever octet is wrong. If it
// isn't to the group, it is ErrNotVRRP.
func TestHeaderChecksum(t *testing.T) {
	t.Attr("proves", "R-02")
	for at := 14; at < 34; at++ {
		frame := slices.Clone(vectors(t)["V04"])
		frame[at] ^= 1
		if _, _, _, err := decode(frame); err == nil {
			t.Errorf("octet %d of the header is wrong, and the frame is accepted", at-14)
		}
	}
	frame := slices.Clone(vectors(t)["V04"])
	frame[18] ^= 1 // the identification
	if _, err := ParseFrame(frame); !errors.Is(err, ErrIPMalformed) {
		t.Errorf("to the group: %v", err)
	}
	copy(frame[30:], []byte{192, 0, 2, 3})
	if _, err := ParseFrame(frame); !errors.Is(err, ErrNotVRRP) {
		t.Errorf("to a host: %v", err)
	}
}

// a truncated frame, or one with a smaller length in the IP header, is
// refused without a panic.
func TestTruncated(t *testing.T) {
	t.Attr("proves", "R-02 R-05 R-08 R-24")
	for id, frame := range vectors(t) {
		t.Run(id, func(t *testing.T) {
			_, d, _, err := decode(frame)
			end := len(frame)
			if err == nil {
				end = bytes.Index(frame, d.Message) + len(d.Message)
			}
			for n := range end {
				// The slice has no spare capacity, so reading beyond it panics.
				if _, _, _, err := decode(slices.Clip(frame[:n])); err == nil {
					t.Errorf("cut to %d octets is accepted", n)
				}
			}
			if err != nil {
				return
			}
			at, headers := 16, end-len(d.Message)-20
			if d.Source.Is6() {
				at, headers = 18, end-len(d.Message)
			}
			for n := range end - headers {
				f := slices.Clone(frame)
				binary.BigEndian.PutUint16(f[at:], uint16(n))
				if _, _, _, err := decode(f); err == nil {
					t.Errorf("with an IP length of %d is accepted", n)
				}
			}
		})
	}
}

// C-09: the checksum doesn't change when two addresses change places, so the order has to
// be checked in the decoded list.
func TestOrderOfAddresses(t *testing.T) {
	t.Attr("proves", "C-09")
	frame := slices.Clone(vectors(t)["V06"])
	frame[63] = 0x81 // a link-local address in both places
	copy(frame[78:], frame[62:78])
	frame[93]++
	m := frame[54:94]
	d := raw{d: Datagram{Source: netip.MustParseAddr("fe80::a"), Destination: IPv6.Group(), TTL: 255, Message: m}}.datagram()
	swapped := d
	swapped.Message = slices.Concat(d.Message[:8], d.Message[24:], d.Message[8:24])
	for _, c := range []struct {
		name string
		d    Datagram
		want []netip.Addr
	}{
		{"C-09 one order", d, addrs("fe81::1", "fe81::2")},
		{"C-09 the other order", swapped, addrs("fe81::2", "fe81::1")},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a Advertisement
			if _, err := a.Decode(c.d); err != nil || !slices.Equal(a.Addresses, c.want) {
				t.Errorf("%v, %v, want %v", a.Addresses, err, c.want)
			}
		})
	}
}

// P-01, P-03, P-07: the length follows from the count of addresses, up to 255.
func TestLengths(t *testing.T) {
	t.Attr("proves", "P-01 P-03 P-07")
	for _, c := range []struct {
		name    string
		version uint8
		source  string
		first   string
		count   int
		want    int
	}{
		{"P-01 one address", 2, "192.0.2.2", "192.0.2.1", 1, 20},
		{"P-01 255 addresses", 2, "192.0.2.2", "10.0.0.1", 255, 1036},
		{"P-03 one address", 3, "192.0.2.2", "192.0.2.1", 1, 12},
		{"P-07 255 addresses", 3, "192.0.2.2", "10.0.0.1", 255, 1028},
		{"P-03 one IPv6 address", 3, "fe80::2", "fe80::1", 1, 24},
		{"P-07 as many as 1500 octets hold", 3, "fe80::2", "fe80::1", MaxAddressesIPv6, 1500 - 40 - 12},
		{"P-07 255 IPv6 addresses", 3, "fe80::2", "fe80::1", 255, 4088},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := Advertisement{Version: c.version, VRID: 1, Priority: 1, Interval: time.Second, Addresses: many(netip.MustParseAddr(c.first), c.count)}
			source := netip.MustParseAddr(c.source)
			frame, err := AppendAdvertisementFrame(nil, MAC{}, source, &a, ChecksumRFC9568)
			if err != nil {
				t.Fatal(err)
			}
			got, d, _, err := decode(frame)
			if err != nil || len(d.Message) != c.want {
				t.Fatalf("%d octets, %v, want %d", len(d.Message), err, c.want)
			}
			same(t, a, got)
		})
	}
}

// Frames are appended: the content of the buffer stays, and the padding is counted from the
// start of the frame.
func TestAppending(t *testing.T) {
	v4 := golden["V04"]
	before := slices.Repeat([]byte("before"), 12) // more than the padding fills
	for _, c := range []struct {
		name string
		f    func(b []byte) ([]byte, error)
	}{
		{"advertisement", func(b []byte) ([]byte, error) {
			return AppendAdvertisementFrame(b, MAC{}, netip.MustParseAddr(v4.source), &v4.ad, v4.form)
		}},
		{"IPv6 advertisement", func(b []byte) ([]byte, error) {
			ad := golden["V06"].ad
			return AppendAdvertisementFrame(b, MAC{}, netip.MustParseAddr("fe80::a"), &ad, ChecksumRFC9568)
		}},
		{"message", func(b []byte) ([]byte, error) {
			return v4.ad.AppendTo(b, netip.MustParseAddr(v4.source), IPv4.Group(), v4.form)
		}},
		{"gratuitous ARP", func(b []byte) ([]byte, error) {
			return AppendGratuitousARP(b, MAC{2}, netip.MustParseAddr("192.0.2.1"))
		}},
		{"unsolicited NA", func(b []byte) ([]byte, error) {
			return AppendUnsolicitedNA(b, MAC{2}, netip.MustParseAddr("2001:db8::1"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			alone, err := c.f(nil)
			if err != nil {
				t.Fatal(err)
			}
			// The spare capacity of the buffer has octets of an earlier frame.
			dirty := slices.Concat(before, bytes.Repeat([]byte{0xee}, 2048))[:len(before)]
			got, err := c.f(dirty)
			if err != nil || !bytes.Equal(got, slices.Concat(before, alone)) {
				t.Errorf("%v: %x, alone it is %x", err, got, alone)
			}
		})
	}
}

// An independent decoder reads the announcements for any MAC and address.
func TestAnnouncementsAreSound(t *testing.T) {
	t.Attr("proves", "D-10 D-11")
	mac := MAC{2, 0, 0, 0xab, 0xcd, 0xef}
	t.Run("D-10 gratuitous ARP", func(t *testing.T) {
		addr := netip.MustParseAddr("198.51.100.7")
		frame, err := AppendGratuitousARP(nil, mac, addr)
		if err != nil {
			t.Fatal(err)
		}
		p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
		arp, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP)
		if !ok {
			t.Fatal(p)
		}
		if arp.Operation != layers.ARPRequest || !bytes.Equal(arp.SourceHwAddress, mac[:]) || !bytes.Equal(arp.DstHwAddress, mac[:]) ||
			!bytes.Equal(arp.SourceProtAddress, addr.AsSlice()) || !bytes.Equal(arp.DstProtAddress, addr.AsSlice()) {
			t.Errorf("%+v", arp)
		}
	})
	t.Run("D-11 unsolicited NA", func(t *testing.T) {
		addr := netip.MustParseAddr("2001:db8::ffff:7")
		frame, err := AppendUnsolicitedNA(nil, mac, addr)
		if err != nil {
			t.Fatal(err)
		}
		p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
		ip, ok := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
		if !ok {
			t.Fatal(p)
		}
		na, ok := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
		if !ok {
			t.Fatal(p)
		}
		if ip.HopLimit != 255 || int(ip.Length) != len(ip.Payload) || ip.DstIP.String() != "ff02::1" || !ip.SrcIP.Equal(addr.AsSlice()) {
			t.Errorf("%+v", ip)
		}
		if !na.Router() || na.Solicited() || !na.Override() || !na.TargetAddress.Equal(addr.AsSlice()) {
			t.Errorf("%+v", na)
		}
		if len(na.Options) != 1 || na.Options[0].Type != layers.ICMPv6OptTargetAddress || !bytes.Equal(na.Options[0].Data, mac[:]) {
			t.Errorf("options %v", na.Options)
		}
	})
}

// The encoder refuses a message that can't be sent with an error that names the reason, and
// leaves the buffer and its spare capacity unchanged.
func TestAppendToErrors(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("fe80::2")
	for _, c := range []struct {
		name   string
		change func(*Advertisement)
		source netip.Addr
		form   Checksum
		want   string
	}{
		{"version 0", func(a *Advertisement) { a.Version = 0 }, v4, ChecksumRFC9568, "version 0"},
		{"version 4", func(a *Advertisement) { a.Version = 4 }, v4, ChecksumRFC9568, "version 4"},
		{"version 18 doesn't wrap to 2", func(a *Advertisement) { a.Version = 18 }, v4, ChecksumRFC9568, "version 18"},
		{"P-02 version 2 over IPv6", func(a *Advertisement) { a.Version, a.Addresses = 2, addrs("fe80::1") }, v6, ChecksumRFC9568, "version 2"},
		{"VRID 0", func(a *Advertisement) { a.VRID = 0 }, v4, ChecksumRFC9568, "VRID 0"},
		{"P-07 256 addresses", func(a *Advertisement) { a.Addresses = many(v4, 256) }, v4, ChecksumRFC9568, "256 addresses"},
		{"IPv6 in IPv4", func(a *Advertisement) { a.Addresses = addrs("192.0.2.1", "fe80::1") }, v4, ChecksumRFC9568, "fe80::1"},
		{"IPv4 in IPv6", func(a *Advertisement) { a.Addresses = addrs("fe80::1", "192.0.2.1") }, v6, ChecksumRFC9568, "192.0.2.1"},
		{"mapped in IPv4", func(a *Advertisement) { a.Addresses = addrs("::ffff:192.0.2.1") }, v4, ChecksumRFC9568, "::ffff:192.0.2.1"},
		{"mapped in IPv6", func(a *Advertisement) { a.Addresses = addrs("fe80::1", "::ffff:192.0.2.1") }, v6, ChecksumRFC9568, "::ffff:192.0.2.1"},
		{"no address in the list", func(a *Advertisement) { a.Addresses = []netip.Addr{{}} }, v4, ChecksumRFC9568, "invalid IP"},
		{"interval 0", func(a *Advertisement) { a.Interval = 0 }, v4, ChecksumRFC9568, "0s"},
		{"negative interval", func(a *Advertisement) { a.Interval = -time.Second }, v4, ChecksumRFC9568, "-1s"},
		{"P-06 4096 cs", func(a *Advertisement) { a.Interval = 40960 * time.Millisecond }, v4, ChecksumRFC9568, "40.96s"},
		{"P-06 a nanosecond too much", func(a *Advertisement) { a.Interval++ }, v4, ChecksumRFC9568, "1.000000001s"},
		{"version 2 256 s", func(a *Advertisement) { a.Version, a.Interval = 2, 256*time.Second }, v4, ChecksumRFC9568, "4m16s"},
		{"version 2 half a second", func(a *Advertisement) { a.Version, a.Interval = 2, 1500*time.Millisecond }, v4, ChecksumRFC9568, "1.5s"},
		{"no form", nil, v4, 0, "form none"},
		{"both forms", nil, v4, ChecksumRFC9568 | ChecksumRFC5798, "rfc9568+rfc5798"},
		{"form of no name", nil, v4, 4, "checksum form"},
		{"C-01 pseudo-header in version 2", func(a *Advertisement) { a.Version = 2 }, v4, ChecksumRFC5798, "rfc5798"},
		{"C-02 IPv4's form in IPv6", func(a *Advertisement) { a.Addresses = addrs("fe80::1") }, v6, ChecksumRFC5798, "rfc5798"},
		{"no source", nil, netip.Addr{}, ChecksumRFC9568, "source"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := golden["V04"].ad
			if c.change != nil {
				c.change(&a)
			}
			room := []byte("before|untouched")
			got, err := a.AppendTo(room[:6], c.source, FamilyOf(c.source).Group(), c.form)
			if err == nil || !bytes.Contains([]byte(err.Error()), []byte(c.want)) {
				t.Errorf("%v, want it to name %q", err, c.want)
			}
			if string(got) != "before" || string(room) != "before|untouched" {
				t.Errorf("%q in %q", got, room)
			}
		})
	}
	// A refused announcement changes nothing either.
	for name, f := range map[string]func([]byte, MAC, netip.Addr) ([]byte, error){"ARP": AppendGratuitousARP, "NA": AppendUnsolicitedNA} {
		for _, addr := range []netip.Addr{{}, netip.MustParseAddr("::ffff:192.0.2.1")} {
			if got, err := f([]byte("before"), MAC{}, addr); err == nil || string(got) != "before" {
				t.Errorf("%s for %v: %q, %v", name, addr, got, err)
			}
		}
	}
}

// Every reason has its own text, and errors.Is distinguishes them.
func TestReasonTexts(t *testing.T) {
	seen := make(map[string]Reason)
	for n := range ReasonCount {
		r := Reason(n)
		if other, ok := seen[r.Error()]; ok || r.Error() == "" {
			t.Errorf("%v and %v both say %q", r, other, r.Error())
		}
		seen[r.Error()] = r
	}
	if err := error(ErrTTL); !errors.Is(err, ErrTTL) || errors.Is(err, ErrVersion) {
		t.Error("reasons can't be told apart")
	}
}
