// SPDX-License-Identifier: Apache-2.0

package router

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

// An advertisement counts as sent when all of its frames were sent: one for each form of the
// checksum and each version, because a Backup that reads only one of them takes over if it
// doesn't hear that one. For a unicast router, frames to unreachable peers don't count,
// because an unreachable peer can't be distinguished from one that is switched off. Frames
// that a firewall rejects don't count either, unless it rejects all of them.
//
// A router that has sent its advertisement renews its lease. One that can't send doesn't
// renew it, even if other routers of the same interface can send. It steps down when all its
// peers must have taken over (vrrp.Unsent). Then it probes from time to time with the
// advertisement of an Active, and becomes Active if that is sent.

const (
	// maxRetries is the number of retries of an advertisement before the next one is due,
	// if the queue of the interface was full.
	maxRetries = 3
	// maxProbeInterval is the longest time between two probes of a router that can't send.
	maxProbeInterval = 10 * time.Second
	// A router that steps down again within stepDownMemory waits before its first probe,
	// longer each time: minProbeDelay to maxProbeDelay.
	stepDownMemory = 10 * time.Minute
	minProbeDelay  = 10 * time.Second
	maxProbeDelay  = 5 * time.Minute
)

// outbox is a Transmitter with queued frames.
type outbox struct {
	Transmitter
	flushed vrrp.Instant // when Flush began
}

// sending is an advertisement in an outbox, or the announcements of a router.
type sending struct {
	router       *virtualRouter
	outbox       int // in Loop.outboxes
	from, to     int // its frames there
	goodbye      bool
	announcement bool
	// The number of frames that could not be sent, how many of these were to unreachable
	// peers and how many were rejected by a firewall, and the first error.
	lost, unreachable, forbidden int
	err                          error
}

// sent reports whether the advertisement was sent to all peers that can be reached.
func (s *sending) sent() bool {
	if s.lost == s.unreachable+s.forbidden {
		return s.forbidden == 0 || s.lost < s.to-s.from
	}
	return false
}

// failure returns the error that names what could not be sent, and why.
func (s *sending) failure() error {
	if s.announcement {
		return fmt.Errorf("announcement of the addresses of VRID %d (%s): %w", s.router.id.VRID, s.router.id.Family, s.err)
	}
	return fmt.Errorf("advertisement of VRID %d (%s), %d octets: %w", s.router.id.VRID, s.router.id.Family, s.router.octets, s.err)
}

// sendFailure is the state of a router whose last advertisement could not be sent.
type sendFailure struct {
	err      error
	since    vrrp.Instant  // when the first of them in a row could not be sent
	retries  int           // of the last advertisement
	resendAt vrrp.Instant  // Active: when to retry it; 0: not
	probeAt  vrrp.Instant  // otherwise: the earliest time of the next probe
	wait     time.Duration // the time between the last two probes
}

// leftState updates the send failure of a router that changes its state. If an Active leaves
// for another cause, nobody knows whether its next advertisement could be sent.
func (r *virtualRouter) leftState(now vrrp.Instant, a *vrrp.Action) {
	r.sendFailure.resendAt = 0
	if a.Cause != vrrp.CauseCannotSend {
		if a.From == vrrp.Active {
			r.sendFailure = nil
		}
		return
	}
	r.delayProbe(now)
	if a.To == vrrp.Initialize { // an address owner, which is never Backup
		r.restartAt = max(r.sendFailure.probeAt, now.Add(a.Limit))
	}
}

// unsent returns the send failure for the status, nil if there is none.
func (r *virtualRouter) unsent() *Unsent {
	if r.sendFailure == nil {
		return nil
	}
	return &Unsent{Err: r.sendFailure.err, Since: r.sendFailure.since}
}

// delayProbe delays the first probe of a router that has stepped down, if it stepped down
// recently before.
func (r *virtualRouter) delayProbe(now vrrp.Instant) {
	if r.steppedDownAt == 0 || now.Sub(r.steppedDownAt) > stepDownMemory {
		r.probeDelay = 0
	} else {
		r.probeDelay = min(max(2*r.probeDelay, minProbeDelay), maxProbeDelay)
	}
	r.steppedDownAt = now
	r.sendFailure.probeAt = now.Add(r.probeDelay)
}

// advertise queues an advertisement.
func (l *Loop) advertise(r *virtualRouter, a *vrrp.Action) {
	t := r.advertiser()
	s := sending{router: r, outbox: l.outboxOf(t), from: t.Queued(), goodbye: a.Priority == 0}
	if err := r.queueAdvertisement(a, l.wakeups); err != nil {
		l.fail(r.id, "encode advertisement", err)
		return
	}
	s.to = t.Queued()
	l.sending = append(l.sending, s)
}

// outboxOf returns the index of a Transmitter's outbox, and adds one if needed.
func (l *Loop) outboxOf(t Transmitter) int {
	for i := range l.outboxes {
		if l.outboxes[i].Transmitter == t {
			return i
		}
	}
	l.outboxes = append(l.outboxes, outbox{Transmitter: t})
	return len(l.outboxes) - 1
}

// send flushes all outboxes. It renews the leases of the routers whose advertisements were
// sent.
//
// The kernel lets an advertisement pass while the lease lasts or Advertise allows it. So Advertise
// comes before the sending only if the lease ends too soon. Otherwise it comes together with Answer,
// so that another process that reads both at any time finds those of the same advertisement.
func (l *Loop) send() {
	for i := range l.sending {
		if s := &l.sending[i]; !s.announcement {
			if lease := l.lease(s.router); lease.Until() < l.drained.Add(s.router.protocol.Interval) {
				lease.Advertise(l.sendUntil(s.router))
			}
		}
	}
	for i := range l.outboxes {
		l.flushing, l.cursor = i, 0
		l.outboxes[i].flushed = l.clock.Now()
		l.outboxes[i].Flush(l.unsent)
	}
	reported := -1
	for i := range l.sending {
		s := &l.sending[i]
		if s.lost > 0 && s.outbox != reported {
			reported = s.outbox
			l.fail(ID{Interface: s.router.id.Interface}, ActionSend, s.failure())
		}
		if !s.announcement {
			l.conclude(s, &l.outboxes[s.outbox])
		}
	}
	clear(l.sending)
	clear(l.outboxes)
	l.sending, l.outboxes = l.sending[:0], l.outboxes[:0]
}

// sendUntil returns until when an advertisement of a router may be sent that is based on what was
// drained last.
func (l *Loop) sendUntil(r *virtualRouter) vrrp.Instant {
	return l.drained.Add(max(vrrp.SendWithin, r.protocol.Interval))
}

// frameUnsent notes that frame n of the flushing outbox could not be sent. It is the
// callback of Transmitter.Flush.
func (l *Loop) frameUnsent(n int, err error) {
	for l.cursor < len(l.sending) && (l.sending[l.cursor].outbox != l.flushing || l.sending[l.cursor].to <= n) {
		l.cursor++
	}
	if l.cursor == len(l.sending) || n < l.sending[l.cursor].from {
		return // the frame belongs to an advertisement that could not be encoded completely
	}
	s := &l.sending[l.cursor]
	if s.lost == 0 {
		s.err = err
	}
	s.lost++
	switch {
	case unreachable(err):
		s.unreachable++
	case len(s.router.peers) > 0 && errors.Is(err, fs.ErrPermission):
		s.forbidden++
	}
}

// unreachable reports whether the destination of a frame can't be reached.
func unreachable(err error) bool {
	var u interface{ Unreachable() bool }
	return errors.As(err, &u) && u.Unreachable()
}

// conclude processes the result of sending an advertisement.
//
// A Backup hears an advertisement after it was sent, and waits for longer than SilenceLimit.
// So a lease of SilenceLimit ends before a Backup takes over.
func (l *Loop) conclude(s *sending, o *outbox) {
	r := s.router
	if s.from == s.to && r.sendFailure != nil {
		return // the same advertisement could not be sent earlier in this wake-up
	}
	if s.lost > 0 {
		r.counters.SendErrors++
		if !s.sent() {
			l.lease(r).Advertise(l.sendUntil(r)) // says that it has tried
			l.noteUnsent(s, o.flushed)
			return
		}
	}
	if s.lost < s.to-s.from {
		r.sentAt = o.flushed
		r.counters.Sent++
		if s.goodbye {
			r.counters.PriorityZeroSent++
		}
	}
	if r.sendFailure != nil && !s.goodbye {
		r.sendFailure = nil
		l.reschedule(r)
	}
	if !s.goodbye && r.machine.State() == vrrp.Active && r.advertiser() == o.Transmitter {
		l.renew(r, o.flushed.Add(r.protocol.SilenceLimit(r.protocol.Interval)))
	}
}

// renew renews the lease of a router that has advertised.
func (l *Loop) renew(r *virtualRouter, until vrrp.Instant) {
	lease := l.lease(r)
	lease.Advertise(l.sendUntil(r))
	switch was, kept := l.kept[r]; {
	case !kept:
		lease.Answer(until)
	case lease.Renew(was, until):
		l.kept[r] = until
	}
}

// noteUnsent notes that an advertisement could not be sent. The lease isn't renewed.
func (l *Loop) noteUnsent(s *sending, now vrrp.Instant) {
	r := s.router
	t := r.sendFailure
	if t == nil {
		if r.machine.State() != vrrp.Active {
			return // it left Active meanwhile, and doesn't advertise any more
		}
		t = &sendFailure{since: now}
		r.sendFailure = t
	}
	t.err = s.err
	if s.goodbye || r.machine.State() != vrrp.Active {
		t.wait = min(max(2*t.wait, r.protocol.Interval), maxProbeInterval)
		t.probeAt = max(t.probeAt, now.Add(t.wait))
		return
	}
	if t.resendAt == 0 {
		t.retries = 0 // a regular advertisement, not a retry
	}
	t.resendAt = 0
	if full(s.err) && t.retries < maxRetries {
		t.resendAt = now.Add(r.protocol.Interval >> (4 - t.retries))
		t.retries++
	}
	l.unsentActives = append(l.unsentActives, r)
}

// full reports whether the queue of the interface or the socket was full.
func full(err error) bool { return errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.EAGAIN) }

// stepDown passes the failures to send to the state machines. Those that haven't sent for
// too long step down.
func (l *Loop) stepDown() {
	if len(l.unsentActives) == 0 {
		return
	}
	now := l.clock.Now()
	for i, r := range l.unsentActives {
		l.unsentActives[i] = nil
		if r.sendFailure != nil && r.machine.State() == vrrp.Active {
			l.step(r, now, vrrp.Event{Kind: vrrp.Unsent, Left: r.sentAt, Detail: r.cannotSend()})
		}
	}
	l.unsentActives = l.unsentActives[:0]
	l.followChanges(now)
	l.send()
}

// cannotSend describes why a router can't send.
func (r *virtualRouter) cannotSend() string {
	return fmt.Sprintf("%v (advertisement of %d octets)", r.sendFailure.err, r.octets)
}

// resend sends the last advertisement of an Active again after the queue was full. It
// reports whether that was due.
func (l *Loop) resend(r *virtualRouter, now vrrp.Instant) bool {
	t := r.sendFailure
	if t == nil || t.resendAt == 0 || t.resendAt > now || r.machine.State() != vrrp.Active {
		return false
	}
	if due, _ := r.machine.Deadline(); due <= now {
		t.resendAt = 0
		return false // the next advertisement is due anyway
	}
	a := r.machine.Advertisement()
	l.advertise(r, &a)
	l.send()
	l.reschedule(r)
	return true
}

// canSend reports whether a router that is about to become Active can send. If its last
// attempt failed, it probes with the advertisement of an Active.
func (l *Loop) canSend(r *virtualRouter, now vrrp.Instant) bool {
	if r.sendFailure != nil && r.sendFailure.probeAt <= now {
		a := r.machine.Advertisement()
		l.advertise(r, &a)
		l.send()
	}
	return r.sendFailure == nil
}

// Retry makes a Virtual Router that can't send try again at once, because a possible reason
// has changed.
func (l *Loop) Retry(id ID) error {
	return l.do(func() {
		if r, ok := l.routers[id]; ok && r.sendFailure != nil {
			r.sendFailure.probeAt, r.sendFailure.wait, r.steppedDownAt = 0, 0, 0
			if r.restartAt != 0 {
				r.restartAt = l.clock.Now()
			}
			l.reschedule(r)
		}
	})
}
