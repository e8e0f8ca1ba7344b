// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/failoverd/failoverd/pkg/config"
)

// syncedGroup is a vrrp_sync_group.
type syncedGroup struct {
	node    *node
	name    string
	members []string // names of instances
	keys    []pair   // its programs
}

// writeGroups writes the groups of those members that are not commented out.
func (c *collector) writeGroups(b *bytes.Buffer, routers []*router) {
	heading := "\ngroups:\n"
	grouped := make(map[*router]bool)
	names := make(map[string]bool)
	for _, g := range c.synced {
		var members []string
		for _, name := range g.members {
			i := slices.IndexFunc(routers, func(r *router) bool { return r.node != nil && r.node.words[min(1, len(r.node.words)-1)] == name })
			if i < 0 || routers[i].blocked != "" || routers[i].owner || grouped[routers[i]] {
				continue
			}
			grouped[routers[i]] = true
			members = append(members, text(routers[i].name))
		}
		if len(members) == 0 {
			g.leaveOut(b)
			continue
		}
		name := strings.TrimLeft(nameless.ReplaceAllString(g.name, "-"), "._-")
		if name == "" {
			name = "group"
		}
		for base, i := name, 2; names[name]; i++ {
			name = fmt.Sprintf("%s-%d", base, i)
		}
		names[name] = true
		fmt.Fprintf(b, "%s  - name: %s\n    routers: [%s]\n", heading, text(name), strings.Join(members, ", "))
		heading = ""
		for _, p := range g.keys {
			fmt.Fprintf(b, "    %s: %s\n", p.key, p.value)
		}
	}
}

// leaveOut writes the programs of a group without routers as a comment.
func (g *syncedGroup) leaveOut(b *bytes.Buffer) {
	if len(g.keys) == 0 {
		return
	}
	b.WriteByte('\n')
	comment(b, "", "The group "+clean(g.name)+" is left out, for it has no router here. It runs:")
	for _, p := range g.keys {
		fmt.Fprintf(b, "#   %s: %s\n", p.key, p.value)
	}
}

// group notes what the members of sync groups have to know.
func (t *translator) group() {
	in := make(map[string]string)
	for _, g := range t.synced {
		priority, first := 0, ""
		for _, name := range g.members {
			i := slices.IndexFunc(t.instances, func(in *instance) bool { return in.name == name })
			switch {
			case i < 0:
				t.find(g.node, Unknown, "no vrrp_instance is called `%s`", cut(name))
				continue
			case in[name] != "":
				t.find(g.node, Changed, "`%s` is in `%s` already: a router is in one group", cut(name), cut(in[name]))
				continue
			case t.instances[i].priority == config.OwnerPriority:
				t.find(g.node, Changed, "`%s` is the owner of its addresses (priority 255), which is always Active: it is left out of the group", cut(name))
				continue
			}
			in[name] = g.name
			if priority == 0 {
				priority, first = t.instances[i].priority, name
			} else if t.instances[i].priority != priority {
				t.find(g.node, Changed, "`%s` and `%s` have different priorities: give all routers of a group the same, or it waits for the one that hears a better host", cut(first), cut(name))
			}
		}
	}
}
