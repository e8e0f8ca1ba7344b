// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/failoverd/failoverd/pkg/routing"
)

// guardInterval is the interval at which the worker checks routes and rules.
const guardInterval = time.Second

// Job is a change of an interface's addresses.
type Job struct {
	Ifindex  int
	Assign   bool // false: release
	Prefixes []netip.Prefix
	// Owner selects the routing set (see Worker.Route) that is added after the addresses
	// and removed before them; nil for none.
	Owner any
	Done  func(error)
}

// Worker changes addresses, one job after the other. It works in its own goroutine, because
// rtnetlink may wait a long time for a lock of the kernel.
type Worker struct {
	handle       *Handle
	wake         chan struct{}
	report       func(owner any, missing []fmt.Stringer, err error)
	notifyPlaced func(p routing.Placed, there bool)

	mu      sync.Mutex
	jobs    []Job
	settled []func()
	devices map[int]bool        // the indexes given to Adopt
	routing map[any]routing.Set // by owner, the set given to Route

	held      map[any]routing.Set // the sets of the owners that have their addresses now
	published []routing.Set       // a copy of held, guarded by mu
}

// NewWorker returns a Worker that changes addresses through handle. Run calls report when
// something of an owner's routing set has disappeared, or can't be added or removed. It calls
// placed after an address of a routing set was added, and before one is removed. Both
// functions may be nil and must not block.
func NewWorker(handle *Handle, report func(owner any, missing []fmt.Stringer, err error), placed func(p routing.Placed, there bool)) *Worker {
	if report == nil {
		report = func(any, []fmt.Stringer, error) {}
	}
	if placed == nil {
		placed = func(routing.Placed, bool) {}
	}
	return &Worker{
		handle: handle, wake: make(chan struct{}, 1), report: report, notifyPlaced: placed,
		devices: make(map[int]bool), routing: make(map[any]routing.Set), held: make(map[any]routing.Set),
	}
}

// Adopt makes the worker bring a Device up before it assigns addresses to it, and take it
// down after it releases them.
func (w *Worker) Adopt(ifindex int) {
	w.mu.Lock()
	w.devices[ifindex] = true
	w.mu.Unlock()
}

// Forget ends what Adopt began.
func (w *Worker) Forget(ifindex int) {
	w.mu.Lock()
	delete(w.devices, ifindex)
	w.mu.Unlock()
}

// Route sets the routing set of an owner: what is added and removed together with the owner's
// addresses, and the labels with which addresses are added from now on. If the owner has its
// addresses now, Run applies the difference.
func (w *Worker) Route(owner any, r routing.Set) {
	w.mu.Lock()
	_, had := w.routing[owner]
	has := !r.Empty()
	if has {
		w.routing[owner] = r
	} else {
		delete(w.routing, owner)
	}
	w.mu.Unlock()
	if had || has {
		w.signal()
	}
}

// Settle makes Run call f when everything that was requested before is done.
func (w *Worker) Settle(f func()) {
	w.mu.Lock()
	w.settled = append(w.settled, f)
	w.mu.Unlock()
	w.signal()
}

// Submit queues a job and returns at once. Done is called when it is finished.
func (w *Worker) Submit(j Job) {
	w.mu.Lock()
	w.jobs = append(w.jobs, j)
	w.mu.Unlock()
	w.signal()
}

func (w *Worker) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run does the jobs in their order. When ctx ends, it finishes those that are queued and
// returns. Every guardInterval it restores routes and rules that have disappeared.
func (w *Worker) Run(ctx context.Context) error {
	ticker := time.NewTicker(guardInterval)
	defer ticker.Stop()
	for {
		w.mu.Lock()
		settled := w.settled
		w.settled = nil
		w.mu.Unlock()
		w.work()
		w.guard(false)
		w.publish()
		for _, f := range settled {
			f()
		}
		guarding := ticker.C
		if len(w.held) == 0 {
			guarding = nil
		}
		select {
		case <-w.wake:
		case <-guarding:
			w.guard(true)
		case <-ctx.Done():
			w.work()
			return nil
		}
	}
}

// Held returns the routing sets that are in place for owners that have their addresses. The
// result may be slightly out of date.
func (w *Worker) Held() []routing.Set {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.published
}

func (w *Worker) publish() {
	if len(w.held) == 0 && len(w.published) == 0 {
		return
	}
	all := make([]routing.Set, 0, len(w.held))
	for _, r := range w.held {
		all = append(all, r)
	}
	w.mu.Lock()
	w.published = all
	w.mu.Unlock()
}

func (w *Worker) work() {
	for {
		w.mu.Lock()
		jobs := w.jobs
		w.jobs = nil
		w.mu.Unlock()
		if len(jobs) == 0 {
			return
		}
		for len(jobs) > 0 {
			n := batchable(jobs)
			w.do(jobs[:n])
			jobs = jobs[n:]
		}
	}
}

// batchable returns the number of jobs at the front that fit into one batch: jobs that assign
// at most batchMax addresses together. It is at least 1.
func batchable(jobs []Job) (n int) {
	for all := 0; n < len(jobs) && jobs[n].Assign; n++ {
		if all += len(jobs[n].Prefixes); all > batchMax {
			break
		}
	}
	return max(n, 1)
}

// do does the jobs of a batch: one release, or assignments.
func (w *Worker) do(jobs []Job) {
	if !jobs[0].Assign {
		jobs[0].Done(w.release(jobs[0]))
		return
	}
	var all []placement
	errs := make([]error, len(jobs))
	for n, j := range jobs {
		if w.isDevice(j) {
			if errs[n] = w.handle.setLinkUp(j.Ifindex, true); errs[n] != nil {
				continue
			}
		}
		labels := w.wanted(j.Owner).Labels
		for _, p := range j.Prefixes {
			all = append(all, placement{j.Ifindex, p, labels[routing.Placed{Address: p}]})
		}
	}
	var added []error
	for some := range slices.Chunk(all, batchMax) {
		added = append(added, w.handle.add(some)...)
	}
	for n, j := range jobs {
		if errs[n] == nil {
			for i := range j.Prefixes {
				errs[n] = errors.Join(errs[n], w.handle.checkAdded(all[i], added[i]))
			}
			all, added = all[len(j.Prefixes):], added[len(j.Prefixes):]
		}
		if errs[n] == nil && j.Owner != nil {
			w.addOwned(j.Owner)
		}
		j.Done(errs[n])
	}
}

// isDevice reports whether the job's interface was given to Adopt.
func (w *Worker) isDevice(j Job) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.devices[j.Ifindex]
}

func (w *Worker) release(j Job) error {
	unrouted := w.removeOwned(j.Owner)
	err := errors.Join(unrouted, w.handle.Release(j.Ifindex, j.Prefixes))
	if w.isDevice(j) {
		err = errors.Join(err, w.handle.setLinkUp(j.Ifindex, false))
	}
	return err
}

// addOwned adds the routing set of an owner. Errors are only reported and guard tries again,
// because the addresses are useful even without the set.
func (w *Worker) addOwned(owner any) {
	want := w.wanted(owner)
	if held, ok := w.held[owner]; ok { // a reload has changed the addresses of an Active
		if err := w.remove(held.Without(want)); err != nil {
			w.report(owner, nil, err)
			return // guard tries again
		}
	}
	w.held[owner] = want
	if _, err := w.add(want); err != nil {
		w.report(owner, nil, err)
	}
}

// add adds what is missing of a set, and announces the new addresses to notifyPlaced.
func (w *Worker) add(r routing.Set) (missing []fmt.Stringer, err error) {
	missing, err = w.handle.addRouting(r)
	for _, what := range missing {
		if p, is := what.(routing.Placed); is {
			w.notifyPlaced(p, true)
		}
	}
	return missing, err
}

func (w *Worker) remove(r routing.Set) error {
	for _, p := range r.Placed {
		w.notifyPlaced(p, false)
	}
	_, err := w.handle.removeRouting(r)
	return err
}

func (w *Worker) removeOwned(owner any) error {
	held, ok := w.held[owner]
	if !ok {
		return nil
	}
	err := w.remove(held)
	if err == nil {
		delete(w.held, owner)
	}
	return err
}

func (w *Worker) wanted(owner any) routing.Set {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.routing[owner]
}

// guard applies changed routing sets. With again it also restores what has disappeared.
func (w *Worker) guard(again bool) {
	for owner, held := range w.held {
		want := w.wanted(owner)
		changed := !held.Equal(want)
		if changed {
			if err := w.remove(held.Without(want)); err != nil {
				w.report(owner, nil, err)
				continue // w.held keeps the old set, so the next call tries again
			}
			w.held[owner] = want
		}
		if !changed && !again {
			continue
		}
		missing, err := w.add(want)
		if changed {
			missing = nil // it is new and hasn't disappeared
		}
		if len(missing) > 0 || err != nil {
			w.report(owner, missing, err)
		}
	}
}
