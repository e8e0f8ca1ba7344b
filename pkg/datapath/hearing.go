// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// hearing is the result of the last look at an interface: whether it receives packets.
// The event loop reads it without a lock.
type hearing struct {
	looked    atomic.Int64           // the start of the last look that found the programs in place
	since     atomic.Int64           // when the programs were last attached again; 0: never
	detached  atomic.Bool            // the programs can't receive: see stopsReceiving
	requested atomic.Bool            // a look is requested
	lost      atomic.Pointer[string] // see Lost
}

// Reception returns whether an interface receives packets, as of the last look. looked is the
// start of the last look that found the programs in place. since is when they were attached
// again after somebody had detached them. detached says that they can't receive now. A time of
// 0 means never. Reception makes no system call.
func (d *Datapath) Reception(ifindex int) (looked, since vrrp.Instant, detached bool) {
	h := d.heard(ifindex)
	if h == nil {
		return 0, 0, false
	}
	detached = h.detached.Load() // first, because noteLook sets since before it clears detached
	return vrrp.Instant(h.looked.Load()), vrrp.Instant(h.since.Load()), detached
}

func (d *Datapath) heard(ifindex int) *hearing {
	if all := d.hearing.Load(); all != nil {
		return (*all)[ifindex]
	}
	return nil
}

// RequestLook requests a look at an interface, which LookRequested carries out. It never
// blocks.
func (d *Datapath) RequestLook(ifindex int) {
	if h := d.heard(ifindex); h == nil || h.requested.Swap(true) {
		return
	}
	select {
	case d.lookRequests <- struct{}{}:
	default:
	}
}

// LookRequests delivers a value when a look is requested.
func (d *Datapath) LookRequests() <-chan struct{} { return d.lookRequests }

// LookRequested is like Look, but only for the interfaces with a requested look. It also
// restores map entries that another program has deleted, because a Virtual Router without its
// entry hears nothing. Such an interface counts as attached again.
func (d *Datapath) LookRequested() []Lack {
	d.attaching.Lock()
	defer d.attaching.Unlock()
	var all []Lack
	began := monotonic()
	for _, ifindex := range d.order() {
		if a := d.attached[ifindex]; a.hearing.requested.Swap(false) {
			d.restoreOn(ifindex, &a.hearing)
			if l, _ := d.look(a, began, true); l != nil {
				all = append(all, *l)
			}
		}
	}
	return all
}

// restoreOn restores the map entries of the Virtual Routers of an interface. A router whose
// entries can't be restored hears nothing, and RestoreDeleted returns the reason.
func (d *Datapath) restoreOn(ifindex int, h *hearing) {
	d.mu.RLock()
	var here []packet.Key
	for k := range d.routers {
		if k.Ifindex == ifindex {
			here = append(here, k)
		}
	}
	d.mu.RUnlock()
	for _, k := range here {
		if missed, _ := d.restoreDeleted(k); missed {
			h.since.Store(int64(monotonic()))
		}
	}
}

// lostAfter is the number of failed repairs in a row after which Lost reports the programs.
const lostAfter = 2

// Lost returns a text that names the programs that somebody has detached from an interface
// and that Repair can't attach again, with the reason. It is empty if there are none. After
// Detach, Attach may find another path.
func (d *Datapath) Lost(ifindex int) string {
	if h := d.heard(ifindex); h != nil {
		if lost := h.lost.Load(); lost != nil {
			return *lost
		}
	}
	return ""
}

// noteRepair records the result of a repair. lack is what the interface still lacks, nil
// for nothing.
func (a *attachment) noteRepair(lack *Lack, err error) {
	if lack == nil || !slices.ContainsFunc(lack.Detached, func(name string) bool {
		return name != "xdp" || len(a.sockets) == 0 // sockets replace XDP until it is attached again
	}) {
		a.failures = 0
		a.hearing.lost.Store(nil)
		return
	}
	if err == nil {
		err = errors.New("another program detaches them again at once")
	}
	if a.failures++; a.failures >= lostAfter {
		lost := fmt.Sprintf("the BPF programs (%s) were detached from %s and can't be attached again: %v", strings.Join(lack.Detached, ", "), a.on.Name, err)
		a.hearing.lost.Store(&lost)
	}
}

// noteLook records the result of a look that began at the given time.
func (a *attachment) noteLook(began vrrp.Instant, l *Lack) {
	h := &a.hearing
	switch {
	case l != nil && a.stopsReceiving(l):
		h.detached.Store(true)
	case h.detached.Load():
		h.since.Store(int64(monotonic()))
		h.detached.Store(false)
		fallthrough
	default:
		h.looked.Store(int64(began))
	}
}

// stopsReceiving reports whether the lack may keep the interface from receiving packets.
// A foreign program in front counts too until Repair has moved failoverd's programs.
func (a *attachment) stopsReceiving(l *Lack) bool {
	receives := []string{"xdp", "receive"}
	if a.kind == PathTC && a.link == nil {
		receives = append(receives, "ingress")
	}
	if len(a.sockets) > 0 {
		receives = []string{PathPacket}
	}
	return len(l.InFront) > 0 && !l.Left || slices.ContainsFunc(l.Detached, func(name string) bool { return slices.Contains(receives, name) })
}
