// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

const (
	advert50, advert99     = "advert50", "advert99"
	announce50, announce99 = "announce50", "announce99"
	aside                  = "aside"
)

func failoverExperiments() []experiment {
	rows := func(what string, p50, p99, announced target) []row {
		return []row{
			{key: advert50, name: "First advertisement after the deadline, " + what + ": p50", unit: "ms", target: p50},
			{key: advert99, name: "First advertisement after the deadline, " + what + ": p99", unit: "ms", target: p99},
			{key: announce50, name: "First gratuitous ARP after the deadline, " + what + ": p50", unit: "ms", target: p50},
			{key: announce99, name: "First gratuitous ARP after the deadline, " + what + ": p99", unit: "ms", target: announced},
			{key: aside, name: "Left out of these because the machine stood still", unit: "takeovers"},
		}
	}
	crowded := atMost(2)
	crowded.ratio = 1
	return []experiment{
		{
			name: "Failover 10 ms", quick: true, frr: true, once: true, cost: 30 * time.Second,
			rows: rows("10 ms", ratio(1), ratio(2), ratio(2)), run: failover(10*time.Millisecond, 0, 100, alike),
		},
		{
			name: "Failover 10 ms, defaults", setup: defaults, once: true, cost: 30*time.Second + secondAnnouncement,
			rows: rows("10 ms", target{}, target{}, target{}), run: failover(10*time.Millisecond, 0, 100, defaults),
		},
		{
			name: "Failover 100 ms", frr: true, once: true, cost: 45 * time.Second,
			rows: rows("100 ms", ratio(1), ratio(2), ratio(2)), run: failover(100*time.Millisecond, 0, 40, alike),
		},
		{
			name: "Failover 10 ms beside 250", cost: 15 * time.Second,
			rows: rows("10 ms, 250 others at 10 ms", target{}, crowded, crowded), run: failover(10*time.Millisecond, 250, 50, alike),
		},
	}
}

// failover measures takeovers, one after the other: the wire is the Active of one router, falls
// silent, and returns. With others, the daemon has more routers on another interface. It is
// Active of one half of them and Backup of the other half.
func failover(interval time.Duration, others, takeovers int, how setup) func(context.Context, *bench, *contender) (values, error) {
	return func(ctx context.Context, b *bench, c *contender) (v values, err error) {
		s, err := newSite(2, true)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		measured := grid(1, 1, 100, interval)
		crowd := grid(2, others, 100, interval)[others:]
		d, err := c.settled(ctx, s, slices.Concat(measured, crowd), how)
		if err != nil {
			return nil, err
		}
		if others > 0 {
			if _, err := s.play(crowd[:others/2]); err != nil {
				return nil, err
			}
		}
		pace, err := s.play(measured)
		if err != nil {
			return nil, err
		}
		if err := d.allBackup(ctx, s.wire, slices.Concat(measured, crowd[:others/2])); err != nil {
			return nil, err
		}
		t, err := s.tap(s.wire, true, 0)
		if err != nil {
			return nil, err
		}
		rounds := max(10, int(float64(takeovers)*b.share))
		var adverts, announcements []float64
		stalled := 0
		for range rounds {
			began := time.Now()
			mark, err := t.heardAlone(ctx)
			if err != nil {
				return nil, err
			}
			pace.Silence(true)
			advert, announced, err := takeover(ctx, t, mark, measured[0].downInterval())
			pace.Silence(false)
			if err != nil {
				return nil, fmt.Errorf("%w; %s wrote:\n%s", err, c.name, d.Output())
			}
			if len(b.canary.Stalls(began, time.Now())) > 0 {
				stalled++
			} else {
				adverts, announcements = append(adverts, advert), append(announcements, announced)
			}
			// The daemon becomes Backup again, and the next silence begins at another phase
			// of the interval.
			if err := lab.Pause(ctx, 100*time.Millisecond+2*interval+rand.N(interval)); err != nil {
				return nil, err
			}
		}
		if len(adverts) == 0 {
			return nil, errors.New("the machine stood still in each takeover")
		}
		slices.Sort(adverts)
		slices.Sort(announcements)
		return values{
			advert50: rank(adverts, 0.5), advert99: rank(adverts, 0.99),
			announce50: rank(announcements, 0.5), announce99: rank(announcements, 0.99), aside: float64(stalled),
		}, nil
	}
}

// heardAlone waits until five advertisements in a row have come from the wire, and returns the
// mark of the last one.
func (t *tap) heardAlone(ctx context.Context) (mark int, err error) {
	mark = t.mark()
	begin, alone := mark, 0
	_, err = t.wait(ctx, begin, func(s sighting) bool {
		mark++
		if s.kind == advertisement {
			alone++
			if !s.out {
				alone = 0
			}
		}
		return alone == 5
	})
	return mark - 1, err
}

// takeover waits for a takeover and returns how long after the deadline, in ms, the first
// advertisement and the first gratuitous ARP came. The deadline is Active_Down_Interval after
// the last advertisement of the former Active.
func takeover(ctx context.Context, t *tap, mark int, down time.Duration) (advert, announced float64, err error) {
	var last, first, arp int64
	if _, err := t.wait(ctx, mark, func(s sighting) bool {
		switch {
		case s.kind == advertisement && s.out:
			last = s.at
		case s.kind == advertisement && s.priority > 0 && first == 0:
			first = s.at
		case s.kind == announcement && !s.out && arp == 0:
			arp = s.at
		}
		return first != 0 && arp != 0
	}); err != nil {
		return 0, 0, err
	}
	if last == 0 {
		return 0, 0, errors.New("the Active sent no advertisement before it fell silent")
	}
	deadline := last + int64(down)
	return float64(first-deadline) / 1e6, float64(arp-deadline) / 1e6, nil
}
