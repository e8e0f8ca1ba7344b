// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/observe"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/process"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/script"
)

// parts are what a daemon consists of. They are built in the order of Run, each from
// those before it, and closed the other way round.
type parts struct {
	given Config
	file  *config.File
	wait  bool // for interfaces that can't be used yet, because there is a file to correct
	log   *logrus.Logger

	// The host, as it is looked at.
	monitor  *link.Monitor
	handle   *link.Handle // the worker's, once there is one
	looking  *link.Handle // a listing must not keep a take-over waiting
	snapshot []link.Interface

	// What is wanted of it.
	routers []*plan.ConfiguredRouter
	wanted  *plan.Plan

	// What changes it.
	claims  *claims
	dp      *datapath.Datapath
	journal *link.Journal
	undone  bool // all that the journal says
	worker  *link.Worker
	threads *process.Threads
	loop    *router.Loop
	keeper  *keeper

	// What tells of it.
	names      *observe.Names
	history    *control.History
	guardian   *observe.Restorations
	room       *observe.LogBudget
	problems   *observe.Problems
	reports    *reports
	reach      *observe.Reach
	conflicts  *observe.Conflicts
	conditions *conditions

	runner   *script.Runner
	instance *instance
	server   *control.Server

	closing []func() error
}

// later has something closed at the end, before what is there already.
func (p *parts) later(f func() error) { p.closing = append(p.closing, f) }

func (p *parts) close() error {
	var errs []error
	for _, f := range slices.Backward(p.closing) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// look opens what the host is looked at with.
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

// check makes all checks that need no change, and has no other process run the Virtual
// Routers.
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
		return place(p.file, err)
	}
	p.routers, p.wanted = routers, plan.New(routers, nil)
	p.names = observe.NewNames()
	learn(p.names, p.wanted)
	p.log.AddHook(p.names)
	p.claims = &claims{held: make(map[plan.ID]claim)}
	p.later(func() error { p.claims.close(); return nil })
	return p.claims.holdAll(p.wanted, p.snapshot)
}

// clean removes what a killed run has left behind, and then checks the addresses, which
// it may have been among.
func (p *parts) clean() error {
	removed, _, err := link.Recover(p.given.RunDir, p.handle)
	for _, r := range removed {
		p.log.WithField("leftover", r).Warn("removed what a killed run left behind")
	}
	if err != nil && !p.wait {
		return fmt.Errorf("remove what a killed run left behind: %w", err)
	}
	if err != nil {
		p.log.WithError(err).Error("what a killed run left behind can't be removed, the next start tries again")
	}
	if len(removed) > 0 {
		if p.snapshot, err = p.handle.Interfaces(); err != nil {
			return fmt.Errorf("list the interfaces: %w", err)
		}
	}
	nobodys := func(int, netip.Addr) bool { return false }
	if err := plan.CheckAddresses(p.routers, p.snapshot, p.wait, nobodys); err != nil {
		return place(p.file, err)
	}
	logLinkLocals(p.routers, p.log)
	warnWeak(p.wanted, nil, p.log)
	return nil
}

// claim loads the BPF programs and opens the journal.
func (p *parts) claim() (err error) {
	o := datapath.Options{Dir: p.given.BPFDir, Adopt: indexes(p.routers, p.snapshot)}
	if p.dp, err = loadDatapath(o, modes(p.routers), p.log); err != nil {
		return err
	}
	p.later(func() error {
		if err := p.dp.Close(); err != nil {
			return fmt.Errorf("remove the BPF programs: %w", err)
		}
		return nil
	})
	if p.journal, err = link.OpenJournal(p.given.RunDir); err != nil {
		return fmt.Errorf("write down what will be changed in %s: %w", p.given.RunDir, err)
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

// assemble makes the event loop and what it reports to.
func (p *parts) assemble() (err error) {
	p.history = control.NewHistory()
	nameEvents(p.history, p.wanted)
	p.guardian = observe.NewRestorations(p.log, p.history)
	p.worker = link.NewWorker(p.handle, p.guardian.Report, newPlaced(p.log).told)
	p.room = observe.NewLogBudget()
	p.problems = observe.NewProblems(p.log, p.history, p.room)
	p.reports = &reports{
		Observer: observe.NewObserver(p.log, p.dp, p.history, p.room, p.problems),
		moves:    observe.NewLatestTransitions(), turns: newTurns(),
	}
	p.threads = process.NewThreads(p.log)
	p.loop = router.New(process.Clock{}, newPackets(p.dp, p.threads.LoopThread), addresses{p.worker}, leases{p.dp}, p.reports)
	if p.looking, err = p.openHandle(); err != nil {
		return err
	}
	p.reach = observe.NewReach(p.loop, p.looking, p.problems, p.log)
	return nil
}

// keep makes what keeps the host as it is wanted.
func (p *parts) keep() error {
	guards := &guards{all: make(map[plan.ID]guarded)}
	hosts := &interfaces{monitor: p.monitor, handle: p.looking, worker: p.worker, log: p.log, stale: true, made: make(map[link.Device]bool)}
	ports := &sockets{dp: p.dp, interfaces: hosts, log: p.log, open: make(map[string]*port), hears: make(map[plan.ID]plan.Subscription), filters: make(map[plan.ID]int)}
	hands := &hands{
		claims: p.claims, interfaces: hosts, sockets: ports, guards: guards,
		settings: &settings{interfaces: hosts, ports: ports},
		entries:  &entries{dp: p.dp, guards: guards, all: make(map[plan.ID]*plan.Entry)},
		takings:  &takings{loop: p.loop, worker: p.worker, sockets: ports, guards: guards, guardian: p.guardian, log: p.log, known: make(map[plan.ID]*remembered), all: make(map[plan.ID]*plan.LoopState)},
		notes:    &notes{journal: p.journal, interfaces: hosts, sockets: ports, all: make(map[plan.Note]bool)},
	}
	p.conditions = newConditions()
	p.keeper = newKeeper(hands, p.monitor, p.loop, p.conditions, p.problems, p.wait, p.log)
	p.conflicts = observe.NewConflicts(p.loop, p.keeper.answered, p.monitor.Snapshot, p.problems, p.log)
	return nil
}

// open makes what users and their programs see: orders, checks, the control socket,
// hooks and metrics.
func (p *parts) open() error {
	book, err := openBook(p.given.StateDir)
	if err != nil {
		return err
	}
	book.obey(p.conditions, p.file.Routers)
	p.runner = script.NewRunner()
	tracks, err := newTracks(p.runner, p.monitor, p.conditions, p.history, p.room, p.log)
	if err != nil {
		return fmt.Errorf("watch routes: %w", err)
	}
	p.later(func() error { tracks.close(); return nil })
	if err := tracks.set(p.file); err != nil {
		return err
	}
	d := &instance{
		book: book, config: p.given, started: time.Now(), path: p.file.Path, file: p.file, plan: p.wanted,
		loop: p.loop, keeper: p.keeper, guardian: p.guardian, dp: p.dp, history: p.history, handle: p.handle,
		tracks: tracks, threads: p.threads, problems: p.problems, names: p.names, log: p.log,
	}
	d.hooks = newHooks(p.runner, p.reports.turns, p.reports.Hook, d.describeTransition, p.given.Hurry, p.log)
	d.scrapes = newScrapes(d, p.log)
	p.instance = d
	if p.server, err = listen(p.given.RunDir, d, p.history, p.log); err != nil {
		return fmt.Errorf("serve the control socket: %w", err)
	}
	if err := errors.Join(d.hooks.set(p.file), d.scrapes.begin(p.file.Global)); err != nil {
		d.hooks.leave()
		return errors.Join(err, p.server.Close())
	}
	return nil
}

// run runs the parts until ctx ends. The event loop leaves first, so that it sends priority 0
// and removes the addresses while the rest still works.
func (p *parts) run(ctx context.Context) error {
	d := p.instance
	support, stop := context.WithCancel(context.WithoutCancel(ctx))
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
	main, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(failing, cancel) // a part that fails ends the loop in order

	p.threads.SetRealtime(p.file.Global.Realtime)
	run("threads", p.threads.Run, support)
	run("event loop", func(ctx context.Context) error {
		defer stop()
		err := p.loop.Run(ctx)
		d.hooks.leave() // they are told of the stop while the rest still works
		return err
	}, main)
	run("interfaces", p.monitor.Run, support)
	run("addresses", p.worker.Run, support)
	run("scripts", p.runner.Adopt, support)
	run("routes", d.tracks.routes.Run, support)
	run("checks", d.tracks.run, main)
	run("log", func(ctx context.Context) error { return p.reports.Run(ctx, d.look) }, support)
	run("states", func(ctx context.Context) error {
		return p.reports.moves.Run(ctx, d.tracks.transition, p.reach.Transition, p.conflicts.Transition)
	}, support)
	run("hooks", d.hooks.run, support)
	run("virtual MAC", p.reach.Run, main)
	run("conflicts", p.conflicts.Run, main)
	run("BPF programs", observe.NewAttachments(p.dp, p.keeper.members, p.conditions.changed, p.problems, p.log).Run, main)
	run("other interfaces", (&beside{news: p.keeper.reported, set: p.dp.SetSibling, views: p.keeper.all, host: p.monitor.Snapshot, log: p.log}).run, main)
	bridges := observe.NewBridges(func() []observe.BridgePort { return p.keeper.bridged(p.monitor.Snapshot()) }, p.problems)
	run("bridges", func(ctx context.Context) error { return bridges.Run(ctx, p.keeper.begun) }, main)
	run("control socket", p.server.Run, support)
	run("metrics", d.scrapes.run, support)
	run("reload", d.reloads, main)
	run("service", d.serve, main)
	holdBack(p.conditions, p.file)
	group.Go(func() error { return p.keeper.run(main, p.wanted, d.hooks.waiting) }) // its errors name the interface
	err := group.Wait()
	all, closing := p.keeper.close()
	p.undone = all
	return errors.Join(err, closing)
}
