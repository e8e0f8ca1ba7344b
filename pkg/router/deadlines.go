// SPDX-License-Identifier: Apache-2.0

package router

import "github.com/failoverd/failoverd/pkg/vrrp"

// deadlines is a heap of the Virtual Routers that have to be woken, the earliest
// first. Each has four below it. The times are in it, and where each router's is lies
// apart: of thousands of routers those that aren't due aren't touched when others move.
type deadlines struct {
	heap   []entry
	places []int32   // in the heap, by the router's slot
	slots  []*router // nil: free
	free   []int32
}

type entry struct {
	at   vrrp.Instant // the router's deadline
	slot int32        // the router's
}

const branches = 4

// first returns the router with the earliest deadline, and when that is: never, if there
// is none.
func (d *deadlines) first() (*router, vrrp.Instant) {
	if len(d.heap) == 0 {
		return nil, never
	}
	return d.slots[d.heap[0].slot], d.heap[0].at
}

// put has a router be where its deadline belongs.
func (d *deadlines) put(r *router) {
	if r.slot >= 0 {
		d.settle(int(d.places[r.slot]), entry{r.deadline, r.slot})
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
	d.settle(len(d.heap)-1, entry{r.deadline, r.slot})
}

// remove takes a router out, if it is in.
func (d *deadlines) remove(r *router) {
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
		d.settle(i, e)
	}
}

// settle puts an entry at i, or above or below it.
func (d *deadlines) settle(i int, e entry) {
	all := d.heap
	for i > 0 {
		above := (i - 1) / branches
		if all[above].at <= e.at {
			break
		}
		d.set(i, all[above])
		i = above
	}
	for {
		first := i*branches + 1
		if first >= len(all) {
			break
		}
		least := first
		for n := first + 1; n < min(first+branches, len(all)); n++ {
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
