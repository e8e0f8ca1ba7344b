// SPDX-License-Identifier: Apache-2.0

package router

// deadlines is a heap of the Virtual Routers that have to be woken, the
// earliest first.
type deadlines []*router

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].deadline < d[j].deadline }

func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].heapIndex, d[j].heapIndex = i, j
}

func (d *deadlines) Push(x any) {
	r := x.(*router)
	r.heapIndex = len(*d)
	*d = append(*d, r)
}

func (d *deadlines) Pop() any {
	old := *d
	last := len(old) - 1
	r := old[last]
	old[last] = nil
	*d = old[:last]
	r.heapIndex = -1
	return r
}
