// SPDX-License-Identifier: Apache-2.0

// Package daemon constructs the parts of failoverd and owns their lifetime. It
// makes no protocol decision.
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

// Default places of what a run leaves on the host while it lives.
const (
	DefaultBPFDir = "/sys/fs/bpf/failoverd"
	DefaultRunDir = "/run/failoverd"
)

// places is how many goroutines may run for each processor: with one, the loop would
// have to wait its turn behind all who ask for the state. So the kernel decides, which
// knows that the loop's turns are short.
const places = 4

// Config is what a daemon is started with.
type Config struct {
	// Read reads the configuration: at the start, and for each reload. Without
	// a path it isn't a file's, and what can't be used at once is an error.
	Read func() (*config.File, error)
	// Reload asks for another reading, without an answer.
	Reload <-chan os.Signal
	// Hurry, once closed, ends the wait for programs after the end of ctx.
	Hurry <-chan struct{}
	// Running is what the log says once everything runs that can.
	Running string
	// Version is what the status says that this is.
	Version string
	BPFDir  string
	RunDir  string
	// StateDir is where orders are kept that hold beyond a restart.
	StateDir string
}

// Run runs the daemon until ctx ends, and leaves the host as it was found. All
// checks are made before anything on the host changes; an error from them
// names what is wrong and the remedy. Cancellation is not an error.
func Run(ctx context.Context, c Config, log *logrus.Logger) (err error) {
	defer func() { err = process.WithRemedy(err) }()
	process.LimitGarbage()
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(places * runtime.GOMAXPROCS(0))
	}
	file, err := c.Read()
	if err != nil {
		return err
	}
	p := &parts{given: c, file: file, wait: file.Path != "", log: log}
	defer func() {
		if e := p.close(); e != nil {
			err = errors.Join(err, e)
		}
	}()
	for _, build := range []func() error{process.CheckPrivileges, p.look, p.check, p.clean, p.claim, p.assemble, p.keep, p.open} {
		if err := build(); err != nil {
			return err
		}
	}
	return p.run(ctx)
}

// holdBack keeps the routers of the start from taking part for startup_delay.
func holdBack(c *conditions, file *config.File) {
	const source = "startup_delay"
	d := file.Global.StartupDelay
	if d <= 0 {
		return
	}
	for _, r := range file.Routers {
		c.SetFault(r.Name, source, vrrp.CauseWaiting, fmt.Sprintf("startup_delay of %v", d))
	}
	time.AfterFunc(d, func() { c.Forget(source) })
}

// place says where in the file it is what the host finds wrong.
func place(file *config.File, err error) error {
	var wrong *plan.Error
	if file.Path == "" || !errors.As(err, &wrong) {
		return err
	}
	return file.Mistakes(wrong.Problems)
}

// learn has the log name the routers of a plan.
func learn(names *observe.Names, p *plan.Plan) {
	for _, v := range p.VirtualRouters {
		names.Learn(v.ID, v.Router.Name)
	}
}

func logLinkLocals(routers []*plan.ConfiguredRouter, log *logrus.Logger) {
	for _, p := range routers {
		if p.LinkLocal.IsValid() {
			log.WithFields(logrus.Fields{"router": p.Name, "interface": p.Interface}).Infof("RFC 9568 wants a link-local address first: added %s; give all routers of VRID %d the same list", p.LinkLocal, p.VRID)
		}
	}
}

// listen opens the control socket, or one beside it if another failoverd of this
// host has it.
func listen(dir string, d control.Daemon, h *control.History, log *logrus.Logger) (*control.Server, error) {
	path := filepath.Join(dir, filepath.Base(control.DefaultPath))
	server, err := control.Listen(path, d, h, process.NewServerLog(log, "control"))
	if errors.Is(err, control.ErrTaken) {
		path = filepath.Join(dir, fmt.Sprintf("control-%d.sock", os.Getpid()))
		log.WithField("socket", path).Info("another failoverd has the control socket, serving one beside it")
		server, err = control.Listen(path, d, h, process.NewServerLog(log, "control"))
	}
	return server, err
}

// loadDatapath loads the datapath and says what is not as it could be.
func loadDatapath(o datapath.Options, modes []datapath.Mode, log *logrus.Logger) (*datapath.Datapath, error) {
	dp, lacks, err := datapath.LoadFor(o, modes)
	for _, l := range lacks {
		log.WithError(l.Why).Warn(l.What)
	}
	return dp, err
}

// indexes are those of the plan's interfaces that are there.
func indexes(routers []*plan.ConfiguredRouter, snapshot []link.Interface) []int {
	var all []int
	for _, p := range routers {
		if i, err := link.Find(snapshot, p.Interface); err == nil {
			all = append(all, i.Index)
		}
	}
	return all
}

func modes(routers []*plan.ConfiguredRouter) []datapath.Mode {
	var all []datapath.Mode
	for _, p := range routers {
		all = append(all, datapath.Mode(p.XDPMode))
	}
	return all
}

// Cleanup removes what killed runs left behind, and returns a line for each
// thing removed. What a living run uses is not touched: their processes are
// returned too.
func Cleanup(c Config) (removed []string, living []int, err error) {
	if err := process.CheckPrivileges(); err != nil {
		return nil, nil, err
	}
	handle, err := link.NewHandle()
	if err != nil {
		return nil, nil, fmt.Errorf("open netlink: %w", err)
	}
	defer handle.Close()
	removed, living, err = link.Recover(c.RunDir, handle)
	pins, pinErr := datapath.Cleanup(c.BPFDir)
	sockets, socketErr := control.Cleanup(c.RunDir)
	return slices.Concat(removed, pins, sockets), living, errors.Join(err, pinErr, socketErr)
}

// packets gives the loop the datapath's records.
type packets struct {
	dp       *datapath.Datapath
	received router.Received
	deliver  func(*router.Received)
	record   func(*datapath.Record)   // p.convert, made once
	own      func() (own, bound bool) // the loop's thread is real-time, and the loop bound to it
	short    int                      // waits in a row that were short
	let      vrrp.Instant             // when others were let run
}

func newPackets(dp *datapath.Datapath, own func() (own, bound bool)) *packets {
	p := &packets{dp: dp, own: own}
	p.record = p.convert
	return p
}

// A thread that waits in the kernel holds a place for goroutines, and keeps Go's monitor
// awake: after 10 ms it takes the place away, having looked every 20 µs whether it should,
// and goes on looking for 3 ms. That is as much as a Backup costs otherwise. So the loop
// waits as a goroutine. If it is woken all the time, its thread waits, which is punctual,
// but no longer than unseen, and lets others run in between.
//
// If its thread is real-time, that one waits always: as a goroutine it would be woken by
// whichever thread looks first, and that one isn't. The monitor may be late then.
const (
	often  = 15 * time.Millisecond
	inARow = 8
	unseen = 9 * time.Millisecond
)

func (p *packets) Wait(until vrrp.Instant) error {
	own, bound := p.own()
	now := (process.Clock{}).Now()
	if until < now.Add(often) {
		p.short++
	} else {
		p.short = 0
	}
	switch {
	case own:
		long := p.short < inARow || p.let.Add(unseen) <= now
		if !long {
			return p.dp.WaitInThread(min(until, now.Add(unseen)), false)
		}
		p.let = now
		err := p.dp.WaitInThread(until, true)
		if !bound {
			process.Yield() // or the monitor takes the turn for one that has lasted since long
		}
		return err
	case p.short < inARow:
		return p.dp.Wait(until)
	}
	if p.let.Add(unseen) <= now {
		runtime.Gosched()
		p.let = now
	}
	return p.dp.WaitInThread(min(until, p.let.Add(unseen)), false)
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

// Reception is part of router.Packets.
func (p *packets) Reception(ifindex int) (r router.Reception) {
	r.Checked, r.Restored, r.Detached = p.dp.Reception(ifindex)
	return r
}

// RequestCheck is part of router.Packets.
func (p *packets) RequestCheck(ifindex int) { p.dp.RequestLook(ifindex) }

func (p *packets) ReceiveState(k packet.Key) router.ReceiveState {
	e, ok := p.dp.ReceiveState(k)
	if !ok {
		return nil
	}
	return e
}

// addresses has the link worker change addresses for the loop.
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

// leases writes them where the fence reads them.
type leases struct{ dp *datapath.Datapath }

func (l leases) Lease(k packet.Key) router.Lease {
	lease, ok := l.dp.Lease(k)
	if !ok {
		return nil
	}
	return lease
}
