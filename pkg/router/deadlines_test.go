// SPDX-License-Identifier: Apache-2.0

package router

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

// After any sequence of changes the earliest deadline is first and the places are right.
func TestDeadlines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d deadlines
		all := make([]*virtualRouter, 40)
		for n := range all {
			all[n] = &virtualRouter{slot: -1}
		}
		var in []*virtualRouter
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				r := rapid.SampledFrom(all).Draw(t, "router")
				r.deadline = vrrp.Instant(rapid.IntRange(1, 100).Draw(t, "deadline"))
				d.put(r)
				if !slices.Contains(in, r) {
					in = append(in, r)
				}
			},
			"remove": func(t *rapid.T) {
				r := rapid.SampledFrom(all).Draw(t, "router")
				d.remove(r)
				in = slices.DeleteFunc(in, func(o *virtualRouter) bool { return o == r })
			},
			"": func(t *rapid.T) {
				if len(d.heap) != len(in) {
					t.Fatalf("%d are in, not %d", len(d.heap), len(in))
				}
				if r, at := d.first(); (r == nil) != (len(in) == 0) || r != nil && at != r.deadline {
					t.Fatalf("first is %+v, %v", r, at)
				}
				for _, r := range all {
					if slices.Contains(in, r) != (r.slot >= 0) {
						t.Fatalf("slot %d", r.slot)
					}
				}
				for i, e := range d.heap {
					if r := d.slots[e.slot]; r.slot != e.slot || int(d.places[e.slot]) != i || e.at != r.deadline || e.at < d.heap[0].at {
						t.Fatalf("entry %d is %+v of %+v, first %+v", i, e, r, d.heap[0])
					}
				}
			},
		})
	})
}
