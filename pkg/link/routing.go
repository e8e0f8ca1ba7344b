// SPDX-License-Identifier: Apache-2.0

package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeProtocol is the origin ("proto") of failoverd's routes and rules. It distinguishes
// them from those of other programs. The value is VRRP's IP protocol number.
const routeProtocol = 112

var routeTypes = map[string]int{
	"unicast": unix.RTN_UNICAST, "blackhole": unix.RTN_BLACKHOLE, "unreachable": unix.RTN_UNREACHABLE,
	"prohibit": unix.RTN_PROHIBIT, "throw": unix.RTN_THROW,
}

var routeScopes = map[string]netlink.Scope{
	"": netlink.SCOPE_UNIVERSE, "global": netlink.SCOPE_UNIVERSE, "site": netlink.SCOPE_SITE,
	"link": netlink.SCOPE_LINK, "host": netlink.SCOPE_HOST,
}

// Place adds an address to its interface, and reports whether it was missing. The label may be
// empty.
func (h *Handle) Place(p routing.Placed, label string) (bool, error) {
	index, there, err := h.find(p)
	if err != nil || there {
		return false, err
	}
	if err := h.assign(placement{index, p.Address, label}); err != nil {
		return false, fmt.Errorf("%s: %w", p, err)
	}
	return true, nil
}

// Unplace removes an address from its interface, and reports whether it still existed.
func (h *Handle) Unplace(p routing.Placed) (bool, error) {
	index, there, err := h.find(p)
	if errors.As(err, &netlink.LinkNotFoundError{}) || err == nil && !there {
		return false, nil
	}
	if err == nil {
		err = h.Release(index, []netip.Prefix{p.Address})
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", p, err)
	}
	return true, nil
}

// find returns the index of the interface, and whether it has the address.
func (h *Handle) find(p routing.Placed) (index int, there bool, err error) {
	l, err := h.h.LinkByName(p.Interface)
	if err != nil {
		return 0, false, err
	}
	all, err := h.list(l.Attrs().Index, family(p.Address.Addr().Is6()))
	return l.Attrs().Index, slices.ContainsFunc(all, func(a netlink.Addr) bool { return address(a).Prefix == p.Address }), err
}

// AddRoute adds a route, and reports whether it was missing.
func (h *Handle) AddRoute(r routing.Route) (bool, error) {
	n, err := h.route(r)
	if err != nil {
		return false, err
	}
	return added(h.h.RouteAdd(n), r)
}

// RemoveRoute removes a route that AddRoute has added, and reports whether it still existed.
// It doesn't remove a similar route of another origin.
func (h *Handle) RemoveRoute(r routing.Route) (bool, error) {
	n, err := h.route(r)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return false, nil // the kernel removed the route together with its interface
	}
	if err != nil {
		return false, err
	}
	return removed(h.h.RouteDel(n), r)
}

// AddRule adds a rule, and reports whether it was missing.
func (h *Handle) AddRule(r routing.Rule) (bool, error) { return added(h.h.RuleAdd(rule(r)), r) }

// RemoveRule removes a rule that AddRule has added, and reports whether it still existed.
func (h *Handle) RemoveRule(r routing.Rule) (bool, error) { return removed(h.h.RuleDel(rule(r)), r) }

func added(err error, what fmt.Stringer) (bool, error) {
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EEXIST):
		return false, nil
	}
	return false, fmt.Errorf("add the %s: %w", what, err)
}

func removed(err error, what fmt.Stringer) (bool, error) {
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV):
		return false, nil
	}
	return false, fmt.Errorf("remove the %s: %w", what, err)
}

func (h *Handle) route(r routing.Route) (*netlink.Route, error) {
	n := &netlink.Route{
		Dst: ipNet(r.To), Table: r.Table, Type: routeTypes[r.Type], Scope: routeScopes[r.Scope],
		Priority: r.Metric, MTU: r.MTU, Protocol: routeProtocol, Family: family(r.To.Addr().Is6()),
	}
	if r.Scope == "" && r.Type == "unicast" && !r.Via.IsValid() && r.To.Addr().Is4() {
		n.Scope = netlink.SCOPE_LINK // the kernel requires it for a route without a gateway
	}
	if r.Via.IsValid() {
		n.Gw = net.IP(r.Via.AsSlice())
	}
	if r.Source.IsValid() {
		n.Src = net.IP(r.Source.AsSlice())
	}
	if r.Onlink {
		n.Flags = int(netlink.FLAG_ONLINK)
	}
	if r.Interface != "" {
		l, err := h.h.LinkByName(r.Interface)
		if err != nil {
			return nil, fmt.Errorf("look for %s, the interface of the %s: %w", r.Interface, r, err)
		}
		n.LinkIndex = l.Attrs().Index
	}
	return n, nil
}

func rule(r routing.Rule) *netlink.Rule {
	n := netlink.NewRule()
	n.Family, n.Table, n.Priority = family(r.IPv6), r.Table, r.Priority
	n.IifName, n.OifName, n.Mark, n.Protocol = r.IIF, r.OIF, uint32(r.FWMark), routeProtocol
	if r.From.IsValid() {
		n.Src = ipNet(r.From)
	}
	if r.To.IsValid() {
		n.Dst = ipNet(r.To)
	}
	return n
}

func family(six bool) int {
	if six {
		return netlink.FAMILY_V6
	}
	return netlink.FAMILY_V4
}

// addRouting adds what is missing, and returns it. If one thing can't be added, it still adds
// the others.
func (h *Handle) addRouting(r routing.Set) (missing []fmt.Stringer, err error) {
	var errs []error
	note := func(what fmt.Stringer, was bool, err error) {
		if was {
			missing = append(missing, what)
		}
		errs = append(errs, err)
	}
	for _, p := range r.Placed {
		was, err := h.Place(p, r.Labels[p])
		note(p, was, err)
	}
	for _, route := range r.Routes {
		was, err := h.AddRoute(route)
		note(route, was, err)
	}
	for _, rule := range r.Rules {
		was, err := h.AddRule(rule)
		note(rule, was, err)
	}
	return missing, errors.Join(errs...)
}

// removeRouting removes what exists, the rules first, and returns a line for each thing that
// it removed.
func (h *Handle) removeRouting(r routing.Set) (lines []string, err error) {
	var errs []error
	note := func(what fmt.Stringer, was bool, err error) {
		if was {
			lines = append(lines, what.String())
		}
		errs = append(errs, err)
	}
	for _, rule := range r.Rules {
		was, err := h.RemoveRule(rule)
		note(rule, was, err)
	}
	for _, route := range r.Routes {
		was, err := h.RemoveRoute(route)
		note(route, was, err)
	}
	for _, p := range r.Placed {
		was, err := h.Unplace(p)
		note(p, was, err)
	}
	return lines, errors.Join(errs...)
}
