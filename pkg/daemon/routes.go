// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/router"
)

// routing is what goes with the addresses of a Virtual Router.
func (m *member) routing() (r link.Routing) {
	routes, rules := m.config.Routing(m.id.Family)
	for _, n := range routes {
		r.Routes = append(r.Routes, link.Route(n))
	}
	for _, n := range rules {
		r.Rules = append(r.Rules, link.Rule(n))
	}
	return r
}

// routes tells what becomes of routes and rules.
type routes struct {
	log     *logrus.Logger
	history *control.History
	failed  map[any]string // the last failure of each, so that it is told once
}

func newRoutes(log *logrus.Logger, history *control.History) *routes {
	return &routes{log: log, history: history, failed: make(map[any]string)}
}

// told is called by the worker's goroutine only.
func (r *routes) told(owner any, missing []fmt.Stringer, err error) {
	id, _ := owner.(router.ID)
	for _, what := range missing {
		r.event(id, fmt.Sprintf("%s was removed by somebody else, putting it back", what))
	}
	if err == nil {
		delete(r.failed, owner)
		return
	}
	if text := err.Error(); r.failed[owner] != text {
		r.failed[owner] = text
		r.event(id, text+"; trying again")
	}
}

func (r *routes) event(id router.ID, text string) {
	r.log.WithFields(fields(id)).Warn(text)
	r.history.Add(control.Event{Kind: "routing", Interface: id.Interface, Family: id.Family.String(), VRID: int(id.VRID), Text: text})
}
