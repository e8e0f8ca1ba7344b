// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

const (
	mean = "mean"
	p50  = "p50"
	p99  = "p99"
	most = "max"
)

func activeExperiments() []experiment {
	return []experiment{
		{
			name: "Active 100 x 10 ms", quick: true, frr: true, cost: 7 * time.Second,
			rows: []row{{key: cpu, name: "CPU of the daemon as Active, 100 × 10 ms", unit: "% of a core", target: ratio(1.0 / 3)}},
			run:  active(1, 100, 10*time.Millisecond, false, alike),
		},
		{
			name: "Active 1,000 x 100 ms", cost: 7 * time.Second,
			rows: []row{{key: cpu, name: "CPU of the daemon as Active, 1,000 × 100 ms", unit: "% of a core", target: ratio(1.0 / 3)}},
			run:  active(4, 250, 100*time.Millisecond, false, alike),
		},
		{
			name: "Active 1,000 x 100 ms, defaults", setup: defaults, cost: 7*time.Second + secondAnnouncement,
			rows: []row{{key: cpu, name: "CPU of the daemon as Active, 1,000 × 100 ms", unit: "% of a core"}},
			run:  active(4, 250, 100*time.Millisecond, false, defaults),
		},
		{
			name: "Active 1,000 x 10 ms", cost: 14 * time.Second,
			rows: []row{
				{key: cpu, name: "CPU of the daemon as Active, 1,000 × 10 ms", unit: "% of a core", target: ratio(0.5)},
				{key: mean, name: "Mean interval of 1,000 × 10 ms", unit: "ms", target: between(9.95, 10.05)},
			},
			run: active(4, 250, 10*time.Millisecond, true, alike),
		},
		{
			name: "Active 1,000 x 10 ms, defaults", setup: defaults, cost: 7*time.Second + secondAnnouncement,
			rows: []row{{key: cpu, name: "CPU of the daemon as Active, 1,000 × 10 ms", unit: "% of a core"}},
			run:  active(4, 250, 10*time.Millisecond, false, defaults),
		},
		{
			name: "Jitter 255 x 10 ms", quick: true, cost: 14 * time.Second,
			rows: []row{
				{key: p50, name: "Interval jitter as Active, 255 × 10 ms: p50", unit: "ms"},
				{key: p99, name: "Interval jitter as Active, 255 × 10 ms: p99", unit: "ms", target: atMost(1)},
				{key: most, name: "Latest advertisement of them", unit: "ms late", target: atMost(5)},
				{key: "stalled", name: "Left out of these because the machine stood still", unit: "adverts"},
			},
			run: active(1, 255, 10*time.Millisecond, true, alike),
		},
	}
}

// active measures the CPU time of a daemon that is Active of many routers. With rhythm it then
// measures how well the routers of the first interface keep to their interval. It does so
// afterwards because on veth a capture takes some of the sender's time.
func active(ports, vrids int, interval time.Duration, rhythm bool, how setup) func(context.Context, *bench, *contender) (values, error) {
	return func(ctx context.Context, b *bench, c *contender) (v values, err error) {
		s, err := newSite(ports, true)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		d, err := c.settled(ctx, s, grid(ports, vrids, 100, interval), how)
		if err != nil {
			return nil, err
		}
		long := b.window(7 * time.Second)
		if v, err = load(ctx, d, nil, long); err != nil || !rhythm {
			return v, err
		}
		t, err := s.tap(s.wire, false, 0)
		if err != nil {
			return nil, err
		}
		if err := lab.Pause(ctx, long); err != nil {
			return nil, err
		}
		return v, b.rhythm(v, t.since(0), interval, vrids)
	}
}

// rhythm measures the intervals between the advertisements of each router.
func (b *bench) rhythm(v values, seen []sighting, interval time.Duration, routers int) error {
	last := make(map[uint8]int64)
	var gaps, jitter []float64
	latest, stalled := 0.0, 0
	for _, s := range seen {
		if s.kind != advertisement {
			continue
		}
		if at, before := last[s.vrid]; before {
			gap := time.Duration(s.at - at)
			late := (gap - interval).Seconds() * 1e3
			gaps = append(gaps, gap.Seconds()*1e3)
			if gap > 3*interval/2 && len(b.canary.Stalls(time.Unix(0, at), s.time())) > 0 {
				stalled++
			} else {
				latest = max(latest, late)
				jitter = append(jitter, math.Abs(late))
			}
		}
		last[s.vrid] = s.at
	}
	if len(last) != routers || len(jitter) == 0 {
		return fmt.Errorf("%d of %d routers advertised", len(last), routers)
	}
	sum := 0.0
	for _, g := range gaps {
		sum += g
	}
	v[mean] = sum / float64(len(gaps))
	slices.Sort(jitter)
	v[p50], v[p99], v[most] = rank(jitter, 0.5), rank(jitter, 0.99), latest
	v["stalled"] = float64(stalled)
	return nil
}

// rank returns the smallest of the sorted values that a share of them doesn't exceed.
func rank(sorted []float64, share float64) float64 {
	return sorted[max(0, int(math.Ceil(share*float64(len(sorted))))-1)]
}
