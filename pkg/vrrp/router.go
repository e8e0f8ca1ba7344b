// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"net/netip"
	"slices"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

// answerSpacing is the least time between two immediate answers to
// advertisements of lower priority. RFC 9568 §6.4.3 has no such limit, and without
// one two routers that both believe to have the higher priority would answer each
// other forever.
const answerSpacing = 10 * time.Millisecond

// announceSpacing is the time between two announcements of the addresses: those in
// a row, and the two after an answer to a rival. The rival hears the answer only
// after it has become Active, so its own announcements may follow our first one.
const announceSpacing = 100 * time.Millisecond

// Router is the state machine of one Virtual Router.
type Router struct {
	config Config
	source netip.Addr // the primary address, RFC 9568 §1.7

	state    State
	since    Instant
	deadline Instant // Active_Down_Timer or Adver_Timer

	// RFC 9568 §6.1, computed by computeTimers.
	activeAdverInterval time.Duration
	skewTime            time.Duration
	activeDownInterval  time.Duration

	learnt time.Duration // the interval that the Active advertises; before that the own interval

	// What a Backup knows about the Active.
	active         netip.Addr // zero: none was heard
	priority       uint8
	heard          Instant    // when the Active was last heard, or this router became Backup
	stamped        bool       // the last advertisement is known only from the kernel's stamp
	leftAt         Instant    // when the Active left with priority 0; 0: it didn't
	leftBy         netip.Addr // the sender of that priority 0
	overruled      rival
	overruledUntil Instant // advertisements of other rivals are ignored until then
	preemptAt      Instant // the earliest time to preempt; 0: there is no Active to preempt
	noPreempt      bool    // any Active is accepted, because the addresses were handed over
	version3       Instant // when the Active was last heard in version 3; 0: never

	// send are the forms of the checksum to send. forms are those of the last two
	// advertisements that a Backup heard from any peer; they are kept in Initialize.
	// switched is set once this Active has changed its form.
	send     packet.Checksum
	forms    [2]packet.Checksum
	switched bool

	nextAnswer   Instant       // Active: no immediate answer before
	tiedAt       Instant       // Active: since when it waits for a tie to be decided elsewhere
	tieHeard     Instant       // Active: when the other router of the tie was last heard
	defendAt     Instant       // Active: when to announce again after a rival; 0: never
	defendAgain  bool          // Active: announce once more after defendAt
	repeatAt     Instant       // Active: when to repeat the announcements in a row; 0: never
	burstAt      Instant       // Active: when the next announcement in a row is due; 0: never
	burst        int           // Active: how many announcements in a row are left
	refreshAt    Instant       // Active: when to refresh the announcements; 0: never
	advertised   Instant       // Active: when an advertisement was last sent, as far as is known
	oldPaceLeft  int           // Active: how many advertisements are still sent after oldInterval,
	oldInterval  time.Duration // because some Backups may not know the longer interval yet
	becameActive uint64
	last         Action
	comparison   Comparison // the target of Action.Comparison
}

// rival is an Active of lower priority that a Backup is about to preempt.
type rival struct {
	address  netip.Addr
	priority uint8
}

// Status is the state of a Router for people.
type Status struct {
	State               State
	Since               Instant
	Priority            uint8
	Active              netip.Addr // the own address while Active; zero: unknown
	ActivePriority      uint8
	LastHeard           Instant       // Backup: when the Active was last heard
	Interval            time.Duration // the own Advertisement_Interval
	Learnt              time.Duration // the interval that the Active advertises, not limited by Config.MaxInterval
	ActiveAdverInterval time.Duration
	SkewTime            time.Duration
	ActiveDownInterval  time.Duration
	Checksum            packet.Checksum // the forms sent while Active
	Advertised          Instant         // when an advertisement was last sent, as far as is known
	BecameActive        uint64          // how often it became Active
	LastTransition      Action
	Deadline            Instant // when Active_Down_Timer or Adver_Timer expires; not in Initialize
	PreemptAt           Instant // until when a Backup accepts an Active of lower priority; 0: there is none
}

// New returns a Router in Initialize. The error says what is wrong with the
// configuration.
func New(c Config) (*Router, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.Addresses = slices.Clone(c.Addresses)
	return &Router{config: c, send: c.firstForm()}, nil
}

// State returns the current state.
func (r *Router) State() State { return r.state }

// Deadline returns the time at which the TimerExpired event is due. It returns false
// in Initialize.
func (r *Router) Deadline() (Instant, bool) {
	deadline := r.deadline
	if r.state == Active {
		for _, at := range [...]Instant{r.defendAt, r.repeatAt, r.burstAt, r.refreshAt} {
			if at != 0 {
				deadline = min(deadline, at)
			}
		}
	}
	return deadline, r.state != Initialize
}

// Status returns the state and the values that explain it.
func (r *Router) Status() Status {
	s := Status{
		State: r.state, Since: r.since, Priority: r.config.Priority,
		Active: r.active, ActivePriority: r.priority, LastHeard: r.heard,
		Interval: r.config.Interval, Learnt: r.learnt,
		ActiveAdverInterval: r.activeAdverInterval, SkewTime: r.skewTime, ActiveDownInterval: r.activeDownInterval,
		Checksum: r.sendForms(), Advertised: r.advertised, BecameActive: r.becameActive, LastTransition: r.last, Deadline: r.deadline, PreemptAt: r.preemptAt,
	}
	if r.state == Active {
		s.Active, s.ActivePriority = r.source, r.config.Priority
	}
	return s
}

// ActiveDownInterval returns the time for which a Backup waits for the next
// advertisement (RFC 9568 §6.1).
func (r *Router) ActiveDownInterval() time.Duration { return r.activeDownInterval }

// Step processes one event that happened at the time now. It appends the actions
// that the caller has to carry out, in this order, to actions. The time may be
// earlier than that of the previous event, because an advertisement has the time of
// its reception.
func (r *Router) Step(now Instant, ev Event, actions []Action) []Action {
	switch ev.Kind {
	case Startup:
		return r.startup(now, ev, actions)
	case Shutdown:
		return r.shutdown(now, Action{Cause: ev.Cause, Detail: ev.Detail}, actions)
	case Relinquish:
		return r.relinquish(now, Action{Cause: ev.Cause, Detail: ev.Detail}, actions)
	case Receive:
		return r.receive(now, &ev, actions)
	case StampHeard:
		return r.stampHeard(now, &ev.Advertisement, actions)
	case Repeated:
		r.repeated(now, ev.Forms)
	case Unsent:
		return r.unsent(now, &ev, actions)
	case TimerExpired:
		return r.timerExpired(now, actions)
	case Continue:
		return r.becomeActiveAgain(now, ev, actions)
	}
	return actions
}

// startup implements RFC 9568 §6.4.1.
func (r *Router) startup(now Instant, ev Event, actions []Action) []Action {
	if r.state != Initialize {
		return actions
	}
	r.begin(now, ev.Source)
	if r.owner() {
		// §6.4.1 (110): the address owner becomes Active at once.
		return r.becomeActive(now, Action{Cause: CauseOwner}, actions)
	}
	if ev.Learnt > r.learnt {
		r.learnt = ev.Learnt
		r.computeTimers()
	}
	// §6.4.1 (150): any other router becomes Backup.
	cause := ev.Cause
	if cause == CauseNone {
		cause = CauseStarting
	}
	return r.becomeBackup(now, Action{Cause: cause, Detail: ev.Detail}, actions)
}

// begin sets what a router knows when it leaves Initialize: its source, and no other router.
func (r *Router) begin(now Instant, source netip.Addr) {
	r.source = source.WithZone("").Unmap()
	r.learnt = r.config.Interval
	r.computeTimers()
	r.active, r.priority = netip.Addr{}, 0
	r.clearTakeOver()
	r.heard, r.version3, r.preemptAt, r.noPreempt = now, 0, 0, false
}

// becomeActiveAgain continues as Active after the process was started again, while no Backup could
// take over yet. For other hosts nothing has happened, so there is nothing to
// announce.
func (r *Router) becomeActiveAgain(now Instant, ev Event, actions []Action) []Action {
	if r.state != Initialize {
		return actions
	}
	r.begin(now, ev.Source)
	if ev.Checksum != 0 && r.config.Checksum == ChecksumAuto && !r.config.singleForm() {
		r.send = ev.Checksum
	}
	r.resetActive()
	r.scheduleAnnouncements(now)
	r.repeatAt, r.burstAt, r.burst = 0, 0, 0
	r.becameActive++
	r.deadline = now.Add(r.config.Interval)
	why := Action{Cause: ev.Cause, Silence: now.Sub(ev.Left), Limit: r.config.SilenceLimit(r.config.Interval)}
	// The addresses are in place already. Assigning them restores what is missing of them.
	return append(r.enter(now, Active, why, actions), Action{Kind: AssignAddresses}, r.advertise(now))
}

// shutdown implements the Shutdown event of RFC 9568 §6.4.2 and §6.4.3.
func (r *Router) shutdown(now Instant, why Action, actions []Action) []Action {
	switch r.state {
	case Initialize:
		return actions
	case Active:
		actions = r.leave(actions)
	}
	return r.becomeInitialize(now, why, actions)
}

// leave appends the actions of an Active that stops being Active. It advertises
// priority 0, so that a Backup waits only for its Skew_Time (RFC 9568 §6.4.3 (615)).
func (r *Router) leave(actions []Action) []Action {
	goodbye := Action{Kind: SendAdvertisement, Priority: 0, Checksum: r.sendForms(), Version2: r.config.Dual}
	return append(actions, goodbye, Action{Kind: ReleaseAddresses})
}

// relinquish makes an Active leave and continue as a Backup that has heard no other
// router yet. It ignores an address owner.
func (r *Router) relinquish(now Instant, why Action, actions []Action) []Action {
	if r.state != Active || r.owner() {
		return actions
	}
	actions = r.leave(actions)
	r.learnt = r.config.Interval
	r.computeTimers()
	r.active, r.priority = netip.Addr{}, 0
	r.clearTakeOver()
	r.heard, r.version3 = now, 0
	r.noPreempt = why.Cause == CauseHandedOver
	return r.becomeBackup(now, why, actions)
}

// unsent processes a failure to send the advertisement of an Active. By the RFC the
// router stays Active. But when the slowest peer has heard nothing for its
// Active_Down_Interval, another router has taken over, so this one stops being
// Active. An address owner is never Backup, so it waits in Initialize.
func (r *Router) unsent(now Instant, ev *Event, actions []Action) []Action {
	if r.state != Active {
		return actions
	}
	began := r.since
	if r.last.Cause.Continues() {
		began = began.Add(-r.last.Silence) // of the other run's last advertisement
	}
	r.advertised = max(began, ev.Left)
	why := Action{Cause: CauseCannotSend, Detail: ev.Detail, Silence: now.Sub(r.advertised), Limit: r.config.maxActiveDownInterval()}
	switch {
	case why.Silence < why.Limit:
		return actions
	case r.owner():
		return r.shutdown(now, why, actions)
	}
	return r.relinquish(now, why, actions)
}

// Advertisement returns the action that sends the router's regular advertisement.
func (r *Router) Advertisement() Action {
	return Action{Kind: SendAdvertisement, Priority: r.config.Priority, Checksum: r.sendForms(), Version2: r.config.Dual}
}

// timerExpired processes the expiry of Active_Down_Timer or Adver_Timer, and of the
// times at which announcements are due.
func (r *Router) timerExpired(now Instant, actions []Action) []Action {
	if r.state == Active && r.announcementDue(now) {
		actions = append(actions, Action{Kind: AnnounceAddresses})
	}
	if r.state == Initialize || now < r.deadline {
		return actions
	}
	if r.state == Backup {
		// §6.4.2 (360): the Active has been silent for Active_Down_Interval.
		return r.becomeActive(now, r.takeOverReason(now), actions)
	}
	// §6.4.3 (635): the next advertisement is due. The timer restarts from the last
	// deadline, so that the interval doesn't drift. A router that was stopped for
	// longer doesn't send the advertisements that it missed.
	if r.oldPaceLeft > 0 {
		r.oldPaceLeft--
	}
	r.deadline = r.deadline.Add(r.nextInterval())
	if r.deadline <= now {
		r.deadline = now.Add(r.nextInterval())
	}
	return append(actions, r.advertise(now))
}

// announcementDue reports whether an announcement of the addresses is due, and
// schedules the next one.
func (r *Router) announcementDue(now Instant) bool {
	due := func(at Instant) bool { return at != 0 && now >= at }
	burst, again, repeat, refresh := due(r.burstAt), due(r.defendAt), due(r.repeatAt), due(r.refreshAt)
	if burst {
		r.burstAt, r.burst = 0, r.burst-1
		if r.burst > 0 {
			r.burstAt = now.Add(announceSpacing)
		}
	}
	if again {
		r.defendAt = 0
		if r.defendAgain {
			r.defendAt, r.defendAgain = now.Add(announceSpacing), false
		}
	}
	if repeat {
		r.repeatAt = 0
		r.startAnnouncements(now)
	}
	if refresh {
		r.refreshAt = now.Add(r.config.Refresh)
	}
	return burst || again || repeat || refresh
}

// startAnnouncements schedules the announcements that follow in a row the one that
// is sent now.
func (r *Router) startAnnouncements(now Instant) {
	r.burstAt, r.burst = 0, r.config.Announcements-1
	if r.burst > 0 {
		r.burstAt = now.Add(announceSpacing)
	}
}

// nextInterval returns the time until the next advertisement.
func (r *Router) nextInterval() time.Duration {
	if r.oldPaceLeft > 0 {
		return r.oldInterval
	}
	return r.config.Interval
}

// takeOverReason returns the reason for which a Backup takes over now.
func (r *Router) takeOverReason(now Instant) Action {
	a := Action{Peer: r.active, Priority: r.priority, Silence: now.Sub(r.heard), Limit: r.activeDownInterval}
	switch {
	case r.leftAt != 0:
		a.Cause, a.Peer = CauseReleased, r.leftBy
	case r.overruled.address.IsValid():
		a.Cause, a.Peer, a.Priority = CausePreempted, r.overruled.address, r.overruled.priority
	case r.active.IsValid() || r.stamped:
		a.Cause = CauseSilence
	default:
		a.Cause = CauseNobody
	}
	return a
}

// receive processes an advertisement that package packet has found valid. It makes
// those checks of RFC 9568 §7.1 that need the configuration.
func (r *Router) receive(now Instant, ev *Event, actions []Action) []Action {
	from := ev.From.WithZone("").Unmap()
	a := &ev.Advertisement
	refuse := func(reason packet.Reason) []Action {
		return append(actions, Action{Kind: Report, Reason: reason, Peer: from, Refused: true, Comparison: r.compare(a)})
	}
	if r.state == Initialize {
		return append(actions, Action{Kind: Report, Reason: packet.ErrInitialize, Peer: from, Refused: true})
	}
	if from == r.source {
		// A loop or a duplicate address. If it were treated as a rival's, this
		// router would answer its own answers.
		return refuse(packet.ErrOwnSource)
	}
	if !r.config.acceptsVersion(a.Version) {
		return refuse(packet.ErrVersion)
	}
	if a.Interval <= 0 {
		// The decoder refuses it too. If it were learnt, every timer would expire
		// at once.
		return refuse(packet.ErrZeroInterval)
	}
	if a.Version == 3 && ev.Checksum&r.config.Forms() == 0 {
		return refuse(packet.ErrChecksum)
	}
	if r.owner() {
		if a.Version == 2 && !r.config.AddAddresses {
			// RFC 3768 §7.1: the address owner discards all advertisements.
			return refuse(packet.ErrOwnerConflict)
		}
		// RFC 9568 §7.1 with erratum 8298: the advertisement isn't discarded.
		actions = append(actions, Action{Kind: Report, Reason: packet.ErrOwnerConflict, Peer: from, Comparison: r.compare(a)})
	}
	if a.Version == 2 && a.AuthType != r.config.AuthType {
		return refuse(packet.ErrAuthType)
	}
	if a.Interval != r.config.intervalIn(a.Version) {
		if r.config.Version == 2 {
			// RFC 3768 §7.1: all routers of a VRID must have the same interval. A
			// dual router can't ask for that, because version 2 rounds its interval.
			return refuse(packet.ErrInterval)
		}
		actions = append(actions, Action{Kind: Report, Reason: packet.ErrInterval, Peer: from, Comparison: r.compare(a)})
	}
	if !r.sameAddresses(a.Addresses) {
		if a.Version == 2 && a.Priority != OwnerPriority && !r.config.IgnoreAddressList {
			// RFC 3768 §7.1: only the address owner may have another list.
			return refuse(packet.ErrAddressList)
		}
		actions = append(actions, Action{Kind: Report, Reason: packet.ErrAddressList, Peer: from, Comparison: r.compare(a)})
	}
	accepted := Action{Kind: Report, Reason: packet.ReasonAdvertisementReceived, Peer: from}
	if r.state == Active {
		accepted.Comparison = r.compare(a)
	}
	actions = append(actions, accepted)
	if a.Priority == 0 {
		actions = append(actions, Action{Kind: Report, Reason: packet.ReasonPriorityZero, Peer: from})
	}
	if ev.Checksum == packet.ChecksumRFC5798 {
		actions = append(actions, Action{Kind: Report, Reason: packet.ReasonChecksumRFC5798, Peer: from})
	}
	if r.state == Backup {
		if a.Version == r.config.Version {
			r.forms = [2]packet.Checksum{ev.Checksum, r.forms[0]}
		}
		r.receiveAsBackup(now, from, a)
		return actions
	}
	return r.receiveAsActive(now, from, ev, actions)
}

// compare compares the parameters of the router with those of an advertisement.
func (r *Router) compare(a *packet.Advertisement) *Comparison {
	c := &r.config
	r.comparison = Comparison{
		State:  r.state,
		Ours:   Parameters{c.Version, c.Priority, c.AuthType, c.Interval, c.Addresses},
		Theirs: Parameters{a.Version, a.Priority, a.AuthType, a.Interval, a.Addresses},
	}
	return &r.comparison
}

func (r *Router) receiveAsBackup(now Instant, from netip.Addr, a *packet.Advertisement) {
	switch {
	case a.Version == 2 && from == r.active && r.hearsVersion3(now):
		// §8.4.1: if an Active sends both versions, version 3 counts. Version 2
		// only restarts the timer.
		if a.Priority >= r.config.MinPriority() {
			r.restartActiveDown(now, r.learnt)
		}
	case a.Priority == 0:
		// §6.4.2 (420): the Active leaves. RFC 9568 restarts the timer with every
		// such advertisement of any sender, so a stream of them would keep every
		// Backup waiting forever. Therefore only the Active is believed, and the
		// timer never moves to a later time.
		if r.active.IsValid() && from != r.active {
			return
		}
		if now < r.heard {
			return // out of order: the Active was heard after it
		}
		if r.leftAt == 0 {
			r.leftAt, r.leftBy = now, from
		}
		r.deadline = min(r.deadline, now.Add(r.skewTime))
	case a.Priority >= r.config.MinPriority():
		// §6.4.2 (445): the Active is alive.
		r.preemptAt, r.noPreempt = 0, false
		r.follow(now, from, a)
		r.restartActiveDown(now, a.Interval)
	case r.delaysPreemption(now):
		r.follow(now, from, a)
		r.restartActiveDown(now, a.Interval)
	default:
		// §6.4.2 (475): the advertisement of an Active of lower priority is
		// discarded and its interval isn't learnt. The timer keeps running, and
		// this router takes over when it expires.
		if !r.overruled.address.IsValid() || now >= r.overruledUntil {
			r.overruled, r.overruledUntil = rival{from, a.Priority}, now.Add(answerSpacing)
		}
	}
}

// delaysPreemption reports whether a Backup accepts an advertisement of lower
// priority that arrives now, because it isn't time to preempt yet. The kernel
// doesn't stamp such advertisements, because their stamps would overwrite those of
// higher priorities. If their records are lost, the Active is preempted early, and
// yields.
func (r *Router) delaysPreemption(now Instant) bool {
	if r.owner() {
		return false
	}
	if r.noPreempt {
		return true
	}
	if r.config.PreemptDelay == 0 {
		return false
	}
	if r.preemptAt == 0 {
		r.preemptAt = now.Add(r.config.PreemptDelay)
	}
	return now < r.preemptAt
}

// follow records the sender of an advertisement as the Active.
func (r *Router) follow(now Instant, from netip.Addr, a *packet.Advertisement) {
	r.active, r.priority, r.version3 = from, a.Priority, 0
	if a.Version == 3 {
		r.version3 = now
	}
}

// hearsVersion3 reports whether the Active was heard in version 3 within the last
// Active_Down_Interval.
func (r *Router) hearsVersion3(now Instant) bool {
	return r.version3 != 0 && now.Sub(r.version3) < r.activeDownInterval
}

// restartActiveDown restarts the Active_Down_Timer.
func (r *Router) restartActiveDown(now Instant, interval time.Duration) {
	r.clearTakeOver()
	if r.config.Version == 3 {
		r.learnt = interval
	}
	r.computeTimers()
	r.heard = max(r.heard, now)
	r.deadline = r.heard.Add(r.activeDownInterval)
}

// clearTakeOver clears the reasons for a take-over, because the Active is alive.
func (r *Router) clearTakeOver() {
	r.stamped, r.leftAt, r.leftBy, r.overruled = false, 0, netip.Addr{}, rival{}
}

// stampHeard processes an advertisement that is known only from the kernel's stamp.
// It matters only to a Backup. The priority of a stamp is never 0.
func (r *Router) stampHeard(now Instant, a *packet.Advertisement, actions []Action) []Action {
	if r.state != Backup || !r.config.acceptsVersion(a.Version) || a.Interval <= 0 || r.config.Version == 2 && a.Interval != r.config.Interval {
		return actions
	}
	if a.Priority < r.config.MinPriority() {
		return actions
	}
	interval := a.Interval
	if a.Version == 2 && a.Priority == r.priority && r.hearsVersion3(now) {
		interval = r.learnt // version 3's, because version 2 rounds it to seconds
	}
	leftAt, leftBy := r.leftAt, r.leftBy
	r.restartActiveDown(now, interval)
	r.stamped = true
	if now <= leftAt {
		// The Active left after the advertisement of the stamp.
		r.leftAt, r.leftBy = leftAt, leftBy
		r.deadline = min(r.deadline, leftAt.Add(r.skewTime))
	}
	return actions
}

// Repeatable reports whether a repetition of the advertisement of the last Step, a
// Receive, only restarts the Active_Down_Timer (RFC 9568 §6.4.2 (445)). Then the
// caller may pass any number of repetitions, in either form of the checksum, as one
// Repeated event. Only this function decides which advertisements are news.
func (r *Router) Repeatable(ev *Event, actions []Action) bool {
	a := &ev.Advertisement
	switch {
	case r.state != Backup, r.config.Dual, a.Version != r.config.Version:
		return false // with two versions, what one of them means depends on the other
	case a.Priority < r.config.MinPriority():
		return false // the sender leaves, or has to be preempted
	case ev.From.WithZone("").Unmap() != r.active, a.Priority != r.priority:
		return false // the advertisement was refused
	case a.Interval != r.learnt, r.leftAt != 0, r.overruled.address.IsValid():
		return false
	}
	// Any other finding has to be reported for each repetition.
	return !slices.ContainsFunc(actions, func(a Action) bool {
		return a.Reason != packet.ReasonAdvertisementReceived && a.Reason != packet.ReasonChecksumRFC5798
	})
}

// Outranked describes advertisements that have no effect before Until: those with a
// priority of at least Least and less than Below, in version 2 or with a checksum in
// one of the Forms.
type Outranked struct {
	Until        Instant
	Least, Below uint8
	Forms        packet.Checksum
}

// Covers reports whether the description matches an advertisement that was received
// at the given time.
func (o *Outranked) Covers(at Instant, a *packet.Advertisement, form packet.Checksum) bool {
	return at < o.Until && a.Priority >= o.Least && a.Priority < o.Below && (a.Version == 2 || form&o.Forms != 0)
}

// Outranked returns which advertisements of lower priority have no effect after the
// one of the last Step, a Receive. It returns false if there are none. An Active has
// just answered (RFC 9568 §6.4.3 (710)), and a Backup has just discarded one (§6.4.2
// (475)), so another one changes nothing for a while. The result is valid until the
// next Step.
func (r *Router) Outranked(ev *Event, actions []Action) (Outranked, bool) {
	a := &ev.Advertisement
	o := Outranked{Forms: packet.ChecksumRFC9568 | packet.ChecksumRFC5798}
	learns := !r.config.singleForm() && r.config.Checksum == ChecksumAuto
	switch {
	case r.config.Dual, slices.ContainsFunc(actions, func(a Action) bool { return a.Refused }):
		return o, false
	case r.state == Active && a.Priority < r.config.Priority:
		o.Until, o.Below = r.nextAnswer, r.config.Priority
		if !r.owner() { // an Active that has lapsed must yield to it
			o.Until = min(o.Until, r.advertised.Add(r.config.SilenceLimit(r.config.Interval))+1)
		}
		if learns {
			o.Forms = r.send // other forms have to be learnt
		}
	case r.state == Backup && r.overruled.address.IsValid() && a.Priority > 0 && a.Priority < r.config.MinPriority():
		o.Until, o.Least, o.Below = r.overruledUntil, 1, r.config.MinPriority() // priority 0 means that the sender leaves
		if learns && r.forms != [2]packet.Checksum{ev.Checksum, ev.Checksum} {
			return o, false
		}
		if learns {
			o.Forms = ev.Checksum
		}
	default:
		return o, false
	}
	return o, true
}

// repeated processes repetitions of a Repeatable advertisement. They matter only to
// a Backup, and come from the Active that it heard last.
func (r *Router) repeated(now Instant, forms [2]packet.Checksum) {
	if r.state != Backup {
		return
	}
	if r.config.Version == 3 {
		r.version3 = now
	}
	if forms[1] == 0 {
		forms[1] = r.forms[0]
	}
	r.forms = forms
	r.restartActiveDown(now, r.learnt)
}

func (r *Router) receiveAsActive(now Instant, from netip.Addr, ev *Event, actions []Action) []Action {
	a, form := &ev.Advertisement, ev.Checksum
	p := a.Priority
	switch {
	case p == 0:
		// §6.4.3 (655): another router that was Active leaves, so hosts may not
		// know this one.
		r.learnForm(a.Version, form)
		if now < r.nextAnswer {
			return actions // without an answer the Adver_Timer isn't restarted
		}
		r.deadline = now.Add(r.config.Interval)
		r.nextAnswer = now.Add(answerSpacing)
		return r.defend(now, append(actions, r.advertise(now)))
	case p > r.config.Priority || p == r.config.Priority && from.Compare(r.source) > 0:
		// §6.4.3 (670): the other router wins, whatever Preempt_Mode is.
		cause := CauseHigherPriority
		if p == r.config.Priority {
			if ev.TieElsewhere && r.awaitsTie(now, a) {
				return actions
			}
			cause = CauseGreaterAddress
		}
		return r.yield(now, from, a, form, Action{Cause: cause}, actions)
	case r.lapsed(now) && !r.owner():
		// The other router rightly took over while this one was stopped. By the
		// RFC this router would make it yield at once, and all connections that
		// it has accepted would be lost without need.
		why := Action{Cause: CauseLapsed, Silence: now.Sub(r.advertised), Limit: r.config.SilenceLimit(r.config.Interval)}
		return r.yield(now, from, a, form, why, actions)
	}
	r.learnForm(a.Version, form)
	// §6.4.3 (710): RFC 9568 answers a lower priority at once; RFC 3768 doesn't.
	if now < r.nextAnswer {
		return actions
	}
	r.nextAnswer = now.Add(answerSpacing)
	if r.config.Version == 3 {
		actions = append(actions, r.advertise(now))
	}
	return r.defend(now, actions)
}

// awaitsTie reports whether an Active that would yield to a router of the same
// priority still waits for the tie to be decided elsewhere. An implementation that
// knows no such waiting goes on advertising, and wins when the wait is over.
func (r *Router) awaitsTie(now Instant, a *packet.Advertisement) bool {
	limit := r.config.SilenceLimit(max(r.config.Interval, a.Interval))
	if r.tiedAt == 0 || now.Sub(r.tieHeard) > limit {
		r.tiedAt = now
	}
	r.tieHeard = now
	return now.Sub(r.tiedAt) < limit && !r.lapsed(now)
}

// lapsed reports whether the last advertisement was sent so long ago that a Backup
// may have taken over.
func (r *Router) lapsed(now Instant) bool {
	return now.Sub(r.advertised) > r.config.SilenceLimit(r.config.Interval)
}

// yield makes an Active a Backup of the sender of an advertisement.
func (r *Router) yield(now Instant, from netip.Addr, a *packet.Advertisement, form packet.Checksum, why Action, actions []Action) []Action {
	r.follow(now, from, a)
	r.heard = now
	if a.Version == r.config.Version {
		r.forms = [2]packet.Checksum{form, form}
	}
	if r.config.Version == 3 {
		r.learnt = a.Interval
	}
	r.computeTimers()
	r.clearTakeOver()
	why.Peer, why.Priority = from, a.Priority
	return r.becomeBackup(now, why, append(actions, Action{Kind: ReleaseAddresses}))
}

// defend announces the addresses again, because another router may just have
// announced them, and once more after announceSpacing, when that router must have
// yielded. A router that continues to advertise only delays the second announcement.
func (r *Router) defend(now Instant, actions []Action) []Action {
	if r.defendAt != 0 {
		r.defendAgain = true
		return actions
	}
	r.defendAt = now.Add(announceSpacing)
	return append(actions, Action{Kind: AnnounceAddresses})
}

// learnForm adapts the forms of the checksum to a router that advertises or leaves
// although this one is Active and wins: that router can't read what this one sends.
// So the form changes to the rival's. If then another rival can't read that, both
// forms are sent.
func (r *Router) learnForm(version uint8, form packet.Checksum) {
	if version == 2 || r.config.singleForm() || r.config.Checksum != ChecksumAuto || r.send&form != 0 {
		return
	}
	if r.switched {
		r.send |= form
		return
	}
	r.send, r.switched = form, true
}

// Only becomeInitialize, becomeBackup, becomeActive and becomeActiveAgain change the state.

func (r *Router) becomeInitialize(now Instant, why Action, actions []Action) []Action {
	return r.enter(now, Initialize, why, actions)
}

func (r *Router) becomeBackup(now Instant, why Action, actions []Action) []Action {
	r.deadline = now.Add(r.activeDownInterval)
	return r.enter(now, Backup, why, actions)
}

func (r *Router) becomeActive(now Instant, why Action, actions []Action) []Action {
	r.resetActive()
	r.startAnnouncements(now)
	r.scheduleAnnouncements(now)
	if heard := r.forms[0] | r.forms[1]; heard != 0 && !r.config.singleForm() && r.config.Checksum == ChecksumAuto {
		r.send = heard
	}
	r.becameActive++
	r.deadline = now.Add(r.config.Interval)
	actions = r.enter(now, Active, why, actions)
	// The addresses must be in place before they are announced, and the
	// advertisement is sent before the announcements (RFC 9568 §6.4.2).
	return append(actions,
		Action{Kind: AssignAddresses},
		r.advertise(now),
		Action{Kind: AnnounceAddresses})
}

// resetActive clears what an Active remembers of an earlier time as Active.
func (r *Router) resetActive() {
	r.switched, r.oldPaceLeft = false, 0
	r.preemptAt, r.noPreempt, r.tiedAt = 0, false, 0
	r.defendAt, r.defendAgain = 0, false
}

// scheduleAnnouncements schedules the announcements that need no event: Config.Repeat
// and Config.Refresh.
func (r *Router) scheduleAnnouncements(now Instant) {
	r.repeatAt, r.refreshAt = 0, 0
	if r.config.Repeat != 0 {
		r.repeatAt = now.Add(r.config.Repeat)
	}
	if r.config.Refresh != 0 {
		r.refreshAt = now.Add(r.config.Refresh)
	}
}

func (r *Router) enter(now Instant, to State, why Action, actions []Action) []Action {
	why.Kind, why.From, why.To = TransitionTo, r.state, to
	r.state, r.since, r.last = to, now, why
	return append(actions, why)
}

func (r *Router) advertise(now Instant) Action {
	r.advertised = now
	return r.Advertisement()
}

// sendForms returns the forms to send. With ChecksumAuto that of RFC 5798 is always
// one of them, because a Backup that reads no other is never heard, so this router
// can't learn its form. If such a Backup could read only some of the advertisements,
// it would take over too early.
func (r *Router) sendForms() packet.Checksum {
	if !r.config.singleForm() && r.config.Checksum == ChecksumAuto {
		return r.send | packet.ChecksumRFC5798
	}
	return r.send
}

// computeTimers computes the timers of RFC 9568 §6.1, and of RFC 3768 §6.1 for
// version 2. The unit is nanoseconds, because in whole centiseconds every Skew_Time
// of an interval of 1 cs would be 0. It applies Config.MaxInterval to the learnt
// interval.
func (r *Router) computeTimers() {
	r.activeAdverInterval = r.config.boundInterval(r.learnt)
	unit := r.activeAdverInterval
	if r.config.Version == 2 {
		unit = time.Second
	}
	r.skewTime = time.Duration(256-int(r.config.Priority)) * unit / 256
	r.activeDownInterval = r.config.SilenceLimit(r.activeAdverInterval) + r.skewTime
}

func (r *Router) owner() bool { return r.config.Priority == OwnerPriority }

func (r *Router) sameAddresses(addresses []netip.Addr) bool {
	if len(addresses) != len(r.config.Addresses) {
		return false
	}
	if slices.Equal(addresses, r.config.Addresses) {
		return true
	}
	for _, a := range addresses {
		if !slices.Contains(r.config.Addresses, a) {
			return false
		}
	}
	for _, a := range r.config.Addresses {
		if !slices.Contains(addresses, a) {
			return false
		}
	}
	return true
}
