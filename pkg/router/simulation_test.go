// SPDX-License-Identifier: Apache-2.0

package router

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "simulate the run of this seed alone")
	simHours = flag.Float64("sim.hours", 0, "simulate so many router-hours")
	simTrace = flag.Bool("sim.trace", false, "print what happens in the run of -sim.seed")
)

// simUsual is the number of simulated router-hours without -sim.hours.
const simUsual = 2500

// simLateWakeup is the longest delay of a wake-up on a noisy host.
const simLateWakeup = 50 * time.Millisecond

// The kinds of faults.
const (
	faultLoss = iota
	faultBurst
	faultDelay
	faultDuplicate
	faultPartition
	faultCut
	faultMirror
	faultCrash
	faultRestart
	faultStop
	faultStart
	faultPause
	faultLateWakeup
	faultRingFull
	faultRingBlocked
	faultSlowAddresses
	faultAddresses
	faultLink
	faultFloodLow
	faultFloodZero
	faultForged
	faultHandOver
	faultKilled
	faultKinds
)

var faultNames = [faultKinds]string{
	"frames lost", "bursts of loss", "frames late", "frames doubled", "partitions", "links cut one way", "own frames back",
	"crashes", "restarts", "orderly stops", "starts", "pauses", "late wake-ups", "records lost", "rings blocked",
	"slow address changes", "failed address changes", "links down", "floods of low priority", "floods of priority 0",
	"forged advertisements", "hand-overs to another process", "processes killed and started again",
}

// simStats are the results of a run.
type simStats struct {
	runs          int
	up            time.Duration // the sum of all hosts
	faults        [faultKinds]uint64
	transitions   uint64
	adverts       uint64
	leaves        uint64
	unchanged     uint64 // advertisements that were no news
	outranked     uint64 // advertisements that were outranked
	announcements uint64
	elections     uint64 // verified elections
	takeOvers     uint64 // take-overs of the expected router, in time
	dual          time.Duration
	dualBound     time.Duration // the limit in the run with the longest one
}

func (s *simStats) fault(kind int) { s.faults[kind]++ }

func (s *simStats) add(o *simStats) {
	s.runs += o.runs
	s.up += o.up
	for n := range s.faults {
		s.faults[n] += o.faults[n]
	}
	s.transitions += o.transitions
	s.adverts += o.adverts
	s.unchanged += o.unchanged
	s.outranked += o.outranked
	s.leaves += o.leaves
	s.announcements += o.announcements
	s.elections += o.elections
	s.takeOvers += o.takeOvers
	if o.dual > s.dual {
		s.dual, s.dualBound = o.dual, o.dualBound
	}
}

func (s *simStats) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d runs, %.0f router-hours, %d transitions, %d advertisements, %d of them no news, %d leaves, %d announcements\n",
		s.runs, s.up.Hours(), s.transitions, s.adverts, s.unchanged, s.leaves, s.announcements)
	fmt.Fprintf(&b, "%d elections and %d take-overs verified; on a good network two routers were Active for at most %v (bound %v: an interval, delays and wake-ups)\n",
		s.elections, s.takeOvers, s.dual, s.dualBound)
	for n, count := range s.faults {
		if n > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d %s", count, faultNames[n])
	}
	return b.String()
}

// simPlan has the parameters of a run, drawn from its seed.
type simPlan struct {
	seed     uint64
	kind     string
	hosts    []simHostPlan
	duration time.Duration
	// The properties of the good network.
	delay time.Duration
	late  time.Duration

	worstDelay        time.Duration
	shortest, longest time.Duration // the intervals of the hosts
	most              time.Duration // vrrp.Config.MaxInterval of all hosts; 0: none
	uniform           bool          // every host hears every other, in one form
}

type simHostPlan struct {
	config  vrrp.Config
	source  netip.Addr
	drift   int64
	offset  vrrp.Instant
	bare    bool
	foreign bool
	room    int
}

func (p *simPlan) routerTime() time.Duration { return p.duration * time.Duration(len(p.hosts)) }

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// newSimPlan draws a LAN.
func newSimPlan(seed uint64) simPlan {
	r := rand.New(rand.NewPCG(seed, 1))
	p := simPlan{seed: seed, uniform: true}
	n := 2 + r.IntN(3)
	if r.IntN(4) == 0 {
		n = 2 + r.IntN(simMaxHosts-1)
	}
	base := pick(r, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 100, 100, 10, 30, 250, 2000, 3000, 5000, 10000, 40950)
	interval := time.Duration(base) * time.Millisecond

	first := vrrp.Config{Version: 3, VRID: simVRID, Family: packet.IPv4, Preempt: true}
	p.kind = "version 3 over IPv4"
	mixed := ""
	switch draw := r.IntN(100); {
	case draw < 45:
	case draw < 60:
		p.kind, first.Family = "version 3 over IPv6", packet.IPv6
	case draw < 72:
		p.kind, first.Version = "version 2", 2
	case draw < 78:
		p.kind, mixed = "versions 2 and 3", "versions"
	case draw < 83:
		p.kind, first.Dual = "dual", true
	case draw < 89:
		p.kind, mixed = "dual beside versions 2 and 3", "dual"
	case draw < 95:
		p.kind, mixed = "checksum policies", "checksums"
	default:
		p.kind, mixed = "a foreign router", "foreign"
	}
	p.uniform = mixed == ""
	if first.Version == 2 || mixed == "versions" || mixed == "dual" {
		interval = max(interval, time.Second).Truncate(time.Second)
	}
	if first.Family == packet.IPv4 && p.uniform {
		first.Checksum = pick(r, vrrp.ChecksumAuto, vrrp.ChecksumAuto, vrrp.ChecksumOnlyRFC9568, vrrp.ChecksumOnlyRFC5798)
	}
	if first.Family == packet.IPv6 {
		first.Addresses = []netip.Addr{netip.MustParseAddr("fe80::1"), netip.MustParseAddr("2001:db8::1")}
	} else {
		first.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}
	}
	differ := first.Version == 3 && mixed != "versions" && mixed != "dual" && r.IntN(4) == 0
	preempt := r.IntN(4)
	priorities := [][]uint8{{100}, {100, 101}, {1, 254}, {50, 100, 150, 200}, {1, 2, 3, 100, 252, 253, 254}}[r.IntN(5)]
	bare := r.IntN(4) == 0
	owner := r.IntN(10) == 0
	addresses := r.Perm(200)
	drift := pick[int64](r, 0, 20, 200)
	room := pick(r, 4, 16, 64, 512)
	p.shortest, p.longest = interval, interval
	for i := range n {
		c := first
		c.Interval = interval
		if differ {
			c.Interval = min(max(interval*time.Duration(pick(r, 1, 1, 2, 4, 10))/time.Duration(pick(r, 1, 1, 2, 5)), 10*time.Millisecond), 40950*time.Millisecond).Truncate(10 * time.Millisecond)
		}
		c.Priority = pick(r, priorities...)
		if r.IntN(4) == 0 {
			c.Priority = uint8(1 + r.IntN(254))
		}
		if owner && i == 0 {
			c.Priority = vrrp.OwnerPriority
		}
		c.Preempt = preempt != 0 && (preempt != 1 || r.IntN(2) == 0)
		h := simHostPlan{bare: bare, room: room, drift: drift - r.Int64N(2*drift+1)}
		h.offset = vrrp.Instant(time.Hour) + vrrp.Instant(r.Int64N(int64(1000*time.Hour)))
		switch mixed {
		case "versions":
			c.Version = uint8(2 + r.IntN(2))
		case "dual":
			switch r.IntN(4) {
			case 0:
				c.Version = 2
			case 1:
			default:
				c.Dual = true
				if interval == time.Second {
					c.Interval = pick(r, time.Second, 500*time.Millisecond, 100*time.Millisecond)
				}
			}
		case "checksums":
			c.Checksum = pick(r, vrrp.ChecksumAuto, vrrp.ChecksumAuto, vrrp.ChecksumOnlyRFC9568, vrrp.ChecksumOnlyRFC5798)
		case "foreign":
			if h.foreign = i == 0; h.foreign {
				c.Checksum, c.Preempt = vrrp.ChecksumOnlyRFC5798, true
				c.Priority = min(c.Priority, vrrp.OwnerPriority-1)
			}
		}
		if c.Family == packet.IPv6 {
			h.source = netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: uint8(10 + addresses[i])})
		} else {
			h.source = netip.AddrFrom4([4]byte{192, 0, 2, uint8(10 + addresses[i])})
		}
		h.config = c
		p.shortest, p.longest = min(p.shortest, c.Interval), max(p.longest, c.Interval)
		if c.Dual {
			p.longest = max(p.longest, c.Version2Interval())
		}
		p.hosts = append(p.hosts, h)
	}
	// Long enough for many faults, short enough for many runs.
	p.duration = max(p.longest*200, min(p.shortest*40000, 48*time.Hour))
	p.delay = min(5*time.Millisecond, p.shortest/5)
	p.late = min(5*time.Millisecond, p.shortest/4)
	if r.IntN(2) == 0 {
		p.delay, p.late = min(p.delay, 100*time.Microsecond), min(p.late, 50*time.Microsecond)
	}
	p.worstDelay = min(p.longest, 2*time.Second)
	if p.uniform && first.Version == 3 && r.IntN(3) == 0 {
		// A limit below the interval of a host would make others take over from it.
		p.most = p.longest * time.Duration(pick(r, 1, 2, 5))
		for i := range p.hosts {
			p.hosts[i].config.MaxInterval = p.most
		}
	}
	return p
}

func newSimulation(p simPlan, trace io.Writer) *simulation {
	s := &simulation{plan: p, rng: rand.New(rand.NewPCG(p.seed, 2)), end: vrrp.Instant(p.duration), trace: trace}
	s.stats.runs = 1
	s.net.delay = p.delay
	s.tracef(nil, "seed %d: %s, delay up to %v, wake-up up to %v", p.seed, p.kind, p.delay, p.late)
	for i, hp := range p.hosts {
		h := &simHost{
			s: s, index: i, name: fmt.Sprintf("%d %v", i, hp.source), config: hp.config, source: hp.source,
			mac: packet.MAC{2, 0, 0, 0, 0, byte(i)}, drift: hp.drift, offset: hp.offset, bare: hp.bare, room: hp.room,
		}
		if hp.foreign {
			h.peer = &simPeer{h: h, keepalived: p.seed%2 == 0}
		}
		s.hosts = append(s.hosts, h)
		c := &hp.config
		s.tracef(h, "priority %d, version %d (dual %v), every %v, preempt %v, checksum %v, foreign %v, clock %+d ppm, bare %v, ring %d",
			c.Priority, c.Version, c.Dual, c.Interval, c.Preempt, c.Checksum, hp.foreign, hp.drift, hp.bare, hp.room)
	}
	return s
}

// run runs the simulation. It returns the violated invariant, nil if there is none.
func (s *simulation) run() (broken *simViolation) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case simViolation:
			broken = &v
		default:
			panic(v)
		}
		for _, h := range s.hosts {
			s.stats.up += h.upTime()
		}
	}()
	s.calm = 1
	for _, h := range s.hosts {
		s.after(s.upTo(3*s.plan.longest), func() {
			if !h.alive() {
				h.boot()
				h.start(vrrp.CauseStarting)
				s.disturb()
			}
		})
	}
	s.disturb()
	s.loop()
	return nil
}

// bound returns the time from the last fault until the election is over: the longest
// Active_Down_Interval for the longest interval that can have been learnt, one interval
// until two Actives hear each other, and the delays of the network and the processes.
func (s *simulation) bound() time.Duration {
	p := &s.plan
	slowest := max(p.longest, p.most)
	b := 5*slowest + slowest/1000 + p.worstDelay + 2*simLateWakeup + 8*(p.delay+p.late)
	if !p.uniform {
		// The checksum form is learnt in several steps.
		b = 3*b + 2*time.Second
	}
	return b
}

// dualBound returns how long two routers that hear each other may both be Active: until
// the next advertisement of the better one.
func (s *simulation) dualBound() time.Duration {
	p := &s.plan
	return p.longest + p.longest/1000 + 2*(p.delay+p.late) + simLateWakeup
}

// disturb notes the end of a fault, after which the election must end within bound.
func (s *simulation) disturb() {
	if s.noisy {
		return
	}
	s.calm++
	s.stable = false
	s.watch = simWatch{}
	s.settled = s.now
	s.contend()
	calm := s.calm
	s.after(s.bound(), func() {
		if s.calm != calm {
			return
		}
		s.verify()
		rest := 1200 * time.Millisecond // a failed removal is retried after a second
		for _, h := range s.hosts {
			rest = max(rest, h.workerAt.Sub(s.now)+1200*time.Millisecond)
		}
		s.after(rest, func() {
			if s.calm != calm {
				return
			}
			s.verifyAddresses()
			s.after(s.pauseBetween(), func() {
				if s.calm == calm {
					s.next()
				}
			})
		})
	})
}

func (s *simulation) pauseBetween() time.Duration {
	if s.chance(0.2) {
		return s.upTo(5*time.Minute + 10*s.plan.longest)
	}
	return s.upTo(10 * s.plan.longest)
}

// hears reports whether b can read what a sends.
func (s *simulation) hears(a, b *simHost) bool {
	if !s.connected(a, b) {
		return false
	}
	x, y := &a.config, &b.config
	if x.Version == 3 && y.Version == 3 {
		if x.Family == packet.IPv6 {
			return true
		}
		for _, form := range [...]packet.Checksum{packet.ChecksumRFC9568, packet.ChecksumRFC5798} {
			if accepts(x.Checksum, form) && accepts(y.Checksum, form) {
				return true
			}
		}
	}
	speaks := func(c *vrrp.Config) bool { return c.Version == 2 || c.Dual }
	if !speaks(x) || !speaks(y) || b.owner() {
		return false
	}
	return y.Dual || (x.Version == 2 && x.Interval == y.Interval) || (x.Dual && x.Version2Interval() == y.Interval)
}

// verify checks the election: no Active remains that hears a better one, and every Backup
// hears an Active that it has to accept. If every host hears every other, there is one
// Active, with preemption the one with the highest priority.
func (s *simulation) verify() {
	s.stats.elections++
	for _, h := range s.hosts {
		if !h.takesPart() {
			continue
		}
		accepted := false
		for _, other := range s.hosts {
			if other == h || !other.takesPart() || other.state() != vrrp.Active || !s.hears(other, h) {
				continue
			}
			if h.state() == vrrp.Active && h.beats(other.config.Priority, other.source) {
				s.violate(h, "one Active", "Active of priority %d beside %s of %d, %v after the last fault",
					h.config.Priority, other.name, other.config.Priority, s.now.Sub(s.settled))
			}
			accepted = accepted || !h.preempts() || other.config.Priority >= h.config.Priority
		}
		if h.state() == vrrp.Backup && !accepted {
			s.violate(h, "one Active", "Backup of priority %d, but it hears no better one, %v after the last fault",
				h.config.Priority, s.now.Sub(s.settled))
		}
	}
	if s.watch.armed && !s.watch.done {
		s.violate(nil, "take-over in time", "%s: no router took over", s.watch.what)
	}
	s.stable = true
}

// verifyAddresses checks that the Active hosts, and no others, have the addresses (S-X1).
func (s *simulation) verifyAddresses() {
	for _, h := range s.hosts {
		if h.loop != nil && !h.owner() && h.assigned != (h.state() == vrrp.Active) {
			s.violate(h, "addresses", "assigned %v in %v, %v after the last fault", h.assigned, h.state(), s.now.Sub(s.settled))
		}
	}
}

// simWatch is an expected take-over.
type simWatch struct {
	armed bool
	done  bool
	what  string
	by    vrrp.Instant
	sole  *simHost // the host that must take over; nil: any
}

// changed checks a change of state of a host.
func (s *simulation) changed(h *simHost, from, to vrrp.State, cause vrrp.Cause) {
	if from == vrrp.Initialize && h.unnoticed {
		h.unnoticed = false
		if s.stable && to != h.lastState {
			s.violate(h, "a restart", "%v, before it %v", to, h.lastState)
		}
		s.contend()
		return
	}
	if from == vrrp.Initialize || to == vrrp.Initialize {
		if !h.leaving {
			s.disturb() // a failed assignment, or its retry
		}
	} else if s.stable {
		s.violate(h, "it stays so", "%v -> %v (%v) %v after the last fault", from, to, cause, s.now.Sub(s.settled))
	}
	if to == vrrp.Active && s.watch.armed {
		w := &s.watch
		if !w.done && s.now > w.by {
			s.violate(h, "take-over in time", "%s: %v too late", w.what, s.now.Sub(w.by))
		}
		if w.sole != nil && w.sole != h {
			s.violate(h, "the best one takes over", "%s: not %s", w.what, w.sole.name)
		}
		w.done = true
		s.stats.takeOvers++
	}
	s.contend()
}

// contend measures for how long routers that hear each other are Active.
func (s *simulation) contend() {
	contended := false
	for i, a := range s.hosts {
		if !a.takesPart() || a.state() != vrrp.Active {
			continue
		}
		for _, b := range s.hosts[i+1:] {
			contended = contended || b.takesPart() && b.state() == vrrp.Active && s.hears(a, b) && s.hears(b, a)
		}
	}
	switch {
	case contended && s.dual == 0:
		s.dual = s.now
	case !contended && s.dual != 0:
		since := max(s.dual, s.settled)
		s.dual = 0
		if s.noisy || !s.plan.uniform {
			return
		}
		d, bound := s.now.Sub(since), s.dualBound()
		if d > bound {
			s.violate(nil, "one Active", "two for %v, bound %v", d, bound)
		}
		if d > s.stats.dual {
			s.stats.dual, s.stats.dualBound = d, bound
		}
	}
}

// next starts the next fault after an election was verified.
func (s *simulation) next() {
	if s.chance(0.5) || !s.cleanFault() {
		s.startNoise()
	}
}

// some draws one of the hosts for which ok holds.
func (s *simulation) some(ok func(*simHost) bool) *simHost {
	var chosen *simHost
	n := 0
	for _, h := range s.hosts {
		if ok(h) {
			n++
			if s.rng.IntN(n) == 0 {
				chosen = h
			}
		}
	}
	return chosen
}

func isActive(h *simHost) bool { return h.alive() && h.takesPart() && h.state() == vrrp.Active }
func isBackup(h *simHost) bool { return h.alive() && h.takesPart() && h.state() == vrrp.Backup }
func isOut(h *simHost) bool    { return !h.takesPart() && !h.linkDown }

// cleanFault injects one fault with a known outcome on a good network. It returns false if
// that isn't possible now.
func (s *simulation) cleanFault() bool {
	if s.plan.most != 0 && s.chance(0.15) {
		s.forge()
		return true
	}
	switch s.rng.IntN(12) {
	case 10, 11: // another process takes over, and no other host notices it
		h := s.some((*simHost).replaceable)
		if h == nil || !s.plan.uniform {
			return false
		}
		h.unnoticed = true
		s.handOver(h, s.upTo(h.config.Interval))
		s.linger(s.bound() + time.Second)
	case 0, 1, 2: // the Active crashes
		a := s.some(isActive)
		if a == nil {
			return false
		}
		s.stats.fault(faultCrash)
		listeners := s.listeners(a)
		s.tracef(a, "crashes")
		a.crash()
		s.disturb()
		s.expect("a crash", a, listeners, (*simHost).down)
		if s.plan.uniform && s.chance(0.3) {
			// TM-05: forged priority 0 delays no take-over, unless it has the address of
			// the next Active.
			s.flood(0, s.bound(), s.some(func(h *simHost) bool { return isBackup(h) && s.watch.sole != nil && h != s.watch.sole }))
		}
	case 3, 4, 5: // the Active leaves
		a := s.some(isActive)
		if a == nil {
			return false
		}
		s.stats.fault(faultStop)
		listeners := s.listeners(a)
		s.tracef(a, "is stopped")
		s.stable = false
		a.stop(vrrp.CauseAdministrator)
		s.disturb()
		s.expect("an orderly stop", a, listeners, (*simHost).skew)
	case 6: // a Backup crashes or leaves
		b := s.some(isBackup)
		if b == nil {
			return false
		}
		if s.chance(0.5) {
			s.stats.fault(faultCrash)
			s.tracef(b, "crashes")
			b.crash()
		} else {
			s.stats.fault(faultStop)
			s.tracef(b, "is stopped")
			b.stop(vrrp.CauseAdministrator)
		}
		s.linger(s.bound())
	case 7: // a host starts
		h := s.some(isOut)
		if h == nil {
			return false
		}
		a := s.some(func(x *simHost) bool { return isActive(x) && s.connected(x, h) })
		s.enter(h)
		s.disturb()
		if s.plan.uniform && a != nil && h.preempts() && h.config.Priority > a.config.Priority && !h.owner() {
			s.watch = simWatch{armed: true, what: "a better one", sole: h}
			s.watch.by = s.now.Add(s.slow(h.down(h.config.Interval)) + s.plan.late + time.Microsecond)
		}
	case 8: // the network is divided or united
		s.partition()
		s.disturb()
	case 9: // forged advertisements that have no effect
		if !s.plan.uniform {
			return false
		}
		d := s.between(s.plan.longest, s.bound())
		switch s.rng.IntN(3) {
		case 0:
			s.flood(0, d, nil)
		case 1:
			s.flood(1, d, nil)
		case 2:
			s.flood(0, d, nil)
			s.flood(1, d, nil)
		}
		s.linger(d + s.bound())
	}
	return true
}

// slow returns the true time after which even the slowest clock shows d.
func (s *simulation) slow(d time.Duration) time.Duration { return d + d*3/10000 + 1 }

// listeners returns the Backups that hear an Active.
func (s *simulation) listeners(a *simHost) (all []*simHost) {
	for _, h := range s.hosts {
		if isBackup(h) && s.hears(a, h) {
			all = append(all, h)
		}
	}
	return all
}

// expect sets the watch for the take-over after an Active has gone. after returns how long
// a Backup waits for a given interval.
func (s *simulation) expect(what string, gone *simHost, listeners []*simHost, after func(*simHost, time.Duration) time.Duration) {
	if !s.plan.uniform || len(listeners) == 0 {
		return
	}
	first, second := listeners[0], time.Duration(0)
	for _, h := range listeners[1:] {
		if after(h, gone.config.Interval) < after(first, gone.config.Interval) {
			first = h
		}
	}
	waits := after(first, gone.config.Interval)
	for _, h := range listeners {
		if w := after(h, gone.config.Interval); h != first && (second == 0 || w < second) {
			second = w
		}
	}
	spread := 2 * (s.plan.delay + s.plan.late)
	s.watch = simWatch{armed: true, what: what, by: s.now.Add(s.slow(waits) + spread + time.Microsecond)}
	if second-second*3/10000 > s.slow(waits)+spread || len(listeners) == 1 {
		s.watch.sole = first
	}
}

// linger starts the next fault after d, unless one has started before.
func (s *simulation) linger(d time.Duration) {
	calm := s.calm
	s.after(d, func() {
		if s.calm == calm {
			s.next()
		}
	})
}

// enter brings a host back.
func (s *simulation) enter(h *simHost) {
	if h.loop != nil && (h.assigned || s.chance(0.5)) {
		s.stats.fault(faultStart)
		s.tracef(h, "is started")
		if !h.leaving {
			h.stop(vrrp.CauseAdministrator) // it may wait for a retry
		}
		h.start(vrrp.CauseAdministrator)
		return
	}
	if h.loop != nil {
		h.crash()
	}
	s.stats.fault(faultRestart)
	s.tracef(h, "comes up")
	h.boot()
	h.start(vrrp.CauseStarting)
}

// partition divides the hosts, or unites them.
func (s *simulation) partition() {
	if s.net.side != [simMaxHosts]int{} && s.chance(0.7) {
		s.net.side = [simMaxHosts]int{}
		s.tracef(nil, "is united")
		return
	}
	s.stats.fault(faultPartition)
	for i := range s.hosts {
		s.net.side[i] = s.rng.IntN(2)
	}
	s.tracef(nil, "is divided: %v", s.net.side[:len(s.hosts)])
}

// flood sends forged advertisements for d: with priority 0, or with the lowest priority
// from the lowest address. They come from the address of as, if as isn't nil.
func (s *simulation) flood(priority uint8, d time.Duration, as *simHost) {
	kind := faultFloodLow
	if priority == 0 {
		kind = faultFloodZero
	}
	s.stats.fault(kind)
	c := s.hosts[s.rng.IntN(len(s.hosts))].config
	source := netip.AddrFrom4([4]byte{192, 0, 2, 3 + priority})
	if c.Family == packet.IPv6 {
		source = netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: 3 + priority})
	}
	if as != nil {
		source = as.source
	}
	form := packet.ChecksumRFC9568
	if c.Version == 3 && c.Family == packet.IPv4 && c.Checksum == vrrp.ChecksumOnlyRFC5798 {
		form = packet.ChecksumRFC5798
	}
	if c.Version == 3 {
		c.Interval = min(s.plan.longest, 40950*time.Millisecond) // learning it doesn't shorten the wait
	}
	a := packet.Advertisement{Version: c.Version, VRID: c.VRID, Priority: priority, Interval: c.Interval, Addresses: c.Addresses}
	b, err := packet.AppendAdvertisementFrame(nil, packet.MAC{2, 0, 0, 0, 1, 0}, source, &a, form)
	if err != nil {
		panic(err)
	}
	frame := newSimFrame(b, c.Dual)
	spacing := max(s.between(500*time.Microsecond, 10*time.Millisecond), d/1000)
	if s.chance(0.3) {
		spacing = max(spacing, s.upTo(s.plan.longest))
	}
	s.tracef(nil, "carries forged advertisements of priority %d from %v every %v for %v", priority, source, spacing, d)
	end, flood := s.now.Add(d), s.floods
	var again func()
	again = func() {
		if s.now > end || s.floods != flood {
			return
		}
		s.send(nil, frame)
		s.after(spacing, again)
	}
	again()
}

// forge sends one forged advertisement on a good network, with the highest priority and the
// longest interval. The routers limit the interval to MaxInterval, and one takes over when
// its Active_Down_Interval is over.
func (s *simulation) forge() {
	s.stats.fault(faultForged)
	c := s.hosts[s.rng.IntN(len(s.hosts))].config
	s.tracef(nil, "carries a forged advertisement of priority 255, every 40.95s")
	s.disturb()
	var first time.Duration
	for _, h := range s.hosts {
		if h.alive() && h.takesPart() {
			if h.owner() {
				first = 0 // it stays Active
				break
			}
			if down := h.down(forgedInterval); first == 0 || down < first {
				first = down
			}
		}
	}
	if first != 0 {
		by := s.now.Add(s.slow(first) + 2*(s.plan.delay+s.plan.late) + time.Microsecond)
		s.watch = simWatch{armed: true, what: "a forged advertisement", by: by}
	}
	s.send(nil, forged(&c))
}

const forgedInterval = 40950 * time.Millisecond

// forged returns a forged advertisement for a router.
func forged(c *vrrp.Config) *simFrame {
	source := netip.AddrFrom4([4]byte{192, 0, 2, 5})
	if c.Family == packet.IPv6 {
		source = netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: 5})
	}
	form := packet.ChecksumRFC9568
	if c.Family == packet.IPv4 && c.Checksum == vrrp.ChecksumOnlyRFC5798 {
		form = packet.ChecksumRFC5798
	}
	a := packet.Advertisement{Version: 3, VRID: c.VRID, Priority: vrrp.OwnerPriority, Interval: forgedInterval, Addresses: c.Addresses}
	b, err := packet.AppendAdvertisementFrame(nil, packet.MAC{2, 0, 0, 0, 1, 0}, source, &a, form)
	if err != nil {
		panic(err)
	}
	return newSimFrame(b, c.Dual)
}

// startNoise starts a period of faults.
func (s *simulation) startNoise() {
	s.noisy, s.stable, s.watch = true, false, simWatch{}
	s.calm++
	n := &s.net
	if s.chance(0.5) {
		n.loss = pick(s.rng, 0.02, 0.1, 0.3, 0.6, 0.9) * s.rng.Float64()
	}
	if s.chance(0.2) {
		n.duplicates = 0.3 * s.rng.Float64()
	}
	if s.chance(0.3) {
		n.delay = s.upTo(max(30*time.Millisecond, s.plan.longest/4))
	}
	if s.chance(0.3) {
		n.tail = 0.05
	}
	d := s.between(s.plan.longest, 15*s.plan.longest+5*time.Second)
	s.tracef(nil, "is bad for %v: loss %.3f, duplicates %.3f, delay up to %v", d, n.loss, n.duplicates, n.delay)
	calm := s.calm
	for range 1 + s.rng.IntN(8) {
		s.after(s.upTo(d), func() {
			if s.calm == calm {
				s.inject(s.plan.longest)
			}
		})
	}
	s.after(d, s.settle)
}

// inject injects one fault with any effect.
func (s *simulation) inject(interval time.Duration) {
	anybody := func(h *simHost) bool { return h.alive() && !h.paused && !h.linkDown }
	daemon := func(h *simHost) bool { return h.loop != nil && !h.paused && !h.linkDown }
	calm := s.calm
	within := func(d time.Duration, f func()) {
		s.after(d, func() {
			if s.calm == calm {
				f()
			}
		})
	}
	if s.plan.most != 0 && s.chance(0.1) {
		s.stats.fault(faultForged)
		s.tracef(nil, "carries a forged advertisement")
		s.send(nil, forged(&s.hosts[0].config))
		return
	}
	switch s.rng.IntN(18) {
	case 0:
		if h := s.some(anybody); h != nil {
			s.stats.fault(faultBurst)
			d := s.upTo(8 * interval)
			s.tracef(h, "receives nothing for %v", d)
			s.net.burst[h.index] = s.now.Add(d)
		}
	case 1:
		s.partition()
		s.contend()
	case 2:
		a, b := s.rng.IntN(len(s.hosts)), s.rng.IntN(len(s.hosts))
		s.stats.fault(faultCut)
		s.net.cut[a][b] = true
		s.tracef(s.hosts[b], "doesn't hear %s", s.hosts[a].name)
		s.contend()
	case 3:
		if h := s.some(anybody); h != nil {
			s.stats.fault(faultCrash)
			s.tracef(h, "crashes")
			h.crash()
			s.contend()
		}
	case 4, 5:
		if h := s.some(isOut); h != nil && !h.paused {
			s.enter(h)
		}
	case 6:
		if h := s.some(func(h *simHost) bool { return anybody(h) && h.takesPart() }); h != nil {
			s.stats.fault(faultStop)
			s.tracef(h, "is stopped")
			h.stop(vrrp.CauseAdministrator)
		}
	case 7, 8:
		if h := s.some(daemon); h != nil {
			s.stats.fault(faultPause)
			d := s.upTo(pick(s.rng, interval, 5*interval, 20*interval))
			s.tracef(h, "is paused for %v", d)
			h.pause()
			within(d, func() {
				if h.paused {
					s.tracef(h, "goes on")
					h.resume()
				}
			})
		}
	case 9:
		if h := s.some(daemon); h != nil && h.takesPart() {
			s.stats.fault(faultLink)
			d := s.upTo(5 * interval)
			s.tracef(h, "loses its link for %v", d)
			h.linkDown = true
			s.contend()
			h.stop(vrrp.CauseInterfaceDown)
			within(d, func() { s.linkUp(h) })
		}
	case 10:
		if h := s.some(anybody); h != nil {
			h.mirrored = !h.mirrored
			s.tracef(h, "gets its own frames back: %v", h.mirrored)
		}
	case 11, 12:
		if h := s.some(daemon); h != nil {
			s.stats.fault(faultRingBlocked)
			d := s.upTo(10 * interval)
			s.tracef(h, "has no room in its ring for %v", d)
			h.blocked = true
			within(d, func() { h.blocked = false })
		}
	case 13:
		s.flood(1, s.upTo(3*time.Second), nil)
	case 14:
		var as *simHost
		if s.chance(0.5) {
			as = s.some(anybody)
		}
		s.flood(0, s.upTo(3*time.Second), as)
	case 15:
		if h := s.some(daemon); h != nil {
			h.failing = true
		}
	case 16:
		if h := s.some((*simHost).replaceable); h != nil {
			s.handOver(h, s.upTo(2*h.config.Interval))
		}
	case 17:
		if h := s.some((*simHost).replaceable); h != nil {
			s.stats.fault(faultKilled)
			d := s.upTo(4 * h.config.Interval)
			s.tracef(h, "is killed, and started again after %v", d)
			h.replace(false, 0, d)
			s.contend()
		}
	}
}

// handOver makes another process take over from that of a host after d. In one of four cases the
// hand-over fails before.
func (s *simulation) handOver(h *simHost, d time.Duration) {
	s.stats.fault(faultHandOver)
	keeps := d
	if s.chance(0.25) {
		keeps = s.upTo(d)
	}
	s.tracef(h, "hands over to another process for %v, and advertises for %v", d, keeps)
	h.replace(true, keeps, d)
}

func (s *simulation) linkUp(h *simHost) {
	if !h.linkDown {
		return
	}
	s.tracef(h, "has its link again")
	h.linkDown = false
	if h.loop != nil {
		h.start(vrrp.CauseInterfaceUp)
	}
}

// settle ends the faults, except some that a good network may have.
func (s *simulation) settle() {
	s.tracef(nil, "is good")
	s.noisy = false
	s.settled = s.now
	s.calm++
	s.floods++
	n := &s.net
	n.loss, n.tail, n.delay = 0, 0, s.plan.delay
	n.cut = [simMaxHosts][simMaxHosts]bool{}
	n.burst = [simMaxHosts]vrrp.Instant{}
	if s.chance(0.7) {
		n.duplicates = 0
	}
	if s.chance(0.7) {
		n.side = [simMaxHosts]int{}
	}
	for _, h := range s.hosts {
		h.blocked, h.failing = false, false
		if h.paused {
			s.tracef(h, "goes on")
			h.resume()
		}
		s.linkUp(h)
		if isOut(h) && s.chance(0.8) {
			s.enter(h)
		}
	}
	s.disturb()
}

// simTail keeps the last lines of a trace.
type simTail struct{ lines [][]byte }

func (t *simTail) Write(b []byte) (int, error) {
	t.lines = append(t.lines, bytes.Clone(b))
	if len(t.lines) > 4000 {
		t.lines = append(t.lines[:0], t.lines[len(t.lines)-60:]...)
	}
	return len(b), nil
}

func (t *simTail) String() string {
	return string(bytes.Join(t.lines[max(0, len(t.lines)-60):], nil))
}

// TestSimulation runs routers on a LAN through all kinds of faults, in virtual time (TM-01
// to TM-07, S-B2 to S-A5, S-C1, S-T1, S-X1).
func TestSimulation(t *testing.T) {
	t.Attr("proves", "K-21 S-A4 S-B2 S-B5 S-T1 S-X1 TM-02 TM-05")
	if *simSeed != 0 {
		var trace io.Writer
		if *simTrace {
			trace = os.Stdout
		}
		s := newSimulation(newSimPlan(*simSeed), trace)
		if v := s.run(); v != nil {
			t.Errorf("seed %d, at %s: %s: %s", *simSeed, strings.TrimSpace(simTime(s.now)), v.invariant, v.text)
		}
		t.Log(&s.stats)
		return
	}
	hours := *simHours
	if hours == 0 {
		hours = simUsual
	}
	var (
		mu      sync.Mutex
		planned time.Duration
		total   simStats
		seed    uint64
		failed  int
		began   = time.Now()
		shown   = began
		workers sync.WaitGroup
	)
	for range 2 {
		workers.Go(func() {
			mu.Lock()
			for planned.Hours() < hours && failed < 5 {
				seed++
				p := newSimPlan(seed)
				planned += p.routerTime()
				mu.Unlock()
				s := newSimulation(p, nil)
				v := s.run()
				var tail simTail
				if v != nil {
					newSimulation(p, &tail).run()
				}
				mu.Lock()
				total.add(&s.stats)
				if v != nil {
					failed++
					t.Errorf("%s: %s\nseed %d (%s), at %s, after %.1f router-hours; to see it:\n"+
						"go test ./pkg/router -run TestSimulation -sim.seed=%d -sim.trace\n%s",
						v.invariant, v.text, p.seed, p.kind, strings.TrimSpace(simTime(s.now)), total.up.Hours(), p.seed, &tail)
				}
				if *simHours != 0 && time.Since(shown) > 10*time.Second {
					shown = time.Now()
					fmt.Fprintf(os.Stderr, "%.0f of %.0f router-hours, %d runs, %d transitions, %v\n",
						total.up.Hours(), hours, total.runs, total.transitions, time.Since(began).Round(time.Second))
				}
			}
			mu.Unlock()
		})
	}
	workers.Wait()
	t.Log(&total)
	if *simHours != 0 {
		fmt.Fprintln(os.Stderr, &total)
	}
}

// TestSimulationAgain repeats the runs that have found a bug.
func TestSimulationAgain(t *testing.T) {
	for _, seed := range []uint64{
		98, // an Active of version 2 that lapses in a flood of lower priority
		63, // a Backup that learns the interval of a stamp from before its start
	} {
		s := newSimulation(newSimPlan(seed), nil)
		if v := s.run(); v != nil {
			t.Errorf("seed %d, at %s: %s: %s", seed, strings.TrimSpace(simTime(s.now)), v.invariant, v.text)
		}
	}
}
