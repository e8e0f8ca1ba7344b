// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

const (
	restarts      = 50 // planned ones in a round
	otherRestarts = 5  // the same of daemons that need seconds until they are Active again
	rests         = 20 // times in which nothing happens, to compare with
	kills         = 5
	// revival is the time after which a killed daemon is started again. failoverd's unit doesn't
	// wait, and systemd needs some time itself.
	revival = 20 * time.Millisecond
)

func (c *contender) restarts() int {
	if c.ours() {
		return restarts
	}
	return otherRestarts
}

// restartExperiments measure what a client and the other host notice of a restart and of a crash.
// failoverd restarts without a failover, by SIGUSR2. Others are stopped and started.
func restartExperiments() (all []experiment) {
	// Only failoverd can bridge a crash, so only it is measured at these intervals.
	finer := map[time.Duration]bool{50 * time.Millisecond: true, 20 * time.Millisecond: true}
	for _, shape := range []struct {
		routers  int
		interval time.Duration
		how      setup
	}{
		{1, time.Second, defaults},
		{1, 200 * time.Millisecond, defaults},
		{1, 100 * time.Millisecond, defaults},
		{1, 50 * time.Millisecond, defaults},
		{1, 20 * time.Millisecond, defaults},
		{1, 10 * time.Millisecond, defaults},
		{250, time.Second, defaults},
		{250, 200 * time.Millisecond, defaults},
		{250, 100 * time.Millisecond, defaults},
		{250, 10 * time.Millisecond, defaults},
		{1, 100 * time.Millisecond, authenticated},
		{1, 10 * time.Millisecond, authenticated},
		{250, 100 * time.Millisecond, authenticated},
		{1, 100 * time.Millisecond, macvlans},
		{1, 10 * time.Millisecond, macvlans},
		{250, 100 * time.Millisecond, macvlans},
	} {
		what := fmt.Sprintf("%d × %v", shape.routers, shape.interval)
		name := fmt.Sprintf("Restart %d x %v", shape.routers, shape.interval)
		if shape.how != defaults {
			name += ", " + string(shape.how)
		}
		e := experiment{
			name: name, setup: shape.how, extra: true, own: shape.how != defaults || shape.routers > 1 || finer[shape.interval], frr: true, cost: 3 * time.Minute,
			run: func(ctx context.Context, _ *bench, c *contender) (values, error) {
				return measureRestarts(ctx, c, shape.routers, shape.interval, shape.how)
			},
		}
		for _, event := range []struct{ key, name string }{
			{"rest", fmt.Sprintf("%d times nothing happens, %s", rests, what)},
			{"restart", fmt.Sprintf("%d restarts (others %d), %s", restarts, otherRestarts, what)},
			{"kill", fmt.Sprintf("%d times killed and started after %v, %s", kills, revival, what)},
		} {
			e.rows = append(e.rows,
				row{key: event.key + "/takeovers", name: event.name + ": takeovers of the other host"},
				row{key: event.key + "/late", name: "The same: latest advertisement of the Active", unit: "ms late"},
				row{key: event.key + "/lost", name: "The same: pings of the client without a reply, one each ms"},
				row{key: event.key + "/silence", name: "The same: longest time without a reply to the client", unit: "ms"},
				row{key: event.key + "/broken", name: "The same: TCP connections of the client that broke"})
		}
		all = append(all, e)
	}
	return all
}

// The priorities of the two hosts. They tell whose an advertisement is.
const (
	priorityOfA = 200
	priorityOfB = 100
)

// duo are two hosts with the same daemon and a client, which asks for the address of the first
// router.
type duo struct {
	c        *contender
	routers  int
	interval time.Duration
	how      setup
	a, b     *lab.Node
	active   *lab.Process
	wire     *tap // at the client
	pinger   *lab.Pinger
	stream   *stream
}

func measureRestarts(ctx context.Context, c *contender, routers int, interval time.Duration, how setup) (v values, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	l, err := lab.New()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	_, ports, err := pairAndClient(l, func(n int) string { return address(0, 0, n) + "/20" })
	if err != nil {
		return nil, err
	}
	d := &duo{c: c, routers: routers, interval: interval, how: how, a: ports[0].Node, b: ports[1].Node}
	if d.wire, err = openTap(ports[2].Node, false, 0); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.wire.Close()) }()
	if d.pinger, err = ports[2].Node.Ping(netip.MustParseAddr(address(0, 1, 1)), pingGap); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.pinger.Close()) }()
	var stop func() error
	if d.stream, stop, err = clientOf(ports[2].Node, address(0, 1, 1), d.a, d.b); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := d.start(ctx, d.a, priorityOfA); err != nil {
		return nil, err
	}
	if err := d.start(ctx, d.b, priorityOfB); err != nil {
		return nil, err
	}
	v = make(values)
	for _, event := range []struct {
		key   string
		times int
		do    func(context.Context) error
	}{
		{"rest", rests, func(context.Context) error { return nil }},
		{"kill", kills, d.crash},
		{"restart", c.restarts(), d.restart},
	} {
		if err := d.settle(ctx); err != nil {
			return nil, fmt.Errorf("before the first %s: %w", event.key, err)
		}
		from := time.Now()
		for range event.times {
			if err := lab.Pause(ctx, rand.N(interval)); err != nil {
				return nil, err
			}
			if err := event.do(ctx); err != nil {
				return nil, err
			}
			if err := d.settle(ctx); err != nil {
				return nil, err
			}
		}
		d.judge(v, event.key, from)
	}
	return v, nil
}

// handOvers returns how many processes of failoverd have handed over to another one.
func (d *duo) handOvers() int {
	return strings.Count(d.active.Output(), "takes over from this one")
}

// start starts the daemon on a node, and remembers that of the first one.
func (d *duo) start(ctx context.Context, n *lab.Node, priority int) error {
	p, err := d.c.start(ctx, n, grid(1, d.routers, priority, d.interval), d.how)
	if n == d.a {
		d.active = p
	}
	return err
}

// crash kills the daemon and starts it again.
func (d *duo) crash(ctx context.Context) error {
	if err := d.active.SignalAll(syscall.SIGKILL); err != nil {
		return err
	}
	if _, err := d.active.Wait(ctx); err != nil {
		return err
	}
	if err := lab.Pause(ctx, revival); err != nil {
		return err
	}
	return d.startAgain(ctx)
}

func (d *duo) restart(ctx context.Context) error {
	if d.c.ours() {
		before := d.handOvers()
		if err := d.active.Signal(syscall.SIGUSR2); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		for d.handOvers() == before {
			if err := lab.Pause(ctx, 10*time.Millisecond); err != nil {
				return fmt.Errorf("no other process took over: %w", err)
			}
		}
		return nil
	}
	if _, err := d.active.Stop(ctx); err != nil {
		return err
	}
	return d.startAgain(ctx)
}

func (d *duo) startAgain(ctx context.Context) (err error) {
	if d.c.again == nil {
		return d.start(ctx, d.a, priorityOfA)
	}
	d.active, err = d.c.again(ctx, d.a)
	return err
}

// settle waits until an event is over: only the first host advertises, and the client has replies.
func (d *duo) settle(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for mark := -1; err == nil && (mark < 0 || !d.alone(mark)); {
		mark = d.wire.mark()
		err = lab.Pause(ctx, 300*time.Millisecond+2*d.interval)
	}
	if err == nil {
		_, err = d.pinger.WaitReply(ctx, time.Now())
	}
	if err != nil {
		return fmt.Errorf("%w; %s wrote:\n%s", err, d.c.name, d.active.Output())
	}
	return nil
}

// alone reports whether the first host advertises, and the other one hasn't since a mark.
func (d *duo) alone(mark int) (alone bool) {
	for _, f := range d.wire.since(mark) {
		switch {
		case f.kind != advertisement:
		case f.priority == priorityOfA:
			alone = true
		case f.priority == priorityOfB:
			return false
		}
	}
	return alone
}

// judge reads from the wire what happened since a moment.
func (d *duo) judge(v values, event string, from time.Time) {
	takeovers, late := 0, time.Duration(0)
	type sender struct{ priority, vrid uint8 }
	last := make(map[sender]int64)
	for _, f := range d.wire.since(0) {
		if f.kind != advertisement || f.priority == 0 {
			continue
		}
		s := sender{f.priority, f.vrid}
		gap := time.Duration(f.at - last[s])
		last[s] = f.at
		switch {
		case f.time().Before(from):
		case f.priority == priorityOfA:
			late = max(late, gap-d.interval)
		case gap > 5*d.interval/2:
			takeovers++
		}
	}
	ms := func(t time.Duration) float64 { return t.Seconds() * 1e3 }
	v[event+"/takeovers"] = float64(takeovers)
	v[event+"/late"] = ms(late)
	v[event+"/lost"] = float64(d.pinger.Lost(from, time.Now().Add(-time.Second)))
	v[event+"/silence"] = ms(d.pinger.Outage(from))
	v[event+"/broken"] = float64(d.stream.broken(from))
}
