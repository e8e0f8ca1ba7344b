// SPDX-License-Identifier: Apache-2.0

// Package plan decides what a configuration asks of this host: what the host must have for each
// Virtual Router, and what keeps a Virtual Router from taking part. It has no I/O, no clock and
// no log.
package plan

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// ID identifies a Virtual Router.
type ID = vrrp.ID

// ConfiguredRouter is a router of the configuration, completed for this host.
type ConfiguredRouter struct {
	config.Router
	Index     int          // of the router in the configuration
	LinkLocal netip.Prefix // the address that was added because RFC 9568 requires one; zero: none
	Auth      auth.Settings
}

// VirtualRouter is one Virtual Router of a plan: a configured router's addresses of one family.
// It is immutable, and a plan in which it is unchanged has the same pointer.
type VirtualRouter struct {
	ID
	Router *ConfiguredRouter
	// Group is the name of its group: a configured group, or the group of the two families of its
	// router; empty for none. An address owner is in no group, because it is always Active.
	Group string
	// Assigned are the addresses that are added to the interface while it is Active. Fenced are
	// the same and, for an owner, its addresses, which are always on the interface.
	Assigned []netip.Prefix
	Fenced   []netip.Addr
	Routing  routing.Set // routes, rules, labels and addresses on other interfaces that come and go with the addresses
}

// Plan has the routers to run.
type Plan struct {
	Routers        []*ConfiguredRouter
	VirtualRouters []*VirtualRouter
	byID           map[ID]*VirtualRouter
	xdpModes       map[string]string // by interface
	addresses      link.AddressSet   // the result of virtualAddresses
}

// New returns the plan for routers. Virtual Routers that are unchanged since the plan before keep
// their pointer; before may be nil.
func New(routers []*ConfiguredRouter, before *Plan) *Plan {
	p := &Plan{Routers: routers, byID: make(map[ID]*VirtualRouter), xdpModes: make(map[string]string)}
	for _, r := range routers {
		p.xdpModes[r.Interface] = r.XDPMode
		for _, f := range Families(&r.Router) {
			v := newVirtualRouter(r, f)
			if before != nil {
				if old := before.byID[v.ID]; old != nil && old.equal(v) {
					v = old
				}
			}
			p.VirtualRouters = append(p.VirtualRouters, v)
			p.byID[v.ID] = v
		}
	}
	p.addresses = virtualAddresses(routers)
	return p
}

// VirtualRouter returns a Virtual Router of the plan, nil if there is none.
func (p *Plan) VirtualRouter(id ID) *VirtualRouter { return p.byID[id] }

// Addresses returns all virtual addresses except those that this host owns. They don't count as
// an interface's own addresses.
func (p *Plan) Addresses() link.AddressSet { return p.addresses }

// Sorted returns the Virtual Routers sorted by interface, VRID and family.
func (p *Plan) Sorted() []*VirtualRouter {
	return slices.SortedFunc(slices.Values(p.VirtualRouters), func(a, b *VirtualRouter) int {
		return cmp.Or(strings.Compare(a.Interface, b.Interface), cmp.Compare(a.VRID, b.VRID), cmp.Compare(a.Family, b.Family))
	})
}

// Families returns the families of a router's addresses. Each makes one Virtual Router.
func Families(r *config.Router) (all []packet.Family) {
	for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
		if r.Has(f) {
			all = append(all, f)
		}
	}
	return all
}

func newVirtualRouter(r *ConfiguredRouter, f packet.Family) *VirtualRouter {
	v := &VirtualRouter{ID: ID{Interface: r.Interface, Family: f, VRID: uint8(r.VRID)}, Router: r, Assigned: r.Assigned(f), Group: r.group()}
	for _, a := range r.Local(f) {
		v.Fenced = append(v.Fenced, a.Addr())
	}
	v.Routing.Placed, v.Routing.Labels = r.Elsewhere(f), r.Labels
	v.Routing.Routes, v.Routing.Rules = r.Routing(f)
	return v
}

func (r *ConfiguredRouter) group() string {
	switch {
	case r.Priority == config.OwnerPriority:
		return ""
	case r.Group != "":
		return "group " + r.Group
	case r.FamiliesTogether && len(Families(&r.Router)) > 1:
		return "router " + r.Name
	}
	return ""
}

// equal reports whether two Virtual Routers have the same configuration.
func (v *VirtualRouter) equal(o *VirtualRouter) bool {
	return reflect.DeepEqual(&v.Router.Router, &o.Router.Router) && len(auth.Difference(&v.Router.Auth, &o.Router.Auth)) == 0
}

// RestartReason returns the key because of which a router must restart after a change; empty if
// it can be changed in place.
func RestartReason(a, b *config.Router) string {
	switch {
	case (a.Priority == config.OwnerPriority) != (b.Priority == config.OwnerPriority), a.OwnsAddresses() != b.OwnsAddresses():
		return "ownership"
	case a.XDPMode != b.XDPMode:
		return "xdp_mode"
	case a.Unicast.On() != b.Unicast.On():
		return "unicast"
	}
	return ""
}
