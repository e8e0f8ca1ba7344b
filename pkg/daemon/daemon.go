// SPDX-License-Identifier: Apache-2.0

// Package daemon builds the parts of failoverd and owns their lifetime. It makes no protocol
// decision.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/observe"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/process"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// Default directories for what a run keeps on the host while it lives.
const (
	DefaultBPFDir = "/sys/fs/bpf/failoverd"
	DefaultRunDir = "/run/failoverd"
)

// procsFactor is the number of GOMAXPROCS slots for each processor. With one slot, the event loop
// would wait behind the goroutines that serve status requests. With more, the kernel schedules
// the threads, and it favours the loop, whose turns are short.
const procsFactor = 4

// Config has the settings with which a daemon is started.
type Config struct {
	// Read reads the configuration, at the start and for each reload. If the file it returns has
	// no path, an interface that can't be used yet is an error instead of being waited for.
	Read func() (*config.File, error)
	// Reload requests another reading. Nobody waits for its result.
	Reload <-chan os.Signal
	// Restart requests a restart: see instance.Restart. Nobody waits for its result.
	Restart <-chan os.Signal
	// Predecessor is the process that this one takes over from, nil for none.
	Predecessor *process.Predecessor
	// Hurry, once closed, ends the wait for hooks after the end of ctx.
	Hurry <-chan struct{}
	// Running is the log line for the moment at which everything runs that can run.
	Running string
	// Version is the version that the status shows.
	Version string
	BPFDir  string
	RunDir  string
	// StateDir is the directory of the orders that hold beyond a restart.
	StateDir string
}

// Run runs the daemon until ctx ends, and restores the host to the state in which it found it.
// All checks are made before the host is changed; their errors name the problem and the remedy.
// Cancellation is not an error.
//
// If another process has taken over from this one, the error is a *Replaced.
func Run(ctx context.Context, c Config, log *logrus.Logger) (err error) {
	defer func() { err = process.WithRemedy(err) }()
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(procsFactor * runtime.GOMAXPROCS(0))
	}
	objects := datapath.ParseObjects()
	file, err := c.Read()
	if err != nil {
		return err
	}
	p := &parts{config: c, ctx: ctx, objects: objects, file: file, wait: file.Path != "", log: log}
	defer func() {
		var to *Replaced
		if errors.As(err, &to) {
			return // everything on this host belongs to another process
		}
		if e := p.close(); e != nil {
			err = errors.Join(err, e)
		}
	}()
	for _, build := range []func() error{process.CheckPrivileges, p.look, p.check, p.prepare, p.claim, p.clean, p.load, p.buildLoop, p.buildKeeper, p.openAPI} {
		switch err := build(); {
		case errors.Is(err, context.Canceled) && ctx.Err() != nil:
			return nil // it was stopped before it took over
		case err != nil:
			return err
		}
	}
	return p.run()
}

// delayStart keeps the routers from taking part until startup_delay and delay_after_boot have
// passed.
func delayStart(c *conditions, file *config.File) {
	const source = "startup_delay"
	var boot unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) // every supported kernel has this clock
	d, why := startDelay(&file.Global, time.Duration(boot.Nano()))
	if d <= 0 {
		return
	}
	for _, r := range file.Routers {
		c.SetFault(r.Name, source, vrrp.CauseWaiting, why)
	}
	time.AfterFunc(d, func() { c.Forget(source) })
}

// startDelay returns the time that the routers wait for, and the reason. uptime is the time
// since the host's boot.
func startDelay(g *config.Global, uptime time.Duration) (d time.Duration, why string) {
	if rest := g.DelayAfterBoot - uptime; rest > g.StartupDelay {
		return rest, fmt.Sprintf("delay_after_boot of %v", g.DelayAfterBoot)
	}
	return g.StartupDelay, fmt.Sprintf("startup_delay of %v", g.StartupDelay)
}

// locate adds the positions in the configuration file to a *plan.Error.
func locate(file *config.File, err error) error {
	var wrong *plan.Error
	if file.Path == "" || !errors.As(err, &wrong) {
		return err
	}
	return file.Mistakes(wrong.Problems)
}

// learnNames gives the log the names of a plan's routers.
func learnNames(names *observe.Names, p *plan.Plan) {
	for _, v := range p.VirtualRouters {
		names.Learn(v.ID, v.Router.Name)
	}
}

func logLinkLocals(routers []*plan.ConfiguredRouter, log *logrus.Logger) {
	for _, p := range routers {
		if p.LinkLocal.IsValid() {
			log.WithFields(logrus.Fields{"router": p.Name, "interface": p.Interface}).Infof("added the link-local address %s, because RFC 9568 requires one as the first IPv6 address; give all routers of VRID %d the same list of addresses", p.LinkLocal, p.VRID)
		}
	}
}

// listen opens the control socket. If another failoverd of this host has it, listen opens a
// second one in the same directory, with the process ID in its name.
func listen(dir string, d control.Daemon, h *control.History, log *logrus.Logger) (*control.Server, error) {
	path := filepath.Join(dir, filepath.Base(control.DefaultPath))
	server, err := control.Listen(path, d, h, process.NewServerLog(log, "control"))
	if errors.Is(err, control.ErrTaken) {
		path = filepath.Join(dir, fmt.Sprintf("control-%d.sock", os.Getpid()))
		log.WithField("socket", path).Info("another failoverd has the control socket, so this one serves a socket of its own")
		server, err = control.Listen(path, d, h, process.NewServerLog(log, "control"))
	}
	return server, err
}

// loadDatapath loads the datapath and logs which of its features this host lacks.
func loadDatapath(o datapath.Options, modes []datapath.Mode, log *logrus.Logger) (*datapath.Datapath, error) {
	dp, lacks, err := datapath.LoadFor(o, modes)
	for _, l := range lacks {
		log.WithError(l.Why).Warn(l.What)
	}
	return dp, err
}

// indexes returns the indexes of the plan's interfaces that exist.
func indexes(routers []*plan.ConfiguredRouter, snapshot []link.Interface) []int {
	var all []int
	for _, p := range routers {
		if i, err := link.Find(snapshot, p.Interface); err == nil {
			all = append(all, i.Index)
		}
	}
	return all
}

// candidates returns the interfaces of the plan that exist, with their modes.
func candidates(routers []*plan.ConfiguredRouter, snapshot []link.Interface) []datapath.Candidate {
	all := []datapath.Candidate{}
	seen := make(map[int]bool)
	for _, p := range routers {
		if i, err := link.Find(snapshot, p.Interface); err == nil && !seen[i.Index] {
			seen[i.Index] = true
			all = append(all, datapath.Candidate{Link: attachable(i, snapshot), Mode: datapath.Mode(p.XDPMode)})
		}
	}
	return all
}

// attachable returns what the datapath needs to know about an interface.
func attachable(i link.Interface, snapshot []link.Interface) datapath.Link {
	return datapath.Link{Index: i.Index, Name: i.Name, Kind: i.Kind, VLANs: link.CarriesVLANs(snapshot, i.Index)}
}

func modes(routers []*plan.ConfiguredRouter) []datapath.Mode {
	var all []datapath.Mode
	for _, p := range routers {
		all = append(all, datapath.Mode(p.XDPMode))
	}
	return all
}

// Cleanup removes what killed runs have left behind, and returns a line for each thing that it
// removed. It doesn't touch what a living run uses, and returns the process IDs of such runs.
func Cleanup(c Config) (removed []string, living []int, err error) {
	if err := process.CheckPrivileges(); err != nil {
		return nil, nil, err
	}
	handle, err := link.NewHandle()
	if err != nil {
		return nil, nil, fmt.Errorf("open netlink: %w", err)
	}
	defer handle.Close()
	estates, estateErr := process.RemoveEstates(c.RunDir) // first, because Recover removes the empty directory
	removed, living, err = link.Recover(c.RunDir, handle)
	pins, pinErr := datapath.Cleanup(c.BPFDir)
	sockets, socketErr := control.Cleanup(c.RunDir)
	return slices.Concat(removed, pins, sockets, estates), living, errors.Join(err, pinErr, socketErr, estateErr)
}

// packets passes the datapath's records to the event loop.
type packets struct {
	dp         *datapath.Datapath
	received   router.Received
	deliver    func(*router.Received)
	record     func(*datapath.Record)        // p.convert: a method value that is allocated once
	thread     func() (realtime, bound bool) // whether the loop's thread is real-time, and whether the loop is bound to it
	shortWaits int                           // the number of consecutive short waits
	yielded    vrrp.Instant                  // when the loop last let other goroutines run
}

func newPackets(dp *datapath.Datapath, thread func() (realtime, bound bool)) *packets {
	p := &packets{dp: dp, thread: thread}
	p.record = p.convert
	return p
}

// A thread that blocks in the kernel keeps its GOMAXPROCS slot, and keeps sysmon, Go's monitor
// thread, awake: sysmon polls every 20 µs until it retakes the slot after 10 ms, and polls for
// another 3 ms. That would cost as much CPU time as everything else that a Backup does. So the
// loop normally waits as a goroutine, on the netpoller. If it is woken very often, the thread
// itself waits, which is more punctual, but for less than sysmon's 10 ms, and other goroutines
// get a turn in between.
//
// If the loop's thread is real-time, the thread itself always waits. A waiting goroutine would be
// resumed by whichever thread polls first, and that thread isn't real-time. A wait that may be
// long gives the slot away at once; sysmon, which isn't real-time, might retake it late.
const (
	shortWait      = 15 * time.Millisecond
	manyShortWaits = 8
	maxThreadWait  = 9 * time.Millisecond
)

func (p *packets) Wait(until vrrp.Instant) error {
	realtime, bound := p.thread()
	now := (process.Clock{}).Now()
	if until < now.Add(shortWait) {
		p.shortWaits++
	} else {
		p.shortWaits = 0
	}
	switch {
	case realtime:
		long := p.shortWaits < manyShortWaits || p.yielded.Add(maxThreadWait) <= now
		if !long {
			return p.dp.WaitInThread(min(until, now.Add(maxThreadWait)), false)
		}
		p.yielded = now
		err := p.dp.WaitInThread(until, true)
		if !bound {
			process.Yield() // otherwise sysmon takes the wait for one long turn of this goroutine
		}
		return err
	case p.shortWaits < manyShortWaits:
		return p.dp.Wait(until)
	}
	if p.yielded.Add(maxThreadWait) <= now {
		runtime.Gosched()
		p.yielded = now
	}
	return p.dp.WaitInThread(min(until, p.yielded.Add(maxThreadWait)), false)
}

func (p *packets) Wake() { p.dp.Wake() }

func (p *packets) Drain(f func(*router.Received)) {
	p.deliver = f
	p.dp.Drain(p.record)
}

func (p *packets) convert(rec *datapath.Record) {
	if rec.Err != nil {
		return
	}
	p.received = router.Received{
		At:            rec.ReceivedAt,
		Key:           rec.Key,
		From:          rec.Datagram.Source,
		Advertisement: rec.Advertisement,
		Checksum:      rec.Checksum,
		Signature:     rec.Signature,
	}
	p.deliver(&p.received)
}

// Reception implements router.Packets.
func (p *packets) Reception(ifindex int) (r router.Reception) {
	r.Checked, r.Restored, r.Detached = p.dp.Reception(ifindex)
	return r
}

// RequestCheck implements router.Packets.
func (p *packets) RequestCheck(ifindex int) { p.dp.RequestLook(ifindex) }

func (p *packets) ReceiveState(k packet.Key) router.ReceiveState {
	e, ok := p.dp.ReceiveState(k)
	if !ok {
		return nil
	}
	return e
}

// addresses passes the event loop's changes of addresses to the link worker.
type addresses struct{ worker *link.Worker }

func (a addresses) Assign(id router.ID, ifindex int, p []netip.Prefix, done func(error)) {
	a.worker.Submit(link.Job{Owner: id, Ifindex: ifindex, Assign: true, Prefixes: p, Done: done})
}

func (a addresses) Release(id router.ID, ifindex int, p []netip.Prefix, done func(error)) {
	j := link.Job{Ifindex: ifindex, Prefixes: p, Done: done}
	if id != (router.ID{}) {
		j.Owner = id
	}
	a.worker.Submit(j)
}

// leases gives the event loop access to the leases in the memory that the fence reads.
type leases struct{ dp *datapath.Datapath }

func (l leases) Lease(k packet.Key) router.Lease {
	lease, ok := l.dp.Lease(k)
	if !ok {
		return nil
	}
	return lease
}
