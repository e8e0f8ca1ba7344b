// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

// KeepAdvertising advertises for the Actives after Run has ended because another process continues
// (ErrReplaced). It returns when ctx ends or no such Active is left. It receives nothing and changes no
// state. So the other process has time to take over, and no advertisement is missing.
//
// It no longer advertises for an Active whose lease was changed by the other process, which advertises
// itself then, or by the kernel, which has heard a better router. The same is true if the lease has
// ended, because the Active could not advertise. The Actives that are left when ctx ends advertise once
// more, so that their leases have the full length.
func (l *Loop) KeepAdvertising(ctx context.Context) error {
	defer context.AfterFunc(ctx, l.packets.Wake)()
	l.keep()
	for len(l.kept) > 0 {
		if err := l.packets.Wait(l.next()); err != nil {
			return err
		}
		if ctx.Err() != nil {
			l.advertiseLast()
			return nil
		}
		l.advertiseKept()
	}
	return nil
}

// keep prepares the loop for advertiseKept.
func (l *Loop) keep() {
	l.kept = make(map[*virtualRouter]vrrp.Instant)
	l.sweepAt = never
	now := l.clock.Now()
	for _, r := range l.routers {
		l.deadlines.remove(r)
		if r.machine.State() != vrrp.Active {
			continue
		}
		if until := l.lease(r).Until(); until > now {
			l.kept[r] = until
			r.deadline, _ = r.machine.Deadline() // an Active has one
			l.deadlines.put(r)
		}
	}
}

// advertiseKept advertises for the kept Actives whose Adver_Timer has expired.
func (l *Loop) advertiseKept() {
	now := l.clock.Now()
	l.drained = now
	l.packets.Drain(func(*Received) {}) // the other process reads the kernel's stamps instead
	for len(l.kept) > 0 {
		r, at := l.deadlines.first()
		if at > now.Add(r.coalescing(l.coalescing)) {
			break
		}
		if l.keeps(r, now) {
			l.step(r, max(at, now), vrrp.Event{Kind: vrrp.TimerExpired})
		}
	}
	l.sendKept()
}

// advertiseLast advertises for all kept Actives, although their next advertisement isn't due yet.
func (l *Loop) advertiseLast() {
	now := l.clock.Now()
	l.drained = now
	for r := range l.kept {
		if l.keeps(r, now) {
			a := r.machine.Advertisement()
			l.advertise(r, &a)
		}
	}
	l.sendKept()
}

// keeps reports whether a kept Active is still this loop's, and forgets it if it isn't.
func (l *Loop) keeps(r *virtualRouter, now vrrp.Instant) bool {
	if until := l.kept[r]; until > now && l.lease(r).Until() == until && !l.heardBetter(r) {
		return true
	}
	delete(l.kept, r)
	l.deadlines.remove(r)
	return false
}

// sendKept sends the advertisements of kept Actives. An Active that can't send doesn't step down, but
// its lease ends.
func (l *Loop) sendKept() {
	l.send()
	clear(l.unsentActives)
	l.unsentActives = l.unsentActives[:0]
	l.wakeups++
}

// heardBetter reports whether the kernel has stamped an advertisement to which a kept Active may have
// to yield, and which its state machine hasn't processed.
func (l *Loop) heardBetter(r *virtualRouter) bool {
	if !l.hasReceiveState(r) {
		return false
	}
	stamp, ok := r.kernel.Stamp()
	return ok && !r.processed(stamp) && stamp.Priority >= r.protocol.Priority
}
