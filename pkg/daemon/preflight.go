// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	hostplan "github.com/failoverd/failoverd/pkg/plan"
)

// planned is a router that is to run.
type planned struct {
	config.Router
	index     int          // in the configuration
	linkLocal netip.Prefix // if it had to be added to the addresses
	auth      auth.Settings
}

// ConfigError is what the host finds wrong with a configuration, by the index
// of the router.
type ConfigError struct{ Problems map[int][]config.Problem }

func (e *ConfigError) Error() string {
	var lines []string
	for _, router := range slices.Sorted(maps.Keys(e.Problems)) {
		for _, p := range e.Problems[router] {
			lines = append(lines, p.Text)
		}
	}
	return strings.Join(lines, "\n")
}

// add notes a problem of a router.
func (e *ConfigError) add(p planned, key string, item int, format string, args ...any) {
	if e.Problems == nil {
		e.Problems = make(map[int][]config.Problem)
	}
	e.Problems[p.index] = append(e.Problems[p.index], config.Problem{Key: key, Item: item, Text: fmt.Sprintf(format, args...)})
}

// orNil is the error, if it is one.
func (e *ConfigError) orNil() error {
	if len(e.Problems) == 0 {
		return nil
	}
	return e
}

// makePlan completes the routers and checks them without the host.
func makePlan(routers []config.Router) ([]planned, error) {
	plan := make([]planned, 0, len(routers)) // which is kept
	var wrong ConfigError
	for i, r := range routers {
		p := planned{Router: r, index: i}
		for _, problem := range r.Problems() {
			wrong.add(p, problem.Key, problem.Item, "%s", problem.Text)
		}
		if full, added := r.WithLinkLocal(); added {
			p.Router, p.linkLocal = full, full.Addresses[len(full.Addresses)-1]
		}
		plan = append(plan, p)
	}
	return plan, wrong.orNil()
}

// checkInterfaces checks the plan against the interfaces there are. With wait,
// those that aren't there or have no address yet are waited for.
func checkInterfaces(plan []planned, snapshot []link.Interface, wait bool) error {
	var wrong ConfigError
	type wire struct {
		name string
		vrid int
	}
	same := make(map[wire][]*planned)
	for n := range plan {
		at := wire{plan[n].Interface, plan[n].VRID}
		same[at] = append(same[at], &plan[n])
	}
	all := virtual(plan)
	for _, p := range plan {
		i, err := link.Find(snapshot, p.Interface)
		if err != nil {
			if !wait || i.Kind == link.KindLoopback {
				wrong.add(p, "interface", 0, "%s", err)
			}
			continue
		}
		for _, q := range same[wire{p.Interface, p.VRID}] {
			if q.index < p.index && share(p.Router, q.Router) {
				wrong.add(p, "vrid", 0, "VRID %d exists twice on %s: give each router of an interface a VRID of its own", p.VRID, p.Interface)
			}
		}
		for _, f := range families(p.Router) {
			// Right after boot its link-local address may still be tentative.
			if source(p.Router, i.Settled(), f, all).IsValid() {
				continue
			}
			if given := p.Unicast.Source(f); given.IsValid() {
				if !wait {
					wrong.add(p, "unicast", 0, "the source %s is not on interface %s: add it there, or give another", given, p.Interface)
				}
				continue
			}
			if only := source(p.Router, i.Settled(), f, nil); only.IsValid() {
				wrong.add(p, "addresses", 0, "virtual address %s is the only address of interface %s: if this host owns it, use priority 255, otherwise give the interface an address of its own beside it", only, p.Interface)
				continue
			}
			if wait {
				continue
			}
			what, example := "IPv4", "192.0.2.2/24"
			if f == packet.IPv6 {
				what, example = "IPv6 link-local", "fe80::2/64"
			}
			if f == packet.IPv6 && !onLinkOnly(p.Unicast) {
				what, example = "global IPv6", "2001:db8::2/64"
			}
			wrong.add(p, "interface", 0, "interface %s has no %s address to send advertisements from: give it one of its own, for example ip addr add %s dev %s", p.Interface, what, example, p.Interface)
		}
	}
	return wrong.orNil()
}

// share reports whether two routers have addresses of one family.
func share(a, b config.Router) bool {
	return slices.ContainsFunc(families(a), func(f packet.Family) bool { return slices.Contains(families(b), f) })
}

// checkAddresses makes sure that an address belongs to one router, and unless its routers
// may wait that nothing on the host keeps one from taking part. What ours says is there because it
// was put there.
func checkAddresses(plan []planned, snapshot []link.Interface, wait bool, ours func(ifindex int, a netip.Addr) bool) error {
	var wrong ConfigError
	if !wait {
		host := hostplan.Seen{Interfaces: snapshot, Ours: ours, Fenced: true} // it is looked at again when that is known
		for _, p := range plan {
			for _, o := range hostplan.Obstacles(p.Router, host) {
				wrong.add(p, o.Key, o.Item, "%s", o)
			}
		}
	}
	given := make(map[netip.Addr][]string) // the interfaces
	for _, p := range plan {
		for n, a := range p.Addresses {
			for _, other := range given[a.Addr()] {
				if !a.Addr().IsLinkLocalUnicast() || p.Interface == other {
					wrong.add(p, "addresses", n, "virtual address %s is given for %s and for %s: an address belongs to one router", a.Addr(), other, p.Interface)
				}
			}
		}
		for _, a := range p.Addresses {
			given[a.Addr()] = append(given[a.Addr()], p.Interface)
		}
	}
	return wrong.orNil()
}

// virtual returns the addresses that must not be taken for an interface's own:
// all virtual ones, except those that this host owns.
func virtual(plan []planned) []netip.Addr {
	var all []netip.Addr
	for _, p := range plan {
		for _, e := range p.Extra {
			all = append(all, e.Address.Addr())
		}
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
