// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
)

// predecessors returns the configuration file of the Rust failover, if there is one in the
// places where that looks.
func predecessors() (string, bool) {
	paths := []string{"/etc/failover/vrrp-config.json"}
	if snap := os.Getenv("SNAP_COMMON"); snap != "" {
		paths = []string{filepath.Join(snap, "vrrp-config.json"), paths[0]}
	}
	for _, path := range paths {
		if exists(path) {
			return path, true
		}
	}
	return "", false
}
