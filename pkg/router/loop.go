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
	// leaveTimeout is how long Run waits, after the last priority 0 was sent, for the
	// removal of the virtual addresses.
	leaveTimeout = 5 * time.Second
	// assignRetry is how long a Virtual Router stays in Initialize after its addresses
	// could not be assigned.
	assignRetry = 10 * time.Second
	// releaseRetry is the time between two attempts to remove addresses.
	releaseRetry = time.Second
)

// ErrReplaced is the cause of the end of Run's context if another process continues.
var ErrReplaced = errors.New("another process continues")

// ErrStopped is returned by the methods of a Loop that has ended.
var ErrStopped = errors.New("the event loop has ended")

// Loop is the event loop. Its exported methods may be called from any goroutine except the
// loop's own. Unless documented otherwise, they wait until the loop has done the work.
type Loop struct {
	clock     Clock
	packets   Packets
	addresses Addresses
	leases    Leases
	observer  Observer

	altered  atomic.Uint64 // see Altered
	size     atomic.Int64  // the number of routers
	commands chan func()
	stopped  chan struct{}

	// The fields below belong to the goroutine that runs Run.
	routers       map[ID]*virtualRouter
	byKey         map[packet.Key]*virtualRouter
	received      func(*Received)  // l.receive, allocated once
	coalescing    time.Duration    // the limit of virtualRouter.coalescing
	deadlines     deadlines        // without the steady Backups
	steady        []steadyBackup   // see steadyBackup
	sweepAt       vrrp.Instant     // when to run sweep for the steady Backups
	outboxes      []outbox         // the Transmitters with queued frames
	sending       []sending        // what is queued in the outboxes, in the order of the frames
	unsent        func(int, error) // l.frameUnsent, allocated once
	flushing      int              // the index of the outbox that is being flushed
	cursor        int              // the index into sending while an outbox is being flushed
	unsentActives []*virtualRouter // Actives whose advertisements could not be sent
	toAnnounce    []*virtualRouter // routers that announce their addresses in the next flush
	leftActive    []*virtualRouter // routers that left Active since the last flush
	drained       vrrp.Instant     // everything that was received before is processed
	afterSend     []func()         // see afterSending
	notices       []func()         // see inform
	actions       []vrrp.Action
	groups        map[string]*group
	changes       []change // changes of state that the other members of a group must follow
	leaving       int      // running removals of addresses
	ending        bool     // no router may start any more
	wakeups       uint64
	kept          map[*virtualRouter]vrrp.Instant // the leases in KeepAdvertising, as this loop has set them
}

// New returns a Loop without Virtual Routers.
func New(clock Clock, packets Packets, addresses Addresses, leases Leases, observer Observer) *Loop {
	l := &Loop{
		clock:     clock,
		packets:   packets,
		addresses: addresses,
		leases:    leases,
		observer:  observer,
		// The worker posts the completions of address changes here. With the buffer it
		// rarely waits for the loop.
		commands:   make(chan func(), 256),
		stopped:    make(chan struct{}),
		wakeups:    1, // virtualRouter.queued starts with wake-up 0
		routers:    make(map[ID]*virtualRouter),
		byKey:      make(map[packet.Key]*virtualRouter),
		groups:     make(map[string]*group),
		coalescing: maxCoalescing,
		sweepAt:    never,
	}
	l.received, l.unsent = l.receive, l.frameUnsent
	return l
}

// Run runs the loop until ctx ends. Then every Virtual Router shuts down: an Active one
// sends priority 0, and its addresses are removed before Run returns. Addresses that could
// not be removed are an error. The end of ctx isn't. If its cause is ErrReplaced, Run changes
// nothing, and KeepAdvertising has to follow at once.
func (l *Loop) Run(ctx context.Context) error {
	defer close(l.stopped)
	defer context.AfterFunc(ctx, l.packets.Wake)()

	for {
		err := l.packets.Wait(l.next())
		switch {
		case err == nil && errors.Is(context.Cause(ctx), ErrReplaced):
			l.turn()
			return nil
		case err != nil || ctx.Err() != nil:
			return errors.Join(err, l.leave())
		}
		l.runQueued()
		l.turn()
	}
}

// turn does all work that is due now.
func (l *Loop) turn() {
	// The time is read before the ring is drained. Everything that the kernel received
	// before now is then in the ring, so each advertisement that can move a deadline before
	// now is processed first.
	now := l.clock.Now()
	l.drained = now
	l.packets.Drain(l.received)
	l.followChanges(now)
	if l.sweepAt <= now {
		l.sweep(now)
	}
	for {
		r, at := l.deadlines.first()
		if at <= now {
			l.expire(r, now)
		} else if at <= now.Add(l.coalescing) && at <= now.Add(r.coalescing(l.coalescing)) {
			l.expire(r, at)
		} else {
			break
		}
		l.followChanges(now)
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

// receive passes one advertisement to its state machine.
func (l *Loop) receive(p *Received) {
	r, ok := l.byKey[p.Key]
	if !ok {
		return // the router was removed after the reception
	}
	r.notePeer(p.From, p.At)
	if p.Signature != 0 && r.ignoring.Covers(p.At, &p.Advertisement, p.Checksum) {
		// It was in the ring before the kernel began to ignore such advertisements. Skipping
		// it must be cheap and must not stop the kernel from ignoring others, because
		// otherwise the loop couldn't keep up with a flood.
		l.actions = l.actions[:0]
		r.counters.Found[packet.ReasonOutranked]++
	} else {
		ev := vrrp.Event{
			Kind:          vrrp.Receive,
			Advertisement: p.Advertisement,
			From:          p.From,
			Checksum:      p.Checksum,
			TieElsewhere:  r.group != nil && r.group.tieDecidedElsewhere(r),
		}
		l.step(r, p.At, ev)
		l.enterSteady(r, p, &ev)
		l.ignoreOutranked(r, p, &ev)
	}
	if !r.stamped(p) {
		return
	}
	if slices.ContainsFunc(l.actions, func(a vrrp.Action) bool { return a.Refused }) {
		r.lastRefused = p.At
	} else {
		r.lastAccepted = max(r.lastAccepted, p.At)
	}
}

// expire processes the expired deadline of a router.
func (l *Loop) expire(r *virtualRouter, now vrrp.Instant) {
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
			r.restartAt = r.sendFailure.probeAt
			l.reschedule(r)
			return
		}
		l.step(r, now, vrrp.Event{Kind: vrrp.Startup, Source: r.port.Source})
		return
	}
	if r.checkAt != 0 {
		l.requestCheck(r)
		return
	}
	if r.machine.State() == vrrp.Backup && (l.heardMeanwhile(r, now) || l.awaitsReception(r, now)) {
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

// heardMeanwhile reads from the kernel whether it has received an advertisement that the
// state machine hasn't processed. It reports whether the Active_Down_Timer no longer
// expires at now.
func (l *Loop) heardMeanwhile(r *virtualRouter, now vrrp.Instant) bool {
	if r.steadyIndex >= 0 {
		if l.catchUp(r); r.deadline > now {
			return true
		}
	}
	if !l.hasReceiveState(r) {
		return false
	}
	stamp, ok := r.kernel.Stamp()
	if !ok || r.processed(stamp) {
		return false
	}
	// The kernel may have written the record after the ring was drained.
	l.packets.Drain(l.received)
	if !r.processed(stamp) {
		// The record is lost because the ring was full. The stamp replaces it.
		r.lastAccepted = stamp.At
		ev := vrrp.Event{Kind: vrrp.StampHeard}
		ev.Advertisement.Version = stamp.Version
		ev.Advertisement.Priority = stamp.Priority
		ev.Advertisement.Interval = stamp.Interval
		l.step(r, stamp.At, ev)
	}
	return r.machine.State() != vrrp.Backup || r.deadline > now
}

// step passes one event to a state machine and carries out its actions.
func (l *Loop) step(r *virtualRouter, now vrrp.Instant, ev vrrp.Event) {
	l.deliverAll(r)
	r.checkRequested = false
	actions := r.machine.Step(now, ev, l.actions[:0])
	l.actions = actions
	for i := range actions {
		l.perform(r, now, &actions[i])
	}
	l.reschedule(r)
}

func (l *Loop) perform(r *virtualRouter, now vrrp.Instant, a *vrrp.Action) {
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
		if a.To == vrrp.Backup {
			// The kernel may have stamped an advertisement earlier whose record was lost. A
			// Backup that has just begun must not learn its interval.
			r.lastAccepted = max(r.lastAccepted, now)
		}
		if r.sendFailure != nil {
			r.leftState(now, a)
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

// afterSending defers f until the next flush has sent the advertisements, because waking
// another thread takes time. The order of the calls is kept.
func (l *Loop) afterSending(f func()) { l.afterSend = append(l.afterSend, f) }

// inform defers f until after all functions of afterSending. The thread that is woken first
// gets a free processor, and that should be the one that changes the addresses, not the one
// that writes the log.
func (l *Loop) inform(f func()) { l.notices = append(l.notices, f) }

func (l *Loop) assign(r *virtualRouter) {
	r.generation++
	r.releaseErr, r.releaseAt = nil, 0
	r.assigned, r.assignedAt = len(r.addresses) == 0, l.clock.Now()
	generation := r.generation
	id, device, addresses := r.id, r.device(), r.addresses
	l.afterSending(func() {
		l.addresses.Assign(id, device, addresses, func(err error) {
			l.post(func() { l.assignDone(r, generation, err) })
		})
	})
}

func (l *Loop) assignDone(r *virtualRouter, generation uint64, err error) {
	if r.generation != generation {
		return // the addresses were released or assigned again in the meantime
	}
	if err == nil {
		r.assigned, r.assignedAt = true, l.clock.Now()
		l.announceIfReady(r)
		return
	}
	// Nobody answers for the addresses of an Active that doesn't have them, so it leaves
	// them to another router.
	l.fail(r.id, "assign addresses", err)
	now := l.clock.Now()
	l.step(r, now, vrrp.Event{Kind: vrrp.Shutdown, Cause: vrrp.CauseAssignFailed})
	r.restartAt = now.Add(assignRetry)
	l.reschedule(r)
}

func (l *Loop) release(r *virtualRouter) {
	r.generation++
	// The next flush sends priority 0 first and then ends the lease, so that the kernel
	// doesn't answer for the addresses even if their removal takes long.
	l.leftActive = append(l.leftActive, r)
	r.announce, r.announceDue = false, false
	r.assigned = false
	r.releaseAt = 0
	generation := r.generation
	l.leaving++
	r.releasing++
	id, device, addresses := r.id, r.device(), r.addresses
	l.afterSending(func() {
		l.addresses.Release(id, device, addresses, func(err error) {
			l.post(func() {
				l.leaving--
				r.releasing--
				r.releasedAt = l.clock.Now()
				l.releaseDone(r, generation, err)
				if r.gone != nil && r.releasing == 0 {
					l.forget(r, err)
				}
			})
		})
	})
}

// releaseDone schedules another attempt after a removal that failed, until one succeeds or
// the addresses are assigned again. A Backup that keeps the addresses would answer for them.
func (l *Loop) releaseDone(r *virtualRouter, generation uint64, err error) {
	if r.generation != generation {
		return
	}
	if r.releaseErr = err; err == nil {
		return
	}
	l.fail(r.id, "remove addresses", err)
	if !l.ending {
		r.releaseAt = l.clock.Now().Add(releaseRetry)
		l.reschedule(r)
	}
}

// announceIfReady schedules gratuitous ARP or unsolicited neighbour advertisements if the
// addresses are in place. RFC 9568 §8.1.2 and §8.2.2 forbid to send them earlier.
func (l *Loop) announceIfReady(r *virtualRouter) {
	if !r.announce || !r.assigned {
		return
	}
	// They are queued in the flush, because a router that yields later in this wake-up must
	// not announce.
	r.announce = false
	if !r.announceDue {
		r.announceDue = true
		l.toAnnounce = append(l.toAnnounce, r)
	}
}

// announce queues the scheduled announcements that are still due.
func (l *Loop) announce() {
	for i, r := range l.toAnnounce {
		l.toAnnounce[i] = nil
		if !r.announceDue {
			continue
		}
		r.announceDue = false
		t := r.port.Transmitter
		s := sending{router: r, outbox: l.outboxOf(t), from: t.Queued(), announcement: true}
		if err := r.queueAnnouncements(); err != nil {
			l.fail(r.id, "encode announcement", err)
		}
		if s.to = t.Queued(); s.to > s.from { // a router may have no address to announce
			r.counters.Announced++
			l.sending = append(l.sending, s)
		}
	}
	l.toAnnounce = l.toAnnounce[:0]
}

func (l *Loop) fail(id ID, action string, err error) {
	l.observer.Failure(Failure{ID: id, Action: action, Err: err})
}

func (l *Loop) flush() {
	l.send() // renews the leases, without which the kernel drops the announcements
	l.stepDown()
	l.afterSend = runAll(l.afterSend)
	l.notices = runAll(l.notices)
	for i, r := range l.leftActive {
		l.leftActive[i] = nil
		if r.machine.State() != vrrp.Active {
			l.lease(r).Answer(0)
			l.lease(r).Advertise(0)
		}
	}
	l.leftActive = l.leftActive[:0]
	l.announce()
	l.send()
	l.wakeups++
}

// runAll calls all functions and returns the empty slice for reuse.
func runAll(all []func()) []func() {
	for i, f := range all {
		all[i] = nil
		f()
	}
	return all[:0]
}

// lease returns the lease of a router. It does nothing if the kernel doesn't know the
// router.
func (l *Loop) lease(r *virtualRouter) Lease {
	if r.lease == nil {
		if r.lease = l.leases.Lease(r.key); r.lease == nil {
			return noLease{}
		}
	}
	return r.lease
}

type noLease struct{}

func (noLease) Answer(vrrp.Instant)                   {}
func (noLease) Renew(vrrp.Instant, vrrp.Instant) bool { return false }
func (noLease) Advertise(vrrp.Instant)                {}
func (noLease) Until() vrrp.Instant                   { return 0 }

// leave shuts every Virtual Router down and waits until their addresses are removed.
func (l *Loop) leave() error {
	l.ending = true
	l.turn() // a process that was stopped may have to yield first
	now := l.clock.Now()
	for _, r := range l.routers {
		r.restartAt = 0
		l.step(r, now, vrrp.Event{Kind: vrrp.Shutdown, Cause: vrrp.CauseAdministrator})
		if r.releaseErr != nil {
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
			return fmt.Errorf("%d removals of addresses did not finish within %v; run failoverd --cleanup", l.leaving, leaveTimeout)
		}
	}
	var errs []error
	for _, r := range l.routers {
		if r.releaseErr != nil {
			errs = append(errs, fmt.Errorf("remove the addresses of VRID %d from %s: %w", r.id.VRID, r.id.Interface, r.releaseErr))
		}
	}
	return errors.Join(errs...)
}

// post queues f for the loop. It returns false if the loop has ended.
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
	// Everything that was received is processed before f.
	if !l.post(func() { l.turn(); f(); l.followChanges(l.clock.Now()); l.flush(); close(done) }) {
		return ErrStopped
	}
	select {
	case <-done:
		return nil
	case <-l.stopped:
		return ErrStopped
	}
}

// turnSize is how many Virtual Routers are added or started in one turn of the loop. They delay the
// others by less than a millisecond.
const turnSize = 32

// inTurns runs f for 0 to n-1 on the loop, a few of them in each turn.
func (l *Loop) inTurns(n int, f func(int)) error {
	for from := 0; from < n; from += turnSize {
		if err := l.do(func() {
			for i := from; i < min(n, from+turnSize); i++ {
				f(i)
			}
		}); err != nil {
			return err
		}
	}
	return nil
}

// Add adds Virtual Routers, and returns one error for each. They stay in Initialize until Start.
func (l *Loop) Add(all ...Config) []error {
	errs := make([]error, len(all))
	machines := make([]*vrrp.Router, len(all))
	for i, c := range all {
		machines[i], errs[i] = vrrp.New(c.Protocol)
	}
	stopped := l.inTurns(len(all), func(i int) {
		if errs[i] == nil {
			errs[i] = l.add(all[i], machines[i])
		}
	})
	for i := range errs {
		if errs[i] == nil {
			errs[i] = stopped
		}
	}
	return errs
}

func (l *Loop) add(c Config, machine *vrrp.Router) error {
	if _, ok := l.routers[c.ID]; ok {
		return fmt.Errorf("VRID %d already exists for %s on %s", c.ID.VRID, c.ID.Family, c.ID.Interface)
	}
	r := &virtualRouter{id: c.ID, machine: machine, protocol: c.Protocol, addresses: c.Addresses, elsewhere: c.Elsewhere, ttl: c.TTL, authenticator: c.Authenticator, slot: -1, steadyIndex: -1}
	r.setPeers(c.Peers)
	l.altered.Add(1)
	l.routers[c.ID] = r
	l.size.Store(int64(len(l.routers)))
	l.join(r, c.Group)
	return nil
}

// Update changes the configuration of a Virtual Router. The router keeps its state, and
// addresses that it no longer has are removed. The error is vrrp.ErrRestart if the change
// needs a Stop before and a Start after it.
func (l *Loop) Update(c Config) error {
	var err error
	return errors.Join(l.do(func() { err = l.update(c) }), err)
}

func (l *Loop) update(c Config) error {
	r, ok := l.routers[c.ID]
	if !ok {
		return fmt.Errorf("no VRID %d for %s on %s", c.ID.VRID, c.ID.Family, c.ID.Interface)
	}
	l.deliverAll(r)
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
	r.protocol, r.addresses, r.elsewhere, r.ttl, r.authenticator = c.Protocol, c.Addresses, c.Elsewhere, c.TTL, c.Authenticator
	r.setPeers(c.Peers)
	r.attach(r.port) // drops the prebuilt frames
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

// withdraw removes some of the addresses of a router.
func (l *Loop) withdraw(r *virtualRouter, addresses []netip.Prefix) {
	l.withdrawFrom(r, r.device(), addresses)
}

func (l *Loop) withdrawFrom(r *virtualRouter, device int, addresses []netip.Prefix) {
	if len(addresses) == 0 {
		return
	}
	l.leaving++
	r.withdrawing++
	l.afterSending(func() {
		l.addresses.Release(ID{}, device, addresses, func(err error) {
			l.post(func() {
				l.leaving--
				r.withdrawing--
				if err != nil {
					l.fail(r.id, "remove addresses", err)
					return
				}
				r.releasedAt = l.clock.Now()
			})
		})
	})
}

// Remove shuts a Virtual Router down and removes it. It waits until the addresses are
// removed. If that fails, the router stays in Initialize and tries again.
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

// forget completes a Remove with the result of the removal of the addresses.
func (l *Loop) forget(r *virtualRouter, err error) {
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

// Start is what starts a Virtual Router: see Loop.Start.
type Start struct {
	ID    ID
	Port  Port
	Cause vrrp.Cause
}

// Start starts Virtual Routers on their ports (RFC 9568 §6.4.1).
func (l *Loop) Start(all ...Start) error {
	return l.inTurns(len(all), func(i int) { l.start(all[i].ID, all[i].Port, all[i].Cause) })
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
	l.step(r, l.clock.Now(), vrrp.Event{Kind: vrrp.Startup, Source: p.Source, Learnt: p.Learnt, Cause: cause})
}

// Continue makes a Virtual Router go on as Active that was Active when another process was
// killed or handed over, and whose addresses and lease are still in place. Nothing is announced,
// and the first advertisement is sent before Continue returns. It returns false, and changes
// nothing, if the lease has ended: then another router may be Active.
func (l *Loop) Continue(id ID, p Port, cause vrrp.Cause) (continued bool, err error) {
	err = l.do(func() { continued = l.resume(id, p, cause) })
	return continued, err
}

func (l *Loop) resume(id ID, p Port, cause vrrp.Cause) bool {
	r, ok := l.routers[id]
	if !ok || l.ending || r.machine.State() != vrrp.Initialize {
		return false
	}
	lease := l.leases.Lease(packet.Key{Ifindex: p.Ifindex, Family: id.Family, VRID: id.VRID})
	if lease == nil {
		return false
	}
	now, until := l.clock.Now(), lease.Until()
	if until <= now {
		return false
	}
	delete(l.byKey, r.key)
	l.altered.Add(1)
	r.attach(p)
	l.byKey[r.key] = r
	l.step(r, now, vrrp.Event{Kind: vrrp.Continue, Cause: cause, Source: p.Source, Checksum: p.Checksum, Left: until.Add(-r.protocol.SilenceLimit(r.protocol.Interval))})
	return true
}

// Stop returns a Virtual Router to Initialize. When Stop returns, an Active has sent
// priority 0 and the removal of the addresses has begun. A detail replaces the text of the
// cause.
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

// Rebind changes the port of a Virtual Router that takes part, after its hardware address,
// its virtual MAC or its Transmitter has changed. An Active announces its addresses again. If they
// belong on another device, it has them on both until they are assigned there.
func (l *Loop) Rebind(id ID, p Port) error {
	return l.do(func() {
		r, ok := l.routers[id]
		if !ok {
			return
		}
		l.deliverAll(r)
		l.altered.Add(1)
		before := r.device()
		r.attach(p) // also in Initialize, where it may wait to start again
		if r.machine.State() != vrrp.Active {
			return
		}
		r.announce = true
		if before != r.device() {
			l.assign(r)
			l.withdrawFrom(r, before, r.addresses)
		}
		l.announceIfReady(r)
	})
}

// Relinquish makes an Active leave its addresses to another router. It continues as a
// Backup, and with vrrp.CauseHandedOver doesn't preempt.
func (l *Loop) Relinquish(id ID, cause vrrp.Cause, detail string) error {
	return l.do(func() {
		if r, ok := l.routers[id]; ok {
			l.step(r, l.clock.Now(), vrrp.Event{Kind: vrrp.Relinquish, Cause: cause, Detail: detail})
		}
	})
}

// Restore assigns the addresses of an Active again after another process has removed them,
// and announces them.
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

// Altered counts the changes of Status other than those of counters and times: of states,
// ports and configurations. It doesn't wait for the loop.
func (l *Loop) Altered() uint64 { return l.altered.Load() }

// Status returns the state of every Virtual Router, in no particular order.
func (l *Loop) Status() ([]Status, error) {
	all := make([]Status, 0, l.size.Load()) // allocated here to keep that off the loop
	err := l.do(func() {
		for _, r := range l.routers {
			all = append(all, l.status(r))
		}
	})
	return all, err
}

func (l *Loop) status(r *virtualRouter) Status {
	l.catchUp(r)
	return Status{ID: r.id, Ifindex: r.port.Ifindex, MAC: r.mac(), OwnMAC: r.port.MAC, Protocol: r.machine.Status(), Assigned: r.assigned, Counters: r.counters, Group: r.groupName(), HeldBy: r.holder(), Source: r.port.Source, Peers: slices.Clone(r.peers), Sent: r.sentAt, Octets: r.octets, Unsent: r.unsent()}
}

// FinalCounters returns the counters of every Virtual Router after the end of Run, and before
// KeepAdvertising.
func (l *Loop) FinalCounters() map[ID]Counters {
	all := make(map[ID]Counters, len(l.routers))
	for _, r := range l.routers {
		l.catchUp(r)
		all[r.id] = r.counters
	}
	return all
}

// AddCounters makes the counters go on from those of the process before.
func (l *Loop) AddCounters(before map[ID]Counters) error {
	return l.do(func() {
		for id, c := range before {
			if r := l.routers[id]; r != nil {
				r.counters.add(&c)
			}
		}
	})
}

// Actives returns the state of every Virtual Router that is Active.
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

// StatusOf returns the state of one Virtual Router. It returns false if there is none.
func (l *Loop) StatusOf(id ID) (s Status, ok bool, err error) {
	err = l.do(func() {
		var r *virtualRouter
		if r, ok = l.routers[id]; ok {
			s = l.status(r)
		}
	})
	return s, ok, err
}

// Count returns the number of Virtual Routers in each state.
func (l *Loop) Count() (map[vrrp.State]int, error) {
	counts := make(map[vrrp.State]int)
	err := l.do(func() {
		for _, r := range l.routers {
			counts[r.machine.State()]++
		}
	})
	return counts, err
}

// Holding says whether a Virtual Router has its addresses on the interface.
type Holding struct {
	Active   bool
	Assigned vrrp.Instant // since when they are in place; 0: they aren't
	Leaving  bool         // some are being removed, or could not be
	Released vrrp.Instant // when the last removal ended; 0: there was none
}

// Holdings returns the Holding of each Virtual Router.
func (l *Loop) Holdings() (map[ID]Holding, error) {
	var all map[ID]Holding
	err := l.do(func() {
		all = make(map[ID]Holding, len(l.routers))
		for id, r := range l.routers {
			h := Holding{Active: r.machine.State() == vrrp.Active, Leaving: r.releasing+r.withdrawing > 0 || r.releaseErr != nil, Released: r.releasedAt}
			if r.assigned {
				h.Assigned = r.assignedAt
			}
			all[id] = h
		}
	})
	return all, err
}

// Withdraw removes the addresses of a Virtual Router that isn't Active from its interface,
// after another process has added them.
func (l *Loop) Withdraw(id ID) error {
	return l.do(func() {
		if r, ok := l.routers[id]; ok && r.machine.State() != vrrp.Active {
			l.withdraw(r, r.addresses)
			l.flush()
		}
	})
}

func (l *Loop) reschedule(r *virtualRouter) {
	l.deliverAll(r)
	deadline, ok := r.machine.Deadline()
	if r.heldBy != nil {
		if r.machine.State() == vrrp.Backup {
			deadline = max(deadline, r.heldUntil)
		} else {
			r.heldBy = nil
		}
	}
	if t := r.sendFailure; t != nil && ok {
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
	if r.checkAt = 0; ok && r.machine.State() == vrrp.Backup {
		deadline = max(deadline, r.notBefore)
		if at := r.checkTime(); at != 0 && at < deadline {
			deadline, r.checkAt = at, at
		}
	}
	r.deadline = deadline
	if ok {
		l.deadlines.put(r)
	} else {
		l.deadlines.remove(r)
	}
}
