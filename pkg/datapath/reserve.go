// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// Reservations are TCX links of interfaces to which the fence is going to be attached. Their
// program does nothing. To attach a program takes 10 ms and more, because the kernel waits until all
// processors have left the list of programs before it. To replace one takes microseconds. So the
// links are made while the programs of the fence are being loaded.
type Reservations struct {
	stopped atomic.Bool
	mu      sync.Mutex
	links   map[int]chan []link.Link // by interface; each gets one value, nil if it can't be attached
}

// Reserve makes the links in the background, in the order of the interfaces, unless another run has
// left links in the directory of the pins. Load takes ownership of them. Before that, Close detaches
// them.
func Reserve(dir string, candidates []Candidate) *Reservations {
	r, run := prepareReservations(dir, candidates)
	go run()
	return r
}

// prepareReservations returns a function that makes the links.
func prepareReservations(dir string, candidates []Candidate) (r *Reservations, run func()) {
	r = &Reservations{links: make(map[int]chan []link.Link)}
	if _, err := os.Stat(filepath.Join(dir, "links")); err == nil {
		return r, func() {}
	}
	var interfaces []int
	for _, c := range candidates {
		if ifindex := c.Link.Index; r.links[ifindex] == nil {
			interfaces = append(interfaces, ifindex)
			r.links[ifindex] = make(chan []link.Link, 1)
		}
	}
	results := maps.Clone(r.links)
	return r, func() { r.make(interfaces, results) }
}

func (r *Reservations) make(interfaces []int, results map[int]chan []link.Link) {
	const next = -1 // TC_ACT_UNSPEC: the next program decides
	empty, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: classifierName + "empty", Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, next), asm.Return()},
	})
	if err == nil {
		defer func() { _ = empty.Close() }() // the links keep it
	}
	for _, ifindex := range interfaces {
		var links []link.Link
		if err == nil && !r.stopped.Load() {
			links, err = attachPair(ifindex, empty, empty)
		}
		results[ifindex] <- links
	}
}

// take returns the links of an interface, nil for none. The caller owns them.
func (r *Reservations) take(ifindex int) []link.Link {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	c := r.links[ifindex]
	delete(r.links, ifindex)
	r.mu.Unlock()
	if c == nil {
		return nil
	}
	return <-c
}

// drop detaches the links of an interface.
func (r *Reservations) drop(ifindex int) {
	for _, l := range r.take(ifindex) {
		_ = l.Close() // it has no pin
	}
}

// Close detaches all links that nobody has taken.
func (r *Reservations) Close() {
	if r == nil {
		return
	}
	r.stopped.Store(true)
	r.mu.Lock()
	all := slices.Collect(maps.Keys(r.links))
	r.mu.Unlock()
	for _, ifindex := range all {
		r.drop(ifindex)
	}
}
