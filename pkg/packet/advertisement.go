// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

const (
	headerLen         = 8
	authLen           = 8
	typeAdvertisement = 1
	centisecond       = 10 * time.Millisecond

	// MaxAddressesIPv4 is the largest number of addresses in the count field.
	MaxAddressesIPv4 = 255
	// MaxAddressesIPv6 is the largest number of addresses in an unfragmented IPv6
	// packet of 1500 octets. The decoder accepts up to 255.
	MaxAddressesIPv6 = 90
)

// Advertisement is a VRRP ADVERTISEMENT message of version 2 (RFC 3768 §5.3) or
// 3 (RFC 9568 §5.2), its fields in wire order.
type Advertisement struct {
	Version  uint8
	VRID     uint8 // 1 to 255
	Priority uint8 // 0 from an Active that leaves; 1 to 254; 255 for the address owner
	AuthType uint8 // version 2 only
	// Interval is the Max Advertise Interval: in version 3 whole centiseconds up to
	// 40.95 s, in version 2 whole seconds up to 255 s. It is never 0.
	Interval time.Duration
	// Addresses are up to 255 of one family. RFC 9568 §5.2.5 demands at least one, so an
	// empty list is decoded only with Tolerance.NoAddress.
	Addresses []netip.Addr
	AuthData  [8]byte // version 2 only
}

// AppendTo appends the message without headers to b. In version 3 the checksum may
// cover the source and the destination. AppendTo doesn't allocate if b has room. If
// the message can't be encoded, it returns b unchanged and an error.
func (a *Advertisement) AppendTo(b []byte, src, dst netip.Addr, form Checksum) ([]byte, error) {
	family := FamilyOf(src)
	if src.Is4In6() || FamilyOf(dst) != family || dst.Is4In6() {
		return b, fmt.Errorf("source address %v and destination %v are not of one family", src, dst)
	}
	if err := a.check(family, form); err != nil {
		return b, err
	}
	start := len(b)
	b = append(b, a.Version<<4|typeAdvertisement, a.VRID, a.Priority, uint8(len(a.Addresses)))
	if a.Version == 2 {
		b = append(b, a.AuthType, uint8(a.Interval/time.Second), 0, 0)
	} else {
		cs := uint16(a.Interval / centisecond)
		b = append(b, uint8(cs>>8), uint8(cs), 0, 0)
	}
	for _, addr := range a.Addresses {
		b = appendAddr(b, addr)
	}
	if a.Version == 2 {
		b = append(b, a.AuthData[:]...)
	}
	message := b[start:]
	acc := sum(0, message)
	if family == IPv6 || form == ChecksumRFC5798 {
		acc += pseudo(src, dst, ProtocolVRRP, len(message))
	}
	c := ^fold(acc)
	message[6], message[7] = uint8(c>>8), uint8(c)
	return b, nil
}

func appendAddr(b []byte, addr netip.Addr) []byte {
	if addr.Is4() {
		v := addr.As4()
		return append(b, v[:]...)
	}
	v := addr.As16()
	return append(b, v[:]...)
}

func (a *Advertisement) check(family Family, form Checksum) error {
	switch {
	case a.Version != 2 && a.Version != 3:
		return fmt.Errorf("version %d can't be sent", a.Version)
	case a.Version == 2 && family != IPv4:
		return errors.New("version 2 has no IPv6")
	case a.VRID == 0:
		return errors.New("VRID 0 can't be sent")
	case len(a.Addresses) > 255:
		return fmt.Errorf("%d addresses don't fit into an advertisement", len(a.Addresses))
	case form != ChecksumRFC9568 && (form != ChecksumRFC5798 || a.Version != 3 || family != IPv4):
		return fmt.Errorf("version %d over %s has no checksum form %s", a.Version, family, form)
	}
	unit, limit := centisecond, 4095*centisecond
	if a.Version == 2 {
		unit, limit = time.Second, 255*time.Second
	}
	if a.Interval < unit || a.Interval > limit || a.Interval%unit != 0 {
		return fmt.Errorf("interval %v can't be sent in version %d", a.Interval, a.Version)
	}
	for _, addr := range a.Addresses {
		if FamilyOf(addr) != family || addr.Is4In6() {
			return fmt.Errorf("address %v is not %s", addr, family)
		}
	}
	return nil
}

// Tolerance selects what is accepted from peers in addition to RFC 9568.
type Tolerance struct {
	// TrailingOctets accepts and ignores octets behind the message. RFC 9568 §7.1
	// only requires that the message is complete.
	TrailingOctets bool
	// AnyFirstAddress accepts IPv6 address lists that don't begin with a
	// link-local address (RFC 9568 §5.2.9, erratum 8300).
	AnyFirstAddress bool
	// NoAddress accepts an advertisement without addresses, as keepalived's instances
	// without a virtual address send it.
	NoAddress bool
	// AuthTrailer separates an authentication trailer from the message. The caller
	// has to verify it.
	AuthTrailer bool
	// AuthHeader accepts datagrams with an Authentication Header. The caller has to
	// verify it.
	AuthHeader bool
}

// Decode decodes an advertisement and makes all checks of RFC 9568 §7.1 and RFC
// 3768 §7.1 that need no Virtual Router. If there are several faults, it refuses
// the advertisement for the one that the RFCs name first. It assigns a only if the
// datagram is good, and reuses the capacity of a.Addresses. It returns the form of
// the checksum, or a Reason as the error.
func (a *Advertisement) Decode(d Datagram) (Checksum, error) {
	return a.DecodeTolerant(&d, Tolerance{})
}

// Hops are the limits, both inclusive, of the TTL or Hop Limit in a received packet.
type Hops struct{ Min, Max uint8 }

// OnLink returns the limits for packets that no router has forwarded (RFC 9568
// §5.1.1.3).
func OnLink() Hops { return Hops{255, 255} }

// DecodeTolerant is Decode with a Tolerance. It cuts tolerated trailing octets off
// d.Message.
func (a *Advertisement) DecodeTolerant(d *Datagram, t Tolerance) (Checksum, error) {
	return a.DecodeWithin(d, t, OnLink())
}

// DecodeWithin is DecodeTolerant with other limits of the TTL or Hop Limit. A
// datagram to a host, and not to the group, may have the address of any host as its
// source, also over IPv6.
func (a *Advertisement) DecodeWithin(d *Datagram, t Tolerance, hops Hops) (Checksum, error) {
	m := d.Message
	family := FamilyOf(d.Source)
	if FamilyOf(d.Destination) != family || d.Source.Is4In6() || d.Destination.Is4In6() {
		return 0, ErrNotVRRP
	}
	if d.Header != nil && !t.AuthHeader {
		return 0, ErrNotVRRP
	}
	if d.TTL < hops.Min || d.TTL > hops.Max {
		return 0, ErrTTL
	}
	if len(m) < 1 {
		return 0, ErrPacketLength
	}
	version := m[0] >> 4
	if version != 3 && (version != 2 || family != IPv4) {
		return 0, ErrVersion
	}
	if len(m) < headerLen {
		return 0, ErrPacketLength
	}
	if m[0]&0xf != typeAdvertisement {
		return 0, ErrType
	}
	count := int(m[3])
	if count == 0 && !t.NoAddress {
		return 0, ErrAddrCount
	}
	length := headerLen + count*family.size()
	if version == 2 {
		length += authLen
	}
	if t.AuthTrailer && len(m) == length+TrailerLen {
		d.Message, d.Trailer = m[:length], m[length:]
		m = d.Message
	}
	if t.TrailingOctets && len(m) > length {
		m = m[:length]
		d.Message = m
	}
	if len(m) != length {
		if _, sealed := parseTrailer(m[min(length, len(m)):]); sealed {
			return 0, ErrAuthType // an authentication trailer, which this router doesn't expect
		}
		return 0, ErrPacketLength
	}
	var interval time.Duration
	if version == 2 {
		interval = time.Duration(m[5]) * time.Second
	} else {
		// The upper four bits are reserved and ignored (RFC 9568 §5.2.6).
		interval = time.Duration(uint16(m[4]&0xf)<<8|uint16(m[5])) * centisecond
	}
	if interval == 0 {
		return 0, ErrZeroInterval
	}
	if family == IPv6 && count > 0 && !t.AnyFirstAddress && (m[8] != 0xfe || m[9]&0xc0 != 0x80) {
		return 0, ErrFirstAddr
	}
	form := checksumForm(d, version)
	if form == 0 {
		return 0, ErrChecksum
	}
	if !saneSource(d) {
		return 0, ErrSource
	}

	a.Version, a.VRID, a.Priority, a.Interval = version, m[1], m[2], interval
	a.AuthType, a.AuthData = 0, [8]byte{}
	if version == 2 {
		a.AuthType = m[4]
		copy(a.AuthData[:], m[len(m)-authLen:])
	}
	a.Addresses = a.Addresses[:0]
	for n := range count {
		at := headerLen + n*family.size()
		if family == IPv4 {
			a.Addresses = append(a.Addresses, netip.AddrFrom4([4]byte(m[at:])))
		} else {
			a.Addresses = append(a.Addresses, netip.AddrFrom16([16]byte(m[at:])))
		}
	}
	return form, nil
}

// checksumForm returns the form in which the checksum is right, 0 if there is none.
func checksumForm(d *Datagram, version uint8) Checksum {
	acc, length := sum(0, d.Message), len(d.Message)
	if d.Source.Is4() && fold(acc) == 0xffff {
		return ChecksumRFC9568
	}
	if d.Source.Is6() { // over IPv4 the checksum doesn't cover the trailer
		acc, length = sum(acc, d.Trailer), length+len(d.Trailer)
	}
	if version == 2 || fold(acc+pseudo(d.Source, d.Destination, ProtocolVRRP, length)) != 0xffff {
		return 0
	}
	if d.Source.Is4() {
		return ChecksumRFC5798
	}
	return ChecksumRFC9568
}

// saneSource reports whether the source can be the address of a router: a unicast
// address, and for IPv6 to the group a link-local one (RFC 9568 §5.1.2.1).
func saneSource(d *Datagram) bool {
	a := d.Source
	if a.Is4() {
		v := a.As4()
		return v[0] != 0 && v[0] != 127 && v[0] < 224
	}
	if d.Unicast() {
		return !a.IsMulticast() && !a.IsUnspecified() && !a.IsLoopback()
	}
	return a.IsLinkLocalUnicast()
}
