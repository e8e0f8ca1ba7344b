// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/bpf"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// fence is the TC programs that hold back what would make this host answer for
// the addresses of a Virtual Router that isn't Active, and give one that is its
// virtual MAC, and the leases that say which is. It outlives the process where
// it is pinned.
type fence struct {
	objects bpf.VmacObjects
	leases  []byte
	vmacs   map[int]*bpf.VmacFailoverVmacs          // what the programs know, by interface
	holders map[bpf.VmacFailoverAddressKey][]uint32 // the slots that an address was given; the last one has it
	filter  [1 << 16]uint16                         // how many addresses set a bit of the programs' filter,
	bits    [1 << 10]uint64                         // which is this
}

func loadFence(receive *ebpf.Program, leases *ebpf.Map) (*fence, error) {
	f := &fence{vmacs: make(map[int]*bpf.VmacFailoverVmacs), holders: make(map[bpf.VmacFailoverAddressKey][]uint32)}
	shared := &ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{"failover_lease": leases}}
	if err := bpf.LoadVmacObjects(&f.objects, shared); err != nil {
		return nil, err
	}
	m := f.objects.FailoverLease
	page := os.Getpagesize()
	size := (int(m.MaxEntries()*m.ValueSize()) + page - 1) &^ (page - 1)
	var err error
	if f.leases, err = unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, errors.Join(fmt.Errorf("map the leases: %w", err), f.objects.Close())
	}
	if err := f.objects.FailoverNext.Put(uint32(0), receive); err != nil {
		return nil, errors.Join(fmt.Errorf("have it receive: %w", err), f.close())
	}
	return f, nil
}

func (f *fence) close() error {
	return errors.Join(unix.Munmap(f.leases), f.objects.Close())
}

// attach attaches both programs to an interface: the one for what comes in is
// given, the other is the same always.
func (f *fence) attach(ifindex int, ingress *ebpf.Program) (links []link.Link, err error) {
	for _, p := range []struct {
		program *ebpf.Program
		at      ebpf.AttachType
	}{
		{ingress, ebpf.AttachTCXIngress},
		{f.objects.FailoverEgress, ebpf.AttachTCXEgress},
	} {
		// In front of others: behind one that returns TC_ACT_OK, as Cilium's do, a
		// program never runs.
		l, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: p.program, Attach: p.at, Anchor: link.Head()})
		if err != nil {
			for _, l := range links {
				err = errors.Join(err, l.Close())
			}
			return nil, err
		}
		links = append(links, l)
	}
	return links, nil
}

// lease is the entry of a slot in mapped memory.
func (f *fence) lease(slot uint32) *bpf.VmacFailoverLeaseState {
	const size = int(unsafe.Sizeof(bpf.VmacFailoverLeaseState{}))
	return (*bpf.VmacFailoverLeaseState)(unsafe.Pointer(&f.leases[int(slot)*size]))
}

// own makes the virtual MAC and the addresses those of the Virtual Router in the slot. If
// it can't, it has done a part of it, which disown takes back.
func (f *fence) own(k packet.Key, slot uint32, r *Router) error {
	l := f.lease(slot)
	atomic.StoreUint64(&l.Answer, 0)
	atomic.StoreUint64(&l.Advertise, 0)
	*l = bpf.VmacFailoverLeaseState{Ifindex: uint32(k.Ifindex), Family: uint16(k.Family), Vrid: uint16(k.VRID)}
	f.set(slot, r)
	if err := f.setVMAC(k, slot+1); err != nil {
		return fmt.Errorf("make the virtual MAC of VRID %d known: %w", k.VRID, err)
	}
	return f.hold(k, slot, r.Addresses)
}

// set writes what doesn't change with time into a lease.
func (f *fence) set(slot uint32, r *Router) {
	l := f.lease(slot)
	for at, value := range map[*uint32]bool{&l.Owner: r.Owner, &l.VirtualMac: r.VirtualMAC, &l.Macvlan: r.Device, &l.Accept: r.Accept, &l.Unicast: r.unicast()} {
		atomic.StoreUint32(at, number(value))
	}
}

// hold makes addresses those of the slot. Another Virtual Router may have one still, when
// it moves from that one to this: the last one that got it has it.
func (f *fence) hold(k packet.Key, slot uint32, addresses []netip.Addr) error {
	var fresh []netip.Addr
	for _, a := range addresses {
		key := addressKey(k, a)
		holders := f.holders[key]
		if slices.Contains(holders, slot) {
			continue
		}
		if err := f.put(k, a, slot); err != nil {
			return errors.Join(err, f.count(fresh, 1))
		}
		if len(holders) == 0 {
			fresh = append(fresh, a)
		}
		f.holders[key] = append(holders, slot)
	}
	return f.count(fresh, 1)
}

// put writes whose an address is where the programs read it.
func (f *fence) put(k packet.Key, a netip.Addr, slot uint32) error {
	if err := f.objects.FailoverAddress.Put(addressKey(k, a), bpf.VmacFailoverSlot{Slot: slot}); err != nil {
		return fmt.Errorf("fence %s: %w", a, noRoom(bpf.VmacMapFailoverAddress, f.objects.FailoverAddress.MaxEntries(), err))
	}
	return nil
}

// leave takes addresses from the slot. One that another Virtual Router got meanwhile is
// that one's, and one that another had before is that one's again.
func (f *fence) leave(k packet.Key, slot uint32, addresses []netip.Addr) error {
	var errs []error
	var gone []netip.Addr
	for _, a := range addresses {
		key := addressKey(k, a)
		holders := f.holders[key]
		i := slices.Index(holders, slot)
		if i < 0 {
			continue
		}
		last := i == len(holders)-1
		holders = slices.Delete(holders, i, i+1)
		var err error
		switch {
		case len(holders) == 0:
			delete(f.holders, key)
			gone = append(gone, a)
			err = absent(f.objects.FailoverAddress.Delete(key))
		case last:
			f.holders[key] = holders
			err = f.objects.FailoverAddress.Put(key, bpf.VmacFailoverSlot{Slot: holders[i-1]})
		default:
			f.holders[key] = holders
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("take the fence away from %s: %w", a, err))
		}
	}
	return errors.Join(append(errs, f.count(gone, ^uint16(0)))...)
}

// change makes a Virtual Router's slot another configuration's. Its lease goes on.
func (f *fence) change(k packet.Key, slot uint32, before, now *Router) error {
	f.set(slot, now)
	if err := f.hold(k, slot, without(now.Addresses, before.Addresses)); err != nil {
		return err
	}
	return f.leave(k, slot, without(before.Addresses, now.Addresses))
}

// without returns those of all that aren't among the others.
func without(all, those []netip.Addr) []netip.Addr {
	known := make(map[netip.Addr]bool, len(those))
	for _, a := range those {
		known[a] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(a netip.Addr) bool { return known[a] })
}

func (f *fence) disown(k packet.Key, slot uint32, r *Router) error {
	atomic.StoreUint64(&f.lease(slot).Answer, 0)
	return errors.Join(absent(f.setVMAC(k, 0)), f.leave(k, slot, r.Addresses))
}

// absent takes for no error that what was to be removed isn't there.
func absent(err error) error {
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

// count keeps the programs' filter, by which they tell most of the other
// traffic without looking anything up.
func (f *fence) count(addresses []netip.Addr, n uint16) error {
	before := f.bits
	for _, a := range addresses {
		b := a.AsSlice()
		i := int(b[len(b)-2])<<8 | int(b[len(b)-1])
		f.filter[i] += n
		if bit := uint64(1) << (i % 64); f.filter[i] != 0 {
			f.bits[i/64] |= bit
		} else {
			f.bits[i/64] &^= bit
		}
	}
	if f.bits == before {
		return nil
	}
	if err := f.objects.FailoverFilter.Set(&f.bits); err != nil {
		return fmt.Errorf("set the filter of the TC programs: %w", err)
	}
	return nil
}

func number(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// setVMAC has the programs find a Virtual Router at a slot, which is one less, or not
// at all.
func (f *fence) setVMAC(k packet.Key, slot uint32) error {
	all := f.vmacs[k.Ifindex]
	if all == nil {
		all = new(bpf.VmacFailoverVmacs)
		f.vmacs[k.Ifindex] = all
	}
	all.Slot[familyIndex(k.Family)][k.VRID] = slot
	if *all == (bpf.VmacFailoverVmacs{}) {
		delete(f.vmacs, k.Ifindex)
		return f.objects.FailoverVmac.Delete(uint32(k.Ifindex))
	}
	if err := f.objects.FailoverVmac.Put(uint32(k.Ifindex), all); err != nil {
		return noRoom(bpf.VmacMapFailoverVmac, f.objects.FailoverVmac.MaxEntries(), err)
	}
	return nil
}

func familyIndex(f packet.Family) int {
	if f == packet.IPv6 {
		return 1
	}
	return 0
}

func addressKey(k packet.Key, a netip.Addr) bpf.VmacFailoverAddressKey {
	return bpf.VmacFailoverAddressKey{Ifindex: uint32(k.Ifindex), Family: uint32(packet.FamilyOf(a)), Address: octets(a)}
}

// Lease says to the kernel until when a Virtual Router is Active. Its methods write to
// memory only. It is of use as long as the Virtual Router is known.
type Lease struct{ state *bpf.VmacFailoverLeaseState }

// Lease returns that of a Virtual Router, false if it isn't known. Without a fence it
// does nothing.
func (d *Datapath) Lease(k packet.Key) (Lease, bool) {
	d.mu.RLock()
	e, known := d.routers[k]
	d.mu.RUnlock()
	if !known || d.fence == nil {
		return Lease{}, known
	}
	return Lease{d.fence.lease(e.slot)}, true
}

// Answer lets this host answer for the addresses of the Virtual Router until
// then, and no longer; 0 ends it at once.
func (l Lease) Answer(until vrrp.Instant) {
	if l.state != nil {
		atomic.StoreUint64(&l.state.Answer, uint64(until))
		atomic.StoreUint32(&l.state.Active, number(until != 0))
	}
}

// Advertise lets advertisements of the Virtual Router leave until then. As long
// as the host answers they do anyway.
func (l Lease) Advertise(until vrrp.Instant) {
	if l.state != nil {
		atomic.StoreUint64(&l.state.Advertise, uint64(until))
	}
}
