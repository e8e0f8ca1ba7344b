// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

const (
	settle  = 2 * time.Second
	cpu     = "cpu"
	all     = "all"
	falsely = "false"
	excused = "excused"
	tardy   = "tardy"
)

func backupExperiments() []experiment {
	const less = "CPU of daemon and kernel's reception as Backup, "
	return []experiment{
		{
			name: "Backup 1,000 x 100 ms", alone: true, cost: 10 * time.Second,
			rows: []row{
				{key: cpu, name: "CPU of the daemon as Backup, 1,000 × 100 ms", unit: "% of a core", target: ratio(0.1)},
				{key: all, name: less + "1,000 × 100 ms", unit: "% of a core", target: ratio(0.5), less: true},
			},
			run: backup(4, 250, 100*time.Millisecond),
		},
		{
			name: "Backup 1,000 x 10 ms", quick: true, alone: true, cost: 10 * time.Second,
			rows: []row{
				{key: cpu, name: "CPU of the daemon as Backup, 1,000 × 10 ms", unit: "% of a core", target: ratio(0.1)},
				{key: all, name: less + "1,000 × 10 ms", unit: "% of a core", target: ratio(0.5), less: true},
				{key: falsely, name: "False takeovers meanwhile", target: atMost(0)},
				{key: excused, name: "More of them, for the machine stood still"},
				{key: tardy, name: "By how much the sender was late at most", unit: "ms"},
			},
			run: backup(4, 250, 10*time.Millisecond),
		},
		{
			name: "Backup 4,000 x 100 ms", cost: 10 * time.Second,
			rows: []row{
				{key: cpu, name: "CPU of the daemon as Backup, 4,000 × 100 ms", unit: "% of a core", target: atMost(2)},
				{key: falsely, name: "False takeovers meanwhile", target: atMost(0)},
				{key: excused, name: "More of them, for the machine stood still"},
				{key: tardy, name: "By how much the sender was late at most", unit: "ms"},
			},
			run: backup(16, 250, 100*time.Millisecond),
		},
	}
}

// backup measures what a Backup of many routers takes, whose Active is the wire.
func backup(ports, vrids int, interval time.Duration) func(context.Context, *bench, *contender) (values, error) {
	return func(ctx context.Context, b *bench, c *contender) (v values, err error) {
		s, err := newSite(ports, false)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		routers := grid(ports, vrids, 100, interval)
		pace, err := s.play(routers)
		if err != nil {
			return nil, err
		}
		var d *daemon
		if c != nobody {
			if d, err = c.run(ctx, s.host, routers, false); err != nil {
				return nil, err
			}
			if _, err := d.wait(ctx, d.backup); err != nil {
				return nil, err
			}
		}
		if err := lab.Pause(ctx, settle); err != nil {
			return nil, err
		}
		t, err := s.tap(s.wire, false, allPorts)
		if err != nil {
			return nil, err
		}
		pace.Latest() // of what was before
		long := b.window(10 * time.Second)
		v, err = load(ctx, d, pace, long)
		if err != nil {
			return nil, err
		}
		b.takeovers(v, t.since(0), interval)
		v[tardy] = pace.Latest().Seconds() * 1e3
		return v, nil
	}
}

// load measures the processor's time for a while: cpu of the daemon, all of it with the
// sender and the kernel's threads for interrupts, both in percent of a core. On a
// cable of veth the receiver's kernel works in the time of the sender, who is the same
// for all contenders.
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
		select {
		case <-d.Done():
			return nil, fmt.Errorf("%s has ended; it wrote:\n%s", d.name, d.Output())
		default:
		}
	}
	span := time.Since(began).Seconds()
	return values{cpu: 100 * (ownAfter - own).Seconds() / span, all: 100 * (togetherAfter - together).Seconds() / span}, nil
}
