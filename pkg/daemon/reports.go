// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/notify"
	"github.com/failoverd/failoverd/pkg/observe"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// reports passes what the event loop reports to its three consumers: the Observer (log and
// history), the LatestTransitions (parts that need only the last state of a router), and the
// queue (hooks, which need each event in order). The loop never waits for a consumer.
type reports struct {
	*observe.Observer
	latest *observe.LatestTransitions
	queue  *hookQueue
}

// Transition implements router.Observer. The event loop calls it.
func (r *reports) Transition(t router.Transition) {
	r.latest.Put(t)
	r.Observer.Transition(t)
	r.queue.push(hookEvent{Transition: t})
}

// Finding implements router.Observer. The event loop calls it.
func (r *reports) Finding(f router.Finding) {
	r.Observer.Finding(f)
	r.queue.pushLower(&f)
}

// hookEvent is a change of state, or another event for hooks.
type hookEvent struct {
	router.Transition
	what notify.State // LowerPriority, or MasterPriority for any change of priority; empty for a change of state
}

// hookQueue holds the events that hooks hasn't processed yet, oldest first.
type hookQueue struct {
	wake chan struct{} // has a value when the queue isn't empty

	mu    sync.Mutex // held briefly, because the event loop waits for it
	all   []hookEvent
	lower map[router.ID]time.Time // when an event about a lower priority was last added
}

func newHookQueue() *hookQueue {
	return &hookQueue{wake: make(chan struct{}, 1), lower: make(map[router.ID]time.Time)}
}

func (q *hookQueue) push(e hookEvent) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.add(e)
}

// add is push for a caller that holds q.mu.
func (q *hookQueue) add(e hookEvent) {
	q.all = append(q.all, e)
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// lowerEvery is the minimum time between two events of a router about a lower priority, because
// every host of the link can cause them.
const lowerEvery = time.Second

// pushLower adds an event if a finding is that an Active has heard a lower priority.
func (q *hookQueue) pushLower(f *router.Finding) {
	c := f.Comparison
	if c == nil || c.State != vrrp.Active || f.Refused || c.Theirs.Priority == 0 || c.Theirs.Priority >= c.Ours.Priority {
		return
	}
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	if now.Sub(q.lower[f.ID]) < lowerEvery {
		return
	}
	q.lower[f.ID] = now
	t := router.Transition{ID: f.ID, Own: c.Ours.Priority}
	t.From, t.To = vrrp.Active, vrrp.Active
	t.Detail = fmt.Sprintf("%v advertises the lower priority %d", f.Peer, c.Theirs.Priority)
	q.add(hookEvent{t, notify.LowerPriority})
}

func (q *hookQueue) drain() []hookEvent {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.all
	q.all = nil
	return all
}

// masterKinds are the kinds of interfaces that receive everything that arrives at their ports.
var masterKinds = []string{"bridge", "bond", "team", "openvswitch"}

// onBridgePorts returns the routers that take part on a port of a bridge, a bond or the like.
func (k *keeper) onBridgePorts(snapshot []link.Interface) (all []observe.BridgePort) {
	masters := make(map[int]link.Interface) // by the index of the port
	for _, i := range snapshot {
		if i.Master == 0 {
			continue
		}
		for _, m := range snapshot {
			if m.Index == i.Master && slices.Contains(masterKinds, m.Kind) {
				masters[i.Index] = m
			}
		}
	}
	if len(masters) == 0 {
		return nil
	}
	for id, v := range k.allDetails() {
		if m, is := masters[v.ifindex]; is && v.running {
			all = append(all, observe.BridgePort{ID: id, Master: m.Name, Kind: m.Kind})
		}
	}
	return all
}

// answersFor returns the addresses that a router answers for while it is Active.
func (k *keeper) answersFor(id router.ID) (all []netip.Addr) {
	c := detailsOf(k.allDetails(), id).config
	return addrs(c.Local(id.Family))
}

// routersOn returns the Virtual Routers on an interface.
func (k *keeper) routersOn(ifindex int) (all []router.ID) {
	for id, v := range k.allDetails() {
		if v.ifindex == ifindex {
			all = append(all, id)
		}
	}
	return all
}
