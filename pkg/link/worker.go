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

// guardPeriod is how often routes and rules are looked after.
const guardPeriod = time.Second

// Job is a change of an interface's addresses.
type Job struct {
	Ifindex  int
	Assign   bool // or release
	Prefixes []netip.Prefix
	// Owner is whose Routing comes after the addresses and goes before them;
	// nil for the addresses alone.
	Owner any
	Done  func(error)
}

// Worker changes addresses one job after the other, away from those who ask
// for it: rtnetlink may wait for a lock of the kernel for a long time.
type Worker struct {
	handle *Handle
	wake   chan struct{}
	told   func(owner any, missing []fmt.Stringer, err error)
	placed func(p routing.Placed, there bool)

	mu      sync.Mutex
	jobs    []Job
	settled []func()
	devices map[int]bool        // by index, those that are up only with their addresses
	routing map[any]routing.Set // of owners, as it should be while they have their addresses

	held map[any]routing.Set // what owners that have their addresses have got
	seen []routing.Set       // the same, under mu
}

// NewWorker returns a Worker that changes addresses through handle. Told is called
// by Run when something of a Routing was missing that was there before, or can't be
// added or removed, and placed when an address of it has been added, and before it
// is removed; both may be nil and must not wait.
func NewWorker(handle *Handle, told func(owner any, missing []fmt.Stringer, err error), placed func(p routing.Placed, there bool)) *Worker {
	if told == nil {
		told = func(any, []fmt.Stringer, error) {}
	}
	if placed == nil {
		placed = func(routing.Placed, bool) {}
	}
	return &Worker{
		handle: handle, wake: make(chan struct{}, 1), told: told, placed: placed,
		devices: make(map[int]bool), routing: make(map[any]routing.Set), held: make(map[any]routing.Set),
	}
}

// Adopt has a Device up while addresses are assigned to it, and only then.
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

// Route says what goes with the addresses of an owner from now on. If it has them,
// Run changes it in place.
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
		w.call()
	}
}

// Settle has f called when what was asked for before is done, by Run.
func (w *Worker) Settle(f func()) {
	w.mu.Lock()
	w.settled = append(w.settled, f)
	w.mu.Unlock()
	w.call()
}

// Submit queues a job and returns at once. Done is called when it is finished.
func (w *Worker) Submit(j Job) {
	w.mu.Lock()
	w.jobs = append(w.jobs, j)
	w.mu.Unlock()
	w.call()
}

func (w *Worker) call() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run does the jobs, in their order, until ctx ends, and then what is still
// queued. Now and then it puts routes and rules back that are gone.
func (w *Worker) Run(ctx context.Context) error {
	ticker := time.NewTicker(guardPeriod)
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

// Held returns what is there, or was a moment ago, for owners that have their addresses.
func (w *Worker) Held() []routing.Set {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

func (w *Worker) publish() {
	if len(w.held) == 0 && len(w.seen) == 0 {
		return
	}
	all := make([]routing.Set, 0, len(w.held))
	for _, r := range w.held {
		all = append(all, r)
	}
	w.mu.Lock()
	w.seen = all
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
			n := together(jobs)
			w.do(jobs[:n])
			jobs = jobs[n:]
		}
	}
}

// together returns how many of the first jobs are done with one system call: if they
// assign addresses, and not too many.
func together(jobs []Job) (n int) {
	for all := 0; n < len(jobs) && jobs[n].Assign; n++ {
		if all += len(jobs[n].Prefixes); all > batch {
			break
		}
	}
	return max(n, 1)
}

// do does jobs, several if all of them assign addresses.
func (w *Worker) do(jobs []Job) {
	if !jobs[0].Assign {
		jobs[0].Done(w.release(jobs[0]))
		return
	}
	var all []placement
	errs := make([]error, len(jobs))
	for n, j := range jobs {
		if w.device(j) {
			if errs[n] = w.handle.up(j.Ifindex, true); errs[n] != nil {
				continue
			}
		}
		for _, p := range j.Prefixes {
			all = append(all, placement{j.Ifindex, p})
		}
	}
	var added []error
	for some := range slices.Chunk(all, batch) {
		added = append(added, w.handle.add(some)...)
	}
	for n, j := range jobs {
		if errs[n] == nil {
			for i, p := range j.Prefixes {
				errs[n] = errors.Join(errs[n], w.handle.accept(placement{j.Ifindex, p}, added[i]))
			}
			added = added[len(j.Prefixes):]
		}
		if errs[n] == nil && j.Owner != nil {
			w.enroute(j.Owner)
		}
		j.Done(errs[n])
	}
}

// device reports whether the job's interface is up with its addresses only.
func (w *Worker) device(j Job) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.devices[j.Ifindex]
}

func (w *Worker) release(j Job) error {
	unrouted := w.unroute(j.Owner)
	err := errors.Join(unrouted, w.handle.Release(j.Ifindex, j.Prefixes))
	if w.device(j) {
		err = errors.Join(err, w.handle.up(j.Ifindex, false))
	}
	return err
}

// enroute adds what goes with an owner's addresses. What can't be added is tried
// again: the addresses are of use without it.
func (w *Worker) enroute(owner any) {
	want := w.wanted(owner)
	if held, ok := w.held[owner]; ok { // the addresses of an Active have changed
		if err := w.remove(held.Without(want)); err != nil {
			w.told(owner, nil, err)
			return // guard tries again
		}
	}
	w.held[owner] = want
	if _, err := w.add(want); err != nil {
		w.told(owner, nil, err)
	}
}

// add adds what is missing, and says of the addresses among it that they are there.
func (w *Worker) add(r routing.Set) (missing []fmt.Stringer, err error) {
	missing, err = w.handle.addRouting(r)
	for _, what := range missing {
		if p, is := what.(routing.Placed); is {
			w.placed(p, true)
		}
	}
	return missing, err
}

func (w *Worker) remove(r routing.Set) error {
	for _, p := range r.Placed {
		w.placed(p, false)
	}
	_, err := w.handle.removeRouting(r)
	return err
}

func (w *Worker) unroute(owner any) error {
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

// guard changes what is wanted otherwise than before, and with again set puts
// back what is gone.
func (w *Worker) guard(again bool) {
	for owner, held := range w.held {
		want := w.wanted(owner)
		changed := !held.Equal(want)
		if changed {
			if err := w.remove(held.Without(want)); err != nil {
				w.told(owner, nil, err)
				continue // with what is held, to try again
			}
			w.held[owner] = want
		}
		if !changed && !again {
			continue
		}
		missing, err := w.add(want)
		if changed {
			missing = nil // it was never there
		}
		if len(missing) > 0 || err != nil {
			w.told(owner, missing, err)
		}
	}
}
