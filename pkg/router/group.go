// SPDX-License-Identifier: Apache-2.0

package router

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

// group is a set of Virtual Routers that are Active or Backup together. It
// becomes Active when the Active_Down_Timer of its last member has expired: as
// long as one of them hears an Active, the others let theirs be, because the host
// that is Active there is to be Active everywhere. One that yields takes the
// others with it.
//
// Two hosts that are both Active with the same priorities, after the network between
// them was cut, are told apart by their addresses (RFC 9568 §6.4.3), and of each family
// another one may have the greater. So of each group one member decides, on all hosts
// the same one: that of IPv4 rather than IPv6, of the least VRID, of the least address.
// The others wait until that has yielded, or the other host has.
type group struct {
	name    string
	members []*router
}

// change is a change of state of a group's member that the others have to follow.
type change struct {
	router *router
	vrrp.Action
}

// join makes a router a member of the group of a name, instead of the one that it
// was in. Without a name it is in none.
func (l *Loop) join(r *router, name string) {
	if r.group != nil {
		r.group.members = slices.DeleteFunc(r.group.members, func(m *router) bool { return m == r })
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

// decidesElsewhere reports whether an Active member leaves it to another one to decide a
// tie.
func (g *group) decidesElsewhere(r *router) bool {
	if r.machine.State() != vrrp.Active {
		return false
	}
	first := slices.MinFunc(g.members, func(a, b *router) int {
		return cmp.Or(cmp.Compare(a.id.Family, b.id.Family), cmp.Compare(a.id.VRID, b.id.VRID), slices.MinFunc(a.protocol.Addresses, netip.Addr.Compare).Compare(slices.MinFunc(b.protocol.Addresses, netip.Addr.Compare)))
	})
	return first != r && first.machine.State() == vrrp.Active
}

// hold reports whether a Backup whose Active_Down_Timer has expired has to wait
// for another member of its group, and if so until when at least.
func (l *Loop) hold(r *router, now vrrp.Instant) (until vrrp.Instant, by *router) {
	for _, m := range r.group.members {
		at := now
		switch m.machine.State() {
		case vrrp.Initialize:
			// It starts soon, or the others are stopped too.
			at = now.Add(r.protocol.Interval)
		case vrrp.Backup:
			deadline, _ := m.machine.Deadline()
			if deadline <= now && l.heardMeanwhile(m, now) {
				deadline, _ = m.machine.Deadline()
			}
			if at = deadline; at <= now && m != r && l.deaf(m, now) {
				at = m.deafUntil
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
			return m.trouble.probeAt, m
		}
	}
	return 0, nil
}

// expireMember acts on an expired timer of a group's member.
func (l *Loop) expireMember(r *router, now vrrp.Instant) {
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

// takeOver has all members of a group become Active whose timers have expired.
func (l *Loop) takeOver(g *group, now vrrp.Instant) {
	for _, m := range g.members {
		m.heldBy = nil
		if m.machine.State() == vrrp.Backup {
			l.step(m, now, vrrp.Event{Kind: vrrp.TimerExpired})
		}
	}
}

// split returns a member that goes on hearing an Active while others of its group
// are Active here: one that started later than they did, for example.
func (l *Loop) split(g *group, now vrrp.Instant) *router {
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

// yieldTo has the Active members of a group leave, in favour of who is Active for
// another one.
func (l *Loop) yieldTo(g *group, why string, now vrrp.Instant) {
	for _, m := range g.members {
		if m.machine.State() == vrrp.Active {
			l.step(m, now, vrrp.Event{Kind: vrrp.Relinquish, Cause: vrrp.CauseGroup, Detail: why})
		}
	}
}

// follow has the groups follow those of their members that have changed state.
func (l *Loop) follow(now vrrp.Instant) {
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
				l.step(m, now, vrrp.Event{Kind: vrrp.Shutdown, Cause: vrrp.CauseGroup, Detail: fmt.Sprintf("%s: %s can't have its addresses", g.name, c.router.id)})
				m.restartAt = now.Add(assignRetry)
				l.reschedule(m)
			}
		}
	}
}
