// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"cmp"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

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

// atOnce is how many entries of a map are read by one system call.
const atOnce = 512

// Intact reports whether the kernel's maps have all of the Virtual Routers that are known,
// and have it right. It takes a fraction of a microsecond for each. If it says no, Missing
// tells what it is; while routers are being changed it may say so without reason.
func (d *Datapath) Intact() bool {
	if d.unavailable != nil {
		return true
	}
	routers := count(d.objects.FailoverRouter, func(k *bpf.VrrpFailoverKey, v *bpf.VrrpFailoverVirtualRouter) bool {
		d.mu.RLock()
		defer d.mu.RUnlock()
		e, known := d.routers[packet.Key{Ifindex: int(k.Ifindex), Family: packet.Family(k.Family), VRID: uint8(k.Vrid)}]
		return known && e.kernel() == *v
	})
	if d.fence == nil {
		d.mu.RLock()
		defer d.mu.RUnlock()
		return routers == len(d.routers) && d.peersAndKeysIntact()
	}
	addresses := count(d.fence.objects.FailoverAddress, func(k *bpf.VmacFailoverAddressKey, v *bpf.VmacFailoverSlot) bool {
		d.mu.RLock()
		defer d.mu.RUnlock()
		holders := d.fence.holders[*k]
		return len(holders) > 0 && holders[len(holders)-1] == v.Slot
	})
	d.mu.RLock()
	defer d.mu.RUnlock()
	return routers == len(d.routers) && addresses == len(d.fence.holders) && d.virtualMACsIntact() && d.peersAndKeysIntact()
}

// virtualMACsIntact is Intact for the map of the virtual MACs.
func (d *Datapath) virtualMACsIntact() bool {
	for ifindex, want := range d.fence.vmacs {
		var all bpf.VmacFailoverVmacs
		if err := d.fence.objects.FailoverVmac.Lookup(uint32(ifindex), &all); err != nil || all != *want {
			return false
		}
	}
	return true
}

// peersAndKeysIntact is Intact for what few routers have: peers and keys.
func (d *Datapath) peersAndKeysIntact() bool {
	for k, e := range d.routers {
		if (len(e.Peers) > 0 || len(e.keys) > 0) && d.missing(k) != nil {
			return false
		}
	}
	return true
}

// count returns how many entries of a map are right.
func count[K, V any](m *ebpf.Map, right func(*K, *V) bool) (n int) {
	var cursor ebpf.MapBatchCursor
	keys, values := make([]K, atOnce), make([]V, atOnce)
	for {
		read, err := m.BatchLookup(&cursor, keys, values, nil)
		for i := range read {
			if right(&keys[i], &values[i]) {
				n++
			}
		}
		if err != nil { // there are no more, or it can't be told
			return n
		}
	}
}

// Missing returns what the kernel's maps don't have of a Virtual Router that is known,
// nil if they have all of it: whoever may use bpftool may delete an entry. It takes a
// microsecond for each virtual address and peer.
func (d *Datapath) Missing(k packet.Key) []string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.missing(k)
}

func (d *Datapath) missing(k packet.Key) (all []string) {
	e, known := d.routers[k]
	if !known || d.unavailable != nil {
		return nil
	}
	lacks := func(wrong bool, what string, v any) {
		if wrong {
			all = append(all, fmt.Sprintf("the kernel's %s %v", what, v))
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
		return all
	}
	for at, a := range d.fenced(k, e.Addresses) {
		var slot bpf.VmacFailoverSlot
		holders := d.fence.holders[addressKey(at, a)]
		err := d.fence.objects.FailoverAddress.Lookup(addressKey(at, a), &slot)
		lacks(err != nil || len(holders) == 0 || slot.Slot != holders[len(holders)-1], "fenced address", a)
	}
	var vmacs bpf.VmacFailoverVmacs
	err = d.fence.objects.FailoverVmac.Lookup(uint32(k.Ifindex), &vmacs)
	lacks(err != nil || vmacs.Slot[familyIndex(k.Family)][k.VRID] != e.slot+1, "virtual MAC", packet.VirtualMAC(k.Family, k.VRID))
	return all
}

// fenced are the addresses of a Virtual Router, at its interface and at others in its
// network.
func (d *Datapath) fenced(k packet.Key, addresses []netip.Addr) iter.Seq2[packet.Key, netip.Addr] {
	return func(yield func(packet.Key, netip.Addr) bool) {
		for _, a := range addresses {
			if !yield(k, a) {
				return
			}
		}
		for ifindex, all := range d.beside {
			for _, a := range all[k] {
				if !yield(at(ifindex, k), a) {
					return
				}
			}
		}
	}
}

// Restore puts all of a Virtual Router that is known into the kernel's maps again.
func (d *Datapath) Restore(k packet.Key) error {
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
		for at, a := range d.fenced(k, e.Addresses) {
			holders := d.fence.holders[addressKey(at, a)]
			if len(holders) == 0 {
				continue
			}
			if err := d.fence.put(at, a, holders[len(holders)-1]); err != nil {
				return err
			}
		}
	}
	before := e
	err := d.tellReceivers(k, &before, &e)
	d.routers[k] = e
	return err
}
