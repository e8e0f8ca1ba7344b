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

// Routers returns the keys of the registered Virtual Routers in ascending order.
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

// Router returns the parameters of a registered Virtual Router, false if it isn't
// registered.
func (d *Datapath) Router(k packet.Key) (Router, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	e, known := d.routers[k]
	return e.Router, known
}

// batchSize is the number of map entries that one system call reads.
const batchSize = 512

// Intact reports whether the kernel's maps hold the right entries for all registered
// Virtual Routers. It takes less than a microsecond per router. If it returns false,
// Missing names the entries of a router that are missing or wrong. Intact may also return
// false while another goroutine changes a router.
func (d *Datapath) Intact() bool {
	if d.unavailable != nil {
		return true
	}
	routers := countRight(d.objects.FailoverRouter, func(k *bpf.VrrpFailoverKey, v *bpf.VrrpFailoverVirtualRouter) bool {
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
	addresses := countRight(d.fence.objects.FailoverAddress, func(k *bpf.VmacFailoverAddressKey, v *bpf.VmacFailoverSlot) bool {
		d.mu.RLock()
		defer d.mu.RUnlock()
		holders := d.fence.holders[*k]
		return len(holders) > 0 && holders[len(holders)-1] == v.Slot
	})
	d.mu.RLock()
	defer d.mu.RUnlock()
	return routers == len(d.routers) && addresses == len(d.fence.holders) && d.virtualMACsIntact() && d.peersAndKeysIntact()
}

// virtualMACsIntact is Intact for failover_vmac.
func (d *Datapath) virtualMACsIntact() bool {
	for ifindex, want := range d.fence.vmacs {
		var all bpf.VmacFailoverVmacs
		if err := d.fence.objects.FailoverVmac.Lookup(uint32(ifindex), &all); err != nil || all != *want {
			return false
		}
	}
	return true
}

// peersAndKeysIntact is Intact for the routers with peers or keys, which are few.
func (d *Datapath) peersAndKeysIntact() bool {
	for k, e := range d.routers {
		if (len(e.Peers) > 0 || len(e.keys) > 0) && d.missing(k) != nil {
			return false
		}
	}
	return true
}

// countRight returns the number of entries of a map that are right.
func countRight[K, V any](m *ebpf.Map, right func(*K, *V) bool) (n int) {
	var cursor ebpf.MapBatchCursor
	keys, values := make([]K, batchSize), make([]V, batchSize)
	for {
		read, err := m.BatchLookup(&cursor, keys, values, nil)
		for i := range read {
			if right(&keys[i], &values[i]) {
				n++
			}
		}
		if err != nil { // the end of the map, or a failure: then too few are counted
			return n
		}
	}
}

// Missing returns the names of the map entries of a registered Virtual Router that are
// missing or wrong, nil for none. Any process with CAP_BPF can delete an entry. Missing
// takes about a microsecond per virtual address and peer.
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

// fenced iterates over the addresses of a Virtual Router that are fenced: at its own
// interface and at its siblings.
func (d *Datapath) fenced(k packet.Key, addresses []netip.Addr) iter.Seq2[packet.Key, netip.Addr] {
	return func(yield func(packet.Key, netip.Addr) bool) {
		for _, a := range addresses {
			if !yield(k, a) {
				return
			}
		}
		for ifindex, all := range d.siblings {
			for _, a := range all[k] {
				if !yield(at(ifindex, k), a) {
					return
				}
			}
		}
	}
}

// RestoreDeleted restores the map entries of registered Virtual Routers that another program
// has deleted. Restored returns them.
func (d *Datapath) RestoreDeleted() error {
	if d.Intact() {
		return nil
	}
	for _, k := range d.Routers() {
		if _, err := d.restoreDeleted(k); err != nil {
			return err
		}
	}
	return nil
}

// restoreDeleted is RestoreDeleted for one Virtual Router. It reports whether an entry was
// missing.
func (d *Datapath) restoreDeleted(k packet.Key) (missed bool, err error) {
	missing := d.Missing(k)
	if missing == nil {
		return false, nil
	}
	if err := d.Restore(k); err != nil {
		return true, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.restored == nil {
		d.restored = make(map[packet.Key][]string)
	}
	d.restored[k] = missing
	return true, nil
}

// Restored returns the entries that were restored since the last call, as Missing names them.
func (d *Datapath) Restored() map[packet.Key][]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.restored
	d.restored = nil
	return all
}

// Restore writes all map entries of a registered Virtual Router again.
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
			if err := d.fence.putAddress(at, a, holders[len(holders)-1]); err != nil {
				return err
			}
		}
	}
	before := e
	err := d.putReceiver(k, &before, &e)
	d.routers[k] = e
	return err
}
