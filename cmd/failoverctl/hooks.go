// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/script"
)

// slowHookSeconds is the running time above which a hook gets a warning.
const slowHookSeconds = 5.0

// hookWarnings returns the problems of a router's hooks. seen has the routers and groups
// that were handled before, because both families of a router share its hooks.
func hookWarnings(r control.Router, now time.Time, seen map[string]bool) []string {
	if seen[r.Name] {
		return nil
	}
	seen[r.Name] = true
	var all []string
	for _, h := range r.Hooks {
		if strings.HasPrefix(h.Setting, "group ") { // the routers of a group share its hooks
			if seen[h.Setting] {
				continue
			}
			seen[h.Setting] = true
		}
		switch {
		case h.RunningFor > slowHookSeconds:
			all = append(all, fmt.Sprintf("%s has been running for %s (%s): %s", h.Setting, seconds(h.RunningFor), h.Running, h.Command))
		case h.Last != nil && h.Last.Outcome != "ok":
			all = append(all, fmt.Sprintf("%s %s ago (%s): %s", h.Setting, age(now.Sub(h.Last.Started)), h.Last.State, ended(h.Last)))
		case h.Last == nil && h.Problem != "":
			all = append(all, h.Setting+": "+h.Problem)
		}
	}
	return all
}

// ended returns the outcome of a run and the last line of its output.
func ended(r *control.HookRun) string {
	if line := (script.Result{Output: []byte(r.Output)}).LastLine(); line != "" {
		return r.Text + ": " + line
	}
	return r.Text
}

// writeHooks writes all details of a router's hooks.
func writeHooks(line func(name, format string, args ...any), r control.Router, now time.Time) {
	for _, h := range r.Hooks {
		switch l := h.Last; {
		case h.Running != "":
			line(h.Setting, "%s, running for %s (%s)", h.Command, seconds(h.RunningFor), h.Running)
		case l == nil && h.Problem != "":
			line(h.Setting, "%s, not run yet: %s", h.Command, h.Problem)
		case l == nil:
			line(h.Setting, "%s, not run yet", h.Command)
		default:
			line(h.Setting, "%s", l.Command)
			line("", "%s ago, took %s: %s", age(now.Sub(l.Started)), seconds(l.Took), l.Text)
			writeOutput(line, l)
		}
	}
	if r.SkippedHooks > 0 {
		line("skipped", "%d state changes, because the next one came before a hook could run", r.SkippedHooks)
	}
}

// outputLines is the number of lines that are shown of a hook's output.
const outputLines = 5

func writeOutput(line func(name, format string, args ...any), l *control.HookRun) {
	lines := strings.Split(strings.TrimSpace(l.Output), "\n")
	if l.Written == 0 {
		return
	}
	if int64(len(l.Output)) < l.Written || len(lines) > outputLines {
		line("", "the end of its %d bytes of output:", l.Written)
	}
	for _, s := range lines[max(len(lines)-outputLines, 0):] {
		line("", "| %s", truncate(script.Result{Output: []byte(s)}.LastLine(), tableWidth))
	}
}
