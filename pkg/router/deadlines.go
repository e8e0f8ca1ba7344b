// SPDX-License-Identifier: Apache-2.0

package router

import "github.com/failoverd/failoverd/pkg/vrrp"

// deadlines is a heap of the Virtual Routers that have to be woken, the earliest
// first. Each has four below it, and the times are in it: of thousands of routers those
// that aren't due aren't touched.
type deadlines []entry

type entry struct {
	at     vrrp.Instant // the router's deadline
	router *router
}

const branches = 4

// put has a router be where its deadline belongs.
func (d *deadlines) put(r *router) {
	i := r.heapIndex
	if i < 0 {
		i = len(*d)
		*d = append(*d, entry{})
	}
	d.settle(i, entry{r.deadline, r})
}

// remove takes a router out, which must be in.
func (d *deadlines) remove(r *router) {
	i, last := r.heapIndex, len(*d)-1
	r.heapIndex = -1
	e := (*d)[last]
	(*d)[last] = entry{}
	*d = (*d)[:last]
	if i < last {
		d.settle(i, e)
	}
}

// settle puts an entry at i, or above or below it.
func (d *deadlines) settle(i int, e entry) {
	all := *d
	for i > 0 {
		above := (i - 1) / branches
		if all[above].at <= e.at {
			break
		}
		all.set(i, all[above])
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
		all.set(i, all[least])
		i = least
	}
	all.set(i, e)
}

func (d deadlines) set(i int, e entry) {
	d[i] = e
	e.router.heapIndex = i
}
