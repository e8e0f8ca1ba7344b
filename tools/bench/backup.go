// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/tools/lab"
)

const (
	settle  = 2 * time.Second
	cpu     = "cpu"
	all     = "all"
	falsely = "false"
	excused = "excused"
	tardy   = "tardy"
	memory  = "memory"
)

func backupExperiments() []experiment {
	const less = "CPU of the daemon and of the kernel's reception as Backup, "
	return []experiment{
		{
			name: "Backup 1,000 x 100 ms", alone: true, cost: 15 * time.Second,
			rows: []row{
				{key: cpu, name: "CPU of the daemon as Backup, 1,000 × 100 ms", unit: "% of a core", target: ratio(0.1)},
				{key: all, name: less + "1,000 × 100 ms", unit: "% of a core", target: ratio(0.5), less: true},
			},
			run: backup(4, 250, 100*time.Millisecond),
		},
		{
			name: "Backup 1,000 x 10 ms", quick: true, alone: true, cost: 15 * time.Second,
			rows: []row{
				{key: cpu, name: "CPU of the daemon as Backup, 1,000 × 10 ms", unit: "% of a core", target: ratio(0.1)},
				{key: all, name: less + "1,000 × 10 ms", unit: "% of a core", target: ratio(0.5), less: true},
				{key: falsely, name: "False takeovers meanwhile", target: atMost(0)},
				{key: excused, name: "More of them, explained by stalls of the machine"},
				{key: tardy, name: "Longest delay of the sender meanwhile", unit: "ms"},
			},
			run: backup(4, 250, 10*time.Millisecond),
		},
		{
			name: "Backup 4,000 x 100 ms", cost: 15 * time.Second,
			rows: []row{
				{key: cpu, name: "CPU of the daemon as Backup, 4,000 × 100 ms", unit: "% of a core", target: atMost(2)},
				{key: memory, name: "Memory as Backup of 4,000 routers", unit: "MB", target: atMost(60)},
				{key: falsely, name: "False takeovers meanwhile", target: atMost(0)},
				{key: excused, name: "More of them, explained by stalls of the machine"},
				{key: tardy, name: "Longest delay of the sender meanwhile", unit: "ms"},
			},
			run: backup(16, 250, 100*time.Millisecond),
		},
	}
}

// backup measures the CPU time of a daemon that is Backup of many routers. The wire is their
// Active.
func backup(ports, vrids int, interval time.Duration) func(context.Context, *bench, *contender) (values, error) {
	return func(ctx context.Context, b *bench, c *contender) (v values, err error) {
		s, err := newSite(ports, false)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		routers := grid(ports, vrids, 100, interval)
		var d *daemon
		if c != nobody {
			if d, err = c.settled(ctx, s, routers, alike); err != nil {
				return nil, err
			}
		}
		pace, err := s.play(routers)
		if err != nil {
			return nil, err
		}
		if d != nil {
			if err := d.allBackup(ctx, s.wire, routers); err != nil {
				return nil, err
			}
			if err := s.withoutAddresses(ctx, routers); err != nil {
				return nil, err
			}
		}
		if err := lab.Pause(ctx, rest); err != nil {
			return nil, err
		}
		t, err := s.tap(s.wire, false, allPorts)
		if err != nil {
			return nil, err
		}
		pace.Latest() // forgets the delays until now
		long := b.window(7 * time.Second)
		v, err = load(ctx, d, pace, long)
		if err != nil {
			return nil, err
		}
		b.takeovers(v, t.since(0), interval)
		v[tardy] = pace.Latest().Seconds() * 1e3
		if d != nil {
			u, err := d.Usage()
			if err != nil {
				return nil, err
			}
			v[memory] = float64(u.Memory) / 1e6
		}
		return v, nil
	}
}

// withoutAddresses waits until the host has none of the routers' addresses. Removing thousands of
// them takes some time after the routers have become Backup.
func (s *site) withoutAddresses(ctx context.Context, routers []router) error {
	virtual := make(map[string]bool, len(routers))
	for _, r := range routers {
		for _, prefix := range r.addresses {
			address, _, _ := strings.Cut(prefix, "/")
			virtual[address] = true
		}
	}
	for {
		all, err := s.host.Netlink().AddrList(nil, unix.AF_INET)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // that one: addresses changed meanwhile
			return err
		}
		left := slices.IndexFunc(all, func(a netlink.Addr) bool { return virtual[a.IP.String()] })
		if left < 0 && err == nil {
			return nil
		}
		if err := lab.Pause(ctx, time.Second); err != nil {
			return fmt.Errorf("the host still has %d addresses: %w", len(all), err)
		}
	}
}

// load measures CPU time in percent of a core. The value cpu is that of the daemon. The value
// all adds the sender and ksoftirqd, because on veth the kernel receives in the time of the
// sender, which is the same for all contenders.
func load(ctx context.Context, d *daemon, pace *lab.Pace, long time.Duration) (values, error) {
	read := func() (own, together time.Duration, err error) {
		if d != nil {
			u, err := d.Usage()
			if err != nil {
				return 0, 0, err
			}
			own = u.CPU
		}
		if pace != nil {
			if together, err = lab.ThreadTime(pace.Thread()); err != nil {
				return 0, 0, err
			}
		}
		soft, err := lab.SoftirqTime()
		return own, own + together + soft, err
	}
	own, together, err := read()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := lab.Pause(ctx, long); err != nil {
		return nil, err
	}
	ownAfter, togetherAfter, err := read()
	if err != nil {
		return nil, err
	}
	if d != nil {
		if err := d.alive(); err != nil {
			return nil, err
		}
	}
	span := time.Since(began).Seconds()
	return values{cpu: 100 * (ownAfter - own).Seconds() / span, all: 100 * (togetherAfter - together).Seconds() / span}, nil
}
