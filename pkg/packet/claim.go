// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

const (
	arpLen               = 28
	flagSolicited        = 0x40
	icmpNeighborSolicit  = 135
	optSourceLinkLayer   = 1
	neighborMessage      = 24 // octets, without options
	neighborSolicitation = 32 // octets, with the one option
)

// Claim is the binding of an address to a MAC that a frame announces.
type Claim struct {
	Address netip.Addr
	MAC     MAC
}

// ParseClaim returns the sender of an ARP packet or the target of a neighbour
// advertisement. It returns false for any other frame. Without the target link-layer
// address option the MAC of a neighbour advertisement is its sender's (RFC 4861 §4.4).
func ParseClaim(frame []byte) (c Claim, ok bool) {
	if len(frame) < ethernetLen {
		return c, false
	}
	b := frame[ethernetLen:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherTypeARP:
		if len(b) < arpLen || binary.BigEndian.Uint64(b)>>16 != 0x0001_0800_0604 { // Ethernet, IPv4, their lengths
			return c, false
		}
		c = Claim{netip.AddrFrom4([4]byte(b[14:])), MAC(b[8:14])}
		return c, !c.Address.IsUnspecified() // a probe of RFC 5227 claims nothing
	case etherTypeIPv6:
		if len(b) < ipv6Len+neighborMessage || b[6] != icmpv6 || b[7] != 255 || b[ipv6Len] != icmpNeighborAdvert {
			return c, false
		}
		message := b[ipv6Len:]
		c = Claim{netip.AddrFrom16([16]byte(message[8:])), MAC(frame[6:12])}
		for o := message[neighborMessage:]; len(o) >= 8 && o[1] > 0; o = o[min(int(o[1])*8, len(o)):] {
			if o[0] == optTargetLinkLayer {
				c.MAC = MAC(o[2:8])
			}
		}
		return c, true
	}
	return c, false
}

// AppendNeighborSolicitation appends the frame that asks for the MAC of an IPv6
// address. The answer goes to the source at the given MAC (RFC 4861 §4.3).
func AppendNeighborSolicitation(b []byte, mac MAC, source, target netip.Addr) ([]byte, error) {
	for _, a := range [...]netip.Addr{source, target} {
		if !a.Is6() || a.Is4In6() {
			return b, fmt.Errorf("address %v is not IPv6", a)
		}
	}
	t := target.As16()
	group := [16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]} // RFC 4291 §2.7.1
	to := netip.AddrFrom16(group)
	start := len(b)
	b = appendEthernet(b, MAC{0x33, 0x33, group[12], group[13], group[14], group[15]}, mac, etherTypeIPv6)
	b = appendIPv6(b, 0, icmpv6, 255, source, to)
	binary.BigEndian.PutUint16(b[start+ethernetLen+4:], neighborSolicitation)
	message := len(b)
	b = append(b, icmpNeighborSolicit, 0, 0, 0, 0, 0, 0, 0)
	b = appendAddr(b, target)
	b = append(b, optSourceLinkLayer, 1)
	b = append(b, mac[:]...)
	c := ^fold(sum(pseudo(source, to, icmpv6, neighborSolicitation), b[message:]))
	binary.BigEndian.PutUint16(b[message+2:], c)
	return pad(b, start), nil
}

// AnswersNeighborSolicitation reports whether a frame is the neighbour advertisement that
// answers a solicitation from the MAC for the IPv6 address.
func AnswersNeighborSolicitation(frame []byte, mac MAC, addr netip.Addr) bool {
	c, ok := ParseClaim(frame)
	return ok && addr.Is6() && c.Address == addr && MAC(frame[:6]) == mac && frame[ethernetLen+ipv6Len+4]&flagSolicited != 0
}
