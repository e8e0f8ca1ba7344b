// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

const (
	ethernetLen   = 14
	ipv4Len       = 20
	ipv6Len       = 40
	minFrame      = 60 // without the frame check sequence
	etherTypeIPv4 = 0x0800
	etherTypeARP  = 0x0806
	etherTypeIPv6 = 0x86dd
	etherTypeVLAN = 0x8100
	etherTypeQinQ = 0x88a8
	tosCS6        = 0xc0
	nextFragment  = 44
)

// messageMax is the length of the longest message: 255 IPv6 addresses and an
// authentication trailer.
const messageMax = headerLen + 255*16 + TrailerLen

// Datagram is one IP datagram of VRRP to the group or to a host. Message is the VRRP
// message without link-layer padding. Message, Trailer and Header alias the frame.
type Datagram struct {
	Source      netip.Addr
	Destination netip.Addr
	TTL         uint8 // or Hop Limit
	Message     []byte
	// Trailer is the authentication trailer, after decoding has separated it from
	// the Message.
	Trailer []byte
	// Header is the Authentication Header in front of the message. Its digest also
	// covers the Identification of the IPv4 header.
	Header         []byte
	Identification uint16
}

// Unicast reports whether the datagram was sent to a host and not to the group.
func (d *Datagram) Unicast() bool { return !d.Destination.IsMulticast() }

// ParseFrame returns the VRRP datagram in an Ethernet frame. The error is ErrNotVRRP
// for a frame without one, and ErrTagged, ErrFragment or ErrIPMalformed for a datagram
// to the group that can't be read. A unicast datagram that can't be read may not be
// meant for this host, and one with an Authentication Header may not be VRRP, so for
// both the error is ErrNotVRRP too.
func ParseFrame(frame []byte) (Datagram, error) {
	if len(frame) < ethernetLen {
		return Datagram{}, ErrNotVRRP
	}
	etherType := binary.BigEndian.Uint16(frame[12:])
	b := frame[ethernetLen:]
	tagged := false
	for range 2 {
		if etherType != etherTypeVLAN && etherType != etherTypeQinQ || len(b) < 4 {
			break
		}
		// A tag with VLAN 0 has only a priority (IEEE 802.1Q).
		tagged = tagged || b[0]&0xf != 0 || b[1] != 0
		etherType = binary.BigEndian.Uint16(b[2:])
		b = b[4:]
	}
	var d Datagram
	var err error
	switch etherType {
	case etherTypeIPv4:
		d, err = parseIPv4(b)
	case etherTypeIPv6:
		d, err = parseIPv6(b)
	default:
		return Datagram{}, ErrNotVRRP
	}
	switch {
	case errors.Is(err, ErrNotVRRP):
		return Datagram{}, err
	case (d.Unicast() || d.Header != nil) && (tagged || err != nil || len(d.Message) > messageMax):
		return Datagram{}, ErrNotVRRP
	case tagged:
		return Datagram{}, ErrTagged
	case err != nil:
		return Datagram{}, err
	}
	return d, nil
}

func parseIPv4(b []byte) (Datagram, error) {
	if len(b) < ipv4Len || b[0]>>4 != 4 || b[9] != ProtocolVRRP && b[9] != ProtocolAH {
		return Datagram{}, ErrNotVRRP
	}
	dst := netip.AddrFrom4([4]byte(b[16:]))
	if dst != groupIPv4 && b[16] >= 224 {
		return Datagram{}, ErrNotVRRP
	}
	d := Datagram{Destination: dst}
	header := int(b[0]&0xf) * 4
	if b[9] == ProtocolAH {
		if header != ipv4Len || !isAH(b[ipv4Len:]) {
			return Datagram{}, ErrNotVRRP
		}
		header += ahLen
		d.Header, d.Identification = b[ipv4Len:header], binary.BigEndian.Uint16(b[4:])
	}
	if binary.BigEndian.Uint16(b[6:])&0x3fff != 0 { // more fragments, or an offset
		return d, ErrFragment
	}
	total := int(binary.BigEndian.Uint16(b[2:]))
	if header < ipv4Len || total < header || total > len(b) || fold(sum(0, b[:int(b[0]&0xf)*4])) != 0xffff {
		return d, ErrIPMalformed
	}
	d.Source, d.TTL, d.Message = netip.AddrFrom4([4]byte(b[12:])), b[8], b[header:total]
	return d, nil
}

func parseIPv6(b []byte) (Datagram, error) {
	if len(b) < ipv6Len || b[0]>>4 != 6 {
		return Datagram{}, ErrNotVRRP
	}
	dst := netip.AddrFrom16([16]byte(b[24:]))
	if dst != groupIPv6 && b[24] == 0xff {
		return Datagram{}, ErrNotVRRP
	}
	d := Datagram{Destination: dst}
	if b[6] == nextFragment && len(b) > ipv6Len && b[ipv6Len] == ProtocolVRRP {
		return d, ErrFragment
	}
	if b[6] != ProtocolVRRP {
		return Datagram{}, ErrNotVRRP
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if ipv6Len+length > len(b) {
		return d, ErrIPMalformed
	}
	d.Source, d.TTL, d.Message = netip.AddrFrom16([16]byte(b[8:])), b[7], b[ipv6Len:ipv6Len+length]
	return d, nil
}

// AppendAdvertisementFrame appends the Ethernet frame of an advertisement to the VRRP
// group, with DSCP CS6 and TTL or Hop Limit 255 (RFC 9568 §5.1). It doesn't allocate if
// b has room.
func AppendAdvertisementFrame(b []byte, mac MAC, src netip.Addr, a *Advertisement, form Checksum) ([]byte, error) {
	family := FamilyOf(src)
	start := len(b)
	etherType := uint16(etherTypeIPv4)
	if family == IPv6 {
		etherType = etherTypeIPv6
	}
	b = appendEthernet(b, GroupMAC(family), mac, etherType)
	b, err := AppendAdvertisementDatagram(b, src, family.Group(), 255, a, form)
	if err != nil {
		return b[:start], err
	}
	return pad(b, start), nil
}

// AppendAdvertisementDatagram appends the IP datagram of an advertisement, with DSCP
// CS6 and the given TTL or Hop Limit. It doesn't allocate if b has room.
func AppendAdvertisementDatagram(b []byte, src, dst netip.Addr, ttl uint8, a *Advertisement, form Checksum) ([]byte, error) {
	family := FamilyOf(src)
	start := len(b)
	if family == IPv6 {
		b = appendIPv6(b, tosCS6, ProtocolVRRP, ttl, src, dst)
	} else {
		b = append(b, 0x45, tosCS6, 0, 0, 0, 0, 0, 0, ttl, ProtocolVRRP, 0, 0)
		b = appendAddr(b, src)
		b = appendAddr(b, dst)
	}
	headers := len(b)
	b, err := a.AppendTo(b, src, dst, form)
	if err != nil {
		return b[:start], err
	}
	ip := b[start:]
	if family == IPv6 {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(b)-headers))
	} else {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		binary.BigEndian.PutUint16(ip[10:], ^fold(sum(0, ip[:ipv4Len])))
	}
	return b, nil
}

// DatagramLen returns the length in octets of the IP datagram of an advertisement with n
// addresses, without an authentication trailer or an Authentication Header.
func DatagramLen(f Family, version uint8, n int) int {
	length := headerLen + n*f.size()
	if version == 2 {
		length += authLen
	}
	if f == IPv6 {
		return ipv6Len + length
	}
	return ipv4Len + length
}

func appendEthernet(b []byte, dst, src MAC, etherType uint16) []byte {
	b = append(b, dst[:]...)
	b = append(b, src[:]...)
	return binary.BigEndian.AppendUint16(b, etherType)
}

// appendIPv6 appends an IPv6 header with a payload length of 0.
func appendIPv6(b []byte, class, next, hops uint8, src, dst netip.Addr) []byte {
	b = append(b, 0x60|class>>4, class<<4, 0, 0, 0, 0, next, hops)
	b = appendAddr(b, src)
	return appendAddr(b, dst)
}

// pad pads the frame that begins at start to the least length of an Ethernet frame.
func pad(b []byte, start int) []byte {
	for len(b)-start < minFrame {
		b = append(b, 0)
	}
	return b
}
