// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// group is the name of the group that a Virtual Router is in: a configured one, or
// that of the two families of its router; empty for none. The owner of its
// addresses is in none, for it is always Active.
func (m *member) group() string {
	switch c := m.config; {
	case c.Priority == config.OwnerPriority:
		return ""
	case c.Group != "":
		return "group " + c.Group
	case c.FamiliesTogether && len(families(*c)) > 1:
		return "router " + c.Name
	}
	return ""
}

// regroup looks what keeps the members of groups from taking part, for that keeps
// the others, too. It reports whether that has changed.
func (ps *ports) regroup(snapshot []link.Interface) (changed bool) {
	held := make(map[string]string)
	first := make(map[string]*member)
	for _, p := range ps.all {
		for _, m := range p.routers {
			g := m.group()
			if _, known := held[g]; g == "" || known {
				continue
			}
			if why := ps.keeps(p, m, snapshot); why != "" {
				held[g], first[g] = fmt.Sprintf("%s: %s: %s", g, m.id, why), m
			}
		}
	}
	for _, p := range ps.all {
		for _, m := range p.routers {
			why := held[m.group()]
			if first[m.group()] == m {
				why = ""
			}
			changed = changed || m.held != why
			m.held = why
		}
	}
	return changed
}

// keeps says what keeps a router by itself from taking part; it is empty if nothing
// does.
func (ps *ports) keeps(p *port, m *member, snapshot []link.Interface) string {
	i := p.find(snapshot)
	switch {
	case i == nil:
		return "there is no interface " + p.name
	case p.failed != nil:
		return p.failed.Error()
	case m.failed != nil:
		return m.failed.Error()
	}
	cause, detail := ps.obstacle(m, *i, ps.source(m, *i))
	switch {
	case cause == vrrp.CauseNone:
		return ""
	case detail != "":
		return detail
	}
	return cause.String()
}
