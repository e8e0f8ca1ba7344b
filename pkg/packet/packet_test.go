// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

func addrs(list ...string) (all []netip.Addr) {
	for _, a := range list {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

func vectors(t testing.TB) map[string][]byte {
	t.Helper()
	return readFrames(t, "testdata/vectors.json")
}

func readFrames(t testing.TB, path string) map[string][]byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []struct{ ID, Hex string }
	if err := json.Unmarshal(b, &list); err != nil {
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

// decode reads a whole frame.
func decode(frame []byte) (Advertisement, Datagram, Checksum, error) {
	var a Advertisement
	d, err := ParseFrame(frame)
	if err != nil {
		return a, d, 0, err
	}
	form, err := a.Decode(d)
	return a, d, form, err
}

// golden has the fields of the good frames of the checklist's section 8, with their MAC and
// source.
var golden = map[string]struct {
	source string
	form   Checksum
	ad     Advertisement
}{
	"V01": {"192.0.2.2", ChecksumRFC9568, Advertisement{Version: 2, VRID: 52, Priority: 200, Interval: time.Second, Addresses: addrs("192.0.2.129")}},
	"V02": {"192.0.2.2", ChecksumRFC9568, Advertisement{Version: 2, VRID: 53, Priority: 200, AuthType: 1, Interval: time.Second, Addresses: addrs("192.0.2.130"), AuthData: [8]byte([]byte("failovr1"))}},
	"V03": {"192.0.2.2", ChecksumRFC9568, Advertisement{Version: 2, VRID: 52, Priority: 0, Interval: time.Second, Addresses: addrs("192.0.2.129")}},
	"V04": {"192.0.2.2", ChecksumRFC9568, Advertisement{Version: 3, VRID: 51, Priority: 200, Interval: time.Second, Addresses: addrs("192.0.2.1")}},
	"V05": {"192.0.2.2", ChecksumRFC5798, Advertisement{Version: 3, VRID: 51, Priority: 200, Interval: time.Second, Addresses: addrs("192.0.2.1")}},
	"V06": {"fe80::a", ChecksumRFC9568, Advertisement{Version: 3, VRID: 51, Priority: 200, Interval: time.Second, Addresses: addrs("fe80::1", "2001:db8:0:1::1")}},
	"V07": {"192.0.2.2", ChecksumRFC9568, Advertisement{Version: 3, VRID: 51, Priority: 0, Interval: time.Second, Addresses: addrs("192.0.2.1")}},
	"V09": {"198.18.1.3", ChecksumRFC9568, Advertisement{Version: 3, VRID: 55, Priority: 100, Interval: time.Second, Addresses: addrs("198.18.0.1")}},
	"V10": {"fe80::a", ChecksumRFC9568, Advertisement{Version: 3, VRID: 51, Priority: 100, Interval: time.Second, Addresses: addrs("fe80::1", "2001:db8:0:1::1")}},
	"V11": {"192.0.2.2", ChecksumRFC9568, Advertisement{Version: 3, VRID: 51, Priority: 200, Interval: 250 * time.Millisecond, Addresses: addrs("192.0.2.1")}},
	"V21": {"192.0.2.2", ChecksumRFC9568, Advertisement{Version: 3, VRID: 99, Priority: 200, Interval: time.Second, Addresses: addrs("192.0.2.1")}},
	"V22": {"192.0.2.2", ChecksumRFC9568, Advertisement{Version: 2, VRID: 52, Priority: 200, Interval: 3 * time.Second, Addresses: addrs("192.0.2.129")}},
}

// The good frames decode to their fields, and the fields encode to the same octets.
func TestGolden(t *testing.T) {
	t.Attr("proves", "C-01 C-02 C-03 C-04 P-02 P-05 P-09 P-12")
	frames := vectors(t)
	for id, g := range golden {
		t.Run(id, func(t *testing.T) {
			got, d, form, err := decode(frames[id])
			if err != nil {
				t.Fatal(err)
			}
			source := netip.MustParseAddr(g.source)
			if d.Source != source || d.TTL != 255 || form != g.form {
				t.Errorf("from %v, TTL %d, checksum %v", d.Source, d.TTL, form)
			}
			if diff := cmp.Diff(g.ad, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("decoded (-want +got):\n%s", diff)
			}
			frame, err := AppendAdvertisementFrame(nil, MAC(frames[id][6:12]), source, &g.ad, g.form)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(hex.Dump(frames[id]), hex.Dump(frame)); diff != "" {
				t.Errorf("encoded (-want +got):\n%s", diff)
			}
		})
	}
}

// The reasons of the bad frames of the checklist's section 8 that need no Virtual Router.
func TestVerdicts(t *testing.T) {
	want := map[string]error{
		"V12": ErrTTL, "V13": ErrTTL, "V14": ErrVersion, "V15": ErrType, "V16": ErrPacketLength,
		"V17": ErrChecksum, "V18": ErrAddrCount, "V19": ErrFirstAddr, "V20": ErrZeroInterval,
		"V25": ErrPacketLength, "V26": ErrAuthType, "V27": ErrNotVRRP,
		"T01": ErrNotVRRP, "T02": ErrNotVRRP,
	}
	for id, frame := range vectors(t) {
		if _, _, _, err := decode(frame); !errors.Is(err, want[id]) {
			t.Errorf("%s: %v, want %v", id, err, want[id])
		}
	}
}

// V08, P-06: the reserved bits before the interval are ignored.
func TestReservedBits(t *testing.T) {
	t.Attr("proves", "P-06")
	a, _, _, err := decode(vectors(t)["V08"])
	if err != nil || a.Interval != time.Second {
		t.Errorf("interval %v, %v", a.Interval, err)
	}
}

// T01, T02: announcements, octet for octet.
func TestAnnouncements(t *testing.T) {
	t.Attr("proves", "D-10 D-11 E-01 E-02")
	frames := vectors(t)
	arp, err := AppendGratuitousARP(nil, VirtualMAC(IPv4, 51), netip.MustParseAddr("192.0.2.1"))
	if err != nil || !bytes.Equal(arp, frames["T01"]) {
		t.Errorf("%v (-want +got):\n%s", err, cmp.Diff(hex.Dump(frames["T01"]), hex.Dump(arp)))
	}
	na, err := AppendUnsolicitedNA(nil, VirtualMAC(IPv6, 51), netip.AddrFrom16([16]byte(frames["T02"][62:78])))
	if err != nil || !bytes.Equal(na, frames["T02"]) {
		t.Errorf("%v (-want +got):\n%s", err, cmp.Diff(hex.Dump(frames["T02"]), hex.Dump(na)))
	}
	if _, err := AppendGratuitousARP(nil, MAC{}, netip.MustParseAddr("fe80::1")); err == nil {
		t.Error("gratuitous ARP for an IPv6 address")
	}
	if _, err := AppendUnsolicitedNA(nil, MAC{}, netip.MustParseAddr("192.0.2.1")); err == nil {
		t.Error("neighbour advertisement for an IPv4 address")
	}
}

// C-05: the worked example, both forms.
func TestChecksumForms(t *testing.T) {
	t.Attr("proves", "C-05")
	g := golden["V04"]
	for form, want := range map[Checksum]uint16{ChecksumRFC9568: 0x4465, ChecksumRFC5798: 0xa1d3} {
		m, err := g.ad.AppendTo(nil, netip.MustParseAddr(g.source), IPv4.Group(), form)
		if err != nil {
			t.Fatal(err)
		}
		if got := binary.BigEndian.Uint16(m[6:]); got != want {
			t.Errorf("%v: %04x, want %04x", form, got, want)
		}
	}
	// C-09: the order of the addresses makes no difference.
	frames := vectors(t)
	if !bytes.Equal(frames["V06"][60:62], frames["V19"][60:62]) {
		t.Error("V06 and V19 differ in their checksum")
	}
}

// rfc1071 is an independent implementation of RFC 1071.
func rfc1071(b []byte) uint16 {
	var sum uint32
	for i, o := range b {
		if i%2 == 0 {
			sum += uint32(o) << 8
		} else {
			sum += uint32(o)
		}
		if sum>>16 != 0 {
			sum = sum&0xffff + 1
		}
	}
	return uint16(sum)
}

// An independent decoder and an independent checksum agree with the frames.
func TestFramesAreSound(t *testing.T) {
	t.Attr("proves", "K-20 P-02 P-05 P-09 P-12")
	for _, c := range []struct {
		name, source string
		ad           Advertisement
		form         Checksum
	}{
		{"one address", "192.0.2.2", Advertisement{Version: 3, VRID: 1, Priority: 254, Interval: 10 * time.Millisecond, Addresses: addrs("192.0.2.1")}, ChecksumRFC9568},
		{"pseudo-header", "192.0.2.2", Advertisement{Version: 3, VRID: 255, Priority: 1, Interval: 40950 * time.Millisecond, Addresses: addrs("192.0.2.1", "192.0.2.9")}, ChecksumRFC5798},
		{"version 2", "192.0.2.2", Advertisement{Version: 2, VRID: 7, Priority: 255, Interval: 255 * time.Second, Addresses: addrs("192.0.2.1")}, ChecksumRFC9568},
		{"IPv6", "fe80::7", Advertisement{Version: 3, VRID: 7, Priority: 100, Interval: time.Second, Addresses: addrs("fe80::1", "2001:db8::1")}, ChecksumRFC9568},
		{"255 addresses", "192.0.2.2", Advertisement{Version: 3, VRID: 7, Priority: 100, Interval: time.Second, Addresses: many(netip.MustParseAddr("10.0.0.1"), 255)}, ChecksumRFC9568},
		{"255 IPv6 addresses", "fe80::7", Advertisement{Version: 3, VRID: 7, Priority: 100, Interval: time.Second, Addresses: many(netip.MustParseAddr("fe80::1"), 255)}, ChecksumRFC9568},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := netip.MustParseAddr(c.source)
			family := FamilyOf(source)
			frame, err := AppendAdvertisementFrame(nil, VirtualMAC(family, c.ad.VRID), source, &c.ad, c.form)
			if err != nil {
				t.Fatal(err)
			}
			got, _, form, err := decode(frame)
			if err != nil || form != c.form {
				t.Fatalf("checksum %v, %v", form, err)
			}
			if diff := cmp.Diff(c.ad, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("decoded again (-want +got):\n%s", diff)
			}

			p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
			eth := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
			if eth.DstMAC.String() != GroupMAC(family).String() || eth.SrcMAC.String() != VirtualMAC(family, c.ad.VRID).String() {
				t.Errorf("from %v to %v", eth.SrcMAC, eth.DstMAC)
			}
			var message, pseudo []byte
			if family == IPv4 {
				ip := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
				if rfc1071(ip.Contents) != 0xffff || ip.TTL != 255 || ip.Protocol != 112 || int(ip.Length) != 20+len(ip.Payload) {
					t.Errorf("IP header %+v", ip)
				}
				message = ip.Payload
				pseudo = slices.Concat(ip.SrcIP.To4(), ip.DstIP.To4(), []byte{0, 112}, binary.BigEndian.AppendUint16(nil, uint16(len(message))))
			} else {
				ip := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
				if ip.HopLimit != 255 || ip.NextHeader != 112 || int(ip.Length) != len(ip.Payload) {
					t.Errorf("IPv6 header %+v", ip)
				}
				message = ip.Payload
				pseudo = slices.Concat(ip.SrcIP, ip.DstIP, binary.BigEndian.AppendUint32(nil, uint32(len(message))), []byte{0, 0, 0, 112})
			}
			if family == IPv4 && c.form == ChecksumRFC9568 {
				pseudo = nil
			}
			if rfc1071(append(pseudo, message...)) != 0xffff {
				t.Error("another checksum routine disagrees")
			}
		})
	}
}

func many(first netip.Addr, n int) (all []netip.Addr) {
	for range n {
		all = append(all, first)
		first = first.Next()
	}
	return all
}

// The neighbour advertisement's checksum is right.
func TestNAChecksum(t *testing.T) {
	frame, err := AppendUnsolicitedNA(nil, MAC{2, 0, 0, 0, 0, 9}, netip.MustParseAddr("2001:db8::77"))
	if err != nil {
		t.Fatal(err)
	}
	ip := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeIPv6).(*layers.IPv6)
	pseudo := slices.Concat(ip.SrcIP, ip.DstIP, binary.BigEndian.AppendUint32(nil, uint32(len(ip.Payload))), []byte{0, 0, 0, 58})
	if rfc1071(append(pseudo, ip.Payload...)) != 0xffff {
		t.Error("wrong checksum")
	}
}

// change returns a changed copy of V04 or another frame, with corrected checksums.
func change(t *testing.T, id string, f func(frame []byte) []byte) []byte {
	t.Helper()
	frame := f(slices.Clone(vectors(t)[id]))
	if binary.BigEndian.Uint16(frame[12:]) != etherTypeIPv4 {
		return frame
	}
	sumHeader(frame)
	header := int(frame[14]&0xf) * 4
	total := int(binary.BigEndian.Uint16(frame[16:]))
	if header < 20 || 14+total > len(frame) || total < header+8 {
		return frame
	}
	m := frame[14+header : 14+total]
	m[6], m[7] = 0, 0
	binary.BigEndian.PutUint16(m[6:], ^rfc1071(m))
	return frame
}

func TestRefused(t *testing.T) {
	set := func(at int, v ...byte) func([]byte) []byte {
		return func(f []byte) []byte { copy(f[at:], v); return f }
	}
	tag := func(f []byte) []byte { return slices.Insert(f, 12, 0x81, 0, 0, 7) }
	for _, c := range []struct {
		name string
		id   string
		f    func([]byte) []byte
		want error
	}{
		{"unchanged", "V04", func(f []byte) []byte { return f }, nil},
		{"R-01 other protocol", "V04", set(23, 2), ErrNotVRRP},
		{"R-01 other group", "V04", set(33, 5), ErrNotVRRP},
		{"R-01 other EtherType", "V04", set(12, 8, 6), ErrNotVRRP},
		{"R-01 IPv6 with another next header", "V06", set(20, 58), ErrNotVRRP},
		{"R-02 more fragments", "V04", set(20, 0x20, 0), ErrFragment},
		{"R-02 fragment offset", "V04", set(20, 0, 1), ErrFragment},
		{"R-02 don't fragment is fine", "V04", set(20, 0x40, 0), nil},
		{"R-02 IHL 4", "V04", set(14, 0x44), ErrIPMalformed},
		{"R-02 total length beyond the frame", "V04", set(16, 1, 0), ErrIPMalformed},
		{"R-02 total length below the header", "V04", set(16, 0, 19), ErrIPMalformed},
		{"R-02 IPv6 length beyond the frame", "V06", set(18, 1, 0), ErrIPMalformed},
		{"R-02 IPv6 fragment", "V06", func(f []byte) []byte { f[20], f[54] = 44, 112; return f }, ErrFragment},
		{"R-02 IPv6 fragment of something else", "V06", func(f []byte) []byte { f[20], f[54] = 44, 17; return f }, ErrNotVRRP},
		{"P-11 IP options", "V04", func(f []byte) []byte {
			f = slices.Insert(f, 34, 1, 1, 1, 1)
			f[14], f[17] = 0x46, 36
			return f
		}, nil},
		{"X-01 one tag", "V04", tag, ErrTagged},
		{"X-01 two tags", "V04", func(f []byte) []byte { return tag(tag(f)) }, ErrTagged},
		{"X-01 three tags", "V04", func(f []byte) []byte { return tag(tag(tag(f))) }, ErrNotVRRP},
		{"R-03 TTL 0", "V04", set(22, 0), ErrTTL},
		{"R-03 before R-04", "V04", set(22, 254, 112, 0, 0, 0, 0, 0, 0), ErrTTL},
		{"R-04 version 0", "V04", set(34, 0x01), ErrVersion},
		{"R-04 version 2 over IPv6", "V06", set(54, 0x21), ErrVersion},
		{"R-05 no octet", "V04", set(17, 20), ErrPacketLength},
		{"R-05 seven octets", "V04", set(17, 27), ErrPacketLength},
		{"R-04 before R-05", "V04", func(f []byte) []byte { f[17], f[34] = 27, 0x41; return f }, ErrVersion},
		{"R-06 type 0", "V04", set(34, 0x30), ErrType},
		{"R-06 before R-07", "V04", func(f []byte) []byte { f[34], f[37] = 0x32, 0; return f }, ErrType},
		{"R-07 before R-09", "V04", func(f []byte) []byte { f[37], f[39] = 0, 0; return f }, ErrAddrCount},
		{"R-08 one too many", "V04", set(37, 2), ErrPacketLength},
		{"R-08 version 2 without its authentication data", "V01", func(f []byte) []byte { f[17] = 32; return f }, ErrPacketLength},
		{"R-08 before R-09", "V04", func(f []byte) []byte { f[37], f[39] = 2, 0; return f }, ErrPacketLength},
		{"R-09 version 2", "V01", set(39, 0), ErrZeroInterval},
		{"R-12 source 0.0.0.1", "V04", set(26, 0), ErrSource},
		{"R-12 source on the loopback", "V04", set(26, 127), ErrSource},
		{"R-12 multicast source", "V04", set(26, 224), ErrSource},
		{"K-08 an octet behind the message", "V04", set(17, 33), ErrPacketLength},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, _, _, err := decode(change(t, c.id, c.f)); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// R-11 before R-12, and a global source in IPv6.
func TestIPv6Source(t *testing.T) {
	t.Attr("proves", "R-11 R-12")
	a := golden["V06"].ad
	frame, err := AppendAdvertisementFrame(nil, MAC{}, netip.MustParseAddr("2001:db8::7"), &a, ChecksumRFC9568)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := decode(frame); !errors.Is(err, ErrSource) {
		t.Errorf("%v, want %v", err, ErrSource)
	}
	frame[60]++
	if _, _, _, err := decode(frame); !errors.Is(err, ErrChecksum) {
		t.Errorf("%v, want %v", err, ErrChecksum)
	}
}

// A truncated frame is refused, and so is a message with a flipped bit.
func TestDamage(t *testing.T) {
	for _, id := range []string{"V01", "V04", "V05", "V06"} {
		frame := vectors(t)[id]
		want, d, _, err := decode(frame)
		if err != nil {
			t.Fatal(err)
		}
		start := bytes.Index(frame, d.Message)
		for n := range start + len(d.Message) {
			if _, _, _, err := decode(frame[:n]); err == nil {
				t.Errorf("%s cut to %d octets is accepted", id, n)
			}
		}
		for bit := range len(d.Message) * 8 {
			f := slices.Clone(frame)
			f[start+bit/8] ^= 1 << (bit % 8)
			if got, _, _, err := decode(f); err == nil {
				t.Errorf("%s with bit %d flipped is accepted as %+v instead of %+v", id, bit, got, want)
			}
		}
	}
}

func TestEncodeErrors(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("fe80::2")
	good := golden["V04"].ad
	with := func(f func(*Advertisement)) Advertisement { a := good; f(&a); return a }
	for _, c := range []struct {
		name   string
		ad     Advertisement
		source netip.Addr
		form   Checksum
	}{
		{"version 4", with(func(a *Advertisement) { a.Version = 4 }), v4, ChecksumRFC9568},
		{"version 2 over IPv6", with(func(a *Advertisement) { a.Version = 2; a.Addresses = addrs("fe80::1") }), v6, ChecksumRFC9568},
		{"VRID 0", with(func(a *Advertisement) { a.VRID = 0 }), v4, ChecksumRFC9568},
		{"256 addresses", with(func(a *Advertisement) { a.Addresses = many(v4, 256) }), v4, ChecksumRFC9568},
		{"address of the other family", with(func(a *Advertisement) { a.Addresses = addrs("fe80::1") }), v4, ChecksumRFC9568},
		{"IPv4 in IPv6", with(func(a *Advertisement) { a.Addresses = addrs("::ffff:192.0.2.1") }), v4, ChecksumRFC9568},
		{"interval 0", with(func(a *Advertisement) { a.Interval = 0 }), v4, ChecksumRFC9568},
		{"interval 41 s", with(func(a *Advertisement) { a.Interval = 41 * time.Second }), v4, ChecksumRFC9568},
		{"interval 15 ms", with(func(a *Advertisement) { a.Interval = 15 * time.Millisecond }), v4, ChecksumRFC9568},
		{"interval 100 ms in version 2", with(func(a *Advertisement) { a.Version = 2; a.Interval = 100 * time.Millisecond }), v4, ChecksumRFC9568},
		{"both forms at once", good, v4, ChecksumRFC9568 | ChecksumRFC5798},
		{"no form", good, v4, 0},
		{"pseudo-header in version 2", with(func(a *Advertisement) { a.Version = 2 }), v4, ChecksumRFC5798},
		{"RFC 5798's form over IPv6", with(func(a *Advertisement) { a.Addresses = addrs("fe80::1") }), v6, ChecksumRFC5798},
		{"no source", good, netip.Addr{}, ChecksumRFC9568},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := []byte("before")
			got, err := AppendAdvertisementFrame(before, MAC{}, c.source, &c.ad, c.form)
			if err == nil || string(got) != "before" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// Addresses of two families in one packet are an error.
func TestMixedFamilies(t *testing.T) {
	v4, v6, mapped := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("fe80::2"), netip.MustParseAddr("::ffff:192.0.2.2")
	a := golden["V04"].ad
	for _, c := range [][2]netip.Addr{{v4, v6}, {v6, v4}, {v4, {}}, {{}, v4}, {mapped, v4}, {v4, mapped}} {
		for _, form := range []Checksum{ChecksumRFC9568, ChecksumRFC5798} {
			if _, err := a.AppendTo(nil, c[0], c[1], form); err == nil {
				t.Errorf("encoded from %v to %v", c[0], c[1])
			}
		}
		var got Advertisement
		if _, err := got.Decode(Datagram{Source: c[0], Destination: c[1], TTL: 255, Message: make([]byte, 12)}); !errors.Is(err, ErrNotVRRP) {
			t.Errorf("decoded from %v to %v: %v", c[0], c[1], err)
		}
	}
}

// Parsing, decoding and encoding don't allocate.
func TestAllocations(t *testing.T) {
	frames := vectors(t)
	b := make([]byte, 0, 2048)
	for _, id := range []string{"V01", "V04", "V06", "V17"} {
		var a Advertisement
		a.Addresses = make([]netip.Addr, 0, 255)
		if n := testing.AllocsPerRun(100, func() {
			d, _ := ParseFrame(frames[id])
			_, _ = a.Decode(d)
		}); n != 0 {
			t.Errorf("decoding %s allocates %v times", id, n)
		}
	}
	for id, g := range golden {
		source := netip.MustParseAddr(g.source)
		if n := testing.AllocsPerRun(100, func() {
			_, _ = AppendAdvertisementFrame(b, MAC{}, source, &g.ad, g.form)
		}); n != 0 {
			t.Errorf("encoding %s allocates %v times", id, n)
		}
	}
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	if n := testing.AllocsPerRun(100, func() {
		_, _ = AppendGratuitousARP(b, MAC{}, v4)
		_, _ = AppendUnsolicitedNA(b, MAC{}, v6)
	}); n != 0 {
		t.Errorf("announcements allocate %v times", n)
	}
}

func TestNames(t *testing.T) {
	seen := make(map[string]bool)
	for n := range ReasonCount + 1 {
		r := Reason(n)
		if r.String() == "" || r.Error() == "" || seen[r.String()] {
			t.Errorf("reason %d: %q, %q", n, r, r.Error())
		}
		seen[r.String()] = true
	}
	for got, want := range map[string]string{
		IPv4.String(): "ipv4", IPv6.String(): "ipv6", Family(9).String(): "family 9",
		ChecksumRFC9568.String(): "rfc9568", (ChecksumRFC9568 | ChecksumRFC5798).String(): "rfc9568+rfc5798", Checksum(0).String(): "none",
		VirtualMAC(IPv4, 51).String(): "00:00:5e:00:01:33", VirtualMAC(IPv6, 255).String(): "00:00:5e:00:02:ff",
		GroupMAC(IPv4).String(): "01:00:5e:00:00:12", GroupMAC(IPv6).String(): "33:33:00:00:00:12",
		IPv4.Group().String(): "224.0.0.18", IPv6.Group().String(): "ff02::12",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for addr, want := range map[netip.Addr]Family{{}: 0, netip.MustParseAddr("192.0.2.1"): IPv4, netip.MustParseAddr("::ffff:192.0.2.1"): IPv4, netip.MustParseAddr("fe80::1%eth0"): IPv6} {
		if got := FamilyOf(addr); got != want {
			t.Errorf("family of %v: %v", addr, got)
		}
	}
}

func FuzzParseFrame(f *testing.F) {
	for _, frame := range vectors(f) {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		d, err := ParseFrame(frame)
		if err == nil && !bytes.Contains(frame, d.Message) {
			t.Error("the message is not in the frame")
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, frame := range vectors(f) {
		if d, err := ParseFrame(frame); err == nil {
			f.Add(d.Message, d.Source.Is4())
		}
	}
	f.Fuzz(func(t *testing.T, message []byte, v4 bool) {
		d := Datagram{Source: netip.MustParseAddr("fe80::a"), Destination: IPv6.Group(), TTL: 255, Message: message}
		if v4 {
			d.Source, d.Destination = netip.MustParseAddr("192.0.2.2"), IPv4.Group()
		}
		var a Advertisement
		form, err := a.Decode(d)
		if err != nil {
			if a.Version != 0 || strings.Contains(err.Error(), "unknown") {
				t.Errorf("refused for %v, and yet %+v", err, a)
			}
			return
		}
		if a.VRID == 0 {
			return // decodes, but can't be sent
		}
		again, err := a.AppendTo(nil, d.Source, d.Destination, form)
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Clone(message)
		if a.Version == 3 && want[4]>>4 != 0 {
			return // reserved bits aren't encoded again
		}
		// A checksum of 0 can also be encoded as ffff.
		if c := binary.BigEndian.Uint16(want[6:]); c != 0 && c != 0xffff && !bytes.Equal(again, want) {
			t.Errorf("%x became %x", want, again)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	frame := vectors(b)["V04"]
	var a Advertisement
	b.ReportAllocs()
	for b.Loop() {
		d, err := ParseFrame(frame)
		if err == nil {
			_, err = a.Decode(d)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	g := golden["V04"]
	source := netip.MustParseAddr(g.source)
	buffer := make([]byte, 0, 2048)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := AppendAdvertisementFrame(buffer, MAC{}, source, &g.ad, g.form); err != nil {
			b.Fatal(err)
		}
	}
}

// sumHeader corrects the checksum of the IPv4 header in an untagged frame.
func sumHeader(frame []byte) {
	header := int(frame[14]&0xf) * 4
	if binary.BigEndian.Uint16(frame[12:]) != etherTypeIPv4 || header < ipv4Len || len(frame) < 14+header {
		return
	}
	frame[24], frame[25] = 0, 0
	binary.BigEndian.PutUint16(frame[24:], ^rfc1071(frame[14:14+header]))
}
