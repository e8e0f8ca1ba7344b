// SPDX-License-Identifier: Apache-2.0

package router

import "github.com/failoverd/failoverd/pkg/vrrp"

// deadlines is a 4-ary heap of the Virtual Routers that have a deadline, the earliest
// first. The times are stored in the heap and the positions in a slice of their own, so
// that moving an entry doesn't touch the memory of thousands of routers.
type deadlines struct {
	heap   []entry
	places []int32          // the index into heap, by virtualRouter.slot
	slots  []*virtualRouter // by virtualRouter.slot; nil: free
	free   []int32          // the free slots
}

type entry struct {
	at   vrrp.Instant // virtualRouter.deadline
	slot int32        // virtualRouter.slot
}

const arity = 4

// first returns the router with the earliest deadline and that deadline. If there is none,
// it returns nil and never.
func (d *deadlines) first() (*virtualRouter, vrrp.Instant) {
	if len(d.heap) == 0 {
		return nil, never
	}
	return d.slots[d.heap[0].slot], d.heap[0].at
}

// put adds a router with its deadline, or moves it after a change of its deadline.
func (d *deadlines) put(r *virtualRouter) {
	if r.slot >= 0 {
		d.sift(int(d.places[r.slot]), entry{r.deadline, r.slot})
		return
	}
	if n := len(d.free); n > 0 {
		r.slot = d.free[n-1]
		d.free = d.free[:n-1]
		d.slots[r.slot] = r
	} else {
		r.slot = int32(len(d.slots))
		d.slots, d.places = append(d.slots, r), append(d.places, 0)
	}
	d.heap = append(d.heap, entry{})
	d.sift(len(d.heap)-1, entry{r.deadline, r.slot})
}

// remove removes a router. It does nothing if the router isn't in the heap.
func (d *deadlines) remove(r *virtualRouter) {
	if r.slot < 0 {
		return
	}
	i, last := int(d.places[r.slot]), len(d.heap)-1
	d.slots[r.slot] = nil
	d.free = append(d.free, r.slot)
	r.slot = -1
	e := d.heap[last]
	d.heap = d.heap[:last]
	if i < last {
		d.sift(i, e)
	}
}

// sift places an entry at i and moves it up or down to where it belongs.
func (d *deadlines) sift(i int, e entry) {
	all := d.heap
	for i > 0 {
		above := (i - 1) / arity
		if all[above].at <= e.at {
			break
		}
		d.set(i, all[above])
		i = above
	}
	for {
		first := i*arity + 1
		if first >= len(all) {
			break
		}
		least := first
		for n := first + 1; n < min(first+arity, len(all)); n++ {
			if all[n].at < all[least].at {
				least = n
			}
		}
		if all[least].at >= e.at {
			break
		}
		d.set(i, all[least])
		i = least
	}
	d.set(i, e)
}

func (d *deadlines) set(i int, e entry) {
	d.heap[i] = e
	d.places[e.slot] = int32(i)
}
