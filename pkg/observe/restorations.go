// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"fmt"
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/router"
)

// Guardian tells what becomes of what goes with the virtual addresses, and counts
// what somebody else has removed and was put back.
type Restorations struct {
	log     *logrus.Logger
	history *control.History
	failed  map[any]string // the last failure of each, so that it is told once

	mu       sync.Mutex
	restored map[router.ID]uint64
}

// NewGuardian is one that has told nothing yet.
func NewRestorations(log *logrus.Logger, history *control.History) *Restorations {
	return &Restorations{log: log, history: history, failed: make(map[any]string), restored: make(map[router.ID]uint64)}
}

// Told is called by the worker's goroutine only.
func (g *Restorations) Report(owner any, missing []fmt.Stringer, err error) {
	id, _ := owner.(router.ID)
	for _, what := range missing {
		g.Record(id, what.String())
	}
	if err == nil {
		delete(g.failed, owner)
		return
	}
	if text := err.Error(); g.failed[owner] != text {
		g.failed[owner] = text
		g.event(id, "routing", text+"; trying again")
	}
}

// Restore notes that something of a router is put back.
func (g *Restorations) Record(id router.ID, what string) {
	g.mu.Lock()
	g.restored[id]++
	g.mu.Unlock()
	g.event(id, "restored", what+" was removed by somebody else, putting it back")
}

// Count returns how often something of a router was put back.
func (g *Restorations) Count(id router.ID) uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.restored[id]
}

func (g *Restorations) event(id router.ID, kind, text string) {
	g.log.WithFields(Fields(id)).Warn(text)
	g.history.Add(control.Event{Kind: kind, Interface: id.Interface, Family: id.Family.String(), VRID: int(id.VRID), Text: text})
}
