// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

const (
	// routing is an address of the router that also has a route and a rule.
	routing = "198.18.0.10"
	// routed is the table of the route and the rule.
	routed = 100
)

// special is the configuration of the routers that differ from the load, each by another
// key. Host a is preferred for all of them.
const special = `global: {notify: [/bin/true]}
tracks:
  - {name: service, tcp: "127.0.0.1:8080", interval: 200ms}
  - {name: process, process: sleep, interval: 200ms}
groups:
  - {name: gateway, routers: [left, right]}
routers:
  - {name: dual, interface: eth0, vrid: 1, priority: %[1]d, interval: 100ms, addresses: [198.18.0.10/24, "2001:db8:0::10/64"], track: [service, process],
     routes: [{to: 203.0.113.0/24, via: 198.18.0.3, interface: eth0, table: %[2]d}], rules: [{from: %[3]s/32, table: %[2]d, priority: 1000}]}
  - {name: left, interface: eth0, vrid: 2, priority: %[1]d, interval: 100ms, addresses: [198.18.0.11/24], extra_addresses: [198.18.0.21/24, "2001:db8::21/64"]}
  - {name: right, interface: eth1, vrid: 3, priority: %[1]d, interval: 100ms, addresses: [198.18.1.11/24], track: [service]}
  - {name: device, interface: eth1, vrid: 4, priority: %[1]d, interval: 100ms, addresses: [198.18.1.12/24], virtual_mac: macvlan}
`

// configuration returns the configuration file of a host. Each reload changes the
// priorities of the load a little, but never which host is preferred.
func (o options) configuration(host, reloads int) string {
	priority := func(of int) int {
		if of == host {
			return 200
		}
		return 100
	}
	var b strings.Builder
	fmt.Fprintf(&b, special, priority(0), routed, routing)
	for n := range o.load {
		fmt.Fprintf(&b, "  - {name: load-%d, interface: %s, vrid: %d, priority: %d, interval: 100ms, addresses: [%s/24]}\n",
			n, interfaces[n%2], 100+n, priority(n/2%2)+reloads%20, loadAddress(n))
	}
	return b.String()
}

func loadAddress(n int) string { return fmt.Sprintf("198.18.%d.%d", n%2, 100+n) }

// addressesOf returns the addresses that a host has while both hosts run.
func (o options) addressesOf(host int) (all []string) {
	if host == 0 {
		all = []string{"198.18.0.10", "2001:db8::10", "fe80::12:1", "198.18.0.11", "198.18.0.21", "2001:db8::21", "198.18.1.11", "198.18.1.12"}
	}
	for n := range o.load {
		if n/2%2 == host {
			all = append(all, loadAddress(n))
		}
	}
	return all
}

// watched is an address that the client asks for, with its LAN and VRID.
type watched struct {
	address   string
	lan, vrid int
}

func (o options) watched() []watched {
	last := o.load - 1
	return []watched{
		{"198.18.0.10", 0, 1},
		{"2001:db8::10", 0, 1},
		{"198.18.0.11", 0, 2},
		{"198.18.0.21", 0, 2},
		{"198.18.1.11", 1, 3},
		{"198.18.1.12", 1, 4},
		{loadAddress(0), 0, 100},
		{loadAddress(last), last % 2, 100 + last},
	}
}
