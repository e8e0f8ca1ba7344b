// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/observe"
)

// unwritten is what a router is told of that takes part though what it changes on the
// host could not be written down: the fence holds what a killed daemon leaves.
func unwritten(err error) observe.Sight {
	return observe.Sight{
		Kind:     control.Journal,
		Text:     fmt.Sprintf("what it changes on this host is not written down: %v", err),
		Remedy:   "make room there, it is tried again; a killed daemon would leave the addresses, which nobody can reach then, and the next start would not remove them",
		Interval: bindRetry,
	}
}

// keepJournal writes down what could not be written before, and tells the routers whose
// changes it may be about. It reports whether that is to be tried again.
func (ps *ports) keepJournal() (again bool) {
	err := ps.journal.Retry()
	if err == nil {
		return false
	}
	for _, p := range ps.all {
		for _, m := range p.routers {
			if m.running && m.noted {
				ps.problems.Note(time.Now(), m.id, unwritten(err))
			}
		}
	}
	return true
}
