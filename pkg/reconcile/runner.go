// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"maps"
	"slices"
	"time"

	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// Executor is responsible for one kind of thing that failoverd has on the host. It reports what
// exists, and carries out steps.
type Executor interface {
	// Look adds what exists to the picture. want is the target of the last comparison, nil at the
	// beginning.
	Look(want *plan.Target, now *plan.Picture) error
	// Do carries out steps of one verb, and returns one error for each.
	Do(steps []*Step) []error
}

// The delay before a failed step is tried again: RetryLeast at first, doubled each time up to
// RetryMost.
const (
	RetryLeast = time.Second
	RetryMost  = 10 * time.Second
)

// maxRounds bounds the number of comparisons in one Run. What isn't done by then waits for the
// next event.
const maxRounds = 12

// Failure is a step that failed and has not succeeded since.
type Failure struct {
	Verb Verb
	Err  error
	next vrrp.Instant // the time of the next try
	wait time.Duration
}

// Runner brings the host to the target of a plan. It isn't safe for concurrent use.
type Runner struct {
	looks      []Executor
	do         [verbCount]Executor
	conditions plan.Conditions
	failed     map[any]*Failure
	macvlans   map[plan.ID]macvlanFailure
	want       *plan.Target
	now        *plan.Picture
}

// macvlanFailure is the error of a macvlan that a Virtual Router can do without.
type macvlanFailure struct {
	v   *plan.VirtualRouter
	err error
}

// New returns a Runner. It calls Look of the given executors in their order, once for each
// picture.
func New(c plan.Conditions, looks []Executor, do map[Verb]Executor) *Runner {
	r := &Runner{looks: looks, conditions: c, failed: make(map[any]*Failure), macvlans: make(map[plan.ID]macvlanFailure)}
	for v, e := range do {
		r.do[v] = e
	}
	return r
}

// Result is the result of a Run.
type Result struct {
	Want *plan.Target
	Now  *plan.Picture
	// Failed has the failures by subject: a plan.ID, the name of a port, or another value if
	// neither is concerned.
	Failed map[any]*Failure
	// Next is the time of the next try of a failed step; 0 if there is none.
	Next vrrp.Instant
	// Settled is set if nothing is left to do except for failed steps.
	Settled bool
}

// Run compares and carries out steps until the host has the state of the target, or only failed
// steps and steps that have to wait are left.
func (r *Runner) Run(p *plan.Plan, clock func() vrrp.Instant) (Result, error) {
	settled := false
	forgotten := make(map[any]bool)
	for n := 0; n < maxRounds && !settled; n++ {
		if err := r.look(p); err != nil {
			return Result{}, err
		}
		before := len(forgotten)
		steps := r.due(Diff(r.want, r.now), clock(), forgotten)
		settled = len(steps) == 0 && len(forgotten) == before
		if n == maxRounds-1 && !settled {
			break // the last round only takes the picture for the result
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

// Retry makes the next Run try all failed steps at once.
func (r *Runner) Retry() { clear(r.failed) }

// Plan returns the next steps for a plan without carrying them out.
func (r *Runner) Plan(p *plan.Plan) ([]*Step, error) {
	if err := r.look(p); err != nil {
		return nil, err
	}
	return Diff(r.want, r.now), nil
}

// look takes a picture, and decides on the target.
func (r *Runner) look(p *plan.Plan) error {
	r.now = &plan.Picture{
		Ports: make(map[string]plan.OpenPort), Installed: make(map[plan.ID]*plan.Installed, len(p.VirtualRouters)), Journal: make(map[plan.Note]bool), Held: make(map[plan.Note]bool),
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
	for id, f := range r.macvlans {
		if _, open := r.now.Ports[id.Interface]; !open || p.VirtualRouter(id) != f.v {
			delete(r.macvlans, id) // try again with the new configuration or port
			continue
		}
		failures.Macvlans[id] = f.err
	}
	r.want = plan.Desired(p, r.conditions, r.now, failures)
	return nil
}

// due returns the steps without those that failed recently. A failure whose step isn't needed any
// more is removed, and its subject added to forgotten, because the target was decided while the
// failure existed.
func (r *Runner) due(steps []*Step, now vrrp.Instant, forgotten map[any]bool) []*Step {
	if len(r.failed) == 0 {
		return steps
	}
	var due []*Step
	wanted := make(map[any]bool, len(r.failed))
	for _, s := range steps {
		f := r.failed[s.subject()]
		if f == nil {
			due = append(due, s)
			continue
		}
		wanted[s.subject()] = true
		if f.next <= now {
			due = append(due, s)
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

// carryOut carries out steps. After a failure it skips the later steps for the same subject or
// port.
func (r *Runner) carryOut(steps []*Step, clock func() vrrp.Instant) {
	skip := make(map[any]bool)
	succeeded := make(map[any]bool)
	for len(steps) > 0 {
		n := 1
		for n < len(steps) && steps[n].Verb == steps[0].Verb {
			n++
		}
		batch := steps[:n]
		if len(skip) > 0 {
			batch = slices.DeleteFunc(batch, func(s *Step) bool { return skip[s.subject()] || s.PortName != "" && skip[s.PortName] })
		}
		steps = steps[n:]
		if len(batch) == 0 {
			continue
		}
		for i, err := range r.do[batch[0].Verb].Do(batch) {
			if err == nil && len(r.failed) == 0 {
				continue
			}
			subject := batch[i].subject()
			if err == nil {
				succeeded[subject] = true
				continue
			}
			skip[subject] = true
			r.fail(batch[i], err, clock())
		}
	}
	for subject := range succeeded {
		if f := r.failed[subject]; f != nil && !skip[subject] {
			delete(r.failed, subject)
		}
	}
}

// fail records a failed step.
func (r *Runner) fail(s *Step, err error, now vrrp.Instant) {
	if s.Verb == Make && s.V != nil && s.V.Router.VirtualMAC == "auto" {
		r.macvlans[s.ID] = macvlanFailure{s.V, err}
		return // the router continues without a virtual MAC
	}
	f := r.failed[s.subject()]
	if f == nil {
		f = &Failure{wait: RetryLeast / 2}
		r.failed[s.subject()] = f
	}
	f.wait = min(2*f.wait, RetryMost)
	f.Verb, f.Err, f.next = s.Verb, err, now.Add(f.wait)
}
