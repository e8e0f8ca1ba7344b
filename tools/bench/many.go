// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/failoverd/failoverd/tools/lab"
)

func manyExperiments() []experiment {
	return []experiment{
		{
			name: "Takeover of 1,000 addresses", cost: 4 * time.Second,
			rows: []row{
				{key: "others", name: "Takeover of 1,000 addresses: longest gap of 20 other routers", unit: "intervals of 100 ms", target: atMost(1.5)},
				{key: "held", name: "The same: until the interface has the last address", unit: "ms", target: ratio(1)},
				{key: "last", name: "The same: until the last address is announced", unit: "ms", target: ratio(1)},
			},
			run: takeoverOfMany,
		},
	}
}

// takeoverOfMany measures what happens when the Active of four routers with 250 addresses each
// falls silent, while the daemon is Active of other routers on another interface.
func takeoverOfMany(ctx context.Context, _ *bench, c *contender) (v values, err error) {
	s, err := newSite(2, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	const interval, each, others = 100 * time.Millisecond, 250, 20
	many := grid(1, 4, 100, interval)
	for n := range many {
		many[n].addresses = nil
		for host := 1; host <= each; host++ {
			many[n].addresses = append(many[n].addresses, fmt.Sprintf("%s/20", address(0, 1+n, host)))
		}
	}
	d, err := c.settled(ctx, s, slices.Concat(many, grid(2, others, 100, interval)[others:]), alike)
	if err != nil {
		return nil, err
	}
	pace, err := s.play(many)
	if err != nil {
		return nil, err
	}
	if err := d.allBackup(ctx, s.wire, many); err != nil {
		return nil, err
	}
	t, err := s.tap(s.wire, true, allPorts)
	if err != nil {
		return nil, err
	}
	if err := lab.Pause(ctx, settle); err != nil {
		return nil, err
	}
	held, done, err := s.watchAddresses(len(many) * each)
	if err != nil {
		return nil, err
	}
	defer done()
	pace.Silence(true)
	var lastSent int64
	announced := make(map[uint32]bool)
	last, err := t.wait(ctx, 0, func(s sighting) bool {
		switch {
		case s.kind == advertisement && s.out:
			lastSent = s.at
		case s.kind == announcement && !s.out && s.port == 0:
			announced[s.address] = true
		}
		return len(announced) == len(many)*each
	})
	if err != nil {
		return nil, fmt.Errorf("%d of %d addresses were announced: %w", len(announced), len(many)*each, err)
	}
	var has time.Time
	select {
	case has = <-held:
	case <-ctx.Done():
		return nil, fmt.Errorf("the interface doesn't have all addresses: %w", ctx.Err())
	}
	if err := lab.Pause(ctx, time.Second); err != nil {
		return nil, err
	}
	before := make(map[uint8]int64)
	latest := 0.0
	for _, s := range t.since(0) {
		if s.kind != advertisement || s.out || s.port != 1 {
			continue
		}
		if at, ok := before[s.vrid]; ok {
			latest = max(latest, float64(s.at-at)/float64(interval))
		}
		before[s.vrid] = s.at
	}
	if len(before) != others {
		return nil, fmt.Errorf("%d of %d other routers advertised", len(before), others)
	}
	since := func(at int64) float64 { return float64(at-lastSent-int64(many[0].downInterval())) / 1e6 }
	return values{"others": latest, "held": since(has.UnixNano()), "last": since(last.at)}, nil
}

// watchAddresses sends the moment at which the host has got count more addresses.
func (s *site) watchAddresses(count int) (<-chan time.Time, func(), error) {
	updates, stop, held := make(chan netlink.AddrUpdate, count), make(chan struct{}), make(chan time.Time, 1)
	if err := s.host.Do(func() error { return netlink.AddrSubscribe(updates, stop) }); err != nil {
		return nil, nil, fmt.Errorf("watch addresses: %w", err)
	}
	go func() {
		got := 0
		for u := range updates {
			if u.NewAddr {
				got++
			}
			if got == count {
				held <- time.Now()
				got++
			}
		}
	}()
	return held, func() { close(stop) }, nil
}
