// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/notify"
	"github.com/failoverd/failoverd/pkg/observe"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/process"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// instance is a running daemon as the control socket and the metrics see it.
type instance struct {
	config       Config
	started      time.Time
	loop         *router.Loop
	keeper       *keeper
	restorations *observe.Restorations
	dp           *datapath.Datapath
	history      *control.History
	handle       *link.Handle
	tracks       *tracks
	metrics      *metricsServer
	hooks        *hooks
	threads      *process.Threads
	// problems are the routers' problems with other hosts.
	problems *observe.Problems
	names    *observe.Names
	log      *logrus.Logger
	before   records // of the process before, until inPlace
	// past is added to the counters of the datapath: see datapath.Datapath.Lacking.
	past       atomic.Pointer[[packet.ReasonCount]uint64]
	succession succession

	path string     // of the configuration file; empty: there is none
	mu   sync.Mutex // held for a whole reload or order
	book *orderBook
	file *config.File
	plan *plan.Plan
	// reloaded is the result of the last reload, nil before the first.
	reloaded atomic.Pointer[control.LastReload]

	cacheMu  sync.Mutex
	cached   []router.Status // the loop's last answer
	cachedAt time.Time
}

// freshness is the maximum age of a cached answer of the event loop, so that many clients cost
// the loop no more than one.
const freshness = 20 * time.Millisecond

// statsWait is how long the counters of the process before are waited for.
const statsWait = time.Second

// loopStatus returns the event loop's status of all routers, cached for freshness.
func (d *instance) loopStatus() ([]router.Status, error) {
	d.cacheMu.Lock()
	defer d.cacheMu.Unlock()
	if time.Since(d.cachedAt) < freshness {
		return d.cached, nil
	}
	states, err := d.loop.Status()
	if err != nil {
		return nil, err
	}
	d.cached, d.cachedAt = states, time.Now()
	return states, nil
}

func (d *instance) dropCache() {
	d.cacheMu.Lock()
	d.cachedAt = time.Time{}
	d.cacheMu.Unlock()
}

// runRequests reloads the configuration and restarts on each request, until ctx ends.
func (d *instance) runRequests(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.config.Reload:
			if _, err := d.Reload(ctx, false); err != nil {
				d.log.WithError(err).Error("could not reload the configuration, nothing has changed")
			}
		case <-d.config.Restart:
			if _, begin, err := d.Restart(ctx, false); err == nil {
				begin()
			}
		}
	}
}

// Reload reads the configuration and applies all of it, or nothing if there is an error. With
// dryRun it only returns what would change.
func (d *instance) Reload(ctx context.Context, dryRun bool) ([]control.Change, error) {
	if d.path == "" {
		return nil, errNoFile
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err // the client has disconnected while it waited
	}
	if d.succession.begun {
		return nil, errRestarting
	}
	changes, err := d.reload(ctx, dryRun)
	if !dryRun {
		last := control.LastReload{At: time.Now()}
		if err != nil {
			last.Error = err.Error()
		}
		d.reloaded.Store(&last)
	}
	return changes, err
}

// errNoFile is the error of a reload if there is no configuration file.
var errNoFile = errors.New("there is no configuration file to read again, because failoverd was started with --vip: restart it with other flags, or with --config FILE")

func (d *instance) reload(ctx context.Context, dryRun bool) ([]control.Change, error) {
	if !dryRun {
		d.notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
		defer d.notify(daemon.SdNotifyReady)
	}
	file, err := d.config.Read()
	if err != nil {
		return nil, err
	}
	routers, err := plan.Complete(file.Routers)
	if err == nil {
		err = readSecrets(routers, file.Secrets)
	}
	if err != nil {
		return nil, locate(file, err)
	}
	snapshot, err := d.handle.Interfaces()
	if err != nil {
		return nil, err
	}
	if err := plan.CheckInterfaces(routers, snapshot, d.keeper.waits); err != nil {
		return nil, locate(file, err)
	}
	if err := plan.CheckAddresses(routers, snapshot, d.keeper.waits, d.keeper.ours); err != nil {
		return nil, locate(file, err)
	}
	if err := checkScripts(file, d.log); err != nil {
		return nil, err
	}
	changes := append(difference(d.file.Routers, file.Routers), trackDifference(d.file.Tracks, file.Tracks)...)
	changes = secretDifference(changes, d.plan.Routers, routers)
	if details := config.GlobalDifference(d.file.Global, file.Global); len(details) > 0 {
		changes = append(changes, control.Change{Router: "global", What: "changed", Details: details})
	}
	groups := config.GroupDifference(d.file.Groups, file.Groups)
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		changes = append(changes, control.Change{Router: "group " + name, What: "changed", Details: groups[name]})
	}
	for i, c := range changes {
		changes[i].Details = file.Describe(d.file, c.Router, c.What, c.Details)
	}
	if dryRun {
		return changes, nil
	}
	if err := d.metrics.reload(file.Global); err != nil {
		return nil, err
	}
	if err := d.hooks.set(file); err != nil {
		return nil, errors.Join(err, d.metrics.reload(d.file.Global))
	}
	// Before the plan, so that new routers wait for their checks.
	if err := d.tracks.set(file); err != nil {
		return nil, err
	}
	wanted := plan.New(routers, d.plan)
	learnNames(d.names, wanted)
	logLinkLocals(routers, d.log)
	warnWeak(wanted, d.plan, d.log)
	d.book.reload(d.keeper.conditions, d.file.Routers, file.Routers)
	nameEvents(d.history, wanted)
	done := make(chan error, 1)
	select {
	case d.keeper.changes <- change{wanted, done}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	// From here on the reload happens even if the client disconnects.
	if err := <-done; err != nil {
		return nil, err
	}
	d.threads.SetRealtime(file.Global.Realtime)
	d.dropCache()
	d.hooks.prune(file)
	d.file, d.plan = file, wanted
	if level, err := logrus.ParseLevel(file.Global.LogLevel); err == nil {
		d.log.SetLevel(level)
	}
	defer d.threads.Collect() // the memory for reading and comparing
	d.log.Infof("reloaded: %d changes", len(changes))
	for _, c := range changes {
		text := describe(c)
		d.log.WithField("router", c.Router).Info(text)
		d.history.Add(control.Event{Kind: "reload", Name: c.Router, Text: text})
	}
	return changes, nil
}

// Status returns the status of the daemon and of all routers.
func (d *instance) Status() (control.Status, error) {
	states, err := d.loopStatus()
	if err != nil {
		return control.Status{}, err
	}
	now, wall := process.Clock{}.Now(), time.Now()
	byID := d.keeper.allDetails()
	s := control.Status{Version: d.config.Version, PID: os.Getpid(), Started: d.started, Now: wall, Routers: []control.Router{}}
	s.Config, s.LastReload, s.FIFO = d.path, d.reloaded.Load(), d.hooks.fifoStatus()
	s.Realtime = describeThreads(d.threads)
	s.Tracks = d.tracks.all()
	problems := d.problems.ByRouter()
	for _, state := range states {
		v := detailsOf(byID, state.ID)
		r := describeRouter(state, v, now, wall)
		r.Tracks = d.tracks.dependencies(r.Name)
		r.Problems = observe.Refresh(problems[state.ID], state.Protocol, now)
		r.Hooks, r.SkippedHooks = d.hooks.report(v.config)
		s.Routers = append(s.Routers, r)
	}
	slices.SortFunc(s.Routers, func(a, b control.Router) int {
		return cmp.Or(cmp.Compare(a.Interface, b.Interface), cmp.Compare(a.VRID, b.VRID), cmp.Compare(a.Family, b.Family))
	})
	return s, nil
}

// describeTransition describes a router after a change of state as the status does, without its
// hooks. If the loop has ended or has removed the router, it uses the last known status.
func (d *instance) describeTransition(t router.Transition, c config.Router) any {
	states, err := d.loopStatus()
	if err != nil {
		d.cacheMu.Lock()
		states = d.cached
		d.cacheMu.Unlock()
	}
	state := router.Status{ID: t.ID}
	for _, s := range states {
		if s.ID == t.ID {
			state = s
		}
	}
	v, ok := d.keeper.allDetails()[t.ID]
	if !ok {
		v.config = &c
	}
	now, wall := process.Clock{}.Now(), time.Now()
	r := describeRouter(state, v, now, wall)
	r.State, r.Assigned = t.To.String(), r.Assigned && t.To == vrrp.Active
	if t.When != 0 {
		r.Since = wall.Add(t.When.Sub(now))
	}
	return struct {
		control.Router
		From string `json:"from"`
	}{r, t.From.String()}
}

func describeRouter(s router.Status, v details, now vrrp.Instant, wall time.Time) control.Router {
	p := s.Protocol
	r := control.Router{
		Name: v.config.Name, Interface: s.ID.Interface, Family: s.ID.Family.String(), VRID: int(s.ID.VRID),
		Version: v.config.Version, Addresses: []string{},
		State: p.State.String(), Since: wall.Add(p.Since.Sub(now)), Cause: vrrp.CauseStarting.String(), Waiting: v.waiting, Maintenance: v.maintenance,
		Priority: int(p.Priority), ConfiguredPriority: v.config.Priority, Active: observe.Peer(p.Active), ActivePriority: int(p.ActivePriority),
		AdvertisementInterval: v.config.Interval.Seconds(), MaxInterval: v.config.MaxInterval.Seconds(), ActiveAdverInterval: p.ActiveAdverInterval.Seconds(),
		SkewTime: p.SkewTime.Seconds(), ActiveDownInterval: p.ActiveDownInterval.Seconds(),
		Preempt: v.config.Preempt, Accept: v.config.Accept, Assigned: s.Assigned && p.State == vrrp.Active, BecameActive: p.BecameActive,
		MAC: s.MAC.String(), VirtualMAC: string(v.macMode), Macvlan: v.macvlan,
		Receive: v.receive, ReceiveWhy: v.receiveReason, Fence: v.fence, Checksum: p.Checksum.String(), Authentication: describeAuthentication(v.config.Authentication),
	}
	if p.LastTransition.Kind != 0 || p.LastTransition.Cause != vrrp.CauseNone {
		r.Cause = p.LastTransition.Why()
	}
	if p.State == vrrp.Initialize && p.Since == 0 { // it has never left Initialize
		r.Since = wall
		if v.since != 0 {
			r.Since = wall.Add(v.since.Sub(now))
		}
	}
	for _, a := range v.config.OfFamily(s.ID.Family) {
		r.Addresses = append(r.Addresses, labelled(&r, v.config, a, v.config.Interfaces[a.Addr()]))
	}
	for _, a := range v.config.Extras(s.ID.Family) {
		r.Extra = append(r.Extra, labelled(&r, v.config, a, ""))
	}
	for _, e := range v.config.ExtraElsewhere(s.ID.Family) {
		r.Extra = append(r.Extra, labelled(&r, v.config, e.Address, e.Interface))
	}
	routes, rules := v.config.Routing(s.ID.Family)
	for _, n := range routes {
		r.Routes = append(r.Routes, n.String())
	}
	for _, n := range rules {
		r.Rules = append(r.Rules, n.String())
	}
	if s.Source.IsValid() {
		r.Source = s.Source.String()
	}
	r.Peers = describePeers(s, v, now)
	if p.State == vrrp.Backup {
		r.LastHeard = now.Sub(p.LastHeard).Seconds()
	}
	r.Group = s.Group
	if s.HeldBy != nil {
		r.HeldBy = s.HeldBy.String()
	}
	if s.Sent != 0 {
		at := wall.Add(s.Sent.Sub(now))
		r.LastSent = &at
	}
	if s.Unsent != nil {
		r.SendError = s.Unsent.Err.Error()
	}
	if p.PreemptAt > now {
		r.PreemptIn = p.PreemptAt.Sub(now).Seconds()
	}
	if p.State != vrrp.Initialize {
		r.Deadline = p.Deadline.Sub(now).Seconds()
	}
	return r
}

// Stats returns the counters. After a restart it waits a moment for those of the process before, so
// that no counter goes backwards.
func (d *instance) Stats() (control.Stats, error) {
	select {
	case <-d.succession.inPlace:
	case <-time.After(statsWait):
	}
	states, err := d.loopStatus()
	if err != nil {
		return control.Stats{}, err
	}
	var s control.Stats
	counters := d.dp.Counters()
	for n, v := range d.past.Load() {
		counters[n] += v
	}
	for n := range counters {
		r := packet.Reason(n)
		if r == packet.ErrNotVRRP {
			continue // it has no counter
		}
		s.Global = append(s.Global, control.Counter{Name: r.String(), Help: r.Error(), Value: counters[n]})
	}
	byID := d.keeper.allDetails()
	for _, state := range states {
		id := state.ID
		s.Routers = append(s.Routers, control.RouterStats{
			Name: detailsOf(byID, id).config.Name, Interface: id.Interface, Family: id.Family.String(), VRID: int(id.VRID),
			Counters: routerCounters(state.Counters, d.refused(id, detailsOf(byID, id)), d.restorations.Count(id)),
		})
	}
	s.Hooks = d.hookStats(byID)
	if f := d.hooks.fifoStatus(); f != nil {
		s.Global = append(s.Global, fifoCounters(f.Written, f.Lost)...)
	}
	return s, nil
}

// hookStats returns the counters of the routers and groups that have hooks.
func (d *instance) hookStats(byID map[router.ID]details) []control.HookStats {
	subjects := make(map[notify.Subject]bool)
	for _, v := range byID {
		subjects[instanceOf(v.config.Name)] = true
		if v.config.Group != "" {
			subjects[groupOf(v.config.Group)] = true
		}
	}
	all := []control.HookStats{}
	for subject := range subjects {
		if s, ok := d.hooks.counts(subject); ok {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b control.HookStats) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// refused returns a function that counts the advertisements of a Virtual Router with wrong
// authentication, both in the kernel and in the daemon, which verifies alone if there are no BPF
// programs.
func (d *instance) refused(id router.ID, v details) func(packet.Reason) uint64 {
	if v.guard == nil {
		return func(packet.Reason) uint64 { return 0 }
	}
	kernel := d.dp.Refused(packet.Key{Ifindex: v.ifindex, Family: id.Family, VRID: id.VRID})
	return func(r packet.Reason) uint64 { return kernel[r] + v.guard.Refused(r) }
}

// routerCounters returns the counters of a router. Counters that RFC 8347 defines have its names.
func routerCounters(c router.Counters, refused func(packet.Reason) uint64, restored uint64) []control.Counter {
	all := []control.Counter{
		{Name: "master_transitions", Help: "how often it became Active", Value: c.Became[vrrp.Active]},
		{Name: "backup_transitions", Help: "how often it became Backup", Value: c.Became[vrrp.Backup]},
		{Name: "initialize_transitions", Help: "how often it went back to Initialize", Value: c.Became[vrrp.Initialize]},
		{Name: "advertisement_sent", Help: "advertisements sent", Value: c.Sent},
		{Name: "send_errors", Help: "advertisements that could not be sent to all or some of the peers", Value: c.SendErrors},
		{Name: "priority_zero_pkts_sent", Help: "advertisements of priority 0 sent", Value: c.PriorityZeroSent},
		{Name: "announcements_sent", Help: "how often the addresses were announced by gratuitous ARP or neighbour advertisements", Value: c.Announced},
		{Name: "restored", Help: "addresses, routes and rules that another program removed and failoverd restored", Value: restored},
	}
	for _, reason := range []packet.Reason{
		packet.ReasonAdvertisementReceived, packet.ReasonPriorityZero, packet.ReasonChecksumRFC5798, packet.ErrVersion, packet.ErrZeroInterval, packet.ErrChecksum, packet.ErrOwnSource,
		packet.ErrInitialize, packet.ErrAuthType, packet.ErrAuth, packet.ErrAuthMissing, packet.ErrAuthMalformed, packet.ErrAuthKey, packet.ErrAuthStale, packet.ErrAuthReplay, packet.ErrAuthOverlong, packet.ErrOwnerConflict, packet.ErrInterval, packet.ErrAddressList,
	} {
		all = append(all, control.Counter{Name: reason.String(), Help: reason.Error(), Value: c.Found[reason] + refused(reason)})
	}
	return all
}

// Counters returns the names of the counters of each router, and of the daemon's own counters
// besides those of packets. All values are 0.
func Counters() (ofRouter, own []control.Counter) {
	return routerCounters(router.Counters{}, func(packet.Reason) uint64 { return 0 }, 0), fifoCounters(0, 0)
}

// fifoCounters returns the counters of the FIFO.
func fifoCounters(written, lost uint64) []control.Counter {
	return []control.Counter{
		{Name: "notify_fifo_written", Help: "lines written to the FIFO", Value: written},
		{Name: "notify_fifo_lost", Help: "lines lost because no process read the FIFO in time", Value: lost},
	}
}

// labelled returns an address as the status shows it, and adds its label to the router's.
func labelled(r *control.Router, c *config.Router, p netip.Prefix, name string) string {
	shown := on(p, name)
	if label := c.Label(p, name); label != "" {
		if r.Labels == nil {
			r.Labels = make(map[string]string)
		}
		r.Labels[shown] = label
	}
	return shown
}

// on returns an address with its interface, unless that is the router's own (empty).
func on(p netip.Prefix, name string) string {
	if name == "" {
		return p.String()
	}
	return p.String() + " on " + name
}

// describeThreads returns what the status shows of the scheduling of the process's threads.
func describeThreads(t *process.Threads) control.Realtime {
	wanted, is, problem := t.Status()
	s := control.Realtime{Wanted: string(wanted), Is: string(is)}
	if problem != nil {
		s.Problem = problem.Error()
	}
	return s
}
