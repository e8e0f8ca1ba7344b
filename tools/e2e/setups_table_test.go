// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"time"
)

// network returns a wire with an address for each host, the client's first.
func network(ifname string, client, keepalived, failoverd []string) wire {
	return wire{ifname, map[string][]string{"client": client, "keepalived": keepalived, "failoverd": failoverd}}
}

var (
	office   = network("eth0", []string{"192.0.2.100/24"}, []string{"192.0.2.1/24"}, []string{"192.0.2.2/24"})
	uplink   = network("eth0", []string{"198.51.100.1/24"}, []string{"198.51.100.3/24"}, []string{"198.51.100.4/24"})
	inner    = network("eth1", []string{"10.1.0.100/16"}, []string{"10.1.0.2/16"}, []string{"10.1.0.3/16"})
	dual     = network("eth0", []string{"192.0.2.100/24", "2001:db8::100/64"}, []string{"192.0.2.1/24", "2001:db8::1/64"}, []string{"192.0.2.2/24", "2001:db8::2/64"})
	dualNext = network("eth1", []string{"2001:db8:1::100/64"}, []string{"2001:db8:1::1/64"}, []string{"2001:db8:1::2/64"})
)

// The trials of a set-up, by what its file watches.
var (
	scriptFails = func(h *hosts) {
		h.yields("haproxy dead on keepalived's host", all(h.f), func() { h.daemon(h.k, "haproxy", false) })
		h.yields("haproxy dead on failoverd's host too", all(h.k), func() { h.daemon(h.f, "haproxy", false) })
		h.joins("haproxy back on failoverd's host", all(h.f), func() { h.daemon(h.f, "haproxy", true) })
		h.joins("haproxy back on keepalived's host", all(h.k), func() { h.daemon(h.k, "haproxy", true) })
	}
	noUplink   = shell("ip", "route", "add", "blackhole", "198.51.100.1/32")
	withUplink = shell("ip", "route", "delete", "blackhole", "198.51.100.1/32")
)

var setups = []setup{
	{
		name: "haproxy-pair", wires: []wire{office}, back: true,
		admin:    []edit{{router: "haproxy", from: "priority: 120", to: "priority: 110"}},
		watched:  []watched{{name: "haproxy", ifname: "eth0", vrid: 51, interval: time.Second, addresses: []string{"192.0.2.10", "192.0.2.11"}, needs: []string{"authentication"}}},
		programs: []string{"tell"}, daemons: []string{"haproxy"},
		trials: []trial{
			{"the script fails on keepalived's host", nil, failsOnKeepalived("haproxy dead", endDaemon("haproxy"), startDaemon("haproxy"))},
			{"the script fails on both", []string{"track_script", "vrrp_script"}, scriptFails},
			{"the hook", []string{"notify_master", "script_user"}, callsHook("tell active")},
		},
	},
	{
		name: "router-pair", wires: []wire{uplink, inner}, group: true,
		// Both have nopreempt: the first Active stays Active, with any priority.
		admin: []edit{
			{router: "outside", from: "priority: 150", to: "priority: 100"},
			{router: "inside", from: "priority: 150", to: "priority: 100"},
		},
		watched: []watched{
			{name: "outside", ifname: "eth0", vrid: 10, interval: time.Second, addresses: []string{"198.51.100.2"}},
			{name: "inside", ifname: "eth1", vrid: 11, interval: time.Second, addresses: []string{"10.1.0.1"}},
		},
		programs: []string{"gateway-changed"},
		trials: []trial{
			{"the group without its outside", []string{"vrrp_sync_group"}, failsOnFailoverd("no eth0", pull("eth0"), plug("eth0"))},
			{"the group without its inside", []string{"vrrp_sync_group"}, failsOnFailoverd("no eth1", pull("eth1"), plug("eth1"))},
			{"the route", []string{"virtual_routes"}, showsWhileActive("default via 198.51.100.1 dev eth0", "ip", "route")},
			{"the rule", []string{"virtual_rules"}, showsWhileActive("from 10.1.0.0/16 lookup 100", "ip", "rule")},
			{"the group's hook", []string{"notify", "vrrp_sync_group"}, callsHook("gateway-changed GROUP gateway MASTER")},
		},
	},
	{
		name: "cloud-pair", wires: []wire{office, inner}, back: true,
		admin: []edit{
			{router: "front", from: "priority: 101", to: "priority: 100"},
			{router: "back", from: "priority: 101", to: "priority: 100"},
			// Each is the peer of the other.
			{router: "front", from: "192.0.2.2", to: "192.0.2.X"},
			{router: "front", from: "192.0.2.1", to: "192.0.2.2"},
			{router: "front", from: "192.0.2.X", to: "192.0.2.1"},
		},
		watched: []watched{
			{name: "front", ifname: "eth0", vrid: 77, interval: 2 * time.Second, addresses: []string{"192.0.2.77"}, needs: []string{"unicast_peer"}},
			{name: "back", ifname: "eth1", vrid: 78, interval: time.Second, addresses: []string{"10.1.0.78"}},
		},
		programs: []string{"move-address"},
		trials:   []trial{{"the hook", []string{"notify_master", "unicast_peer"}, callsHook("move-address")}},
	},
	{
		name: "dual-stack", wires: []wire{dual, dualNext}, back: true,
		admin: []edit{
			{router: "web", from: "priority: 110", to: "priority: 100"},
			// The others have no priority, so it is 100.
			{router: "mail", from: "vrid: 21\n", to: "vrid: 21\n    priority: 90\n"},
			{router: "six", from: "vrid: 22\n", to: "vrid: 22\n    priority: 90\n"},
			{router: "six_global", from: "vrid: 23\n", to: "vrid: 23\n    priority: 90\n"},
		},
		watched: []watched{
			{name: "web", ifname: "eth0", vrid: 20, interval: time.Second, addresses: []string{"192.0.2.20"}},
			{name: "mail", ifname: "eth0", vrid: 21, interval: time.Second, addresses: []string{"192.0.2.21"}},
			{name: "six", ifname: "eth1", vrid: 22, six: true, interval: time.Second, addresses: []string{"fe80::22", "2001:db8:1::22"}},
			{name: "six_global", ifname: "eth1", vrid: 23, six: true, interval: time.Second, addresses: []string{"2001:db8:1::23"}, fixed: "it refuses a list with a link-local address that its own doesn't have"},
		},
		trials: []trial{
			{"addresses that aren't advertised", []string{"virtual_ipaddress_excluded"}, showsWhileActive("192.0.2.22/24", "ip", "address")},
			{"those of the other family", []string{"virtual_ipaddress_excluded"}, showsWhileActive("2001:db8::20/64", "ip", "address")},
		},
	},
	{
		name: "sync-group", wires: []wire{uplink, inner}, group: true,
		// preempt_delay is a minute here, so keepalived doesn't preempt.
		admin: []edit{
			{router: "outside", from: "vrid: 30\n", to: "vrid: 30\n    priority: 90\n"},
			{router: "inside", from: "vrid: 31\n", to: "vrid: 31\n    priority: 90\n"},
		},
		watched: []watched{
			{name: "outside", ifname: "eth0", vrid: 30, interval: time.Second, addresses: []string{"198.51.100.30"}},
			{name: "inside", ifname: "eth1", vrid: 31, interval: time.Second, addresses: []string{"10.1.0.31"}},
		},
		// The kernel reports processes in the first network namespace only, and without these
		// reports keepalived watches none.
		without:  "    track_process {\n        conntrackd weight 0\n    }\n",
		programs: []string{"primary-sync", "backup-sync"}, daemons: []string{"conntrackd"},
		files: map[string]string{"/run/maintenance": "0\n"},
		trials: []trial{
			{"the script fails on keepalived's host", nil, failsOnKeepalived("no uplink", noUplink, withUplink)},
			{"the file says maintenance on keepalived's host", nil, failsOnKeepalived("maintenance", writeFile("/run/maintenance", "1\n"), writeFile("/run/maintenance", "0\n"))},
			{"the script fails on failoverd's host", []string{"vrrp_script", "track_script", "vrrp_sync_group"}, failsOnFailoverd("no uplink", noUplink, withUplink)},
			{"the file says maintenance on failoverd's host", []string{"track_file", "vrrp_sync_group"}, failsOnFailoverd("maintenance", writeFile("/run/maintenance", "1\n"), writeFile("/run/maintenance", "0\n"))},
			{"the process is gone on failoverd's host", []string{"vrrp_track_process", "track_process", "vrrp_sync_group"}, failsOnFailoverd("no conntrackd", endDaemon("conntrackd"), startDaemon("conntrackd"))},
			{"the group without its inside", []string{"vrrp_sync_group"}, failsOnFailoverd("no eth1", pull("eth1"), plug("eth1"))},
			{"the hook", []string{"notify_master", "vrrp_sync_group"}, callsHook("primary-sync")},
		},
	},
	{
		name: "vmac", wires: []wire{office, inner}, back: true,
		// Only one host is the owner.
		admin: []edit{{router: "fast", from: "priority: 200", to: "priority: 100"}, {router: "owner", from: "priority: 255", to: "priority: 100"}},
		watched: []watched{
			{name: "fast", ifname: "eth0", vrid: 40, interval: 500 * time.Millisecond, addresses: []string{"192.0.2.40"}},
			{name: "owner", ifname: "eth1", vrid: 41, interval: 250 * time.Millisecond, addresses: []string{"10.1.0.1"}, fixed: "it owns the address"},
		},
	},
}
