// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"fmt"
	"net/netip"
	"strings"
)

// ProtocolVRRP is the IP protocol number of VRRP (RFC 9568 §5.1.1.4).
const ProtocolVRRP = 112

// Family is an IP address family. One VRID in both families is two Virtual
// Routers (RFC 9568 §1.2).
type Family uint8

// The families, numbered like the version field of the IP header.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// FamilyOf returns the family of an address, 0 for the zero Addr.
func FamilyOf(a netip.Addr) Family {
	switch {
	case !a.IsValid():
		return 0
	case a.Unmap().Is4():
		return IPv4
	}
	return IPv6
}

func (f Family) String() string {
	switch f {
	case IPv4:
		return "ipv4"
	case IPv6:
		return "ipv6"
	}
	return fmt.Sprintf("family %d", uint8(f))
}

var (
	groupIPv4 = netip.AddrFrom4([4]byte{224, 0, 0, 18})
	groupIPv6 = netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 0x12})
)

// Group returns the multicast address that advertisements are sent to:
// 224.0.0.18 or ff02::12 (RFC 9568 §5.1.1.2, §5.1.2.2).
func (f Family) Group() netip.Addr {
	if f == IPv6 {
		return groupIPv6
	}
	return groupIPv4
}

// size returns the length of an address in octets.
func (f Family) size() int {
	if f == IPv6 {
		return 16
	}
	return 4
}

// MAC is an Ethernet address.
type MAC [6]byte

func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// VirtualMAC returns the virtual MAC address of a Virtual Router (RFC 9568 §7.3).
func VirtualMAC(f Family, vrid uint8) MAC {
	m := MAC{0, 0, 0x5e, 0, 1, vrid}
	if f == IPv6 {
		m[4] = 2
	}
	return m
}

// GroupMAC returns the Ethernet address of the family's VRRP group.
func GroupMAC(f Family) MAC {
	if f == IPv6 {
		return MAC{0x33, 0x33, 0, 0, 0, 0x12}
	}
	return MAC{1, 0, 0x5e, 0, 0, 0x12}
}

// Checksum is a set of forms of the checksum. Implementations use two forms in version
// 3 over IPv4. Version 2 and IPv6 have one form each, which is ChecksumRFC9568 here.
type Checksum uint8

const (
	// ChecksumRFC9568 covers the VRRP message alone (RFC 9568 §5.2.8).
	ChecksumRFC9568 Checksum = 1 << iota
	// ChecksumRFC5798 covers an IPv4 pseudo-header too, as most implementations
	// read RFC 5798 §5.2.8.
	ChecksumRFC5798
)

func (c Checksum) String() string {
	var names []string
	if c&ChecksumRFC9568 != 0 {
		names = append(names, "rfc9568")
	}
	if c&ChecksumRFC5798 != 0 {
		names = append(names, "rfc5798")
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, "+")
}

// sum adds the 16-bit words of b to acc (RFC 1071) without folding.
func sum(acc uint64, b []byte) uint64 {
	for len(b) >= 2 {
		acc += uint64(b[0])<<8 | uint64(b[1])
		b = b[2:]
	}
	if len(b) == 1 {
		acc += uint64(b[0]) << 8
	}
	return acc
}

// fold folds a sum to its 16-bit ones' complement value.
func fold(acc uint64) uint16 {
	for acc > 0xffff {
		acc = acc>>16 + acc&0xffff
	}
	return uint16(acc)
}

// pseudo returns the sum of a pseudo-header: for IPv6 that of RFC 8200 §8.1, for IPv4
// the one that implementations of RFC 5798 use.
func pseudo(src, dst netip.Addr, protocol uint8, length int) uint64 {
	var acc uint64
	if src.Is4() {
		s, d := src.As4(), dst.As4()
		acc = sum(sum(0, s[:]), d[:])
	} else {
		s, d := src.As16(), dst.As16()
		acc = sum(sum(0, s[:]), d[:])
	}
	return acc + uint64(protocol) + uint64(length)
}
