// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"path/filepath"
	"slices"
	"strings"
)

// Reasons that several directives about programs share.
const (
	fifoReader = "let systemd run it, as a service that gets the FIFO's path and restarts when it ends"
)

// hook returns the rule of a directive that names a program to run. The program and
// its arguments are one word, in quotes; a user and a group may follow.
func hook(key string) rule {
	return rule{apply: func(t *translator, in *instance, n *node) {
		if command, ok := t.command(n, []string{n.arg(1)}, userOf(n)); ok {
			in.hooks = append(in.hooks, pair{key: key, value: command})
			in.hookNodes = append(in.hookNodes, n)
		}
	}}
}

// groupHook is hook for a sync group.
func groupHook(key string) rule {
	return rule{apply: func(t *translator, _ *instance, n *node) {
		command, ok := t.command(n, []string{n.arg(1)}, userOf(n))
		if !ok {
			return
		}
		g := t.synced[len(t.synced)-1] // whose block is being read
		g.keys = append(g.keys, pair{key: key, value: command})
		t.ownUser(n, runAs)
	}}
}

// priorityChanges is for the changes of priorities in the FIFO. failoverd writes those of all
// routers or of none.
func priorityChanges(t *translator, _ *instance, n *node) {
	const key = "notify_priority_changes"
	on, ok := t.boolean(n)
	if !ok {
		return
	}
	set := slices.ContainsFunc(t.globals, func(p pair) bool { return p.key == key })
	if on && !set {
		t.globals = append(t.globals, pair{key: key, value: "true"})
	}
	if n.parent.name() == "global_defs" {
		return
	}
	routers := 0
	for _, c := range n.parent.parent.block {
		if c.name() == "vrrp_instance" {
			routers++
		}
	}
	switch {
	case on && !set && routers > 1, !on && set:
		t.find(n, Changed, "the FIFO gets the changes of all routers' priorities")
	case !on:
		t.find(n, Unneeded, "the FIFO gets none")
	}
}

// runAs says which user runs a program of notify.
const runAs = "keepalived takes the words behind the program for a user and a group, and doesn't run it if there is no such user. failoverd runs it as the script_user of global, without them. Arguments stand in quotes with the program: \"PROGRAM ARGUMENT\""

// hooks adds the programs to a router.
func (t *translator) hooks(in *instance) {
	for i, p := range in.hooks {
		in.router.set(p.key, p.value)
		t.ownUser(in.hookNodes[i], runAs)
	}
}

// userOf returns the user of a program, with the group: the words behind it.
func userOf(n *node) string {
	return strings.Join(n.words[min(2, len(n.words)):], ":")
}

// ownUser finds a user that isn't the script_user, because all programs have one user.
func (t *translator) ownUser(n *node, what string) {
	user := userOf(n)
	n.args()
	if user != "" && !slices.ContainsFunc(t.globals, func(p pair) bool { return p.key == "script_user" && p.value == text(user) }) {
		t.find(n, Changed, "`%s` is left out: %s", cut(user), what)
	}
}

// fifo takes the path of a FIFO. failoverd has one.
func fifo(t *translator, _ *instance, n *node) {
	path := n.arg(1)
	for _, p := range t.globals {
		if p.key == "notify_fifo" {
			t.find(n, Changed, "failoverd has one FIFO, %s: let the readers of `%s` read that", p.value, cut(path))
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
	if !strings.HasPrefix(path, "/run/failoverd/") {
		t.find(n, Changed, "failoverd's systemd unit writes to /run/failoverd only: name a path there, or allow this one with ReadWritePaths=/run (systemctl edit failoverd). failoverd makes a missing directory below /run")
	}
	t.ownUser(n, "the FIFO belongs to the script_user of global")
}
