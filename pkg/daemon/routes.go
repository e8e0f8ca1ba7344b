// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/router"
)

// routing is what goes with the addresses of a Virtual Router.
func (m *member) routing() (r link.Routing) {
	for _, e := range m.config.Elsewhere(m.id.Family) {
		r.Placed = append(r.Placed, link.Placed(e))
	}
	routes, rules := m.config.Routing(m.id.Family)
	for _, n := range routes {
		r.Routes = append(r.Routes, link.Route(n))
	}
	for _, n := range rules {
		r.Rules = append(r.Rules, link.Rule(n))
	}
	return r
}

// guardian tells what becomes of what goes with the virtual addresses, and counts
// what somebody else has removed and was put back.
type guardian struct {
	log     *logrus.Logger
	history *control.History
	failed  map[any]string // the last failure of each, so that it is told once

	mu       sync.Mutex
	restored map[router.ID]uint64
}

func newGuardian(log *logrus.Logger, history *control.History) *guardian {
	return &guardian{log: log, history: history, failed: make(map[any]string), restored: make(map[router.ID]uint64)}
}

// told is called by the worker's goroutine only.
func (g *guardian) told(owner any, missing []fmt.Stringer, err error) {
	id, _ := owner.(router.ID)
	for _, what := range missing {
		g.restore(id, what.String())
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

// restore notes that something of a router is put back.
func (g *guardian) restore(id router.ID, what string) {
	g.mu.Lock()
	g.restored[id]++
	g.mu.Unlock()
	g.event(id, "restored", what+" was removed by somebody else, putting it back")
}

// count returns how often something of a router was put back.
func (g *guardian) count(id router.ID) uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.restored[id]
}

func (g *guardian) event(id router.ID, kind, text string) {
	g.log.WithFields(fields(id)).Warn(text)
	g.history.Add(control.Event{Kind: kind, Interface: id.Interface, Family: id.Family.String(), VRID: int(id.VRID), Text: text})
}
