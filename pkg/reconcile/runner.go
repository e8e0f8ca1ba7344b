// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"maps"
	"time"

	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// Executor owns one kind of what failoverd has on a host: it tells what there is, and
// carries out steps.
type Executor interface {
	// Look completes the picture with what there is. The host is what was wanted last,
	// nil at the beginning.
	Look(want *plan.Target, now *plan.Picture) error
	// Do carries out steps of one verb, and returns the error of each.
	Do(steps []Step) []error
}

// The time after which a step that failed is tried again: the first time, and at most.
const (
	RetryLeast = time.Second
	RetryMost  = 10 * time.Second
)

// rounds bounds how often the picture is compared in one go: what isn't right by then
// waits for the next event.
const rounds = 12

// Failure is a step that failed, and wasn't possible since.
type Failure struct {
	Verb Verb
	Err  error
	next vrrp.Instant // when it is tried again
	wait time.Duration
}

// Runner brings the host to what a plan asks of it. Its methods are called by one
// goroutine.
type Runner struct {
	looks      []Executor
	do         [verbs]Executor
	conditions plan.Conditions
	failed     map[any]*Failure
	devices    map[plan.ID]deviceFailure
	want       *plan.Target
	now        *plan.Picture
}

// deviceFailure is that of a macvlan that a Virtual Router can do without.
type deviceFailure struct {
	v   *plan.VirtualRouter
	err error
}

// New returns a Runner. Its executors look in the order in which they are given, each
// once, whatever verbs it has.
func New(c plan.Conditions, looks []Executor, do map[Verb]Executor) *Runner {
	r := &Runner{looks: looks, conditions: c, failed: make(map[any]*Failure), devices: make(map[plan.ID]deviceFailure)}
	for v, e := range do {
		r.do[v] = e
	}
	return r
}

// Result is what a run has come to.
type Result struct {
	Want *plan.Target
	Now  *plan.Picture
	// Failed are the steps that failed, by what they are for: a plan.ID, the name of a
	// port, or something else that has no router.
	Failed map[any]*Failure
	// Next is when something is to be tried again; 0: nothing.
	Next vrrp.Instant
	// Settled says that the host is as it must be, but for what failed.
	Settled bool
}

// Run compares and does steps until the host is as the plan wants it, or a step has to
// wait.
func (r *Runner) Run(p *plan.Plan, clock func() vrrp.Instant) (Result, error) {
	settled := false
	forgotten := make(map[any]bool)
	for n := 0; n < rounds && !settled; n++ {
		if err := r.look(p); err != nil {
			return Result{}, err
		}
		before := len(forgotten)
		steps := r.due(Diff(r.want, r.now), clock(), forgotten)
		settled = len(steps) == 0 && len(forgotten) == before
		if n == rounds-1 && !settled {
			break // it is only looked what there is
		}
		r.carryOut(steps, clock)
	}
	result := Result{Want: r.want, Now: r.now, Failed: maps.Clone(r.failed), Settled: settled}
	for _, f := range r.failed {
		if result.Next == 0 || f.next < result.Next {
			result.Next = f.next
		}
	}
	return result, nil
}

// Retry has everything that failed tried at once.
func (r *Runner) Retry() { clear(r.failed) }

// Plan returns the steps that would be carried out next for a plan, without doing any.
func (r *Runner) Plan(p *plan.Plan) ([]Step, error) {
	if err := r.look(p); err != nil {
		return nil, err
	}
	return Diff(r.want, r.now), nil
}

// look takes a picture, and decides what is wanted.
func (r *Runner) look(p *plan.Plan) error {
	r.now = &plan.Picture{
		Ports: make(map[string]plan.OpenPort), Installed: make(map[plan.ID]*plan.Installed), Journal: make(map[plan.Note]bool), Held: make(map[plan.Note]bool),
		MissingSettings: make(map[string][]link.Setting), AppliedSettings: make(map[link.Setting]bool),
	}
	for _, e := range r.looks {
		if err := e.Look(r.want, r.now); err != nil {
			return err
		}
	}
	failures := &plan.Failures{Ports: make(map[string]error), VirtualRouters: make(map[plan.ID]error), Macvlans: make(map[plan.ID]error)}
	for subject, f := range r.failed {
		switch subject := subject.(type) {
		case string:
			failures.Ports[subject] = f.Err
		case plan.ID:
			failures.VirtualRouters[subject] = f.Err
		}
	}
	for id, f := range r.devices {
		if _, open := r.now.Ports[id.Interface]; !open || p.VirtualRouter(id) != f.v {
			delete(r.devices, id) // it may be possible now
			continue
		}
		failures.Macvlans[id] = f.err
	}
	r.want = plan.Desired(p, r.conditions, r.now, failures)
	return nil
}

// due leaves out the steps for what failed lately. What fails no more, or is wanted no
// more, is forgotten, and noted as that: what is wanted was decided as long as it failed.
func (r *Runner) due(steps []Step, now vrrp.Instant, forgotten map[any]bool) []Step {
	var due []Step
	wanted := make(map[any]bool, len(r.failed))
	for i := range steps {
		s := &steps[i]
		f := r.failed[s.subject()]
		if f == nil {
			due = append(due, *s)
			continue
		}
		wanted[s.subject()] = true
		if f.next <= now {
			due = append(due, *s)
		}
	}
	for subject := range r.failed {
		if !wanted[subject] {
			delete(r.failed, subject)
			forgotten[subject] = true
		}
	}
	return due
}

// carryOut does steps. After one that fails, the others for the same are left.
func (r *Runner) carryOut(steps []Step, clock func() vrrp.Instant) {
	skip := make(map[any]bool)
	succeeded := make(map[any]bool)
	for len(steps) > 0 {
		n := 1
		for n < len(steps) && steps[n].Verb == steps[0].Verb {
			n++
		}
		var batch []Step
		for _, s := range steps[:n] {
			if !skip[s.subject()] && (s.PortName == "" || !skip[s.PortName]) {
				batch = append(batch, s)
			}
		}
		steps = steps[n:]
		if len(batch) == 0 {
			continue
		}
		for i, err := range r.do[batch[0].Verb].Do(batch) {
			subject := batch[i].subject()
			if err == nil {
				succeeded[subject] = true
				continue
			}
			skip[subject] = true
			r.fail(&batch[i], err, clock())
		}
	}
	for subject := range succeeded {
		if f := r.failed[subject]; f != nil && !skip[subject] {
			delete(r.failed, subject)
		}
	}
}

// fail notes that a step has failed.
func (r *Runner) fail(s *Step, err error, now vrrp.Instant) {
	if s.Verb == Make && s.V != nil && s.V.Router.VirtualMAC == "auto" {
		r.devices[s.ID] = deviceFailure{s.V, err}
		return // it does without
	}
	f := r.failed[s.subject()]
	if f == nil {
		f = &Failure{wait: RetryLeast / 2}
		r.failed[s.subject()] = f
	}
	f.wait = min(2*f.wait, RetryMost)
	f.Verb, f.Err, f.next = s.Verb, err, now.Add(f.wait)
}
