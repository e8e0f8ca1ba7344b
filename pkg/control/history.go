// SPDX-License-Identifier: Apache-2.0

package control

import (
	"sync"
	"time"
)

// remembered is how many events are kept.
const remembered = 4096

// History keeps the last events for those who ask, and wakes those who wait. It
// never waits for them.
type History struct {
	mu     sync.Mutex
	events []Event // a ring: number n is at n % remembered
	last   uint64
	more   chan struct{} // closed with the next event
}

// NewHistory returns an empty History.
func NewHistory() *History {
	return &History{events: make([]Event, 0, remembered), more: make(chan struct{})}
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
	if at := int((h.last - 1) % remembered); at < len(h.events) {
		h.events[at] = e
	} else {
		h.events = append(h.events, e)
	}
	close(h.more)
	h.more = make(chan struct{})
}

// After returns the events after a number, the first of which says how many are
// lost in between, and a channel that is closed when there is another.
func (h *History) After(number uint64) (events []Event, more <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	first := h.last - uint64(len(h.events)) + 1
	if number > h.last {
		number = h.last // of another run
	}
	lost := uint64(0)
	if number+1 < first {
		lost = first - number - 1
		number = first - 1
	}
	for n := number + 1; n <= h.last; n++ {
		events = append(events, h.events[(n-1)%remembered])
	}
	if len(events) > 0 {
		events[0].Lost = lost
	}
	return events, h.more
}
