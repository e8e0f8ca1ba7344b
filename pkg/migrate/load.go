// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"bytes"

	"github.com/failoverd/failoverd/pkg/config"
)

// keepalivedBlock begins a block of keepalived.conf.
var keepalivedBlock = pattern(`^((vrrp_instance|vrrp_sync_group|vrrp_script|vrrp_track_\w+|global_defs|virtual_server|virtual_server_group)\b[^:\n]*(\n|$)|include[rmwba]?[ \t]+[^ \t:\n])`)

// Load reads a configuration file to run it. That may be the Rust failover's:
// then there are findings about it, at least one. Or it may be keepalived's, of which the lines
// with @ are chosen by id, Options.ConfigID; empty for its default.
func Load(path, id string) (*config.File, []Finding, error) {
	content, err := config.ReadFile(path)
	if err != nil {
		f, err := config.Load(path) // which says it
		return f, nil, err
	}
	switch {
	case LooksLikeFailover(content):
		r, err := Failover(path, content)
		if err != nil {
			return nil, nil, err
		}
		f, err := config.Parse(path+" as translated", r.YAML)
		found := Finding{path, 1, "file", Changed, "it is the Rust failover's, and runs as it is; failoverctl import makes failoverd's of it"}
		return f, append([]Finding{found}, r.Findings...), err
	case looksLikeKeepalived(content):
		return runKeepalived(path, id, content)
	}
	f, err := config.Parse(path, content)
	return f, nil, err
}

// looksLikeKeepalived reports whether a line of a file's content begins a block of
// keepalived.conf.
func looksLikeKeepalived(content []byte) bool {
	for line := range bytes.Lines(content) {
		line = bytes.TrimLeft(line, " \t")
		if bytes.HasPrefix(line, []byte("vrrp_")) || bytes.HasPrefix(line, []byte("global_defs")) || bytes.HasPrefix(line, []byte("virtual_server")) || bytes.HasPrefix(line, []byte("include")) {
			if keepalivedBlock().Match(line[:min(len(line), 1024)]) {
				return true
			}
		}
	}
	return false
}
