// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
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
// the addresses of a Virtual Router that isn't Active, and the leases that say
// which is. It outlives the process where it is pinned.
type fence struct {
	objects bpf.VmacObjects
	leases  []byte
}

func loadFence() (*fence, error) {
	f := new(fence)
	if err := bpf.LoadVmacObjects(&f.objects, nil); err != nil {
		return nil, err
	}
	m := f.objects.FailoverLease
	page := os.Getpagesize()
	size := (int(m.MaxEntries()*m.ValueSize()) + page - 1) &^ (page - 1)
	var err error
	if f.leases, err = unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, errors.Join(fmt.Errorf("map the leases: %w", err), f.objects.Close())
	}
	return f, nil
}

func (f *fence) close() error {
	return errors.Join(unix.Munmap(f.leases), f.objects.Close())
}

// attach attaches both programs to an interface.
func (f *fence) attach(ifindex int) (links []link.Link, err error) {
	for _, p := range []struct {
		program *ebpf.Program
		at      ebpf.AttachType
	}{
		{f.objects.FailoverIngress, ebpf.AttachTCXIngress},
		{f.objects.FailoverEgress, ebpf.AttachTCXEgress},
	} {
		l, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: p.program, Attach: p.at})
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

// own makes the addresses those of the Virtual Router in the slot.
func (f *fence) own(k Key, slot uint32, addresses []netip.Addr) error {
	l := f.lease(slot)
	atomic.StoreUint64(&l.Deadline, 0)
	l.Ifindex, l.Family, l.Vrid = uint32(k.Ifindex), uint16(k.Family), uint16(k.VRID)
	for _, a := range addresses {
		if err := f.objects.FailoverAddress.Put(addressKey(k, a), bpf.VmacFailoverVirtualAddress{Slot: slot}); err != nil {
			return fmt.Errorf("fence %s: %w", a, err)
		}
	}
	return nil
}

func (f *fence) disown(k Key, slot uint32, addresses []netip.Addr) error {
	atomic.StoreUint64(&f.lease(slot).Deadline, 0)
	var errs []error
	for _, a := range addresses {
		if err := f.objects.FailoverAddress.Delete(addressKey(k, a)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func addressKey(k Key, a netip.Addr) bpf.VmacFailoverAddressKey {
	return bpf.VmacFailoverAddressKey{Ifindex: uint32(k.Ifindex), Family: uint32(packet.FamilyOf(a)), Address: octets(a)}
}

// Lease lets this host answer for the addresses of a Virtual Router until then,
// and no longer; 0 ends it at once. It writes to memory only.
func (d *Datapath) Lease(k Key, until vrrp.Instant) {
	d.mu.RLock()
	e, known := d.routers[k]
	d.mu.RUnlock()
	if known && d.fence != nil {
		atomic.StoreUint64(&d.fence.lease(e.slot).Deadline, uint64(until))
	}
}
