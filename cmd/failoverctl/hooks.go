// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/script"
)

// slowHook is from when on a hook that runs is worth a warning.
const slowHook = 5.0

// hookWarnings are what is wrong with a router's hooks, once for both families.
func hookWarnings(r control.Router, now time.Time, told map[string]bool) []string {
	if told[r.Name] {
		return nil
	}
	told[r.Name] = true
	var all []string
	for _, h := range r.Hooks {
		if strings.HasPrefix(h.Setting, "group ") { // all its routers have it
			if told[h.Setting] {
				continue
			}
			told[h.Setting] = true
		}
		switch {
		case h.RunningFor > slowHook:
			all = append(all, fmt.Sprintf("%s has been running for %s (%s): %s", h.Setting, seconds(h.RunningFor), h.Running, h.Command))
		case h.Last != nil && h.Last.Outcome != "ok":
			all = append(all, fmt.Sprintf("%s %s ago (%s): %s", h.Setting, age(now.Sub(h.Last.Started)), h.Last.State, ended(h.Last)))
		case h.Last == nil && h.Problem != "":
			all = append(all, h.Setting+": "+h.Problem)
		}
	}
	return all
}

// ended says how a run has ended, with the last line that it wrote.
func ended(r *control.HookRun) string {
	if line := (script.Result{Output: []byte(r.Output)}).LastLine(); line != "" {
		return r.Text + ": " + line
	}
	return r.Text
}

// writeHooks writes everything about a router's hooks.
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
		line("never told", "%d changes of state, because the next change came first", r.SkippedHooks)
	}
}

// outputLines is how many lines of a hook's output are shown.
const outputLines = 5

func writeOutput(line func(name, format string, args ...any), l *control.HookRun) {
	lines := strings.Split(strings.TrimSpace(l.Output), "\n")
	if l.Written == 0 {
		return
	}
	if int64(len(l.Output)) < l.Written || len(lines) > outputLines {
		line("", "it wrote %d octets, the end is", l.Written)
	}
	for _, s := range lines[max(len(lines)-outputLines, 0):] {
		line("", "| %s", short(script.Result{Output: []byte(s)}.LastLine(), tableWidth))
	}
}
