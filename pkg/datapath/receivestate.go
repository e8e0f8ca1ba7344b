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

// Expected is the number of advertisements that a ReceiveState can expect: one in each form of
// the checksum.
const Expected = int(unsafe.Sizeof(bpf.VrrpFailoverLiveness{}.Expected) / 8)

// ReceiveState is the entry of a Virtual Router in failover_stamp: what the kernel has received for
// the router. It is in memory that is shared with the kernel, so its methods make no system
// call. It is valid until the Virtual Router is deleted.
type ReceiveState struct {
	received   *uint64
	rest       *uint64 // interval, version and priority
	expected   *[Expected]uint64
	repeated   *[Expected]uint64
	repeatedAt *uint64
	order      *uint64

	outrankedUntil, outranked *uint64
}

// ReceiveState returns the ReceiveState of a Virtual Router. It returns false if the router isn't registered
// or BPF can't be used. Without BPF, Drain alone knows what was received.
func (d *Datapath) ReceiveState(k packet.Key) (ReceiveState, bool) {
	d.mu.RLock()
	e, known := d.routers[k]
	d.mu.RUnlock()
	if !known || d.receiveStates == nil {
		return ReceiveState{}, false
	}
	return receiveStateAt(d.receiveStates, e.slot), true
}

// receiveStateAt returns the ReceiveState of a slot in the mapped memory of failover_stamp.
func receiveStateAt(states []byte, slot uint32) ReceiveState {
	const size = int(unsafe.Sizeof(bpf.VrrpFailoverLiveness{}))
	v := (*bpf.VrrpFailoverLiveness)(unsafe.Pointer(&states[int(slot)*size]))
	return ReceiveState{
		received:   &v.Received,
		rest:       (*uint64)(unsafe.Pointer(&v.Interval)),
		expected:   &v.Expected,
		repeated:   &v.Repeated,
		repeatedAt: &v.RepeatedAt,
		order:      &v.Order,

		outrankedUntil: &v.OutrankedUntil,
		outranked:      &v.Outranked,
	}
}

// Stamp returns the time and the content of the last good advertisement, false if there was
// none.
func (e ReceiveState) Stamp() (vrrp.Stamp, bool) {
	// The kernel writes the time last. If it is the same before and after, the rest
	// belongs to it.
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
			s.Interval *= 100 // version 2 counts seconds
		}
		return s, true
	}
	return vrrp.Stamp{}, false
}

// SetExpected makes the kernel only stamp and count advertisements with these signatures
// (Record.Signature) instead of delivering them. It ends when an advertisement with another
// signature arrives. A signature of 0 matches nothing.
func (e ReceiveState) SetExpected(signatures [Expected]uint64) {
	for n, s := range signatures {
		atomic.StoreUint64(&e.expected[n], s)
	}
}

// SetOutranked makes the kernel only count these advertisements instead of delivering them. It
// replaces the value of an earlier call; the zero value delivers all.
func (e ReceiveState) SetOutranked(o vrrp.Outranked) {
	atomic.StoreUint64(e.outrankedUntil, 0)
	if o.Until != 0 {
		atomic.StoreUint64(e.outranked, uint64(o.Least)|uint64(o.Below)<<8|uint64(o.Forms)<<16)
		atomic.StoreUint64(e.outrankedUntil, uint64(o.Until))
	}
}

// RepeatedAt returns a pointer to the time at which the last expected advertisement was
// received, 0 if there was none. The caller must read it atomically.
func (e ReceiveState) RepeatedAt() *vrrp.Instant {
	return (*vrrp.Instant)(unsafe.Pointer(e.repeatedAt))
}

// Repeated returns the number of advertisements received so far with each expected
// signature. order tells in which order they came: a bit for each, the index of its
// signature, the latest in the lowest bit.
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
		return nil, fmt.Errorf("map failover_stamp into memory: %w", err)
	}
	return b, nil
}

func unmap(b []byte) error { return unix.Munmap(b) }
