// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

// The faults.
const (
	kill = "kill -9"
	cut  = "power cut"
)

// The moments of a fault.
const (
	steady   = "steady"
	starting = "starting"
	reload   = "in a reload"
	takeover = "taking over"
)

var moments = []string{steady, starting, reload, takeover}

// plan is what happens in a round. It follows from the seed and the round's number.
type plan struct {
	victim int
	fault  string
	moment string
	delay  time.Duration // from the beginning of the moment to the fault
	after  string        // how the victim ends once more after it came back; empty if it keeps running
}

// The ways to end a victim once more, to check what it leaves behind.
const (
	stopped = "stopped"
	cleaned = "killed and cleaned up"
)

func planOf(seed uint64, round int) plan {
	r := rand.New(rand.NewPCG(seed, uint64(round)))
	p := plan{victim: r.IntN(2), fault: []string{kill, cut}[r.IntN(2)], moment: moments[r.IntN(len(moments))]}
	longest := map[string]time.Duration{steady: time.Second, starting: 1500 * time.Millisecond, reload: 100 * time.Millisecond, takeover: 200 * time.Millisecond}
	p.delay = time.Duration(r.Int64N(int64(longest[p.moment]))).Round(time.Millisecond)
	p.after = []string{"", stopped, cleaned}[r.IntN(3)]
	return p
}

func (p plan) String() string {
	s := fmt.Sprintf("%s, %s of %s after %v", p.moment, p.fault, hosts[p.victim], p.delay)
	if p.after != "" {
		s += ", then " + p.after
	}
	return s
}

// play runs a round. Before and after it both hosts run, each with its own
// addresses.
func (s *site) play(ctx context.Context, p plan) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	victim, other := s.hosts[p.victim], s.hosts[1-p.victim]
	questions, err := s.ask()
	if err != nil {
		return err
	}
	defer func() { _ = questions.close() }()
	if err := s.strike(ctx, p, victim, other); err != nil {
		return err
	}
	since := time.Now()
	if err := s.hasAll(ctx, other); err != nil {
		return fmt.Errorf("the other host did not take over: %w", err)
	}
	if err := questions.answeredBy(ctx, other); err != nil {
		return err
	}
	time.Sleep(5 * interval) // for answers that should no longer come
	err = questions.judge(victim, other, since, p.moment == steady || p.moment == reload)
	if err != nil {
		return err
	}
	if err := s.comeBack(ctx, victim); err != nil {
		return err
	}
	if p.after == "" {
		return nil
	}
	if err := s.endOnceMore(ctx, p.after, victim, other); err != nil {
		return err
	}
	return s.comeBack(ctx, victim)
}

// strike brings about the moment and then the fault.
func (s *site) strike(ctx context.Context, p plan, victim, other *host) error {
	switch p.moment {
	case starting:
		if err := victim.end(ctx, syscall.SIGTERM); err != nil {
			return err
		}
		if err := s.hasAll(ctx, other); err != nil {
			return err
		}
		if err := victim.start(s.options); err != nil {
			return err
		}
	case reload:
		if err := victim.reload(s.options); err != nil {
			return err
		}
	case takeover:
		if err := other.end(ctx, syscall.SIGTERM); err != nil {
			return err
		}
	}
	time.Sleep(p.delay)
	if err := s.fail(ctx, p.fault, victim); err != nil {
		return err
	}
	if p.moment == takeover {
		return other.start(s.options)
	}
	return nil
}

// fail causes the fault on a host.
func (s *site) fail(ctx context.Context, fault string, h *host) error {
	if fault == kill {
		return h.end(ctx, syscall.SIGKILL)
	}
	for _, p := range h.ports {
		if err := p.Pull(); err != nil {
			return err
		}
	}
	if err := h.node.PowerCut(); err != nil {
		return err
	}
	for _, p := range h.ports {
		if err := p.Disconnect(); err != nil {
			return err
		}
	}
	h.node = nil
	return nil
}

// comeBack starts the victim again, and waits until each host has its own addresses.
func (s *site) comeBack(ctx context.Context, victim *host) error {
	if victim.node == nil {
		if err := s.connect(victim); err != nil {
			return err
		}
	}
	questions, err := s.ask()
	if err != nil {
		return err
	}
	defer func() { _ = questions.close() }()
	if err := victim.start(s.options); err != nil {
		return err
	}
	for n, h := range s.hosts {
		if err := s.has(ctx, h, s.options.addressesOf(n)); err != nil {
			return fmt.Errorf("not all addresses came back: %w", err)
		}
	}
	return questions.together()
}

// endOnceMore stops the victim, or kills it and cleans up. Both leave nothing behind.
func (s *site) endOnceMore(ctx context.Context, how string, victim, other *host) error {
	signal := syscall.SIGTERM
	if how == cleaned {
		signal = syscall.SIGKILL
	}
	if err := victim.end(ctx, signal); err != nil {
		return err
	}
	if how == cleaned {
		if out, err := victim.node.Run(ctx, s.options.binary, "--cleanup"); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	return errors.Join(victim.unchanged(ctx), s.hasAll(ctx, other))
}

// asked is the list of the askers, one for each address.
type asked []*question

type question struct {
	address string
	*lab.Asker
}

func (a asked) close() (err error) {
	for _, q := range a {
		err = errors.Join(err, q.Close())
	}
	return err
}

// answeredBy waits until a host has answered the questions for each address.
func (a asked) answeredBy(ctx context.Context, h *host) error {
	for _, q := range a {
		if err := q.WaitAnswers(ctx, h.node, 1); err != nil {
			return fmt.Errorf("%s: %w", q.address, err)
		}
	}
	return nil
}

// judge returns an error if the victim answered after the first answer of the other host.
// If the hosts were not undisturbed until the fault, it returns what together does.
func (a asked) judge(victim, other *host, since time.Time, undisturbed bool) error {
	if !undisturbed {
		return a.together()
	}
	var errs []error
	for _, q := range a {
		from, to := &lab.Node{Name: victim.name}, &lab.Node{Name: other.name}
		if x := q.Answers().Handover(from, to, since.Add(-patience)); x.Stale > 0 {
			errs = append(errs, fmt.Errorf("two hosts answered for %s: %s gave %d answers after the first one of %s, for %v (first %v, last %v)", q.address, victim.name, x.Stale, other.name, x.Overlap, x.FirstNew, x.LastOld))
		}
	}
	return errors.Join(errs...)
}

// together returns an error if the answers of two hosts alternated for longer than an
// interval, after which a preempted host has heard of the other one.
func (a asked) together() error {
	var errs []error
	for _, q := range a {
		if long, at := alternate(q.Answers()); long > interval {
			errs = append(errs, fmt.Errorf("two hosts answered for %s, for %v since %v", q.address, long, at.Format("15:04:05.000")))
		}
	}
	return errors.Join(errs...)
}

// alternate returns the longest time in which the answers went back and forth between two
// hosts, with at most an interval from one change to the next, and when it began.
func alternate(answers lab.Answers) (longest time.Duration, at time.Time) {
	var began, last time.Time
	for n := 1; n < len(answers); n++ {
		if answers[n].From == answers[n-1].From {
			continue
		}
		if last.IsZero() || answers[n].At.Sub(last) > interval {
			began = answers[n].At
		}
		last = answers[n].At
		if long := last.Sub(began); long > longest {
			longest, at = long, began
		}
	}
	return longest, at
}
