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
	// settleAgain is how soon it is looked again for what takes a moment: addresses that
	// are being removed.
	settleAgain = 20 * time.Millisecond
	// settleWithin bounds how long a reload waits for what it removes.
	settleWithin = time.Second
	// lookEvery is how often it is looked for what no event tells of: memberships, entries of
	// the kernel's maps, and a journal that there was no room for.
	lookEvery = 2 * time.Second
	// restTimes is how many times as long as a look at the host took the next one waits
	// that is only for interfaces that have changed, and restMost the longest.
	restTimes = 4
	restMost  = 200 * time.Millisecond
)

// keeper keeps the host as the plan wants it. All of it happens off the event loop.
type keeper struct {
	runner     *reconcile.Runner
	monitor    *link.Monitor
	loop       *router.Loop
	hands      *hands
	conditions *conditions
	problems   *observe.Problems
	log        *logrus.Logger
	wait       bool // for interfaces that can't be used yet, from the start on

	changes  chan change
	settling chan chan struct{} // closed when what was known before has been acted on
	begun    chan struct{}      // closed when what was possible at the start is done
	reported chan struct{}      // has a value when all has changed, or the interfaces have

	plan    *plan.Plan
	known   map[plan.ID]*remembered
	changed bool // the interfaces, since it was looked after them

	mu    sync.Mutex
	views map[router.ID]view
}

// hands are the executors.
type hands struct {
	claims     *claims
	interfaces *interfaces
	settings   *settings
	sockets    *sockets
	entries    *entries
	takings    *takings
	notes      *notes
	guards     *guards
}

// remembered is what was told of a Virtual Router last, so that it is told once.
type remembered struct {
	since    vrrp.Instant // when it was first known
	waiting  plan.Obstacle
	failed   string
	way      config.VirtualMAC
	on       int
	priority int
	running  bool
}

// change is a new plan.
type change struct {
	plan *plan.Plan
	done chan<- error
}

// newKeeper returns one that carries out steps by the hands.
func newKeeper(h *hands, monitor *link.Monitor, loop *router.Loop, c *conditions, problems *observe.Problems, wait bool, log *logrus.Logger) *keeper {
	k := &keeper{
		hands: h, monitor: monitor, loop: loop, conditions: c, problems: problems, wait: wait, log: log, known: h.takings.known,
		changes: make(chan change), settling: make(chan chan struct{}), begun: make(chan struct{}), reported: make(chan struct{}, 1),
	}
	looks := []reconcile.Executor{h.notes, h.interfaces, h.claims, h.sockets, h.entries, h.takings, h.settings}
	do := map[reconcile.Verb]reconcile.Executor{
		reconcile.Open: h.sockets, reconcile.Close: h.sockets, reconcile.Subscribe: h.sockets, reconcile.Unsubscribe: h.sockets, reconcile.Accept: h.sockets, reconcile.Reject: h.sockets,
		reconcile.Claim: h.claims, reconcile.Unclaim: h.claims, reconcile.Write: h.notes, reconcile.Erase: h.notes,
		reconcile.Make: h.interfaces, reconcile.Unmake: h.interfaces, reconcile.Withdraw: withdrawals{h}, reconcile.Set: h.settings, reconcile.Unset: h.settings,
		reconcile.Fence: h.entries, reconcile.Unfence: h.entries,
		reconcile.Add: h.takings, reconcile.Update: h.takings, reconcile.Remove: h.takings, reconcile.Start: h.takings, reconcile.Stop: h.takings, reconcile.Rebind: h.takings, reconcile.Restore: h.takings,
	}
	k.runner = reconcile.New(k.conditions, looks, do)
	return k
}

// withdrawals go to the event loop if they are a router's, which puts addresses there by
// itself.
type withdrawals struct{ *hands }

func (w withdrawals) Look(*plan.Target, *plan.Picture) error { return nil }

func (w withdrawals) Do(steps []reconcile.Step) []error {
	return each(steps, func(s *reconcile.Step) error {
		one := []reconcile.Step{*s}
		if s.ID == (plan.ID{}) {
			return w.interfaces.Do(one)[0]
		}
		w.interfaces.touched()
		return w.takings.Do(one)[0]
	})
}

// run keeps the host until ctx ends. An error of a start without anybody to wait names
// what can't be used.
func (k *keeper) run(ctx context.Context, p *plan.Plan, tell func(map[router.ID]view)) error {
	k.plan = p
	var first sync.Once
	var waiting []chan struct{}
	var reloaded chan<- error
	var until time.Time // a reload waits
	defer func() {
		if reloaded != nil {
			reloaded <- router.ErrStopped
		}
	}()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		began := time.Now()
		result, err := k.runner.Run(k.plan, process.Clock{}.Now)
		if err != nil {
			return stopped(err)
		}
		for _, f := range result.Failed {
			if errors.Is(f.Err, router.ErrStopped) {
				return nil
			}
		}
		if err := k.refused(&result); err != nil {
			return err
		}
		tell(k.report(&result))
		for _, done := range waiting {
			close(done)
		}
		waiting = nil
		moving := k.moving(&result)
		if reloaded != nil && (!moving || time.Now().After(until)) {
			reloaded <- nil
			reloaded = nil
		}
		first.Do(func() { close(k.begun) })
		var again <-chan time.Time
		switch now := (process.Clock{}).Now(); {
		case moving:
			again = time.After(settleAgain)
		case result.Next != 0:
			again = time.After(max(settleAgain, result.Next.Sub(now)))
		}
		changes := k.changes
		if reloaded != nil {
			changes = nil
		}
		rest := min(restMost, restTimes*time.Since(began))
		if !k.pause(ctx, rest, again, tick.C, changes, &waiting, func(c change) {
			k.plan, reloaded, until = c.plan, c.done, time.Now().Add(settleWithin)
			k.hands.guards.prune(c.plan)
		}) {
			return nil
		}
	}
}

// pause waits for something to act on, and reports whether to go on. Interfaces that
// change all the time wait for the rest.
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
			k.changed = true
		case <-k.conditions.changes:
		case <-again:
		case settled := <-k.settling:
			*waiting = append(*waiting, settled)
		case c := <-changes:
			reload(c)
		case <-tick:
			if !k.lookAfter() {
				continue
			}
		}
		return true
	}
}

// stopped takes the end of the loop, which is how a daemon leaves, for none.
func stopped(err error) error {
	if errors.Is(err, router.ErrStopped) {
		return nil
	}
	return err
}

// moving reports whether something takes a moment.
func (k *keeper) moving(r *reconcile.Result) bool {
	if !r.Settled {
		return true
	}
	for _, m := range r.Now.Installed {
		if m.Loop != nil && m.Loop.Leaving && r.Failed[m.Loop.V.ID] == nil {
			return true
		}
	}
	return false
}

// lookAfter looks for what no event tells of, and reports whether there is something to
// act on.
func (k *keeper) lookAfter() bool {
	if k.changed { // somebody may have ended memberships
		k.changed = false
		if err := k.hands.sockets.rejoin(); err != nil {
			k.log.WithError(err).Warn("memberships can't be looked after")
		}
	}
	restored := func(id plan.ID, what string) { k.hands.takings.guardian.Record(id, what) }
	if err := k.hands.entries.lookAfter(restored); err != nil {
		k.log.WithError(err).Error("could not put the kernel's maps right, trying again")
	}
	k.lookAfterJournal()
	return k.hands.settings.drifted(k.hands.notes.all)
}

func (k *keeper) lookAfterJournal() {
	lost, err := k.hands.notes.journal.Retry()
	if lost {
		k.log.Warn("somebody has removed the journal of what is changed on this host, writing it again")
	}
	if err == nil {
		return
	}
	for id, l := range k.hands.takings.all {
		if l.Binding != nil {
			k.problems.Note(time.Now(), id, observe.Observation{
				Kind:     control.Journal,
				Text:     fmt.Sprintf("what it changes on this host is not written down: %v", err),
				Remedy:   "make room there, it is tried again; a killed daemon would leave the addresses, which nobody can reach then, and the next start would not remove them",
				Interval: lookEvery,
			})
		}
	}
}

// close undoes what is left on the host after the event loop has ended, and reports
// whether that is everything.
func (k *keeper) close() (undone bool, err error) {
	k.hands.takings.ended = true
	k.runner.Retry()
	k.hands.interfaces.stale = true // the monitor has ended
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
	return err == nil && len(k.hands.notes.all) == 0, err
}

// report tells what a run has come to, and returns what is known now.
func (k *keeper) report(r *reconcile.Result) map[router.ID]view {
	views := make(map[router.ID]view, len(r.Want.Wants))
	host := make(map[int]*link.Interface, len(r.Now.Interfaces))
	for i := range r.Now.Interfaces {
		host[r.Now.Interfaces[i].Index] = &r.Now.Interfaces[i]
	}
	for _, w := range r.Want.Wants {
		m := r.Now.Installed[w.V.ID]
		if m == nil {
			m = &plan.Installed{}
		}
		k.say(w, m, r)
		views[w.V.ID] = k.view(w, m, host, r.Failed[w.V.ID])
	}
	for id := range k.known {
		if _, wanted := views[id]; !wanted {
			delete(k.known, id)
		}
	}
	k.resize(host)
	k.monitor.Watch("routers", interesting(r))
	k.mu.Lock()
	k.views = views
	k.mu.Unlock()
	select {
	case k.reported <- struct{}{}:
	default:
	}
	return views
}

// interesting are the interfaces that the routers are on, by their names in the
// configuration and by those that they have now.
func interesting(r *reconcile.Result) (names []string) {
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

// refused is what keeps a start from anything, without anybody to wait.
func (k *keeper) refused(r *reconcile.Result) error {
	select {
	case <-k.begun:
		return nil
	default:
	}
	if k.wait {
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

// resize has routers that couldn't send try again after a change of an interface's MTU.
func (k *keeper) resize(host map[int]*link.Interface) {
	for name, open := range k.hands.sockets.open {
		i := host[open.Ifindex]
		if i == nil || i.MTU == open.mtu {
			continue
		}
		open.mtu = i.MTU
		for id, l := range k.hands.takings.all {
			if id.Interface == name && l.Binding != nil {
				_ = k.loop.Retry(id) // it fails when the loop has ended
			}
		}
	}
}

// say logs what has changed for a Virtual Router.
func (k *keeper) say(w *plan.Want, m *plan.Installed, r *reconcile.Result) {
	id := w.V.ID
	was := k.known[id]
	if was == nil {
		was = &remembered{priority: w.Priority, since: process.Clock{}.Now()}
		k.known[id] = was
	}
	log := k.log.WithFields(fields(id))
	if was.priority != w.Priority {
		log.Infof("priority %d instead of %d", w.Priority, was.priority)
		was.priority = w.Priority
	}
	running := m.Loop != nil && m.Loop.Binding != nil
	failed := ""
	if f := r.Failed[id]; f != nil {
		failed = process.WithRemedy(f.Err).Error()
		k.problems.Note(time.Now(), id, observe.Observation{
			Kind: control.Stuck, Text: fmt.Sprintf("this host can't be changed as the configuration wants it: %v", f.Err),
			Remedy: "it is tried again; see what keeps the kernel from it", Interval: reconcile.RetryMost,
		})
	} else {
		k.problems.Clear(time.Now(), id, control.Stuck)
		if f := r.Failed[id.Interface]; f != nil {
			failed = process.WithRemedy(f.Err).Error()
		}
	}
	if failed != "" && failed != was.failed {
		text := "router can't start, trying again"
		if running {
			text = "a change of the host failed, trying again"
		}
		log.Error(text + ": " + failed)
	}
	was.failed = failed
	if !running && failed == "" && w.Obstacle.Cause != vrrp.CauseNone && w.Obstacle != was.waiting {
		log.Infof("waiting: %s", w.Obstacle)
	}
	// While there is no interface, why it went says more.
	gone := w.Ifindex == 0 && w.Obstacle.Cause == vrrp.CauseWaiting && was.waiting.Cause != vrrp.CauseNone
	switch {
	case running:
		was.waiting = plan.Obstacle{}
	case w.Obstacle.Cause != vrrp.CauseNone && !gone:
		was.waiting = w.Obstacle
	}
	was.running = running
	k.sayWay(w, m, was, r, log)
}

// sayWay logs how a Virtual Router has its virtual MAC, and what is doubtful on the host.
func (k *keeper) sayWay(w *plan.Want, m *plan.Installed, was *remembered, r *reconcile.Result, log *logrus.Entry) {
	if m.Entry == nil || was.way == m.Entry.MACMode && was.on == m.Entry.Ifindex {
		return
	}
	was.way, was.on = m.Entry.MACMode, m.Entry.Ifindex
	mac := packet.VirtualMAC(w.V.Family, w.V.VRID)
	open := k.hands.sockets.open[w.V.Interface]
	switch m.Entry.MACMode {
	case config.VirtualMACBPF:
		log.Infof("its addresses are at the virtual MAC %s, by TC programs (%s)", mac, open.path.TC)
	case config.VirtualMACMacvlan:
		log.Infof("its addresses are at the virtual MAC %s, on the macvlan %s", mac, link.NewDevice(m.Entry.Ifindex, w.V.Family, w.V.VRID).Name)
	case config.VirtualMACOff:
		if w.MACReason != "" {
			log.Warnf("no virtual MAC, its addresses are at the interface's own: %s", w.MACReason)
		}
	}
	seen := plan.HostFacts{Interfaces: r.Now.Interfaces, Ours: k.ours, Fenced: open != nil && open.path.Unfenced == nil}
	for _, found := range plan.Warnings(w.V.Router.Router, seen, k.plan.Addresses()) {
		log.WithField("code", found.Code).Warn(found.String())
	}
}

// comeback is why a router begins to take part that had not.
func comeback(was *remembered) vrrp.Cause {
	if was == nil {
		return vrrp.CauseStarting
	}
	switch stopped := was.waiting.Cause; stopped {
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

// view is what is known of a Virtual Router, for people.
func (k *keeper) view(w *plan.Want, m *plan.Installed, host map[int]*link.Interface, f *reconcile.Failure) view {
	v := view{
		config: &w.V.Router.Router, guard: k.hands.guards.of(w.V),
		since: k.known[w.V.ID].since, maintenance: k.conditions.Maintenance(w.V.Router.Name),
	}
	if cause, _ := k.conditions.Fault(w.V.Router.Name); cause == vrrp.CauseWaiting {
		v.brief = true
	}
	v.running = m.Loop != nil && m.Loop.Binding != nil
	if !v.running {
		switch {
		case f != nil:
			v.waiting = f.Err.Error()
		case w.Obstacle.Cause != vrrp.CauseNone:
			v.waiting = w.Obstacle.String()
		default:
			v.waiting = "it is about to take part"
		}
	}
	open := k.hands.sockets.open[w.V.Interface]
	if open == nil || host[open.Ifindex] == nil {
		return v
	}
	i := host[open.Ifindex]
	v.ifindex, v.up, v.device = i.Index, i.Up && i.Running, i.Index
	v.receive, v.why, v.fence = open.path.Kind, open.path.Why, open.path.TC
	if m.Entry != nil {
		v.mac, v.peers = m.Entry.MACMode, m.Entry.Peers
	}
	if v.mac == config.VirtualMACMacvlan {
		v.macvlan = link.NewDevice(i.Index, w.V.Family, w.V.VRID).Name
	}
	if v.running {
		v.device = m.Loop.Binding.AddressIfindex()
	}
	return v
}

// all returns what is known of each Virtual Router, which isn't to be changed.
func (k *keeper) all() map[router.ID]view {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.views
}

// ours reports whether a virtual address is where a running router has put it.
func (k *keeper) ours(ifindex int, a netip.Addr) bool {
	is := func(p netip.Prefix) bool { return p.Addr() == a }
	for _, v := range k.all() {
		if v.device == ifindex && (slices.ContainsFunc(v.config.Assigned(packet.IPv4), is) || slices.ContainsFunc(v.config.Assigned(packet.IPv6), is)) {
			return true
		}
		if slices.ContainsFunc(v.config.Extra, func(e routing.Placed) bool { return e.Address.Addr() == a }) {
			return true // wherever it is
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
