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
	// conflictsEvery is the interval at which Conflicts updates the addresses that this host
	// answers for and reports conflicts.
	conflictsEvery = time.Second
	// askEvery is the interval between ARP or neighbour discovery probes for an address, and
	// askAgain the interval while another host answers.
	askEvery = 30 * time.Second
	askAgain = 3 * time.Second
	// askAtOnce is the number of addresses that are probed in each conflictsEvery.
	askAtOnce = 30
	// claimsForConflict is the number of consecutive conflictsEvery in which another host must
	// claim an address before that counts as a conflict. A process that was stopped later reads
	// the announcements of a host that had taken over in the meantime. That host was right then,
	// and doesn't answer probes now.
	claimsForConflict = 3
)

// Conflicts finds out whether another host answers for a virtual address of an Active router, or
// of one that is about to become Active because it hears no other. It listens to announcements
// and sends probes.
type Conflicts struct {
	loop      Routers
	addresses func(router.ID) []netip.Addr
	host      func() []link.Interface
	problems  *Problems
	log       *logrus.Logger

	pendingProbes []*probes // the routers whose addresses are probed next
	probesOf      map[router.ID]*probes
	wake          chan struct{} // has a value when there are transitions

	mu          sync.Mutex
	answered    map[ifAddr]*activeAddress
	probed      map[ifAddr]*probedAddress
	transitions []router.Transition
}

// ifAddr is an address on an interface.
type ifAddr struct {
	ifindex int
	address netip.Addr
}

// activeAddress is a virtual address that this host answers for.
type activeAddress struct {
	id       router.ID
	term     uint64 // how often the router had become Active; claims count within one term
	mac, own packet.MAC
	source   netip.Addr
	askAt    time.Time

	claimed bool       // another host claimed it since the last noteConflicts
	by      packet.MAC // the MAC of that host
	times   int        // the number of consecutive noteConflicts calls with a claim
	last    time.Time  // time of the last claim
	until   time.Time  // the conflict lasts until then
}

// Routers returns the states of the routers. router.Loop implements it.
type Routers interface {
	Altered() uint64 // a counter that changes when the result of Actives does
	Actives() ([]router.Status, error)
	StatusOf(router.ID) (router.Status, bool, error)
}

// NewConflicts returns a Conflicts for the routers of the loop. addresses returns the addresses
// that a router answers for, and host the interfaces of this host.
func NewConflicts(loop Routers, addresses func(router.ID) []netip.Addr, host func() []link.Interface, problems *Problems, log *logrus.Logger) *Conflicts {
	return &Conflicts{loop: loop, addresses: addresses, host: host, problems: problems, log: log, wake: make(chan struct{}, 1), probed: make(map[ifAddr]*probedAddress), probesOf: make(map[router.ID]*probes)}
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
			if err != nil { // no reason to end the daemon
				c.log.WithError(err).Warn("could not listen for other hosts that answer for the virtual addresses")
			}
			return nil
		case <-ctx.Done():
			return nil // without waiting for the socket, which takes some milliseconds to close
		case <-c.wake:
			c.handleTransitions(time.Now())
			arriving = time.After(0)
		case <-arriving:
			c.ask(c.nextProbes())
			if arriving = nil; len(c.pendingProbes) > 0 {
				arriving = time.After(probeEvery)
			}
		case now := <-tick.C:
			// Update three times, because the addresses may be known only a moment later.
			if n := c.loop.Altered(); n != known {
				known, fresh = n, 3
			}
			if fresh > 0 {
				fresh--
				states, err := c.loop.Actives()
				if err != nil {
					continue // the loop has ended, so ctx ends soon
				}
				c.update(now, states)
			}
			c.noteConflicts(now)
			c.ask(c.dueQuestions(now))
		}
	}
}

// heard takes in a claim: an announcement or an answer of another host.
func (c *Conflicts) heard(ifindex int, claim packet.Claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := c.answered[ifAddr{ifindex, claim.Address}]; g != nil && claim.MAC != g.mac && claim.MAC != g.own && !c.isOwn(claim.MAC) {
		g.claimed, g.by = true, claim.MAC
	}
	if f := c.probed[ifAddr{ifindex, claim.Address}]; f != nil {
		f.by = claim.MAC
	}
}

// isOwn reports whether a MAC belongs to an interface of this host, because another interface in
// the same network may answer too.
func (c *Conflicts) isOwn(mac packet.MAC) bool {
	return c.host != nil && slices.ContainsFunc(c.host(), func(i link.Interface) bool { return i.MAC == mac })
}

// update sets the addresses of the Active routers. Claims for other addresses are discarded, and
// claims from before the router became Active, because the other host rightly claimed them then.
func (c *Conflicts) update(now time.Time, states []router.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.answered
	c.answered = make(map[ifAddr]*activeAddress)
	for _, s := range states {
		if s.Protocol.State != vrrp.Active || s.Ifindex == 0 {
			continue
		}
		for _, a := range c.addresses(s.ID) {
			at := ifAddr{s.Ifindex, a}
			g := before[at]
			if term := s.Counters.Became[vrrp.Active]; g == nil || g.id != s.ID || g.term != term {
				g = &activeAddress{id: s.ID, term: term, askAt: now.Add(conflictsEvery)}
			}
			g.mac, g.own, g.source = s.MAC, s.OwnMAC, s.Source
			c.answered[at] = g
		}
	}
}

// noteConflicts reports the conflicts.
func (c *Conflicts) noteConflicts(now time.Time) {
	type rival struct {
		id  router.ID
		mac packet.MAC
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := make(map[rival]bool)
	all := make(map[rival][]netip.Addr)
	for at, g := range c.answered {
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
		remedy := "remove the address from that host; the MAC table of the switch shows its port"
		if c.problems.has(r.id, control.TwoActives) {
			remedy = "solve two_actives first, because that host may be the other Active, which loses the address then; otherwise " + remedy
		}
		c.problems.Note(now, r.id, Observation{
			Kind: control.AddressConflict, Peer: r.mac.String(),
			Text:   "the host with the MAC " + r.mac.String() + " answers for " + joinAddresses(all[r]),
			Remedy: remedy,
		})
	}
}

// confirm counts a claim, schedules the next probe soon, and reports whether the conflict is
// certain.
func (g *activeAddress) confirm(now time.Time) bool {
	if now.Sub(g.last) > askAgain+conflictsEvery {
		g.times = 0
	}
	g.claimed, g.last = false, now
	g.times = min(g.times+1, claimsForConflict)
	if g.times < claimsForConflict {
		g.askAt = now
		return false
	}
	g.until = now.Add(minProblemDuration)
	if again := now.Add(askAgain); g.askAt.After(again) {
		g.askAt = again
	}
	return true
}

// question is a frame that asks which MAC has an address: an ARP probe or a neighbour
// solicitation.
type question struct {
	ifindex int
	frame   []byte
}

// dueQuestions returns the questions that are due, the oldest first.
func (c *Conflicts) dueQuestions(now time.Time) []question {
	c.mu.Lock()
	defer c.mu.Unlock()
	var waiting []ifAddr
	for at, g := range c.answered {
		if !g.askAt.After(now) {
			waiting = append(waiting, at)
		}
	}
	slices.SortFunc(waiting, func(a, b ifAddr) int { return c.answered[a].askAt.Compare(c.answered[b].askAt) })
	var all []question
	for _, at := range waiting[:min(len(waiting), askAtOnce)] {
		g := c.answered[at]
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

// whoHas returns the question for an address; false if the interface has no source address to ask
// from.
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

// ask sends questions. The answers arrive as claims.
func (c *Conflicts) ask(all []question) {
	slices.SortFunc(all, func(a, b question) int { return a.ifindex - b.ifindex })
	for len(all) > 0 {
		n := slices.IndexFunc(all, func(q question) bool { return q.ifindex != all[0].ifindex })
		if n < 0 {
			n = len(all)
		}
		if err := send(all[:n]); err != nil {
			c.log.WithError(err).Debug("could not probe the virtual addresses") // the interface may just have disappeared
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
