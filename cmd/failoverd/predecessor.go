// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/migrate"
)

// predecessors returns the Rust failover's file, if there is one where it looks
// for it.
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

// maxTold is how much of a file of the Rust failover the log has.
const maxTold = 100

// load reads a configuration file, which may be the Rust failover's. With a log
// it says there what of such a file is taken otherwise than it was.
func load(path string, log *logrus.Logger) (*config.File, error) {
	f, findings, err := migrate.Load(path)
	if log != nil && err == nil {
		told := 0
		for _, f := range findings {
			if f.Kind == migrate.Unneeded {
				continue
			}
			if told++; told <= maxTold {
				log.Warn(f.String())
			}
		}
		if told > maxTold {
			log.Warnf("and %d more of %s: failoverctl import tells all", told-maxTold, path)
		}
	}
	return f, err
}
