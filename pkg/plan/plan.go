// SPDX-License-Identifier: Apache-2.0

// Package plan says what a configuration asks of this host: what the host must have for
// each Virtual Router, and what keeps one from taking part, and why. It is pure: it
// doesn't look, wait, or log.
package plan

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// ID names a Virtual Router.
type ID = vrrp.ID

// Router is a configured router that is to run.
type ConfiguredRouter struct {
	config.Router
	Index     int          // in the configuration
	LinkLocal netip.Prefix // if it had to be added to the addresses
	Auth      auth.Settings
}

// Owner reports whether the host owns the addresses: they are on the interface already,
// and are left alone.
func (r *ConfiguredRouter) Owner() bool { return r.Priority == config.OwnerPriority }

// Virtual is a Virtual Router of a plan: a router's addresses of one family. It isn't
// changed once it is made, and a plan that leaves it as it is has the same pointer.
type VirtualRouter struct {
	ID
	Router *ConfiguredRouter
	// Group is the name of the group that it is in: a configured one, or that of the two
	// families of its router; empty for none. An owner is in none, because it is always
	// Active.
	Group string
	// Assigned are put on the interface while it is Active; Fenced are those and, for an
	// owner, the addresses that are there already.
	Assigned []netip.Prefix
	Fenced   []netip.Addr
	Routing  routing.Set // what goes with the addresses
}

// Plan is what is to run.
type Plan struct {
	Routers        []*ConfiguredRouter
	VirtualRouters []*VirtualRouter
	byID           map[ID]*VirtualRouter
	modes          map[string]string // of receiving, by interface
	virtual        []netip.Addr      // which must not be taken for an interface's own
}

// New returns the plan of routers. What is as it was before stays the same; before may be
// nil.
func New(routers []*ConfiguredRouter, before *Plan) *Plan {
	p := &Plan{Routers: routers, byID: make(map[ID]*VirtualRouter), modes: make(map[string]string)}
	for _, r := range routers {
		p.modes[r.Interface] = r.XDPMode
		for _, f := range Families(&r.Router) {
			v := newVirtual(r, f)
			if before != nil {
				if old := before.byID[v.ID]; old != nil && old.same(v) {
					v = old
				}
			}
			p.VirtualRouters = append(p.VirtualRouters, v)
			p.byID[v.ID] = v
		}
	}
	p.virtual = virtual(routers)
	return p
}

// Virtual returns a Virtual Router of the plan, nil if there is none.
func (p *Plan) VirtualRouter(id ID) *VirtualRouter { return p.byID[id] }

// Addresses are all virtual addresses but those that this host owns: they say nothing of an
// interface.
func (p *Plan) Addresses() []netip.Addr { return p.virtual }

// Ordered returns the Virtual Routers in an order that is the same on all runs.
func (p *Plan) Sorted() []*VirtualRouter {
	return slices.SortedFunc(slices.Values(p.VirtualRouters), func(a, b *VirtualRouter) int {
		return cmp.Or(strings.Compare(a.Interface, b.Interface), cmp.Compare(a.VRID, b.VRID), cmp.Compare(a.Family, b.Family))
	})
}

// Families are those that a router has addresses of, each of which is a Virtual Router.
func Families(r *config.Router) (all []packet.Family) {
	for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
		if r.Has(f) {
			all = append(all, f)
		}
	}
	return all
}

func newVirtual(r *ConfiguredRouter, f packet.Family) *VirtualRouter {
	v := &VirtualRouter{ID: ID{Interface: r.Interface, Family: f, VRID: uint8(r.VRID)}, Router: r, Assigned: r.Assigned(f), Group: r.group()}
	for _, a := range append(r.OfFamily(f), r.Extras(f)...) {
		v.Fenced = append(v.Fenced, a.Addr())
	}
	v.Routing.Placed = r.Elsewhere(f)
	v.Routing.Routes, v.Routing.Rules = r.Routing(f)
	return v
}

func (r *ConfiguredRouter) group() string {
	switch {
	case r.Owner():
		return ""
	case r.Group != "":
		return "group " + r.Group
	case r.FamiliesTogether && len(Families(&r.Router)) > 1:
		return "router " + r.Name
	}
	return ""
}

// same reports whether another one asks for the same.
func (v *VirtualRouter) same(o *VirtualRouter) bool {
	return reflect.DeepEqual(&v.Router.Router, &o.Router.Router) && len(auth.Difference(&v.Router.Auth, &o.Router.Auth)) == 0
}

// Restarts says why a change of a router can't be made in place; it is empty if it can.
func RestartReason(a, b *config.Router) string {
	switch {
	case a.Version != b.Version:
		return "version"
	case a.VirtualMAC != b.VirtualMAC:
		return "virtual_mac"
	case (a.Priority == config.OwnerPriority) != (b.Priority == config.OwnerPriority):
		return "ownership"
	case a.XDPMode != b.XDPMode:
		return "xdp_mode"
	case a.Unicast.On() != b.Unicast.On():
		return "unicast"
	}
	return ""
}
