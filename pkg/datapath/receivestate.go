// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/bpf"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// Expected is how many advertisements a ReceiveState expects: one in each form of the
// checksum.
const Expected = int(unsafe.Sizeof(bpf.VrrpFailoverLiveness{}.Expected) / 8)

// ReceiveState is what the kernel has heard for a Virtual Router, in memory that it shares.
// Its methods make no system call. It is the router's until that is deleted.
type ReceiveState struct {
	received   *uint64
	rest       *uint64 // interval, version and priority
	expected   *[Expected]uint64
	repeated   *[Expected]uint64
	repeatedAt *uint64
	order      *uint64

	outrankedUntil, outranked *uint64
}

// ReceiveState returns the kernel's memory of a Virtual Router. There is none where
// advertisements arrive through AF_PACKET: then Drain has taken all there are.
func (d *Datapath) ReceiveState(k packet.Key) (ReceiveState, bool) {
	d.mu.RLock()
	e, known := d.routers[k]
	d.mu.RUnlock()
	if !known || d.receiveStates == nil {
		return ReceiveState{}, false
	}
	const size = int(unsafe.Sizeof(bpf.VrrpFailoverLiveness{}))
	v := (*bpf.VrrpFailoverLiveness)(unsafe.Pointer(&d.receiveStates[int(e.slot)*size]))
	return ReceiveState{
		received:   &v.Received,
		rest:       (*uint64)(unsafe.Pointer(&v.Interval)),
		expected:   &v.Expected,
		repeated:   &v.Repeated,
		repeatedAt: &v.RepeatedAt,
		order:      &v.Order,

		outrankedUntil: &v.OutrankedUntil,
		outranked:      &v.Outranked,
	}, true
}

// Stamp returns what is kept of the last good advertisement, false if there was
// none.
func (e ReceiveState) Stamp() (vrrp.Stamp, bool) {
	// The kernel writes the time last: if it is the same before and after,
	// the rest belongs to it.
	for range 100 {
		received := atomic.LoadUint64(e.received)
		rest := atomic.LoadUint64(e.rest)
		if received == 0 {
			return vrrp.Stamp{}, false
		}
		if atomic.LoadUint64(e.received) != received {
			continue
		}
		var b [8]byte
		binary.NativeEndian.PutUint64(b[:], rest)
		s := vrrp.Stamp{
			At:       vrrp.Instant(received),
			Interval: time.Duration(binary.NativeEndian.Uint16(b[0:])) * 10 * time.Millisecond,
			Version:  uint8(binary.NativeEndian.Uint16(b[2:])),
			Priority: uint8(binary.NativeEndian.Uint32(b[4:])),
		}
		if s.Version == 2 {
			s.Interval *= 100 // it counts seconds
		}
		return s, true
	}
	return vrrp.Stamp{}, false
}

// SetExpected has the kernel only stamp and count advertisements of these signatures,
// which Records had, instead of handing them over, until another one comes; 0
// expects none.
func (e ReceiveState) SetExpected(signatures [Expected]uint64) {
	for n, s := range signatures {
		atomic.StoreUint64(&e.expected[n], s)
	}
}

// SetOutranked has the kernel only count these advertisements, instead of handing them over;
// the zero value hands over all. What it was told before is forgotten.
func (e ReceiveState) SetOutranked(o vrrp.Outranked) {
	atomic.StoreUint64(e.outrankedUntil, 0)
	if o.Until != 0 {
		atomic.StoreUint64(e.outranked, uint64(o.Least)|uint64(o.Below)<<8|uint64(o.Forms)<<16)
		atomic.StoreUint64(e.outrankedUntil, uint64(o.Until))
	}
}

// RepeatedAt returns where the kernel keeps when the last expected advertisement was
// received, 0 if none was. It is to be read atomically.
func (e ReceiveState) RepeatedAt() *vrrp.Instant {
	return (*vrrp.Instant)(unsafe.Pointer(e.repeatedAt))
}

// Repeated returns how many advertisements of each expected signature there have
// been in all, and which came, a bit for each, the last one lowest.
func (e ReceiveState) Repeated() (n [Expected]uint64, order uint64) {
	for i := range n {
		n[i] = atomic.LoadUint64(&e.repeated[i])
	}
	return n, atomic.LoadUint64(e.order)
}

func mapReceiveStates(m *ebpf.Map) ([]byte, error) {
	page := os.Getpagesize()
	size := (int(m.MaxEntries()*m.ValueSize()) + page - 1) &^ (page - 1)
	b, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the stamps: %w", err)
	}
	return b, nil
}

func unmap(b []byte) error { return unix.Munmap(b) }
