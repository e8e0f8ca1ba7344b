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

// Assign adds an address to an interface. An address that exists already is no error.
func (h *Handle) Assign(ifindex int, prefix netip.Prefix) error {
	return h.assign(placement{ifindex: ifindex, prefix: prefix})
}

func (h *Handle) assign(p placement) error {
	return h.checkAdded(p, h.add([]placement{p})[0])
}

// checkAdded evaluates the result of an attempt to add an address. It returns nil if the
// interface has the address. An existing address with another label stays: the kernel can't
// change a label, and removing the address would interrupt its connections. checkAdded replaces
// an existing IPv6 address that isn't usable.
func (h *Handle) checkAdded(p placement, err error) error {
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
		return nil // the address or the interface is gone, or the interface has lost IPv6 (with an MTU below 1280)
	}
	return err
}

// list returns the addresses of a family on an interface.
func (h *Handle) list(ifindex, family int) (all []netlink.Addr, err error) {
	// A dump that a change interrupts is inconsistent.
	for range dumpTries {
		all, err = h.h.AddrList(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}, family)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// Release removes addresses from an interface. An address that is gone already is no
// error. When the kernel removes the primary IPv4 address of a subnet, it also removes the
// secondary ones and their routes. Release keeps those that it isn't asked to remove.
func (h *Handle) Release(ifindex int, addresses []netip.Prefix) error {
	// The addresses are removed even after an error: that matters more than keeping
	// the secondary ones.
	before, err := h.secondaries(ifindex, addresses)
	var errs []error
	if err != nil {
		errs = append(errs, fmt.Errorf("look for secondary addresses to keep: %w", err))
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
		errs = append(errs, err) // the routes may be lost; the addresses are added again below
	}
	if removed == len(addresses) && before == nil {
		return nil // no secondary address to keep, or their listing failed
	}
	for _, a := range before {
		// They are still there, unless promote_secondaries could not be set.
		if err := h.h.AddrAdd(nil, &a); err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("add %s again: %w", a.IPNet, err))
		}
	}
	return errors.Join(errs...)
}

// secondaries returns the addresses that the kernel could remove together with the given
// ones: the secondary addresses of a subnet whose primary address is removed.
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
	var others []netlink.Addr
	for _, a := range all {
		p := address(a)
		if p.Secondary && !slices.Contains(removed, p.Prefix) && slices.Contains(primaries, p.Prefix.Masked()) {
			a.LinkIndex = ifindex
			a.Flags &^= unix.IFA_F_SECONDARY
			if a.Broadcast == nil {
				a.Broadcast = net.IPv4zero
			}
			others = append(others, a)
		}
	}
	return others, nil
}

// Neighbors returns the IPv4 addresses in the kernel's neighbour table of the interface,
// without those that failed to answer.
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
