// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/packet"
)

// Octets returns the length of the longest advertisement that a router sends for one
// family: of the IP datagram with its authentication. It is 0 for a family that the router
// doesn't advertise over.
func (r Router) Octets(f packet.Family) int {
	if !r.Has(f) {
		return 0
	}
	full, _ := r.WithLinkLocal()
	n := len(full.OfFamily(f))
	version := uint8(r.Version)
	if r.Dual {
		version = 2 // the longer one of both
	}
	length := packet.DatagramLen(f, version, n)
	switch a := r.Authentication; {
	case a.Type == auth.Header:
		length += packet.AuthenticationHeaderLen
	case a.Type == auth.HMAC && a.Mode != auth.ReceiveOnly:
		length += packet.TrailerLen
	}
	return length
}

// TooLong returns why an advertisement of the router for one family can't be sent over an
// interface with an MTU, and the remedy. Both are empty if it can be sent, or if the MTU is
// 0, which stands for unknown. An advertisement isn't fragmented, because receivers don't
// reassemble VRRP.
func (r Router) TooLong(f packet.Family, mtu int) (text, remedy string) {
	octets := r.Octets(f)
	if octets <= mtu || mtu == 0 {
		return "", ""
	}
	return fmt.Sprintf("the advertisement of %s with its %d %s addresses has %d octets, the MTU of %s is %d", r.Name, len(r.OfFamily(f)), f, octets, r.Interface, mtu),
		fmt.Sprintf("raise the MTU to %d or more on all hosts and switches of the network, or put some of the addresses into a router of another VRID", octets)
}
