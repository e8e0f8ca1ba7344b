// SPDX-License-Identifier: Apache-2.0

package main

import (
	"regexp"
	"slices"
	"testing"
)

// What --only chooses: the experiments of the one table run by themselves, the others only
// where they are named.
func TestOnly(t *testing.T) {
	for _, c := range []struct {
		only                 string
		quick                bool
		experiments, studies int
	}{
		{"", false, len(experiments()), 0},
		{"^Fence$", false, 0, 1},
		{"^Fence", false, 0, 2},
		{"^(Bystander|Checks)$", false, 0, 2},
		{"^Backup 1,000", false, 2, 0},
		{"^Outage|^Checks$", false, 1, 1},
		{"^Outage", true, 0, 0},
		{"nothing of the kind", false, 0, 0},
	} {
		b := &bench{only: regexp.MustCompile(c.only), share: 1, quick: c.quick}
		if e, s := len(b.chosen()), len(b.studies()); e != c.experiments || s != c.studies {
			t.Errorf("--only %q, quick %v: %d experiments and %d with tables of their own, want %d and %d", c.only, c.quick, e, s, c.experiments, c.studies)
		}
	}
	var names []string
	for _, e := range experiments() {
		names = append(names, e.name)
	}
	for _, s := range studies() {
		names = append(names, s.name)
	}
	slices.Sort(names)
	if len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("a name stands for two: %q", names)
	}
}
