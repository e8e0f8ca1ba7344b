// SPDX-License-Identifier: Apache-2.0

package router

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// A Backup whose Active repeats the same advertisement is steady: the kernel only stamps
// and counts the repetitions, and doesn't wake the loop for them. A steady Backup isn't in
// Loop.deadlines, because its real deadline moves with each repetition. Instead, when the
// earliest known deadline is near, sweep reads when the kernel last heard the Actives.
// Because Active_Down_Interval is longer than three intervals, one sweep lasts for more
// than two intervals.

// never is later than any deadline.
const never = vrrp.Instant(1<<63 - 1)

// expected is the advertisement that an Active repeats, with one signature for each form
// of the checksum.
type expected struct {
	from       netip.Addr
	priority   uint8
	interval   time.Duration
	signatures [2]uint64
}

// steadyBackup is a Backup whose repeated advertisements the kernel counts.
type steadyBackup struct {
	router     *virtualRouter
	at         *vrrp.Instant // ReceiveState.RepeatedAt; kept here because sweep reads it often
	deadline   vrrp.Instant  // the timer doesn't expire earlier
	activeDown time.Duration
}

// heard returns when the kernel received the last repetition, 0 if there was none.
func (q *steadyBackup) heard() vrrp.Instant {
	return vrrp.Instant(atomic.LoadInt64((*int64)(q.at)))
}

// enterSteady makes a Backup steady if repetitions of the advertisement that was just
// received are no news.
func (l *Loop) enterSteady(r *virtualRouter, p *Received, ev *vrrp.Event) {
	if p.Signature == 0 || r.heldBy != nil || r.releaseAt != 0 || !r.machine.Repeatable(ev, l.actions) {
		return
	}
	if !l.hasReceiveState(r) {
		return
	}
	f := expected{from: p.From, priority: p.Advertisement.Priority, interval: p.Advertisement.Interval}
	f.signatures = r.expected.signatures
	if r.expected != f {
		f.signatures = [2]uint64{}
	}
	f.signatures[formIndex(p.Checksum)] = p.Signature
	r.expected = f
	r.kernel.SetExpected(f.signatures)

	l.deadlines.remove(r)
	r.steadyIndex = int32(len(l.steady))
	l.steady = append(l.steady, steadyBackup{r, r.kernel.RepeatedAt(), r.deadline, r.machine.Status().ActiveDownInterval})
	l.sweepAt = min(l.sweepAt, r.deadline.Add(-checkLead(l.steady[r.steadyIndex].activeDown)))
}

// ignoreOutranked makes the kernel ignore advertisements of lower priority like the one
// that was just received, for as long as they have no effect.
func (l *Loop) ignoreOutranked(r *virtualRouter, p *Received, ev *vrrp.Event) {
	if p.Signature == 0 {
		return
	}
	o, ok := r.machine.Outranked(ev, l.actions)
	if !ok || o.Until <= p.At || !l.hasReceiveState(r) {
		return
	}
	r.ignoring = o
	r.kernel.SetOutranked(o)
}

// hasReceiveState reports whether the kernel keeps receive state for a router, and gets it
// on the first call.
func (l *Loop) hasReceiveState(r *virtualRouter) bool {
	if r.kernel == nil {
		if r.kernel = l.packets.ReceiveState(r.key); r.kernel != nil {
			r.counted, _ = r.kernel.Repeated()
		}
	}
	return r.kernel != nil
}

// formIndex returns the index of the signature for a form of the checksum.
func formIndex(c packet.Checksum) int {
	if c == packet.ChecksumRFC5798 {
		return 1
	}
	return 0
}

func formOf(index uint64) packet.Checksum {
	if index == 1 {
		return packet.ChecksumRFC5798
	}
	return packet.ChecksumRFC9568
}

// deliverAll makes the kernel pass on every advertisement for a router again. It ends the
// steady state, after the router has caught up, and the ignoring of outranked
// advertisements.
func (l *Loop) deliverAll(r *virtualRouter) {
	if r.ignoring.Until != 0 {
		r.ignoring = vrrp.Outranked{}
		r.kernel.SetOutranked(r.ignoring)
	}
	if r.steadyIndex < 0 {
		return
	}
	r.kernel.SetExpected([2]uint64{})
	l.catchUp(r)
	last := len(l.steady) - 1
	l.steady[r.steadyIndex] = l.steady[last]
	l.steady[r.steadyIndex].router.steadyIndex = r.steadyIndex
	l.steady[last] = steadyBackup{}
	l.steady = l.steady[:last]
	r.steadyIndex = -1
	l.reschedule(r)
}

// catchUp passes the repetitions that the kernel has counted to the state machine of a
// steady Backup.
func (l *Loop) catchUp(r *virtualRouter) {
	if r.steadyIndex < 0 {
		return
	}
	n, order := r.kernel.Repeated()
	at := l.steady[r.steadyIndex].heard() // read after the counters, so it isn't older than the last one
	first, second := n[0]-r.counted[0], n[1]-r.counted[1]
	if first+second == 0 {
		return
	}
	r.counted = n
	r.counters.Found[packet.ReasonAdvertisementReceived] += first + second
	r.counters.Found[packet.ReasonChecksumRFC5798] += second
	ev := vrrp.Event{Kind: vrrp.Repeated, Forms: [2]packet.Checksum{formOf(order & 1)}}
	if first+second > 1 {
		ev.Forms[1] = formOf(order >> 1 & 1)
	}
	r.machine.Step(at, ev, nil)
	r.lastAccepted = max(r.lastAccepted, at)
	r.notePeer(r.expected.from, at)
	r.deadline, _ = r.machine.Deadline()
	l.steady[r.steadyIndex].deadline = r.deadline
}

// sweep updates the deadlines of the steady Backups. A Backup whose Active really is
// silent ends its steady state and is scheduled like all others.
func (l *Loop) sweep(now vrrp.Instant) {
	l.sweepAt = never
	for n := 0; n < len(l.steady); {
		q := &l.steady[n]
		if q.deadline.Sub(now) < q.activeDown/2+checkLead(q.activeDown) { // later deadlines needn't be exact yet
			q.deadline = max(q.deadline, q.heard().Add(q.activeDown))
		}
		wake := q.deadline.Add(-checkLead(q.activeDown))
		if wake <= now {
			l.deliverAll(q.router) // moves another Backup to index n
			continue
		}
		l.sweepAt = min(l.sweepAt, wake)
		n++
	}
}

// next returns the time at which the loop has to run again at the latest.
func (l *Loop) next() vrrp.Instant {
	_, at := l.deadlines.first()
	return min(at, l.sweepAt)
}
