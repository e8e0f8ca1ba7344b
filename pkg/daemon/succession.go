// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/process"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/track"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// estate is what a process hands over to its successor, beside what is in the kernel.
type estate struct {
	Events []control.Event `json:"events"`
	Orders orders          `json:"orders"`
	Hooks  hookStates      `json:"hooks"`
	Checks []track.Report  `json:"checks"`
	Learnt []learnt        `json:"learnt"`
}

// learnt is the interval that a Backup has learnt from its Active.
type learnt struct {
	ID       plan.ID       `json:"id"`
	Interval time.Duration `json:"interval"`
}

func (e *estate) learnt() map[plan.ID]time.Duration {
	all := make(map[plan.ID]time.Duration, len(e.Learnt))
	for _, l := range e.Learnt {
		all[l.ID] = l.Interval
	}
	return all
}

// learntBy returns the intervals that Backups have learnt.
func learntBy(all []router.Status) (l []learnt) {
	for _, s := range all {
		if p := &s.Protocol; p.State == vrrp.Backup && p.Active.IsValid() {
			l = append(l, learnt{s.ID, p.Learnt})
		}
	}
	return l
}

// succession is the part of a daemon that starts its successor.
type succession struct {
	mu       sync.Mutex // held while a successor prepares itself
	started  *process.Successor
	learnt   []learnt                // at that time
	handOver context.CancelCauseFunc // ends the event loop
}

// prepare starts a successor that is ready to take over.
func (s *succession) prepare(ctx context.Context, first bool) (*process.Successor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started != nil {
		return nil, errors.New("a restart is under way already")
	}
	next, err := process.StartSuccessor(ctx, first)
	if err != nil {
		return nil, err
	}
	s.started = next
	return next, nil
}

// begin makes the parts end, so that the successor can take over.
func (s *succession) begin() { s.handOver(router.ErrHandedOver) }

// Restart implements control.Daemon.
func (d *instance) Restart(ctx context.Context) (r control.Restart, begin func(), err error) {
	d.mu.Lock() // no reload or order comes between
	defer d.mu.Unlock()
	err = d.lasting()
	var next *process.Successor
	if err == nil {
		next, err = d.succession.prepare(ctx, d.config.Predecessor == nil)
	}
	if err != nil {
		d.log.WithError(err).Error("could not restart, so this process goes on")
		return r, nil, err
	}
	states, err := d.loop.Status()
	if err != nil {
		next.Kill()
		return r, nil, err // this process ends
	}
	d.succession.learnt = learntBy(states)
	d.log.Infof("process %d takes over from this one", next.PID())
	return control.Restart{PID: next.PID()}, d.succession.begin, nil
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

// runRestarts restarts on each request, until ctx ends.
func (d *instance) runRestarts(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.config.Restart:
			if _, begin, err := d.Restart(ctx); err == nil {
				begin()
			}
		}
	}
}

// handOver lets the successor take over, after the event loop and the keeper have ended. If it
// can't, this process starts again from the beginning, and takes over itself.
func (p *parts) handOver() error {
	d := p.instance
	next := d.succession.started
	state := estate{Events: p.history.All(), Orders: d.book.current, Hooks: d.hooks.states(), Checks: d.tracks.tracker.Reports(), Learnt: d.succession.learnt}
	p.claims.close()
	err := errors.Join(p.journal.Close(), p.dp.Unlock())
	if err == nil {
		err = next.HandOver(state)
	} else {
		next.Kill()
	}
	if err != nil {
		p.log.WithError(err).Error("could not hand over, so this process continues")
		return fmt.Errorf("continue after the failed hand-over: %w", process.StartOver(state))
	}
	managed, err := process.NotifyMainPID(next.PID())
	if err != nil {
		p.log.WithError(err).Error("could not tell the service manager of the new process")
	}
	if err := next.Release(); err != nil {
		p.log.WithError(err).Warn("could not release the new process")
	}
	d.hooks.finish()
	return &HandedOver{PID: next.PID(), Attend: !managed && p.config.Predecessor == nil}
}

// HandedOver is the result of a Run whose process has handed over.
type HandedOver struct {
	PID int // the process ID of the successor
	// Attend is set if no service manager knows of the successor. Then this process has to stay
	// until that one ends. A successor that hands over need not, because the first process does.
	Attend bool
}

func (h *HandedOver) Error() string { return fmt.Sprintf("process %d has taken over", h.PID) }

// prepare reads what a failed hand-over has left. In a successor it loads the programs and finds out whether all Actives could be taken over, while the
// predecessor works. Then it waits until the predecessor has handed over.
func (p *parts) prepare() (err error) {
	pred := p.config.Predecessor
	if pred == nil {
		return process.Estate(&p.estate)
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
