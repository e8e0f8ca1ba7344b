// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/failoverd/failoverd/bpf"
	"github.com/failoverd/failoverd/pkg/packet"
)

// Routers returns the Virtual Routers that are known, in an order that is always the same.
func (d *Datapath) Routers() []packet.Key {
	d.mu.RLock()
	defer d.mu.RUnlock()
	all := make([]packet.Key, 0, len(d.routers))
	for k := range d.routers {
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b packet.Key) int {
		return cmp.Or(cmp.Compare(a.Ifindex, b.Ifindex), cmp.Compare(a.Family, b.Family), cmp.Compare(a.VRID, b.VRID))
	})
	return all
}

// Router returns what a Virtual Router was made known as, false if it wasn't.
func (d *Datapath) Router(k packet.Key) (Router, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	e, known := d.routers[k]
	return e.Router, known
}

// Missing returns what the kernel's maps don't have of a Virtual Router that is known,
// nil if they have all of it: whoever may use bpftool may delete an entry. It takes a
// microsecond for each virtual address and peer.
func (d *Datapath) Missing(k packet.Key) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	e, known := d.routers[k]
	if !known {
		return fmt.Errorf("VRID %d isn't known", k.VRID)
	}
	if d.unavailable != nil {
		return nil
	}
	var errs []error
	lacks := func(wrong bool, what string, v any) {
		if wrong {
			errs = append(errs, fmt.Errorf("the kernel has no %s %v of VRID %d", what, v, k.VRID))
		}
	}
	var router bpf.VrrpFailoverVirtualRouter
	err := d.objects.FailoverRouter.Lookup(kernelKey(k), &router)
	lacks(err != nil || router != e.kernel(), "entry", bpf.VrrpMapFailoverRouter)
	for a := range e.Peers {
		var limits bpf.VrrpFailoverPeerLimits
		lacks(d.objects.FailoverPeer.Lookup(peerKey(k, a), &limits) != nil, "peer", a)
	}
	for _, key := range e.keys {
		var secret bpf.VrrpFailoverSecret
		lacks(d.objects.FailoverKeys.Lookup(key, &secret) != nil, "key", key.Id)
	}
	if d.fence == nil {
		return errors.Join(errs...)
	}
	for _, a := range e.Addresses {
		var slot bpf.VmacFailoverSlot
		holders := d.fence.holders[addressKey(k, a)]
		err := d.fence.objects.FailoverAddress.Lookup(addressKey(k, a), &slot)
		lacks(err != nil || len(holders) == 0 || slot.Slot != holders[len(holders)-1], "fenced address", a)
	}
	var all bpf.VmacFailoverVmacs
	err = d.fence.objects.FailoverVmac.Lookup(uint32(k.Ifindex), &all)
	lacks(err != nil || all.Slot[familyIndex(k.Family)][k.VRID] != e.slot+1, "virtual MAC", packet.VirtualMAC(k.Family, k.VRID))
	return errors.Join(errs...)
}

// Tell puts all of a Virtual Router that is known into the kernel's maps again.
func (d *Datapath) Tell(k packet.Key) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, known := d.routers[k]
	if !known || d.unavailable != nil {
		return nil
	}
	if d.fence != nil {
		if err := d.fence.setVMAC(k, e.slot+1); err != nil {
			return err
		}
		for _, a := range e.Addresses {
			holders := d.fence.holders[addressKey(k, a)]
			if len(holders) == 0 {
				continue
			}
			if err := d.fence.put(k, a, holders[len(holders)-1]); err != nil {
				return err
			}
		}
	}
	before := e
	err := d.tellReceivers(k, &before, &e)
	d.routers[k] = e
	return err
}
