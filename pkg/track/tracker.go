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
	// spread is the most that is between the first looks of two checks.
	spread = 5 * time.Millisecond
	// mostScripts and mostOthers are how many looks there are at once at most.
	mostScripts = 256
	mostOthers  = 1024
	// grace is how long after its time limit a look may still end.
	grace = 2 * time.Second
)

// Look looks once at what a check is about.
type look func(context.Context, Check) outcome

// Tracker runs checks. Its methods may be called from any goroutine.
type Tracker struct {
	look    look
	sources func(context.Context) error // tells of changes
	report  func(Report)
	wake    chan struct{}

	mu      sync.Mutex
	watched map[string]*watched
	due     queue
	waiting [2][]*watched // until others have ended
	running [2]int
	news    []Report
}

// watched is a check with its state.
type watched struct {
	check Check
	counter
	at      time.Time // of the next look; while one runs, when it is overdue
	planned time.Time // when the next look was due: the pace is kept
	index   int       // in the queue, -1: not there
	queued  bool      // waits until others have ended
	running bool
	again   bool // something has changed while it was looked at
	gone    bool
	cancel  context.CancelFunc
}

// New returns a Tracker that looks at the host with s. Each change is reported:
// the first look, another state, another number. Reports come one after the
// other, and must not wait for the Tracker.
func New(s Sources, report func(Report)) *Tracker {
	l := newLooks(s)
	t := newTracker(l.look, report)
	l.tell(t)
	t.sources = l.run
	return t
}

func newTracker(l look, report func(Report)) *Tracker {
	return &Tracker{look: l, report: report, wake: make(chan struct{}, 1), watched: make(map[string]*watched)}
}

// Set has these checks watched and no others. One that was there before and is
// unchanged goes on as if nothing had happened.
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
		w.report = Report{Name: c.Name, Kind: c.Kind, Since: now, Text: "not looked at yet"}
		if c.InitFail {
			w.report.State, w.report.Text = Down, "it is taken for down until it has been good"
			t.news = append(t.news, w.report)
		}
		t.watched[c.Name] = w
		w.planned = now.Add(time.Duration(i) * min(spread, c.Interval/time.Duration(len(checks))))
		t.schedule(w, w.planned)
	}
	for name, w := range t.watched {
		if !wanted[name] {
			t.drop(w)
			delete(t.watched, name)
		}
	}
	t.signal()
}

// drop forgets a check. If it is being looked at, that is ended.
func (t *Tracker) drop(w *watched) {
	w.gone = true
	if w.index >= 0 {
		heap.Remove(&t.due, w.index)
	}
	if w.cancel != nil {
		w.cancel()
	}
}

// Poke has checks looked at now, those for which which is true.
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
			t.schedule(w, now)
		}
	}
	t.signal()
}

// Reports says what is known of all checks, by name.
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

// Run looks until ctx ends, and returns when the last look has ended.
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

// begin begins the looks that are due, and returns the time until the next one.
func (t *Tracker) begin(ctx context.Context, looks *sync.WaitGroup) time.Duration {
	now := time.Now()
	for len(t.due) > 0 && !t.due[0].at.After(now) {
		w := t.due[0]
		heap.Pop(&t.due)
		if w.running {
			// It was ended at its limit, or should have been.
			t.take(w, bad("it doesn't end, although its time is over"), now)
			t.schedule(w, now.Add(w.check.Interval))
			continue
		}
		w.queued = true
		c := class(w.check.Kind)
		t.waiting[c] = append(t.waiting[c], w)
	}
	for c, most := range []int{mostScripts, mostOthers} {
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
		if w.check.Kind != Script { // the runner has the limit
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

// next plans the next look.
func (t *Tracker) next(w *watched) {
	now := time.Now()
	switch {
	case w.again:
		t.schedule(w, now)
	case w.check.Kind.told() && !w.pending():
		if w.index >= 0 {
			heap.Remove(&t.due, w.index)
		}
	default:
		every := w.check.Interval
		w.planned = w.planned.Add(every)
		// One that took its whole interval is looked at again at once; where
		// more is lost, looks are left out and the pace is kept.
		if late := now.Sub(w.planned); late > every/10 {
			w.planned = w.planned.Add(late.Truncate(every) + every)
		} else if late < -every { // it was poked
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

// take takes what a look has found.
func (t *Tracker) take(w *watched, o outcome, now time.Time) {
	if w.feed(w.check, o, now) {
		t.news = append(t.news, w.report)
	}
}

func (t *Tracker) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// queue is a heap of checks, the next one first.
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
