// SPDX-License-Identifier: Apache-2.0

// Package packet reads and writes what VRRP puts on the wire: advertisements of
// version 2 (RFC 3768) and 3 (RFC 9568) over IPv4 and IPv6 with the Ethernet and
// IP headers around them, gratuitous ARP and unsolicited neighbour
// advertisements.
//
// It is pure: no sockets, no state, no clock. Encoding appends to the caller's
// buffer and doesn't allocate when that has room. Decoding checks first and
// assigns once, and refuses with one distinct Reason for each kind of fault;
// the XDP program refuses with the same ones.
//
// All functions may be called concurrently for different values.
package packet
