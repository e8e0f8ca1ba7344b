// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// find returns the routers that a file has for the interfaces, and nil if there are none.
func TestFind(t *testing.T) {
	const routers = `routers:
  - {name: web, interface: eth0, vrid: 51, addresses: [192.0.2.10/24]}
  - {name: db, interface: eth0, vrid: 52, addresses: [192.0.2.11/24]}
  - {name: uplink, interface: eth1, vrid: 53, addresses: [198.51.100.10/24]}
`
	for name, c := range map[string]struct {
		content    string // empty: no file
		interfaces []string
		required   bool // --config
		want       string
		err        string
	}{
		"all":                           {content: routers, want: "web, db, uplink"},
		"of an interface":               {content: routers, interfaces: []string{"eth0"}, want: "web, db"},
		"of two interfaces":             {content: routers, interfaces: []string{"eth0", "eth1"}, want: "web, db, uplink"},
		"of another interface":          {content: routers, interfaces: []string{"eth2"}},
		"of one that has some, one not": {content: routers, interfaces: []string{"eth0", "eth2"}, err: "no router on interface eth2"},
		"comments":                      {content: "# routers:\n", interfaces: []string{"eth0"}},
		"comments, without interfaces":  {content: "# routers:\n"},
		"no file":                       {interfaces: []string{"eth0"}},
		"a mistake":                     {content: "routers: 1\n", interfaces: []string{"eth0"}, err: "routers"},
		"asked for":                     {content: routers, required: true, interfaces: []string{"eth1"}, want: "uplink"},
		"asked for, another interface":  {content: routers, required: true, interfaces: []string{"eth2"}, err: "no router on interface eth2"},
		"asked for, comments":           {content: "# routers:\n", required: true, err: "nothing is configured yet"},
		"asked for, no file":            {required: true, err: "no configuration file"},
		"keepalived's":                  {content: "vrrp_instance web {\ninterface eth0\nvirtual_router_id 51\nvirtual_ipaddress {\n192.0.2.10\n}\n}\n", required: true, interfaces: []string{"eth0"}, want: "web"},
		"keepalived's, of a balancer":   {content: "virtual_server 192.0.2.10 80 {\n}\n", required: true, err: "there is nothing for failoverd in it"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options{config: filepath.Join(t.TempDir(), "failoverd.yaml"), interfaces: c.interfaces}
			if c.content != "" {
				if err := os.WriteFile(o.config, []byte(c.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			f, err := o.find(c.required)
			got := ""
			if f != nil {
				got = names(f.Routers)
			}
			if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("it runs %q, %v, want %q, %q", got, err, c.want, c.err)
			}
		})
	}
}
