// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

func pairExperiments() (all []experiment) {
	const long = 60 * time.Second
	for _, p := range []struct {
		size         string
		ports, vrids int
		interval     time.Duration
		quick        bool
	}{
		{"255 x 10 ms", 1, 255, 10 * time.Millisecond, true},
		{"2,040 x 100 ms", 8, 255, 100 * time.Millisecond, false},
	} {
		for _, e := range environments {
			name, title := "Pair "+p.size, "False takeovers of a pair, "+strings.Replace(p.size, "x", "×", 1)
			if e.name != "" {
				name, title = name+", "+e.name, "The same with "+e.title
			}
			all = append(all, experiment{
				name: name, quick: p.quick && e.name == "", once: true, rank: true, cost: long,
				rows: []row{
					{key: falsely, name: title, target: atMost(0)},
					{key: excused, name: "More of them, for the machine stood still"},
					{key: "time", name: "Time in which these were counted", unit: "s"},
					{key: stalls, name: "Times the machine stood still meanwhile", unit: "stalls"},
				},
				run: func(ctx context.Context, b *bench, c *contender) (values, error) {
					return pair(ctx, b, c, grid(p.ports, p.vrids, 200, p.interval), p.ports, e, b.window(long))
				},
			})
		}
	}
	return all
}

const stalls = "stalls"

// pair lets an Active and a Backup of the same daemon share the processors, and counts
// how often one of the Backup's routers takes over although nobody has failed.
func pair(ctx context.Context, b *bench, c *contender, routers []router, ports int, e environment, long time.Duration) (v values, err error) {
	s, err := newSite(ports, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	a, err := c.run(ctx, s.host, routers, false)
	if err != nil {
		return nil, err
	}
	if _, err := a.wait(ctx, a.active); err != nil {
		return nil, err
	}
	lower := append([]router(nil), routers...)
	for n := range lower {
		lower[n].priority = 100
	}
	backup, err := c.run(ctx, s.wire, lower, false)
	if err != nil {
		return nil, err
	}
	if _, err := backup.wait(ctx, backup.backup); err != nil {
		return nil, err
	}
	if err := e.begin(s, a, backup); err != nil {
		return nil, err
	}
	if err := lab.Pause(ctx, 2*settle); err != nil {
		return nil, err
	}
	// All that comes from the Backup is what it must not send.
	t, err := s.tap(s.host, false, allPorts)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := lab.Pause(ctx, long); err != nil {
		return nil, err
	}
	v = values{"time": long.Seconds(), stalls: float64(len(b.canary.Stalls(began, time.Now())))}
	b.takeovers(v, t.since(0), routers[0].interval)
	return v, nil
}
