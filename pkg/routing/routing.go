// SPDX-License-Identifier: Apache-2.0

// Package routing has the types of what comes and goes with the virtual addresses: addresses on
// other interfaces, routes and rules. Package config reads them, package plan passes them on, and
// package link adds them to the host and writes them to the journal. The JSON of these types is
// the journal's format.
package routing

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Route is a route that a host has while a Virtual Router is Active on it. The kernel chooses the
// values of zero fields.
type Route struct {
	To        netip.Prefix `json:"to"`
	Via       netip.Addr   `json:"via,omitzero"`
	Interface string       `json:"interface,omitempty"` // the router's interface if there is no Via
	Source    netip.Addr   `json:"source,omitzero"`
	Metric    int          `json:"metric,omitempty"`
	Table     int          `json:"table"`
	Scope     string       `json:"scope,omitempty"` // global, site, link or host
	MTU       int          `json:"mtu,omitempty"`
	Onlink    bool         `json:"onlink,omitempty"`
	Type      string       `json:"type"` // unicast, blackhole, unreachable, prohibit or throw
}

// Rule is a routing rule that a host has while a Virtual Router is Active on it.
type Rule struct {
	From     netip.Prefix `json:"from,omitzero"`
	To       netip.Prefix `json:"to,omitzero"`
	Table    int          `json:"table"`
	Priority int          `json:"priority"` // 1 to 32765
	IIF      string       `json:"iif,omitempty"`
	OIF      string       `json:"oif,omitempty"`
	FWMark   int          `json:"fwmark,omitempty"` // 0: any
	IPv6     bool         `json:"ipv6,omitempty"`   // the family of From and To, or else of the router's addresses
}

// Placed is an address on an interface. Those of a Set are on other interfaces than the router's.
type Placed struct {
	Address   netip.Prefix `json:"address"`
	Interface string       `json:"interface"`
}

// Set has everything that comes and goes with the addresses of a Virtual Router.
type Set struct {
	Placed []Placed `json:"placed,omitempty"`
	Routes []Route  `json:"routes,omitempty"`
	Rules  []Rule   `json:"rules,omitempty"`
	// Labels are the labels of IPv4 addresses, also of those on the router's own interface,
	// which have no Interface here. They matter only when an address is added, so they are
	// neither in the journal nor compared.
	Labels map[Placed]string `json:"-"`
}

// Sought is a route that a check waits for, whichever program adds it.
type Sought struct {
	Prefix netip.Prefix
	Via    netip.Addr // the zero Addr for any gateway or none
	Table  int
}

// The String methods name all fields that are set, because a reload compares the texts.

func (p Placed) String() string { return fmt.Sprintf("address %s on %s", p.Address, p.Interface) }

func (r Route) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "route to %s in table %d", r.To, r.Table)
	part(&b, "type", r.Type, "unicast")
	part(&b, "via", r.Via, netip.Addr{})
	part(&b, "dev", r.Interface, "")
	part(&b, "src", r.Source, netip.Addr{})
	part(&b, "metric", r.Metric, 0)
	part(&b, "scope", r.Scope, "")
	part(&b, "mtu", r.MTU, 0)
	if r.Onlink {
		b.WriteString(" onlink")
	}
	return b.String()
}

func (r Rule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "rule %d to table %d", r.Priority, r.Table)
	if r.IPv6 {
		b.WriteString(" of IPv6")
	}
	part(&b, "from", r.From, netip.Prefix{})
	part(&b, "to", r.To, netip.Prefix{})
	part(&b, "iif", r.IIF, "")
	part(&b, "oif", r.OIF, "")
	part(&b, "fwmark", r.FWMark, 0)
	return b.String()
}

// part writes a field unless it has its usual value.
func part[T comparable](b *strings.Builder, name string, value, usual T) {
	if value != usual {
		fmt.Fprintf(b, " %s %v", name, value)
	}
}

// Empty reports whether the set has nothing.
func (s Set) Empty() bool { return len(s.Placed)+len(s.Routes)+len(s.Rules)+len(s.Labels) == 0 }

// Equal reports whether two sets have the same elements in the same order, without the labels.
func (s Set) Equal(o Set) bool {
	return slices.Equal(s.Placed, o.Placed) && slices.Equal(s.Routes, o.Routes) && slices.Equal(s.Rules, o.Rules)
}

// Without returns the elements that aren't in the other set.
func (s Set) Without(o Set) Set {
	return Set{Placed: without(s.Placed, o.Placed), Routes: without(s.Routes, o.Routes), Rules: without(s.Rules, o.Rules)}
}

func without[T comparable](all, these []T) []T {
	return slices.DeleteFunc(slices.Clone(all), func(x T) bool { return slices.Contains(these, x) })
}
