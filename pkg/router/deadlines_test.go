// SPDX-License-Identifier: Apache-2.0

package router

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

// Whatever is put, moved and removed, the earliest is first and each router knows its
// place.
func TestDeadlines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d deadlines
		all := make([]*router, 40)
		for n := range all {
			all[n] = &router{heapIndex: -1}
		}
		var in []*router
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
				if !slices.Contains(in, r) {
					return
				}
				d.remove(r)
				in = slices.DeleteFunc(in, func(o *router) bool { return o == r })
			},
			"": func(t *rapid.T) {
				if len(d) != len(in) {
					t.Fatalf("%d are in, not %d", len(d), len(in))
				}
				for _, r := range all {
					if slices.Contains(in, r) != (r.heapIndex >= 0) {
						t.Fatalf("index %d", r.heapIndex)
					}
				}
				for i, e := range d {
					if e.router.heapIndex != i || e.at != e.router.deadline || e.at < d[0].at {
						t.Fatalf("entry %d is %+v, first %+v", i, e, d[0])
					}
				}
			},
		})
	})
}
