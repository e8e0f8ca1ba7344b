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

// Error is what is wrong with a configuration on this host, by the index
// of the router.
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

// Add notes a problem of a router.
func (e *Error) Add(p *ConfiguredRouter, key string, item int, format string, args ...any) {
	if e.Problems == nil {
		e.Problems = make(map[int][]config.Problem)
	}
	e.Problems[p.Index] = append(e.Problems[p.Index], config.Problem{Key: key, Item: item, Text: fmt.Sprintf(format, args...)})
}

// OrNil is the error, if it is one.
func (e *Error) OrNil() error {
	if len(e.Problems) == 0 {
		return nil
	}
	return e
}

// Make completes configured routers and checks them without the host.
func Complete(routers []config.Router) ([]*ConfiguredRouter, error) {
	plan := make([]*ConfiguredRouter, 0, len(routers)) // which is kept
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

// CheckInterfaces checks the plan against the interfaces there are. With wait,
// those that aren't there or have no address yet are waited for.
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
	all := virtual(routers)
	for _, p := range routers {
		i, err := link.Find(snapshot, p.Interface)
		if err != nil {
			if !wait || i.Kind == link.KindLoopback {
				wrong.Add(p, "interface", 0, "%s", err)
			}
			continue
		}
		for _, q := range same[wire{p.Interface, p.VRID}] {
			if q.Index < p.Index && share(&p.Router, &q.Router) {
				wrong.Add(p, "vrid", 0, "VRID %d exists twice on %s: give each router of an interface a VRID of its own", p.VRID, p.Interface)
			}
		}
		for _, f := range Families(&p.Router) {
			// Right after boot its link-local address may still be tentative.
			settled := i.Settled()
			if Source(&p.Router, &settled, f, all).IsValid() {
				continue
			}
			if given := p.Unicast.Source(f); given.IsValid() {
				if !wait {
					wrong.Add(p, "unicast", 0, "the source %s is not on interface %s: add it there, or give another", given, p.Interface)
				}
				continue
			}
			if only := Source(&p.Router, &settled, f, nil); only.IsValid() {
				wrong.Add(p, "addresses", 0, "virtual address %s is the only address of interface %s: if this host owns it, use priority 255, otherwise give the interface an address of its own beside it", only, p.Interface)
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

// share reports whether two routers have addresses of one family.
func share(a, b *config.Router) bool {
	return slices.ContainsFunc(Families(a), func(f packet.Family) bool { return slices.Contains(Families(b), f) })
}

// CheckAddresses makes sure that an address belongs to one router, and unless its routers
// may wait that nothing on the host keeps one from taking part. What ours says is there because it
// was put there.
func CheckAddresses(routers []*ConfiguredRouter, snapshot []link.Interface, wait bool, ours func(ifindex int, a netip.Addr) bool) error {
	var wrong Error
	if !wait {
		host := HostFacts{Interfaces: snapshot, Ours: ours, Fenced: true} // it is looked at again when that is known
		for _, p := range routers {
			for _, o := range Obstacles(p.Router, host) {
				wrong.Add(p, o.Key, o.Item, "%s", o)
			}
		}
	}
	given := make(map[netip.Addr][]string) // the interfaces
	for _, p := range routers {
		for n, a := range p.Addresses {
			for _, other := range given[a.Addr()] {
				if !a.Addr().IsLinkLocalUnicast() || p.Interface == other {
					wrong.Add(p, "addresses", n, "virtual address %s is given for %s and for %s: an address belongs to one router", a.Addr(), other, p.Interface)
				}
			}
		}
		for _, a := range p.Addresses {
			given[a.Addr()] = append(given[a.Addr()], p.Interface)
		}
	}
	return wrong.OrNil()
}

// virtual returns the addresses that must not be taken for an interface's own: all
// virtual ones, except those that this host owns.
func virtual(routers []*ConfiguredRouter) (all []netip.Addr) {
	for _, r := range routers {
		for _, e := range r.Extra {
			all = append(all, e.Address.Addr())
		}
		for _, a := range r.Addresses {
			if !r.Owner() {
				all = append(all, a.Addr())
			}
		}
	}
	return all
}

// Changes says what changes from one list of routers to another.
func Changes(before, after []config.Router) (all []Change) {
	same := func(a, b *config.Router) bool { return a.Interface == b.Interface && a.VRID == b.VRID && share(a, b) }
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

// Change is one of a configured router.
type Change struct {
	Router  string
	What    string // added, removed, changed or restarted
	Details []string
}
