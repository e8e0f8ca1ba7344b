// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/migrate"
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

// maxTold is the maximum number of findings about a foreign file in the log.
const maxTold = 100

// load reads a configuration file, which may be that of the Rust failover. If log isn't
// nil, it logs which settings of such a file behave differently.
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
			log.Warnf("and %d more in %s: failoverctl import lists all of them", told-maxTold, path)
		}
	}
	return f, err
}
