// SPDX-License-Identifier: Apache-2.0

package link

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// batchMax is the largest number of addresses that one system call adds. The kernel's
// answers to it fit into the receive buffer of a socket.
const batchMax = 100

// placement is an address to add to an interface.
type placement struct {
	ifindex int
	prefix  netip.Prefix
	label   string // up to 15 octets, IPv4 only; empty: the interface's name
}

// add adds addresses with one system call, and returns the kernel's error for each.
func (h *Handle) add(all []placement) []error {
	errs := make([]error, len(all))
	fail := func(err error) []error { // the result is unknown for all of them
		for n := range errs {
			errs[n] = err
		}
		return errs
	}
	if len(all) == 0 {
		return nil
	}
	first := h.seq + 1
	h.seq += uint32(len(all))
	message := make([]byte, 0, len(all)*addRequestSize)
	for n, p := range all {
		// The kernel answers failed requests. The last request asks for an answer in
		// any case, which shows that all have been handled.
		flags := uint16(unix.NLM_F_REQUEST | unix.NLM_F_CREATE | unix.NLM_F_EXCL)
		if n == len(all)-1 {
			flags |= unix.NLM_F_ACK
		}
		message = appendAddRequest(message, p, first+uint32(n), flags)
	}
	// The kernel handles the requests within sendto, so the answers are there when it
	// returns.
	fd := h.adder.GetFd()
	if err := unix.Sendto(fd, message, unix.MSG_DONTWAIT, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fail(fmt.Errorf("send a netlink request: %w", err))
	}
	for {
		var answer [4096]byte
		size, _, err := unix.Recvfrom(fd, answer[:], unix.MSG_DONTWAIT)
		if err != nil {
			return fail(fmt.Errorf("read netlink's answer: %w", err))
		}
		messages, err := syscall.ParseNetlinkMessage(answer[:size])
		if err != nil {
			return fail(fmt.Errorf("read netlink's answer: %w", err))
		}
		for _, m := range messages {
			n := int(m.Header.Seq - first)
			if m.Header.Type != unix.NLMSG_ERROR || n >= len(all) || len(m.Data) < 4 {
				continue // an answer to an earlier request
			}
			if errno := -int32(binary.NativeEndian.Uint32(m.Data)); errno != 0 {
				errs[n] = syscall.Errno(errno)
			}
			if n == len(all)-1 {
				return errs
			}
		}
	}
}

// addRequestSize is the length of the longest request to add an address, in octets.
const addRequestSize = unix.SizeofNlMsghdr + unix.SizeofIfAddrmsg + 2*(unix.SizeofRtAttr+16) + unix.SizeofRtAttr + max(unix.SizeofIfaCacheinfo, unix.IFNAMSIZ)

// appendAddRequest appends a request to add an address (rtnetlink(7)). It encodes the
// request itself to be fast, because a take-over may wait for a thousand of them. An IPv6
// address skips the kernel's duplicate address detection, which would delay it by a second
// or more (RFC 9568 §8.2.2). It is deprecated from the start, so that the host never
// chooses it as a source by itself.
func appendAddRequest(b []byte, p placement, seq uint32, flags uint16) []byte {
	a := p.prefix.Addr()
	family, addressFlags, scope := uint8(unix.AF_INET), uint8(0), uint8(unix.RT_SCOPE_UNIVERSE)
	if a.Is6() {
		family, addressFlags = unix.AF_INET6, unix.IFA_F_NODAD
		if a.IsLinkLocalUnicast() {
			scope = unix.RT_SCOPE_LINK
		}
	}
	ne := binary.NativeEndian
	attribute := func(kind, size int) {
		b = ne.AppendUint16(b, uint16(unix.SizeofRtAttr+size))
		b = ne.AppendUint16(b, uint16(kind))
	}
	begin := len(b)
	b = ne.AppendUint32(b, 0) // the length, set below
	b = ne.AppendUint16(b, unix.RTM_NEWADDR)
	b = ne.AppendUint16(b, flags)
	b = ne.AppendUint32(b, seq)
	b = ne.AppendUint32(b, 0) // the port ID; the kernel fills it in
	b = append(b, family, uint8(p.prefix.Bits()), addressFlags, scope)
	b = ne.AppendUint32(b, uint32(p.ifindex))
	for _, kind := range []int{unix.IFA_LOCAL, unix.IFA_ADDRESS} {
		attribute(kind, a.BitLen()/8)
		if a.Is6() {
			all := a.As16()
			b = append(b, all[:]...)
		} else {
			all := a.As4()
			b = append(b, all[:]...)
		}
	}
	if p.label != "" {
		attribute(unix.IFA_LABEL, unix.IFNAMSIZ)
		b = append(b, p.label...)
		b = append(b, make([]byte, unix.IFNAMSIZ-len(p.label))...)
	}
	if a.Is6() {
		attribute(unix.IFA_CACHEINFO, unix.SizeofIfaCacheinfo)
		b = ne.AppendUint32(b, 0)              // preferred lifetime: none, so it is deprecated
		b = ne.AppendUint32(b, math.MaxUint32) // valid lifetime: unlimited
		b = append(b, make([]byte, 8)...)      // timestamps, which the kernel sets
	}
	ne.PutUint32(b[begin:], uint32(len(b)-begin))
	return b
}
