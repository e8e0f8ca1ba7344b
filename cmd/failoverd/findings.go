// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/migrate"
)

// maxLogged is the maximum number of findings about a foreign file that one reading logs.
const maxLogged = 100

// findingLog logs the findings about the file of another program, each one only once.
type findingLog struct{ logged map[migrate.Finding]bool }

func (l *findingLog) add(log *logrus.Logger, path string, findings []migrate.Finding) {
	if l.logged == nil {
		l.logged = make(map[migrate.Finding]bool)
	}
	n := 0
	for _, f := range findings {
		same := f
		same.Line = 0 // it may move when the file is edited
		if f.Kind == migrate.Unneeded || l.logged[same] {
			continue
		}
		l.logged[same] = true
		if n++; n <= maxLogged {
			log.Warn(f.String())
		}
	}
	if n > maxLogged {
		log.Warnf("and %d more in %s: failoverctl import lists all of them", n-maxLogged, path)
	}
}
