// SPDX-License-Identifier: Apache-2.0

package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Assign puts an address on an interface. One that is there already is fine.
func (h *Handle) Assign(ifindex int, prefix netip.Prefix) error {
	p := placement{ifindex, prefix}
	return h.accept(p, h.add([]placement{p})[0])
}

// accept says whether an address is there after an attempt to add it, and if it isn't
// why. An IPv6 address that is there but of no use is replaced.
func (h *Handle) accept(p placement, err error) error {
	six := p.prefix.Addr().Is6()
	if errors.Is(err, unix.EEXIST) && six && !h.usable(p.ifindex, p.prefix) {
		if err := h.remove(p.ifindex, p.prefix); err != nil {
			return fmt.Errorf("replace %s: %w", p.prefix, err)
		}
		err = h.add([]placement{p})[0]
	}
	switch {
	case err == nil, errors.Is(err, unix.EEXIST):
		return nil
	case errors.Is(err, unix.EACCES) && six:
		return fmt.Errorf("add %s: %w: is IPv6 disabled on the interface (sysctl disable_ipv6)?", p.prefix, err)
	}
	return fmt.Errorf("add %s: %w", p.prefix, err)
}

// usable reports whether an IPv6 address has passed duplicate address detection.
func (h *Handle) usable(ifindex int, p netip.Prefix) bool {
	all, err := h.list(ifindex, netlink.FAMILY_V6)
	return err == nil && slices.ContainsFunc(all, func(n netlink.Addr) bool {
		a := address(n)
		return a.Prefix == p && !a.Tentative && !a.DADFailed
	})
}

func (h *Handle) remove(ifindex int, p netip.Prefix) error {
	err := h.h.AddrDel(nil, &netlink.Addr{IPNet: ipNet(p), LinkIndex: ifindex, Broadcast: net.IPv4zero})
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		return nil // it is gone, or its interface is, or that has no IPv6 any more, as with an MTU below 1280
	}
	return err
}

// list lists an interface's addresses of a family.
func (h *Handle) list(ifindex, family int) (all []netlink.Addr, err error) {
	// A listing that a change interrupts is inconsistent.
	for range dumpTries {
		all, err = h.h.AddrList(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}, family)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// Release removes addresses from an interface. What is gone already is fine.
// Addresses that the kernel would remove along with a virtual one, because it
// is the primary address of their subnet, stay, and so do their routes.
func (h *Handle) Release(ifindex int, addresses []netip.Prefix) error {
	// The removal matters more than what it may take along.
	before, err := h.secondaries(ifindex, addresses)
	var errs []error
	if err != nil {
		errs = append(errs, fmt.Errorf("look for addresses to put back: %w", err))
	}
	removed := 0
	all := func() {
		for _, p := range addresses {
			if err := h.remove(ifindex, p); err != nil {
				errs = append(errs, fmt.Errorf("remove %s: %w", p, err))
				continue
			}
			removed++
		}
	}
	if len(before) == 0 {
		all()
	} else if err := h.promoting(ifindex, all); err != nil {
		errs = append(errs, err) // the routes may be gone, the addresses come back
	}
	if removed == len(addresses) && before == nil {
		return nil // there is nothing that could be missing, or nobody knows
	}
	for _, a := range before {
		// They are still there, unless promote_secondaries could not be set.
		if err := h.h.AddrAdd(nil, &a); err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("put %s back: %w", a.IPNet, err))
		}
	}
	return errors.Join(errs...)
}

// secondaries returns the addresses that removing the given ones could take
// along: secondary ones of a subnet in which one of the given is primary.
func (h *Handle) secondaries(ifindex int, removed []netip.Prefix) ([]netlink.Addr, error) {
	if !slices.ContainsFunc(removed, func(p netip.Prefix) bool { return p.Addr().Is4() }) {
		return nil, nil
	}
	all, err := h.list(ifindex, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var primaries []netip.Prefix
	for _, a := range all {
		if p := address(a); !p.Secondary && slices.Contains(removed, p.Prefix) {
			primaries = append(primaries, p.Prefix.Masked())
		}
	}
	var kept []netlink.Addr
	for _, a := range all {
		p := address(a)
		if p.Secondary && !slices.Contains(removed, p.Prefix) && slices.Contains(primaries, p.Prefix.Masked()) {
			a.LinkIndex = ifindex
			a.Flags &^= unix.IFA_F_SECONDARY
			if a.Broadcast == nil {
				a.Broadcast = net.IPv4zero
			}
			kept = append(kept, a)
		}
	}
	return kept, nil
}

// Neighbors returns the IPv4 addresses on the interface's link that have been
// heard of lately.
func (h *Handle) Neighbors(ifindex int) ([]netip.Addr, error) {
	list, err := h.h.NeighList(ifindex, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	var all []netip.Addr
	for _, n := range list {
		if a, ok := netip.AddrFromSlice(n.IP); ok && n.State&(unix.NUD_REACHABLE|unix.NUD_STALE|unix.NUD_DELAY|unix.NUD_PROBE|unix.NUD_PERMANENT) != 0 {
			all = append(all, a.Unmap())
		}
	}
	return all, nil
}
