// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

const (
	restarts = 50 // planned ones in a round
	kills    = 5
	// revival is the time after which a killed daemon is started again, as failoverd's unit does.
	revival = 100 * time.Millisecond
)

// restartExperiments measure what a client and the other host notice of a restart and of a crash.
// The restart of failoverd is SIGUSR2; others are stopped and started, and not killed.
func restartExperiments() (all []experiment) {
	for _, shape := range []struct {
		routers  int
		interval time.Duration
	}{
		{1, time.Second},
		{1, 200 * time.Millisecond},
		{1, 100 * time.Millisecond},
		{1, 10 * time.Millisecond},
		{250, 100 * time.Millisecond},
	} {
		what := fmt.Sprintf("%d × %v", shape.routers, shape.interval)
		e := experiment{
			name: fmt.Sprintf("Restart %d x %v", shape.routers, shape.interval), setup: defaults, extra: true, frr: shape.routers == 1, cost: 2 * time.Minute,
			run: func(ctx context.Context, _ *bench, c *contender) (values, error) {
				return measureRestarts(ctx, c, shape.routers, shape.interval)
			},
		}
		for _, event := range []struct{ key, name string }{
			{"restart", fmt.Sprintf("%d restarts, %s", restarts, what)},
			{"kill", fmt.Sprintf("%d times killed and started after %v, %s", kills, revival, what)},
		} {
			e.rows = append(e.rows,
				row{key: event.key + "/takeovers", name: event.name + ": takeovers of the other host"},
				row{key: event.key + "/silence", name: "The same: longest time without a reply to the client", unit: "ms"},
				row{key: event.key + "/late", name: "The same: latest advertisement of the Active", unit: "ms late"})
		}
		all = append(all, e)
	}
	return all
}

// duo are two hosts with the same daemon and a client, which asks for the address of the first
// router.
type duo struct {
	c        *contender
	routers  int
	interval time.Duration
	a, b     *lab.Node
	active   *lab.Process
	capture  *lab.Capture
	pinger   *lab.Pinger
}

func measureRestarts(ctx context.Context, c *contender, routers int, interval time.Duration) (v values, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	l, err := lab.New()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	lan, ports, err := pairAndClient(l, func(n int) string { return address(0, 0, n) + "/20" })
	if err != nil {
		return nil, err
	}
	d := &duo{c: c, routers: routers, interval: interval, a: ports[0].Node, b: ports[1].Node}
	if d.capture, err = lan.Capture(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.capture.Close()) }()
	if d.pinger, err = ports[2].Node.Ping(netip.MustParseAddr(address(0, 1, 1)), pingGap); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.pinger.Close()) }()
	if err := d.start(ctx, d.a, 200); err != nil {
		return nil, err
	}
	if err := d.start(ctx, d.b, 100); err != nil {
		return nil, err
	}
	v = make(values)
	for _, event := range []struct {
		key   string
		times int
		do    func(context.Context) error
	}{{"kill", kills, d.crash}, {"restart", restarts, d.restart}} {
		if event.key == "kill" && c.name != "failoverd" {
			continue
		}
		if err := d.settle(ctx); err != nil {
			return nil, err
		}
		from := time.Now()
		for range event.times {
			if err := event.do(ctx); err != nil {
				return nil, err
			}
			if err := d.settle(ctx); err != nil {
				return nil, err
			}
		}
		d.judge(v, event.key, from)
	}
	if done := strings.Count(d.active.Output(), "takes over from this one"); c.name == "failoverd" && done != restarts {
		return v, fmt.Errorf("%d restarts instead of %d; it wrote:\n%s", done, restarts, d.active.Output())
	}
	return v, nil
}

// start starts the daemon on a node, and remembers that of the first one.
func (d *duo) start(ctx context.Context, n *lab.Node, priority int) error {
	p, err := d.c.start(ctx, n, grid(1, d.routers, priority, d.interval), defaults)
	if n == d.a {
		d.active = p
	}
	return err
}

// crash kills the daemon and starts it again.
func (d *duo) crash(ctx context.Context) error {
	if err := d.active.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	if _, err := d.active.Wait(ctx); err != nil {
		return err
	}
	if err := lab.Pause(ctx, revival); err != nil {
		return err
	}
	return d.start(ctx, d.a, 200)
}

func (d *duo) restart(ctx context.Context) error {
	if d.c.name == "failoverd" {
		return d.active.Signal(syscall.SIGUSR2)
	}
	if _, err := d.active.Stop(ctx); err != nil {
		return err
	}
	return d.start(ctx, d.a, 200)
}

// settle waits until an event is over, and the first host has the address.
func (d *duo) settle(ctx context.Context) error {
	if err := lab.Pause(ctx, 500*time.Millisecond+5*d.interval); err != nil {
		return err
	}
	if err := lab.WaitHolds(ctx, ifname, address(0, 1, 1), []*lab.Node{d.a, d.b}, d.a); err != nil {
		return err
	}
	_, err := d.pinger.WaitReply(ctx, time.Now())
	return err
}

// judge reads from the wire what happened since a moment.
func (d *duo) judge(v values, event string, from time.Time) {
	takeovers, late := 0, time.Duration(0)
	last := make(map[string]map[uint8]time.Time)
	for _, f := range d.capture.Frames() {
		a, _, _, ok := f.Advertisement()
		if !ok || a.Priority == 0 {
			continue
		}
		if last[f.From] == nil {
			last[f.From] = make(map[uint8]time.Time)
		}
		gap := f.At.Sub(last[f.From][a.VRID])
		last[f.From][a.VRID] = f.At
		switch {
		case f.At.Before(from):
		case f.From == d.a.Name:
			late = max(late, gap-d.interval)
		case gap > 5*d.interval/2:
			takeovers++
		}
	}
	ms := func(t time.Duration) float64 { return t.Seconds() * 1e3 }
	v[event+"/takeovers"] = float64(takeovers)
	v[event+"/silence"] = ms(d.pinger.Outage(from))
	v[event+"/late"] = ms(late)
}
