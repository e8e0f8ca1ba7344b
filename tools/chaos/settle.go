// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

const (
	// silence is the longest time without an answer to the client from a host that reports
	// Active and no problem, after the last step.
	silence = 3 * time.Second
	// recovery is the longest time until everything is right again.
	recovery = 20 * time.Second
	// sight is the longest time that the daemons may need to notice and repair what other
	// programs did, and to agree after both were reloaded.
	sight = 1500 * time.Millisecond
)

// stalled returns how long the processors had other work, on average.
func (a *arena) stalled(from, to time.Time) (sum time.Duration) {
	for _, s := range a.canary.Stalls(from, to) {
		sum += s.To.Sub(s.From)
	}
	return sum / time.Duration(runtime.NumCPU())
}

// view is what both daemons report about an address.
type view struct {
	active  []*host // the hosts that report Active and no problem
	trouble []string
}

// settle waits until each address is at one host, which reports no problem and answers the
// client, and the other host is Backup.
func (a *arena) settle(ctx context.Context) error {
	from := time.Now()
	a.happened = from
	well := make(map[string]time.Time) // since when a host has been Active without a problem, by its name and the address
	for {
		views, err := a.look(ctx)
		if err != nil {
			return err
		}
		now := time.Now()
		var wrong []string
		for address, v := range views {
			wrong = append(wrong, v.trouble...)
			for _, h := range hosts {
				if !slices.ContainsFunc(v.active, func(x *host) bool { return x.name == h }) {
					delete(well, h+address)
				} else if well[h+address].IsZero() {
					well[h+address] = now
				}
			}
			for _, h := range v.active {
				since := well[h.name+address]
				last := a.answered(address)
				if last.Before(since) {
					wrong = append(wrong, fmt.Sprintf("%s doesn't answer for %s", h.name, address))
				}
				if quiet := now.Sub(later(since, last)); quiet > silence+a.stalled(later(since, last), now) {
					return fmt.Errorf("%s reports Active for %s and no problem, but the client has had no answer for %v (since %s)", h.name, address, quiet, later(since, last).UTC().Format("15:04:05.000"))
				}
			}
		}
		if wrong == nil {
			err := a.confirm(ctx, views)
			if err == nil {
				a.note("everything is right")
				return nil
			}
			wrong = append(wrong, err.Error())
		}
		if took := now.Sub(from); took > recovery+a.stalled(from, now) {
			slices.Sort(wrong)
			return fmt.Errorf("not right again after %v: %s", took, strings.Join(slices.Compact(wrong), "; "))
		}
		if err := lab.Pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// answered returns when the newest ping with an answer was sent.
func (a *arena) answered(address string) time.Time {
	p := a.pings[address]
	if p == nil {
		return time.Now() // the client doesn't ask for it
	}
	all := p.Replies()
	if len(all) == 0 {
		return time.Time{}
	}
	return all[len(all)-1].Sent
}

// look asks both daemons for their status, and returns a view of each address.
func (a *arena) look(ctx context.Context) (map[string]*view, error) {
	views := make(map[string]*view)
	for _, r := range a.setup.routers {
		for _, address := range r.addresses {
			views[address] = &view{}
		}
	}
	for _, h := range a.hosts {
		select {
		case <-h.daemon.Done():
			return nil, fmt.Errorf("failoverd on %s has ended: %s", h.name, h.daemon.Output())
		default:
		}
		once, cancel := context.WithTimeout(ctx, 10*time.Second)
		status, err := a.client(h).Status(once)
		cancel()
		if err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			for _, v := range views {
				v.trouble = append(v.trouble, fmt.Sprintf("%s: %v", h.name, err))
			}
			continue
		}
		for _, r := range a.setup.routers {
			for _, address := range r.addresses {
				views[address].add(h, r, address, status)
			}
		}
	}
	for address, v := range views {
		if len(v.active) != 1 {
			v.trouble = append(v.trouble, fmt.Sprintf("%d hosts are Active for %s without a problem", len(v.active), address))
		}
	}
	return views, nil
}

// add adds what a host reports about an address of a router.
func (v *view) add(h *host, r router, address string, status control.Status) {
	family := packet.FamilyOf(netip.MustParsePrefix(address).Addr())
	n := slices.IndexFunc(status.Routers, func(x control.Router) bool {
		return x.Name == r.name && slices.Contains(x.Addresses, address)
	})
	say := func(format string, args ...any) {
		v.trouble = append(v.trouble, fmt.Sprintf("%s of %s over %v %s", r.name, h.name, family, fmt.Sprintf(format, args...)))
	}
	if n < 0 {
		say("hasn't %s", address)
		return
	}
	x := status.Routers[n]
	ill := x.Waiting != "" || x.SendError != "" || len(x.Problems) > 0
	if ill {
		say("is %s; waiting for: %q; could not send: %q; problems: %s", x.State, x.Waiting, x.SendError, problems(x.Problems))
	}
	switch x.State {
	case "Active":
		if !ill {
			v.active = append(v.active, h)
		}
	case "Backup":
	default:
		say("is %s: %s", x.State, x.Cause)
	}
}

func problems(all []control.Problem) string {
	var texts []string
	for _, p := range all {
		texts = append(texts, p.Kind+" ("+p.Text+")")
	}
	return strings.Join(texts, ", ")
}

// confirm waits until the Active of each address has answered new questions.
func (a *arena) confirm(ctx context.Context, views map[string]*view) error {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	for _, q := range a.asked {
		if err := q.WaitAnswers(ctx, views[q.address].active[0].node, 1); err != nil {
			return fmt.Errorf("%s: %w", q.address, err)
		}
	}
	return nil
}

// apart returns an error if two hosts answered for longer than an interval. Answers in a
// time in which two may answer don't count.
func (a *arena) apart() error {
	var errs []error
	for _, q := range a.asked {
		all := slices.DeleteFunc(q.Answers(), func(x lab.Answer) bool { return a.excused(x.At) })
		if long, at := alternate(all); long > interval+a.stalled(at.Add(-time.Second), at.Add(long+time.Second)) {
			errs = append(errs, fmt.Errorf("two hosts answered for %s, for %v since %v", q.address, long, at.UTC().Format("15:04:05.000")))
		}
	}
	return errors.Join(errs...)
}

// excused reports whether two hosts may answer at that moment.
func (a *arena) excused(at time.Time) bool {
	return slices.ContainsFunc(a.graces, func(g span) bool {
		return at.After(g.from) && at.Before(g.to.Add(sight+a.stalled(g.to, at)))
	})
}
