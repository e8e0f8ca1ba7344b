// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"

	"github.com/sirupsen/logrus"

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

// maxTold is the maximum number of findings about a foreign file that one reading logs.
const maxTold = 100

// teller logs the findings about the file of another program, each one only once.
type teller struct{ told map[migrate.Finding]bool }

func (t *teller) tell(log *logrus.Logger, path string, findings []migrate.Finding) {
	if t.told == nil {
		t.told = make(map[migrate.Finding]bool)
	}
	told := 0
	for _, f := range findings {
		same := f
		same.Line = 0 // it may move when the file is edited
		if f.Kind == migrate.Unneeded || t.told[same] {
			continue
		}
		t.told[same] = true
		if told++; told <= maxTold {
			log.Warn(f.String())
		}
	}
	if told > maxTold {
		log.Warnf("and %d more in %s: failoverctl import lists all of them", told-maxTold, path)
	}
}
