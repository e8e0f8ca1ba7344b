// SPDX-License-Identifier: Apache-2.0

package router

import (
	"time"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

// A Backup also hears nothing if another process has detached the programs that receive.
// Only the kernel knows that, and asking it may take long, so the event loop doesn't ask.
// Instead, shortly before the Active_Down_Timer of a Backup expires, the loop requests a check
// of the interface from another goroutine, and reads the result when the timer expires. If
// the programs are detached, the Backup waits until they are attached again, and then for
// another Active_Down_Interval. If the check takes too long, the loop believes the timer,
// because a takeover must not wait for the kernel.

// recheckInterval is the time after which a Backup without attached programs tries again.
const recheckInterval = 100 * time.Millisecond

// checkLead returns the time between the check and the end of Active_Down_Interval. It is nearly
// an advertisement interval, because the goroutine that checks may have to wait for a processor.
// At least one advertisement is missing at that time, so a Backup of a healthy Active never
// checks.
func checkLead(activeDown time.Duration) time.Duration { return activeDown / 4 }

// checkTime returns when the check for a Backup is due. It returns 0 if none is needed:
// because it was requested already, or because the Active has just left with priority 0.
func (r *virtualRouter) checkTime() vrrp.Instant {
	deadline, _ := r.machine.Deadline()
	activeDown := r.machine.ActiveDownInterval()
	at := deadline.Add(-checkLead(activeDown))
	if r.checkRequested || at < r.lastAccepted.Add(activeDown/2) {
		return 0
	}
	return at
}

// requestCheck requests a check of the interface of a router, unless the last one is recent
// enough. One check serves all routers of an interface whose timers expire within half of
// an Active_Down_Interval.
func (l *Loop) requestCheck(r *virtualRouter) {
	activeDown := r.machine.ActiveDownInterval()
	if l.packets.Reception(r.port.Ifindex).Checked < r.checkAt.Add(checkLead(activeDown)-activeDown/2) {
		l.packets.RequestCheck(r.port.Ifindex)
	}
	r.checkRequested = true
	l.reschedule(r)
}

// awaitsReception reports whether a Backup whose timer has expired has to wait, because the
// programs of its interface are detached, or were attached again too recently.
func (l *Loop) awaitsReception(r *virtualRouter, now vrrp.Instant) bool {
	h := l.packets.Reception(r.port.Ifindex)
	if h.Detached {
		r.notBefore = now.Add(recheckInterval)
	} else if h.Restored != 0 {
		r.notBefore = h.Restored.Add(r.machine.ActiveDownInterval())
	}
	if r.notBefore <= now {
		return false
	}
	l.reschedule(r)
	return true
}
