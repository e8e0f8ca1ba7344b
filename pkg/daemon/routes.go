// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"github.com/failoverd/failoverd/pkg/link"
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
