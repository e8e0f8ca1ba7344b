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

// fence is the TC programs and their maps. The programs drop what would make this host
// answer for the addresses of a Virtual Router that isn't Active, and translate the
// virtual MAC of one that is. The leases say which is which. A pinned fence outlives the
// process.
type fence struct {
	objects    bpf.VmacObjects // its programs are nil until an interface needs them
	collection *collection
	leases     []byte                                  // failover_lease, mapped
	vmacs      map[int]*bpf.VmacFailoverVmacs          // the entries of failover_vmac, by interface
	holders    map[bpf.VmacFailoverAddressKey][]uint32 // the slots that an address is assigned to; the last one counts
	filter     [1 << 16]uint16                         // the number of addresses behind each bit of failover_filter
	bits       [1 << 10]uint64                         // the content of failover_filter

	// With postpone, changes of failover_vmac and failover_filter are only noted, until flush.
	postpone      bool
	staleVMACs    map[int]bool // the interfaces whose entry of failover_vmac has to be written
	filterIsStale bool
}

func loadFence(spec *ebpf.CollectionSpec, shared map[string]*ebpf.Map, names []string) (*fence, error) {
	f := &fence{vmacs: make(map[int]*bpf.VmacFailoverVmacs), staleVMACs: make(map[int]bool), holders: make(map[bpf.VmacFailoverAddressKey][]uint32)}
	c := &collection{read: bpf.LoadVmac}
	programs, err := c.load(spec, withVariables(shared, bpf.VmacVarFailoverFilter), names, &f.objects.VmacMaps, &f.objects.VmacVariables)
	if err != nil {
		return nil, err
	}
	f.collection = c
	f.objects.FailoverIn, f.objects.FailoverIngress, f.objects.FailoverEgress = programs[bpf.VmacProgFailoverIn], programs[bpf.VmacProgFailoverIngress], programs[bpf.VmacProgFailoverEgress]
	m := f.objects.FailoverLease
	page := os.Getpagesize()
	size := (int(m.MaxEntries()*m.ValueSize()) + page - 1) &^ (page - 1)
	if f.leases, err = unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		f.collection.close()
		return nil, errors.Join(fmt.Errorf("map failover_lease into memory: %w", err), f.objects.Close())
	}
	return f, nil
}

// setNext sets the program that failover_in continues with.
func (f *fence) setNext(receive *ebpf.Program) error {
	if err := f.objects.FailoverNext.Put(uint32(0), receive); err != nil {
		return fmt.Errorf("set the receiving program: %w", err)
	}
	return nil
}

func (f *fence) close() error {
	f.collection.close()
	return errors.Join(unix.Munmap(f.leases), f.objects.Close())
}

// attachPair attaches an ingress and an egress program to an interface.
func attachPair(ifindex int, ingress, egress *ebpf.Program) (links []link.Link, err error) {
	for _, p := range []struct {
		program *ebpf.Program
		at      ebpf.AttachType
	}{
		{ingress, ebpf.AttachTCXIngress},
		{egress, ebpf.AttachTCXEgress},
	} {
		// The programs go to the front. A program that returns TC_ACT_OK, as Cilium's
		// do, keeps all programs behind it from running.
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

// lease returns the entry of a slot in the mapped memory of failover_lease.
func (f *fence) lease(slot uint32) *bpf.VmacFailoverLeaseState {
	const size = int(unsafe.Sizeof(bpf.VmacFailoverLeaseState{}))
	return (*bpf.VmacFailoverLeaseState)(unsafe.Pointer(&f.leases[int(slot)*size]))
}

// addRouter initializes the lease of a slot and assigns the virtual MAC and the addresses
// to it. After an error a part of this may be done; removeRouter undoes it.
func (f *fence) addRouter(k packet.Key, slot uint32, r *Router) error {
	l := f.lease(slot)
	atomic.StoreUint64(&l.Answer, 0)
	atomic.StoreUint64(&l.Advertise, 0)
	*l = bpf.VmacFailoverLeaseState{Ifindex: uint32(k.Ifindex), Family: uint16(k.Family), Vrid: uint16(k.VRID)}
	f.set(slot, r)
	if err := f.setVMAC(k, slot+1); err != nil {
		return err
	}
	return f.assign(k, slot, r.Addresses)
}

// set writes the configuration into a lease: the fields other than the times.
func (f *fence) set(slot uint32, r *Router) {
	l := f.lease(slot)
	for at, value := range map[*uint32]bool{&l.Owner: r.Owner, &l.VirtualMac: r.VirtualMAC, &l.Macvlan: r.Device, &l.Accept: r.Accept, &l.Unicast: r.unicast()} {
		atomic.StoreUint32(at, number(value))
	}
}

// assign assigns addresses to the slot. While an address moves between two Virtual
// Routers both slots hold it, and the newest one counts.
func (f *fence) assign(k packet.Key, slot uint32, addresses []netip.Addr) error {
	var fresh []netip.Addr
	for _, a := range addresses {
		key := addressKey(k, a)
		holders := f.holders[key]
		if slices.Contains(holders, slot) {
			continue
		}
		if err := f.putAddress(k, a, slot); err != nil {
			return errors.Join(err, f.updateFilter(fresh, 1))
		}
		if len(holders) == 0 {
			fresh = append(fresh, a)
		}
		f.holders[key] = append(holders, slot)
	}
	return f.updateFilter(fresh, 1)
}

// putAddress writes the slot of an address into failover_address.
func (f *fence) putAddress(k packet.Key, a netip.Addr, slot uint32) error {
	if err := f.objects.FailoverAddress.Put(addressKey(k, a), bpf.VmacFailoverSlot{Slot: slot}); err != nil {
		return fmt.Errorf("fence %s: %w", a, noRoom(bpf.VmacMapFailoverAddress, f.objects.FailoverAddress.MaxEntries(), err))
	}
	return nil
}

// unassign takes addresses from the slot. If other slots hold an address too, the newest
// of those counts.
func (f *fence) unassign(k packet.Key, slot uint32, addresses []netip.Addr) error {
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
			err = ignoreNotExist(f.objects.FailoverAddress.Delete(key))
		case last:
			f.holders[key] = holders
			err = f.objects.FailoverAddress.Put(key, bpf.VmacFailoverSlot{Slot: holders[i-1]})
		default:
			f.holders[key] = holders
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("remove the fence of %s: %w", a, err))
		}
	}
	return errors.Join(append(errs, f.updateFilter(gone, ^uint16(0)))...)
}

// changeRouter applies another configuration to a slot. Its lease goes on.
func (f *fence) changeRouter(k packet.Key, slot uint32, before, now *Router) error {
	f.set(slot, now)
	if err := f.assign(k, slot, without(now.Addresses, before.Addresses)); err != nil {
		return err
	}
	return f.unassign(k, slot, without(before.Addresses, now.Addresses))
}

// without returns the addresses in all that aren't in excluded.
func without(all, excluded []netip.Addr) []netip.Addr {
	set := make(map[netip.Addr]bool, len(excluded))
	for _, a := range excluded {
		set[a] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(a netip.Addr) bool { return set[a] })
}

// removeRouter ends the lease of a slot and takes the virtual MAC and the addresses from
// it.
func (f *fence) removeRouter(k packet.Key, slot uint32, r *Router) error {
	atomic.StoreUint64(&f.lease(slot).Answer, 0)
	return errors.Join(f.setVMAC(k, 0), f.unassign(k, slot, r.Addresses))
}

// ignoreNotExist ignores the error that the entry to delete does not exist.
func ignoreNotExist(err error) error {
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

// updateFilter adds n to the count of each address in the programs' filter, and writes
// the filter if a bit has changed. The filter lets the programs pass most of the other
// traffic without a map lookup.
func (f *fence) updateFilter(addresses []netip.Addr, n uint16) error {
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
	f.filterIsStale = true
	return f.flushUnlessPostponed()
}

func (f *fence) flushUnlessPostponed() error {
	if f.postpone {
		return nil
	}
	return f.flush()
}

// flush writes what was postponed. After an error the rest is forgotten.
func (f *fence) flush() error {
	defer func() {
		f.postpone, f.filterIsStale = false, false
		clear(f.staleVMACs)
	}()
	for ifindex := range f.staleVMACs {
		if err := f.putVMACs(ifindex); err != nil {
			return err
		}
	}
	if !f.filterIsStale {
		return nil
	}
	if err := f.objects.FailoverFilter.Set(&f.bits); err != nil {
		return fmt.Errorf("set the filter of the TC programs: %w", err)
	}
	return nil
}

// putVMACs writes or deletes the entry of an interface in failover_vmac.
func (f *fence) putVMACs(ifindex int) error {
	all := f.vmacs[ifindex]
	if all == nil {
		return ignoreNotExist(f.objects.FailoverVmac.Delete(uint32(ifindex)))
	}
	if err := f.objects.FailoverVmac.Put(uint32(ifindex), all); err != nil {
		return fmt.Errorf("add the virtual MACs of an interface: %w", noRoom(bpf.VmacMapFailoverVmac, f.objects.FailoverVmac.MaxEntries(), err))
	}
	return nil
}

// number returns 1 for true and 0 for false.
func number(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// setVMAC writes the slot plus 1 of a Virtual Router into failover_vmac; 0 removes it.
func (f *fence) setVMAC(k packet.Key, slot uint32) error {
	all := f.vmacs[k.Ifindex]
	if all == nil {
		all = new(bpf.VmacFailoverVmacs)
		f.vmacs[k.Ifindex] = all
	}
	all.Slot[familyIndex(k.Family)][k.VRID] = slot
	if *all == (bpf.VmacFailoverVmacs{}) {
		delete(f.vmacs, k.Ifindex)
	}
	f.staleVMACs[k.Ifindex] = true
	return f.flushUnlessPostponed()
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

// Lease tells the kernel until when a Virtual Router is Active. Its methods only write to
// memory that is shared with the kernel; they make no system call. It is valid until the
// Virtual Router is deleted.
type Lease struct{ state *bpf.VmacFailoverLeaseState }

// Lease returns the lease of a Virtual Router, false if it isn't registered. Without a
// fence the methods of the lease do nothing.
func (d *Datapath) Lease(k packet.Key) (Lease, bool) {
	d.mu.RLock()
	e, known := d.routers[k]
	d.mu.RUnlock()
	if !known || d.fence == nil {
		return Lease{}, known
	}
	return Lease{d.fence.lease(e.slot)}, true
}

// Answer lets this host answer for the addresses of the Virtual Router until the given
// time; 0 ends it at once.
func (l Lease) Answer(until vrrp.Instant) {
	if l.state != nil {
		atomic.StoreUint64(&l.state.Answer, uint64(until))
		atomic.StoreUint32(&l.state.Active, number(until != 0))
	}
}

// Renew is Answer if the lease ends at was. It returns false, and changes nothing, if the kernel or
// another process has changed the lease.
func (l Lease) Renew(was, until vrrp.Instant) bool {
	return l.state != nil && atomic.CompareAndSwapUint64(&l.state.Answer, uint64(was), uint64(until))
}

// Until returns the end of the lease, 0 if it has been ended: by Answer, or by the kernel when
// it received a better router.
func (l Lease) Until() vrrp.Instant {
	if l.state == nil {
		return 0
	}
	return vrrp.Instant(atomic.LoadUint64(&l.state.Answer))
}

// Advertise lets advertisements of the Virtual Router leave until the given time. They
// may also leave as long as the host answers for the addresses.
func (l Lease) Advertise(until vrrp.Instant) {
	if l.state != nil {
		atomic.StoreUint64(&l.state.Advertise, uint64(until))
	}
}
