// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"net/netip"
	"slices"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

// answerSpacing is the least time between two immediate answers to
// advertisements of lower priority. RFC 9568 §6.4.3 has none, and two routers
// that take each other's frames for such would answer each other for ever.
const answerSpacing = 10 * time.Millisecond

// announceAgain is how long after the answer to a rival the addresses are
// announced a second time: the rival's own announcements may come after the
// first, because it hears the answer only when it has begun to be Active.
const announceAgain = 100 * time.Millisecond

// Router is one Virtual Router.
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

	learnt time.Duration // the interval that the Active advertises; the router's own before that

	// What a Backup knows of the Active.
	active         netip.Addr // zero: none was heard
	priority       uint8
	heard          Instant // when it was last heard, or the Backup began to listen
	stamped        bool    // it was heard, but only the kernel's stamp is left
	leftAt         Instant // it has left; 0: it hasn't
	leaver         netip.Addr
	overruled      rival
	overruledUntil Instant // until then another one is no news
	preemptAt      Instant // not to preempt before; 0: nobody is to be preempted
	lenient        bool    // whoever is Active is let be: it was handed over
	version3       Instant // when it was last heard in version 3; 0: not

	// The checksum forms to send in; those of the last two advertisements that a
	// Backup has heard of any peer, which outlive Initialize; and whether this
	// Active has changed its form already.
	send     packet.Checksum
	forms    [2]packet.Checksum
	switched bool

	nextAnswer   Instant
	tiedAt       Instant       // Active: since when it waits for a tie to be decided elsewhere,
	tieHeard     Instant       // and when the other one was last heard
	announceAt   Instant       // Active: when to announce again, 0: never
	announceMore bool          // and then once more
	repeatAt     Instant       // Active: when to repeat the first announcements, 0: never
	burstAt      Instant       // Active: when the next of several announcements is due, 0: never
	burst        int           // and how many there are still
	refreshAt    Instant       // Active: when to refresh the announcements, 0: never
	advertised   Instant       // Active: when an advertisement was last sent, as far as is known
	hurried      int           // Active: how many advertisements still come at the old pace,
	hurry        time.Duration // which is this, because not all Backups may know of the slower one
	becameActive uint64
	last         Action
	compared     Comparison // what a Report points to
}

// rival is an Active of lower priority that a preempting Backup doesn't heed.
type rival struct {
	address  netip.Addr
	priority uint8
}

// Status is a Router's state for people.
type Status struct {
	State               State
	Since               Instant
	Priority            uint8
	Active              netip.Addr // our own address while Active, zero: unknown
	ActivePriority      uint8
	LastHeard           Instant       // of the Active; while Backup
	Interval            time.Duration // its own Advertisement_Interval
	Learnt              time.Duration // the Max Advertise Interval of the Active, whatever Config.MaxInterval is
	ActiveAdverInterval time.Duration
	SkewTime            time.Duration
	ActiveDownInterval  time.Duration
	Checksum            packet.Checksum // the forms sent while Active
	Advertised          Instant         // when an advertisement was last sent, as far as is known
	BecameActive        uint64
	LastTransition      Action
	Deadline            Instant // of the timer that runs; not in Initialize
	PreemptAt           Instant // a Backup lets an Active of lower priority be until then; 0: there is none
}

// New returns a Router in Initialize, or what is wrong with its configuration.
func New(c Config) (*Router, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.Addresses = slices.Clone(c.Addresses)
	return &Router{config: c, send: c.firstForm()}, nil
}

// State returns the current state.
func (r *Router) State() State { return r.state }

// Deadline returns when TimerExpired is due, and false in Initialize.
func (r *Router) Deadline() (Instant, bool) {
	deadline := r.deadline
	if r.state == Active {
		for _, at := range [...]Instant{r.announceAt, r.repeatAt, r.burstAt, r.refreshAt} {
			if at != 0 {
				deadline = min(deadline, at)
			}
		}
	}
	return deadline, r.state != Initialize
}

// Status returns the state with everything that explains it.
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

// ActiveDownInterval is how long a Backup waits for the next advertisement (RFC 9568 §6.1).
func (r *Router) ActiveDownInterval() time.Duration { return r.activeDownInterval }

// Step runs one event that happened at the time now and appends what has to be
// done for it, in order, to actions. Times of successive events may go back a
// little, because a received advertisement's is that of its reception.
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
	}
	return actions
}

// startup is RFC 9568 §6.4.1.
func (r *Router) startup(now Instant, ev Event, actions []Action) []Action {
	if r.state != Initialize {
		return actions
	}
	r.source = ev.Source.WithZone("").Unmap()
	r.learnt = r.config.Interval
	r.computeTimers()
	r.active, r.priority = netip.Addr{}, 0
	r.forget()
	r.heard, r.version3, r.preemptAt, r.lenient = now, 0, 0, false
	if r.owner() {
		// §6.4.1 (110): the owner of the addresses is Active at once.
		return r.becomeActive(now, Action{Cause: CauseOwner}, actions)
	}
	// §6.4.1 (150): everybody else listens first.
	cause := ev.Cause
	if cause == CauseNone {
		cause = CauseStarting
	}
	return r.becomeBackup(now, Action{Cause: cause, Detail: ev.Detail}, actions)
}

// shutdown is the Shutdown event of RFC 9568 §6.4.2 and §6.4.3.
func (r *Router) shutdown(now Instant, why Action, actions []Action) []Action {
	switch r.state {
	case Initialize:
		return actions
	case Active:
		actions = r.leave(actions)
	}
	return r.becomeInitialize(now, why, actions)
}

// leave is what an Active does that ends to be one: it says so with priority 0,
// so that a Backup waits for Skew_Time only (RFC 9568 §6.4.3 (615)).
func (r *Router) leave(actions []Action) []Action {
	goodbye := Action{Kind: SendAdvertisement, Priority: 0, Checksum: r.sendForms(), Version2: r.config.Dual}
	return append(actions, goodbye, Action{Kind: ReleaseAddresses})
}

// relinquish has an Active leave, but for the owner of the addresses, and go on as
// a Backup that has heard nobody yet.
func (r *Router) relinquish(now Instant, why Action, actions []Action) []Action {
	if r.state != Active || r.owner() {
		return actions
	}
	actions = r.leave(actions)
	r.learnt = r.config.Interval
	r.computeTimers()
	r.active, r.priority = netip.Addr{}, 0
	r.forget()
	r.heard, r.version3 = now, 0
	r.lenient = why.Cause == CauseHandedOver
	return r.becomeBackup(now, why, actions)
}

// unsent takes in that the advertisements of an Active don't leave. By the RFC it goes
// on. But all its peers have taken over when the slowest of them has heard nothing for
// Active_Down_Interval, so it is an Active that nobody knows of, and ends to be one. An
// owner isn't Backup, so it waits in Initialize.
func (r *Router) unsent(now Instant, ev *Event, actions []Action) []Action {
	if r.state != Active {
		return actions
	}
	r.advertised = max(r.since, ev.Left)
	why := Action{Cause: CauseCannotSend, Detail: ev.Detail, Silence: now.Sub(r.advertised), Limit: r.config.slowest()}
	switch {
	case why.Silence < why.Limit:
		return actions
	case r.owner():
		return r.shutdown(now, why, actions)
	}
	return r.relinquish(now, why, actions)
}

// Advertisement is what the router sends as the Active.
func (r *Router) Advertisement() Action {
	return Action{Kind: SendAdvertisement, Priority: r.config.Priority, Checksum: r.sendForms(), Version2: r.config.Dual}
}

// timerExpired is the firing of Active_Down_Timer or Adver_Timer.
func (r *Router) timerExpired(now Instant, actions []Action) []Action {
	if r.state == Active && r.announcementDue(now) {
		actions = append(actions, Action{Kind: AnnounceAddresses})
	}
	if r.state == Initialize || now < r.deadline {
		return actions
	}
	if r.state == Backup {
		// §6.4.2 (360): the Active has been silent for Active_Down_Interval.
		return r.becomeActive(now, r.takeOver(now), actions)
	}
	// §6.4.3 (635): it is time for the next advertisement. It is counted from
	// the last deadline, so that the interval doesn't drift; a router that was
	// stopped for longer doesn't make up for what it missed.
	if r.hurried > 0 {
		r.hurried--
	}
	r.deadline = r.deadline.Add(r.pace())
	if r.deadline <= now {
		r.deadline = now.Add(r.pace())
	}
	return append(actions, r.advertise(now))
}

// announcementDue reports whether one of the reasons to announce the addresses
// again is due, and goes on to the next.
func (r *Router) announcementDue(now Instant) bool {
	due := func(at Instant) bool { return at != 0 && now >= at }
	burst, again, repeat, refresh := due(r.burstAt), due(r.announceAt), due(r.repeatAt), due(r.refreshAt)
	if burst {
		r.burstAt, r.burst = 0, r.burst-1
		if r.burst > 0 {
			r.burstAt = now.Add(announceAgain)
		}
	}
	if again {
		r.announceAt = 0
		if r.announceMore {
			r.announceAt, r.announceMore = now.Add(announceAgain), false
		}
	}
	if repeat {
		r.repeatAt = 0
		r.announceOften(now)
	}
	if refresh {
		r.refreshAt = now.Add(r.config.Refresh)
	}
	return burst || again || repeat || refresh
}

// announceOften has the announcement that is made now followed by others.
func (r *Router) announceOften(now Instant) {
	r.burstAt, r.burst = 0, r.config.Announcements-1
	if r.burst > 0 {
		r.burstAt = now.Add(announceAgain)
	}
}

// pace is the time until the next advertisement.
func (r *Router) pace() time.Duration {
	if r.hurried > 0 {
		return r.hurry
	}
	return r.config.Interval
}

// takeOver describes why a Backup takes over now.
func (r *Router) takeOver(now Instant) Action {
	a := Action{Peer: r.active, Priority: r.priority, Silence: now.Sub(r.heard), Limit: r.activeDownInterval}
	switch {
	case r.leftAt != 0:
		a.Cause, a.Peer = CauseReleased, r.leaver
	case r.overruled.address.IsValid():
		a.Cause, a.Peer, a.Priority = CausePreempted, r.overruled.address, r.overruled.priority
	case r.active.IsValid() || r.stamped:
		a.Cause = CauseSilence
	default:
		a.Cause = CauseNobody
	}
	return a
}

// receive is the reception of an advertisement that is valid in itself. It
// makes the checks of RFC 9568 §7.1 that need the configuration.
func (r *Router) receive(now Instant, ev *Event, actions []Action) []Action {
	from := ev.From.WithZone("").Unmap()
	a := &ev.Advertisement
	refuse := func(reason packet.Reason) []Action {
		return append(actions, Action{Kind: Report, Reason: reason, Peer: from, Refused: true, Comparison: r.contrast(a)})
	}
	if r.state == Initialize {
		return append(actions, Action{Kind: Report, Reason: packet.ErrInitialize, Peer: from, Refused: true})
	}
	if from == r.source {
		// A loop or a duplicate address. Taken for a rival's, it would be
		// answered, and the answer answered.
		return refuse(packet.ErrOwnSource)
	}
	if !r.config.speaks(a.Version) {
		return refuse(packet.ErrVersion)
	}
	if a.Interval <= 0 {
		// Decoding refuses it. Learnt, it would make every timer fire at once.
		return refuse(packet.ErrZeroInterval)
	}
	if a.Version == 3 && ev.Checksum&r.config.Forms() == 0 {
		return refuse(packet.ErrChecksum)
	}
	if r.owner() {
		if a.Version == 2 {
			// RFC 3768 §7.1: the owner discards whatever it receives.
			return refuse(packet.ErrOwnerConflict)
		}
		// RFC 9568 §7.1 with erratum 8298: no reason to discard.
		actions = append(actions, Action{Kind: Report, Reason: packet.ErrOwnerConflict, Peer: from, Comparison: r.contrast(a)})
	}
	if a.Version == 2 && a.AuthType != r.config.AuthType {
		return refuse(packet.ErrAuthType)
	}
	if a.Interval != r.config.intervalOf(a.Version) {
		if r.config.Version == 2 {
			// RFC 3768 §7.1: the routers of a VRID must agree on it. Beside
			// version 3 they can't.
			return refuse(packet.ErrInterval)
		}
		actions = append(actions, Action{Kind: Report, Reason: packet.ErrInterval, Peer: from, Comparison: r.contrast(a)})
	}
	if !r.sameAddresses(a.Addresses) {
		if a.Version == 2 && a.Priority != OwnerPriority && !r.config.IgnoreAddressList {
			// RFC 3768 §7.1: only the owner may know better.
			return refuse(packet.ErrAddressList)
		}
		actions = append(actions, Action{Kind: Report, Reason: packet.ErrAddressList, Peer: from, Comparison: r.contrast(a)})
	}
	accepted := Action{Kind: Report, Reason: packet.ReasonAdvertisementReceived, Peer: from}
	if r.state == Active {
		accepted.Comparison = r.contrast(a)
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

// contrast compares the router with the sender of an advertisement.
func (r *Router) contrast(a *packet.Advertisement) *Comparison {
	c := &r.config
	r.compared = Comparison{
		State:  r.state,
		Ours:   Parameters{c.Version, c.Priority, c.AuthType, c.Interval, c.Addresses},
		Theirs: Parameters{a.Version, a.Priority, a.AuthType, a.Interval, a.Addresses},
	}
	return &r.compared
}

func (r *Router) receiveAsBackup(now Instant, from netip.Addr, a *packet.Advertisement) {
	switch {
	case a.Version == 2 && from == r.active && r.hearsVersion3(now):
		// §8.4.1: of an Active that speaks both, version 3 counts. Version 2
		// is no more than a sign of life.
		if a.Priority >= r.config.MinPriority() {
			r.activeLives(now, r.learnt)
		}
	case a.Priority == 0:
		// §6.4.2 (420): the Active leaves. RFC 9568 sets the timer whoever
		// says so and however often; a stream of such packets would then keep
		// every Backup waiting for ever. So only the Active is believed, and
		// the timer is never put off.
		if r.active.IsValid() && from != r.active {
			return
		}
		if now < r.heard {
			return // it came late: the Active has been heard since
		}
		if r.leftAt == 0 {
			r.leftAt, r.leaver = now, from
		}
		r.deadline = min(r.deadline, now.Add(r.skewTime))
	case a.Priority >= r.config.MinPriority():
		// §6.4.2 (445): the Active lives.
		r.preemptAt, r.lenient = 0, false
		r.follow(now, from, a)
		r.activeLives(now, a.Interval)
	case r.spares(now):
		r.follow(now, from, a)
		r.activeLives(now, a.Interval)
	default:
		// §6.4.2 (475): an Active of lower priority isn't heeded, and its
		// interval isn't learnt. The timer goes on and ends its reign.
		if !r.overruled.address.IsValid() || now >= r.overruledUntil {
			r.overruled, r.overruledUntil = rival{from, a.Priority}, now.Add(answerSpacing)
		}
	}
}

// spares reports whether an Active of lower priority that advertises now is
// heeded nevertheless, for it isn't yet time to preempt it. The kernel doesn't
// stamp its advertisements, which would displace those that count: if their
// records are lost it is preempted early, and yields.
func (r *Router) spares(now Instant) bool {
	if r.owner() {
		return false
	}
	if r.lenient {
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

// follow takes the sender of an advertisement for the Active.
func (r *Router) follow(now Instant, from netip.Addr, a *packet.Advertisement) {
	r.active, r.priority, r.version3 = from, a.Priority, 0
	if a.Version == 3 {
		r.version3 = now
	}
}

// hearsVersion3 reports whether the Active has been heard in version 3 within
// Active_Down_Interval.
func (r *Router) hearsVersion3(now Instant) bool {
	return r.version3 != 0 && now.Sub(r.version3) < r.activeDownInterval
}

// activeLives restarts the Active_Down_Timer.
func (r *Router) activeLives(now Instant, interval time.Duration) {
	r.forget()
	if r.config.Version == 3 {
		r.learnt = interval
	}
	r.computeTimers()
	r.heard = max(r.heard, now)
	r.deadline = r.heard.Add(r.activeDownInterval)
}

// forget forgets what would have explained a take-over: the Active lives.
func (r *Router) forget() {
	r.stamped, r.leftAt, r.leaver, r.overruled = false, 0, netip.Addr{}, rival{}
}

// stampHeard is an advertisement of which only the kernel's stamp is left. It
// concerns a Backup only, and is none of a router that leaves.
func (r *Router) stampHeard(now Instant, a *packet.Advertisement, actions []Action) []Action {
	if r.state != Backup || !r.config.speaks(a.Version) || a.Interval <= 0 || r.config.Version == 2 && a.Interval != r.config.Interval {
		return actions
	}
	if a.Priority < r.config.MinPriority() {
		return actions
	}
	interval := a.Interval
	if a.Version == 2 && a.Priority == r.priority && r.hearsVersion3(now) {
		interval = r.learnt // the Active's, which in version 2 is coarse
	}
	leftAt, leaver := r.leftAt, r.leaver
	r.activeLives(now, interval)
	r.stamped = true
	if now <= leftAt {
		// It has left since.
		r.leftAt, r.leaver = leftAt, leaver
		r.deadline = min(r.deadline, leftAt.Add(r.skewTime))
	}
	return actions
}

// Repeatable reports whether the advertisement of the last Step, a Receive, is no
// news if it comes again, for any number of times and in either form of the
// checksum that it comes in: all that it does then is what Repeated does, to
// restart the Active_Down_Timer (RFC 9568 §6.4.2 (445)). This is the one place
// that says what is news.
func (r *Router) Repeatable(ev *Event, actions []Action) bool {
	a := &ev.Advertisement
	switch {
	case r.state != Backup, r.config.Dual, a.Version != r.config.Version:
		return false // two versions, of which one counts and the other may
	case a.Priority < r.config.MinPriority():
		return false // it leaves, or is one to be preempted
	case ev.From.WithZone("").Unmap() != r.active, a.Priority != r.priority:
		return false // it was refused
	case a.Interval != r.learnt, r.leftAt != 0, r.overruled.address.IsValid():
		return false
	}
	// What is found of it is to be found each time.
	return !slices.ContainsFunc(actions, func(a Action) bool {
		return a.Reason != packet.ReasonAdvertisementReceived && a.Reason != packet.ReasonChecksumRFC5798
	})
}

// Outranked describes advertisements that are of no consequence until then: those of
// a priority from Least on and below Below, in version 2 or with a checksum in one of
// the Forms.
type Outranked struct {
	Until        Instant
	Least, Below uint8
	Forms        packet.Checksum
}

// Covers reports whether an advertisement that is received then is one of them.
func (o *Outranked) Covers(at Instant, a *packet.Advertisement, form packet.Checksum) bool {
	return at < o.Until && a.Priority >= o.Least && a.Priority < o.Below && (a.Version == 2 || form&o.Forms != 0)
}

// Outranked reports whether, after the advertisement of the last Step, a Receive, others
// that are outranked like it are of no consequence, and which. An Active has just
// answered (RFC 9568 §6.4.3 (710)) and a Backup has overruled somebody (§6.4.2 (475)), and
// to hear it again changes nothing. It holds until the next Step.
func (r *Router) Outranked(ev *Event, actions []Action) (Outranked, bool) {
	a := &ev.Advertisement
	o := Outranked{Forms: packet.ChecksumRFC9568 | packet.ChecksumRFC5798}
	learns := !r.config.formless() && r.config.Checksum == ChecksumAuto
	switch {
	case r.config.Dual, slices.ContainsFunc(actions, func(a Action) bool { return a.Refused }):
		return o, false
	case r.state == Active && a.Priority < r.config.Priority:
		o.Until, o.Below = r.nextAnswer, r.config.Priority
		if !r.owner() { // who has lapsed yields to it
			o.Until = min(o.Until, r.advertised.Add(r.config.SilenceLimit(r.config.Interval))+1)
		}
		if learns {
			o.Forms = r.send // from these there is nothing to learn
		}
	case r.state == Backup && r.overruled.address.IsValid() && a.Priority > 0 && a.Priority < r.config.MinPriority():
		o.Until, o.Least, o.Below = r.overruledUntil, 1, r.config.MinPriority() // 0 is of who leaves
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

// repeated is the reception of a Repeatable advertisement. It concerns a Backup
// only, and the Active that this has heard last.
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
	r.activeLives(now, r.learnt)
}

func (r *Router) receiveAsActive(now Instant, from netip.Addr, ev *Event, actions []Action) []Action {
	a, form := &ev.Advertisement, ev.Checksum
	p := a.Priority
	switch {
	case p == 0:
		// §6.4.3 (655): somebody leaves who thought to be Active, so the hosts
		// may not know of this one.
		r.learnForm(a.Version, form)
		if now < r.nextAnswer {
			return actions // the Adver_Timer isn't put off without an answer
		}
		r.deadline = now.Add(r.config.Interval)
		r.nextAnswer = now.Add(answerSpacing)
		return r.defend(now, append(actions, r.advertise(now)))
	case p > r.config.Priority || p == r.config.Priority && from.Compare(r.source) > 0:
		// §6.4.3 (670): the other one wins; Preempt_Mode isn't asked.
		cause := CauseHigherPriority
		if p == r.config.Priority {
			if ev.TieElsewhere && r.waits(now, a) {
				return actions
			}
			cause = CauseGreaterAddress
		}
		return r.yield(now, from, a, form, Action{Cause: cause}, actions)
	case r.lapsed(now) && !r.owner():
		// The other one took over rightly, while this one was stopped: by the
		// RFC it would be told to yield at once, and every connection that it
		// has accepted would be lost without need.
		why := Action{Cause: CauseLapsed, Silence: now.Sub(r.advertised), Limit: r.config.SilenceLimit(r.config.Interval)}
		return r.yield(now, from, a, form, why, actions)
	}
	r.learnForm(a.Version, form)
	// §6.4.3 (710): RFC 9568 has a loser told at once; RFC 3768 has not.
	if now < r.nextAnswer {
		return actions
	}
	r.nextAnswer = now.Add(answerSpacing)
	if r.config.Version == 3 {
		actions = append(actions, r.advertise(now))
	}
	return r.defend(now, actions)
}

// waits reports whether an Active that is to yield to another one of the same priority
// still waits for the tie to be decided elsewhere. Who doesn't know of that, as another
// implementation, goes on to advertise, and wins when nobody else would wait any longer.
func (r *Router) waits(now Instant, a *packet.Advertisement) bool {
	patience := r.config.SilenceLimit(max(r.config.Interval, a.Interval))
	if r.tiedAt == 0 || now.Sub(r.tieHeard) > patience {
		r.tiedAt = now
	}
	r.tieHeard = now
	return now.Sub(r.tiedAt) < patience && !r.lapsed(now)
}

// lapsed reports whether nothing has been advertised for so long that a Backup
// may have taken over.
func (r *Router) lapsed(now Instant) bool {
	return now.Sub(r.advertised) > r.config.SilenceLimit(r.config.Interval)
}

// yield makes a Backup of an Active on hearing another one.
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
	r.forget()
	why.Peer, why.Priority = from, a.Priority
	return r.becomeBackup(now, why, append(actions, Action{Kind: ReleaseAddresses}))
}

// defend announces the addresses anew, for another router may just have
// announced them as its own, and once more when that one must have fallen
// silent. Whoever goes on meanwhile only puts the second time off until then.
func (r *Router) defend(now Instant, actions []Action) []Action {
	if r.announceAt != 0 {
		r.announceMore = true
		return actions
	}
	r.announceAt = now.Add(announceAgain)
	return append(actions, Action{Kind: AnnounceAddresses})
}

// learnForm draws the conclusion from a router that advertises, or leaves as
// one that did, although this one is Active and wins: it can't read what is
// sent. So the form changes
// to the rival's, and if that again brings up one who can't read it, both are
// sent.
func (r *Router) learnForm(version uint8, form packet.Checksum) {
	if version == 2 || r.config.formless() || r.config.Checksum != ChecksumAuto || r.send&form != 0 {
		return
	}
	if r.switched {
		r.send |= form
		return
	}
	r.send, r.switched = form, true
}

// becomeInitialize, becomeBackup and becomeActive are the only ones to write
// the state.

func (r *Router) becomeInitialize(now Instant, why Action, actions []Action) []Action {
	return r.enter(now, Initialize, why, actions)
}

func (r *Router) becomeBackup(now Instant, why Action, actions []Action) []Action {
	r.deadline = now.Add(r.activeDownInterval)
	return r.enter(now, Backup, why, actions)
}

func (r *Router) becomeActive(now Instant, why Action, actions []Action) []Action {
	r.switched, r.hurried = false, 0
	r.preemptAt, r.lenient, r.tiedAt = 0, false, 0
	r.announceAt, r.announceMore = 0, false
	r.announceOften(now)
	r.announceLater(now)
	if heard := r.forms[0] | r.forms[1]; heard != 0 && !r.config.formless() && r.config.Checksum == ChecksumAuto {
		r.send = heard
	}
	r.becameActive++
	r.deadline = now.Add(r.config.Interval)
	actions = r.enter(now, Active, why, actions)
	// The addresses must be in place before they are announced, and the
	// advertisement goes out before the announcements (RFC 9568 §6.4.2).
	return append(actions,
		Action{Kind: AssignAddresses},
		r.advertise(now),
		Action{Kind: AnnounceAddresses})
}

// announceLater sets when the addresses are announced again with nothing having
// happened.
func (r *Router) announceLater(now Instant) {
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

// sendForms returns the forms to send in. RFC 5798's is always among them if
// none is configured: a Backup that knows no other is never heard, and with some
// of the advertisements only it would take over too early, before the silence
// has lasted three intervals for those who can read all of them.
func (r *Router) sendForms() packet.Checksum {
	if !r.config.formless() && r.config.Checksum == ChecksumAuto {
		return r.send | packet.ChecksumRFC5798
	}
	return r.send
}

// computeTimers is RFC 9568 §6.1, and RFC 3768 §6.1 for version 2, in
// nanoseconds: in whole centiseconds every Skew_Time at 1 cs would be 0. Whatever
// interval the Active advertises, this is where its bound applies.
func (r *Router) computeTimers() {
	r.activeAdverInterval = r.config.bounded(r.learnt)
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
