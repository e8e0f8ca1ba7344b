// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/failoverd/failoverd/tools/lab"
)

func routedFile(priority int, routing string) string {
	return fmt.Sprintf(`
routers:
  - name: web
    interface: eth0
    vrid: 51
    priority: %d
    interval: 200ms
    addresses: [198.18.0.10/24]
%s`, priority, routing)
}

// routed lists failoverd's routes and rules on a node.
func (s *site) routed(n *lab.Node) string {
	s.t.Helper()
	all := []string{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, rules := s.ours(n, family)
		for _, r := range routes {
			all = append(all, fmt.Sprintf("%s table %d", r.Dst, r.Table))
		}
		for _, r := range rules {
			all = append(all, fmt.Sprintf("rule %d table %d", r.Priority, r.Table))
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// ours returns failoverd's routes and rules of one family.
func (s *site) ours(n *lab.Node, family int) (routes []netlink.Route, rules []netlink.Rule) {
	s.t.Helper()
	routes, err := n.Netlink().RouteListFiltered(family, &netlink.Route{Protocol: 112, Table: 0}, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	s.ok(err)
	all, err := n.Netlink().RuleList(family)
	s.ok(err)
	for _, r := range all {
		if r.Protocol == 112 {
			rules = append(rules, r)
		}
	}
	return routes, rules
}

func (s *site) waitRouted(n *lab.Node, want string) {
	s.t.Helper()
	for s.routed(n) != want {
		if s.ctx.Err() != nil {
			s.t.Fatalf("%s has %q, want %q", n.Name, s.routed(n), want)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Routes and rules are on the Active, are added again if another program removes them, and are
// nowhere else, however the Active ends.
func TestRoutes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const routing = `    routes:
      - {to: 203.0.113.0/24, via: 198.18.0.99, source: 198.18.0.10, metric: 7, mtu: 1400}
      - {to: 0.0.0.0/0, via: 192.0.2.1, interface: eth0, onlink: true, table: 100}
      - {to: 198.51.100.0/24, type: blackhole}
      - {to: "2001:db8:5::/48", via: "2001:db8::99", interface: eth0, metric: 9}
    rules:
      - {from: 198.18.0.10, table: 100, priority: 1000}
      - {from: "2001:db8:5::/48", iif: eth0, table: 101, priority: 1001}
`
	const all = "0.0.0.0/0 table 100, 198.51.100.0/24 table 254, 2001:db8:5::/48 table 254, 203.0.113.0/24 table 254, rule 1000 table 100, rule 1001 table 101"
	b := s.withFile(s.b, routedFile(100, routing))
	b.router("web", "ipv4", inState("Active"))
	s.waitRouted(s.b, all)
	a := s.withFile(s.a, routedFile(200, routing))
	a.router("web", "ipv4", inState("Active"))
	s.waitRouted(s.a, all)
	s.waitRouted(s.b, "")

	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, rules := s.ours(s.a, family)
		for _, r := range routes {
			s.ok(s.a.Netlink().RouteDel(&r))
		}
		for _, r := range rules {
			s.ok(s.a.Netlink().RuleDel(&r))
		}
	}
	s.waitRouted(s.a, all)

	a.write(routedFile(200, "    routes: [{to: 198.51.100.0/25, type: blackhole}]\n"))
	a.reload()
	s.waitRouted(s.a, "198.51.100.0/25 table 254")
	a.write(routedFile(200, routing))
	a.reload()
	s.waitRouted(s.a, all)

	s.ok(a.Signal(syscall.SIGKILL))
	<-a.Done()
	s.waitRouted(s.b, all)
	s.waitRouted(s.a, all) // no daemon removes them now
	a = s.withFile(s.a, routedFile(50, routing))
	a.router("web", "ipv4", inState("Backup"))
	s.waitRouted(s.a, "")

	if _, err := b.Stop(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.waitRouted(s.a, all)
	s.waitRouted(s.b, "")
}
