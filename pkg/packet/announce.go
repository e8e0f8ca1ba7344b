// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

const (
	icmpv6                = 58
	icmpNeighborAdvert    = 136
	optTargetLinkLayer    = 2
	flagsRouterOverride   = 0xa0 // Router and Override set, Solicited not
	neighborAdvertMessage = 32   // octets, with the one option
)

var allNodes = netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 0x01})

// AppendGratuitousARP appends the broadcast frame that binds an IPv4 address to a MAC:
// an ARP request with the address and the MAC as both sender and target (RFC 9568
// §6.4.1 with errata 7947 and 7949).
func AppendGratuitousARP(b []byte, mac MAC, addr netip.Addr) ([]byte, error) {
	if !addr.Is4() {
		return b, fmt.Errorf("address %v is not IPv4", addr)
	}
	start := len(b)
	b = appendEthernet(b, MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac, etherTypeARP)
	b = append(b, 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, their lengths, request
	for range 2 {
		b = append(b, mac[:]...)
		b = appendAddr(b, addr)
	}
	return pad(b, start), nil
}

// AppendUnsolicitedNA appends the frame that binds an IPv6 address to a MAC: a
// neighbour advertisement to all nodes with the Router and Override flags and
// the target link-layer address option (RFC 9568 §6.4.1).
func AppendUnsolicitedNA(b []byte, mac MAC, addr netip.Addr) ([]byte, error) {
	if !addr.Is6() || addr.Is4In6() {
		return b, fmt.Errorf("address %v is not IPv6", addr)
	}
	start := len(b)
	b = appendEthernet(b, MAC{0x33, 0x33, 0, 0, 0, 1}, mac, etherTypeIPv6)
	b = appendIPv6(b, 0, icmpv6, 255, addr, allNodes)
	binary.BigEndian.PutUint16(b[start+ethernetLen+4:], neighborAdvertMessage)
	message := len(b)
	b = append(b, icmpNeighborAdvert, 0, 0, 0, flagsRouterOverride, 0, 0, 0)
	b = appendAddr(b, addr)
	b = append(b, optTargetLinkLayer, 1)
	b = append(b, mac[:]...)
	c := ^fold(sum(pseudo(addr, allNodes, icmpv6, neighborAdvertMessage), b[message:]))
	binary.BigEndian.PutUint16(b[message+2:], c)
	return pad(b, start), nil
}

// AppendARPProbe appends the broadcast frame of an ARP probe: a request for an IPv4
// address without a sender address (RFC 5227 §2.1.1).
func AppendARPProbe(b []byte, mac MAC, addr netip.Addr) ([]byte, error) {
	return AppendARPRequest(b, mac, netip.IPv4Unspecified(), addr)
}

// AppendARPRequest appends the broadcast frame that asks for the MAC of an IPv4 address.
// The answer goes to the source at the given MAC.
func AppendARPRequest(b []byte, mac MAC, source, target netip.Addr) ([]byte, error) {
	for _, a := range [...]netip.Addr{source, target} {
		if !a.Is4() {
			return b, fmt.Errorf("address %v is not IPv4", a)
		}
	}
	start := len(b)
	b = appendEthernet(b, MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac, etherTypeARP)
	b = append(b, 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, their lengths, request
	b = append(b, mac[:]...)
	b = appendAddr(b, source)
	b = append(b, make([]byte, 6)...)
	b = appendAddr(b, target)
	return pad(b, start), nil
}

// AnswersARPProbe reports whether a frame is an ARP reply to the MAC from a host that
// has the IPv4 address.
func AnswersARPProbe(frame []byte, mac MAC, addr netip.Addr) bool {
	if len(frame) < ethernetLen+arpLen || !addr.Is4() || MAC(frame[:6]) != mac || binary.BigEndian.Uint16(frame[12:]) != etherTypeARP {
		return false
	}
	arp := frame[ethernetLen:]
	return binary.BigEndian.Uint16(arp[6:]) == 2 && [4]byte(arp[14:18]) == addr.As4()
}
