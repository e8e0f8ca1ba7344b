// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
)

// sixes has addresses of both families for the hosts and the client.
var sixes = network("eth0", []string{"192.0.2.100/24", "2001:db8::100/64"}, []string{"192.0.2.1/24", "2001:db8::1/64"}, []string{"192.0.2.2/24", "2001:db8::2/64"})

// at is a router with its addresses.
func at(name, ifname string, addresses ...string) watched {
	return watched{name: name, ifname: ifname, addresses: addresses}
}

// absent makes a check of a file fail.
func absent(path string, routers ...string) *failure {
	return &failure{
		fail: func(_ *twins, h *twin) error { return h.node.Do(func() error { return os.Remove(path) }) },
		mend: func(_ *twins, h *twin) error {
			return h.node.Do(func() error { return os.WriteFile(path, nil, 0o644) })
		},
		moves: routers,
	}
}

func sameFiles() []*sameFile {
	// In these files, which are the same on both hosts, no host has a higher priority.
	haproxy := ofSetup("haproxy-pair")
	haproxy.check = &failure{
		fail: func(p *twins, h *twin) error { return p.daemon(h, "haproxy", false) },
		mend: func(p *twins, h *twin) error { return p.daemon(h, "haproxy", true) },
	}
	haproxy.back = false
	haproxy.reload = revision{
		changes: []change{{"    priority 120\n", "    @a priority 90\n    @b priority 120\n"}, {"dev eth0\n", "dev eth0\n        192.0.2.12/24\n"}},
		added:   "eth0 192.0.2.12",
	}
	router := ofSetup("router-pair")
	router.tables = []string{"100"}
	router.reload = revision{
		changes: []change{{"    priority 150\n", "    @a priority 90\n    @b priority 150\n"}, {"        198.51.100.2/24\n", "        198.51.100.2/24\n        198.51.100.20/24\n"}},
		added:   "eth0 198.51.100.20", stays: true,
	}
	cloud := ofSetup("cloud-pair")
	cloud.edits = []change{
		{"    unicast_src_ip 192.0.2.1\n", "    @a unicast_src_ip 192.0.2.1\n    @b unicast_src_ip 192.0.2.2\n"},
		{"        192.0.2.2\n", "        @a 192.0.2.2\n        @b 192.0.2.1\n"},
	}
	cloud.back = false
	cloud.reload = revision{
		changes: []change{{"    priority 101\n", "    @a priority 90\n    @b priority 101\n"}, {"192.0.2.77/32\n", "192.0.2.77/32\n        192.0.2.78/32\n"}},
		added:   "eth0 192.0.2.78",
	}
	dualStack := ofSetup("dual-stack")
	dualStack.back = false
	dualStack.reload = revision{
		changes: []change{{"    priority 110\n", "    @a priority 90\n    @b priority 110\n"}, {"192.0.2.20/24\n", "192.0.2.20/24\n        192.0.2.29/24\n"}},
		added:   "eth0 192.0.2.29", moves: []string{"web"},
	}
	firewall := ofSetup("sync-group")
	firewall.differences = []difference{{" broadcast 198.51.100.255", "", "programs find the broadcast address by the interface's other addresses"}}
	firewall.check = &failure{
		fail: func(p *twins, h *twin) error {
			return onHost(p, h, "ip", "route", "add", "blackhole", "198.51.100.1/32")
		},
		mend: func(p *twins, h *twin) error {
			return onHost(p, h, "ip", "route", "delete", "blackhole", "198.51.100.1/32")
		},
	}
	firewall.reload = revision{
		changes: []change{{"    priority 100\n", "    @a priority 90\n    @b priority 100\n"}, {"scope global\n", "scope global\n        10.1.0.32/16\n"}},
		added:   "eth1 10.1.0.32", stays: true,
	}
	vmac := ofSetup("vmac")
	vmac.edits = []change{{"    priority 255\n", "    @a priority 255\n    @b priority 100\n"}, {"    priority 200\n", "    @a priority 200\n    @b priority 150\n"}}
	vmac.reload = revision{
		changes: []change{{"    @a priority 200\n", "    @a priority 120\n"}, {"192.0.2.40/24\n", "192.0.2.40/24\n        192.0.2.41/24\n"}},
		added:   "eth0 192.0.2.41", moves: []string{"fast"},
	}
	vmac.differences = []difference{{"vrrp.40 ", "eth0 ", "failoverd answers with the virtual MAC on the interface itself"}}

	return []*sameFile{
		haproxy, router, cloud, dualStack, firewall, vmac,
		{
			name: "openshift", swapped: true, wires: []wire{office},
			includes: map[string]string{"checks.inc": `
vrrp_script chk_ocp_lb {
    script "/usr/bin/timeout 9.9 /usr/local/bin/chk_ocp_script.sh"
    interval 1
    timeout 10
    weight 20
    rise 3
    fall 2
}
vrrp_script chk_ocp_both {
    script "/usr/bin/timeout 9.9 /usr/local/bin/chk_ocp_script.sh"
    interval 1
    timeout 10
    weight 5
    rise 3
    fall 2
}
vrrp_script chk_ingress {
    script "/bin/bash -c </dev/tcp/127.0.0.1/1936"
    interval 1
    timeout 10
    weight 20
    rise 3
    fall 2
}
`},
			files:       map[string]string{"/usr/local/bin/chk_ocp_script.sh": "#!/bin/bash\n</dev/tcp/127.0.0.1/1936\n"},
			listens:     "127.0.0.1:1936",
			programs:    []string{"tell"},
			routers:     []watched{at("lab_API", "eth0", "192.0.2.50"), at("lab_INGRESS", "eth0", "192.0.2.51")},
			differences: []difference{{"lab_API BACKUP 40", "lab_API BACKUP 65", "failoverd knows the results of its checks before it takes part"}},
			check:       &failure{fail: (*twins).closes, mend: (*twins).listen},
			reload: revision{
				changes: []change{{"    priority 40\n", "    @a priority 30\n    @b priority 40\n"}, {"        192.0.2.50/32\n", "        192.0.2.50/32\n        192.0.2.52/32\n"}},
				added:   "eth0 192.0.2.52",
			},
		},
		{
			name: "octavia", wires: []wire{sixes}, back: true, tables: []string{"1"},
			files:   map[string]string{"/usr/local/bin/check_script.sh": "#!/bin/sh\ntest -e /run/alive\n", "/run/alive": ""},
			routers: []watched{at("1f2e3d4c5b6a", "eth0", "192.0.2.10", "192.0.2.11", "2001:db8::11")},
			check:   absent("/run/alive"),
			reload: revision{
				changes: []change{{"    @a priority 100\n", "    @a priority 80\n"}, {"        192.0.2.10\n", "        192.0.2.10\n        192.0.2.12\n"}},
				added:   "eth0 192.0.2.12", stays: true, // because host b has nopreempt
			},
		},
		{
			name: "kolla", wires: []wire{office},
			files:   map[string]string{"/usr/local/bin/check_alive.sh": "#!/bin/sh\ntest -e /run/alive\n", "/run/alive": ""},
			routers: []watched{at("kolla_internal_vip_51", "eth0", "192.0.2.77")},
			check:   absent("/run/alive"),
			reload: revision{
				changes: []change{{"    @a priority 32\n", "    @a priority 10\n"}, {"192.0.2.77 dev eth0\n", "192.0.2.77 dev eth0\n        192.0.2.78 dev eth0\n"}},
				added:   "eth0 192.0.2.78", stays: true,
			},
		},
		{
			name: "vyos", wires: []wire{uplink, inner}, back: true, swapped: true,
			programs: []string{"wrapper", "vrrp-script-wrapper", "keepalived-fifo"},
			files:    map[string]string{"/usr/local/bin/check-uplink": "#!/bin/sh\ntest -e /run/alive\n", "/run/alive": ""},
			routers:  []watched{at("outside", "eth0", "198.51.100.2", "198.51.100.5"), at("inside", "eth1", "10.1.0.1")},
			check:    absent("/run/alive"),
			reload: revision{
				changes: []change{{"    @a priority 200\n", "    @a priority 90\n"}, {"198.51.100.2/24\n", "198.51.100.2/24\n        198.51.100.6/24\n"}},
				added:   "eth0 198.51.100.6",
			},
			differences: []difference{{"eth0v10 ", "eth0 ", "failoverd answers with the virtual MAC on the interface itself"}},
		},
		{
			name: "unifi", wires: []wire{network("eth0", []string{"192.0.2.100/24"}, []string{"192.0.2.3/24"}, []string{"192.0.2.4/24"}), inner},
			programs: []string{"shadow-mode"}, files: map[string]string{"/run/ready": "10\n"},
			routers: []watched{at("shadow", "eth0", "192.0.2.1")},
			check: &failure{
				fail: func(_ *twins, h *twin) error { return inFile(h, "/run/ready", "-254\n") },
				mend: func(_ *twins, h *twin) error { return inFile(h, "/run/ready", "10\n") },
			},
			reload: revision{
				changes: []change{{"    priority 100\n", "    @a priority 50\n    @b priority 100\n"}, {"192.0.2.1/24 dev eth0\n", "192.0.2.1/24 dev eth0\n        192.0.2.5/24 dev eth0\n"}},
				added:   "eth0 192.0.2.5", stays: true,
			},
		},
		{
			name: "rhel", path: "../../pkg/migrate/testdata/stock/rhel.conf", wires: []wire{office},
			routers: []watched{at("VI_1", "eth0", "192.0.2.16", "192.0.2.17", "192.0.2.18")},
			reload: revision{
				changes: []change{{"    priority 100\n", "    @a priority 90\n    @b priority 100\n"}, {"        192.0.2.18\n", "        192.0.2.18\n        192.0.2.19\n"}},
				added:   "eth0 192.0.2.19",
			},
		},
		{
			name: "devices", wires: []wire{office, inner}, back: true,
			programs: []string{"gateway-changed"},
			routers:  []watched{at("ETH1", "eth0", "192.0.2.20", "192.0.2.22")},
			reload: revision{
				changes: []change{{"    @a priority 110\n", "    @a priority 90\n"}, {"192.0.2.20/24 dev eth0\n", "192.0.2.20/24 dev eth0\n        192.0.2.23/24 dev eth0\n"}},
				added:   "eth0 192.0.2.23",
			},
		},
		{
			name: "six", wires: []wire{sixes}, back: true,
			programs: []string{"tell"},
			routers:  []watched{at("six", "eth0", "2001:db8::10", "2001:db8::11", "192.0.2.61")},
			reload: revision{
				changes: []change{{"    @a priority 190\n", "    @a priority 90\n"}, {"2001:db8::11/64\n", "2001:db8::11/64\n        2001:db8::12/64\n"}},
				added:   "eth0 2001:db8::12",
			},
		},
		{
			name: "groups", wires: []wire{uplink, inner}, back: true,
			programs: []string{"tell", "changed"}, files: map[string]string{"/run/first": ""},
			routers: []watched{
				at("first_out", "eth0", "198.51.100.11"), at("first_in", "eth1", "10.1.0.11"),
				at("second_out", "eth0", "198.51.100.12"), at("second_in", "eth1", "10.1.0.12"),
			},
			check: absent("/run/first", "first_out", "first_in"),
			reload: revision{
				changes: []change{{"    @a priority 110\n", "    @a priority 90\n"}, {"        10.1.0.12/16\n", "        10.1.0.12/16\n        10.1.0.13/16\n"}},
				added:   "eth1 10.1.0.13", moves: []string{"second_out", "second_in"},
			},
		},
	}
}
