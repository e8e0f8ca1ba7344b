// SPDX-License-Identifier: Apache-2.0

package control

import (
	"cmp"
	"slices"
	"sort"
	"sync"
	"time"
)

const (
	// maxTransitions and maxOthers are the numbers of transitions and of events of each
	// other kind that are kept. Each kind has its own limit, so that events that a host on
	// the link can cause don't displace others.
	maxTransitions = 4096
	maxOthers      = 1024
	// batch is the maximum number of events that After returns. It limits the memory that
	// many slow readers hold.
	batch = 256
)

// History keeps the last events of each kind. It wakes readers that wait for new ones, and
// never waits for a reader.
type History struct {
	mu    sync.Mutex
	rings map[string]*ring // of each kind
	names map[virtual]string
	last  uint64
	more  chan struct{} // closed by the next Add
}

// ring has the last events of one kind.
type ring struct {
	events []Event
	first  int // index of the oldest event
}

// virtual identifies a Virtual Router in events.
type virtual struct {
	ifname, family string
	vrid           int
}

// NewHistory returns an empty History.
func NewHistory() *History {
	return &History{rings: make(map[string]*ring), names: make(map[virtual]string), more: make(chan struct{})}
}

// Name sets the name of a Virtual Router in later events. The name of a removed router stays,
// because its last events come after the removal.
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
	h.keep(e)
	close(h.more)
	h.more = make(chan struct{})
}

// keep keeps a numbered event. h.mu is held.
func (h *History) keep(e Event) {
	r := h.rings[e.Kind]
	if r == nil {
		r = new(ring)
		h.rings[e.Kind] = r
	}
	most := maxOthers
	if e.Kind == "transition" {
		most = maxTransitions
	}
	r.add(e, most)
}

func (r *ring) add(e Event, most int) {
	if len(r.events) < most {
		r.events = append(r.events, e)
		return
	}
	r.events[r.first] = e
	r.first = (r.first + 1) % most
}

// at returns the event at a place, where 0 is the oldest.
func (r *ring) at(place int) *Event { return &r.events[(r.first+place)%len(r.events)] }

// after returns the place of the first event with a greater number.
func (r *ring) after(number uint64) int {
	return sort.Search(len(r.events), func(i int) bool { return r.at(i).Number > number })
}

// Last returns the number of the newest event, 0 for none.
func (h *History) Last() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

// Continue makes the numbers go on after those of the process before this one. h must be empty.
func (h *History) Continue(last uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = last
}

// All returns all kept events in their order.
func (h *History) All() []Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all()
}

func (h *History) all() (all []Event) {
	for _, r := range h.rings {
		for place := range r.events {
			all = append(all, *r.at(place))
		}
	}
	slices.SortFunc(all, func(a, b Event) int { return cmp.Compare(a.Number, b.Number) })
	return all
}

// Precede adds the events of the process before this one. Their numbers are below those of this
// one, because of Continue.
func (h *History) Precede(before []Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	own := h.all()
	clear(h.rings)
	for _, e := range slices.Concat(before, own) {
		h.keep(e)
	}
}

// After returns the first events after a number, at most 256. The field Lost of each has the
// number of missing events before it. The channel is closed when a new event is added.
func (h *History) After(number uint64) (events []Event, more <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if number > h.last {
		number = h.last // the number is from another run of the daemon
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
