// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/failoverd/failoverd/tools/lab"
)

const (
	cables     = 400                    // both ends are on the host, and no router is
	churnEvery = 100 * time.Millisecond // one cable is removed and added again
)

func churnExperiments() []experiment {
	return []experiment{{
		name: "Churn", extra: true, cost: 10 * time.Second,
		rows: []row{
			{key: cpu, name: fmt.Sprintf("CPU of the daemon as Active, 20 × 100 ms, while %d of the host's %d other interfaces come and go each second", 2*time.Second/churnEvery, 2*cables), unit: "% of a core"},
			{key: meanwhile, name: "Latest advertisement of them", unit: "ms late"},
		},
		run: churn,
	}}
}

const meanwhile = "meanwhile"

// churn measures an Active on a host whose interfaces come and go, as on a host of containers.
func churn(ctx context.Context, b *bench, c *contender) (v values, err error) {
	s, err := newSite(1, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	handle := s.host.Netlink()
	cable := func(n int) *netlink.Veth {
		return &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("other%d", n), Flags: net.FlagUp}, PeerName: fmt.Sprintf("end%d", n)}
	}
	for n := range cables {
		if err := handle.LinkAdd(cable(n)); err != nil {
			return nil, fmt.Errorf("add an interface: %w", err)
		}
	}
	const routers, interval = 20, 100 * time.Millisecond
	d, err := c.settled(ctx, s, grid(1, routers, 100, interval), alike)
	if err != nil {
		return nil, err
	}
	t, err := s.tap(s.wire, false, 0)
	if err != nil {
		return nil, err
	}
	during, end := context.WithCancel(ctx)
	defer end()
	changed := make(chan error, 1)
	go func() {
		for n := 0; lab.Pause(during, churnEvery) == nil; n = (n + 1) % cables {
			if err := errors.Join(handle.LinkDel(cable(n)), handle.LinkAdd(cable(n))); err != nil {
				changed <- fmt.Errorf("change an interface: %w", err)
				return
			}
		}
		changed <- nil
	}()
	v, err = load(ctx, d, nil, b.window(10*time.Second))
	end()
	if err = errors.Join(err, <-changed); err != nil {
		return nil, err
	}
	last := make(map[uint8]int64)
	for _, seen := range t.since(0) {
		if seen.kind != advertisement {
			continue
		}
		if at, before := last[seen.vrid]; before {
			v[meanwhile] = max(v[meanwhile], (time.Duration(seen.at-at)-interval).Seconds()*1e3)
		}
		last[seen.vrid] = seen.at
	}
	if len(last) != routers {
		return nil, fmt.Errorf("%d of %d routers advertised", len(last), routers)
	}
	return v, nil
}
