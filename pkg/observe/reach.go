// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/transmit"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

const (
	// reachTime is how long a neighbour has to answer.
	reachTime = time.Second
	// reachNeighbors is how many of them are asked at most.
	reachNeighbors = 3
)

// reachAfter is how long after a router became Active it is looked whether the
// virtual MAC reaches anybody, and again if there was no neighbour to ask.
var reachAfter = []time.Duration{time.Second, 10 * time.Second, time.Minute}

// reachAgain is how often it is looked again where the virtual MAC wasn't let through.
const reachAgain = 10 * time.Second

// Reach finds out whether the virtual MAC is let through: hypervisors and
// switches may drop what comes from another MAC than the one they know. Once
// for each interface is enough, unless it isn't.
type Reach struct {
	loop     activeRouter
	handle   neighbors
	problems *Problems
	log      *logrus.Logger
	wake     chan struct{} // has a value when somebody waits

	mu      sync.Mutex
	waiting map[string]router.ID // that became Active, by the interface
	known   map[string]bool      // interfaces that are being looked at, or are good

	probe func(ctx context.Context, ifindex int, from packet.MAC, neighbor netip.Addr) (bool, error)
}

// activeRouter is what knows the state of a router.
type activeRouter interface {
	StatusOf(router.ID) (router.Status, bool, error)
}

// neighbors knows who is on the network of an interface.
type neighbors interface {
	Neighbors(ifindex int) ([]netip.Addr, error)
}

// NewReach asks the handle for neighbours, from another goroutine than the loop's.
func NewReach(loop activeRouter, handle neighbors, problems *Problems, log *logrus.Logger) *Reach {
	return &Reach{loop: loop, handle: handle, problems: problems, log: log, wake: make(chan struct{}, 1), waiting: make(map[string]router.ID), known: make(map[string]bool), probe: transmit.Probe}
}

// Transition is told of a router's change of state, and never waits.
func (r *Reach) Transition(t router.Transition) {
	id := t.ID
	if t.To != vrrp.Active || id.Family != packet.IPv4 {
		return // the virtual MAC of IPv4 is what is looked at
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.known[id.Interface] {
		r.waiting[id.Interface] = id
		nudge(r.wake)
	}
}

// Run looks whether the virtual MACs reach anybody, until ctx ends.
func (r *Reach) Run(ctx context.Context) error {
	var checks sync.WaitGroup
	defer checks.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
			for _, id := range r.begin() {
				checks.Go(func() { r.check(ctx, id) })
			}
		}
	}
}

// begin returns the routers to check now.
func (r *Reach) begin() (all []router.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, id := range r.waiting {
		r.known[name] = true
		all = append(all, id)
	}
	clear(r.waiting)
	return all
}

// check asks neighbours, and tells if none answers to the virtual MAC while one answers to the
// interface's own. That counts only if it is so twice, and the router was Active all the time:
// when a link flaps or another host takes over, answers go astray.
func (r *Reach) check(ctx context.Context, id router.ID) {
	good, suspected := false, false
	var began router.Status
	for _, after := range reachAfter {
		select {
		case <-ctx.Done():
			return
		case <-time.After(after):
		}
		s, ok := r.status(id)
		if !ok || suspected && !same(s, began) {
			break
		}
		began = s
		answers, err := r.ask(ctx, s)
		if err != nil {
			r.log.WithFields(Fields(id)).WithError(err).Warn("can't find out whether the virtual MAC is let through")
			break
		}
		if now, ok := r.status(id); !ok || !same(now, began) {
			break
		}
		if good = answers.virtual.IsValid(); good {
			r.log.WithFields(Fields(id)).WithField("neighbor", answers.virtual.String()).Debug("the virtual MAC is let through")
			break
		}
		if suspected && answers.own.IsValid() {
			good = r.blocked(ctx, s, answers.own)
			break
		}
		suspected = answers.own.IsValid()
	}
	r.mu.Lock()
	r.known[id.Interface] = good
	r.mu.Unlock()
}

// blocked tells that the virtual MAC isn't let through, for as long as that is so and the
// router stays Active, and reports whether it is in the end.
func (r *Reach) blocked(ctx context.Context, s router.Status, neighbor netip.Addr) (good bool) {
	for {
		r.problems.Note(time.Now(), s.ID, Observation{
			Kind:     control.MACBlocked,
			Text:     fmt.Sprintf("%s answers to this interface's MAC but not to the virtual MAC %s: a hypervisor or a switch lets no other MAC through, and other routers may not hear this one", neighbor, s.MAC),
			Remedy:   "allow it for this host's port (forged transmits and MAC changes, MAC spoofing, or no MAC filter), or give all routers virtual_mac: off",
			Interval: reachAgain,
		})
		select {
		case <-ctx.Done():
			return false
		case <-time.After(reachAgain):
		}
		now, ok := r.status(s.ID)
		if !ok || !same(now, s) {
			return false
		}
		answers, err := r.ask(ctx, now)
		if err != nil {
			return false
		}
		if answers.virtual.IsValid() {
			return true
		}
	}
}

// same reports whether a router has been Active on the interface all the time.
func same(a, b router.Status) bool {
	return a.Ifindex == b.Ifindex && a.Protocol.Since == b.Protocol.Since
}

// status returns the router's if it is Active with a virtual MAC.
func (r *Reach) status(id router.ID) (router.Status, bool) {
	s, ok, err := r.loop.StatusOf(id)
	return s, ok && err == nil && s.Protocol.State == vrrp.Active && s.MAC != s.OwnMAC
}

// reached are the neighbours that answer to the MACs, zero if none does.
type reached struct{ own, virtual netip.Addr }

func (r *Reach) ask(ctx context.Context, s router.Status) (found reached, err error) {
	neighbors, err := r.handle.Neighbors(s.Ifindex)
	if err != nil {
		return found, err
	}
	probe := func(mac packet.MAC, neighbor netip.Addr) (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, reachTime)
		defer cancel()
		return r.probe(ctx, s.Ifindex, mac, neighbor)
	}
	for _, n := range neighbors[:min(len(neighbors), reachNeighbors)] {
		answers, err := probe(s.MAC, n)
		if err != nil {
			return found, err
		}
		if answers {
			found.virtual = n
			return found, nil
		}
		if answers, err = probe(s.OwnMAC, n); err != nil {
			return found, err
		}
		if answers {
			found.own = n
		}
	}
	return found, nil
}
