// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/failoverd/failoverd/pkg/script"
)

// maxPrograms is the maximum number of hooks of all routers together that run at once.
const maxPrograms = 32

// Runner runs a program until it ends, its time limit is reached or ctx ends.
type Runner interface {
	Run(ctx context.Context, c script.Command) script.Result
}

// Config is the configuration of a Dispatcher.
type Config struct {
	// Hooks has the hooks of each Subject, in the order in which they run.
	Hooks map[Subject][]Hook
	// Common hooks run for every Subject, after its own hooks.
	Common []Hook
	// User is the user that hooks run as, nil for the user of this process.
	User *script.Credential
	// Insecure allows programs that other users may change.
	Insecure bool
	// FIFO gets a line for each Event; nil for none. The caller closes it.
	FIFO *FIFO
}

// hooks returns the hooks of a Subject.
func (c *Config) hooks(s Subject) []Hook { return slices.Concat(c.Hooks[s], c.Common) }

// Dispatcher runs hooks. Its methods may be called from any goroutine.
type Dispatcher struct {
	runner Runner
	report func(Run)
	slots  chan struct{}

	// Programs that started before Close use the context now, later ones use last.
	now, last       context.Context
	endNow, endLast context.CancelFunc
	workers         sync.WaitGroup
	mu              sync.Mutex
	config          Config
	problems        map[string]string // of each program's path
	queues          map[Subject]*queue
	leaving, closed bool
	check           func(path string, user *script.Credential) error
}

// queue has the work for one Subject.
type queue struct {
	subject Subject
	working bool
	pending *job
	running string // the setting of the hook that runs
	state   State  // the state that it runs for
	since   time.Time
	last    map[string]*Run // the last run of each setting
	skipped uint64
	runs    map[Outcome]uint64
}

// job is an Event and the hooks to run for it.
type job struct {
	event   Event
	hooks   []Hook
	user    *script.Credential
	allow   bool // allow programs that other users may change
	skipped int  // number of events that it replaced
}

// New returns a Dispatcher without hooks. It calls report after each run. report must not
// block.
func New(runner Runner, report func(Run)) *Dispatcher {
	d := &Dispatcher{
		runner: runner, report: report, check: script.Check,
		slots: make(chan struct{}, maxPrograms), queues: make(map[Subject]*queue),
	}
	d.now, d.endNow = context.WithCancel(context.Background())
	d.last, d.endLast = context.WithCancel(context.Background())
	return d
}

// Configure sets the configuration for later events. It checks the programs, and returns an
// error for each that can't run. It forgets the runs of subjects without an entry in c.Hooks.
func (d *Dispatcher) Configure(c Config) []error {
	problems := make(map[string]string)
	var wrong []error
	check := func(hooks []Hook) {
		for _, h := range hooks {
			path := h.Command[0]
			if _, known := problems[path]; known {
				continue
			}
			problems[path] = ""
			if err := d.examine(path, c.User, c.Insecure); err != nil {
				problems[path] = err.Error()
				wrong = append(wrong, err)
			}
		}
	}
	for _, hooks := range c.Hooks {
		check(hooks)
	}
	check(c.Common)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.config, d.problems = c, problems
	for s, q := range d.queues {
		if _, wanted := c.Hooks[s]; !wanted && !q.working {
			delete(d.queues, s)
		}
	}
	return wrong
}

// Notify queues the hooks of an event. It never blocks. The events of a Subject are handled in
// order, and the next event that has hooks replaces one that waits. Only a change of state may
// replace another one.
func (d *Dispatcher) Notify(e Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	if d.config.FIFO != nil {
		d.config.FIFO.put(e.line())
	}
	hooks := slices.DeleteFunc(d.config.hooks(e.Subject), func(h Hook) bool { return !h.matches(&e) })
	if len(hooks) == 0 {
		return
	}
	q := d.queues[e.Subject]
	if q == nil {
		q = &queue{subject: e.Subject, last: make(map[string]*Run), runs: make(map[Outcome]uint64)}
		d.queues[e.Subject] = q
	}
	j := &job{event: e, hooks: hooks, user: d.config.User, allow: d.config.Insecure}
	if waiting := q.pending; waiting != nil {
		j.skipped = waiting.skipped
		if waiting.event.changes() {
			if !e.changes() {
				return
			}
			j.skipped++
			q.skipped++
		}
	}
	q.pending = j
	if !q.working {
		q.working = true
		d.workers.Go(func() { d.work(q) })
	}
}

// work runs the hooks of a Subject until no event waits.
func (d *Dispatcher) work(q *queue) {
	for {
		d.mu.Lock()
		j := q.pending
		q.pending = nil
		if j == nil {
			q.working = false
			if _, wanted := d.config.Hooks[q.subject]; !wanted {
				delete(d.queues, q.subject)
			}
			d.mu.Unlock()
			return
		}
		d.mu.Unlock()
		for i := range j.hooks {
			if d.outdated(q) {
				break
			}
			d.runHook(q, j, &j.hooks[i])
		}
	}
}

// outdated reports whether the Dispatcher is closing and a later event waits.
func (d *Dispatcher) outdated(q *queue) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.leaving && q.pending != nil
}

// runHook waits for a slot, runs one hook and records the run.
func (d *Dispatcher) runHook(q *queue, j *job, h *Hook) {
	d.mu.Lock()
	ctx := d.now
	if d.leaving {
		ctx = d.last
	}
	d.mu.Unlock()
	args := h.arguments(&j.event)
	run := Run{
		Subject: q.subject, Setting: h.Setting, State: j.event.State, Command: script.Join(args),
		Started: time.Now(), Skipped: j.skipped,
	}
	begun := false
	if ctx.Err() == nil {
		select {
		case d.slots <- struct{}{}:
			begun = true
		case <-ctx.Done():
		}
	}
	if begun {
		d.mu.Lock()
		q.running, q.state, q.since = h.Setting, j.event.State, time.Now()
		d.mu.Unlock()
		d.run(ctx, &run, j, h, args)
		<-d.slots
	} else {
		run.Outcome, run.Text = Stopped, "not started, because other hooks used up the time limit of the shutdown"
	}
	d.mu.Lock()
	q.running = ""
	q.last[h.Setting] = &run
	q.runs[run.Outcome]++
	d.mu.Unlock()
	d.report(run)
}

// run runs the program of a hook, if that is allowed.
func (d *Dispatcher) run(ctx context.Context, run *Run, j *job, h *Hook, args []string) {
	if err := d.examine(args[0], j.user, j.allow); err != nil {
		run.Outcome, run.Text = Failed, err.Error()
		if errors.Is(err, script.ErrInsecure) {
			run.Outcome = Refused
		}
		return
	}
	all, err := document(&j.event, j.skipped)
	var env []string
	var input []byte
	if err == nil {
		env, input, err = environment(all)
	}
	if err != nil {
		run.Outcome, run.Text = Failed, "encode the event as JSON: "+err.Error()
		return
	}
	result := d.runner.Run(ctx, script.Command{
		Args: args, Env: env, User: j.user, Stdin: append(input, '\n'), Timeout: h.Timeout,
	})
	run.record(&result)
}

// examine returns the reason why a program may not run, or nil.
func (d *Dispatcher) examine(path string, user *script.Credential, insecure bool) error {
	err := d.check(path, user)
	if insecure && errors.Is(err, script.ErrInsecure) {
		return nil
	}
	return err
}

func stopped(err error) bool { return errors.Is(err, context.Canceled) }

// Report returns the state of the hooks of a Subject.
func (d *Dispatcher) Report(s Subject) Report {
	d.mu.Lock()
	defer d.mu.Unlock()
	var r Report
	q := d.queues[s]
	for _, h := range d.config.hooks(s) {
		state := HookState{Setting: h.Setting, Command: script.Join(h.Command), Problem: d.problems[h.Command[0]]}
		if q != nil && q.running == h.Setting {
			state.Running, state.Since = q.state, q.since
		}
		if q != nil && q.last[h.Setting] != nil {
			run := *q.last[h.Setting]
			state.Last = &run
		}
		r.Hooks = append(r.Hooks, state)
	}
	if q == nil {
		return r
	}
	r.Skipped, r.Runs = q.skipped, make(map[Outcome]uint64)
	for outcome, n := range q.runs {
		r.Runs[outcome] = n
	}
	return r
}

// Close stops taking events and waits for the remaining hooks, at most for limit. Hooks that
// run already are killed after half of it, so that hooks that wait for them can run too. When
// the limit is reached or hurry is closed, all are killed.
func (d *Dispatcher) Close(limit time.Duration, hurry <-chan struct{}) {
	d.mu.Lock()
	d.leaving, d.closed = true, true
	d.mu.Unlock()
	half := time.AfterFunc(limit/2, d.endNow)
	defer half.Stop()
	whole := time.NewTimer(limit)
	defer whole.Stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.workers.Wait()
	}()
	select {
	case <-done:
	case <-hurry:
	case <-whole.C:
	}
	d.endNow()
	d.endLast()
	<-done
}
