// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/notify"
	"github.com/failoverd/failoverd/pkg/observe"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/process"
	"github.com/failoverd/failoverd/pkg/reconcile"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

const (
	// settleRetry is the delay before the next look while addresses are being removed, which
	// takes a moment.
	settleRetry = 20 * time.Millisecond
	// settleTimeout bounds the time for which a reload waits until what it removes is gone.
	settleTimeout = time.Second
	// recheckEvery is the interval between checks of state that the kernel sends no event for:
	// memberships, entries of the BPF maps, and a journal that there was no room for.
	recheckEvery = 2 * time.Second
	// After a look at the host, the keeper waits restFactor times as long as the look took, and
	// at most restMax, before it reacts to another change of an interface.
	restFactor = 4
	restMax    = 200 * time.Millisecond
	// With thousands of routers the BPF maps are checked less often than every recheckEvery:
	// after entriesFactor times as long as a check takes, and at most entriesMax.
	entriesFactor = 1000
	entriesMax    = 10 * time.Second
)

// keeper keeps the host in the state that the plan wants. It runs outside the event loop.
type keeper struct {
	runner     *reconcile.Runner
	monitor    *link.Monitor
	loop       *router.Loop
	executors  *executors
	conditions *conditions
	problems   *observe.Problems
	events     *hookQueue
	log        *logrus.Logger
	waits      bool // an interface that can't be used at the start is waited for instead of ending the daemon

	changes  chan change
	settling chan chan struct{} // each is closed when the keeper has acted on all earlier conditions
	started  chan struct{}      // closed after the first run
	updated  chan struct{}      // has a value when the details or the interfaces have changed

	plan              *plan.Plan
	logged            map[plan.ID]*logged
	interfacesChanged bool      // since the last recheck
	entriesDue        time.Time // when the entries of the BPF maps are checked again

	mu      sync.Mutex
	details map[router.ID]details
}

// executors are the executors of steps.
type executors struct {
	heirs      *heirs
	claims     *claims
	interfaces *interfaces
	settings   *settings
	sockets    *sockets
	entries    *entries
	routers    *loopRouters
	notes      *notes
	guards     *guards
}

// logged is what was last logged of a Virtual Router, so that each change is logged once.
type logged struct {
	since    vrrp.Instant // when the router was added
	obstacle plan.Obstacle
	failed   string
	macMode  config.VirtualMAC
	ifindex  int
	priority int
	running  bool
}

// change is a new plan, from a reload.
type change struct {
	plan *plan.Plan
	done chan<- error
}

// newKeeper returns a keeper that uses these executors.
func newKeeper(h *executors, monitor *link.Monitor, loop *router.Loop, c *conditions, problems *observe.Problems, events *hookQueue, wait bool, log *logrus.Logger) *keeper {
	k := &keeper{
		executors: h, monitor: monitor, loop: loop, conditions: c, problems: problems, events: events, waits: wait, log: log, logged: h.routers.logged,
		changes: make(chan change), settling: make(chan chan struct{}), started: make(chan struct{}), updated: make(chan struct{}, 1),
	}
	looks := []reconcile.Executor{h.notes, h.heirs, h.interfaces, h.claims, h.sockets, h.entries, h.routers, h.settings}
	do := map[reconcile.Verb]reconcile.Executor{
		reconcile.Open: h.sockets, reconcile.Close: h.sockets, reconcile.Subscribe: h.sockets, reconcile.Unsubscribe: h.sockets, reconcile.Accept: h.sockets, reconcile.Reject: h.sockets,
		reconcile.Claim: h.claims, reconcile.Unclaim: h.claims, reconcile.Write: h.notes, reconcile.Erase: h.notes,
		reconcile.Make: h.interfaces, reconcile.Unmake: h.interfaces, reconcile.Withdraw: withdrawals{h}, reconcile.Set: h.settings, reconcile.Unset: h.settings,
		reconcile.Disown: h.heirs, reconcile.Fence: h.entries, reconcile.Unfence: h.entries,
		reconcile.Add: h.routers, reconcile.Update: h.routers, reconcile.Remove: h.routers, reconcile.Start: h.routers, reconcile.Stop: h.routers, reconcile.Rebind: h.routers, reconcile.Restore: h.routers,
	}
	k.runner = reconcile.New(k.conditions, looks, do)
	return k
}

// withdrawals routes Withdraw steps: those of a router go to the event loop, because it puts the
// router's addresses there itself; the others go to the interfaces.
type withdrawals struct{ *executors }

func (w withdrawals) Look(*plan.Target, *plan.Picture) error { return nil }

func (w withdrawals) Do(steps []*reconcile.Step) []error {
	return each(steps, func(s *reconcile.Step) error {
		one := []*reconcile.Step{s}
		if s.ID == (plan.ID{}) {
			return w.interfaces.Do(one)[0]
		}
		w.interfaces.invalidate()
		return w.routers.Do(one)[0]
	})
}

// run keeps the host in the wanted state until ctx ends, and calls tell after each run. If
// nothing may be waited for, an interface that can't be used at the start is an error that names
// it.
func (k *keeper) run(ctx context.Context, p *plan.Plan, tell func(map[router.ID]details)) error {
	k.plan = p
	var first sync.Once
	var waiting []chan struct{}
	var reloaded chan<- error
	var until time.Time // when the waiting reload is answered at the latest
	defer func() {
		if reloaded != nil {
			reloaded <- router.ErrStopped
		}
	}()
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	for {
		began := time.Now()
		result, err := k.runner.Run(k.plan, process.Clock{}.Now)
		if err != nil {
			return ignoreStopped(err)
		}
		for _, f := range result.Failed {
			if errors.Is(f.Err, router.ErrStopped) {
				return nil
			}
		}
		if err := k.startError(&result); err != nil {
			return err
		}
		tell(k.report(&result))
		for _, done := range waiting {
			close(done)
		}
		waiting = nil
		moving := k.inProgress(&result)
		if reloaded != nil && (!moving || time.Now().After(until)) {
			reloaded <- nil
			reloaded = nil
		}
		first.Do(func() { close(k.started) })
		var again <-chan time.Time
		switch now := (process.Clock{}).Now(); {
		case moving:
			again = time.After(settleRetry)
		case result.Next != 0:
			again = time.After(max(settleRetry, result.Next.Sub(now)))
		}
		changes := k.changes
		if reloaded != nil {
			changes = nil
		}
		rest := min(restMax, restFactor*time.Since(began))
		if !k.pause(ctx, rest, again, tick.C, changes, &waiting, func(c change) {
			k.plan, reloaded, until = c.plan, c.done, time.Now().Add(settleTimeout)
			k.executors.guards.prune(c.plan)
		}) {
			return nil
		}
	}
}

// pause waits for something to act on, and reports whether to go on. Changes of interfaces count
// only after rest, so that a host whose interfaces change all the time doesn't keep the keeper
// busy.
func (k *keeper) pause(ctx context.Context, rest time.Duration, again, tick <-chan time.Time, changes <-chan change, waiting *[]chan struct{}, reload func(change)) bool {
	rested, interfaces := time.After(rest), (<-chan struct{})(nil)
	for {
		select {
		case <-ctx.Done():
			return false
		case <-rested:
			interfaces = k.monitor.Changes()
			continue
		case <-interfaces:
			k.interfacesChanged = true
		case <-k.conditions.changes:
		case <-again:
		case settled := <-k.settling:
			*waiting = append(*waiting, settled)
		case c := <-changes:
			reload(c)
		case <-tick:
			if !k.recheck() {
				continue
			}
		}
		return true
	}
}

// ignoreStopped returns nil for router.ErrStopped, because the loop ends whenever the daemon
// ends.
func ignoreStopped(err error) error {
	if errors.Is(err, router.ErrStopped) {
		return nil
	}
	return err
}

// inProgress reports whether changes are still under way, so that the keeper has to look again
// soon.
func (k *keeper) inProgress(r *reconcile.Result) bool {
	if !r.Settled || len(r.Now.Heirs) > 0 { // an heir waits for what its lease may end before
		return true
	}
	for _, m := range r.Now.Installed {
		if m.Loop != nil && m.Loop.Leaving && r.Failed[m.Loop.V.ID] == nil {
			return true
		}
	}
	for _, w := range r.Want.Wants {
		if m := r.Now.Installed[w.V.ID]; m != nil && m.Loop != nil && m.Loop.Binding != nil && w.MACMode != m.Loop.Binding.MACMode && r.Failed[w.V.ID] == nil {
			return true // it waits until its addresses are in place, to have the virtual MAC in another way
		}
	}
	return false
}

// recheck checks the state that the kernel sends no event for, and reports whether there is
// something to act on.
func (k *keeper) recheck() bool {
	if k.interfacesChanged { // the kernel may have ended memberships
		k.interfacesChanged = false
		if err := k.executors.sockets.rejoin(); err != nil {
			k.log.WithError(err).Warn("could not check the multicast memberships")
		}
	}
	if began := time.Now(); !began.Before(k.entriesDue) {
		restored := func(id plan.ID, what string) { k.executors.routers.restorations.Record(id, what) }
		if err := k.executors.entries.restoreDeleted(restored); err != nil {
			k.log.WithError(err).Error("could not restore entries of the BPF maps, trying again")
		}
		k.entriesDue = time.Now().Add(min(entriesMax, entriesFactor*time.Since(began)))
	}
	k.recheckJournal()
	k.recheckCarriers()
	return k.executors.settings.drifted(k.executors.notes.all)
}

func (k *keeper) recheckJournal() {
	lost, err := k.executors.notes.journal.Retry()
	if lost {
		k.log.Warn("another program removed the journal of the changes on this host, writing it again")
	}
	if err == nil {
		return
	}
	for id, l := range k.executors.routers.all {
		if l.Binding != nil {
			k.problems.Note(time.Now(), id, observe.Observation{
				Kind:     control.Journal,
				Text:     fmt.Sprintf("its changes on this host can't be written to the journal: %v", err),
				Remedy:   "free some space there; failoverd tries again. If it is killed before, the addresses stay behind unreachable, and the next start doesn't remove them",
				Interval: recheckEvery,
			})
		}
	}
}

// recheckCarriers notes the routers that run without a carrier.
func (k *keeper) recheckCarriers() {
	for id, v := range k.allDetails() {
		if v.running && v.config.WithoutCarrier && !v.up {
			k.problems.Note(time.Now(), id, observe.Observation{
				Kind:     control.NoCarrier,
				Text:     fmt.Sprintf("%s has no carrier, so nobody hears this router", id.Interface),
				Remedy:   "check the cable, and whether the other end is on",
				Interval: recheckEvery,
			})
		}
	}
}

// close undoes what is left on the host after the event loop has ended, and reports whether
// everything is undone.
func (k *keeper) close() (undone bool, err error) {
	k.executors.routers.ended = true
	k.runner.Retry()
	k.executors.interfaces.stale = true // the monitor has ended
	var result reconcile.Result
	for range 3 {
		if result, err = k.runner.Run(plan.New(nil, k.plan), process.Clock{}.Now); err != nil {
			return false, err
		}
		if result.Settled {
			break
		}
	}
	for _, f := range result.Failed {
		err = errors.Join(err, f.Err)
	}
	return err == nil && len(k.executors.notes.all) == 0, err
}

// report logs and publishes the result of a run, and returns the new details.
func (k *keeper) report(r *reconcile.Result) map[router.ID]details {
	byID := make(map[router.ID]details, len(r.Want.Wants))
	host := make(map[int]*link.Interface, len(r.Now.Interfaces))
	for i := range r.Now.Interfaces {
		host[r.Now.Interfaces[i].Index] = &r.Now.Interfaces[i]
	}
	for _, w := range r.Want.Wants {
		m := r.Now.Installed[w.V.ID]
		if m == nil {
			m = &plan.Installed{}
		}
		k.logChanges(w, m, r)
		byID[w.V.ID] = k.describe(w, m, host, r.Failed[w.V.ID])
	}
	for id := range k.logged {
		if _, wanted := byID[id]; !wanted {
			delete(k.logged, id)
		}
	}
	k.retrySending(host)
	k.monitor.Watch("routers", watchedInterfaces(r))
	k.mu.Lock()
	k.details = byID
	k.mu.Unlock()
	select {
	case k.updated <- struct{}{}:
	default:
	}
	return byID
}

// watchedInterfaces returns the interfaces of the routers, by their configured and by their
// present names.
func watchedInterfaces(r *reconcile.Result) (names []string) {
	for _, w := range r.Want.Wants {
		names = append(names, w.V.Interface)
		for _, p := range w.V.Routing.Placed {
			names = append(names, p.Interface)
		}
		for _, p := range w.V.Routing.Routes {
			names = append(names, p.Interface)
		}
	}
	for _, p := range r.Want.Ports {
		names = append(names, p.Name)
	}
	return slices.Compact(names)
}

// startError returns what keeps a router from starting, if this is the first run and nothing may
// be waited for.
func (k *keeper) startError(r *reconcile.Result) error {
	select {
	case <-k.started:
		return nil
	default:
	}
	if k.waits {
		return nil
	}
	for subject, f := range r.Failed {
		name, _ := subject.(string)
		if id, is := subject.(plan.ID); is {
			name = id.Interface
		}
		return fmt.Errorf("interface %s: %w", name, f.Err)
	}
	for _, w := range r.Want.Wants {
		if w.Obstacle.Cause == vrrp.CauseWaiting {
			if cause, _ := k.conditions.Fault(w.V.Router.Name); cause == vrrp.CauseNone {
				return fmt.Errorf("interface %s: %s", w.V.Interface, w.Obstacle)
			}
		}
	}
	return nil
}

// retrySending tells routers that could not send to try again after the MTU of their interface
// has changed.
func (k *keeper) retrySending(host map[int]*link.Interface) {
	for name, open := range k.executors.sockets.open {
		i := host[open.Ifindex]
		if i == nil || i.MTU == open.mtu {
			continue
		}
		open.mtu = i.MTU
		for id, l := range k.executors.routers.all {
			if id.Interface == name && l.Binding != nil {
				_ = k.loop.Retry(id) // fails only if the loop has ended
			}
		}
	}
}

// logChanges logs the changes of a Virtual Router, and passes a change of its priority to hooks.
func (k *keeper) logChanges(w *plan.Want, m *plan.Installed, r *reconcile.Result) {
	id := w.V.ID
	was := k.logged[id]
	if was == nil {
		was = &logged{priority: w.Priority, since: process.Clock{}.Now()}
		k.logged[id] = was
	}
	log := k.log.WithFields(fields(id))
	if was.priority != w.Priority {
		log.Infof("priority changed from %d to %d", was.priority, w.Priority)
		was.priority = w.Priority
		k.events.push(hookEvent{router.Transition{ID: id, Own: uint8(w.Priority)}, notify.MasterPriority})
	}
	running := m.Loop != nil && m.Loop.Binding != nil
	failed := ""
	if f := r.Failed[id]; f != nil {
		failed = process.WithRemedy(f.Err).Error()
		k.problems.Note(time.Now(), id, observe.Observation{
			Kind: control.Stuck, Text: fmt.Sprintf("could not change this host as configured: %v", f.Err),
			Remedy: "failoverd tries again; find out why the kernel refuses the change", Interval: reconcile.RetryMost,
		})
	} else {
		k.problems.Clear(time.Now(), id, control.Stuck)
		if f := r.Failed[id.Interface]; f != nil {
			failed = process.WithRemedy(f.Err).Error()
		}
	}
	if failed != "" && failed != was.failed {
		text := "could not start the router, trying again"
		if running {
			text = "could not change the host, trying again"
		}
		log.Error(text + ": " + failed)
	}
	was.failed = failed
	if !running && failed == "" && w.Obstacle.Cause != vrrp.CauseNone && w.Obstacle != was.obstacle {
		log.Infof("waiting: %s", w.Obstacle)
	}
	// While the interface is gone, keep the cause of its removal, which says more than that it is missing.
	gone := w.Ifindex == 0 && w.Obstacle.Cause == vrrp.CauseWaiting && was.obstacle.Cause != vrrp.CauseNone
	switch {
	case running:
		was.obstacle = plan.Obstacle{}
	case w.Obstacle.Cause != vrrp.CauseNone && !gone:
		was.obstacle = w.Obstacle
	}
	was.running = running
	k.logMACMode(w, m, was, r, log)
}

// logMACMode logs how a Virtual Router gets its virtual MAC, and warnings about the host,
// whenever the mode or the interface changes.
func (k *keeper) logMACMode(w *plan.Want, m *plan.Installed, was *logged, r *reconcile.Result, log *logrus.Entry) {
	if m.Entry == nil || was.macMode == m.Entry.MACMode && was.ifindex == m.Entry.Ifindex {
		return
	}
	was.macMode, was.ifindex = m.Entry.MACMode, m.Entry.Ifindex
	mac := packet.VirtualMAC(w.V.Family, w.V.VRID)
	open := k.executors.sockets.open[w.V.Interface]
	switch m.Entry.MACMode {
	case config.VirtualMACBPF:
		log.Infof("using the virtual MAC %s, by TC programs (%s)", mac, open.path.TC)
	case config.VirtualMACMacvlan:
		log.Infof("using the virtual MAC %s, on the macvlan %s", mac, link.NewDevice(m.Entry.Ifindex, w.V.Family, w.V.VRID).Name)
	case config.VirtualMACOff:
		if w.MACReason != "" {
			log.Warnf("no virtual MAC, using the MAC of the interface: %s", w.MACReason)
		}
	}
	seen := plan.HostFacts{Interfaces: r.Now.Interfaces, Ours: k.ours, Fenced: open != nil && open.path.Unfenced == nil}
	for _, found := range plan.Warnings(w.V.Router.Router, seen, k.plan.Addresses()) {
		log.WithField("code", found.Code).Warn(found.String())
	}
}

// resumeCause returns the cause with which a waiting router begins to take part.
func resumeCause(was *logged) vrrp.Cause {
	if was == nil {
		return vrrp.CauseStarting
	}
	switch stopped := was.obstacle.Cause; stopped {
	case vrrp.CauseNone, vrrp.CauseWaiting:
		return vrrp.CauseStarting
	case vrrp.CauseInterfaceDown:
		return vrrp.CauseInterfaceUp
	case vrrp.CauseInterfaceRemoved:
		return vrrp.CauseInterfaceBack
	case vrrp.CauseNoAddress:
		return vrrp.CauseAddressBack
	case vrrp.CauseFault, vrrp.CauseGroup:
		return vrrp.CauseRecovered
	case vrrp.CauseMaintenance:
		return vrrp.CauseMaintained
	default:
		return stopped
	}
}

// describe returns the details of a Virtual Router.
func (k *keeper) describe(w *plan.Want, m *plan.Installed, host map[int]*link.Interface, f *reconcile.Failure) details {
	v := details{
		config: &w.V.Router.Router, guard: k.executors.guards.of(w.V),
		since: k.logged[w.V.ID].since, maintenance: k.conditions.Maintenance(w.V.Router.Name),
	}
	// A condition may have ended since the target was made.
	cause, _ := k.conditions.Fault(w.V.Router.Name)
	v.briefly = w.Obstacle.Brief || cause == vrrp.CauseWaiting
	v.running = m.Loop != nil && m.Loop.Binding != nil
	if !v.running {
		switch {
		case f != nil:
			v.waiting = f.Err.Error()
		case w.Obstacle.Cause != vrrp.CauseNone:
			v.waiting = w.Obstacle.String()
		default:
			v.waiting = "it is about to start"
		}
	}
	open := k.executors.sockets.open[w.V.Interface]
	if open == nil || host[open.Ifindex] == nil {
		return v
	}
	i := host[open.Ifindex]
	v.ifindex, v.up, v.device = i.Index, i.Up && i.Running, i.Index
	v.receive, v.receiveReason, v.fence = open.path.Kind, open.path.Why, open.path.TC
	if m.Entry != nil {
		v.macMode, v.peers = m.Entry.MACMode, m.Entry.Peers
	}
	if v.macMode == config.VirtualMACMacvlan {
		v.macvlan = link.NewDevice(i.Index, w.V.Family, w.V.VRID).Name
	}
	if v.running {
		v.device = m.Loop.Binding.AddressIfindex()
	}
	return v
}

// allDetails returns the details of each Virtual Router. The caller must not change the map.
func (k *keeper) allDetails() map[router.ID]details {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.details
}

// ours reports whether an address is on an interface because a running router has put it there.
func (k *keeper) ours(ifindex int, a netip.Addr) bool {
	is := func(p netip.Prefix) bool { return p.Addr() == a }
	for _, v := range k.allDetails() {
		if v.device == ifindex && (slices.ContainsFunc(v.config.Assigned(packet.IPv4), is) || slices.ContainsFunc(v.config.Assigned(packet.IPv6), is)) {
			return true
		}
		if v.config.Interfaces[a] != "" {
			return true // on its own interface or, before a reload, on another one
		}
		if slices.ContainsFunc(v.config.Extra, func(e routing.Placed) bool { return e.Address.Addr() == a }) {
			return true // on whichever interface
		}
	}
	return false
}

func fields(id router.ID) logrus.Fields { return observe.Fields(id) }

func addrs(prefixes []netip.Prefix) (all []netip.Addr) {
	for _, p := range prefixes {
		all = append(all, p.Addr())
	}
	return all
}
