// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
)

// Error has the problems of a configuration on this host, by the index of the router.
type Error struct{ Problems map[int][]config.Problem }

func (e *Error) Error() string {
	var lines []string
	for _, router := range slices.Sorted(maps.Keys(e.Problems)) {
		for _, p := range e.Problems[router] {
			lines = append(lines, p.Text)
		}
	}
	return strings.Join(lines, "\n")
}

// Add adds a problem of a router.
func (e *Error) Add(p *ConfiguredRouter, key string, item int, format string, args ...any) {
	if e.Problems == nil {
		e.Problems = make(map[int][]config.Problem)
	}
	e.Problems[p.Index] = append(e.Problems[p.Index], config.Problem{Key: key, Item: item, Text: fmt.Sprintf(format, args...)})
}

// OrNil returns the error, nil if it has no problems.
func (e *Error) OrNil() error {
	if len(e.Problems) == 0 {
		return nil
	}
	return e
}

// Complete completes configured routers, and checks them without looking at the host.
func Complete(routers []config.Router) ([]*ConfiguredRouter, error) {
	plan := make([]*ConfiguredRouter, 0, len(routers))
	var wrong Error
	for i, r := range routers {
		p := &ConfiguredRouter{Router: r, Index: i}
		for _, problem := range r.Problems() {
			wrong.Add(p, problem.Key, problem.Item, "%s", problem.Text)
		}
		if full, added := r.WithLinkLocal(); added {
			p.Router, p.LinkLocal = full, full.Addresses[len(full.Addresses)-1]
		}
		plan = append(plan, p)
	}
	return plan, wrong.OrNil()
}

// CheckInterfaces checks routers against the interfaces of the host. With wait, an interface that
// doesn't exist or has no address yet is no error.
func CheckInterfaces(routers []*ConfiguredRouter, snapshot []link.Interface, wait bool) error {
	var wrong Error
	type wire struct {
		name string
		vrid int
	}
	same := make(map[wire][]*ConfiguredRouter)
	for _, p := range routers {
		at := wire{p.Interface, p.VRID}
		same[at] = append(same[at], p)
	}
	all := virtualAddresses(routers)
	for _, p := range routers {
		i, err := link.Find(snapshot, p.Interface)
		if err != nil {
			if !wait || i.Kind == link.KindLoopback {
				wrong.Add(p, "interface", 0, "%s", err)
			}
			continue
		}
		for _, q := range same[wire{p.Interface, p.VRID}] {
			if q.Index < p.Index && shareFamily(&p.Router, &q.Router) {
				wrong.Add(p, "vrid", 0, "VRID %d is used twice on %s: give each router of an interface a VRID of its own", p.VRID, p.Interface)
			}
		}
		for _, f := range Families(&p.Router) {
			// Right after boot the link-local address may still be tentative, so ask how it will be.
			settled := i.Settled()
			if Source(&p.Router, &settled, f, all).IsValid() {
				continue
			}
			if given := p.Unicast.Source(f); given.IsValid() {
				if !wait {
					wrong.Add(p, "unicast", 0, "the source %s is not on interface %s: add it there, or use another source", given, p.Interface)
				}
				continue
			}
			if only := Source(&p.Router, &settled, f, nil); only.IsValid() {
				wrong.Add(p, "addresses", 0, "virtual address %s is the only address of interface %s: if this host owns it, use priority 255, otherwise give the interface an address of its own too", only, p.Interface)
				continue
			}
			if wait {
				continue
			}
			what, example := "IPv4", "192.0.2.2/24"
			if f == packet.IPv6 {
				what, example = "IPv6 link-local", "fe80::2/64"
			}
			if f == packet.IPv6 && !OnLinkOnly(p.Unicast) {
				what, example = "global IPv6", "2001:db8::2/64"
			}
			wrong.Add(p, "interface", 0, "interface %s has no %s address to send advertisements from: give it one of its own, for example ip addr add %s dev %s", p.Interface, what, example, p.Interface)
		}
	}
	return wrong.OrNil()
}

// shareFamily reports whether two routers have addresses of the same family.
func shareFamily(a, b *config.Router) bool {
	return slices.ContainsFunc(Families(a), func(f packet.Family) bool { return slices.Contains(Families(b), f) })
}

// CheckAddresses checks that each address belongs to one router. Without wait, it also checks
// that nothing on the host keeps a router from taking part. ours reports whether failoverd itself
// has put an address on an interface.
func CheckAddresses(routers []*ConfiguredRouter, snapshot []link.Interface, wait bool, ours func(ifindex int, a netip.Addr) bool) error {
	var wrong Error
	if !wait {
		host := HostFacts{Interfaces: snapshot, Ours: ours, Fenced: true} // Fenced isn't known yet, and is checked later
		for _, p := range routers {
			for _, o := range Obstacles(p.Router, host) {
				wrong.Add(p, o.Key, o.Item, "%s", o)
			}
		}
	}
	given := make(map[netip.Addr][]string) // interfaces by address
	for _, p := range routers {
		for n, a := range p.Addresses {
			name := p.InterfaceOf(a.Addr())
			for _, other := range given[a.Addr()] {
				if !a.Addr().IsLinkLocalUnicast() || name == other {
					wrong.Add(p, "addresses", n, "virtual address %s is used on %s and on %s: an address can belong to one router only", a.Addr(), other, name)
				}
			}
		}
		for _, a := range p.Addresses {
			given[a.Addr()] = append(given[a.Addr()], p.InterfaceOf(a.Addr()))
		}
	}
	return wrong.OrNil()
}

// virtualAddresses returns the VirtualAddresses of all routers.
func virtualAddresses(routers []*ConfiguredRouter) link.AddressSet {
	all := make(link.AddressSet, len(routers))
	for _, r := range routers {
		all.Add(VirtualAddresses(&r.Router)...)
	}
	return all
}

// VirtualAddresses returns the addresses of a router that don't count as an interface's own: all
// virtual addresses except those that this host owns.
func VirtualAddresses(r *config.Router) (all []netip.Addr) {
	for _, e := range r.Extra {
		all = append(all, e.Address.Addr())
	}
	for _, a := range r.Addresses {
		if !r.OwnsAddresses() {
			all = append(all, a.Addr())
		}
	}
	return all
}

// Changes returns the changes between two lists of routers.
func Changes(before, after []config.Router) (all []Change) {
	same := func(a, b *config.Router) bool {
		return a.Interface == b.Interface && a.VRID == b.VRID && shareFamily(a, b)
	}
	for i := range before {
		if !slices.ContainsFunc(after, func(b config.Router) bool { return same(&before[i], &b) }) {
			all = append(all, Change{Router: before[i].Name, What: "removed"})
		}
	}
	for n := range after {
		b := &after[n]
		i := slices.IndexFunc(before, func(a config.Router) bool { return same(&a, b) })
		if i < 0 {
			all = append(all, Change{Router: b.Name, What: "added"})
			continue
		}
		if details := config.Difference(before[i], *b); len(details) > 0 {
			c := Change{Router: b.Name, What: "changed", Details: details}
			if RestartReason(&before[i], b) != "" {
				c.What = "restarted"
			}
			all = append(all, c)
		}
	}
	return all
}

// Change is a change of a configured router.
type Change struct {
	Router  string
	What    string // added, removed, changed or restarted
	Details []string
}
