// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

// startup is the time from the execution of a daemon until its last router was Backup.
const startup = "startup"

// rest is the time between a start, or the end of its consequences, and the measurement of the
// memory or of what a Backup costs.
const rest = 10 * time.Second

func startExperiments() []experiment {
	const until = ": execution until the last router's first advertisement, less its Active_Down_Interval"
	one := func(name string, how setup) experiment {
		return experiment{
			name: name, setup: how, cost: 8 * time.Second,
			rows: []row{{key: startup, name: "Start of 1 router" + until, unit: "s"}},
			run:  startUp(1, 1, 5, 100*time.Millisecond, how),
		}
	}
	many := func(name string, how setup) experiment {
		return experiment{
			name: name, setup: how, quick: how == alike, cost: 16 * time.Second,
			rows: []row{
				{key: startup, name: "Start of 4,000 routers on 16 interfaces" + until, unit: "s", target: ratio(1)},
				{key: memory, name: "Memory as Active of 4,000 routers", unit: "MB"},
			},
			run: startUp(16, 250, 1, time.Second, how),
		}
	}
	return []experiment{
		one("Start of 1", alike),
		one("Start of 1, defaults", defaults),
		many("Start of 4,000", alike),
		many("Start of 4,000 with virtual MACs", virtualMACs),
		many("Start of 4,000, defaults", defaults),
	}
}

// startUp starts a daemon several times and measures each start on the wire. A router that
// starts as Backup sends nothing until Active_Down_Interval has passed, so a start took the
// time until the first advertisement less that interval. The last router counts.
func startUp(ports, vrids, times int, interval time.Duration, how setup) func(context.Context, *bench, *contender) (values, error) {
	return func(ctx context.Context, _ *bench, c *contender) (v values, err error) {
		s, err := newSite(ports, true)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		routers := grid(ports, vrids, 100, interval)
		if vrids > 1 {
			// Different priorities spread the takeovers over an interval. Otherwise they
			// would all come at once, and the time that they take would count as well.
			for n := range routers {
				routers[n].priority = routers[n].vrid
			}
		}
		t, err := s.tap(s.wire, false, allPorts)
		if err != nil {
			return nil, err
		}
		var took []float64
		var u lab.Usage
		for range times {
			mark := t.mark()
			d, err := c.run(ctx, s.host, routers, how)
			if err != nil {
				return nil, err
			}
			one, err := d.started(ctx, t, mark)
			if err != nil {
				return nil, err
			}
			took = append(took, one.Seconds())
			if vrids > 1 { // the memory of the start is freed within this time
				if err := lab.Pause(ctx, rest); err != nil {
					return nil, err
				}
			}
			if u, err = d.Usage(); err != nil {
				return nil, err
			}
			if _, err := d.Stop(ctx); err != nil {
				return nil, err
			}
		}
		return values{startup: lab.Median(took), memory: float64(u.Memory) / 1e6}, nil
	}
}

// started waits until all routers have advertised after a mark, and returns how long the start
// took.
func (d *daemon) started(ctx context.Context, t *tap, mark int) (took time.Duration, err error) {
	waiting := make(map[key]router)
	for _, r := range d.routers {
		waiting[r.key()] = r
	}
	err = d.whileAlive(ctx, func(ctx context.Context) error {
		_, err := t.wait(ctx, mark, func(s sighting) bool {
			// Priority 0 comes from the daemon before, which was stopped.
			if r, ok := waiting[s.router()]; ok && s.kind == advertisement && s.priority > 0 {
				took = max(took, s.time().Sub(d.Began)-r.downInterval())
				delete(waiting, s.router())
			}
			return len(waiting) == 0
		})
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("%d of %d routers of %s didn't become Active: %w", len(waiting), len(d.routers), d.name, err)
	}
	return took, nil
}
