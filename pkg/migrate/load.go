// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"fmt"
	"os"
	"regexp"

	"github.com/failoverd/failoverd/pkg/config"
)

// keepalivedBlock begins a block of keepalived.conf.
var keepalivedBlock = regexp.MustCompile(`(?m)^\s*(vrrp_instance|vrrp_sync_group|vrrp_script|global_defs|virtual_server)\b[^:\n]*$`)

// Load reads a configuration file to run it. That may be the Rust failover's:
// then there are findings about it, at least one. keepalived's has to be
// imported.
func Load(path string) (*config.File, []Finding, error) {
	content, err := os.ReadFile(path)
	switch {
	case err == nil && LooksLikeFailover(content):
		r, err := Failover(path, content)
		if err != nil {
			return nil, nil, err
		}
		f, err := config.Parse(path+" as translated", r.YAML)
		found := Finding{path, 1, "file", Changed, "it is the Rust failover's, and runs as it is; failoverctl import makes failoverd's of it"}
		return f, append([]Finding{found}, r.Findings...), err
	case err == nil && keepalivedBlock.Match(content):
		return nil, nil, fmt.Errorf("%s is keepalived's: make failoverd's of it with failoverctl import -o %s %s", path, config.DefaultPath, path)
	}
	f, err := config.Load(path)
	return f, nil, err
}
