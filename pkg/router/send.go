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

// An advertisement has been sent when all of its frames have left: one for each form of
// the checksum and each version, because a Backup may read only one of them and takes
// over if it doesn't hear that one. Of the peers of a unicast router that holds for those
// who can be reached: a peer that is cut off from here can't be told from one that is
// gone. A firewall may keep it from some of the peers, but not from all.
//
// Who has sent prolongs its lease. Who can't send doesn't, whatever others of the same
// interface do, and steps down when nobody can believe any more that it is there
// (vrrp.Unsent). It tries again with the advertisement that it would send as the Active,
// and becomes Active if that leaves.

const (
	// retryLast is how often an advertisement is sent again before the next one is due,
	// if the queue of the interface was full.
	retryLast = 3
	// probeMost is the longest time between two attempts to send of a router that
	// can't.
	probeMost = 10 * time.Second
	// A router that steps down again within stepDownAgain waits before it tries to send,
	// longer each time: pauseFirst to pauseMost.
	stepDownAgain = 10 * time.Minute
	pauseFirst    = 10 * time.Second
	pauseMost     = 5 * time.Minute
)

// outbox is a Transmitter with something to send.
type outbox struct {
	Transmitter
	flushed vrrp.Instant // when it began to send
}

// sending is an advertisement that waits in an outbox, or announcements of addresses.
type sending struct {
	router       *router
	outbox       int // in Loop.dirty
	from, to     int // its frames there
	goodbye      bool
	announcement bool
	// How many of the frames could not be sent, and of these how many to peers that
	// can't be reached, or that a firewall keeps them from; and why the first one.
	lost, cut, barred int
	err               error
}

// sent reports whether everybody who can be reached hears it.
func (s *sending) sent() bool {
	if s.lost == s.cut+s.barred {
		return s.barred == 0 || s.lost < s.to-s.from
	}
	return false
}

// failure says what could not be sent, and why.
func (s *sending) failure() error {
	if s.announcement {
		return fmt.Errorf("announcement of the addresses of VRID %d (%s): %w", s.router.id.VRID, s.router.id.Family, s.err)
	}
	return fmt.Errorf("advertisement of VRID %d (%s), %d octets: %w", s.router.id.VRID, s.router.id.Family, s.router.octets, s.err)
}

// trouble is what a router has whose last advertisement could not be sent.
type trouble struct {
	err      error
	since    vrrp.Instant  // when the first of them in a row could not be sent
	retries  int           // of the last one
	resendAt vrrp.Instant  // Active: when to send it again, 0: not
	probeAt  vrrp.Instant  // otherwise: not to try before,
	wait     time.Duration // and how long not after the next failure
}

// leave takes in that a router changes its state that couldn't send.
func (r *router) leave(now vrrp.Instant, a *vrrp.Action) {
	r.trouble.resendAt = 0
	if a.Cause != vrrp.CauseCannotSend {
		return
	}
	r.bar(now)
	if a.To == vrrp.Initialize { // an owner, which is never Backup
		r.restartAt = max(r.trouble.probeAt, now.Add(a.Limit))
	}
}

// unsent is what people are told of it.
func (r *router) unsent() *Unsent {
	if r.trouble == nil {
		return nil
	}
	return &Unsent{Err: r.trouble.err, Since: r.trouble.since}
}

// bar keeps a router that has stepped down from trying to send for a while, if it has
// stepped down not long ago.
func (r *router) bar(now vrrp.Instant) {
	if r.outAt == 0 || now.Sub(r.outAt) > stepDownAgain {
		r.pause = 0
	} else {
		r.pause = min(max(2*r.pause, pauseFirst), pauseMost)
	}
	r.outAt = now
	r.trouble.probeAt = now.Add(r.pause)
}

// advertise queues an advertisement.
func (l *Loop) advertise(r *router, a *vrrp.Action) {
	t := r.advertiser()
	s := sending{router: r, outbox: l.touch(t), from: t.Queued(), goodbye: a.Priority == 0}
	if err := r.queueAdvertisement(a, l.wakeups); err != nil {
		l.fail(r.id, "encode advertisement", err)
		return
	}
	s.to = t.Queued()
	l.sending = append(l.sending, s)
}

// touch returns where a Transmitter is among those that are to send.
func (l *Loop) touch(t Transmitter) int {
	for i := range l.dirty {
		if l.dirty[i].Transmitter == t {
			return i
		}
	}
	l.dirty = append(l.dirty, outbox{Transmitter: t})
	return len(l.dirty) - 1
}

// send has the transmitters send what is queued. It renews the leases of those whose
// advertisements have left.
func (l *Loop) send() {
	for i := range l.sending {
		if s := &l.sending[i]; !s.announcement {
			l.lease(s.router).Advertise(l.drained.Add(max(sendWithin, s.router.protocol.Interval)))
		}
	}
	for i := range l.dirty {
		l.flushing, l.cursor = i, 0
		l.dirty[i].flushed = l.clock.Now()
		l.dirty[i].Flush(l.unsent)
	}
	told := -1
	for i := range l.sending {
		s := &l.sending[i]
		if s.lost > 0 && s.outbox != told {
			told = s.outbox
			l.fail(ID{Interface: s.router.id.Interface}, ActionSend, s.failure())
		}
		if !s.announcement {
			l.settle(s, &l.dirty[s.outbox])
		}
	}
	clear(l.sending)
	clear(l.dirty)
	l.sending, l.dirty = l.sending[:0], l.dirty[:0]
}

// refuse is told by a Transmitter that a frame could not be sent. It is l.unsent.
func (l *Loop) refuse(n int, err error) {
	for l.cursor < len(l.sending) && (l.sending[l.cursor].outbox != l.flushing || l.sending[l.cursor].to <= n) {
		l.cursor++
	}
	if l.cursor == len(l.sending) || n < l.sending[l.cursor].from {
		return // the rest of what couldn't be encoded
	}
	s := &l.sending[l.cursor]
	if s.lost == 0 {
		s.err = err
	}
	s.lost++
	switch {
	case unreachable(err):
		s.cut++
	case len(s.router.peers) > 0 && errors.Is(err, fs.ErrPermission):
		s.barred++
	}
}

// unreachable reports whether an error says that a destination can't be reached.
func unreachable(err error) bool {
	var u interface{ Unreachable() bool }
	return errors.As(err, &u) && u.Unreachable()
}

// settle draws the conclusions from what has become of an advertisement.
//
// A Backup hears it later than it was sent, and waits for more than three intervals
// (RFC 9568 §6.1) or as many as are configured, so a lease of as many ends before it
// takes over.
func (l *Loop) settle(s *sending, o *outbox) {
	r := s.router
	if s.from == s.to && r.trouble != nil {
		return // it could not be sent before, in the same wake-up
	}
	if s.lost > 0 {
		r.counters.SendErrors++
		if !s.sent() {
			l.miss(s, o.flushed)
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
	if r.trouble != nil && !s.goodbye {
		r.trouble = nil
		l.reschedule(r)
	}
	if !s.goodbye && r.machine.State() == vrrp.Active && r.advertiser() == o.Transmitter {
		l.lease(r).Answer(o.flushed.Add(r.protocol.SilenceLimit(r.protocol.Interval)))
	}
}

// miss notes that an advertisement could not be sent. Its lease lasts as it is.
func (l *Loop) miss(s *sending, now vrrp.Instant) {
	r := s.router
	t := r.trouble
	if t == nil {
		t = &trouble{since: now}
		r.trouble = t
	}
	t.err = s.err
	if s.goodbye || r.machine.State() != vrrp.Active {
		t.wait = min(max(2*t.wait, r.protocol.Interval), probeMost)
		t.probeAt = max(t.probeAt, now.Add(t.wait))
		return
	}
	if t.resendAt == 0 {
		t.retries = 0 // it is the next one
	}
	t.resendAt = 0
	if full(s.err) && t.retries < retryLast {
		t.resendAt = now.Add(r.protocol.Interval >> (4 - t.retries))
		t.retries++
	}
	l.missed = append(l.missed, r)
}

// full reports whether an error says that there is no room just now.
func full(err error) bool { return errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.EAGAIN) }

// stepDown lets the routers know that they can't send, so that those step down that
// haven't sent for too long.
func (l *Loop) stepDown() {
	if len(l.missed) == 0 {
		return
	}
	now := l.clock.Now()
	for i, r := range l.missed {
		l.missed[i] = nil
		if r.trouble != nil && r.machine.State() == vrrp.Active {
			l.step(r, now, vrrp.Event{Kind: vrrp.Unsent, Left: r.sentAt, Detail: r.cannotSend()})
		}
	}
	l.missed = l.missed[:0]
	l.follow(now)
	l.send()
}

// cannotSend says why a router can't send.
func (r *router) cannotSend() string {
	return fmt.Sprintf("%v (advertisement of %d octets)", r.trouble.err, r.octets)
}

// resend sends the last advertisement of an Active again, which found the queue full,
// and reports whether it was time for that.
func (l *Loop) resend(r *router, now vrrp.Instant) bool {
	t := r.trouble
	if t == nil || t.resendAt == 0 || t.resendAt > now || r.machine.State() != vrrp.Active {
		return false
	}
	if due, _ := r.machine.Deadline(); due <= now {
		t.resendAt = 0
		return false // the next one
	}
	a := r.machine.Advertisement()
	l.advertise(r, &a)
	l.send()
	l.reschedule(r)
	return true
}

// canSend reports whether a router that is about to become Active can send. One that
// couldn't when it last tried sends what it sends as the Active.
func (l *Loop) canSend(r *router, now vrrp.Instant) bool {
	if r.trouble != nil && r.trouble.probeAt <= now {
		a := r.machine.Advertisement()
		l.advertise(r, &a)
		l.send()
	}
	return r.trouble == nil
}

// Retry has a Virtual Router that can't send try again at once, instead of after a
// while: something has changed that may be why.
func (l *Loop) Retry(id ID) error {
	return l.do(func() {
		if r, ok := l.routers[id]; ok && r.trouble != nil {
			r.trouble.probeAt, r.trouble.wait, r.outAt = 0, 0, 0
			if r.restartAt != 0 {
				r.restartAt = l.clock.Now()
			}
			l.reschedule(r)
		}
	})
}
