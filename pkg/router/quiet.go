// SPDX-License-Identifier: Apache-2.0

package router

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// A Backup whose Active says the same again and again costs next to nothing: the
// kernel only stamps what is no news, and here all such Backups are looked after
// together. Their deadlines aren't kept up to date. When the first of them seems to
// be over, the stamps of all are read, and as Active_Down_Interval is longer than
// three intervals, that is good for more than two.

// never is later than any deadline.
const never = vrrp.Instant(1<<63 - 1)

// familiar is what an Active says each time, by the form of the checksum.
type familiar struct {
	from       netip.Addr
	priority   uint8
	interval   time.Duration
	signatures [2]uint64
}

// quiet is a Backup that the kernel listens for.
type quiet struct {
	router   *router
	at       *vrrp.Instant // ReceiveState.RepeatedAt: thousands of them are read again and again
	deadline vrrp.Instant  // not over before
	patience time.Duration // Active_Down_Interval
}

// heard is when the kernel has heard the last advertisement for it, 0 if it hasn't yet.
func (q *quiet) heard() vrrp.Instant {
	return vrrp.Instant(atomic.LoadInt64((*int64)(q.at)))
}

// expect has the kernel listen for a Backup, if the repetition of the advertisement
// that was received last is no news to it.
func (l *Loop) expect(r *router, p *Received, ev *vrrp.Event) {
	if p.Signature == 0 || r.heldBy != nil || r.releaseAt != 0 || !r.machine.Repeatable(ev, l.actions) {
		return
	}
	if !l.hears(r) {
		return
	}
	f := familiar{from: p.From, priority: p.Advertisement.Priority, interval: p.Advertisement.Interval}
	f.signatures = r.familiar.signatures
	if r.familiar != f {
		f.signatures = [2]uint64{}
	}
	f.signatures[formIndex(p.Checksum)] = p.Signature
	r.familiar = f
	r.kernel.SetExpected(f.signatures)

	l.deadlines.remove(r)
	r.quietIndex = int32(len(l.quiet))
	l.quiet = append(l.quiet, quiet{r, r.kernel.RepeatedAt(), r.deadline, r.machine.Status().ActiveDownInterval})
	l.sweepAt = min(l.sweepAt, r.deadline.Add(-lookLead(l.quiet[r.quietIndex].patience)))
}

// outrank has the kernel ignore others like the advertisement that was received last, if
// the router that it has been received for is above them.
func (l *Loop) outrank(r *router, p *Received, ev *vrrp.Event) {
	if p.Signature == 0 {
		return
	}
	o, ok := r.machine.Outranked(ev, l.actions)
	if !ok || o.Until <= p.At || !l.hears(r) {
		return
	}
	r.ignoring = o
	r.kernel.SetOutranked(o)
}

// hears reports whether the kernel hears for a router.
func (l *Loop) hears(r *router) bool {
	if r.kernel == nil {
		if r.kernel = l.packets.ReceiveState(r.key); r.kernel != nil {
			r.counted, _ = r.kernel.Repeated()
		}
	}
	return r.kernel != nil
}

// formIndex is where the signature of an advertisement is kept, of which there are
// two forms at most.
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

// listen ends that the kernel listens for a router, or ignores some, if it does. From now on it is
// handed everything, and up to now it knows everything.
func (l *Loop) listen(r *router) {
	if r.ignoring.Until != 0 {
		r.ignoring = vrrp.Outranked{}
		r.kernel.SetOutranked(r.ignoring)
	}
	if r.quietIndex < 0 {
		return
	}
	r.kernel.SetExpected([2]uint64{})
	l.catchUp(r)
	last := len(l.quiet) - 1
	l.quiet[r.quietIndex] = l.quiet[last]
	l.quiet[r.quietIndex].router.quietIndex = r.quietIndex
	l.quiet[last] = quiet{}
	l.quiet = l.quiet[:last]
	r.quietIndex = -1
	l.reschedule(r)
}

// catchUp lets a router know what the kernel has heard for it.
func (l *Loop) catchUp(r *router) {
	if r.quietIndex < 0 {
		return
	}
	n, order := r.kernel.Repeated()
	at := l.quiet[r.quietIndex].heard() // not older than the last of those
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
	r.lastHeeded = max(r.lastHeeded, at)
	r.heard(r.familiar.from, at)
	r.deadline, _ = r.machine.Deadline()
	l.quiet[r.quietIndex].deadline = r.deadline
}

// sweep looks after the quiet Backups. Those whose Active really seems to be
// silent are dealt with like all others.
func (l *Loop) sweep(now vrrp.Instant) {
	l.sweepAt = never
	for n := 0; n < len(l.quiet); {
		q := &l.quiet[n]
		if q.deadline.Sub(now) < q.patience/2+lookLead(q.patience) { // the others can wait
			q.deadline = max(q.deadline, q.heard().Add(q.patience))
		}
		wake := q.deadline.Add(-lookLead(q.patience))
		if wake <= now {
			l.listen(q.router) // another one is in its place now
			continue
		}
		l.sweepAt = min(l.sweepAt, wake)
		n++
	}
}

// next is when there is something to do at the latest.
func (l *Loop) next() vrrp.Instant {
	_, at := l.deadlines.first()
	return min(at, l.sweepAt)
}
