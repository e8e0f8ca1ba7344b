// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

const (
	// arriveEvery is the time between two looks at routers that have just started, and
	// arriveAtOnce how many are looked at: each asks about its addresses. arriveTries is how
	// often it is tried when its addresses aren't known yet.
	arriveEvery  = 20 * time.Millisecond
	arriveAtOnce = 32
	arriveTries  = 50
)

// arrival is a router that has just started.
type arrival struct {
	id    router.ID
	tries int
}

// foreign is a virtual address of a router that has heard no Active so far, and was asked
// about when the router started.
type foreign struct {
	id router.ID
	by packet.MAC // who answers for it; zero: nobody
}

// Transition is told of a router's change of state, and never waits.
//
// A router that starts asks whether another host has its addresses. If one has, and the
// router hears no Active, it takes over all the same, and says so: RFC 9568 has it take over,
// and if an answer held it back anybody on the link could keep every router from it.
func (c *Conflicts) Transition(t router.Transition) {
	c.mu.Lock()
	c.turns = append(c.turns, t)
	c.mu.Unlock()
	nudge(c.wake)
}

// turn takes the changes of state in.
func (c *Conflicts) turn(now time.Time) {
	c.mu.Lock()
	all := c.turns
	c.turns = nil
	c.mu.Unlock()
	for _, t := range all {
		claims := c.settle(t.ID)
		switch {
		case t.From == vrrp.Initialize && t.To == vrrp.Backup:
			c.arrivals = append(c.arrivals, arrival{id: t.ID})
		case t.To == vrrp.Active && t.Cause == vrrp.CauseNobody:
			for mac, addresses := range claims {
				c.problems.Note(now, t.ID, inUse(t.ID, mac, addresses))
			}
		}
	}
}

// settle ends the questions of a router. It returns the MACs that answered, each with the
// router's addresses that it answered for.
func (c *Conflicts) settle(id router.ID) map[packet.MAC][]netip.Addr {
	c.arrivals = slices.DeleteFunc(c.arrivals, func(a arrival) bool { return a.id == id })
	claims := make(map[packet.MAC][]netip.Addr)
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.foreign, func(at spot, f *foreign) bool {
		if f.id == id && f.by != (packet.MAC{}) {
			claims[f.by] = append(claims[f.by], at.address)
		}
		return f.id == id
	})
	return claims
}

func inUse(id router.ID, mac packet.MAC, addresses []netip.Addr) Observation {
	slices.SortFunc(addresses, netip.Addr.Compare)
	s := Observation{
		Kind: control.AddressInUse, Peer: mac.String(),
		Text:   "heard no Active and took over, but another host, at " + mac.String() + ", had " + joinAddresses(addresses) + " before",
		Remedy: "take the address off that host: the switch's table of MACs says at which port it is",
	}
	if mac == packet.VirtualMAC(id.Family, id.VRID) {
		s.Remedy = "it is a router of this VRID that isn't heard here: look for a firewall, a switch or IGMP snooping that drops VRRP; run failoverctl doctor on both"
	}
	return s
}

// arrive returns the questions of routers that have just started. Those whose addresses
// aren't known yet stay.
func (c *Conflicts) arrive() (all []question) {
	now := c.arrivals[:min(len(c.arrivals), arriveAtOnce)]
	later := slices.Clone(c.arrivals[len(now):])
	for _, a := range now {
		addresses := c.addresses(a.id)
		if a.tries++; len(addresses) == 0 && a.tries < arriveTries {
			later = append(later, a)
			continue
		}
		s, ok, err := c.loop.StatusOf(a.id)
		if err != nil || !ok || s.Protocol.State != vrrp.Backup || s.OwnMAC == (packet.MAC{}) {
			continue
		}
		for _, address := range addresses {
			c.mu.Lock()
			c.foreign[spot{s.Ifindex, address}] = &foreign{id: a.id}
			c.mu.Unlock()
			if q, ok := whoHas(s.Ifindex, s.OwnMAC, s.Source, address); ok {
				all = append(all, q)
			}
		}
	}
	c.arrivals = later
	return all
}
