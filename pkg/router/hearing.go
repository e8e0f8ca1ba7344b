// SPDX-License-Identifier: Apache-2.0

package router

import (
	"time"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

// A Backup that hears nobody may be deaf: somebody has detached what receives. Only the
// kernel knows, and asking it may take long, so it isn't asked on the event loop. The
// Backup has somebody look shortly before its Active_Down_Timer expires, and what was found
// is there when it does. A deaf Backup waits until it hears again, and then for
// Active_Down_Interval. If the look takes too long, the timer is believed: a take-over never
// waits for the kernel.

// deafAgain is how soon a deaf Backup sees that it hears again.
const deafAgain = 100 * time.Millisecond

// lookLead is how long before the end of Active_Down_Interval it is looked: a fifth of an
// advertisement's interval, of which Active_Down_Interval has at least three.
func lookLead(patience time.Duration) time.Duration { return patience / 16 }

// lookBefore returns when a Backup is to have it looked whether it hears, 0 if it needn't:
// it has had it looked, or hears at that time that its Active leaves.
func (r *router) lookBefore() vrrp.Instant {
	deadline, _ := r.machine.Deadline()
	patience := r.machine.ActiveDownInterval()
	at := deadline.Add(-lookLead(patience))
	if r.looked || at < r.lastHeeded.Add(patience/2) {
		return 0
	}
	return at
}

// lookAhead has it looked whether a router hears. One look serves all routers of an
// interface whose timers expire within half of an Active_Down_Interval.
func (l *Loop) lookAhead(r *router) {
	patience := r.machine.ActiveDownInterval()
	if l.packets.Hearing(r.port.Ifindex).Looked < r.lookAt.Add(lookLead(patience)-patience/2) {
		l.packets.Look(r.port.Ifindex)
	}
	r.looked = true
	l.reschedule(r)
}

// deaf reports whether a Backup that hears nobody has been deaf, so that it waits.
func (l *Loop) deaf(r *router, now vrrp.Instant) bool {
	h := l.packets.Hearing(r.port.Ifindex)
	if h.Deaf {
		r.deafUntil = now.Add(deafAgain)
	} else if h.Since != 0 {
		r.deafUntil = h.Since.Add(r.machine.ActiveDownInterval())
	}
	if r.deafUntil <= now {
		return false
	}
	l.reschedule(r)
	return true
}
