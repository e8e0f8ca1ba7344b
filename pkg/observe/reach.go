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
	// reachTime is the time in which a neighbour has to answer.
	reachTime = time.Second
	// reachNeighbors is the maximum number of neighbours that are probed.
	reachNeighbors = 3
)

// reachAfter is when the virtual MAC is checked after a router has become Active. Later checks
// follow only if there was no neighbour to probe.
var reachAfter = []time.Duration{time.Second, 10 * time.Second, time.Minute}

// reachAgain is the interval of checks while the virtual MAC is blocked.
const reachAgain = 10 * time.Second

// Reach finds out whether the network passes frames with the virtual MAC, because hypervisors and
// switches may drop frames from an unknown MAC. After one successful check, an interface isn't
// checked again.
type Reach struct {
	loop     activeRouter
	handle   neighbors
	problems *Problems
	log      *logrus.Logger
	wake     chan struct{} // has a value when waiting isn't empty

	mu      sync.Mutex
	waiting map[string]router.ID // by interface: a router that became Active
	checked map[string]bool      // interfaces that are being checked, or have passed

	probe func(ctx context.Context, ifindex int, from packet.MAC, neighbor netip.Addr) (bool, error)
}

// activeRouter returns the status of a router. router.Loop implements it.
type activeRouter interface {
	StatusOf(router.ID) (router.Status, bool, error)
}

// neighbors returns the known neighbours on an interface. link.Handle implements it.
type neighbors interface {
	Neighbors(ifindex int) ([]netip.Addr, error)
}

// NewReach returns a Reach. It uses handle from goroutines of its own, never from the event loop.
func NewReach(loop activeRouter, handle neighbors, problems *Problems, log *logrus.Logger) *Reach {
	return &Reach{loop: loop, handle: handle, problems: problems, log: log, wake: make(chan struct{}, 1), waiting: make(map[string]router.ID), checked: make(map[string]bool), probe: transmit.Probe}
}

// Transition takes in a change of state. It never waits.
func (r *Reach) Transition(t router.Transition) {
	id := t.ID
	if t.To != vrrp.Active || id.Family != packet.IPv4 {
		return // the check works with ARP, so only for IPv4
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.checked[id.Interface] {
		r.waiting[id.Interface] = id
		nudge(r.wake)
	}
}

// Run checks the virtual MACs until ctx ends.
func (r *Reach) Run(ctx context.Context) error {
	var checks sync.WaitGroup
	defer checks.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
			for _, id := range r.takeWaiting() {
				checks.Go(func() { r.check(ctx, id) })
			}
		}
	}
}

// takeWaiting returns the routers to check now.
func (r *Reach) takeWaiting() (all []router.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, id := range r.waiting {
		r.checked[name] = true
		all = append(all, id)
	}
	clear(r.waiting)
	return all
}

// check probes neighbours from the virtual MAC and from the interface's own MAC. The virtual MAC
// counts as blocked only if twice a neighbour answers to the own MAC alone, and the router stayed
// Active in between: answers may get lost when a link flaps or another host takes over.
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
		if !ok || suspected && !sameActive(s, began) {
			break
		}
		began = s
		answers, err := r.ask(ctx, s)
		if err != nil {
			r.log.WithFields(Fields(id)).WithError(err).Warn("could not check whether the network passes frames with the virtual MAC")
			break
		}
		if now, ok := r.status(id); !ok || !sameActive(now, began) {
			break
		}
		if good = answers.virtual.IsValid(); good {
			r.log.WithFields(Fields(id)).WithField("neighbor", answers.virtual.String()).Debug("the network passes frames with the virtual MAC")
			break
		}
		if suspected && answers.own.IsValid() {
			good = r.watchBlocked(ctx, s, answers.own)
			break
		}
		suspected = answers.own.IsValid()
	}
	r.mu.Lock()
	r.checked[id.Interface] = good
	r.mu.Unlock()
}

// watchBlocked reports the problem until a neighbour answers to the virtual MAC or the router
// isn't Active any more. It returns true if a neighbour has answered.
func (r *Reach) watchBlocked(ctx context.Context, s router.Status, neighbor netip.Addr) (good bool) {
	for {
		r.problems.Note(time.Now(), s.ID, Observation{
			Kind:     control.MACBlocked,
			Text:     fmt.Sprintf("%s answers to this interface's MAC but not to the virtual MAC %s: a hypervisor or a switch blocks other MACs, so other routers may not receive the advertisements of this one", neighbor, s.MAC),
			Remedy:   "allow the virtual MAC on this host's port (forged transmits and MAC changes, MAC spoofing, or no MAC filter), or set virtual_mac: off on all routers",
			Interval: reachAgain,
		})
		select {
		case <-ctx.Done():
			return false
		case <-time.After(reachAgain):
		}
		now, ok := r.status(s.ID)
		if !ok || !sameActive(now, s) {
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

// sameActive reports whether a router has been Active on the same interface without a break.
func sameActive(a, b router.Status) bool {
	return a.Ifindex == b.Ifindex && a.Protocol.Since == b.Protocol.Since
}

// status returns the status of a router; false if it isn't Active or has no virtual MAC.
func (r *Reach) status(id router.ID) (router.Status, bool) {
	s, ok, err := r.loop.StatusOf(id)
	return s, ok && err == nil && s.Protocol.State == vrrp.Active && s.MAC != s.OwnMAC
}

// answers has a neighbour that answered to each MAC; the zero Addr if none did.
type answers struct{ own, virtual netip.Addr }

func (r *Reach) ask(ctx context.Context, s router.Status) (found answers, err error) {
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
