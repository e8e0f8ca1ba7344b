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
	keys    []pair   // the programs of notify
}

// writeGroups writes the groups with the members that aren't commented out.
func (c *collector) writeGroups(b *bytes.Buffer, routers []*router) {
	heading := "\ngroups:\n"
	grouped := make(map[*router]bool)
	names, numbers := make(map[string]bool), make(map[string]int)
	byName := make(map[string]int)
	for i, r := range slices.Backward(routers) {
		if r.node != nil {
			byName[r.node.words[min(1, len(r.node.words)-1)]] = i
		}
	}
	for _, g := range c.synced {
		var members []string
		for _, name := range g.members {
			i, known := byName[name]
			if !known || routers[i].blocked != "" || routers[i].owner || grouped[routers[i]] {
				continue
			}
			grouped[routers[i]] = true
			members = append(members, text(routers[i].name))
		}
		if len(members) == 0 {
			g.leaveOut(b)
			continue
		}
		name := strings.TrimLeft(nameless().ReplaceAllString(g.name, "-"), "._-")
		if name == "" {
			name = "group"
		}
		name = unique(name, names, numbers)
		fmt.Fprintf(b, "%s  - name: %s\n    routers: [%s]\n", heading, text(name), strings.Join(members, ", "))
		heading = ""
		for _, p := range g.keys {
			fmt.Fprintf(b, "    %s: %s\n", p.key, p.value)
		}
	}
}

// unique returns a name that isn't taken, of at most 63 characters, and takes it.
// next has the last number that was tried behind a name.
func unique(base string, taken map[string]bool, next map[string]int) string {
	base = base[:min(len(base), 63)]
	name := base
	for taken[name] {
		next[base] = max(next[base]+1, 2)
		suffix := fmt.Sprintf("-%d", next[base])
		name = base[:min(len(base), 63-len(suffix))] + suffix
	}
	taken[name] = true
	return name
}

// leaveOut writes the programs of a group without routers as a comment.
func (g *syncedGroup) leaveOut(b *bytes.Buffer) {
	if len(g.keys) == 0 {
		return
	}
	b.WriteByte('\n')
	comment(b, "", "The group "+clean(g.name)+" is left out, because none of its routers is here. It runs:")
	for _, p := range g.keys {
		fmt.Fprintf(b, "#   %s: %s\n", p.key, p.value)
	}
}

// group finds the members of sync groups that are left out or don't fit.
func (t *translator) group() {
	in := make(map[string]string)
	byName := t.byName()
	for _, g := range t.synced {
		priority, first := 0, ""
		for _, name := range g.members {
			i, known := byName[name]
			switch {
			case !known:
				t.find(g.node, Doubtful, "no vrrp_instance is called `%s`", cut(name))
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
				t.find(g.node, Changed, "`%s` and `%s` have different priorities: give all routers of a group the same one, or the group waits for the router that hears a better host", cut(first), cut(name))
			}
		}
	}
}

// byName returns the indices of the instances by name. The first of a name wins.
func (t *translator) byName() map[string]int {
	all := make(map[string]int)
	for i, in := range slices.Backward(t.instances) {
		all[in.name] = i
	}
	return all
}
