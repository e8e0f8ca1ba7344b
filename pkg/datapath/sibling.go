// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/failoverd/failoverd/pkg/packet"
)

// SetSibling fences addresses of Virtual Routers at a sibling: another interface of this
// host in the same network. Linux answers ARP requests for all of the host's addresses at
// every interface, so the sibling would answer too. SetSibling makes it never answer, and
// lets packets from such an address leave there only while the lease of its Virtual Router
// lasts. Keys that aren't registered are ignored. An empty map ends the fencing. If the
// sibling has no Virtual Router of its own, only the programs of the fence are attached.
func (d *Datapath) SetSibling(l Link, all map[packet.Key][]netip.Addr) error {
	d.attaching.Lock()
	defer d.attaching.Unlock()
	if d.fence == nil {
		return errors.Join(d.unavailable, d.unfenced)
	}
	a := d.attached[l.Index]
	if a == nil && len(all) > 0 {
		a = &attachment{on: l, sibling: true}
		if err := d.attachFence(a, l, false); err != nil {
			return errors.Join(fmt.Errorf("fence the virtual addresses of other interfaces at %s: %w", l.Name, err), d.release(a))
		}
		d.attached[l.Index] = a
		d.publish()
	}
	err := d.setSibling(l.Index, all)
	if a != nil && a.sibling && len(all) == 0 {
		err = errors.Join(err, d.detach(l.Index))
	}
	return err
}

// setSibling replaces the addresses that are fenced at a sibling.
func (d *Datapath) setSibling(ifindex int, all map[packet.Key][]netip.Addr) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.siblings[ifindex]
	now := make(map[packet.Key][]netip.Addr)
	var errs []error
	for k, addresses := range before {
		errs = append(errs, d.fence.unassign(at(ifindex, k), d.routers[k].slot, without(addresses, all[k])))
	}
	for k, addresses := range all {
		e, known := d.routers[k]
		if !known {
			continue
		}
		here := at(ifindex, k)
		added := slices.DeleteFunc(without(addresses, before[k]), func(a netip.Addr) bool {
			return len(d.fence.holders[addressKey(here, a)]) > 0 // a router of the sibling has it too
		})
		if err := d.fence.assign(here, e.slot, added); err != nil {
			errs = append(errs, err, d.fence.unassign(here, e.slot, added))
			addresses = without(addresses, added)
		}
		now[k] = slices.Clone(addresses)
	}
	if len(now) == 0 {
		delete(d.siblings, ifindex)
	} else {
		d.siblings[ifindex] = now
	}
	return errors.Join(errs...)
}

// forgetSiblings ends the fencing of a router's addresses at all siblings.
func (d *Datapath) forgetSiblings(k packet.Key, slot uint32) error {
	var errs []error
	for ifindex, all := range d.siblings {
		errs = append(errs, d.fence.unassign(at(ifindex, k), slot, all[k]))
		delete(all, k)
	}
	return errors.Join(errs...)
}

// Siblings returns the indexes of the interfaces at which SetSibling fences addresses.
func (d *Datapath) Siblings() []int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return slices.Collect(maps.Keys(d.siblings))
}

// at returns a key for addresses of k's family at another interface.
func at(ifindex int, k packet.Key) packet.Key { return packet.Key{Ifindex: ifindex, Family: k.Family} }
