// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"path/filepath"
	"slices"
	"strings"
)

// Reasons that hooks have.
const (
	noPriorities = "failoverd tells programs of states only; `failoverctl events --follow` shows what changes a priority"
	fifoReader   = "have systemd run it, as a service that is given the FIFO's path and is restarted when it ends"
)

// hook makes a rule of a directive that names a program to run. Its arguments are
// one word with it, in quotes; a user and a group may follow.
func hook(key string) rule {
	return rule{apply: func(t *translator, in *instance, n *node) {
		if command, ok := t.command(n, []string{n.arg(1)}); ok {
			in.hooks = append(in.hooks, pair{key: key, value: command})
			in.hookNodes = append(in.hookNodes, n)
		}
	}}
}

// groupHook is hook for a sync group.
func groupHook(key string) rule {
	return rule{apply: func(t *translator, _ *instance, n *node) {
		command, ok := t.command(n, []string{n.arg(1)})
		if !ok {
			return
		}
		g := t.synced[len(t.synced)-1] // whose block is read
		g.keys = append(g.keys, pair{key: key, value: command})
		t.ownUser(n, "it is run as global.script_user")
	}}
}

// hooks gives a router its programs.
func (t *translator) hooks(in *instance) {
	for i, p := range in.hooks {
		in.router.set(p.key, p.value)
		t.ownUser(in.hookNodes[i], "it is run as global.script_user")
	}
}

// ownUser notes that there is one user for all programs.
func (t *translator) ownUser(n *node, what string) {
	if len(n.words) < 3 {
		return
	}
	user := strings.Join(n.args()[1:], ":")
	if !slices.ContainsFunc(t.globals, func(p pair) bool { return p.key == "script_user" && p.value == text(user) }) {
		t.find(n, Changed, "%s; `%s` is left out", what, cut(user))
	}
}

// fifo takes the path of a FIFO, of which there is one.
func fifo(t *translator, _ *instance, n *node) {
	path := n.arg(1)
	for _, p := range t.globals {
		if p.key == "notify_fifo" {
			t.find(n, Changed, "failoverd has one FIFO, and %s is it: have what reads `%s` read that", p.value, cut(path))
			n.args()
			return
		}
	}
	if !filepath.IsAbs(path) {
		t.find(n, Changed, "left out: `%s` isn't an absolute path", cut(path))
		n.args()
		return
	}
	t.globals = append(t.globals, pair{key: "notify_fifo", value: text(path)})
	t.ownUser(n, "the FIFO is made for global.script_user")
}
