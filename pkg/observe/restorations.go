// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"fmt"
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/router"
)

// Restorations logs and counts the addresses, routes, rules and map entries that another program
// removed and failoverd restored. It also logs when that fails.
type Restorations struct {
	log     *logrus.Logger
	history *control.History
	failed  map[any]string // by owner: the error that was last logged

	mu       sync.Mutex
	restored map[router.ID]uint64
}

// NewRestorations returns an empty Restorations.
func NewRestorations(log *logrus.Logger, history *control.History) *Restorations {
	return &Restorations{log: log, history: history, failed: make(map[any]string), restored: make(map[router.ID]uint64)}
}

// Report takes the link worker's report about an owner: what it found missing, or an error. Only
// the worker's goroutine calls it.
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

// Record logs and counts that something of a router is restored.
func (g *Restorations) Record(id router.ID, what string) {
	g.mu.Lock()
	g.restored[id]++
	g.mu.Unlock()
	g.event(id, "restored", what+" was removed by another program, restoring it")
}

// Count returns the number of restorations of a router.
func (g *Restorations) Count(id router.ID) uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.restored[id]
}

// Add adds the restorations of a router by the process before.
func (g *Restorations) Add(id router.ID, n uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.restored[id] += n
}

func (g *Restorations) event(id router.ID, kind, text string) {
	g.log.WithFields(Fields(id)).Warn(text)
	g.history.Add(control.Event{Kind: kind, Interface: id.Interface, Family: id.Family.String(), VRID: int(id.VRID), Text: text})
}
