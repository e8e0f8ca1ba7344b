// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

// hearing is what the last looks at an interface found of whether its packets are received.
type hearing struct {
	looked atomic.Int64 // when the last look began that found that they are
	since  atomic.Int64 // when what receives them was attached again; 0: never
	deaf   atomic.Bool  // they aren't
	asked  atomic.Bool  // somebody wants a look
	lost   atomic.Pointer[string]
}

// Hearing returns what is known of whether the packets of an interface are received: when
// the last look began that found that they are, since when they are again after they
// weren't, and whether they aren't now. It makes no system call. 0 stands for never.
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

// Ask asks for a look at an interface, and never waits: see Asked.
func (d *Datapath) Ask(ifindex int) {
	if h := d.heard(ifindex); h == nil || h.asked.Swap(true) {
		return
	}
	select {
	case d.asked <- struct{}{}:
	default:
	}
}

// Asked has a value when somebody has asked for a look: LookAsked takes it.
func (d *Datapath) Asked() <-chan struct{} { return d.asked }

// LookAsked is Look for the interfaces that were asked for since the last time.
func (d *Datapath) LookAsked() []Lack {
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

// lostAfter is how often in a row Repair fails until what it can't attach is lost.
const lostAfter = 2

// Lost says which programs of an interface somebody has detached that can't be attached
// again, and why: empty if there are none. Detach and Attach may find another way to
// receive.
func (d *Datapath) Lost(ifindex int) string {
	if h := d.heard(ifindex); h != nil {
		if lost := h.lost.Load(); lost != nil {
			return *lost
		}
	}
	return ""
}

// repaired notes how an attempt to attach what an interface lacks has ended.
func (a *attachment) repaired(lack *Lack, err error) {
	if lack == nil || !slices.ContainsFunc(lack.Detached, func(name string) bool {
		return name != "xdp" || len(a.sockets) == 0 // through which it receives meanwhile
	}) {
		a.failures = 0
		a.hearing.lost.Store(nil)
		return
	}
	if a.failures++; a.failures >= lostAfter {
		lost := fmt.Sprintf("the BPF programs (%s) were detached from %s and can't be attached again: %v", strings.Join(lack.Detached, ", "), a.on.Name, err)
		a.hearing.lost.Store(&lost)
	}
}

// found notes what a look has found that began then.
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

// silences reports whether what an interface lacks keeps its packets from being received,
// or may: a program that Repair will go in front of.
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
