// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/failoverd/failoverd/pkg/control"
)

// hooked is a router of both families with a hook of each kind.
func hooked() control.Status {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	run := func(outcome, text, output string, written int64) *control.HookRun {
		return &control.HookRun{
			State: "MASTER", Command: "/etc/h INSTANCE web MASTER 100", Started: now.Add(-90 * time.Second), Took: 0.02,
			Outcome: outcome, Text: text, Output: output, Written: written,
		}
	}
	web := control.Router{
		Name: "web", Interface: "eth0", Family: "ipv4", VRID: 51, State: "Active", Since: now.Add(-2 * time.Minute), Cause: "nobody else was heard", Priority: 100,
		Hooks: []control.Hook{
			{Setting: "notify_active", Command: "/etc/a", Last: run("failed", "exit status 1", "one\ntwo\x1b[31m\n", 13)},
			{Setting: "notify_backup", Command: "/etc/b", Problem: "there is no /etc/b"},
			{Setting: "notify_stop", Command: "/etc/s"},
			{Setting: "notify", Command: "/etc/h", Last: run("ok", "exit status 0", "", 0)},
			{Setting: "global.notify", Command: "/etc/g", Running: "MASTER", RunningFor: 12, Last: run("timeout", "killed at its time limit, after 30s", "", 0)},
		},
		SkippedHooks: 3,
	}
	six := web
	six.Family = "ipv6"
	return control.Status{Now: now, Routers: []control.Router{web, six}, FIFO: &control.FIFO{Path: "/run/f", Written: 7, Lost: 2}}
}

// Problems of hooks are shown below the router, once for both families.
func TestHooksInStatus(t *testing.T) {
	var b strings.Builder
	if err := writeStatus(&b, hooked(), table{width: tableWidth}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(strings.TrimSpace(line), "!") {
			got = append(got, strings.TrimSuffix(line, "\n"))
		}
	}
	want := []string{
		"  ! notify_active 1m30s ago (MASTER): exit status 1: two[31m",
		"  ! notify_backup: there is no /etc/b",
		"  ! global.notify has been running for 12s (MASTER): /etc/g",
		"! /run/f: 2 lines lost, because no program read them in time",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestHooksInDetails(t *testing.T) {
	s := hooked()
	s.Routers = s.Routers[:1]
	var b strings.Builder
	if err := writeDetails(&b, s); err != nil {
		t.Fatal(err)
	}
	words := strings.Join(strings.Fields(b.String()), " ")
	for _, want := range []string{
		"notify_active /etc/h INSTANCE web MASTER 100 1m30s ago, took 20ms: exit status 1 | one | two[31m",
		"notify_backup /etc/b, not run yet: there is no /etc/b",
		"notify_stop /etc/s, not run yet",
		"global.notify /etc/g, running for 12s (MASTER)",
		"skipped 3 state changes",
	} {
		if !strings.Contains(words, want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestHooksInStats(t *testing.T) {
	var b strings.Builder
	s := control.Stats{Hooks: []control.HookStats{{Name: "web", Runs: map[string]uint64{"ok": 4, "failed": 1, "timeout": 0}, Skipped: 2}}}
	if err := writeStats(&b, s, false); err != nil {
		t.Fatal(err)
	}
	words := strings.Join(strings.Fields(b.String()), " ")
	if !strings.Contains(words, "hooks of web failed 1 runs with this outcome ok 4 runs with this outcome skipped 2 state changes") {
		t.Error(b.String())
	}
}
