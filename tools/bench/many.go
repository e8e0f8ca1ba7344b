// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
	"github.com/vishvananda/netlink"
)

func manyExperiments() []experiment {
	start := func(what string) []row {
		return []row{
			{key: "time", name: "Start of 4,000 routers on 16 interfaces, " + what + ": exec until all are Backup", unit: "s", target: ratio(1)},
			{key: "memory", name: "Its resident memory", unit: "MB", target: atMost(60)},
		}
	}
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
		{name: "Start of 4,000", quick: true, cost: 4 * time.Second, rows: start("interface's MAC"), run: startUp(false)},
		{name: "Start of 4,000 with virtual MACs", cost: 4 * time.Second, rows: start("virtual MACs"), run: startUp(true)},
	}
}

// takeoverOfMany has the Active of four routers with 250 addresses each fall silent,
// while the daemon is Active of others on another interface.
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
	pace, err := s.play(many)
	if err != nil {
		return nil, err
	}
	routers := append(many, grid(2, others, 100, interval)[others:]...)
	if _, err := c.settled(ctx, s.host, routers, c.backup); err != nil {
		return nil, err
	}
	t, err := s.tap(s.wire, true, allPorts)
	if err != nil {
		return nil, err
	}
	if err := lab.Pause(ctx, 5*interval); err != nil {
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
		return nil, fmt.Errorf("the interface hasn't all addresses: %w", ctx.Err())
	}
	if err := lab.Pause(ctx, time.Second); err != nil {
		return nil, err
	}
	down := 3*interval + 156*interval/256
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
	since := func(at int64) float64 { return float64(at-lastSent-int64(down)) / 1e6 }
	return values{"others": latest, "held": since(has.UnixNano()), "last": since(last.at)}, nil
}

// watchAddresses tells when the host has got so many more addresses.
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

// startUp starts as many routers as issue no advertisement while it lasts: the interval
// is ten seconds.
func startUp(virtualMAC bool) func(context.Context, *bench, *contender) (values, error) {
	return func(ctx context.Context, _ *bench, c *contender) (v values, err error) {
		const ports, vrids, interval = 16, 250, 10 * time.Second
		s, err := newSite(ports, true)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		d, err := c.run(ctx, s.host, grid(ports, vrids, 100, interval), virtualMAC)
		if err != nil {
			return nil, err
		}
		at, err := d.wait(ctx, d.backup)
		if err != nil {
			return nil, err
		}
		if err := lab.Pause(ctx, settle); err != nil {
			return nil, err
		}
		u, err := d.Usage()
		return values{"time": at.Sub(d.started).Seconds(), "memory": float64(u.Memory) / 1e6}, err
	}
}
