// SPDX-License-Identifier: Apache-2.0

package router

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// simulation is one LAN of routers in virtual time. The seed determines everything,
// because there is one goroutine, one queue of events and one source of random numbers.
type simulation struct {
	plan  simPlan
	rng   *rand.Rand
	now   vrrp.Instant // true time; each host's own clock deviates from it
	end   vrrp.Instant
	queue simQueue
	hosts []*simHost
	stats simStats
	trace io.Writer

	net simNetwork

	// The course of the run, see simulation_test.go.
	noisy   bool // faults are being injected
	calm    int  // counts the ends of faults
	stable  bool // an election has been verified and nothing happened since
	watch   simWatch
	floods  int          // the number of the running floods; a new number ends them
	dual    vrrp.Instant // since when two routers that hear each other are Active; 0: not
	settled vrrp.Instant // when the last fault ended
}

// simNetwork is the state of the links between the hosts.
type simNetwork struct {
	cut        [simMaxHosts][simMaxHosts]bool // [a][b]: frames of a don't arrive at b
	side       [simMaxHosts]int               // hosts on different sides of a partition don't hear each other
	loss       float64
	duplicates float64
	delay      time.Duration // the longest delay of most frames
	tail       float64       // the share of frames that take much longer
	burst      [simMaxHosts]vrrp.Instant
	arrival    [simMaxHosts][simMaxHosts]vrrp.Instant // [a][b]: when the last frame of a arrives at b
}

// simFrame is one frame on the wire, as its receivers decode it.
type simFrame struct {
	bytes         []byte
	source        simAddress
	advertisement packet.Advertisement
	form          packet.Checksum
	err           error // why it is no advertisement
	dual          bool  // its sender sends both versions
	signature     uint64
}

func newSimFrame(b []byte, dual bool) *simFrame {
	f := &simFrame{bytes: bytes.Clone(b), dual: dual}
	d, err := packet.ParseFrame(f.bytes)
	if err == nil {
		f.source = d.Source
		f.form, err = f.advertisement.Decode(d)
	}
	f.err = err
	h := fnv.New64a()
	_, _ = h.Write(f.bytes)
	f.signature = h.Sum64()
	return f
}

// Kinds of simEvents.
const (
	simDeliver uint8 = iota // a frame arrives at a host
	simWake                 // a host's process is woken
	simCall
)

type simEvent struct {
	at    vrrp.Instant
	order uint64 // of two events at the same time
	kind  uint8
	host  uint8
	epoch uint32
	frame *simFrame
	call  func()
}

// simQueue is a heap of events, without the interfaces of container/heap.
type simQueue struct {
	events []simEvent
	pushed uint64
}

func (q *simQueue) less(a, b *simEvent) bool {
	return a.at < b.at || a.at == b.at && a.order < b.order
}

func (q *simQueue) push(e simEvent) {
	q.pushed++
	e.order = q.pushed
	q.events = append(q.events, e)
	n := len(q.events) - 1
	for n > 0 {
		parent := (n - 1) / 2
		if !q.less(&q.events[n], &q.events[parent]) {
			break
		}
		q.events[n], q.events[parent] = q.events[parent], q.events[n]
		n = parent
	}
}

func (q *simQueue) pop() simEvent {
	top := q.events[0]
	last := len(q.events) - 1
	q.events[0] = q.events[last]
	q.events[last] = simEvent{}
	q.events = q.events[:last]
	n := 0
	for {
		child := 2*n + 1
		if child >= last {
			return top
		}
		if child+1 < last && q.less(&q.events[child+1], &q.events[child]) {
			child++
		}
		if !q.less(&q.events[child], &q.events[n]) {
			return top
		}
		q.events[n], q.events[child] = q.events[child], q.events[n]
		n = child
	}
}

// loop runs the events until the end.
func (s *simulation) loop() {
	for len(s.queue.events) > 0 {
		e := s.queue.pop()
		if e.at > s.end {
			break
		}
		s.now = e.at
		switch e.kind {
		case simDeliver:
			s.hosts[e.host].arrive(e.frame)
		case simWake:
			s.hosts[e.host].woken(e.at, e.epoch)
		case simCall:
			e.call()
		}
	}
	s.now = s.end
}

// after calls f after d.
func (s *simulation) after(d time.Duration, f func()) {
	s.queue.push(simEvent{at: s.now.Add(d), kind: simCall, call: f})
}

// send sends a frame to all hosts but its sender.
func (s *simulation) send(from *simHost, f *simFrame) {
	for _, to := range s.hosts {
		if to == from {
			if to.mirrored {
				s.carry(from, to, f)
			}
			continue
		}
		if from != nil && !s.connected(from, to) {
			continue
		}
		s.carry(from, to, f)
		if s.net.duplicates > 0 && s.chance(s.net.duplicates) {
			s.stats.fault(faultDuplicate)
			s.carry(from, to, f)
		}
	}
}

// carry delivers a frame to one host, unless the network loses it. A good network keeps
// the order.
func (s *simulation) carry(from, to *simHost, f *simFrame) {
	n := &s.net
	if n.loss > 0 && s.chance(n.loss) || s.now < n.burst[to.index] {
		s.stats.fault(faultLoss)
		if s.trace != nil && f.err == nil {
			s.tracef(to, "a frame from %v is lost", f.source)
		}
		return
	}
	delay := s.upTo(n.delay)
	if n.tail > 0 && s.chance(n.tail) {
		s.stats.fault(faultDelay)
		delay += s.upTo(s.plan.worstDelay - n.delay)
	}
	at := s.now.Add(delay)
	if from != nil {
		last := &n.arrival[from.index][to.index]
		if !s.noisy && *last < s.now.Add(s.plan.delay) {
			at = max(at, *last+1)
		}
		*last = at
	}
	s.queue.push(simEvent{at: at, kind: simDeliver, host: uint8(to.index), frame: f})
}

// connected reports whether frames of a arrive at b.
func (s *simulation) connected(a, b *simHost) bool {
	return s.net.side[a.index] == s.net.side[b.index] && !s.net.cut[a.index][b.index]
}

func (s *simulation) chance(p float64) bool { return s.rng.Float64() < p }

// upTo draws a time between 0 and d.
func (s *simulation) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(s.rng.Int64N(int64(d) + 1))
}

// between draws a time between a and b.
func (s *simulation) between(a, b time.Duration) time.Duration { return a + s.upTo(b-a) }

func (s *simulation) tracef(h *simHost, format string, args ...any) {
	if s.trace == nil {
		return
	}
	who := "network"
	if h != nil {
		who = h.name
	}
	fmt.Fprintf(s.trace, "%s  %-12s %s\n", simTime(s.now), who, fmt.Sprintf(format, args...))
}

func simTime(t vrrp.Instant) string {
	d := time.Duration(t)
	return fmt.Sprintf("%3d:%02d:%02d.%09d", d/time.Hour, d/time.Minute%60, d/time.Second%60, d%time.Second)
}

// simViolation is a violated invariant. It ends the run.
type simViolation struct {
	invariant string
	text      string
}

func (s *simulation) violate(h *simHost, invariant, format string, args ...any) {
	v := simViolation{invariant, fmt.Sprintf(format, args...)}
	if h != nil {
		v.text = h.name + ": " + v.text
	}
	s.tracef(h, "VIOLATION of %q: %s", v.invariant, v.text)
	panic(v)
}
