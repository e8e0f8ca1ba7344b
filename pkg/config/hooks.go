// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/failoverd/failoverd/pkg/script"
)

// DefaultNotifyTimeout is the longest time that a hook may run.
const DefaultNotifyTimeout = 30 * time.Second

// Command is a program to run: its absolute path and its arguments.
type Command []string

// String is the command as it is written in the file.
func (c Command) String() string { return script.Join(c) }

// Hooks are the programs to run when the state of a router or a group changes.
type Hooks struct {
	Active, Backup, Fault, Stop Command       // for one state
	LowerPriority               Command       // for advertisements of lower priority, of a router only
	Any                         Command       // for all of them
	Timeout                     time.Duration // 100ms to 1h
}

// commands returns the hooks by their keys.
func (h *Hooks) commands() map[string]Command {
	return map[string]Command{
		"notify": h.Any, "notify_active": h.Active, "notify_backup": h.Backup, "notify_fault": h.Fault, "notify_stop": h.Stop,
		"notify_lower_priority": h.LowerPriority,
	}
}

func timeoutProblem(d time.Duration) string {
	if d < 100*time.Millisecond || d > time.Hour {
		return fmt.Sprintf("notify_timeout %v is out of range: it is 100ms to 1h", d)
	}
	return ""
}

// pathProblem returns the problem of a path, empty for none. The path may be empty.
func pathProblem(key, path, example string) string {
	if path != "" && !filepath.IsAbs(path) {
		return fmt.Sprintf("%s: %s is not an absolute path: write it from the root, like %s", quote(key), quote(path), example)
	}
	return ""
}

// command reads a program with its arguments: a line, or a list of words, which may be
// empty.
func (r *reader) command(n *node, name string) (Command, bool) {
	const example = "write a path with its arguments, like `/etc/failoverd/notify web`"
	var words []string
	switch v := r.value(n); {
	case v == nil:
		return nil, false
	case v.form <= quoted && v.scalarKind() == isText:
		var err error
		if words, err = script.Split(v.text); err != nil {
			r.fail(v, "for a shell write [/bin/sh, -c, 'LINE']", "%s: %s", quote(name), err)
			return nil, false
		}
	case v.form == sequence:
		for item := v.child; item != nil; item = item.next {
			word, ok := r.text(item, name)
			if !ok {
				return nil, false
			}
			words = append(words, word)
		}
	default:
		r.fail(v, example, "%s is %s, where a program is expected", quote(name), kindOf(v))
		return nil, false
	}
	if len(words) == 0 {
		return nil, true
	}
	if words[0] == "" {
		r.fail(r.value(n), example, "%s: no program in it", quote(name))
		return nil, false
	}
	if text := pathProblem(name, words[0], "/etc/failoverd/notify"); text != "" {
		r.fail(r.value(n), "", "%s", text)
		return nil, false
	}
	return words, true
}

func commandKey[T any](name, doc string, field func(*T) *Command) key[T] {
	return key[T]{name: name, kind: kindCommand, doc: doc, read: func(r *reader, n *node, t *T) []*node {
		if v, ok := r.command(n, name); ok {
			*field(t) = v
		}
		return nil
	}}
}

// checked adds a check to a key. It is called only if the value could be read.
func checked[T any](k key[T], problem func(*T) string) key[T] {
	read := k.read
	k.read = func(r *reader, n *node, t *T) []*node {
		before := r.mistakes.count()
		items := read(r, n, t)
		if r.mistakes.count() > before {
			return items
		}
		if text := problem(t); text != "" {
			r.fail(r.value(n), "", "%s", text)
		}
		return items
	}
	return k
}

var hookKeys = append(hookKeysOf(func(r *Router) *Hooks { return &r.Hooks }),
	commandKey("notify_lower_priority", "A program to run when the router is Active and hears an advertisement of lower priority. For example, it takes a cloud's address back that the other host has moved to itself. It runs at most once a second, because every host of the link can cause it, and one run at a time.", func(r *Router) *Command { return &r.Hooks.LowerPriority }))

// hookKeysOf returns the keys of the hooks of a router or a group.
func hookKeysOf[T any](hooks func(*T) *Hooks) []key[T] {
	return []key[T]{
		commandKey("notify", "A program to run at each change of state, after the program for that state: its path with arguments, in one line or as a list. failoverd appends keepalived's arguments: INSTANCE or GROUP, the name, MASTER, BACKUP, FAULT or STOP, and the priority, which is 0 for a group.", func(t *T) *Command { return &hooks(t).Any }),
		commandKey("notify_active", "A program to run when the state becomes Active.", func(t *T) *Command { return &hooks(t).Active }),
		commandKey("notify_backup", "A program to run when the state becomes Backup.", func(t *T) *Command { return &hooks(t).Backup }),
		commandKey("notify_fault", "A program to run when something keeps it from taking part: the interface, an address or a check.", func(t *T) *Command { return &hooks(t).Fault }),
		commandKey("notify_stop", "A program to run when the administrator stops it, or a reload removes it.", func(t *T) *Command { return &hooks(t).Stop }),
		sampled(DefaultNotifyTimeout.String(), checked(durationKey("notify_timeout", "How long each of these programs may run, 100ms to 1h. The default is the `notify_timeout` of `global`.", "", func(t *T) *time.Duration { return &hooks(t).Timeout }),
			func(t *T) string { return timeoutProblem(hooks(t).Timeout) })),
	}
}

var globalHookKeys = []key[Global]{
	commandKey("notify", "A program to run when any router or group changes its state, after its own programs and with the same arguments.", func(g *Global) *Command { return &g.Notify }),
	checked(durationKey("notify_timeout", "How long a program of a `notify` key may run, 100ms to 1h. After that it is killed, with everything that it has started.", "30s", func(g *Global) *time.Duration { return &g.NotifyTimeout }),
		func(g *Global) string { return timeoutProblem(g.NotifyTimeout) }),
	checked(textKey("notify_fifo", "A FIFO that gets a line for each change of state, in keepalived's form: INSTANCE \"web\" MASTER 100. MASTER_RX_LOWER_PRI in place of the state tells that an Active router has heard one of lower priority, at most once a second. failoverd makes it if it doesn't exist. A FIFO of another owner than root or the `script_user` isn't used.", func(g *Global) *string { return &g.NotifyFIFO }),
		func(g *Global) string { return pathProblem("notify_fifo", g.NotifyFIFO, "/run/failoverd/notify.fifo") }),
	boolKey("notify_priority_changes", "Also write changes of a router's priority to the `notify_fifo`, with MASTER_PRIORITY for an Active router and BACKUP_PRIORITY for others.", "false", func(g *Global) *bool { return &g.NotifyPriorityChanges }),
	textKey("script_user", "The user of hooks and script checks: USER or USER:GROUP. The default is the daemon's own user, root.", func(g *Global) *string { return &g.ScriptUser }),
	boolKey("allow_insecure_scripts", "Also run programs that others than root and their user may change, or whose directories others may change.", "false", func(g *Global) *bool { return &g.AllowInsecureScripts }),
}

// addHooks adds the differences between hooks.
func (d *differences) addHooks(a, b *Hooks) {
	x, y := a.commands(), b.commands()
	for _, k := range hookKeys {
		if _, is := x[k.name]; is {
			d.add(k.name, x[k.name], y[k.name])
		}
	}
	d.add("notify_timeout", a.Timeout, b.Timeout)
}
