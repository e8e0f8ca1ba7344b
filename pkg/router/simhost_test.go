// SPDX-License-Identifier: Apache-2.0

package router

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

type simAddress = netip.Addr

const (
	simMaxHosts = 8
	simVRID     = 51
	simIfindex  = 7
	// simAnswers limits the advertisements in a second that a router may send in
	// addition to the regular ones, simAnnounced the announcements without a
	// transition (S-T1).
	simAnswers   = 101
	simAnnounced = 22
)

// simHost is a host with a Loop. It implements all interfaces of the Loop.
type simHost struct {
	s      *simulation
	index  int
	name   string
	config vrrp.Config
	source netip.Addr
	mac    packet.MAC
	drift  int64 // parts per million
	offset vrrp.Instant
	bare   bool // receives through AF_PACKET, without stamps
	peer   *simPeer

	loop   *Loop // nil: the process doesn't run
	old    *Loop // nil, or of a process that advertises until another one has taken over
	router *virtualRouter
	epoch  uint32 // counts processes
	upAt   vrrp.Instant

	running  bool // the kernel delivers advertisements
	linkDown bool
	paused   bool
	mirrored bool
	leaving  bool // the host is being stopped

	unnoticed bool       // another process takes over on a good network: nothing else may change
	lastState vrrp.State // before that
	learnt    time.Duration

	ring    []simRecord
	room    int // the capacity of the ring
	blocked bool
	lag     bool         // the next Drain doesn't see the newest record
	lagEnds vrrp.Instant // unless it runs after this time
	stamp   vrrp.Stamp
	stamped bool

	expected, repeated [2]uint64
	order              uint64
	repeatedAt         vrrp.Instant
	outranked          vrrp.Outranked

	ref simReference

	newsAt   vrrp.Instant // when the loop wakes up for a record; 0: not
	timerAt  vrrp.Instant // when it wakes up for its deadline; 0: not
	armedFor vrrp.Instant
	pending  vrrp.Instant // the earliest event that wakes it

	received  Received
	queued    [][]byte
	frames    []*simFrame
	assigned  bool         // the addresses are on the interface
	lease     vrrp.Instant // until when the kernel answers for the addresses
	permit    vrrp.Instant // until when the kernel lets advertisements out
	sentAt    vrrp.Instant // when the last advertisement was sent, true time
	workerAt  vrrp.Instant // when the worker completes the last change of addresses
	failing   bool         // changes of addresses may fail
	stalled   []func()     // completions of changes while the process is paused
	advertAt  [256]vrrp.Instant
	adverts   int
	announAt  [64]vrrp.Instant
	announs   int
	exempt    bool // the next advertisement is that of a transition
	exemptAnn bool
}

// simRecord is a record in the ring.
type simRecord struct {
	at    vrrp.Instant
	frame *simFrame
}

// simReference is what a Backup must know about the Active if it processes everything
// that its kernel received.
type simReference struct {
	heardAt  vrrp.Instant  // the last advertisement that restarts the timer
	interval time.Duration // its interval
	leaveAt  vrrp.Instant  // the first priority 0 after it; 0: none
	from     netip.Addr    // its sender
	arrived  vrrp.Instant  // when it arrived, true time
	lost     bool          // the ring had no room for it
	source3  netip.Addr    // the last sender of version 3
	heard3   vrrp.Instant
}

func (h *simHost) id() ID { return ID{Interface: "eth0", Family: h.config.Family, VRID: simVRID} }

// Now is the host's own clock.
func (h *simHost) Now() vrrp.Instant { return h.local(h.s.now) }

func (h *simHost) local(t vrrp.Instant) vrrp.Instant {
	return h.offset + t + t*vrrp.Instant(h.drift)/1e6
}

// trueTime returns the first true time at which the host's clock shows at least t.
func (h *simHost) trueTime(t vrrp.Instant) vrrp.Instant {
	x := t - h.offset
	at := x - x*vrrp.Instant(h.drift)/vrrp.Instant(1e6+h.drift)
	for h.local(at) < t {
		at++
	}
	return at
}

func (h *simHost) state() vrrp.State {
	switch {
	case h.peer != nil:
		return h.peer.state
	case h.old != nil && len(h.old.kept) > 0:
		return vrrp.Active
	case h.loop == nil:
		return vrrp.Initialize
	}
	return h.router.machine.State()
}

// takesPart reports whether the host takes part in elections.
func (h *simHost) takesPart() bool { return h.state() != vrrp.Initialize && !h.linkDown }

func (h *simHost) owner() bool { return h.config.Priority == vrrp.OwnerPriority }

// boot starts a new process.
func (h *simHost) boot() {
	h.epoch++
	h.old, h.learnt = nil, 0
	h.upAt = h.s.now
	h.paused, h.leaving = false, false
	h.newsAt, h.timerAt, h.armedFor, h.pending = 0, 0, 0, 0
	h.ring, h.lag, h.stamped = h.ring[:0], false, false
	h.expected, h.repeated, h.repeatedAt, h.outranked = [2]uint64{}, [2]uint64{}, 0, vrrp.Outranked{}
	h.workerAt, h.stalled, h.lease, h.assigned = 0, nil, 0, false
	if h.peer != nil {
		return
	}
	h.loop = New(h, h, h, h, h)
	machine, err := vrrp.New(h.config)
	if err != nil {
		panic(err)
	}
	c := Config{ID: h.id(), Protocol: h.config}
	if !h.owner() {
		for _, a := range h.config.Addresses {
			c.Addresses = append(c.Addresses, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	if err := h.loop.add(c, machine); err != nil {
		panic(err)
	}
	h.router = h.loop.routers[h.id()]
}

// start makes the host take part.
func (h *simHost) start(cause vrrp.Cause) {
	h.running = true
	h.leaving = false
	if h.peer != nil {
		h.peer.start()
		return
	}
	h.loop.turn()
	h.loop.start(h.id(), Port{Ifindex: simIfindex, MAC: h.mac, Source: h.source, Learnt: h.learnt, Transmitter: h}, cause)
	h.learnt = 0
	h.loop.flush()
	h.turn()
}

// stop shuts the host down. An Active sends only priority 0 then, and at once (S-A1).
func (h *simHost) stop(cause vrrp.Cause) {
	h.leaving = true
	if h.peer != nil {
		h.peer.stop()
		h.running = false
		return
	}
	h.loop.turn()
	active, before := h.state() == vrrp.Active, h.s.stats.leaves
	h.loop.shutdown(h.id(), cause, "")
	if len(h.queued) == 0 && active {
		h.s.violate(h, "priority 0 on leaving", "nothing is sent")
	}
	h.loop.flush()
	if (h.s.stats.leaves > before) != active {
		h.s.violate(h, "priority 0 on leaving", "Active %v, sent %d", active, h.s.stats.leaves-before)
	}
	h.running = false
	h.turn()
}

// crash ends the process and removes the addresses.
func (h *simHost) crash() {
	h.s.stats.up += h.upTime()
	h.epoch++
	h.loop, h.old, h.router = nil, nil, nil
	h.running, h.paused, h.assigned, h.leaving = false, false, false, false
	if h.peer != nil {
		h.peer.state = vrrp.Initialize
	}
}

// replace ends the process, which hands over or is killed, and leaves its addresses and its lease.
// After d another process takes over. Until then, a process that hands over advertises, but only for
// keeps, because the hand-over fails then.
func (h *simHost) replace(handsOver bool, keeps, d time.Duration) {
	active, cause := h.state() == vrrp.Active, vrrp.CauseContinued
	h.lastState, h.learnt = h.state(), 0
	if status := h.router.machine.Status(); handsOver && status.State == vrrp.Backup && status.Active.IsValid() {
		h.learnt = status.Learnt
	}
	h.s.stats.up += h.upTime()
	h.epoch++
	epoch := h.epoch
	if handsOver {
		cause = vrrp.CauseRestarted
		h.loop.turn()
		h.old = h.loop
		h.old.keep()
		h.keepAdvertising(epoch)
	}
	h.loop, h.router = nil, nil
	h.paused, h.leaving = false, false
	h.s.after(min(keeps, d), func() {
		if h.epoch == epoch && h.old != nil && keeps < d {
			h.old.advertiseLast()
			h.old = nil
		}
	})
	h.s.after(d, func() {
		if h.epoch == epoch {
			h.takeOver(active, cause)
		}
	})
}

// keepAdvertising advertises for the next process until h.old ends.
func (h *simHost) keepAdvertising(epoch uint32) {
	if h.epoch != epoch || h.old == nil {
		return
	}
	h.old.advertiseKept()
	if next := h.old.next(); next != never {
		h.s.after(h.trueTime(next).Sub(h.s.now), func() { h.keepAdvertising(epoch) })
	}
}

// takeOver starts a process that continues as Active if nothing speaks against it, as plan.Heirs
// decides.
func (h *simHost) takeOver(active bool, cause vrrp.Cause) {
	lease, assigned, left := h.lease, h.assigned, h.lease.Add(-3*h.config.Interval)
	better := h.stamped && h.stamp.At > left && h.stamp.Priority >= h.config.Priority
	old, learnt := h.old, h.learnt
	h.boot()
	if !active || !assigned || better || lease <= h.Now() {
		h.learnt = learnt
		h.start(vrrp.CauseStarting)
		return
	}
	h.lease, h.assigned, h.running = lease, true, true
	h.loop.turn()
	if !h.loop.resume(h.id(), Port{Ifindex: simIfindex, MAC: h.mac, Source: h.source, Transmitter: h}, cause) {
		h.s.violate(h, "a restart", "doesn't continue")
	}
	h.loop.flush()
	if old != nil {
		old.advertiseLast()
	}
	h.turn()
}

// replaceable reports whether another process can take over from the one of the host.
func (h *simHost) replaceable() bool {
	return h.loop != nil && !h.paused && !h.linkDown && !h.bare && !h.owner() && h.takesPart()
}

func (h *simHost) alive() bool {
	return h.loop != nil || h.peer != nil && h.peer.state != vrrp.Initialize
}

// upTime returns how long the daemon has run.
func (h *simHost) upTime() time.Duration {
	if h.loop == nil {
		return 0
	}
	return h.s.now.Sub(h.upAt)
}

// arrive processes a frame at the host's interface like the XDP program
// (bpf/vrrp.bpf.c), or without it like package datapath.
func (h *simHost) arrive(f *simFrame) {
	if h.linkDown || !h.running || f.err != nil {
		return
	}
	if h.peer != nil {
		h.peer.receive(f)
		return
	}
	if h.s.trace != nil {
		h.s.tracef(h, "receives priority %d from %v, version %d, every %v", f.advertisement.Priority, f.source, f.advertisement.Version, f.advertisement.Interval)
	}
	own := f.source == h.source
	if h.bare {
		// The state machine makes the checks of the source and the version too, and
		// must not depend on those before it.
		if own {
			h.s.stats.fault(faultMirror)
		}
	} else {
		if own {
			h.s.stats.fault(faultMirror)
			return
		}
		if v := f.advertisement.Version; v != h.config.Version && (!h.config.Dual || v != 2) {
			return
		}
	}
	at := h.Now()
	if !h.bare && h.outranks(f, at) {
		h.refer(f, at, false)
		return
	}
	full := (h.blocked || len(h.ring) >= h.room) && (h.bare || !slices.Contains(h.expected[:], f.signature))
	if full {
		h.s.stats.fault(faultRingFull)
		if h.s.trace != nil {
			h.s.tracef(h, "the ring is full: priority %d from %v", f.advertisement.Priority, f.source)
		}
	}
	if !h.bare && h.stamps(f) {
		h.stamp = vrrp.Stamp{At: at, Version: f.advertisement.Version, Priority: f.advertisement.Priority, Interval: f.advertisement.Interval}
		h.stamped = true
	}
	if !own && (!full || !h.bare) {
		h.refer(f, at, full)
	}
	if !h.bare && h.expects(f, at) {
		return
	}
	if !h.bare && f.advertisement.Version == 3 && h.lease != 0 && h.beats(f.advertisement.Priority, f.source) {
		h.lease = 0 // before the process yields
	}
	if full {
		return
	}
	h.ring = append(h.ring, simRecord{at, f})
	late := h.s.latency(h)
	if !h.bare && !h.lag && late%16 == 1 {
		h.lag = true // the stamp is written before the record
		h.lagEnds = h.s.now.Add(20 * time.Microsecond)
		late = max(late, 20*time.Microsecond)
	}
	if late < 20*time.Microsecond && !h.paused {
		h.turn()
		return
	}
	h.news(late)
}

// stamps reports whether the kernel keeps a stamp of the frame.
func (h *simHost) stamps(f *simFrame) bool {
	a := &f.advertisement
	return a.Priority >= h.config.MinPriority() &&
		(a.Version == 2 || h.config.Family == packet.IPv6 || f.form&h.config.Forms() != 0)
}

// latency draws the time from a wake-up until the process runs.
func (s *simulation) latency(h *simHost) time.Duration {
	n := s.rng.Uint64()
	if s.noisy {
		switch {
		case n%2048 == 0:
			s.stats.fault(faultLateWakeup)
			return s.between(5*time.Millisecond, 50*time.Millisecond)
		case n%32 == 1:
			return s.upTo(5 * time.Millisecond)
		}
	}
	if n>>32%8 == 0 {
		return s.upTo(s.plan.late)
	}
	return time.Duration(n >> 40 % 16)
}

// admissible reports whether the host's router may accept the advertisement in a frame.
func (h *simHost) admissible(f *simFrame) bool {
	a := &f.advertisement
	switch {
	case f.source == h.source:
		return false
	case a.Version == 2:
		return (h.config.Version == 2 && a.Interval == h.config.Interval || h.config.Dual) && !h.owner()
	case a.Version != h.config.Version:
		return false
	}
	return h.config.Family == packet.IPv6 || accepts(h.config.Checksum, f.form)
}

func accepts(p vrrp.ChecksumPolicy, form packet.Checksum) bool {
	return p == vrrp.ChecksumAuto || (p == vrrp.ChecksumOnlyRFC5798) == (form == packet.ChecksumRFC5798)
}

// preempts reports whether the host preempts lower priorities.
func (h *simHost) preempts() bool { return h.config.Preempt || h.owner() }

// beats reports whether this host must yield to an advertisement as an Active (S-A4,
// S-C1: the addresses are compared octet by octet).
func (h *simHost) beats(priority uint8, source netip.Addr) bool {
	if priority != h.config.Priority {
		return priority > h.config.Priority
	}
	theirs, ours := source.As16(), h.source.As16()
	return bytes.Compare(theirs[:], ours[:]) > 0
}

// refer updates the reference with a frame that the kernel received.
func (h *simHost) refer(f *simFrame, at vrrp.Instant, lost bool) {
	a, ref := &f.advertisement, &h.ref
	ok := h.admissible(f)
	switch {
	case ok && a.Priority == 0:
		if ref.leaveAt == 0 {
			ref.leaveAt = at
		}
	case ok && (!h.preempts() || a.Priority >= h.config.Priority):
		if a.Version == 2 && f.source == ref.source3 && at.Sub(ref.heard3) < h.down(ref.interval) {
			ref.heardAt, ref.arrived, ref.leaveAt, ref.lost = at, h.s.now, 0, lost
			return // I-04: only restarts the timer, because the sender is heard in version 3
		}
		source3, heard3 := ref.source3, ref.heard3
		*ref = simReference{heardAt: at, interval: a.Interval, from: f.source, arrived: h.s.now, lost: lost, source3: source3, heard3: heard3}
		if a.Version == 3 {
			ref.source3, ref.heard3 = f.source, at
		}
	}
}

// learns returns the Active_Adver_Interval for an advertised interval.
func (h *simHost) learns(interval time.Duration) time.Duration {
	if most := h.config.MaxInterval; most != 0 {
		interval = min(interval, most)
	}
	return interval
}

// skew returns Skew_Time and down Active_Down_Interval for an advertised interval.
func (h *simHost) skew(interval time.Duration) time.Duration {
	interval = h.learns(interval)
	if h.config.Version == 2 {
		interval = time.Second
	}
	return interval * time.Duration(256-int(h.config.Priority)) / 256
}

func (h *simHost) down(interval time.Duration) time.Duration {
	if h.config.Version == 2 {
		interval = h.config.Interval
	}
	return 3*h.learns(interval) + h.skew(interval)
}

// news wakes the loop after d.
func (h *simHost) news(d time.Duration) {
	at := h.s.now.Add(d)
	if h.newsAt == 0 || at < h.newsAt {
		h.newsAt = at
	}
	h.arm()
}

// arm schedules the next wake-up of the loop.
func (h *simHost) arm() {
	if h.paused {
		return
	}
	next := h.newsAt
	if h.timerAt != 0 && (next == 0 || h.timerAt < next) {
		next = h.timerAt
	}
	if next == 0 {
		return
	}
	next = max(next, h.s.now)
	if h.pending == 0 || next < h.pending {
		h.pending = next
		h.s.queue.push(simEvent{at: next, kind: simWake, host: uint8(h.index), epoch: h.epoch})
	}
}

// woken processes a wake-up of the process.
func (h *simHost) woken(at vrrp.Instant, epoch uint32) {
	if epoch != h.epoch || at != h.pending {
		return
	}
	h.pending = 0
	if h.paused {
		return
	}
	if h.peer != nil {
		h.timerAt = 0
		h.peer.timer()
		return
	}
	if h.newsAt != 0 && at >= h.newsAt || h.timerAt != 0 && at >= h.timerAt {
		h.turn()
		return
	}
	h.arm()
}

// turn is one wake-up of the loop, as in Run.
func (h *simHost) turn() {
	if h.loop == nil || h.paused {
		return
	}
	h.newsAt = 0
	h.loop.runQueued()
	h.loop.turn()
	if h.state() != vrrp.Active && h.answers() {
		h.s.violate(h, "the fence", "still open in %v", h.state())
	}
	if h.lag || len(h.ring) > 0 {
		h.newsAt = h.s.now.Add(20 * time.Microsecond)
	}
	switch next := h.loop.next(); {
	case next == never:
		h.timerAt, h.armedFor = 0, 0
	case next <= h.Now():
		h.s.violate(h, "progress", "the deadline %d stays before now %d", next, h.Now())
	case next != h.armedFor:
		h.armedFor = next
		h.timerAt = h.trueTime(h.armedFor).Add(h.s.latency(h))
	}
	h.arm()
}

// pause stops the process and resume continues it.
func (h *simHost) pause() { h.paused = true }

func (h *simHost) resume() {
	h.paused = false
	if h.loop == nil {
		return
	}
	h.pending = 0
	h.epoch++ // cancels the wake-ups of the time in between
	for _, finish := range h.stalled {
		finish()
		h.loop.runQueued()
	}
	h.stalled = nil
	h.turn()
}

// Wait is never called, because the simulation calls turn when Wait would return.
func (h *simHost) Wait(vrrp.Instant) error { return errors.ErrUnsupported }

func (h *simHost) Wake() {}

// Drain passes the records on, and checks what happens with them.
func (h *simHost) Drain(f func(*Received)) {
	if h.old != nil {
		h.ring = h.ring[:0] // the process no longer reads it
		return
	}
	n := len(h.ring)
	if h.lag && n > 0 && h.s.now < h.lagEnds {
		n--
	}
	h.lag = false
	for i := range n {
		h.drainOne(&h.ring[i], f)
	}
	left := copy(h.ring, h.ring[n:])
	h.ring = h.ring[:left]
}

func (h *simHost) drainOne(record *simRecord, f func(*Received)) {
	frame := record.frame
	h.received = Received{
		At: record.at, Key: packet.Key{Ifindex: simIfindex, Family: h.config.Family, VRID: frame.advertisement.VRID},
		From: frame.source, Advertisement: frame.advertisement, Checksum: frame.form, Signature: frame.signature,
	}
	r := h.router
	before, advertised := r.machine.State(), r.machine.Status().Advertised
	if frame.source == h.source {
		// S-T1, R-12: the own advertisement has no effect.
		status, queued, announce := r.machine.Status(), len(h.queued), r.announce
		f(&h.received)
		if r.machine.Status() != status || len(h.queued) != queued || r.announce != announce {
			h.s.violate(h, "own frames change nothing", "in %v one of priority %d did", before, frame.advertisement.Priority)
		}
		return
	}
	f(&h.received)
	if before != vrrp.Active {
		return
	}
	a := &frame.advertisement
	lapsed := record.at.Sub(advertised) > 3*h.config.Interval && !h.owner()
	yields := a.Priority != 0 && h.admissible(frame) && (lapsed || h.beats(a.Priority, frame.source))
	if yields != (r.machine.State() == vrrp.Backup) {
		h.s.violate(h, "the better one wins", "an Active of %d at %v becomes %v on hearing %d from %v",
			h.config.Priority, h.source, r.machine.State(), a.Priority, frame.source)
	}
}

// ReceiveState is nil for a host that receives through AF_PACKET.
func (h *simHost) ReceiveState(packet.Key) ReceiveState {
	if h.bare {
		return nil
	}
	return (*simReceiveState)(h)
}

// Reception says that the programs are always attached.
func (h *simHost) Reception(int) Reception { return Reception{} }
func (h *simHost) RequestCheck(int)        {}

// simReceiveState is the kernel's part of the shortcut for advertisements without news.
type simReceiveState simHost

func (e *simReceiveState) Stamp() (vrrp.Stamp, bool)        { return e.stamp, e.stamped }
func (e *simReceiveState) SetOutranked(o vrrp.Outranked)    { e.outranked = o }
func (e *simReceiveState) SetExpected(signatures [2]uint64) { e.expected = signatures }
func (e *simReceiveState) Repeated() ([2]uint64, uint64)    { return e.repeated, e.order }
func (e *simReceiveState) RepeatedAt() *vrrp.Instant        { return &e.repeatedAt }

// expects counts an advertisement that is no news, like the XDP program. It reports
// whether it is one.
func (h *simHost) expects(f *simFrame, at vrrp.Instant) bool {
	if i := slices.Index(h.expected[:], f.signature); i >= 0 && h.stamps(f) {
		h.repeated[i]++
		h.order = h.order<<1 | uint64(i)
		h.repeatedAt = at
		h.s.stats.unchanged++
		return true
	}
	h.expected = [2]uint64{}
	return false
}

// outranks does the same for an outranked advertisement.
func (h *simHost) outranks(f *simFrame, at vrrp.Instant) bool {
	a, o := &f.advertisement, h.outranked
	if at >= o.Until || a.Priority < o.Least || a.Priority >= o.Below {
		return false
	}
	if a.Version == 3 && f.form&o.Forms == 0 {
		return false
	}
	h.s.stats.outranked++
	return true
}

// Queue queues a frame.
func (h *simHost) Queue(frame []byte) { h.queued = append(h.queued, frame) }

// Queued returns the number of queued frames.
func (h *simHost) Queued() int { return len(h.queued) }

// Flush sends the queued frames.
func (h *simHost) Flush(func(int, error)) int {
	adverts, leaves, announcements := 0, 0, 0
	for _, b := range h.queued {
		f := h.frame(b)
		switch {
		case f.err != nil:
			announcements++
		case f.advertisement.Priority == 0:
			leaves++
		default:
			adverts++
		}
		if f.err == nil && max(h.lease, h.permit) < h.Now() {
			h.s.violate(h, "the fence", "drops an advertisement of priority %d", f.advertisement.Priority)
		}
		if !h.linkDown {
			h.s.send(h, f)
		}
	}
	if adverts > 0 {
		h.sentAt = h.s.now
	}
	n := len(h.queued)
	clear(h.queued)
	h.queued = h.queued[:0]
	h.sent(adverts, leaves, announcements)
	return n
}

// frame returns the decoded frame for its octets. It caches frames, because a router has
// few different ones.
func (h *simHost) frame(b []byte) *simFrame {
	for _, f := range h.frames {
		if bytes.Equal(f.bytes, b) {
			return f
		}
	}
	f := newSimFrame(b, h.config.Dual)
	if f.err != nil && !errors.Is(f.err, packet.ErrNotVRRP) {
		h.s.violate(h, "frames are good", "%v", f.err)
	}
	h.frames = append(h.frames, f)
	return f
}

// sent checks what was sent in one wake-up.
func (h *simHost) sent(adverts, leaves, announcements int) {
	s, state := h.s, h.state()
	if s.trace != nil && adverts+leaves+announcements > 0 {
		s.tracef(h, "sends %d advertisements, %d of priority 0, %d announcements", adverts, leaves, announcements)
	}
	s.stats.adverts += uint64(adverts)
	s.stats.leaves += uint64(leaves)
	forms := 2
	if h.config.Dual {
		forms = 3
	}
	if adverts > forms || leaves > forms {
		s.violate(h, "no storm", "%d advertisements, %d of priority 0 in one wake-up", adverts, leaves)
	}
	if leaves > 0 && state != vrrp.Initialize {
		s.violate(h, "priority 0 on leaving", "sent in %v", state)
	}
	if state == vrrp.Initialize && adverts+announcements > 0 {
		s.violate(h, "priority 0 on leaving", "%d advertisements, %d announcements in Initialize", adverts, announcements)
	}
	if announcements > 0 {
		s.stats.announcements++
		if !h.assigned && !h.owner() {
			s.violate(h, "addresses", "announced before they are there (Q-08)")
		}
		if state != vrrp.Active {
			s.violate(h, "addresses", "announced in %v", state)
		}
		if h.exemptAnn {
			h.exemptAnn = false
		} else {
			h.count(h.announAt[:], &h.announs, simAnnounced, "announcements")
		}
	}
	if adverts > 0 {
		if h.exempt {
			h.exempt = false
			return
		}
		most := min(len(h.advertAt)-1, simAnswers+int(time.Second/h.config.Interval)+2)
		h.count(h.advertAt[:], &h.adverts, most, "advertisements")
	}
}

// count checks that something doesn't happen more than most times in a second.
func (h *simHost) count(at []vrrp.Instant, n *int, most int, what string) {
	now := h.Now()
	at[*n%len(at)] = now
	*n++
	if *n > most {
		if span := now.Sub(at[(*n-1-most)%len(at)]); span < time.Second {
			h.s.violate(h, "no storm", "more than %d %s in %v (S-T1)", most, what, span)
		}
	}
}

func (h *simHost) Lease(packet.Key) Lease { return h }

// Until returns the end of the lease.
func (h *simHost) Until() vrrp.Instant { return h.lease }

// Answer sets the lease.
func (h *simHost) Answer(until vrrp.Instant) {
	h.lease = until
	if until > h.Now().Add(3*h.config.Interval) {
		h.s.violate(h, "the fence", "a lease of %v", until.Sub(h.Now()))
	}
}

// Renew sets the lease if it ends at was.
func (h *simHost) Renew(was, until vrrp.Instant) bool {
	if h.lease != was {
		return false
	}
	h.Answer(until)
	return true
}

// Advertise sets until when the kernel lets advertisements out.
func (h *simHost) Advertise(until vrrp.Instant) { h.permit = until }

// answers reports whether the host answers for the addresses, even if its process doesn't
// run.
func (h *simHost) answers() bool {
	return h.peer == nil && (h.assigned || h.owner()) && h.Now() < h.lease
}

// Assign makes the worker assign the addresses.
func (h *simHost) Assign(_ ID, _ int, _ []netip.Prefix, done func(error)) { h.change(true, done) }

// Release makes the worker remove the addresses.
func (h *simHost) Release(_ ID, _ int, _ []netip.Prefix, done func(error)) { h.change(false, done) }

var errSimulated = errors.New("simulated failure")

func (h *simHost) change(assign bool, done func(error)) {
	s := h.s
	takes := s.upTo(20 * time.Millisecond)
	if s.noisy && s.chance(0.02) {
		s.stats.fault(faultSlowAddresses)
		takes = s.upTo(2 * time.Second)
	}
	var err error
	if s.noisy && h.failing && s.chance(0.1) {
		s.stats.fault(faultAddresses)
		err = errSimulated
	}
	h.workerAt = max(h.workerAt, s.now).Add(takes)
	loop := h.loop
	finish := func() {
		if h.loop != loop {
			return // the host has crashed in the meantime
		}
		if err == nil {
			h.assigned = assign
		}
		if s.trace != nil {
			s.tracef(h, "addresses assigned %v, error %v", assign, err)
		}
		done(err)
		h.news(s.latency(h))
	}
	s.after(h.workerAt.Sub(s.now), func() {
		if h.paused && h.loop == loop {
			h.stalled = append(h.stalled, finish) // the worker is paused too
			return
		}
		finish()
	})
}

// Transition checks a change of state against the reference.
func (h *simHost) Transition(t Transition) {
	s := h.s
	s.stats.transitions++
	if s.trace != nil {
		s.tracef(h, "%v -> %v: %s", t.From, t.To, t.Why())
	}
	switch {
	case t.To == vrrp.Active:
		h.exempt, h.exemptAnn = true, true
		if t.From == vrrp.Backup {
			h.checkTakeOver(&t)
			h.checkFence(&t)
		}
	case t.From == vrrp.Initialize:
		h.ref = simReference{heardAt: t.When, interval: h.config.Interval}
	case t.From == vrrp.Active && t.To == vrrp.Backup:
		if !h.beats(t.Priority, t.Peer) && t.Cause != vrrp.CauseLapsed {
			s.violate(h, "the better one wins", "a router of %d at %v yields: %s", h.config.Priority, h.source, t.Why())
		}
	}
	s.changed(h, t.From, t.To, t.Cause)
}

// checkFence checks that the previous Active doesn't answer any more, if its last
// advertisement was heard.
func (h *simHost) checkFence(t *Transition) {
	for _, o := range h.s.hosts {
		if t.Cause == vrrp.CauseSilence && o.source == t.Peer && h.ref.from == o.source && h.ref.arrived >= o.sentAt && o.answers() {
			h.s.violate(h, "the fence", "%s answers for %v more", o.name, o.lease.Sub(o.Now()))
		}
	}
}

// checkTakeOver checks that no advertisement that the kernel received forbids the
// take-over (S-B2 to S-B4, Q-05), by the host's own clock.
func (h *simHost) checkTakeOver(t *Transition) {
	ref := &h.ref
	due := ref.heardAt.Add(h.down(ref.interval))
	if ref.leaveAt != 0 {
		due = min(due, ref.leaveAt.Add(h.skew(ref.interval)))
	}
	if t.When >= due {
		return
	}
	h.s.violate(h, "no take-over from a live Active", "%v too early (priority 0 heard: %v, record lost: %v): %s",
		due.Sub(t.When), ref.leaveAt != 0, ref.lost, t.Why())
}

// Finding ignores findings.
func (h *simHost) Finding(Finding) {}

// Failure accepts only failures of address changes.
func (h *simHost) Failure(f Failure) {
	h.s.tracef(h, "failed to %s: %v", f.Action, f.Err)
	if !errors.Is(f.Err, errSimulated) {
		h.s.violate(h, "no failures", "%s: %v", f.Action, f.Err)
	}
}
