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

// ring reads a BPF ring buffer without system calls: the kernel's
// Documentation/bpf/ringbuf.rst describes its memory. The ringbuf package of
// cilium/ebpf asks epoll before each read, which would cost the loop a system
// call for every deadline.
type ring struct {
	consumerPage []byte
	producerPage []byte
	consumer     *uint64
	producer     *uint64
	data         []byte // mapped twice in a row, so that no record wraps
	mask         uint64
}

const (
	ringBusy    = 1 << 31 // the record is being written
	ringDiscard = 1 << 30
	ringHeader  = 8
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

// drain calls f for each record there is, and reports whether there are more
// by the end. The sample is valid during the call.
func (r *ring) drain(f func(sample []byte)) (more bool) {
	at := atomic.LoadUint64(r.consumer)
	// What is written meanwhile is for the next time: a flood must not keep
	// the loop from its deadlines. Who writes wakes us once we have caught up.
	end := atomic.LoadUint64(r.producer)
	for at != end {
		start := at & r.mask
		length := atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.data[start])))
		if length&ringBusy != 0 {
			return false // its commit wakes us again, because we have caught up
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
