// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/process"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/track"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// estate is what a process hands over to its successor, beside what is in the kernel.
type estate struct {
	// Restarted is set if the process was only stopped, so that the service manager starts the next one.
	Restarted bool   `json:"restarted,omitempty"`
	Last      uint64 `json:"last"` // the number of the newest event
	// Records are those of a process that starts over. A successor gets them when it has taken
	// over, because they are long.
	Records records        `json:"records"`
	Orders  *orders        `json:"orders"`
	Hooks   hookStates     `json:"hooks"`
	Checks  []track.Report `json:"checks"`
	Learnt  []learnt       `json:"learnt"`
}

// records are what a process tells its users of the past.
type records struct {
	Events   []control.Event `json:"events,omitempty"`
	Counts   datapath.Counts `json:"counts"`
	Counters []pastCounters  `json:"counters,omitempty"`
}

// pastCounters are the counters of a router, with what it has refused.
type pastCounters struct {
	ID       plan.ID         `json:"id"`
	Counters router.Counters `json:"counters"`
	Restored uint64          `json:"restored"`
}

// noteCounters keeps the counters for the next process, with the last ones of the event loop.
func (d *instance) noteCounters(last map[plan.ID]router.Counters) {
	byID, r := d.keeper.allDetails(), &d.succession.records
	r.Counts = d.dp.Counts()
	for n, v := range d.past.Load() {
		r.Counts.Total[n] += v
		r.Counts.Own[n] += v
	}
	for id, c := range last {
		refused := d.refused(id, detailsOf(byID, id))
		for reason := range c.Found {
			c.Found[reason] += refused(packet.Reason(reason))
		}
		r.Counters = append(r.Counters, pastCounters{id, c, d.restorations.Count(id)})
	}
}

// remember takes over the records of the process before.
func (d *instance) remember(r *records) error {
	if len(r.Events) > 0 {
		d.history.Precede(r.Events)
	}
	past := d.dp.Lacking(&r.Counts)
	d.past.Store(&past)
	all := make(map[plan.ID]router.Counters, len(r.Counters))
	for _, c := range r.Counters {
		all[c.ID] = c.Counters
		d.restorations.Add(c.ID, c.Restored)
	}
	err := d.loop.AddCounters(all)
	d.dropCache()
	return err
}

// learnt is what a Virtual Router has learnt from others.
type learnt struct {
	ID       plan.ID         `json:"id"`
	Interval time.Duration   `json:"interval,omitempty"` // Backup: of its Active
	Checksum packet.Checksum `json:"checksum,omitempty"` // Active: the forms that it sends
}

func (e *estate) learnt() map[plan.ID]learnt {
	all := make(map[plan.ID]learnt, len(e.Learnt))
	for _, l := range e.Learnt {
		all[l.ID] = l
	}
	return all
}

// learntBy returns what Virtual Routers have learnt.
func learntBy(all []router.Status) (l []learnt) {
	for _, s := range all {
		switch p := &s.Protocol; {
		case p.State == vrrp.Active:
			l = append(l, learnt{ID: s.ID, Checksum: p.Checksum})
		case p.State == vrrp.Backup && p.Active.IsValid():
			l = append(l, learnt{ID: s.ID, Interval: p.Learnt})
		}
	}
	return l
}

// succession is the part of a daemon that starts its successor. instance.mu guards begun, started and learnt.
type succession struct {
	begun   bool                    // a restart is under way
	started *process.Successor      // nil: none, or this process is only stopped
	learnt  []learnt                // at that time
	end     context.CancelCauseFunc // ends the event loop
	records records                 // for the next process, after the end of the event loop
	// inPlace is closed when the process before, if there was one, knows that this one works. A
	// restart that begins earlier would end this process, and the one before would start over.
	inPlace chan struct{}
	// What advertises while the successor takes over; nil before.
	stopKeeping context.CancelFunc
	kept        chan error
}

// runLoop runs the event loop until it ends. If a successor takes over, the loop goes on to advertise
// for its Actives until stopAdvertising, and runLoop returns its counters. It does so in the same
// goroutine, because another one would have to wait for a processor, and its thread isn't real-time.
func (s *succession) runLoop(ctx context.Context, l *router.Loop) (last map[plan.ID]router.Counters, err error) {
	keeping, cancel := context.WithCancel(context.Background()) // the successor may need longer than the rest of this process
	ended, kept := make(chan error, 1), make(chan error, 1)
	go func() {
		err := l.Run(ctx)
		if !errors.Is(context.Cause(ctx), router.ErrReplaced) {
			ended <- err
			return
		}
		last = l.FinalCounters()
		s.stopKeeping, s.kept = cancel, kept
		ended <- err
		kept <- l.KeepAdvertising(keeping)
	}()
	err = <-ended
	if s.stopKeeping == nil {
		cancel()
	}
	return last, err
}

// stopAdvertising returns when this process no longer advertises.
func (s *succession) stopAdvertising() error {
	if s.stopKeeping == nil {
		return nil
	}
	s.stopKeeping()
	return <-s.kept
}

// orphaned reports whether the process before has ended, and the service manager knows only that
// one. It is about to stop this process and to start another. So this process ends, and leaves
// everything in place.
func (d *instance) orphaned() bool {
	pred := d.config.Predecessor
	select {
	case <-d.succession.inPlace:
		return false
	default:
		return pred != nil && process.Managed() && pred.Ended()
	}
}

var errRestarting = errors.New("a restart is under way: try again in a moment")

// inPlaceWait is how long a restart waits for the end of the one before.
const inPlaceWait = 5 * time.Second

// Restart implements control.Daemon.
func (d *instance) Restart(ctx context.Context, onlyStop bool) (r control.Restart, begin func(), err error) {
	select {
	case <-d.succession.inPlace:
	case <-time.After(inPlaceWait): // startSuccessor refuses it
	case <-ctx.Done():
		return r, nil, ctx.Err()
	}
	d.mu.Lock() // no reload or order comes between
	defer d.mu.Unlock()
	next, err := d.startSuccessor(ctx)
	if err != nil {
		d.log.WithError(err).Error("could not restart, so this process goes on")
		return r, nil, err
	}
	d.succession.begun = true
	if onlyStop {
		next.Kill() // it has shown that the next process can continue
		d.log.Info("this process ends, and leaves everything in place for the next one")
	} else {
		d.succession.started, r.PID = next, next.PID()
		d.log.Infof("process %d takes over from this one", next.PID())
	}
	return r, func() {
		if !onlyStop {
			d.threads.Hurry()
		}
		d.succession.end(router.ErrReplaced)
	}, nil
}

// startSuccessor returns a successor that is ready to take over.
func (d *instance) startSuccessor(ctx context.Context) (*process.Successor, error) {
	s := &d.succession
	select {
	case <-s.inPlace:
	default:
		return nil, errRestarting
	}
	if s.begun {
		return nil, errRestarting
	}
	if err := d.lasting(); err != nil {
		return nil, err
	}
	next, err := process.StartSuccessor(ctx, d.config.Predecessor == nil)
	if err != nil {
		return nil, err
	}
	states, err := d.loop.Status()
	if err != nil {
		next.Kill()
		return nil, err // this process ends
	}
	s.learnt = learntBy(states)
	return next, nil
}

// lasting returns the reason why an Active can't outlast this process.
func (d *instance) lasting() error {
	counts, err := d.loop.Count()
	if err != nil || counts[vrrp.Active] == 0 {
		return err
	}
	if why := d.dp.Temporary(); why != nil {
		return fmt.Errorf("nothing in the kernel outlives this process: %w; systemctl restart restarts with a failover", why)
	}
	return nil
}

// replace lets the successor take over, after the event loop and the keeper have ended. The Actives
// are advertised meanwhile. If the successor can't take over, this process starts again from the
// beginning, and takes over itself.
func (p *parts) replace() error {
	d := p.instance
	next := d.succession.started
	state := estate{Last: p.history.Last(), Orders: &d.book.current, Hooks: d.hooks.states(), Checks: d.tracks.tracker.Reports(), Learnt: d.succession.learnt}
	p.claims.close()
	err := errors.Join(p.journal.Close(), p.dp.Unlock())
	if next == nil {
		return p.stopOnly(&state, err)
	}
	if err == nil {
		err = next.TakeOver(state)
	} else {
		next.Kill()
	}
	if e := d.succession.stopAdvertising(); e != nil {
		p.log.WithError(e).Warn("could not advertise while the new process took over")
	}
	p.threads.Relax() // this process may go on
	if err != nil {
		p.log.WithError(err).Error("the new process could not take over, so this one starts over")
		state.Records = p.records()
		return fmt.Errorf("start over: %w", process.StartOver(state))
	}
	managed, err := process.NotifyMainPID(next.PID())
	if err != nil {
		p.log.WithError(err).Error("could not tell the service manager of the new process")
	}
	if err := next.Release(p.records()); err != nil {
		p.log.WithError(err).Warn("could not release the new process")
	}
	d.hooks.finish()
	return &Replaced{PID: next.PID(), Attend: !managed && p.config.Predecessor == nil}
}

// records returns the records for the next process.
func (p *parts) records() records {
	r := p.instance.succession.records
	r.Events = p.history.All()
	return r
}

// stopOnly leaves everything in place for the process that the service manager starts next. The
// Actives advertise until the end.
func (p *parts) stopOnly(state *estate, err error) error {
	state.Restarted, state.Records = true, p.records()
	err = errors.Join(err, process.LeaveEstate(p.config.RunDir, state))
	p.instance.hooks.finish()
	if err := errors.Join(err, p.instance.succession.stopAdvertising()); err != nil {
		p.log.WithError(err).Error("could not leave everything in place for the next process")
	}
	return &Replaced{}
}

// Replaced is the result of a Run whose process has a successor that works, or gets one from the
// service manager.
type Replaced struct {
	PID int // the process ID of the successor; 0: it isn't started yet
	// Attend is set if no service manager knows of the successor. Then this process has to stay
	// until that one ends. A successor that hands over need not, because the first process does.
	Attend bool
}

func (r *Replaced) Error() string {
	if r.PID == 0 {
		return "the next process takes over"
	}
	return fmt.Sprintf("process %d has taken over", r.PID)
}

// restarted reports whether the process before has ended for this one.
func (p *parts) restarted() bool { return p.config.Predecessor != nil || p.estate.Restarted }

// prepare reads what the process before has left, if it starts over or was only stopped. In a
// successor it loads the programs and finds out whether all Actives could be taken over, while the
// predecessor works. Then it waits until the predecessor has stopped.
func (p *parts) prepare() (err error) {
	pred := p.config.Predecessor
	if pred == nil {
		if err := process.Estate(p.config.RunDir, &p.estate); err != nil {
			p.log.WithError(err).Warn("could not read the orders and events that the process before has left")
			p.estate = estate{}
		}
		return nil
	}
	if p.namespace, err = link.NamespaceCookie(); err != nil {
		return err
	}
	prepared, remains, err := datapath.Prepare(p.datapathOptions())
	if err != nil {
		return err
	}
	p.legacy.prepared = prepared
	p.later(prepared.Close)
	journal, err := link.ChangesOfRun(p.config.RunDir, pred.PID())
	if err == nil {
		err = p.refusals(remains, journal)
	}
	if err := errors.Join(err, remains.Close()); err != nil {
		return err
	}
	p.prioritize()
	<-p.prioritized // from here on, the Actives wait for this process
	runtime.GC()    // no collection must stop the event loop in its first moments
	if err := pred.Prepared(p.ctx, &p.estate); err != nil {
		return err
	}
	p.snapshot, err = p.handle.Interfaces()
	return err
}

// refusals returns an error with the Actives that can't be taken over.
func (p *parts) refusals(r *datapath.Remains, journal link.Changes) error {
	_, refused := p.findHeirs(r, journal)
	var all []string
	for id, why := range refused {
		all = append(all, fmt.Sprintf("%s: %v", id, why))
	}
	slices.Sort(all)
	if len(all) == 0 {
		return nil
	}
	return fmt.Errorf("it could not continue as Active, because of %s; reload changes the configuration, and systemctl restart restarts with a failover", strings.Join(all, "; "))
}
