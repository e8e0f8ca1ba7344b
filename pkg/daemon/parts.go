// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/observe"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/process"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/script"
)

// parts are the parts of a daemon. Run builds them in order, each from the ones before it; close
// closes them in reverse order.
type parts struct {
	config Config
	ctx    context.Context // of Run
	file   *config.File
	wait   bool // interfaces that can't be used yet are waited for, because there is a configuration file that can be corrected
	log    *logrus.Logger

	// What reads the host's state.
	monitor  *link.Monitor
	handle   *link.Handle // used by the worker, once there is one
	listing  *link.Handle // a handle of its own, because listing interfaces must not delay a take-over
	snapshot []link.Interface

	// The wanted state.
	routers []*plan.ConfiguredRouter
	plan    *plan.Plan

	// What another run left or hands over.
	estate    estate
	legacy    legacy
	namespace uint64 // the cookie of the network namespace; 0: unknown

	// What changes the host.
	objects  *datapath.Objects
	reserved *datapath.Reservations
	claims   *claims
	dp       *datapath.Datapath
	journal  *link.Journal
	undone   bool // everything in the journal is undone
	worker   *link.Worker
	threads  *process.Threads
	// prioritized is closed when the threads are real-time, if they can be.
	prioritized chan struct{}
	loop        *router.Loop
	keeper      *keeper

	// What reports.
	names        *observe.Names
	history      *control.History
	restorations *observe.Restorations
	budget       *observe.LogBudget
	problems     *observe.Problems
	reports      *reports
	reach        *observe.Reach
	conflicts    *observe.Conflicts
	conditions   *conditions

	runner   *script.Runner
	instance *instance
	server   *control.Server

	closing []func() error
}

// later registers a function that close calls. The last one registered is called first.
func (p *parts) later(f func() error) { p.closing = append(p.closing, f) }

func (p *parts) close() error {
	var errs []error
	for _, f := range slices.Backward(p.closing) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// look opens the monitor and the handle that read the host's state.
func (p *parts) look() (err error) {
	if p.monitor, err = link.NewMonitor(); err != nil {
		return fmt.Errorf("watch the interfaces: %w", err)
	}
	p.later(func() error { p.monitor.Close(); return nil })
	if p.handle, err = p.openHandle(); err != nil {
		return err
	}
	p.snapshot = p.monitor.Snapshot()
	return nil
}

func (p *parts) openHandle() (*link.Handle, error) {
	h, err := link.NewHandle()
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	p.later(func() error { h.Close(); return nil })
	return h, nil
}

// check makes all checks that need no change of the host.
func (p *parts) check() error {
	if err := checkScripts(p.file, p.log); err != nil {
		return err
	}
	routers, err := plan.Complete(p.file.Routers)
	if err == nil {
		err = readSecrets(routers, p.file.Secrets)
	}
	if err == nil {
		err = plan.CheckInterfaces(routers, p.snapshot, p.wait)
	}
	if err != nil {
		return locate(p.file, err)
	}
	p.routers, p.plan = routers, plan.New(routers, nil)
	p.names = observe.NewNames()
	learnNames(p.names, p.plan)
	p.log.AddHook(p.names)
	return nil
}

// claim claims the Virtual Routers, so that no other process runs them.
func (p *parts) claim() error {
	if p.threads == nil {
		p.prioritize()
	}
	if p.config.Predecessor == nil {
		p.reserved = datapath.Reserve(p.config.BPFDir, candidates(p.routers, p.snapshot))
		p.later(func() error { p.reserved.Close(); return nil })
	}
	p.claims = &claims{held: make(map[plan.ID]claim)}
	p.later(func() error { p.claims.close(); return nil })
	return p.claims.holdAll(p.plan, p.snapshot)
}

// prioritize makes the threads real-time in the background, because it takes milliseconds.
func (p *parts) prioritize() {
	p.threads, p.prioritized = process.NewThreads(p.log), make(chan struct{})
	go func() {
		defer close(p.prioritized)
		if p.file.Global.Realtime != config.RealtimeNone {
			process.StartSpares()
		}
		p.threads.SetRealtime(p.file.Global.Realtime)
	}()
}

// clean removes what a killed run has left behind, except what belongs to the routers that
// continue. Then it checks the addresses, because the leftovers may include some of them.
func (p *parts) clean() error {
	dead, found := link.FindDead(p.config.RunDir)
	defer dead.Unlock()
	if err := p.survey(dead); err != nil {
		return err
	}
	removed, err := dead.Recover(p.handle, p.legacy.keep)
	err = errors.Join(found, err)
	for _, r := range removed {
		p.log.WithField("leftover", r).Warn("removed a leftover of a killed run")
	}
	if err != nil && !p.wait {
		return fmt.Errorf("remove the leftovers of a killed run: %w", err)
	}
	if err != nil {
		p.log.WithError(err).Error("could not remove all leftovers of a killed run, the next start tries again")
	}
	if len(removed) > 0 {
		if p.snapshot, err = p.handle.Interfaces(); err != nil {
			return fmt.Errorf("list the interfaces: %w", err)
		}
	}
	if err := plan.CheckAddresses(p.routers, p.snapshot, p.wait, p.legacy.has); err != nil {
		return locate(p.file, err)
	}
	logLinkLocals(p.routers, p.log)
	warnWeak(p.plan, nil, p.log)
	return nil
}

// load loads the BPF programs and opens the journal.
func (p *parts) load() (err error) {
	p.dp, err = loadDatapath(p.datapathOptions(), modes(p.routers), p.log)
	if p.objects = nil; err != nil { // nobody needs them any more
		return err
	}
	p.later(func() error {
		if err := p.dp.Close(); err != nil {
			return fmt.Errorf("remove the BPF programs: %w", err)
		}
		return nil
	})
	if len(p.legacy.heirs) > 0 {
		p.later(p.abandon) // before the fence is removed
	}
	return p.openJournal()
}

func (p *parts) datapathOptions() datapath.Options {
	return datapath.Options{
		Dir: p.config.BPFDir, Adopt: indexes(p.routers, p.snapshot), Candidates: candidates(p.routers, p.snapshot),
		Namespace: p.namespace, Remains: p.legacy.remains, Heirs: p.legacy.keys(), Prepared: p.legacy.prepared, Objects: p.objects, Reserved: p.reserved,
		Authenticates: slices.ContainsFunc(p.routers, func(r *plan.ConfiguredRouter) bool { return r.Authentication.On() }),
	}
}

func (p *parts) openJournal() (err error) {
	if p.journal != nil {
		return nil
	}
	if p.journal, err = link.OpenJournal(p.config.RunDir); err != nil {
		return fmt.Errorf("open the journal in %s: %w", p.config.RunDir, err)
	}
	p.undone = true
	p.later(func() error {
		if p.undone {
			return p.journal.Remove()
		}
		return p.journal.Close()
	})
	return nil
}

// buildLoop makes the event loop and what it reports to.
func (p *parts) buildLoop() (err error) {
	p.history = control.NewHistory()
	p.history.Continue(p.estate.Last)
	p.history.Precede(p.estate.Records.Events)
	p.estate.Records.Events = nil
	nameEvents(p.history, p.plan)
	p.restorations = observe.NewRestorations(p.log, p.history)
	p.worker = link.NewWorker(p.handle, p.restorations.Report, newExtraAnnouncer(p.log).update)
	p.budget = observe.NewLogBudget()
	p.problems = observe.NewProblems(p.log, p.history, p.budget)
	p.reports = &reports{
		Observer: observe.NewObserver(p.log, p.dp, p.history, p.budget, p.problems),
		latest:   observe.NewLatestTransitions(), queue: newHookQueue(),
	}
	p.loop = router.New(process.Clock{}, newPackets(p.dp, p.threads.LoopThread), addresses{p.worker}, leases{p.dp}, p.reports)
	if p.listing, err = p.openHandle(); err != nil {
		return err
	}
	p.reach = observe.NewReach(p.loop, p.listing, p.problems, p.log)
	return nil
}

// buildKeeper makes the keeper with its executors.
func (p *parts) buildKeeper() error {
	guards := &guards{all: make(map[plan.ID]guardEntry)}
	hosts := &interfaces{monitor: p.monitor, handle: p.listing, worker: p.worker, log: p.log, stale: true, created: make(map[link.Device]bool)}
	ports := &sockets{dp: p.dp, interfaces: hosts, log: p.log, open: make(map[string]*port), subscriptions: make(map[plan.ID]plan.Subscription), filters: make(map[plan.ID]int)}
	heirs := &heirs{dp: p.dp, interfaces: hosts, log: p.log, all: p.legacy.heirs}
	executors := &executors{
		heirs: heirs, claims: p.claims, interfaces: hosts, sockets: ports, guards: guards,
		settings: &settings{interfaces: hosts, ports: ports},
		entries:  &entries{dp: p.dp, guards: guards, all: make(map[plan.ID]*plan.Entry)},
		routers:  &loopRouters{heirs: heirs, loop: p.loop, worker: p.worker, sockets: ports, guards: guards, restorations: p.restorations, log: p.log, learnt: p.estate.learnt(), logged: make(map[plan.ID]*logged), all: make(map[plan.ID]*plan.LoopState)},
		notes:    &notes{journal: p.journal, interfaces: hosts, sockets: ports, all: p.legacy.notes()},
	}
	p.conditions = newConditions()
	p.keeper = newKeeper(executors, p.monitor, p.loop, p.conditions, p.problems, p.reports.queue, p.wait, p.log)
	p.conflicts = observe.NewConflicts(p.loop, p.keeper.answersFor, p.monitor.Snapshot, p.problems, p.log)
	return nil
}

// openAPI makes what users and their programs see: orders, checks, the control socket, hooks and
// metrics.
func (p *parts) openAPI() error {
	book, err := openOrderBook(p.config.StateDir)
	if err != nil {
		return err
	}
	book.restore(p.estate.Orders)
	book.apply(p.conditions, p.file.Routers)
	p.runner = script.NewRunner()
	tracks, err := newTracks(p.runner, p.monitor, p.conditions, p.history, p.budget, p.log)
	if err != nil {
		return fmt.Errorf("watch routes: %w", err)
	}
	p.later(func() error { tracks.close(); return nil })
	tracks.tracker.Assume(p.estate.Checks)
	if err := tracks.set(p.file); err != nil {
		return err
	}
	d := &instance{
		book: book, config: p.config, started: time.Now(), path: p.file.Path, file: p.file, plan: p.plan,
		loop: p.loop, keeper: p.keeper, restorations: p.restorations, dp: p.dp, history: p.history, handle: p.handle,
		before: p.estate.Records, succession: succession{inPlace: make(chan struct{})}, tracks: tracks, threads: p.threads, problems: p.problems, names: p.names, log: p.log,
	}
	d.past.Store(new([packet.ReasonCount]uint64))
	d.hooks = newHooks(p.runner, p.reports.queue, p.reports.Hook, d.describeTransition, p.config.Hurry, p.log)
	d.metrics = newMetricsServer(d, p.log)
	p.instance = d
	if p.server, err = listen(p.config.RunDir, d, p.history, p.log); err != nil {
		return fmt.Errorf("serve the control socket: %w", err)
	}
	if err := errors.Join(d.hooks.set(p.file), d.metrics.start(p.file.Global)); err != nil {
		d.hooks.leave()
		return errors.Join(err, p.server.Close())
	}
	d.hooks.restore(p.estate.Hooks)
	return nil
}

// run runs the parts until p.ctx ends. The event loop leaves first, so that it sends priority 0
// and removes the addresses while the rest still works. If a successor takes over instead, run
// leaves everything as it is.
func (p *parts) run() error {
	d := p.instance
	support, stop := context.WithCancel(context.WithoutCancel(p.ctx))
	defer stop()
	group, failing := errgroup.WithContext(support)
	run := func(name string, f func(context.Context) error, ctx context.Context) {
		group.Go(func() error {
			if err := f(ctx); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	main, cancel := context.WithCancelCause(context.WithoutCancel(p.ctx))
	defer cancel(nil)
	context.AfterFunc(p.ctx, func() {
		if d.orphaned() {
			cancel(router.ErrReplaced)
		} else {
			cancel(nil)
		}
	})
	context.AfterFunc(failing, func() { cancel(nil) }) // if a part fails, the event loop ends in an orderly way
	d.succession.end = cancel
	replaced := func() bool { return errors.Is(context.Cause(main), router.ErrReplaced) }

	<-p.prioritized
	run("threads", p.threads.Run, support)
	run("event loop", func(ctx context.Context) error {
		defer stop()
		last, err := d.succession.runLoop(ctx, p.loop)
		if last != nil {
			d.noteCounters(last)
		} else {
			d.hooks.leave() // hooks report the stop while the other parts still work
		}
		return err
	}, main)
	run("interfaces", p.monitor.Run, support)
	run("addresses", p.worker.Run, support)
	run("scripts", p.runner.Adopt, support)
	run("routes", d.tracks.routes.Run, support)
	run("checks", d.tracks.run, main)
	run("log", func(ctx context.Context) error { return p.reports.Run(ctx, d.loopStatus) }, support)
	run("states", func(ctx context.Context) error {
		return p.reports.latest.Run(ctx, d.tracks.transition, p.reach.Transition, p.conflicts.Transition)
	}, support)
	run("hooks", d.hooks.run, support)
	run("virtual MAC", p.reach.Run, main)
	run("conflicts", p.conflicts.Run, main)
	run("BPF programs", observe.NewAttachments(p.dp, p.keeper.routersOn, p.conditions.signal, p.problems, p.log).Run, main)
	run("other interfaces", (&arpSuppression{changed: p.keeper.updated, set: p.dp.SetSibling, details: p.keeper.allDetails, host: p.monitor.Snapshot, log: p.log}).run, main)
	bridges := observe.NewBridges(func() []observe.BridgePort { return p.keeper.onBridgePorts(p.monitor.Snapshot()) }, p.problems)
	run("bridges", func(ctx context.Context) error { return bridges.Run(ctx, p.keeper.started) }, main)
	run("control socket", p.server.Run, support)
	run("metrics", d.metrics.run, support)
	run("requests", d.runRequests, main)
	run("service", d.serve, main)
	if !p.restarted() {
		delayStart(p.conditions, p.file)
	}
	// What a killed run left is the keeper's business from here on.
	p.legacy.settled = true
	group.Go(func() error { return p.keeper.run(main, p.plan, d.hooks.reportWaiting) }) // without run: its errors name the interface already
	err := group.Wait()
	if replaced() && err == nil {
		return p.replace()
	}
	err = errors.Join(err, d.succession.stopAdvertising())
	all, closing := p.keeper.close()
	p.undone = all
	return errors.Join(err, closing)
}
