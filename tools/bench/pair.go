// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

const stalls = "stalls"

func pairExperiments() (all []experiment) {
	const long = 20 * time.Second
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
			name, title := "Pair "+p.size, "False takeovers of a pair in 20 s, "+strings.Replace(p.size, "x", "×", 1)
			if e.name != "" {
				name, title = name+", "+e.name, title+", with "+e.title
			}
			all = append(all, experiment{
				name: name, quick: p.quick && e.name == "", extra: e.extra, once: true, rank: e.name != "", cost: long,
				rows: []row{
					{key: falsely, name: title, target: atMost(0)},
					{key: excused, name: "More of them, explained by stalls of the machine"},
					{key: stalls, name: "Stalls of the machine meanwhile"},
				},
				run: func(ctx context.Context, b *bench, c *contender) (values, error) {
					return pair(ctx, b, c, grid(p.ports, p.vrids, 200, p.interval), p.ports, e, b.window(long))
				},
			})
		}
	}
	return all
}

// pair runs an Active and a Backup of the same daemon on the same processors, and counts how
// often a router of the Backup takes over although nothing has failed.
func pair(ctx context.Context, b *bench, c *contender, routers []router, ports int, e environment, long time.Duration) (v values, err error) {
	s, err := newSite(ports, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	// The Backup starts first, because only an Active is seen on the wire.
	lower := append([]router(nil), routers...)
	for n := range lower {
		lower[n].priority = 100
	}
	backup, err := c.run(ctx, s.wire, lower, alike)
	if err != nil {
		return nil, err
	}
	if err := backup.allActive(ctx, s.host); err != nil {
		return nil, err
	}
	active, err := c.run(ctx, s.host, routers, alike)
	if err != nil {
		return nil, err
	}
	if err := active.allActive(ctx, s.wire); err != nil {
		return nil, err
	}
	if err := backup.allBackup(ctx, s.host, lower); err != nil {
		return nil, err
	}
	if err := e.begin(s, active, backup); err != nil {
		return nil, err
	}
	if err := lab.Pause(ctx, 2*settle); err != nil {
		return nil, err
	}
	// A Backup sends nothing, so each advertisement that the Active receives is false.
	t, err := s.tap(s.host, false, allPorts)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := lab.Pause(ctx, long); err != nil {
		return nil, err
	}
	v = values{stalls: float64(len(b.canary.Stalls(began, time.Now())))}
	b.takeovers(v, t.since(0), routers[0].interval)
	return v, nil
}
