// SPDX-License-Identifier: Apache-2.0

package track

import (
	"cmp"
	"container/heap"
	"context"
	"reflect"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// spread is the maximum time between the first runs of two checks.
	spread = 5 * time.Millisecond
	// maxScripts and maxOthers are the maximum numbers of checks that run at once.
	maxScripts = 256
	maxOthers  = 1024
	// grace is the time after its time limit in which a run may still end.
	grace = 2 * time.Second
)

// look runs a check once.
type look func(context.Context, Check) outcome

// Tracker runs checks. Its methods may be called from any goroutine.
type Tracker struct {
	look    look
	sources func(context.Context) error // calls Poke for changes until its context ends
	report  func(Report)
	wake    chan struct{}

	mu      sync.Mutex
	watched map[string]*watched
	due     queue
	waiting [2][]*watched // checks that are due, while too many others run
	running [2]int
	news    []Report
	assumed map[string]Report // see Assume
}

// watched is a check with its state.
type watched struct {
	check Check
	counter
	at      time.Time // of the next run; during a run, the time at which it is overdue
	planned time.Time // of the next run without delays, which keeps the pace
	index   int       // in the queue, or -1
	queued  bool      // is in waiting
	running bool
	again   bool // run again at once, because of a Poke during the run
	poked   bool // a Poke causes the present or the next run
	gone    bool
	cancel  context.CancelFunc
}

// New returns a Tracker that runs checks on the host with s. It reports each change: the first
// result, another state, another number. report is called from one goroutine and must not wait
// for the Tracker.
func New(s Sources, report func(Report)) *Tracker {
	l := newLooks(s)
	t := newTracker(l.look, report)
	l.notify(t)
	t.sources = l.run
	return t
}

func newTracker(l look, report func(Report)) *Tracker {
	return &Tracker{look: l, report: report, wake: make(chan struct{}, 1), watched: make(map[string]*watched)}
}

// Assume makes the checks of the first Set begin with these results, which another process had,
// instead of without one.
func (t *Tracker) Assume(results []Report) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.assumed = make(map[string]Report, len(results))
	for _, r := range results {
		t.assumed[r.Name] = r
	}
}

// Set replaces the checks. A check that was there before and is unchanged goes on.
func (t *Tracker) Set(checks []Check) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	wanted := make(map[string]bool, len(checks))
	for i, c := range checks {
		wanted[c.Name] = true
		if before := t.watched[c.Name]; before != nil {
			if reflect.DeepEqual(before.check, c) {
				continue
			}
			t.drop(before)
		}
		w := &watched{check: c, index: -1}
		w.report = Report{Name: c.Name, Kind: c.Kind, Since: now, Text: "not run yet"}
		if r := t.assumed[c.Name]; r.Kind == c.Kind && r.State != Unknown {
			w.report, w.looked = r, true
		} else if c.InitFail {
			w.report.State, w.report.Text = Down, "down until the first good result"
			t.news = append(t.news, w.report)
		}
		t.watched[c.Name] = w
		w.planned = now.Add(time.Duration(i) * min(spread, c.Interval/time.Duration(len(checks))))
		t.schedule(w, w.planned)
	}
	t.assumed = nil
	for name, w := range t.watched {
		if !wanted[name] {
			t.drop(w)
			delete(t.watched, name)
		}
	}
	t.signal()
}

// drop removes a check, and cancels its run.
func (t *Tracker) drop(w *watched) {
	w.gone = true
	if w.index >= 0 {
		heap.Remove(&t.due, w.index)
	}
	if w.cancel != nil {
		w.cancel()
	}
}

// Poke runs the checks for which which returns true at once. A check that is running runs again.
func (t *Tracker) Poke(which func(Check) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	for _, w := range t.watched {
		switch {
		case !which(w.check):
		case w.running:
			w.again = true
		case !w.queued:
			w.poked = true
			t.schedule(w, now)
		}
	}
	t.signal()
}

// Reports returns the reports of all checks, sorted by name.
func (t *Tracker) Reports() []Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]Report, 0, len(t.watched))
	for _, w := range t.watched {
		all = append(all, w.report)
	}
	slices.SortFunc(all, func(a, b Report) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Run runs the checks until ctx ends, and returns when the last run has ended.
func (t *Tracker) Run(ctx context.Context) error {
	parts, ctx := errgroup.WithContext(ctx)
	if t.sources != nil {
		parts.Go(func() error { return t.sources(ctx) })
	}
	parts.Go(func() error { return t.run(ctx) })
	return parts.Wait()
}

func (t *Tracker) run(ctx context.Context) error {
	var looks sync.WaitGroup
	defer looks.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		t.mu.Lock()
		wait := t.begin(ctx, &looks)
		news := t.news
		t.news = nil
		t.mu.Unlock()
		for _, r := range news {
			t.report(r)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-t.wake:
		case <-timer.C:
		}
	}
}

// begin starts the checks that are due, and returns the time until the next one is.
func (t *Tracker) begin(ctx context.Context, looks *sync.WaitGroup) time.Duration {
	now := time.Now()
	for len(t.due) > 0 && !t.due[0].at.After(now) {
		w := t.due[0]
		heap.Pop(&t.due)
		if w.running {
			// It was canceled at its time limit, but goes on.
			t.take(w, bad("it doesn't end at its time limit"), now)
			t.schedule(w, now.Add(w.check.Interval))
			continue
		}
		w.queued = true
		c := class(w.check.Kind)
		t.waiting[c] = append(t.waiting[c], w)
	}
	for c, most := range []int{maxScripts, maxOthers} {
		for len(t.waiting[c]) > 0 && t.running[c] < most {
			w := t.waiting[c][0]
			t.waiting[c] = t.waiting[c][1:]
			w.queued = false
			if !w.gone {
				t.start(ctx, w, now, looks)
			}
		}
	}
	if len(t.due) == 0 {
		return time.Hour
	}
	return max(t.due[0].at.Sub(now), 0)
}

func class(k Kind) int {
	if k == Script {
		return 0
	}
	return 1
}

func (t *Tracker) start(ctx context.Context, w *watched, now time.Time, looks *sync.WaitGroup) {
	ctx, w.cancel = context.WithCancel(ctx)
	w.running, w.again = true, false
	c := class(w.check.Kind)
	t.running[c]++
	t.schedule(w, now.Add(w.check.Timeout+grace))
	looks.Go(func() {
		begun := time.Now()
		limited, cancel := ctx, context.CancelFunc(func() {})
		if w.check.Kind != Script { // the runner applies the limit to scripts
			limited, cancel = context.WithTimeout(ctx, w.check.Timeout)
		}
		o := t.look(limited, w.check)
		cancel()
		ended := ctx.Err() != nil
		o.took = time.Since(begun)
		t.mu.Lock()
		defer t.mu.Unlock()
		t.running[c]--
		w.running = false
		w.cancel()
		if w.cancel = nil; !w.gone && !ended {
			t.take(w, o, time.Now())
			t.next(w)
		}
		t.signal()
	})
}

// next schedules the next run.
func (t *Tracker) next(w *watched) {
	now := time.Now()
	w.poked = w.again
	switch {
	case w.again:
		t.schedule(w, now)
	case w.check.Kind.pushed() && !w.pending():
		if w.index >= 0 {
			heap.Remove(&t.due, w.index)
		}
	default:
		every := w.check.Interval
		w.planned = w.planned.Add(every)
		// A check that took its whole interval runs again at once. If it is later than
		// that, runs are skipped and the pace is kept.
		if late := now.Sub(w.planned); late > every/10 {
			w.planned = w.planned.Add(late.Truncate(every) + every)
		} else if late < -every { // the run was an extra one by Poke
			w.planned = w.planned.Add(-every)
		}
		t.schedule(w, w.planned)
	}
}

func (t *Tracker) schedule(w *watched, at time.Time) {
	if w.at = at; w.index >= 0 {
		heap.Fix(&t.due, w.index)
	} else {
		heap.Push(&t.due, w)
	}
}

// take adds a result, and queues a report if it changes something.
func (t *Tracker) take(w *watched, o outcome, now time.Time) {
	if w.feed(w.check, o, now, w.poked) {
		t.news = append(t.news, w.report)
	}
}

func (t *Tracker) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// queue is a heap of checks, ordered by the time of their next run.
type queue []*watched

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queue) Push(x any) {
	w := x.(*watched)
	w.index = len(*q)
	*q = append(*q, w)
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	w := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	w.index = -1
	return w
}
