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

// SetSibling has an interface answer no ARP request for these addresses of Virtual Routers
// of other interfaces, which are in the same network: Linux answers for any address of the
// host at every interface. What comes from one of them leaves there only as long as its
// Virtual Router's lease lasts. Routers that aren't known are left out. Without addresses
// the interface is left alone again. If no router is at the interface itself, only the
// fence's programs are attached to it.
func (d *Datapath) SetSibling(l Link, all map[packet.Key][]netip.Addr) error {
	d.attaching.Lock()
	defer d.attaching.Unlock()
	if d.fence == nil {
		return errors.Join(d.unavailable, d.unfenced)
	}
	a := d.attached[l.Index]
	if a == nil && len(all) > 0 {
		a = &attachment{on: l, beside: true}
		if err := d.attachFence(a, l, false); err != nil {
			return errors.Join(fmt.Errorf("hold back answers at %s: %w", l.Name, err), d.release(a))
		}
		d.attached[l.Index] = a
		d.publish()
	}
	err := d.tellBeside(l.Index, all)
	if a != nil && a.beside && len(all) == 0 {
		err = errors.Join(err, d.detach(l.Index))
	}
	return err
}

// tellBeside makes the addresses of other interfaces' routers those that are held back at
// an interface.
func (d *Datapath) tellBeside(ifindex int, all map[packet.Key][]netip.Addr) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.beside[ifindex]
	now := make(map[packet.Key][]netip.Addr)
	var errs []error
	for k, addresses := range before {
		errs = append(errs, d.fence.leave(at(ifindex, k), d.routers[k].slot, without(addresses, all[k])))
	}
	for k, addresses := range all {
		e, known := d.routers[k]
		if !known {
			continue
		}
		here := at(ifindex, k)
		added := slices.DeleteFunc(without(addresses, before[k]), func(a netip.Addr) bool {
			return len(d.fence.holders[addressKey(here, a)]) > 0 // a router of this interface has it
		})
		if err := d.fence.hold(here, e.slot, added); err != nil {
			errs = append(errs, err, d.fence.leave(here, e.slot, added))
			addresses = without(addresses, added)
		}
		now[k] = slices.Clone(addresses)
	}
	if len(now) == 0 {
		delete(d.beside, ifindex)
	} else {
		d.beside[ifindex] = now
	}
	return errors.Join(errs...)
}

// forgetBeside takes the addresses of a router from all other interfaces.
func (d *Datapath) forgetBeside(k packet.Key, slot uint32) error {
	var errs []error
	for ifindex, all := range d.beside {
		errs = append(errs, d.fence.leave(at(ifindex, k), slot, all[k]))
		delete(all, k)
	}
	return errors.Join(errs...)
}

// Siblings returns the interfaces that SetSibling was told of.
func (d *Datapath) Siblings() []int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return slices.Collect(maps.Keys(d.beside))
}

func at(ifindex int, k packet.Key) packet.Key { return packet.Key{Ifindex: ifindex, Family: k.Family} }
