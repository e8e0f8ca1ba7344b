// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"net/netip"
	"slices"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

const (
	// probeEvery is the interval of probes for routers that have just started, and probesAtOnce
	// the number of routers that are handled each time. probeTries is the number of attempts
	// while the addresses of a router aren't known yet.
	probeEvery   = 20 * time.Millisecond
	probesAtOnce = 32
	probeTries   = 50
)

// probes are the probes of a router that has just started.
type probes struct {
	id    router.ID
	tries int
	sent  []ifAddr // the addresses that were probed
	ended bool     // it hears an Active, or is one
}

// probedAddress is a virtual address of a starting router for which a probe was sent. The router
// hasn't heard an Active so far.
type probedAddress struct {
	id router.ID
	by packet.MAC // the MAC that answers for it; zero: none
}

// Transition takes in a change of state. It never waits.
//
// A router that starts probes whether another host has its addresses. If one has, and the router
// hears no Active, it takes over all the same and reports a problem: RFC 9568 requires it to take
// over, and if an answer could stop it, any host on the link could keep every router from taking
// over.
func (c *Conflicts) Transition(t router.Transition) {
	c.mu.Lock()
	c.transitions = append(c.transitions, t)
	c.mu.Unlock()
	nudge(c.wake)
}

// handleTransitions processes the transitions received since the last call.
func (c *Conflicts) handleTransitions(now time.Time) {
	c.mu.Lock()
	all := c.transitions
	c.transitions = nil
	c.mu.Unlock()
	for _, t := range all {
		claims := c.endProbes(t.ID)
		switch {
		case t.From == vrrp.Initialize && t.To == vrrp.Backup:
			p := &probes{id: t.ID}
			c.probesOf[t.ID] = p
			c.pendingProbes = append(c.pendingProbes, p)
		case t.To == vrrp.Active && t.Cause == vrrp.CauseNobody:
			for mac, addresses := range claims {
				c.problems.Note(now, t.ID, inUse(t.ID, mac, addresses))
			}
		}
	}
}

// endProbes ends the probes of a router. It returns the MACs that answered, each with the
// addresses that it answered for.
func (c *Conflicts) endProbes(id router.ID) map[packet.MAC][]netip.Addr {
	p := c.probesOf[id]
	if p == nil {
		return nil
	}
	p.ended = true
	delete(c.probesOf, id)
	claims := make(map[packet.MAC][]netip.Addr)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, at := range p.sent {
		f := c.probed[at]
		if f == nil || f.id != id {
			continue // another router has it now
		}
		if f.by != (packet.MAC{}) {
			claims[f.by] = append(claims[f.by], at.address)
		}
		delete(c.probed, at)
	}
	return claims
}

func inUse(id router.ID, mac packet.MAC, addresses []netip.Addr) Observation {
	slices.SortFunc(addresses, netip.Addr.Compare)
	s := Observation{
		Kind: control.AddressInUse, Peer: mac.String(),
		Text:   "took over because it heard no Active, but the host with the MAC " + mac.String() + " already had " + joinAddresses(addresses),
		Remedy: "remove the address from that host; the MAC table of the switch shows its port",
	}
	if mac == packet.VirtualMAC(id.Family, id.VRID) {
		s.Remedy = "that host is a router of this VRID whose advertisements don't arrive here: look for a firewall, a switch or IGMP snooping that drops VRRP; run failoverctl doctor on both"
	}
	return s
}

// nextProbes returns probes for the addresses of routers that have just started. Routers whose
// addresses aren't known yet are tried again later.
func (c *Conflicts) nextProbes() (all []question) {
	now := c.pendingProbes[:min(len(c.pendingProbes), probesAtOnce)]
	later := c.pendingProbes[len(now):]
	for _, p := range now {
		if p.ended {
			continue
		}
		addresses := c.addresses(p.id)
		if p.tries++; len(addresses) == 0 && p.tries < probeTries {
			later = append(later, p)
			continue
		}
		s, ok, err := c.loop.StatusOf(p.id)
		if err != nil || !ok || s.Protocol.State != vrrp.Backup || s.OwnMAC == (packet.MAC{}) {
			continue
		}
		for _, address := range addresses {
			at := ifAddr{s.Ifindex, address}
			p.sent = append(p.sent, at)
			c.mu.Lock()
			c.probed[at] = &probedAddress{id: p.id}
			c.mu.Unlock()
			if q, ok := whoHas(s.Ifindex, s.OwnMAC, s.Source, address); ok {
				all = append(all, q)
			}
		}
	}
	c.pendingProbes = later
	return all
}
