// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

const (
	// leaveTimeout bounds how long Run waits, after the last advertisement
	// of priority 0 has left, for the virtual addresses to be removed.
	leaveTimeout = 5 * time.Second
	// assignRetry is how long a Virtual Router whose addresses could not be
	// assigned stays in Initialize before it takes part again.
	assignRetry = 10 * time.Second
	// releaseRetry is the time between two attempts to remove addresses.
	releaseRetry = time.Second
	// sendWithin is the least time within which an advertisement must have
	// left after the packets that it was decided with were drained. Later the
	// kernel drops it: the process was stopped, and others may have taken
	// over.
	sendWithin = 100 * time.Millisecond
)

// ErrStopped is returned by the methods of a Loop that has ended.
var ErrStopped = errors.New("the event loop has ended")

// Loop is the event loop. Its exported methods may be called from any
// goroutine except the loop's own; each waits until the loop has done it.
type Loop struct {
	clock     Clock
	packets   Packets
	addresses Addresses
	leases    Leases
	observer  Observer

	altered  atomic.Uint64
	size     atomic.Int64 // of routers
	commands chan func()
	stopped  chan struct{}

	// Everything below belongs to the goroutine that runs Run.
	routers   map[ID]*router
	byKey     map[packet.Key]*router
	received  func(*Received) // l.receive, made once
	haste     time.Duration   // at most
	deadlines deadlines
	quiet     []quiet      // Backups that aren't among them
	sweepAt   vrrp.Instant // and when they are to be looked after
	dirty     []outbox
	sending   []sending        // what is queued in them, in this order in each
	unsent    func(int, error) // l.refuse, made once
	flushing  int              // the outbox that sends
	cursor    int              // in sending
	missed    []*router        // Active ones whose advertisements could not be sent
	due       []*router        // to announce their addresses in the next flush
	ended     []*router        // that have left Active since the last one
	drained   vrrp.Instant     // what was received before has been dealt with
	later     []func()         // what can wait until the next flush has sent
	news      []func()         // what can wait until after that
	actions   []vrrp.Action
	groups    map[string]*group
	changes   []change // of members of groups, which the others have to follow
	leaving   int      // removals of addresses under way
	ending    bool     // nobody starts any more
	wakeups   uint64
}

// New returns a Loop that has no Virtual Router yet.
func New(clock Clock, packets Packets, addresses Addresses, leases Leases, observer Observer) *Loop {
	l := &Loop{
		clock:     clock,
		packets:   packets,
		addresses: addresses,
		leases:    leases,
		observer:  observer,
		// Completions of address changes arrive here; the buffer keeps the
		// worker from waiting for the loop in ordinary operation.
		commands: make(chan func(), 256),
		stopped:  make(chan struct{}),
		wakeups:  1, // 0 is the wake-up in which nothing was queued yet
		routers:  make(map[ID]*router),
		byKey:    make(map[packet.Key]*router),
		groups:   make(map[string]*group),
		haste:    maxHaste,
		sweepAt:  never,
	}
	l.received, l.unsent = l.receive, l.refuse
	return l
}

// Run runs the loop until ctx ends. Then every Virtual Router leaves: an
// Active one sends priority 0 and has its addresses removed before Run
// returns; addresses that could not be removed are an error. Cancellation is
// none.
func (l *Loop) Run(ctx context.Context) error {
	defer close(l.stopped)
	defer context.AfterFunc(ctx, l.packets.Wake)()

	for {
		err := l.packets.Wait(l.next())
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, l.leave())
		}
		l.runQueued()
		l.turn()
	}
}

// turn does all the work that is due now.
func (l *Loop) turn() {
	// The time is taken before the ring is drained: whatever the kernel
	// received before now is in the ring, so a deadline that lies before now
	// is judged with everything that could have moved it.
	now := l.clock.Now()
	l.drained = now
	l.packets.Drain(l.received)
	l.follow(now)
	if l.sweepAt <= now {
		l.sweep(now)
	}
	for {
		r, at := l.deadlines.first()
		if at <= now {
			l.expire(r, now)
		} else if at <= now.Add(l.haste) && at <= now.Add(r.haste(l.haste)) {
			l.expire(r, at)
		} else {
			break
		}
		l.follow(now)
	}
	l.flush()
}

func (l *Loop) runQueued() {
	for {
		select {
		case f := <-l.commands:
			f()
		default:
			return
		}
	}
}

// receive hands one advertisement to its state machine.
func (l *Loop) receive(p *Received) {
	r, ok := l.byKey[p.Key]
	if !ok {
		return // removed between reception and now
	}
	r.heard(p.From, p.At)
	if p.Signature != 0 && r.ignoring.Covers(p.At, &p.Advertisement, p.Checksum) {
		// It was in the ring before the kernel was told to ignore it. A flood is kept up
		// with only if this costs little, and the kernel goes on ignoring meanwhile.
		l.actions = l.actions[:0]
		r.counters.Found[packet.ReasonOutranked]++
	} else {
		ev := vrrp.Event{
			Kind:          vrrp.Receive,
			Advertisement: p.Advertisement,
			From:          p.From,
			Checksum:      p.Checksum,
			TieElsewhere:  r.group != nil && r.group.decidesElsewhere(r),
		}
		l.step(r, p.At, ev)
		l.expect(r, p, &ev)
		l.outrank(r, p, &ev)
	}
	if !r.stamped(p) {
		return
	}
	if slices.ContainsFunc(l.actions, func(a vrrp.Action) bool { return a.Refused }) {
		r.lastRefused = p.At
	} else {
		r.lastHeeded = max(r.lastHeeded, p.At)
	}
}

// expire acts on a deadline that has passed.
func (l *Loop) expire(r *router, now vrrp.Instant) {
	if r.releaseAt != 0 && r.releaseAt <= now {
		l.release(r)
		l.reschedule(r)
		return
	}
	if l.resend(r, now) {
		return
	}
	if r.machine.State() == vrrp.Initialize {
		r.restartAt = 0
		if r.protocol.Priority == vrrp.OwnerPriority && !l.canSend(r, now) {
			r.restartAt = r.trouble.probeAt
			l.reschedule(r)
			return
		}
		l.step(r, now, vrrp.Event{Kind: vrrp.Startup, Source: r.port.Source})
		return
	}
	if r.lookAt != 0 {
		l.requestLook(r)
		return
	}
	if r.machine.State() == vrrp.Backup && (l.heardMeanwhile(r, now) || l.deaf(r, now)) {
		return
	}
	if r.group != nil {
		l.expireMember(r, now)
		return
	}
	if r.machine.State() == vrrp.Backup && !l.canSend(r, now) {
		l.reschedule(r)
		return
	}
	l.step(r, now, vrrp.Event{Kind: vrrp.TimerExpired})
}

// heardMeanwhile asks the kernel whether it has received an advertisement
// that the state machine doesn't know of, and reports whether that moved the
// Active_Down_Timer beyond now.
func (l *Loop) heardMeanwhile(r *router, now vrrp.Instant) bool {
	if r.quietIndex >= 0 {
		if l.catchUp(r); r.deadline > now {
			return true
		}
	}
	if !l.hears(r) {
		return false
	}
	stamp, ok := r.kernel.Stamp()
	if !ok || r.knows(stamp) {
		return false
	}
	// The record may have been on its way while the ring was drained.
	l.packets.Drain(l.received)
	if !r.knows(stamp) {
		// It is lost: the ring was full. The stamp says what it said.
		r.lastHeeded = stamp.At
		ev := vrrp.Event{Kind: vrrp.StampHeard}
		ev.Advertisement.Version = stamp.Version
		ev.Advertisement.Priority = stamp.Priority
		ev.Advertisement.Interval = stamp.Interval
		l.step(r, stamp.At, ev)
	}
	return r.machine.State() != vrrp.Backup || r.deadline > now
}

// step runs one event through a state machine and carries out what it says.
func (l *Loop) step(r *router, now vrrp.Instant, ev vrrp.Event) {
	l.listen(r)
	r.looked = false
	actions := r.machine.Step(now, ev, l.actions[:0])
	l.actions = actions
	for i := range actions {
		l.perform(r, now, &actions[i])
	}
	l.reschedule(r)
}

func (l *Loop) perform(r *router, now vrrp.Instant, a *vrrp.Action) {
	switch a.Kind {
	case vrrp.SendAdvertisement:
		l.advertise(r, a)
	case vrrp.AssignAddresses:
		l.assign(r)
	case vrrp.AnnounceAddresses:
		r.announce = true
		l.announceIfReady(r)
	case vrrp.ReleaseAddresses:
		l.release(r)
	case vrrp.TransitionTo:
		r.counters.Became[a.To]++
		l.altered.Add(1)
		if r.trouble != nil {
			r.leave(now, a)
		}
		if r.group != nil {
			l.changes = append(l.changes, change{r, *a})
		}
		t := Transition{ID: r.id, When: now, Own: r.protocol.Priority, Action: *a}
		l.inform(func() { l.observer.Transition(t) })
	case vrrp.Report:
		r.counters.Found[a.Reason]++
		l.observer.Finding(Finding{ID: r.id, Action: *a})
	}
}

// afterSending has f called in the next flush when the advertisements have left, in
// the order of the calls: what wakes other threads takes time.
func (l *Loop) afterSending(f func()) { l.later = append(l.later, f) }

// inform has f called after all that: whoever is woken first has the free processor, and
// that is for changing the addresses, not for writing of it.
func (l *Loop) inform(f func()) { l.news = append(l.news, f) }

func (l *Loop) assign(r *router) {
	r.generation++
	r.stuck, r.releaseAt = nil, 0
	r.assigned, r.assignedAt = len(r.addresses) == 0, l.clock.Now()
	if r.assigned {
		return
	}
	generation := r.generation
	id, device, addresses := r.id, r.device(), r.addresses
	l.afterSending(func() {
		l.addresses.Assign(id, device, addresses, func(err error) {
			l.post(func() { l.assignDone(r, generation, err) })
		})
	})
}

func (l *Loop) assignDone(r *router, generation uint64, err error) {
	if r.generation != generation {
		return // released or assigned anew since
	}
	if err == nil {
		r.assigned, r.assignedAt = true, l.clock.Now()
		l.announceIfReady(r)
		return
	}
	// An Active router without its addresses is a black hole: let another
	// one have them.
	l.fail(r.id, "assign addresses", err)
	now := l.clock.Now()
	l.step(r, now, vrrp.Event{Kind: vrrp.Shutdown, Cause: vrrp.CauseAssignFailed})
	r.restartAt = now.Add(assignRetry)
	l.reschedule(r)
}

func (l *Loop) release(r *router) {
	r.generation++
	// After the next flush the kernel stops answering, whenever the addresses
	// go; priority 0 leaves before.
	l.ended = append(l.ended, r)
	r.announce, r.announceDue = false, false
	r.assigned = false
	r.releaseAt = 0
	if len(r.addresses) == 0 {
		return
	}
	generation := r.generation
	l.leaving++
	r.releasing++
	id, device, addresses := r.id, r.device(), r.addresses
	l.afterSending(func() {
		l.addresses.Release(id, device, addresses, func(err error) {
			l.post(func() {
				l.leaving--
				r.releasing--
				l.releaseDone(r, generation, err)
				if r.gone != nil && r.releasing == 0 {
					l.forget(r, err)
				}
			})
		})
	})
}

// releaseDone tries a removal that failed again, until it succeeds or the
// addresses are assigned anew: a Backup that keeps them answers for them.
func (l *Loop) releaseDone(r *router, generation uint64, err error) {
	if r.generation != generation {
		return
	}
	if r.stuck = err; err == nil {
		return
	}
	l.fail(r.id, "remove addresses", err)
	if !l.ending {
		r.releaseAt = l.clock.Now().Add(releaseRetry)
		l.reschedule(r)
	}
}

// announceIfReady sends gratuitous ARP or unsolicited neighbour
// advertisements once the addresses are in place: RFC 9568 §8.1.2 and §8.2.2
// forbid doing so earlier.
func (l *Loop) announceIfReady(r *router) {
	if !r.announce || !r.assigned {
		return
	}
	// Not before the flush: a router that yields in this wake-up must not
	// announce any more.
	r.announce = false
	if !r.announceDue {
		r.announceDue = true
		l.due = append(l.due, r)
	}
}

// announce queues the announcements that are still due.
func (l *Loop) announce() {
	for i, r := range l.due {
		l.due[i] = nil
		if !r.announceDue {
			continue
		}
		r.announceDue = false
		r.counters.Announced++
		t := r.port.Transmitter
		s := sending{router: r, outbox: l.touch(t), from: t.Queued(), announcement: true}
		if err := r.queueAnnouncements(); err != nil {
			l.fail(r.id, "encode announcement", err)
		}
		s.to = t.Queued()
		l.sending = append(l.sending, s)
	}
	l.due = l.due[:0]
}

func (l *Loop) fail(id ID, action string, err error) {
	l.observer.Failure(Failure{ID: id, Action: action, Err: err})
}

func (l *Loop) flush() {
	l.send() // it renews the leases, without which announcements are held back
	l.stepDown()
	l.later = call(l.later)
	l.news = call(l.news)
	for i, r := range l.ended {
		l.ended[i] = nil
		if r.machine.State() != vrrp.Active {
			l.lease(r).Answer(0)
			l.lease(r).Advertise(0)
		}
	}
	l.ended = l.ended[:0]
	l.announce()
	l.send()
	l.wakeups++
}

// call calls all and returns their place.
func call(all []func()) []func() {
	for i, f := range all {
		all[i] = nil
		f()
	}
	return all[:0]
}

// lease is how the kernel is told how long a router is Active.
func (l *Loop) lease(r *router) Lease {
	if r.lease == nil {
		if r.lease = l.leases.Lease(r.key); r.lease == nil {
			return noLease{}
		}
	}
	return r.lease
}

type noLease struct{}

func (noLease) Answer(vrrp.Instant)    {}
func (noLease) Advertise(vrrp.Instant) {}

// leave shuts every Virtual Router down and waits until their addresses are
// gone.
func (l *Loop) leave() error {
	l.ending = true
	l.turn() // an Active that was stopped must not leave as one
	now := l.clock.Now()
	for _, r := range l.routers {
		r.restartAt = 0
		l.step(r, now, vrrp.Event{Kind: vrrp.Shutdown, Cause: vrrp.CauseAdministrator})
		if r.stuck != nil {
			l.release(r)
		}
	}
	l.flush()
	timeout := time.NewTimer(leaveTimeout)
	defer timeout.Stop()
	for l.leaving > 0 {
		select {
		case f := <-l.commands:
			f()
		case <-timeout.C:
			return fmt.Errorf("%d removals of addresses not finished after %v; run failoverd --cleanup", l.leaving, leaveTimeout)
		}
	}
	var errs []error
	for _, r := range l.routers {
		if r.stuck != nil {
			errs = append(errs, fmt.Errorf("remove the addresses of VRID %d from %s: %w", r.id.VRID, r.id.Interface, r.stuck))
		}
	}
	return errors.Join(errs...)
}

// post queues f for the loop, and reports false if it has ended.
func (l *Loop) post(f func()) bool {
	select {
	case l.commands <- f:
		l.packets.Wake()
		return true
	case <-l.stopped:
		return false
	}
}

// do runs f on the loop and waits for it.
func (l *Loop) do(f func()) error {
	done := make(chan struct{})
	// What is done is done knowing the news.
	if !l.post(func() { l.turn(); f(); l.follow(l.clock.Now()); l.flush(); close(done) }) {
		return ErrStopped
	}
	select {
	case <-done:
		return nil
	case <-l.stopped:
		return ErrStopped
	}
}

// Add makes a Virtual Router known. It stays in Initialize until Start.
func (l *Loop) Add(c Config) error {
	machine, err := vrrp.New(c.Protocol)
	if err != nil {
		return err
	}
	var dup error
	err = l.do(func() { dup = l.add(c, machine) })
	return errors.Join(err, dup)
}

func (l *Loop) add(c Config, machine *vrrp.Router) error {
	if _, ok := l.routers[c.ID]; ok {
		return fmt.Errorf("VRID %d exists twice for %s on %s", c.ID.VRID, c.ID.Family, c.ID.Interface)
	}
	r := &router{id: c.ID, machine: machine, protocol: c.Protocol, addresses: c.Addresses, ttl: c.TTL, authenticator: c.Authenticator, slot: -1, quietIndex: -1}
	r.meet(c.Peers)
	l.altered.Add(1)
	l.routers[c.ID] = r
	l.size.Store(int64(len(l.routers)))
	l.join(r, c.Group)
	return nil
}

// Update changes the configuration of a Virtual Router. One that takes part
// stays in its state; what isn't among its addresses any more is removed. The
// error is vrrp.ErrRestart for a change that needs Stop and Start around it.
func (l *Loop) Update(c Config) error {
	var err error
	return errors.Join(l.do(func() { err = l.update(c) }), err)
}

func (l *Loop) update(c Config) error {
	r, ok := l.routers[c.ID]
	if !ok {
		return fmt.Errorf("no VRID %d for %s on %s", c.ID.VRID, c.ID.Family, c.ID.Interface)
	}
	l.listen(r)
	now := l.clock.Now()
	actions, err := r.machine.Reconfigure(now, c.Protocol, l.actions[:0])
	l.actions = actions
	if errors.Is(err, vrrp.ErrRestart) && r.machine.State() == vrrp.Initialize {
		r.machine, err = vrrp.New(c.Protocol)
	}
	if err != nil {
		return err
	}
	if r.groupName() != c.Group {
		l.join(r, c.Group)
	}
	l.altered.Add(1)
	before := r.addresses
	r.protocol, r.addresses, r.ttl, r.authenticator = c.Protocol, c.Addresses, c.TTL, c.Authenticator
	r.meet(c.Peers)
	r.attach(r.port) // the frames are built anew
	if r.machine.State() == vrrp.Active {
		l.withdraw(r, slices.DeleteFunc(slices.Clone(before), func(p netip.Prefix) bool { return slices.Contains(c.Addresses, p) }))
		if !slices.Equal(before, c.Addresses) {
			r.announce = true
			l.assign(r) // also if only a prefix length has changed
		}
	}
	for i := range actions {
		if actions[i].Kind != vrrp.AssignAddresses {
			l.perform(r, now, &actions[i])
		}
	}
	l.reschedule(r)
	return nil
}

// withdraw removes addresses that a router has no more, while it keeps others.
func (l *Loop) withdraw(r *router, addresses []netip.Prefix) {
	if len(addresses) == 0 {
		return
	}
	l.leaving++
	r.withdrawing++
	device := r.device()
	l.afterSending(func() {
		l.addresses.Release(ID{}, device, addresses, func(err error) {
			l.post(func() {
				l.leaving--
				r.withdrawing--
				if err != nil {
					l.fail(r.id, "remove addresses", err)
				}
			})
		})
	})
}

// Remove has a Virtual Router leave, and forgets it. It waits until the addresses
// are removed; if that fails, the router stays, in Initialize, and goes on
// trying.
func (l *Loop) Remove(id ID, cause vrrp.Cause) error {
	gone := make(chan error, 1)
	err := l.do(func() {
		r, ok := l.routers[id]
		if !ok {
			gone <- nil
			return
		}
		l.shutdown(id, cause, "")
		l.flush()
		r.gone = gone
		if r.releasing == 0 {
			l.forget(r, nil)
		}
	})
	if err != nil {
		return err
	}
	select {
	case err := <-gone:
		return err
	case <-l.stopped:
		return ErrStopped
	}
}

// forget ends a removal, whether it succeeded or not.
func (l *Loop) forget(r *router, err error) {
	gone := r.gone
	r.gone = nil
	if err == nil {
		l.deadlines.remove(r)
		l.join(r, "")
		l.altered.Add(1)
		delete(l.routers, r.id)
		l.size.Store(int64(len(l.routers)))
		if l.byKey[r.key] == r {
			delete(l.byKey, r.key)
		}
	}
	gone <- err
}

// Start lets a Virtual Router take part on a port (RFC 9568 §6.4.1).
func (l *Loop) Start(id ID, p Port, cause vrrp.Cause) error {
	return l.do(func() { l.start(id, p, cause) })
}

func (l *Loop) start(id ID, p Port, cause vrrp.Cause) {
	r, ok := l.routers[id]
	if !ok || l.ending || r.machine.State() != vrrp.Initialize {
		return
	}
	delete(l.byKey, r.key)
	l.altered.Add(1)
	r.attach(p)
	l.byKey[r.key] = r
	l.step(r, l.clock.Now(), vrrp.Event{Kind: vrrp.Startup, Source: p.Source, Cause: cause})
}

// Stop takes a Virtual Router back to Initialize. When it returns, an
// advertisement of priority 0 has been handed to the port if one was due; the
// removal of the addresses is under way. The detail, if there is one, says more
// than the cause.
func (l *Loop) Stop(id ID, cause vrrp.Cause, detail string) error {
	return l.do(func() {
		l.shutdown(id, cause, detail)
		l.flush()
	})
}

func (l *Loop) shutdown(id ID, cause vrrp.Cause, detail string) {
	r, ok := l.routers[id]
	if !ok {
		return
	}
	r.restartAt = 0
	l.step(r, l.clock.Now(), vrrp.Event{Kind: vrrp.Shutdown, Cause: cause, Detail: detail})
}

// Rebind tells a Virtual Router that its port's hardware address or
// transmitter has changed while it takes part. An Active one announces its
// addresses again.
func (l *Loop) Rebind(id ID, p Port) error {
	return l.do(func() {
		r, ok := l.routers[id]
		if !ok {
			return
		}
		l.listen(r)
		l.altered.Add(1)
		r.attach(p) // also while it waits in Initialize to start again
		if r.machine.State() == vrrp.Active {
			r.announce = true
			l.announceIfReady(r)
		}
	})
}

// Relinquish has a Virtual Router that is Active let another one have its addresses.
// It goes on as a Backup, and with vrrp.CauseHandedOver lets whoever is Active be.
func (l *Loop) Relinquish(id ID, cause vrrp.Cause, detail string) error {
	return l.do(func() {
		if r, ok := l.routers[id]; ok {
			l.step(r, l.clock.Now(), vrrp.Event{Kind: vrrp.Relinquish, Cause: cause, Detail: detail})
		}
	})
}

// Restore puts the addresses of an Active Virtual Router back that somebody
// else has removed, and announces them again.
func (l *Loop) Restore(id ID) error {
	return l.do(func() {
		r, ok := l.routers[id]
		if !ok || r.machine.State() != vrrp.Active || !r.assigned {
			return
		}
		r.announce = true
		l.assign(r)
		l.announceIfReady(r)
	})
}

// Altered counts whatever changes Status beside counters and times: states, ports and
// configurations. It doesn't wait for the loop.
func (l *Loop) Altered() uint64 { return l.altered.Load() }

// Status returns the state of every Virtual Router, in no particular order.
func (l *Loop) Status() ([]Status, error) {
	all := make([]Status, 0, l.size.Load()) // here, because the loop has better things to do
	err := l.do(func() {
		for _, r := range l.routers {
			all = append(all, l.status(r))
		}
	})
	return all, err
}

func (l *Loop) status(r *router) Status {
	l.catchUp(r)
	return Status{ID: r.id, Ifindex: r.port.Ifindex, MAC: r.mac(), OwnMAC: r.port.MAC, Protocol: r.machine.Status(), Assigned: r.assigned, Counters: r.counters, Group: r.groupName(), HeldBy: r.holder(), Source: r.port.Source, Peers: slices.Clone(r.peers), Sent: r.sentAt, Octets: r.octets, Unsent: r.unsent()}
}

// Actives returns the state of those in state Active.
func (l *Loop) Actives() (all []Status, err error) {
	err = l.do(func() {
		for _, r := range l.routers {
			if r.machine.State() == vrrp.Active {
				all = append(all, l.status(r))
			}
		}
	})
	return all, err
}

// StatusOf returns the state of one Virtual Router, false if there is none.
func (l *Loop) StatusOf(id ID) (s Status, ok bool, err error) {
	err = l.do(func() {
		var r *router
		if r, ok = l.routers[id]; ok {
			s = l.status(r)
		}
	})
	return s, ok, err
}

// Count returns how many Virtual Routers are in each state.
func (l *Loop) Count() (map[vrrp.State]int, error) {
	counts := make(map[vrrp.State]int)
	err := l.do(func() {
		for _, r := range l.routers {
			counts[r.machine.State()]++
		}
	})
	return counts, err
}

// Holding is what a Virtual Router has of its addresses.
type Holding struct {
	Active   bool
	Assigned vrrp.Instant // since when they are in place; 0: they aren't
	Leaving  bool         // some of them are being removed, or can't be
}

// Holdings returns what each Virtual Router has.
func (l *Loop) Holdings() (map[ID]Holding, error) {
	var all map[ID]Holding
	err := l.do(func() {
		all = make(map[ID]Holding, len(l.routers))
		for id, r := range l.routers {
			h := Holding{Active: r.machine.State() == vrrp.Active, Leaving: r.releasing+r.withdrawing > 0 || r.stuck != nil}
			if r.assigned {
				h.Assigned = r.assignedAt
			}
			all[id] = h
		}
	})
	return all, err
}

// Withdraw removes the addresses of a Virtual Router that isn't Active: somebody else has
// put them on the interface.
func (l *Loop) Withdraw(id ID) error {
	return l.do(func() {
		if r, ok := l.routers[id]; ok && r.machine.State() != vrrp.Active {
			l.withdraw(r, r.addresses)
			l.flush()
		}
	})
}

func (l *Loop) reschedule(r *router) {
	l.listen(r)
	deadline, ok := r.machine.Deadline()
	if r.heldBy != nil {
		if r.machine.State() == vrrp.Backup {
			deadline = max(deadline, r.heldUntil)
		} else {
			r.heldBy = nil
		}
	}
	if t := r.trouble; t != nil && ok {
		switch {
		case r.machine.State() == vrrp.Backup:
			deadline = max(deadline, t.probeAt)
		case t.resendAt != 0:
			deadline = min(deadline, t.resendAt)
		}
	}
	for _, at := range [...]vrrp.Instant{r.restartAt, r.releaseAt} {
		if at != 0 && (!ok || at < deadline) {
			deadline, ok = at, true
		}
	}
	if r.lookAt = 0; ok && r.machine.State() == vrrp.Backup {
		deadline = max(deadline, r.deafUntil)
		if at := r.lookTime(); at != 0 && at < deadline {
			deadline, r.lookAt = at, at
		}
	}
	r.deadline = deadline
	if ok {
		l.deadlines.put(r)
	} else {
		l.deadlines.remove(r)
	}
}
