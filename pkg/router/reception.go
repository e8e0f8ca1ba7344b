// SPDX-License-Identifier: Apache-2.0

package router

import (
	"time"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

// A Backup that hears nobody may be deaf, because somebody has detached the programs that
// receive. Only the kernel knows that, and asking it may take long, so the event loop doesn't
// ask. Shortly before a Backup's Active_Down_Timer expires, the loop requests a look at the
// interface from another goroutine. The result is there when the timer expires. A deaf Backup
// waits until the interface hears again, and then for Active_Down_Interval. If the look takes
// too long, the loop believes the timer, because a takeover must not wait for the kernel.

// deafAgain is the time after which a deaf Backup checks again.
const deafAgain = 100 * time.Millisecond

// lookLead is the time between the look and the end of Active_Down_Interval: a fifth of an
// advertisement's interval, of which Active_Down_Interval has at least three.
func lookLead(activeDown time.Duration) time.Duration { return activeDown / 16 }

// lookTime returns when the look at the interface of a Backup is due. It returns 0 if no look
// is needed: it was requested already, or the Active has just announced that it leaves.
func (r *router) lookTime() vrrp.Instant {
	deadline, _ := r.machine.Deadline()
	activeDown := r.machine.ActiveDownInterval()
	at := deadline.Add(-lookLead(activeDown))
	if r.looked || at < r.lastHeeded.Add(activeDown/2) {
		return 0
	}
	return at
}

// requestLook requests a look at a router's interface, unless a recent one will do. One look
// serves all routers of an interface whose timers expire within half of an
// Active_Down_Interval.
func (l *Loop) requestLook(r *router) {
	activeDown := r.machine.ActiveDownInterval()
	if l.packets.Reception(r.port.Ifindex).Checked < r.lookAt.Add(lookLead(activeDown)-activeDown/2) {
		l.packets.RequestCheck(r.port.Ifindex)
	}
	r.looked = true
	l.reschedule(r)
}

// deaf reports whether a Backup whose timer has expired has to wait, because its interface is
// deaf or was until a moment ago.
func (l *Loop) deaf(r *router, now vrrp.Instant) bool {
	h := l.packets.Reception(r.port.Ifindex)
	if h.Detached {
		r.deafUntil = now.Add(deafAgain)
	} else if h.Restored != 0 {
		r.deafUntil = h.Restored.Add(r.machine.ActiveDownInterval())
	}
	if r.deafUntil <= now {
		return false
	}
	l.reschedule(r)
	return true
}
