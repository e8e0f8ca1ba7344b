// SPDX-License-Identifier: Apache-2.0

// Package packet encodes and decodes the wire formats of VRRP: advertisements of
// version 2 (RFC 3768) and 3 (RFC 9568) over IPv4 and IPv6 with their Ethernet and
// IP headers, gratuitous ARP and unsolicited neighbour advertisements.
//
// It is pure: it has no sockets, no state and no clock. Encoding appends to the
// caller's buffer and doesn't allocate if that has room. Decoding first makes all
// checks and then assigns the result. It has one Reason for each kind of fault, and
// the XDP program uses the same ones.
//
// All functions may be called concurrently for different values.
package packet
