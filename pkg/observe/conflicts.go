// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/transmit"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

const (
	// conflictsEvery is how often it is looked for which addresses this host
	// answers.
	conflictsEvery = time.Second
	// askEvery is how often it is asked who else has an address, and askAgain how
	// often if somebody has.
	askEvery = 30 * time.Second
	askAgain = 3 * time.Second
	// askAtOnce is how many addresses are asked about in each conflictsEvery.
	askAtOnce = 30
	// claimsMost is in how many conflictsEvery in a row an address must be claimed to be a
	// conflict. A process that was stopped reads afterwards what the host that had taken
	// over said meanwhile: that one had the address rightly, and answers no question now.
	claimsMost = 3
)

// Conflicts find out whether another host answers for a virtual address of an
// Active router, or of one that is about to become Active because it hears nobody: some say
// so of themselves, and the others are asked.
type Conflicts struct {
	loop      Routers
	addresses func(router.ID) []netip.Addr
	host      func() []link.Interface
	problems  *Problems
	log       *logrus.Logger

	arrivals []arrival     // that are to be asked about
	wake     chan struct{} // has a value when there are turns

	mu      sync.Mutex
	guarded map[spot]*guarded
	foreign map[spot]*foreign
	turns   []router.Transition
}

// spot is an address on an interface.
type spot struct {
	ifindex int
	address netip.Addr
}

// guarded is a virtual address that this host answers for.
type guarded struct {
	id       router.ID
	mac, own packet.MAC
	source   netip.Addr
	askAt    time.Time

	claimed bool       // since the last look,
	by      packet.MAC // by the one with this MAC
	times   int        // in how many looks, each soon after the last one
	last    time.Time  // when it was claimed last
	until   time.Time  // until when the claim stands
}

// Routers is what knows the states of the routers.
type Routers interface {
	Altered() uint64 // changes with what Actives returns
	Actives() ([]router.Status, error)
	StatusOf(router.ID) (router.Status, bool, error)
}

// NewConflicts looks at the routers of the loop, which answer for such addresses. The host
// are its interfaces.
func NewConflicts(loop Routers, addresses func(router.ID) []netip.Addr, host func() []link.Interface, problems *Problems, log *logrus.Logger) *Conflicts {
	return &Conflicts{loop: loop, addresses: addresses, host: host, problems: problems, log: log, wake: make(chan struct{}, 1), foreign: make(map[spot]*foreign)}
}

// Run looks for conflicts until ctx ends.
func (c *Conflicts) Run(ctx context.Context) error {
	tick := time.NewTicker(conflictsEvery)
	defer tick.Stop()
	failed := make(chan error, 1)
	known, fresh := uint64(0), 0
	var arriving <-chan time.Time
	go func() { failed <- transmit.Claims(ctx, c.heard) }()
	for {
		select {
		case err := <-failed:
			if err != nil { // nothing that the routers should end for
				c.log.WithError(err).Warn("can't find out who else answers for the virtual addresses")
			}
			return nil
		case <-c.wake:
			c.turn(time.Now())
			arriving = time.After(0)
		case <-arriving:
			c.ask(c.arrive())
			if arriving = nil; len(c.arrivals) > 0 {
				arriving = time.After(arriveEvery)
			}
		case now := <-tick.C:
			// The addresses may follow a moment later.
			if n := c.loop.Altered(); n != known {
				known, fresh = n, 3
			}
			if fresh > 0 {
				fresh--
				states, err := c.loop.Actives()
				if err != nil {
					continue // the loop has ended, and soon this ends
				}
				c.update(now, states)
			}
			c.tell(now)
			c.ask(c.due(now))
		}
	}
}

// heard takes in what somebody says.
func (c *Conflicts) heard(ifindex int, claim packet.Claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := c.guarded[spot{ifindex, claim.Address}]; g != nil && claim.MAC != g.mac && claim.MAC != g.own && !c.isOwn(claim.MAC) {
		g.claimed, g.by = true, claim.MAC
	}
	if f := c.foreign[spot{ifindex, claim.Address}]; f != nil {
		f.by = claim.MAC
	}
}

// isOwn reports whether a MAC is that of one of this host's interfaces: one in the same
// network may answer too.
func (c *Conflicts) isOwn(mac packet.MAC) bool {
	return c.host != nil && slices.ContainsFunc(c.host(), func(i link.Interface) bool { return i.MAC == mac })
}

// update makes the addresses of the routers that are Active those that are
// guarded. What was said of others is forgotten: when a router becomes Active, or
// ends to be it, another one rightly says that it has the addresses.
func (c *Conflicts) update(now time.Time, states []router.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.guarded
	c.guarded = make(map[spot]*guarded)
	for _, s := range states {
		if s.Protocol.State != vrrp.Active || s.Ifindex == 0 {
			continue
		}
		for _, a := range c.addresses(s.ID) {
			at := spot{s.Ifindex, a}
			g := before[at]
			if g == nil || g.id != s.ID {
				g = &guarded{id: s.ID, askAt: now.Add(conflictsEvery)}
			}
			g.mac, g.own, g.source = s.MAC, s.OwnMAC, s.Source
			c.guarded[at] = g
		}
	}
}

// tell notes the conflicts that have been seen.
func (c *Conflicts) tell(now time.Time) {
	type rival struct {
		id  router.ID
		mac packet.MAC
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := make(map[rival]bool)
	all := make(map[rival][]netip.Addr)
	for at, g := range c.guarded {
		r := rival{g.id, g.by}
		if g.claimed {
			seen[r] = g.confirm(now) || seen[r]
		}
		if g.until.After(now) {
			all[r] = append(all[r], at.address)
		}
	}
	for r, sure := range seen {
		if !sure {
			continue
		}
		slices.SortFunc(all[r], netip.Addr.Compare)
		remedy := "take the address off that host: the switch's table of MACs says at which port it is"
		if c.problems.has(r.id, control.TwoActives) {
			remedy = "mend two_actives first: it may be the other Active, which loses the address then; otherwise " + remedy
		}
		c.problems.Note(now, r.id, Observation{
			Kind: control.AddressConflict, Peer: r.mac.String(),
			Text:   "another host, at " + r.mac.String() + ", answers for " + joinAddresses(all[r]),
			Remedy: remedy,
		})
	}
}

// confirm takes a claim in, has it asked again soon, and reports whether it is sure.
func (g *guarded) confirm(now time.Time) bool {
	if now.Sub(g.last) > askAgain+conflictsEvery {
		g.times = 0
	}
	g.claimed, g.last = false, now
	g.times = min(g.times+1, claimsMost)
	if g.times < claimsMost {
		g.askAt = now
		return false
	}
	g.until = now.Add(problemLasts)
	if again := now.Add(askAgain); g.askAt.After(again) {
		g.askAt = again
	}
	return true
}

// question is a frame that asks which MAC has an address.
type question struct {
	ifindex int
	frame   []byte
}

// due returns the questions that it is time for, the oldest first.
func (c *Conflicts) due(now time.Time) []question {
	c.mu.Lock()
	defer c.mu.Unlock()
	var waiting []spot
	for at, g := range c.guarded {
		if !g.askAt.After(now) {
			waiting = append(waiting, at)
		}
	}
	slices.SortFunc(waiting, func(a, b spot) int { return c.guarded[a].askAt.Compare(c.guarded[b].askAt) })
	var all []question
	for _, at := range waiting[:min(len(waiting), askAtOnce)] {
		g := c.guarded[at]
		g.askAt = now.Add(askEvery)
		if g.until.After(now) {
			g.askAt = now.Add(askAgain)
		}
		if q, ok := whoHas(at.ifindex, g.own, g.source, at.address); ok {
			all = append(all, q)
		}
	}
	return all
}

// whoHas asks who has an address. An interface without a source has nothing to ask from.
func whoHas(ifindex int, own packet.MAC, source, address netip.Addr) (question, bool) {
	var frame []byte
	var err error
	if address.Is4() {
		frame, err = packet.AppendARPProbe(nil, own, address)
	} else {
		frame, err = packet.AppendNeighborSolicitation(nil, own, source.WithZone(""), address)
	}
	return question{ifindex, frame}, err == nil
}

// ask sends questions. The answers come in as claims.
func (c *Conflicts) ask(all []question) {
	slices.SortFunc(all, func(a, b question) int { return a.ifindex - b.ifindex })
	for len(all) > 0 {
		n := slices.IndexFunc(all, func(q question) bool { return q.ifindex != all[0].ifindex })
		if n < 0 {
			n = len(all)
		}
		if err := send(all[:n]); err != nil {
			c.log.WithError(err).Debug("ask who else has the virtual addresses") // the interface may just have gone
		}
		all = all[n:]
	}
}

// send sends questions on one interface.
func send(all []question) error {
	frames := make([][]byte, 0, len(all))
	for _, q := range all {
		frames = append(frames, q.frame)
	}
	return transmit.Send(all[0].ifindex, frames...)
}
