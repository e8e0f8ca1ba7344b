// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
)

// planned is a router together with the interface it was found on.
type planned struct {
	config.Router
	link      link.Interface
	linkLocal netip.Prefix // if it had to be added to the addresses
}

// checkPrivileges names the capabilities that are missing.
func checkPrivileges() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read the capabilities of this process: %w", err)
	}
	var missing []string
	for _, c := range []struct {
		bit  int
		name string
	}{{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_NET_RAW, "CAP_NET_RAW"}} {
		if data[c.bit/32].Effective&(1<<(c.bit%32)) == 0 {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("no privilege: %s missing; run it with sudo, or grant CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_PERFMON", strings.Join(missing, " and "))
	}
	return nil
}

// checkInterfaces checks the routers against the interfaces there are.
func checkInterfaces(c Config, snapshot []link.Interface) ([]planned, error) {
	var plan []planned
	for _, r := range c.Routers {
		if err := r.Validate(); err != nil {
			return nil, err
		}
		i, err := findInterface(snapshot, r.Interface)
		if err != nil {
			return nil, err
		}
		for _, q := range plan {
			if q.link.Index == i.Index && q.VRID == r.VRID {
				return nil, fmt.Errorf("VRID %d exists twice on %s: give each router of an interface a VRID of its own", r.VRID, r.Interface)
			}
		}
		p := planned{Router: r, link: i}
		if full, added := r.WithLinkLocal(); added {
			p.Router, p.linkLocal = full, full.Addresses[len(full.Addresses)-1]
		}
		plan = append(plan, p)
	}
	for _, p := range plan {
		for _, f := range families(p.Router) {
			// Right after boot its link-local address may still be tentative.
			if source(p.link.Settled(), f, virtual(plan)).IsValid() {
				continue
			}
			if only := source(p.link.Settled(), f, nil); only.IsValid() {
				return nil, fmt.Errorf("virtual address %s is the only address of interface %s: if this host owns it, use --priority 255, otherwise give the interface an address of its own beside it", only, p.Interface)
			}
			what, example := "IPv4", "192.0.2.2/24"
			if f == packet.IPv6 {
				what, example = "IPv6 link-local", "fe80::2/64"
			}
			return nil, fmt.Errorf("interface %s has no %s address to send advertisements from: give it one of its own, for example ip addr add %s dev %s", p.Interface, what, example, p.Interface)
		}
	}
	return plan, nil
}

func findInterface(snapshot []link.Interface, name string) (link.Interface, error) {
	var names []string
	for _, i := range snapshot {
		if i.Name == name {
			if i.Kind == link.KindLoopback {
				return i, fmt.Errorf("interface %s is the loopback: VRRP needs a network shared with other hosts", name)
			}
			return i, nil
		}
		if i.Kind != link.KindLoopback {
			names = append(names, i.Name)
		}
	}
	slices.Sort(names)
	if len(names) == 0 {
		return link.Interface{}, fmt.Errorf("no interface %q: this host has none but the loopback", name)
	}
	return link.Interface{}, fmt.Errorf("no interface %q: this host has %s", name, strings.Join(names, ", "))
}

// checkAddresses makes sure that nobody has the virtual addresses already,
// unless this host owns them, and then that it has them all.
func checkAddresses(plan []planned, snapshot []link.Interface) error {
	var errs []error
	for _, p := range plan {
		for _, a := range p.Addresses {
			addr := a.Addr()
			if !addr.IsLinkLocalUnicast() {
				if other, ok := link.AddressElsewhere(snapshot, addr, p.link.Index); ok {
					errs = append(errs, fmt.Errorf("virtual address %s is already on interface %s: remove it there (ip addr del %s dev %s), or use --iface %s", addr, other.Name, a, other.Name, other.Name))
					continue
				}
			}
			here := hasAddress(snapshot, p.link.Index, addr)
			switch owner := p.Priority == config.OwnerPriority; {
			case here && !owner:
				errs = append(errs, fmt.Errorf("virtual address %s is on %s already: if this host owns it, use --priority 255, otherwise remove it: ip addr del %s dev %s", addr, p.Interface, a, p.Interface))
			case !here && owner:
				errs = append(errs, fmt.Errorf("priority 255 is for the owner of the address, but %s is not on %s: add it there, or use a priority of 254 or less", addr, p.Interface))
			}
		}
	}
	for i, p := range plan {
		for _, q := range plan[:i] {
			for _, a := range p.Addresses {
				if a.Addr().IsLinkLocalUnicast() && p.link.Index != q.link.Index {
					continue
				}
				if slices.ContainsFunc(q.Addresses, func(b netip.Prefix) bool { return a.Addr() == b.Addr() }) {
					errs = append(errs, fmt.Errorf("virtual address %s is given for %s and for %s: an address belongs to one router", a.Addr(), q.Interface, p.Interface))
				}
			}
		}
	}
	return errors.Join(errs...)
}

func hasAddress(snapshot []link.Interface, ifindex int, addr netip.Addr) bool {
	for _, i := range snapshot {
		if i.Index == ifindex {
			return slices.ContainsFunc(i.Addresses, func(a link.Address) bool { return a.Prefix.Addr() == addr })
		}
	}
	return false
}

// virtual returns the addresses that must not be taken for an interface's own:
// all virtual ones, except those that this host owns.
func virtual(plan []planned) []netip.Addr {
	var all []netip.Addr
	for _, p := range plan {
		if p.Priority == config.OwnerPriority {
			continue
		}
		for _, a := range p.Addresses {
			all = append(all, a.Addr())
		}
	}
	return all
}

// usable reports whether an address is on the interface and can be sent from.
func usable(i link.Interface, addr netip.Addr) bool {
	return slices.ContainsFunc(i.Addresses, func(a link.Address) bool {
		return a.Prefix.Addr() == addr && !a.Tentative && !a.DADFailed
	})
}

// source returns the primary address of an interface (RFC 9568 §1.7), the
// zero Addr if it has none.
func source(i link.Interface, f packet.Family, exclude []netip.Addr) netip.Addr {
	if f == packet.IPv6 {
		return link.LinkLocalIPv6(i, exclude)
	}
	return link.PrimaryIPv4(i, exclude)
}
