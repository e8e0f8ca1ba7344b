// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"
)

// Group is a list of routers that are Active or Backup together.
type Group struct {
	Name    string
	Routers []string // by name
	Hooks   Hooks
	Track   []Use // the checks that each of them depends on

	start   *node
	members []*node
	uses    []*node
}

var groupKeys = slices.Concat([]key[Group]{
	{name: "name", kind: kindText, sample: "gateway", doc: "The group's name in logs and in the status.", required: true, example: "add `name: gateway`", read: func(r *reader, n *node, g *Group) []*node {
		if v, ok := r.text(n, "name"); ok {
			if !isName(v) {
				r.fail(n, "", "%s can't be a name: it is up to 63 letters, digits, dots, dashes and underscores", quote(v))
			}
			g.Name = v
		}
		return nil
	}},
	{name: "routers", kind: kindNames, sample: "[eth0-51]", doc: "The names of its routers. All of them are Active on this host, or none.", required: true, example: "add `routers: [lan, wan]`", read: func(r *reader, n *node, g *Group) []*node {
		for _, item := range r.list(n, "routers", "routers: [lan, wan]") {
			if v, ok := r.text(item, "routers"); ok {
				g.Routers = append(g.Routers, v)
				g.members = append(g.members, item)
			}
		}
		return nil
	}},
	trackKey("each of its routers depends", func(g *Group) *[]Use { return &g.Track }),
}, hookKeysOf(func(g *Group) *Hooks { return &g.Hooks }))

// GroupDifference returns how the hooks of groups that are in both lists differ, by the
// name of the group. Difference tells the members, with each router.
func GroupDifference(before, after []Group) map[string][]string {
	all := make(map[string][]string)
	for i := range after {
		n := slices.IndexFunc(before, func(g Group) bool { return g.Name == after[i].Name })
		if n < 0 {
			continue
		}
		var d differences
		d.addHooks(&before[n].Hooks, &after[i].Hooks)
		if len(d) > 0 {
			all[after[i].Name] = d
		}
	}
	return all
}

func (f *File) readGroups(r *reader, n *node) {
	for _, item := range r.entries(n, "groups", "each group behind a dash:\n          groups:\n            - name: gateway\n              routers: [lan, wan]") {
		var g Group
		g.start = item
		before := r.mistakes.count()
		p := places{keys: make(map[string]*node), items: make(map[string][]*node), unread: make(map[string]bool)}
		mapping := read(r, item, "the group", &g, groupKeys, &p)
		for _, k := range groupKeys {
			if _, there := p.keys[k.name]; k.required && !there && mapping {
				r.fail(item, k.example, "the group has no %s", quote(k.name))
			}
		}
		g.uses = p.items["track"]
		if r.mistakes.count() == before {
			f.Groups = append(f.Groups, g)
		}
	}
}

// connect sets the group of each router, and adds the mistakes of the groups.
func (f *File) connect(r *reader) {
	if len(f.Groups) == 0 {
		return
	}
	names, routers := f.names()
	groups := make(map[string]*node)
	for _, g := range f.Groups {
		if before := groups[g.Name]; before != nil {
			r.fail(g.start, "give each a name of its own", "the group %s is called %s too", r.line(before, g.start), quote(g.Name))
		}
		groups[g.Name] = g.start
		for j, name := range g.Routers {
			k, known := routers[name]
			switch {
			case !known:
				r.fail(g.members[j], r.nearby(name, names), "no router is called %s", quote(name))
			case f.Routers[k].Group != "":
				r.fail(g.members[j], "a router can be in one group only: put all routers that belong together into it", "%s is in the group %s already", quote(name), quote(f.Routers[k].Group))
			case f.Routers[k].Priority == OwnerPriority:
				r.fail(g.members[j], "the owner of the addresses (priority 255) is always Active", "%s can't be in a group", quote(name))
			default:
				f.Routers[k].Group = g.Name
			}
		}
	}
}

// names returns the names of the routers, and the first router of each.
func (f *File) names() (names []string, routers map[string]int) {
	routers = make(map[string]int, len(f.Routers))
	for i, r := range f.Routers {
		names = append(names, r.Name)
		first(routers, r.Name, i)
	}
	return names, routers
}
