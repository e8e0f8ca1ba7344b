// SPDX-License-Identifier: Apache-2.0

package control

import (
	"sort"
	"sync"
	"time"
)

const (
	// keptTransitions is how many transitions are kept, and keptOthers how many
	// events of each other kind: what anybody on the link can cause displaces
	// nothing but its like.
	keptTransitions = 4096
	keptOthers      = 1024
	// batch is how many events After returns at most: many who read slowly don't
	// hold a copy of everything.
	batch = 256
)

// History keeps the last events of each kind for those who ask, and wakes those who
// wait. It never waits for them.
type History struct {
	mu    sync.Mutex
	rings map[string]*ring // by the kind
	names map[virtual]string
	last  uint64
	more  chan struct{} // closed with the next event
}

// ring has the last events of one kind.
type ring struct {
	events []Event // the oldest is at first
	first  int
}

// virtual is a Virtual Router in events.
type virtual struct {
	ifname, family string
	vrid           int
}

// NewHistory returns an empty History.
func NewHistory() *History {
	return &History{rings: make(map[string]*ring), names: make(map[virtual]string), more: make(chan struct{})}
}

// Name gives the events of a Virtual Router its name from now on. A router that is removed
// keeps its name, because its last events come after that.
func (h *History) Name(ifname, family string, vrid int, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.names[virtual{ifname, family, vrid}] = name
}

// Add numbers an event and keeps it.
func (h *History) Add(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	e.Number = h.last
	if e.Name == "" {
		e.Name = h.names[virtual{e.Interface, e.Family, e.VRID}]
	}
	r := h.rings[e.Kind]
	if r == nil {
		r = new(ring)
		h.rings[e.Kind] = r
	}
	most := keptOthers
	if e.Kind == "transition" {
		most = keptTransitions
	}
	r.add(e, most)
	close(h.more)
	h.more = make(chan struct{})
}

func (r *ring) add(e Event, most int) {
	if len(r.events) < most {
		r.events = append(r.events, e)
		return
	}
	r.events[r.first] = e
	r.first = (r.first + 1) % most
}

// at returns the event of a place, counted from the oldest.
func (r *ring) at(place int) *Event { return &r.events[(r.first+place)%len(r.events)] }

// after is the place of the first event after a number.
func (r *ring) after(number uint64) int {
	return sort.Search(len(r.events), func(i int) bool { return r.at(i).Number > number })
}

// After returns the first events after a number, 256 at most. Each says how many
// before it are lost. The channel is closed when there is another event than there
// are now.
func (h *History) After(number uint64) (events []Event, more <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if number > h.last {
		number = h.last // of another run
	}
	places := make(map[*ring]int, len(h.rings))
	for _, r := range h.rings {
		places[r] = r.after(number)
	}
	for len(events) < batch {
		var next *ring
		for r, place := range places {
			if place < len(r.events) && (next == nil || r.at(place).Number < next.at(places[next]).Number) {
				next = r
			}
		}
		if next == nil {
			break
		}
		e := *next.at(places[next])
		places[next]++
		e.Lost = e.Number - number - 1
		number = e.Number
		events = append(events, e)
	}
	return events, h.more
}
