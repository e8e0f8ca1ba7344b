// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

const (
	ifname   = "eth0"
	virtual  = "198.18.0.10"
	pingGap  = time.Millisecond
	patience = 30 * time.Second
)

// outageExperiments measure for how long a client gets no reply.
func outageExperiments() []experiment {
	const interval = 100 * time.Millisecond
	return []experiment{{
		name: "Outage 100 ms", setup: defaults, cost: 4 * time.Second,
		rows: []row{
			{key: "crash", name: "No reply when the Active's cable is pulled, 100 ms (RFC 9568: 361 ms)", unit: "ms"},
			{key: "stop", name: "No reply when the Active is stopped (RFC 9568: 61 ms)", unit: "ms"},
			{key: "preempt", name: "No reply when it comes back (RFC 9568: 0 ms)", unit: "ms"},
		},
		run: func(ctx context.Context, _ *bench, c *contender) (values, error) {
			s, err := outage(ctx, c, interval)
			ms := func(d time.Duration) float64 { return d.Seconds() * 1e3 }
			if err != nil {
				return nil, err
			}
			return values{"crash": ms(s.crash), "stop": ms(s.stop), "preempt": ms(s.preempt)}, nil
		},
	}}
}

// sample has the outages of one round.
type sample struct{ crash, preempt, stop time.Duration }

// pairAndClient makes a LAN of two hosts for routers and a client. address returns the address of
// each, which are numbered from 1.
func pairAndClient(l *lab.Lab, address func(n int) string) (*lab.LAN, []*lab.Port, error) {
	lan, err := l.LAN("switch")
	if err != nil {
		return nil, nil, err
	}
	var ports []*lab.Port
	for n, name := range []string{"a", "b", "client"} {
		port, err := lan.Host(name, ifname, address(n+1))
		if err != nil {
			return nil, nil, err
		}
		ports = append(ports, port)
	}
	return lan, ports, nil
}

// outage runs the daemon on two routers of a LAN and measures the outages of a client there.
func outage(ctx context.Context, c *contender, interval time.Duration) (s sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	l, err := lab.New()
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	lan, ports, err := pairAndClient(l, func(n int) string { return fmt.Sprintf("198.18.0.%d/24", n) })
	if err != nil {
		return s, err
	}
	a, b, client := ports[0].Node, ports[1].Node, ports[2].Node
	capture, err := lan.Capture()
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, capture.Close()) }()
	pinger, err := client.Ping(netip.MustParseAddr(virtual), pingGap)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, pinger.Close()) }()

	var daemons []*lab.Process
	for n, priority := range []int{200, 100} {
		d, err := c.lone(ports[n].Node, priority, interval)
		if err != nil {
			return s, err
		}
		daemons = append(daemons, d)
	}
	// settled waits until the node alone has had the address for a while, and returns the
	// longest time without a reply since the given moment.
	settled := func(n *lab.Node, since time.Time) (time.Duration, error) {
		if err := lab.WaitHolds(ctx, ifname, virtual, []*lab.Node{a, b}, n); err != nil {
			return 0, err
		}
		if _, err := pinger.WaitReply(ctx, time.Now()); err != nil {
			return 0, err
		}
		if err := lab.Pause(ctx, 5*interval); err != nil {
			return 0, err
		}
		_, err := pinger.WaitReply(ctx, time.Now())
		return pinger.Outage(since), err
	}
	if _, err := settled(a, time.Now()); err != nil {
		return s, err
	}

	frame, err := capture.Wait(ctx, len(capture.Frames()), func(f lab.Frame) bool {
		_, _, _, ok := f.Advertisement()
		return ok && f.From == a.Name
	})
	if err != nil {
		return s, err
	}
	last := capture.Frames()[frame].At
	if err := ports[0].Pull(); err != nil {
		return s, err
	}
	if s.crash, err = settled(b, last); err != nil {
		return s, err
	}
	back := time.Now()
	if err := ports[0].Plug(); err != nil {
		return s, err
	}
	if s.preempt, err = settled(a, back); err != nil {
		return s, err
	}
	stopped := time.Now()
	if _, err := daemons[0].Stop(ctx); err != nil {
		return s, err
	}
	s.stop, err = settled(b, stopped)
	return s, err
}
