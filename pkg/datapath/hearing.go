// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

// hearing says whether an interface receives packets, as of the last look. The event loop
// reads it without a lock.
type hearing struct {
	looked atomic.Int64           // when the last look began that found the programs in place
	since  atomic.Int64           // when the programs were attached again; 0: never
	deaf   atomic.Bool            // the programs are detached
	asked  atomic.Bool            // a look is requested
	lost   atomic.Pointer[string] // see Lost
}

// Hearing returns whether an interface receives packets: when the last look began that found
// the programs in place, when they were attached again after somebody had detached them, and
// whether they are detached now. It makes no system call. 0 stands for never.
func (d *Datapath) Hearing(ifindex int) (looked, since vrrp.Instant, deaf bool) {
	h := d.heard(ifindex)
	if h == nil {
		return 0, 0, false
	}
	deaf = h.deaf.Load() // before the time that is written before it
	return vrrp.Instant(h.looked.Load()), vrrp.Instant(h.since.Load()), deaf
}

func (d *Datapath) heard(ifindex int) *hearing {
	if all := d.hearing.Load(); all != nil {
		return (*all)[ifindex]
	}
	return nil
}

// RequestLook requests a look at an interface. It never waits. See LookRequests.
func (d *Datapath) RequestLook(ifindex int) {
	if h := d.heard(ifindex); h == nil || h.asked.Swap(true) {
		return
	}
	select {
	case d.asked <- struct{}{}:
	default:
	}
}

// LookRequests has a value when a look is requested, which LookRequested does.
func (d *Datapath) LookRequests() <-chan struct{} { return d.asked }

// LookRequested is Look for the interfaces for which a look is requested.
func (d *Datapath) LookRequested() []Lack {
	d.attaching.Lock()
	defer d.attaching.Unlock()
	var all []Lack
	began := monotonic()
	for _, ifindex := range d.order() {
		if a := d.attached[ifindex]; a.hearing.asked.Swap(false) {
			if l, _ := d.look(a, began, true); l != nil {
				all = append(all, *l)
			}
		}
	}
	return all
}

// lostAfter is the number of failed repairs in a row after which the programs are lost.
const lostAfter = 2

// Lost names the programs that somebody has detached from an interface and that Repair can't
// attach again, and says why. It is empty if there are none. Detach and Attach may find
// another way to receive.
func (d *Datapath) Lost(ifindex int) string {
	if h := d.heard(ifindex); h != nil {
		if lost := h.lost.Load(); lost != nil {
			return *lost
		}
	}
	return ""
}

// repaired notes the result of a repair: lack is what the interface still lacks.
func (a *attachment) repaired(lack *Lack, err error) {
	if lack == nil || !slices.ContainsFunc(lack.Detached, func(name string) bool {
		return name != "xdp" || len(a.sockets) == 0 // through which it receives meanwhile
	}) {
		a.failures = 0
		a.hearing.lost.Store(nil)
		return
	}
	if err == nil {
		err = errors.New("somebody detaches them again at once")
	}
	if a.failures++; a.failures >= lostAfter {
		lost := fmt.Sprintf("the BPF programs (%s) were detached from %s and can't be attached again: %v", strings.Join(lack.Detached, ", "), a.on.Name, err)
		a.hearing.lost.Store(&lost)
	}
}

// found notes the result of a look that began at that time.
func (a *attachment) found(began vrrp.Instant, l *Lack) {
	h := &a.hearing
	switch {
	case l != nil && a.silences(l):
		h.deaf.Store(true)
	case h.deaf.Load():
		h.since.Store(int64(monotonic()))
		h.deaf.Store(false)
		fallthrough
	default:
		h.looked.Store(int64(began))
	}
}

// silences reports whether the lack keeps an interface from receiving packets. A program of
// somebody else in front of ours may do so until Repair has moved ours.
func (a *attachment) silences(l *Lack) bool {
	receives := []string{"xdp", "receive"}
	if a.kind == PathTC && a.link == nil {
		receives = append(receives, "ingress")
	}
	if len(a.sockets) > 0 {
		receives = []string{PathPacket}
	}
	return len(l.InFront) > 0 && !l.Left || slices.ContainsFunc(l.Detached, func(name string) bool { return slices.Contains(receives, name) })
}
