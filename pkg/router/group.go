// SPDX-License-Identifier: Apache-2.0

package router

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

// group is a set of Virtual Routers that are Active or Backup together. It becomes Active
// when the Active_Down_Timers of all its members have expired. While one member hears an
// Active, the others don't take over, because that host should be Active for all of them.
// When one member yields, the others yield too.
//
// After a network partition two hosts may be Active with the same priorities. Then the
// greater address wins (RFC 9568 §6.4.3), and that may be another host for each family. So
// one member of each group decides, the same one on all hosts: IPv4 before IPv6, then the
// least VRID, then the least address. The others wait until that member has yielded, or
// the other host has.
type group struct {
	name    string
	members []*virtualRouter
}

// change is a change of state of a member that the other members of the group have to
// follow.
type change struct {
	router *virtualRouter
	vrrp.Action
}

// join moves a router into the group with the given name. An empty name only removes it
// from its group.
func (l *Loop) join(r *virtualRouter, name string) {
	if r.group != nil {
		r.group.members = slices.DeleteFunc(r.group.members, func(m *virtualRouter) bool { return m == r })
		if len(r.group.members) == 0 {
			delete(l.groups, r.group.name)
		}
		r.group, r.heldBy = nil, nil
	}
	if name == "" {
		return
	}
	g := l.groups[name]
	if g == nil {
		g = &group{name: name}
		l.groups[name] = g
	}
	g.members = append(g.members, r)
	r.group = g
}

// leastAddress returns the least virtual address, the zero Addr without any.
func (r *virtualRouter) leastAddress() netip.Addr {
	if len(r.protocol.Addresses) == 0 {
		return netip.Addr{}
	}
	return slices.MinFunc(r.protocol.Addresses, netip.Addr.Compare)
}

// tieDecidedElsewhere reports whether another Active member decides a tie for this one.
func (g *group) tieDecidedElsewhere(r *virtualRouter) bool {
	if r.machine.State() != vrrp.Active {
		return false
	}
	first := slices.MinFunc(g.members, func(a, b *virtualRouter) int {
		return cmp.Or(cmp.Compare(a.id.Family, b.id.Family), cmp.Compare(a.id.VRID, b.id.VRID), a.leastAddress().Compare(b.leastAddress()))
	})
	return first != r && first.machine.State() == vrrp.Active
}

// hold returns the member of the group for which a Backup has to wait although its
// Active_Down_Timer has expired, and the earliest time at which the wait may end. It
// returns nil if there is none.
func (l *Loop) hold(r *virtualRouter, now vrrp.Instant) (until vrrp.Instant, by *virtualRouter) {
	for _, m := range r.group.members {
		at := now
		switch m.machine.State() {
		case vrrp.Initialize:
			// Either it starts soon, or the others are stopped soon too.
			at = now.Add(r.protocol.Interval)
		case vrrp.Backup:
			deadline, _ := m.machine.Deadline()
			if deadline <= now && l.heardMeanwhile(m, now) {
				deadline, _ = m.machine.Deadline()
			}
			if at = deadline; at <= now && m != r && l.awaitsReception(m, now) {
				at = m.notBefore
			}
		}
		if at > now && at > until {
			until, by = at, m
		}
	}
	if by != nil {
		return until, by
	}
	for _, m := range r.group.members {
		if m.machine.State() == vrrp.Backup && !l.canSend(m, now) {
			return m.sendFailure.probeAt, m
		}
	}
	return 0, nil
}

// expireMember processes the expired timer of a member of a group.
func (l *Loop) expireMember(r *virtualRouter, now vrrp.Instant) {
	switch r.machine.State() {
	case vrrp.Active:
		if m := l.split(r.group, now); m != nil {
			l.yieldTo(r.group, fmt.Sprintf("%s: %s hears %s", r.group.name, m.id, m.machine.Status().Active), now)
			return
		}
	case vrrp.Backup:
		until, by := l.hold(r, now)
		if by != nil {
			r.heldUntil, r.heldBy = until, by
			l.reschedule(r)
			return
		}
		l.takeOver(r.group, now)
		return
	}
	l.step(r, now, vrrp.Event{Kind: vrrp.TimerExpired})
}

// takeOver makes all members of a group Active whose timers have expired.
func (l *Loop) takeOver(g *group, now vrrp.Instant) {
	for _, m := range g.members {
		m.heldBy = nil
		if m.machine.State() == vrrp.Backup {
			l.step(m, now, vrrp.Event{Kind: vrrp.TimerExpired})
		}
	}
}

// split returns a member that still hears an Active while other members are Active here,
// for example because it started later. It returns nil if there is none.
func (l *Loop) split(g *group, now vrrp.Instant) *virtualRouter {
	for _, m := range g.members {
		if m.machine.State() != vrrp.Backup {
			continue
		}
		l.catchUp(m)
		s := m.machine.Status()
		if s.Active.IsValid() && s.Deadline > now && now.Sub(s.Since) > s.ActiveDownInterval {
			return m
		}
	}
	return nil
}

// yieldTo makes the Active members of a group yield, because another host is Active for
// one of the members.
func (l *Loop) yieldTo(g *group, why string, now vrrp.Instant) {
	for _, m := range g.members {
		if m.machine.State() == vrrp.Active {
			l.step(m, now, vrrp.Event{Kind: vrrp.Relinquish, Cause: vrrp.CauseGroup, Detail: why})
		}
	}
}

// followChanges makes the members of a group follow the changes of state of one of them.
func (l *Loop) followChanges(now vrrp.Instant) {
	for len(l.changes) > 0 {
		c := l.changes[0]
		l.changes = slices.Delete(l.changes, 0, 1)
		g := c.router.group
		if g == nil || l.ending || c.Cause == vrrp.CauseGroup {
			continue
		}
		switch {
		case c.From == vrrp.Active && c.To == vrrp.Backup:
			l.yieldTo(g, fmt.Sprintf("%s: %s is Backup: %s", g.name, c.router.id, c.Why()), now)
		case c.To == vrrp.Initialize && c.Cause == vrrp.CauseAssignFailed:
			for _, m := range g.members {
				if m.machine.State() == vrrp.Initialize {
					continue
				}
				l.step(m, now, vrrp.Event{Kind: vrrp.Shutdown, Cause: vrrp.CauseGroup, Detail: fmt.Sprintf("%s: the addresses of %s could not be assigned", g.name, c.router.id)})
				m.restartAt = now.Add(assignRetry)
				l.reschedule(m)
			}
		}
	}
}
