// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/routing"
)

// maxNumber is the greatest metric, table or firewall mark: it fits an int of 32 bits.
const maxNumber = 1<<31 - 1

var (
	routeTypes  = []string{"unicast", "blackhole", "unreachable", "prohibit", "throw"}
	routeScopes = []string{"global", "site", "link", "host"}
)

// Routing returns the routes and rules that go with the addresses of one family. If the
// router has addresses of one family only, all go with that.
func (r Router) Routing(f packet.Family) (routes []routing.Route, rules []routing.Rule) {
	with := func(six bool) bool {
		own := packet.IPv4
		if six {
			own = packet.IPv6
		}
		return r.with(own, f)
	}
	for _, route := range r.Routes {
		if with(route.To.Addr().Is6()) {
			routes = append(routes, route)
		}
	}
	for _, rule := range r.Rules {
		if with(rule.IPv6) {
			rules = append(rules, rule)
		}
	}
	return routes, rules
}

// routingProblems returns the problems of the routes and rules.
func (r Router) routingProblems() (all []Problem) {
	add := func(key string, item int, format string, args ...any) {
		all = append(all, Problem{Key: key, Item: item, Text: fmt.Sprintf(format, args...)})
	}
	if r.OwnsAddresses() && len(r.Routes)+len(r.Rules) > 0 {
		key := "routes"
		if len(r.Routes) == 0 {
			key = "rules"
		}
		add(key, 0, "the addresses of their owner (priority 255) stay on the host, so routes and rules would stay too: configure them with the host's network")
	}
	type routeSpot struct {
		to            netip.Prefix
		table, metric int
	}
	routesTwice := repeated(r.Routes, func(n routing.Route) routeSpot { return routeSpot{n.To, n.Table, n.Metric} })
	rulesTwice := repeated(r.Rules, func(n routing.Rule) routing.Rule { return n })
	for i, n := range r.Routes {
		if len(all) > maxProblems {
			break
		}
		six := n.To.Addr().Is6()
		switch {
		case routesTwice[i]:
			add("routes", i, "the route to %s is given twice: give one of them another metric or table", n.To)
		case n.Type != "unicast" && (n.Via.IsValid() || n.Interface != "" || n.Source.IsValid() || n.Onlink):
			add("routes", i, "a route of the type %s has no next hop: remove via, interface, source and onlink", n.Type)
		case n.Via.IsValid() && n.Via.Is6() != six, n.Source.IsValid() && n.Source.Is6() != six:
			add("routes", i, "the route to %s has addresses of both families: use one family", n.To)
		case n.Onlink && (!n.Via.IsValid() || n.Interface == ""):
			add("routes", i, "onlink needs a gateway on an interface: add via and interface")
		case n.Via.Is6() && n.Via.IsLinkLocalUnicast() && n.Interface == "":
			add("routes", i, "the gateway %s is link-local: add the interface it is on", n.Via)
		}
	}
	for i, n := range r.Rules {
		if len(all) > maxProblems {
			break
		}
		switch {
		case rulesTwice[i]:
			add("rules", i, "the rule of priority %d is given twice", n.Priority)
		case n.From.IsValid() && n.To.IsValid() && n.From.Addr().Is6() != n.To.Addr().Is6():
			add("rules", i, "the rule is from %s to %s, which are of different families: use one family", n.From, n.To)
		}
	}
	return all
}

// completeRouting sets the defaults that depend on the router's other keys.
func (r *Router) completeRouting() {
	for i := range r.Routes {
		if n := &r.Routes[i]; n.Type == "unicast" && !n.Via.IsValid() && n.Interface == "" {
			n.Interface = r.Interface
		}
	}
	for i := range r.Rules {
		n := &r.Rules[i]
		switch {
		case n.From.IsValid():
			n.IPv6 = n.From.Addr().Is6()
		case n.To.IsValid():
			n.IPv6 = n.To.Addr().Is6()
		default:
			n.IPv6 = !r.Has(packet.IPv4)
		}
	}
}

// groupsKey returns a key whose value is a list of groups of keys.
func groupsKey[T any](name, doc, what, example, sample string, keys []key[T], first T, field func(*Router) *[]T) key[Router] {
	return key[Router]{name: name, kind: kindGroups, fallback: "[]", doc: doc, below: below(keys), sample: sample, read: func(r *reader, n *node, t *Router) (items []*node) {
		for _, item := range r.list(n, name, example) {
			one, p, before := first, newPlaces(item), r.mistakes.count()
			if read(r, item, what, &one, keys, &p) && r.mistakes.count() == before {
				for _, k := range keys {
					if _, there := p.keys[k.name]; k.required && !there {
						r.fail(item, k.example, "%s has no %s", what, quote(k.name))
					}
				}
			}
			*field(t) = append(*field(t), one)
			items = append(items, r.value(item))
		}
		return items
	}}
}

func routesKey() key[Router] {
	return groupsKey("routes", "Routes that the host has while the router is Active. They are added after the addresses and removed before them, with the protocol number 112 (`ip route show proto 112`). A route that can't be added is tried again and doesn't keep the router from being Active. A route that somebody removes is put back within about a second.", "the route",
		"routes: [{to: 203.0.113.0/24, via: 192.0.2.1}]", "[{to: 0.0.0.0/0, via: 192.0.2.1, table: 100, source: 192.0.2.10}]", routeKeys, routing.Route{Table: MainTable, Type: "unicast"}, func(r *Router) *[]routing.Route { return &r.Routes })
}

func rulesKey() key[Router] {
	return groupsKey("rules", "Routing rules that the host has while the router is Active, handled like its routes.", "the rule",
		"rules: [{from: 192.0.2.10, table: 100, priority: 1000}]", "[{from: 192.0.2.10, table: 100, priority: 1000}]", ruleKeys, routing.Rule{Table: MainTable}, func(r *Router) *[]routing.Rule { return &r.Rules })
}

var routeKeys = limited([]key[routing.Route]{
	need(networkKey("to", "The destination: a network, or a host. All of IPv4 is 0.0.0.0/0, all of IPv6 ::/0.", func(r *routing.Route) *netip.Prefix { return &r.To }), "add `to: 203.0.113.0/24`"),
	hostKey("via", "The gateway.", func(r *routing.Route) *netip.Addr { return &r.Via }),
	textKey("interface", "The output interface. Without `via` the default is the router's own.", func(r *routing.Route) *string { return &r.Interface }),
	hostKey("source", "The preferred source address, for example one of the router's.", func(r *routing.Route) *netip.Addr { return &r.Source }),
	numberKey("metric", "The metric. Of two routes the lower one is used.", 0, maxNumber, "", func(r *routing.Route) *int { return &r.Metric }),
	numberKey("table", "The number of the routing table; 254 is the main one.", 1, maxNumber, "254", func(r *routing.Route) *int { return &r.Table }),
	choiceKey("scope", "The scope.", routeScopes, "", func(r *routing.Route, v string) { r.Scope = v }),
	numberKey("mtu", "The path MTU.", 0, 65535, "", func(r *routing.Route) *int { return &r.MTU }),
	boolKey("onlink", "Take the gateway as one on the link, although it is in no network of the interface.", "false", func(r *routing.Route) *bool { return &r.Onlink }),
	choiceKey("type", "The type of the route. Only `unicast` has a next hop.", routeTypes, "unicast", func(r *routing.Route, v string) { r.Type = v }),
})

var ruleKeys = limited([]key[routing.Rule]{
	networkKey("from", "Packets from this network.", func(r *routing.Rule) *netip.Prefix { return &r.From }),
	networkKey("to", "Packets to this network.", func(r *routing.Rule) *netip.Prefix { return &r.To }),
	numberKey("table", "The number of the routing table that is looked up.", 1, maxNumber, "254", func(r *routing.Rule) *int { return &r.Table }),
	need(numberKey("priority", "The place of the rule: a lower number comes first.", 1, 32765, "", func(r *routing.Rule) *int { return &r.Priority }), "add `priority: 1000`"),
	textKey("iif", "Packets that came in by this interface.", func(r *routing.Rule) *string { return &r.IIF }),
	textKey("oif", "Packets of sockets that are bound to this interface.", func(r *routing.Rule) *string { return &r.OIF }),
	numberKey("fwmark", "Packets with this firewall mark.", 0, maxNumber, "", func(r *routing.Rule) *int { return &r.FWMark }),
})

// limited adds a check of the range to the keys with numbers.
func limited[T any](keys []key[T]) []key[T] {
	for i := range keys {
		k := keys[i]
		if k.kind != kindNumber {
			continue
		}
		keys[i].read = func(r *reader, n *node, t *T) []*node {
			if v, ok := r.number(n, k.name); ok && (v < k.min || v > k.max) {
				r.fail(n, "", "%s is %d: it is %d to %d", quote(k.name), v, k.min, k.max)
			} else if ok {
				return k.read(r, n, t)
			}
			return nil
		}
	}
	return keys
}

func hostKey[T any](name, doc string, field func(*T) *netip.Addr) key[T] {
	return key[T]{name: name, kind: kindText, doc: doc, read: func(r *reader, n *node, t *T) []*node {
		*field(t), _ = r.host(n)
		return nil
	}}
}

func networkKey[T any](name, doc string, field func(*T) *netip.Prefix) key[T] {
	return key[T]{name: name, kind: kindText, doc: doc, read: func(r *reader, n *node, t *T) []*node {
		s, ok := r.text(n, "address")
		if !ok {
			return nil
		}
		p, err := ParseNetwork(s)
		if err != nil {
			r.fail(r.value(n), "", "%s", err)
		}
		*field(t) = p
		return nil
	}}
}

// ParseNetwork parses a network. Without a prefix length it is a host.
func ParseNetwork(s string) (netip.Prefix, error) {
	if s == "default" {
		return netip.Prefix{}, fmt.Errorf("network %s has no family: write 0.0.0.0/0 or ::/0", quote(s))
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%s is not a network: write it like 203.0.113.0/24 or 2001:db8::/32", quote(s))
	}
	if p != p.Masked() {
		return p, fmt.Errorf("network %s has bits behind its prefix length: did you mean %s?", quote(s), p.Masked())
	}
	return p, nil
}
