// SPDX-License-Identifier: Apache-2.0

package migrate_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/failoverd/failoverd/pkg/migrate"
)

// A file is run, or the error says what to do with it.
func TestLoad(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		content  string
		findings int
		err      string
	}{
		"failoverd.yaml":   {"routers: [{interface: eth0, vrid: 51, addresses: [192.0.2.10/24]}]", 0, ""},
		"vrrp-config.json": {`{"name": "web", "vrid": 51, "interface_name": "eth0", "ip_addresses": ["192.0.2.10/24"], "colour": 1}`, 2, ""},
		"keepalived.conf":  {"global_defs {\n}\nvrrp_instance a {\n}\n", 0, "keepalived.conf:3: vrrp_instance a has no interface"},
		"wrong.yaml":       {"routers: [{interface: eth0, vrid: 51, addresses: [192.0.2.10/24], vrrp_instance: 1}]", 0, "wrong.yaml:1:"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(c.content), 0o644); err != nil {
				t.Fatal(err)
			}
			f, findings, err := migrate.Load(path, "")
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("the error is %v", err)
				}
				return
			}
			if err != nil || len(f.Routers) != 1 || len(findings) != c.findings {
				t.Errorf("%+v, findings %v, %v", f, findings, err)
			}
		})
	}
}
