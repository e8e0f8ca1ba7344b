// SPDX-License-Identifier: Apache-2.0

package link

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// batch is how many addresses are added with one system call at most. Its answers fit
// into a socket's buffer.
const batch = 100

// placement is an address that an interface is to have.
type placement struct {
	ifindex int
	prefix  netip.Prefix
}

// add has the kernel add addresses with one system call, and returns what it says to
// each.
func (h *Handle) add(all []placement) []error {
	errs := make([]error, len(all))
	fail := func(err error) []error { // it isn't known of any that it is there
		for n := range errs {
			errs[n] = err
		}
		return errs
	}
	if len(all) == 0 {
		return nil
	}
	var message []byte
	first := uint32(0)
	for n, p := range all {
		// Only what fails is answered, and the last, so that it is known that all
		// have been dealt with.
		flags := unix.NLM_F_CREATE | unix.NLM_F_EXCL
		if n == len(all)-1 {
			flags |= unix.NLM_F_ACK
		}
		r := addRequest(p, flags)
		if n == 0 {
			first = r.Seq
		}
		r.Seq = first + uint32(n)
		message = append(message, r.Serialize()...)
	}
	// When this returns the kernel has done it and answered.
	fd := h.adder.GetFd()
	if err := unix.Sendto(fd, message, unix.MSG_DONTWAIT, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fail(fmt.Errorf("netlink: %w", err))
	}
	for {
		var answer [4096]byte
		size, _, err := unix.Recvfrom(fd, answer[:], unix.MSG_DONTWAIT)
		if err != nil {
			return fail(fmt.Errorf("netlink's answer: %w", err))
		}
		messages, err := syscall.ParseNetlinkMessage(answer[:size])
		if err != nil {
			return fail(fmt.Errorf("netlink's answer: %w", err))
		}
		for _, m := range messages {
			n := int(m.Header.Seq - first)
			if m.Header.Type != unix.NLMSG_ERROR || n >= len(all) || len(m.Data) < 4 {
				continue // to something before
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

// addRequest asks for an address. An IPv6 address skips the kernel's duplicate address
// detection, which would delay a take-over by a second or more (RFC 9568 §8.2.2), and
// is deprecated from the start, so that the host never chooses it as a source by itself.
func addRequest(p placement, flags int) *nl.NetlinkRequest {
	a := p.prefix.Addr()
	r := nl.NewNetlinkRequest(unix.RTM_NEWADDR, flags)
	m := nl.NewIfAddrmsg(unix.AF_INET)
	m.Index, m.Prefixlen, m.Scope = uint32(p.ifindex), uint8(p.prefix.Bits()), unix.RT_SCOPE_UNIVERSE
	r.AddData(m)
	r.AddData(nl.NewRtAttr(unix.IFA_LOCAL, a.AsSlice()))
	r.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, a.AsSlice()))
	if a.Is6() {
		m.Family, m.Flags = unix.AF_INET6, unix.IFA_F_NODAD
		if a.IsLinkLocalUnicast() {
			m.Scope = unix.RT_SCOPE_LINK
		}
		forEver := nl.IfaCacheInfo{IfaCacheinfo: unix.IfaCacheinfo{Valid: math.MaxUint32}} // but not preferred
		r.AddData(nl.NewRtAttr(unix.IFA_CACHEINFO, forEver.Serialize()))
	}
	return r
}
