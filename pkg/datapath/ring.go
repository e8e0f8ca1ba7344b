// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ring reads a BPF ring buffer without system calls. The kernel's
// Documentation/bpf/ringbuf.rst describes the layout. The ringbuf package of cilium/ebpf
// calls epoll before each read, which would cost the event loop a system call for every
// deadline.
type ring struct {
	consumerPage []byte
	producerPage []byte
	consumer     *uint64
	producer     *uint64
	data         []byte // mapped twice in a row, so that no record wraps
	mask         uint64
}

const (
	ringBusy    = 1 << 31 // the record isn't complete yet
	ringDiscard = 1 << 30
	ringHeader  = 8 // octets in front of each record
)

func openRing(m *ebpf.Map) (*ring, error) {
	page := os.Getpagesize()
	size := int(m.MaxEntries())
	consumer, err := unix.Mmap(m.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the ring's consumer position: %w", err)
	}
	producer, err := unix.Mmap(m.FD(), int64(page), page+2*size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map the ring: %w", err), unix.Munmap(consumer))
	}
	return &ring{
		consumerPage: consumer,
		producerPage: producer,
		consumer:     (*uint64)(unsafe.Pointer(&consumer[0])),
		producer:     (*uint64)(unsafe.Pointer(&producer[0])),
		data:         producer[page:],
		mask:         uint64(size - 1),
	}, nil
}

// drain calls f for each record that is in the ring when it is called. It reports whether
// more have come meanwhile. The sample is valid only during the call of f.
func (r *ring) drain(f func(sample []byte)) (more bool) {
	at := atomic.LoadUint64(r.consumer)
	// Records that come meanwhile are left for the next call, so that a flood can't
	// keep the event loop from its deadlines.
	end := atomic.LoadUint64(r.producer)
	for at != end {
		start := at & r.mask
		length := atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.data[start])))
		if length&ringBusy != 0 {
			return false // its commit wakes the event loop, because the ring is drained up to here
		}
		size := uint64(length &^ (ringBusy | ringDiscard))
		if length&ringDiscard == 0 {
			f(r.data[start+ringHeader : start+ringHeader+size])
		}
		at += (size + ringHeader + 7) &^ 7
		atomic.StoreUint64(r.consumer, at)
	}
	return at != atomic.LoadUint64(r.producer)
}

func (r *ring) close() error {
	return errors.Join(unix.Munmap(r.consumerPage), unix.Munmap(r.producerPage))
}
